"""What a day costs under a way to act: the figures that bidders are compared by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.environment import Scales
from raygrid.learning.policy import Bidder, Policy
from raygrid.market.actions import Action
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.trades import MICRO, WH_PER_KWH
from raygrid.market.units import Slot


@dataclass(frozen=True)
class DayFigures:
    """Community totals of D days.

    Attributes
    ----------
    cost : (D,) float64
        To the grid, wear included, less what the stores gained, see `stored` [currency]. What
        peers pay each other cancels, but for fees to the network account.
    fees : (D,) float64
        Of that, paid to the network account [currency].
    stored : (D,) float64
        Value of what the stores gained over the day, midway between the tariffs [currency].
    import_kwh, export_kwh, pv_kwh, curtailed_kwh, traded_kwh, failed_kwh : (D,) float64
        Energies [kWh]; imports and exports are the community's, after netting its members.
    peak_kw : (D,) float64
        Greatest net import of the community [kW].
    violations : (D,) int64
        Periods in which a line or a voltage was beyond its limit.
    fallbacks : int
        Decisions that the rule made.
    """

    cost: FloatArray
    fees: FloatArray
    stored: FloatArray
    import_kwh: FloatArray
    export_kwh: FloatArray
    pv_kwh: FloatArray
    curtailed_kwh: FloatArray
    traded_kwh: FloatArray
    failed_kwh: FloatArray
    peak_kw: FloatArray
    violations: IntArray
    fallbacks: int

    @property
    def utilisation(self) -> FloatArray:
        """(D,) PV used locally over PV available."""
        used = self.pv_kwh - self.curtailed_kwh - self.export_kwh
        return np.divide(used, self.pv_kwh, out=np.ones_like(used), where=self.pv_kwh > 0)


class Idle:
    """Everybody waits: batteries rest, all trade is with the grid (grid-only)."""

    def __init__(self, market: IntradayMarket) -> None:
        self.market = market
        self.fallbacks = 0

    def act(self, last: Outcome | None = None) -> IntArray:
        """Waiting, for all."""
        return np.full(self.market.outlook.surplus_kw.shape, int(Action.WAIT), dtype=np.int64)


def evaluate(
    market: IntradayMarket,
    bidder: Bidder | Idle,
    days: IntArray,
    scales: Scales,
    *,
    in_a_row: bool = False,
) -> DayFigures:
    """Run days, from the stores' initial energy.

    Parameters
    ----------
    market : IntradayMarket
        The market, which is reset.
    bidder : Bidder or Idle
        Who acts.
    days : (D,) int64
        Days of the feed.
    scales : Scales
        For the value of stored energy.
    in_a_row : bool
        Whether each day goes on with what the one before left in the stores, as it truly does;
        days must then follow each other. Side by side is faster.

    Raises
    ------
    ValueError
        If days in a row do not follow each other.
    """
    days = np.asarray(days, dtype=np.int64)
    if in_a_row and (np.diff(days) != 1).any():
        raise ValueError("days in a row must follow each other")
    bidder.fallbacks = 0
    parts = []
    last: Outcome | None = None
    market.reset((days[:1] if in_a_row else days) * market.feed.day_periods)
    for _ in range(len(days) if in_a_row else 1):
        part, last = _one_day(market, bidder, scales, last)
        parts.append(part)
    sums = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return DayFigures(fallbacks=bidder.fallbacks, **sums)


def _one_day(
    market: IntradayMarket, bidder: Bidder | Idle, scales: Scales, last: Outcome | None
) -> tuple[dict[str, NDArray[Any]], Outcome | None]:
    """Sums over the periods of a day, and its last outcome."""
    feed, hours = market.feed, market.feed.period_hours
    names = (
        "cost", "fees", "stored", "import_kwh", "export_kwh",
        "pv_kwh", "curtailed_kwh", "traded_kwh", "failed_kwh",
    )  # fmt: skip
    n = len(market.period)
    sums = np.zeros((len(names), n))
    peak, violations = np.zeros(n), np.zeros(n, dtype=np.int64)
    for _ in range(feed.day_periods):
        before = market.energy_kwh
        last = market.step(bidder.act(last))
        net = (last.export_kwh - last.import_kwh).sum(axis=1)
        stored = scales.stored_value_per_kwh * (last.energy_kwh - before).sum(axis=(1, 2))
        sums += np.stack(
            [
                last.cost.sum(axis=1) - stored,
                last.network_micro / MICRO,
                stored,
                np.maximum(-net, 0.0),
                np.maximum(net, 0.0),
                last.pv_kw.sum(axis=1) * hours,
                last.curtailed_kw.sum(axis=1) * hours,
                last.sold_wh.sum(axis=1) / WH_PER_KWH,
                last.failed_wh.sum(axis=1) / 2 / WH_PER_KWH,
            ]
        )
        peak = np.maximum(peak, -net / hours)
        violations += last.overload > 0
    totals: dict[str, NDArray[Any]] = dict(zip(names, sums, strict=True))
    return totals | {"peak_kw": peak, "violations": violations}, last


def unmanaged(market: IntradayMarket) -> IntradayMarket:
    """The same market where EVs charge when they arrive and windows are used when they open.

    What people do without a market: the grid-only case. Batteries rest.
    """
    feed = market.feed
    plan = np.array(feed.plan_kw)
    for slot in (Slot.EV, Slot.SHIFTABLE):
        plan[..., slot] = -feed.charge_max_kw[..., slot]
    return market.over(replace(feed, plan_kw=plan))


def compare(
    market: IntradayMarket, policies: Mapping[str, Policy], days: IntArray, scales: Scales
) -> dict[str, DayFigures]:
    """Grid-only, deferring alone, the rule and learned policies, on the same days in a row.

    `grid_only` has EVs charge on arrival; `deferred` has everybody wait, so that EVs charge at
    the last moment; both without peers and with batteries at rest.
    """
    alone = unmanaged(market)
    figures = {"grid_only": evaluate(alone, Idle(alone), days, scales, in_a_row=True)}
    who: dict[str, Bidder | Idle] = {"deferred": Idle(market), "rule": Bidder(market)}
    who |= {name: Bidder(market, policy) for name, policy in policies.items()}
    return figures | {
        name: evaluate(market, bidder, days, scales, in_a_row=True) for name, bidder in who.items()
    }
