"""One host's part in matching trades of many prosumers: its agents' energies stay with it.

Trades are those of `raygrid.market.trades.sparse_trades`, whoever holds whom. Sellers of a bus, in
order of id, lie on a line, each as long as its energy, and so do its buyers; what is matched are
equal stretches of two such lines, and a trade is where a seller's and a buyer's part overlap. A
host's own line puts the lines of its buses one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.trades import WH_PER_KWH, Matching
from raygrid.prosumer.population import GRID_ID


@dataclass(frozen=True)
class Remainders:
    """What a host's energies lack where all are rounded down; (T,) int64 but for numbers.

    Attributes
    ----------
    missing_wh : (T,) int64
        Minus their sum [Wh].
    can_rise : (T,) int64
        Agents with a fraction.
    agents : int
        Number of agents.
    least_id, most_id : int
        Range of their ids.
    """

    missing_wh: IntArray
    can_rise: IntArray
    agents: int
    least_id: int
    most_id: int


@dataclass(frozen=True)
class BusTotals:
    """A host's sales and purchases by bus.

    Attributes
    ----------
    buses : (nb,) int64
        Positions of its buses, ascending.
    sold_wh, bought_wh : (nb, T) int64
        Energies [Wh].
    """

    buses: IntArray
    sold_wh: IntArray
    bought_wh: IntArray


@dataclass(frozen=True)
class Stretches:
    """Stretches of sellers' lines and of buyers' lines that are matched; (K,) int64 columns.

    Attributes
    ----------
    period : (K,) int64
        Position of the period.
    seller_host, seller_bus, seller_at_wh : (K,) int64
        Who holds the sellers, at which bus, and where on that host's line they begin [Wh].
    buyer_host, buyer_bus, buyer_at_wh : (K,) int64
        The same of the buyers.
    energy_wh : (K,) int64
        Length [Wh].
    """

    period: IntArray
    seller_host: IntArray
    seller_bus: IntArray
    seller_at_wh: IntArray
    buyer_host: IntArray
    buyer_bus: IntArray
    buyer_at_wh: IntArray
    energy_wh: IntArray

    def __len__(self) -> int:
        return len(self.period)

    def take(self, rows: IntArray) -> Self:
        """Some of them."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Purchases:
    """Who buys along some stretches; (K,) int64 columns, in order of the stretches.

    Attributes
    ----------
    stretch : (K,) int64
        Which of the stretches that were asked for.
    buyer_id, energy_wh : (K,) int64
        Buyer, and its energy along the stretch [Wh].
    """

    stretch: IntArray
    buyer_id: IntArray
    energy_wh: IntArray


@dataclass(frozen=True)
class LocatedMatching:
    """Trades of one host's sellers, by period and place on their line, and the buses of both.

    Attributes
    ----------
    matching : Matching
        K trades.
    seller_bus, buyer_bus : (K,) int64
        Positions.
    """

    matching: Matching
    seller_bus: IntArray
    buyer_bus: IntArray

    def rows(self, start: int, stop: int) -> LocatedMatching:
        """Some trades in a row, with nothing dropped."""
        part, all_ = slice(start, stop), self.matching
        matching = Matching(
            all_.seller_id[part],
            all_.buyer_id[part],
            all_.period[part],
            all_.energy_wh[part],
            np.zeros_like(all_.dropped_wh),
        )
        return LocatedMatching(matching, self.seller_bus[part], self.buyer_bus[part])


class HostTrades:
    """The energies of one host's agents, on the way from schedules to trades.

    Parameters
    ----------
    agent_id, bus : (n,) int64
        Ids, unique over all hosts, and bus positions. Hosts hold, in their order, agents by bus
        and id.
    p_kw : (n, T) float64
        Net injections of the final schedule [kW].
    period_hours : float
        Length of a period [h].
    """

    def __init__(
        self, agent_id: IntArray, bus: IntArray, p_kw: FloatArray, period_hours: float
    ) -> None:
        order = np.lexsort((agent_id, bus))
        self._id, self._bus = agent_id[order], bus[order]
        exact = p_kw[order] * (period_hours * WH_PER_KWH)
        down = np.floor(exact)
        self._wh: IntArray = down.astype(np.int64)
        # The bits of floats that are not negative are in the order of the floats.
        self._rest: IntArray = (exact - down).view(np.int64)

    def remainders(self) -> Remainders:
        """What the energies lack, all rounded down."""
        return Remainders(
            -self._wh.sum(axis=0),
            np.asarray((self._rest > 0).sum(axis=0)),
            len(self._id),
            int(self._id.min()),
            int(self._id.max()),
        )

    def count_rests(self, least: IntArray) -> IntArray:
        """(T,) agents whose fraction, as bits, is at least so much."""
        return np.asarray((self._rest >= least).sum(axis=0))

    def count_ids(self, rest: IntArray, most_id: IntArray) -> IntArray:
        """(T,) agents with just this fraction and at most this id."""
        return np.asarray(((self._rest == rest) & (self._id[:, None] <= most_id)).sum(axis=0))

    def round_up(self, rest: IntArray, most_id: IntArray) -> None:
        """Raise all with a larger fraction, and of those with just this one the lower ids."""
        self._wh += self._rest > rest
        self._wh += (self._rest == rest) & (self._id[:, None] <= most_id)

    def largest(self) -> tuple[IntArray, IntArray]:
        """(T,) size of the largest energy, and the lowest id that has it."""
        size = np.abs(self._wh)
        most = size.max(axis=0)
        return most, np.where(size == most, self._id[:, None], np.iinfo(np.int64).max).min(axis=0)

    def add(self, agent_id: IntArray, energy_wh: IntArray) -> None:
        """Change one agent's energy in each period, if it is here."""
        self._wh += (self._id[:, None] == agent_id) * energy_wh

    def totals(self) -> BusTotals:
        """Sales and purchases by bus, once all energies are whole."""
        buses, first = np.unique(self._bus, return_index=True)
        sums = [np.add.reduceat(np.maximum(part, 0), first) for part in (self._wh, -self._wh)]
        return BusTotals(buses, *sums)

    def purchases(self, asked: Stretches) -> Purchases:
        """Who buys along stretches whose buyers are here.

        Parameters
        ----------
        asked : Stretches
            Ordered by period.
        """
        parts = []
        for t, start, stop in _periods(asked):
            bought = np.maximum(-self._wh[:, t], 0)
            end = np.cumsum(bought)
            at = asked.buyer_at_wh[start:stop]
            till = at + asked.energy_wh[start:stop]
            first, last = np.searchsorted(end, at, "right"), np.searchsorted(end, till)
            count = last - first + 1
            stretch = np.repeat(np.arange(stop - start), count)
            own = np.arange(len(stretch)) - np.repeat(np.cumsum(count) - count - first, count)
            energy = np.minimum(end[own], till[stretch])
            energy -= np.maximum(end[own] - bought[own], at[stretch])
            some = energy > 0
            parts.append((stretch[some] + start, self._id[own[some]], energy[some]))
        return Purchases(*_joined(parts, 3))

    def trades(
        self, sold: Stretches, purchases: Sequence[tuple[IntArray, Purchases]], minimum_wh: int
    ) -> LocatedMatching:
        """Trades of the sellers here.

        Parameters
        ----------
        sold : Stretches
            All whose sellers are here, by period and place.
        purchases : sequence of ((K,) int64, Purchases)
            The buyers along them: for each host that has some, which of `sold` it was asked for,
            and its answer.
        minimum_wh : int
            Least energy of a trade; smaller ones are dropped [Wh].
        """
        none = np.zeros(0, dtype=np.int64)
        at = np.concatenate([none, *(rows[part.stretch] for rows, part in purchases)])
        buyer_id = np.concatenate([none, *(part.buyer_id for _, part in purchases)])
        energy = np.concatenate([none, *(part.energy_wh for _, part in purchases)])
        order = np.argsort(at, kind="stable")
        at, buyer_id, energy = at[order], buyer_id[order], energy[order]
        parts, dropped = [], np.zeros(self._wh.shape[1], dtype=np.int64)
        for t, start, stop in _periods(sold):
            piece = slice(*np.searchsorted(at, (start, stop)))
            sales_end = np.cumsum(np.maximum(self._wh[:, t], 0))
            piece_end = np.cumsum(energy[piece])
            # Both lines are equally long; a trade ends where a seller's or a buyer's part does.
            ends = np.union1d(sales_end, piece_end)
            ends = ends[ends > 0]
            traded = np.diff(ends, prepend=0)
            seller, buyer = np.searchsorted(sales_end, ends), np.searchsorted(piece_end, ends)
            dropped[t] = traded[traded < minimum_wh].sum()
            keep = np.flatnonzero(traded >= minimum_wh)
            # The grid connection is with the first host, whatever its bus: first in all placements.
            keep = keep[np.argsort(self._id[seller[keep]] != GRID_ID, kind="stable")]
            seller, buyer = seller[keep], buyer[keep]
            parts.append(
                (
                    self._id[seller],
                    buyer_id[piece][buyer],
                    np.full(len(seller), t),
                    traded[keep],
                    self._bus[seller],
                    sold.buyer_bus[at[piece][buyer]],
                )
            )
        seller_id, bought_by, period, traded, seller_bus, buyer_bus = _joined(parts, 6)
        matching = Matching(seller_id, bought_by, period, traded, dropped)
        return LocatedMatching(matching, seller_bus, buyer_bus)


def _periods(stretches: Stretches) -> list[tuple[int, int, int]]:
    """Each period that has some, with the rows where it starts and ends."""
    periods, first = np.unique(stretches.period, return_index=True)
    ends = np.append(first, len(stretches))[1:]
    return [(int(t), int(a), int(b)) for t, a, b in zip(periods, first, ends, strict=True)]


def _joined(parts: Sequence[tuple[IntArray, ...]], columns: int) -> list[IntArray]:
    none = np.zeros(0, dtype=np.int64)
    return [np.concatenate([none, *(part[k] for part in parts)]) for k in range(columns)]
