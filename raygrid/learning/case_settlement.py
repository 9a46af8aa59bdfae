"""Settlement of a compared case on an embedded chain: day-ahead and intraday sessions apart.

A period has two sessions, each verified and settled in a batch of its own, since nobody may both
buy and sell in one: day-ahead trades against the firm position that they are, and intraday trades
against what the meter shows beside it. What is at tariff is a trade with the grid, which also
stands on one side only: it supplies as one participant and purchases as another.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from raygrid.arrays import IntArray
from raygrid.learning.market_day import DayAheadPlan
from raygrid.learning.market_day_intraday import IntradayDay
from raygrid.learning.market_days import LearningScenario
from raygrid.market.trades import WH_PER_KWH, Trades, micro_price
from raygrid.prosumer.population import GRID_ID

SESSIONS = 2


class CaseChain:
    """The chain of one case.

    Parameters
    ----------
    found : LearningScenario
        The community.
    """

    def __init__(self, found: LearningScenario) -> None:
        from raygrid.settlement.desk import SettlementDesk, SettlementOrder
        from raygrid.settlement.plan import Registry

        market = found.days.market
        self._ids, self._feed = market.units.prosumer_id, market.feed
        self._purchaser = int(self._ids.max()) + 1
        registry = Registry.of([GRID_ID, *self._ids.tolist(), self._purchaser])
        self._order = np.argsort(self._ids)
        self._folder = TemporaryDirectory(prefix="raygrid-chain-")
        hours = self._feed.period_hours
        order = SettlementOrder(
            Path(self._folder.name), "embedded", found.scenario, registry, hours
        )
        self._desk = SettlementDesk(order)
        self._desk.prepare()
        self._settled = 0

    def settle(self, plan: DayAheadPlan | None, done: IntradayDay) -> dict[str, Any]:
        """Settle a day.

        Parameters
        ----------
        plan : DayAheadPlan or None
            Firm trades, if there was a day-ahead market.
        done : IntradayDay
            Trades that meters bore out, and injections.

        Returns
        -------
        dict of str
            `settlement_s` a period, trades with peers and grid as `submitted`, and `settled` of
            them, for `CaseDay`.
        """
        from raygrid.settlement.delivery import Delivery

        periods = len(done.injection_kw)
        first = int(done.outcomes[0].period[0])
        firm = np.zeros_like(done.injection_kw) if plan is None else plan.position_kw
        imported, exported = (
            np.rint(done.of(name) * WH_PER_KWH).astype(np.int64)
            for name in ("import_kwh", "export_kwh")
        )
        trades = _joined(
            [
                *([] if plan is None else [_of_peers(plan.trades, 0)]),
                _of_peers(done.trades, 1),
                self._with_grid(imported, first, supplies=True),
                self._with_grid(exported, first, supplies=False),
            ]
        )
        power = np.stack([firm, done.injection_kw - firm], axis=1)  # (T, 2, N)
        people = power.reshape(SESSIONS * periods, -1)[:, self._order].T
        # The grid's two accounts are of what prosumers are billed, in whole watt-hours.
        kw_per_wh = 1 / (WH_PER_KWH * self._feed.period_hours)
        grid = np.zeros((2, periods, SESSIONS))
        grid[0, :, 1] = imported.sum(axis=1) * kw_per_wh
        grid[1, :, 1] = -exported.sum(axis=1) * kw_per_wh
        p_kw = np.vstack([grid[0].reshape(1, -1), people, grid[1].reshape(1, -1)])
        started = perf_counter()
        self._desk.settle([Delivery(trades, SESSIONS * first, p_kw)])
        seconds = perf_counter() - started
        settled = sum(
            int((o.void_reason == 0).sum()) for o in self._desk.outcomes() if o.is_settled
        )
        today, self._settled = settled - self._settled, settled
        return {"settlement_s": seconds / periods, "submitted": len(trades), "settled": today}

    def close(self) -> None:
        """End the chain; nothing of it is kept."""
        self._desk.close()
        self._folder.cleanup()

    def _with_grid(self, energy: IntArray, first: int, *, supplies: bool) -> IntArray:
        """What is at tariff (T, N) [Wh] as trades (K, 7) of the intraday session."""
        at, who = np.nonzero(energy)
        tariff = self._feed.import_price_per_kwh if supplies else self._feed.export_price_per_kwh
        price = micro_price(tariff[first + at])
        people, grid = self._ids[who], np.full(len(who), GRID_ID if supplies else self._purchaser)
        seller, buyer = (grid, people) if supplies else (people, grid)
        session = SESSIONS * (first + at) + 1
        nothing = np.zeros_like(price)
        return np.stack([seller, buyer, session, energy[at, who], price, nothing, price], axis=1)


def _of_peers(trades: Trades, session: int) -> IntArray:
    """Trades (K, 7): who, whom, session, energy, seller's price, network's part, buyer's price."""
    from raygrid.settlement.statements import buyer_price_micro

    energy, price, network = trades.energy_wh, trades.price_micro_per_kwh, trades.network_micro
    paid = buyer_price_micro(energy, price, trades.value_micro, network)
    columns = [trades.seller_id, trades.buyer_id, SESSIONS * trades.period + session]
    return np.stack([*columns, energy, price, network, paid], axis=1)


def _joined(parts: list[IntArray]) -> Any:
    """All trades by session, as settlement takes them."""
    from raygrid.settlement.plan import ClearedTrades

    rows = np.concatenate(parts)
    rows = rows[np.argsort(rows[:, 2], kind="stable")]
    columns = [np.ascontiguousarray(column) for column in rows.T]
    return ClearedTrades(np.arange(len(rows), dtype=np.int64), *columns)
