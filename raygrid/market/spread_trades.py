"""Matching trades of prosumers that are spread over hosts, from sums per bus alone.

The same whole watt-hours as `raygrid.market.trades.energy_wh` and the same trades as its
`sparse_trades` or `ordered_trades`, for every placement; what is held here grows with buses, hosts
and periods, not with prosumers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.grid.distance import MAX_BUSES, electrical_distance, neighbour_order
from raygrid.grid.network import Network
from raygrid.market.host_trades import BusTotals, Remainders, Stretches
from raygrid.market.trades import matched_along, matched_nearest

Ask = Callable[..., Sequence[Any]]
"""Call a method of every host's `HostTrades` with the same arguments; answers in host order."""

ONE = int(np.float64(1.0).view(np.int64))
"""Bits of a fraction that none reaches."""


def round_energies(ask: Ask) -> None:
    """Let the hosts round all energies to whole watt-hours that sum to zero in each period.

    Largest remainders, as `energy_wh`: the least fraction that is raised is found by bisection
    over the hosts' counts, and so is the largest id among those that have just this fraction.

    Parameters
    ----------
    ask : callable
        The hosts.

    Raises
    ------
    ValueError
        If a period's injections are further from balance than rounding can close.
    """
    parts: Sequence[Remainders] = ask("remainders")
    missing = _sum(part.missing_wh for part in parts)
    rise = np.clip(missing, 0, _sum(part.can_rise for part in parts))
    some = rise > 0
    least, counted = _bisect(
        lambda bits: _sum(ask("count_rests", bits)),
        rise, np.ones_like(rise), np.full_like(rise, ONE), some,
    )  # fmt: skip
    least = np.where(some, least, ONE)
    highest = np.full_like(rise, max(part.most_id for part in parts))
    tied = some & (counted != rise)
    if tied.any():
        # Of the agents with just this fraction as many are raised as those above it leave.
        left = rise - _sum(ask("count_rests", least + 1))
        lowest = np.full_like(rise, min(part.least_id for part in parts) - 1)
        highest, _ = _bisect(
            lambda ids: _sum(ask("count_ids", least, ids)), left, highest, lowest, tied
        )
    ask("round_up", least, highest)
    rest = missing - rise
    if rest.any():
        _close(ask, rest, sum(part.agents for part in parts))


def _sum(parts: Iterable[IntArray]) -> IntArray:
    return np.asarray(np.sum(list(parts), axis=0, dtype=np.int64))


def _bisect(
    count: Callable[[IntArray], IntArray], wanted: IntArray, good: IntArray, bad: IntArray,
    active: BoolArray,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Move from values that count enough towards those that do not, until the count is as wanted.

    Or until both are next to each other. Returns the values that count enough, and their counts,
    -1 where none was asked for.
    """
    counted = np.full_like(wanted, -1)
    while True:
        going = active & (np.abs(good - bad) > 1) & (counted != wanted)
        if not going.any():
            return good, counted
        middle = np.where(going, (good + bad) // 2, good)
        now = count(middle)
        enough = now >= wanted
        good, counted = (
            np.where(going & enough, new, old) for new, old in ((middle, good), (now, counted))
        )
        bad = np.where(going & ~enough, middle, bad)


def _close(ask: Ask, rest: IntArray, agents: int) -> None:
    """Let the largest energy take what rounding leaves, as `energy_wh` does."""
    sizes, ids = map(np.array, zip(*ask("largest"), strict=True))
    size = sizes.max(axis=0)
    who = np.where(sizes == size, ids, np.iinfo(np.int64).max).min(axis=0)
    off = (np.abs(rest) > 1 + agents // 2) | ((rest != 0) & (size <= np.abs(rest)))
    if off.any():
        t = int(np.flatnonzero(off)[0])
        raise ValueError(f"period {t}: injections are {int(rest[t])} Wh from balance")
    ask("add", who, rest)


def plan_stretches(totals: Sequence[BusTotals], network: Network) -> Stretches:
    """What to match: sellers and buyers of each bus, then what buses have left over.

    Parameters
    ----------
    totals : sequence of BusTotals
        Of each host, once energies are whole.
    network : Network
        Says which buses are near each other.

    Returns
    -------
    Stretches
        By period, seller's host and place on its line.
    """
    n_periods = totals[0].sold_wh.shape[1]
    present = np.unique(np.concatenate([part.buses for part in totals]))
    sold, bought = np.zeros((2, len(present), n_periods), dtype=np.int64)
    for part in totals:
        rows = np.searchsorted(present, part.buses)
        sold[rows] += part.sold_wh
        bought[rows] += part.bought_wh
    own = np.minimum(sold, bought)
    net, start = (sold - bought).T, np.arange(len(present) + 1)
    if network.n_buses <= MAX_BUSES:
        flows = matched_nearest(net, start, present, electrical_distance(network))
    else:
        flows = matched_along(net, start, present, neighbour_order(network))
    bus, period = np.nonzero(own)
    first = bus, bus, period, own[bus, period]
    seller, buyer, period, energy = (
        np.concatenate([mine, flow]) for mine, flow in zip(first, flows.T, strict=True)
    )
    made = _Made(
        period, energy, (seller, buyer), (_places(seller, period, energy),
        _places(buyer, period, energy)),
    )  # fmt: skip
    sides = [
        [(np.searchsorted(present, part.buses), getattr(part, name)) for part in totals]
        for name in ("sold_wh", "bought_wh")
    ]
    for side, parts in enumerate(sides):
        made = made.cut(side, parts, sold.shape)
    hosts, places = zip(
        *(made.at_hosts(side, parts, sold.shape) for side, parts in enumerate(sides)), strict=True
    )
    order = np.lexsort((places[0], hosts[0], made.period))
    columns = (
        made.period, hosts[0], present[made.bus[0]], places[0], hosts[1], present[made.bus[1]],
        places[1], made.energy,
    )  # fmt: skip
    return Stretches(*(column[order] for column in columns))


Rows = tuple[IntArray, IntArray]
"""Positions of a host's buses among all that are present, and (nb, T) energies of one side."""


def _places(bus: IntArray, period: IntArray, energy: IntArray) -> IntArray:
    """Where on the line of its bus each stretch begins; they lie there as they were made."""
    order = np.lexsort((np.arange(len(bus)), bus, period))
    before = np.cumsum(energy[order]) - energy[order]
    new = (np.diff(bus[order], prepend=-1) != 0) | (np.diff(period[order], prepend=-1) != 0)
    first = np.flatnonzero(new)
    place = np.empty_like(energy)
    place[order] = before - np.repeat(before[first], np.diff(np.append(first, len(bus))))
    return place


@dataclass(frozen=True)
class _Made:
    """Stretches on the lines of buses: of sellers (side 0) and of buyers (side 1)."""

    period: IntArray
    energy: IntArray
    bus: tuple[IntArray, IntArray]
    place: tuple[IntArray, IntArray]

    def cut(self, side: int, hosts: Sequence[Rows], shape: tuple[int, ...]) -> _Made:
        """The same where none leaves the part of one host."""
        made, end = self, np.zeros(shape, dtype=np.int64)
        for rows, energy in hosts:
            end[rows] += energy
            border = end[made.bus[side], made.period] - made.place[side]
            split = np.flatnonzero((border > 0) & (border < made.energy))
            if len(split):
                made = made._split(split, border[split])
        return made

    def _split(self, which: IntArray, after: IntArray) -> _Made:
        energy = self.energy.copy()
        energy[which] = after
        return _Made(
            np.append(self.period, self.period[which]),
            np.append(energy, self.energy[which] - after),
            (
                np.append(self.bus[0], self.bus[0][which]),
                np.append(self.bus[1], self.bus[1][which]),
            ),
            (
                np.append(self.place[0], self.place[0][which] + after),
                np.append(self.place[1], self.place[1][which] + after),
            ),
        )

    def at_hosts(
        self, side: int, hosts: Sequence[Rows], shape: tuple[int, ...]
    ) -> tuple[IntArray, IntArray]:
        """Which host has each stretch, and where it begins on that host's own line."""
        host, place = np.full(len(self.period), -1), np.zeros_like(self.energy)
        end = np.zeros(shape, dtype=np.int64)
        for k, (rows, energy) in enumerate(hosts):
            begin, line = end.copy(), np.zeros(shape, dtype=np.int64)
            end[rows] += energy
            line[rows] = np.cumsum(energy, axis=0) - energy
            at = self.bus[side], self.period
            mine = (self.place[side] >= begin[at]) & (self.place[side] < end[at])
            host[mine] = k
            place[mine] = (self.place[side] - begin[at] + line[at])[mine]
        return host, place


@dataclass(frozen=True)
class Sales:
    """What one host's sellers have to match.

    Attributes
    ----------
    host : int
        The host.
    sold : Stretches
        By period and place on its line.
    buyers : tuple of (int, (K,) int64)
        Hosts that have buyers along them, and which of `sold` these are.
    """

    host: int
    sold: Stretches
    buyers: tuple[tuple[int, IntArray], ...]


def sales_of(stretches: Stretches, n_hosts: int) -> list[Sales]:
    """The stretches by the host of their sellers; those who sell nothing have none."""
    found = []
    for host in range(n_hosts):
        sold = stretches.take(np.flatnonzero(stretches.seller_host == host))
        buyers = tuple(
            (int(k), np.flatnonzero(sold.buyer_host == k)) for k in np.unique(sold.buyer_host)
        )
        found.append(Sales(host, sold, buyers))
    return found
