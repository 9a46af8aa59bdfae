"""Dividing a radial network between the operators of its feeders and one above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import IntArray
from raygrid.grid.tree_rows import TreeRows


@dataclass(frozen=True)
class Division:
    """Who has which part of a radial network.

    Attributes
    ----------
    tops : tuple of (R_f,) int64
        Of each feeder operator, buses at the tops of its subtrees.
    shared : tuple of (S_f,) int64
        Of each feeder operator, buses of its hosts that the operator above has.
    hosts : tuple of tuple of int
        Of each feeder operator, its hosts.
    """

    tops: tuple[IntArray, ...]
    shared: tuple[IntArray, ...]
    hosts: tuple[tuple[int, ...], ...]

    @property
    def n_feeders(self) -> int:
        """Number of feeder operators."""
        return len(self.tops)


def divide(rows: TreeRows, host_buses: Sequence[IntArray], n_feeders: int) -> Division:
    """Divide a radial network between feeder operators, each with hosts in a row.

    Parameters
    ----------
    rows : TreeRows
        Limits of the whole network.
    host_buses : sequence of (nb,) int64
        Positions of the buses of each host, in host order.
    n_feeders : int
        Feeder operators, not more than hosts.

    Returns
    -------
    Division
        The largest subtrees that belong to one feeder operator's hosts alone; the slack bus is in
        none of them.
    """
    tree, n_hosts = rows.tree, len(host_buses)
    feeder_of = [host * n_feeders // n_hosts for host in range(n_hosts)]
    first = np.full(rows.n_buses, n_feeders, dtype=np.int64)
    last = np.full(rows.n_buses, -1, dtype=np.int64)
    for feeder, buses in zip(feeder_of, host_buses, strict=True):
        places = tree.place[buses]
        first[places] = np.minimum(first[places], feeder)
        last[places] = np.maximum(last[places], feeder)
    above = tree.parent_place
    firsts, lasts, parents = first.tolist(), last.tolist(), above.tolist()
    for at in range(rows.n_buses - 1, 0, -1):
        up = parents[at]
        firsts[up] = min(firsts[up], firsts[at])
        lasts[up] = max(lasts[up], lasts[at])
    first, last = np.array(firsts, dtype=np.int64), np.array(lasts, dtype=np.int64)
    whole = np.asarray(first == last)
    whole[0] = False
    is_top = whole & ~whole[above]
    owner = np.full(rows.n_buses, -1, dtype=np.int64)
    owner[tree.order[whole]] = first[whole]
    tops, shared, hosts = [], [], []
    for feeder in range(n_feeders):
        mine = tuple(k for k, other in enumerate(feeder_of) if other == feeder)
        buses = np.unique(np.concatenate([host_buses[k] for k in mine]))
        tops.append(tree.order[is_top & (first == feeder)])
        shared.append(buses[owner[buses] != feeder])
        hosts.append(mine)
    return Division(tuple(tops), tuple(shared), tuple(hosts))
