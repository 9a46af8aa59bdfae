"""Settlement of a compared case on an embedded chain, its sessions apart as those of a run."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from raygrid.learning.market_day import DayAheadPlan
from raygrid.learning.market_day_intraday import IntradayDay, sessions_of
from raygrid.learning.market_days import LearningScenario
from raygrid.market.sessions import SESSIONS, session_table
from raygrid.prosumer.population import GRID_ID


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

        self._market = found.days.market
        ids, feed = self._market.units.prosumer_id, self._market.feed
        registry = Registry.of([GRID_ID, *ids.tolist()])
        self._order = np.argsort(ids)
        self._folder = TemporaryDirectory(prefix="raygrid-chain-")
        order = SettlementOrder(
            Path(self._folder.name), "embedded", found.scenario, registry, feed.period_hours
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
        from raygrid.settlement.metering import with_grid
        from raygrid.settlement.plan import ClearedTrades

        rows = session_table(sessions_of(plan, done, self._market), 0, 0)
        people = done.injection_kw[:, self._order].T
        first = int(done.outcomes[0].period[0])
        day = Delivery(
            ClearedTrades.from_table(rows),
            first,
            with_grid(people, -people.sum(axis=0)),
            len(SESSIONS),
        )
        started = perf_counter()
        self._desk.settle([day])
        seconds = perf_counter() - started
        settled = sum(
            int((o.void_reason == 0).sum()) for o in self._desk.outcomes() if o.is_settled
        )
        today, self._settled = settled - self._settled, settled
        return {
            "settlement_s": seconds / len(done.injection_kw),
            "submitted": rows.num_rows,
            "settled": today,
        }

    def close(self) -> None:
        """End the chain; nothing of it is kept."""
        self._desk.close()
        self._folder.cleanup()
