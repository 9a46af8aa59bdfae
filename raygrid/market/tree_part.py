"""Parts of a radial network: some subtrees, less some subtrees of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.grid.tree_rows import TreeRows


@dataclass(frozen=True)
class TreePart:
    """Some subtrees of a radial network, less some subtrees of theirs that others have.

    Attributes
    ----------
    buses : (n,) int64
        Position of each node's bus, each subtree in one piece from its top.
    parent : (n,) int64
        Node above each node, -1 at the tops.
    is_port : (n,) bool
        Nodes below which another part begins; the bus itself and its line belong there.
    row : (n,) int64
        Row of the line above each node, -1 where it has none or another part has it.
    sign : (n,) float64
        That row's sign.
    lower, upper : (n, T) float64
        Limits of the net injection at and below each node [kW]; infinite where there is none.
    row_above : (M,) int64
        For all rows the next limited line on the way up, see `TreeRows`.
    """

    buses: IntArray
    parent: IntArray
    is_port: BoolArray
    row: IntArray
    sign: FloatArray
    lower: FloatArray
    upper: FloatArray
    row_above: IntArray

    @property
    def tops(self) -> IntArray:
        """Nodes at the tops of the subtrees."""
        return np.flatnonzero(self.parent < 0)


def part_of(rows: TreeRows, tops: Sequence[int], ports: Sequence[int] = ()) -> TreePart:
    """The subtrees below some buses, without those below others.

    Parameters
    ----------
    rows : TreeRows
        Limits of the whole network.
    tops : sequence of int
        Buses at the tops, none below another; the slack bus for the whole network.
    ports : sequence of int
        Buses at the tops of the parts that are left out.
    """
    tree = rows.tree
    port = np.zeros(rows.n_buses, dtype=np.bool_)
    port[tree.place[list(ports)]] = True
    keep = np.zeros(rows.n_buses, dtype=np.bool_)
    for top in tops:
        start = int(tree.place[top])
        keep[start : tree.end[start]] = True
    for bus in ports:
        start = int(tree.place[bus])
        keep[start + 1 : tree.end[start]] = False
    places = np.flatnonzero(keep)
    node = np.full(rows.n_buses, -1, dtype=np.int64)
    node[places] = np.arange(len(places))
    above = tree.parent_place[places]
    parent = np.where(above < 0, -1, node[above])
    parent[node[tree.place[list(tops)]]] = -1

    row = np.full(rows.n_buses, -1, dtype=np.int64)
    row[tree.place[rows.below]] = np.arange(rows.n_rows)
    row = np.where(port[places], -1, row[places])
    shape = (len(places), rows.lower.shape[1])
    sign, lower, upper = np.ones(shape[0]), np.full(shape, -np.inf), np.full(shape, np.inf)
    has = row >= 0
    own = row[has]
    sign[has] = rows.sign[own]
    lower[has], upper[has] = limits_below(rows, rows.lower, rows.upper, own)
    return TreePart(
        tree.order[places], parent, port[places], row, sign, lower, upper, rows.row_above
    )


def limits_below(
    rows: TreeRows, lower: FloatArray, upper: FloatArray, own: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Bounds of some rows as those of the net injection below their lines."""
    up = rows.sign[own, None] > 0
    return (
        np.where(up, lower[own], -upper[own]),
        np.where(up, upper[own], -lower[own]),
    )
