"""Trades of a cleared market: matched here where it is small, else in the hosts that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from actors.errors import LostStateError
from actors.parts import PART_ROWS, PartWriter
from raygrid.arrays import FloatArray, IntArray
from raygrid.grid.network import Network
from raygrid.market.host_trades import HostTrades, LocatedMatching, Purchases, Stretches
from raygrid.market.marketplace import TradeTotals
from raygrid.market.spread_trades import plan_stretches, round_energies, sales_of
from raygrid.market.trades import priced_at_buses, uniform_trades
from raygrid.prosumer.population import GRID_ID

if TYPE_CHECKING:
    from raygrid.market.block import ProsumerBlock
    from raygrid.market.messages import FinalMessage
    from raygrid.results.store import PartRecord

BYTES_EACH_PERIOD = 100.0
"""Memory that matching takes on a host, by prosumer and period: its energies, some temporary
arrays of them, and a trade [B]."""


@dataclass(frozen=True)
class TradePrices:
    """What trades are priced at.

    Attributes
    ----------
    settlement_price_per_kwh : (T,) float64
        Price of all trades of a period [currency/kWh].
    lmp_per_kwh : (B, T) float64 or None
        Locational prices, where trades have these instead [currency/kWh].
    """

    settlement_price_per_kwh: FloatArray
    lmp_per_kwh: FloatArray | None


@dataclass(frozen=True)
class TradeCount:
    """Sums of one host's trades; (T,) int64.

    Attributes
    ----------
    trades : (T,) int64
        Their number.
    energy_wh, dropped_wh : (T,) int64
        Their energy, and that of the matches below the minimum trade size [Wh].
    """

    trades: IntArray
    energy_wh: IntArray
    dropped_wh: IntArray


class HostBook(HostTrades):
    """One host's trades on the way from its schedules into a run's folder.

    Parameters
    ----------
    host : int
        Number of the host.
    agent_id, bus, p_kw, period_hours
        As of `HostTrades`.
    """

    def __init__(
        self,
        host: int,
        agent_id: IntArray,
        bus: IntArray,
        p_kw: FloatArray,
        period_hours: float,
    ) -> None:
        super().__init__(agent_id, bus, p_kw, period_hours)
        self._host = host
        self._located: LocatedMatching | None = None

    @classmethod
    def of(cls, block: ProsumerBlock, message: FinalMessage, slack: int) -> Self:
        """The agents of a block with their final schedule.

        Parameters
        ----------
        block : ProsumerBlock
            A converged one.
        message : FinalMessage
            How the operator moves its buses.
        slack : int
            Position of the bus of the grid connection.
        """
        p_kw = np.concatenate([d.p_kw for _, _, d in block.final_chunks(message)])
        ids = np.asarray(block.population.prosumer_id, dtype=np.int64)
        bus = np.asarray(block.population.bus, dtype=np.int64)
        grid_kw = block.final_grid_kw(message)
        if grid_kw is not None:
            ids, bus = np.append(ids, GRID_ID), np.append(bus, slack)
            p_kw = np.vstack([p_kw, grid_kw])
        return cls(block.host, ids, bus, p_kw, block.period_hours)

    def match(
        self, sold: Stretches, rows: Sequence[IntArray], minimum_wh: int, *bought: Purchases
    ) -> TradeCount:
        """Match this host's sellers with the buyers of all hosts; see `HostTrades.trades`."""
        pairs = list(zip(rows, bought, strict=True))
        self._located = self.trades(sold, pairs, minimum_wh)
        found = self._located.matching
        count, energy = np.zeros((2, len(found.dropped_wh)), dtype=np.int64)
        np.add.at(count, found.period, 1)
        np.add.at(energy, found.period, found.energy_wh)
        return TradeCount(count, energy, found.dropped_wh)

    def write(
        self, folder: Path, prices: TradePrices, first_id: IntArray, first_period: int
    ) -> list[PartRecord]:
        """Write the trades as parts.

        Parameters
        ----------
        folder : Path
            The table's folder, on storage that the driver sees as well.
        prices : TradePrices
            What they are priced at.
        first_id : (T,) int64
            Id of this host's first trade of each period.
        first_period : int
            Global index of the first period.
        """
        if self._located is None:
            raise LostStateError("no trades are matched")
        writer = PartWriter(folder, "trades", self._host)
        found = self._located
        edges = np.searchsorted(found.matching.period, np.arange(len(first_id) + 1))
        for t, first in enumerate(first_id):
            # A period of a large host is more than a part of a table.
            for start in range(edges[t], edges[t + 1], PART_ROWS):
                part = found.rows(start, min(start + PART_ROWS, edges[t + 1]))
                own = int(first) + start - int(edges[t])
                if prices.lmp_per_kwh is None:
                    price = prices.settlement_price_per_kwh
                    priced = uniform_trades(part.matching, price, own)
                else:
                    priced = priced_at_buses(
                        part.matching, prices.lmp_per_kwh, part.seller_bus, part.buyer_bus, own
                    )
                writer.add(priced.later(0, first_period).table())
        return writer.flush()


def match_in_hosts(
    hosts: Sequence[Any],
    messages: Sequence[Any],
    network: Network,
    minimum_wh: int,
    prices: TradePrices,
    folder: Path,
    first_id: int = 0,
    first_period: int = 0,
) -> tuple[list[PartRecord], TradeTotals]:
    """Match the trades of all hosts and let them write these; once more from the start if asked.

    Nothing here grows with prosumers.

    Parameters
    ----------
    hosts : sequence of actor handles
        The prosumer actors.
    messages : sequence of FinalMessage
        How the operator moved their buses.
    network : Network
        Says which buses are near each other.
    minimum_wh : int
        Least energy of a trade [Wh].
    prices : TradePrices
        What trades are priced at.
    folder : Path
        The table's folder, on storage that every node shares.
    first_id : int
        Id of the first trade.
    first_period : int
        Global index of the first period.
    """
    import ray

    ray.get([host.open_book.remote(m) for host, m in zip(hosts, messages, strict=True)])

    def ask(method: str, *arguments: Any) -> list[Any]:
        answers: list[Any] = ray.get([host.ask_book.remote(method, *arguments) for host in hosts])
        return answers

    round_energies(ask)
    sales = sales_of(plan_stretches(ask("totals"), network), len(hosts))
    matching = []
    for one in sales:
        # Who buys goes from host to host.
        bought = [
            hosts[k].ask_book.remote("purchases", one.sold.take(rows)) for k, rows in one.buyers
        ]
        rows = [rows for _, rows in one.buyers]
        matching.append(
            hosts[one.host].ask_book.remote("match", one.sold, rows, minimum_wh, *bought)
        )
    counts: list[TradeCount] = ray.get(matching)
    trades = np.array([count.trades for count in counts])
    # By period, then by host: the same ids for every placement.
    ids = first_id + (np.cumsum(trades.T) - trades.T.ravel()).reshape(trades.T.shape).T
    written = [
        host.ask_book.remote("write", folder, prices, first, first_period)
        for host, first in zip(hosts, ids, strict=True)
    ]
    records = [record for part in ray.get(written) for record in part]
    energy, dropped = (
        int(sum(getattr(count, name).sum() for count in counts))
        for name in ("energy_wh", "dropped_wh")
    )
    return records, TradeTotals(int(trades.sum()), energy, dropped)
