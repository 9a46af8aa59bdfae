"""What days in a row cost under a way to act: the figures that bidders are compared by.

Days are run in a row, each with the stores as the day before left them. Side by side, from the
same stores each, they would call it a saving to use up what tomorrow lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.environment import Worth
from raygrid.learning.policy import Bidder, Policy
from raygrid.market.actions import Action
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.trades import MICRO, WH_PER_KWH
from raygrid.market.units import Slot

MIN_ROW_DAYS = 3


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
        Value of what the stores gained from midnight to midnight, at its opportunity price then
        [currency]. What was driven or used counts as gone, and over days in a row the sum is
        that of the last midnight less the first.
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
    worth: Worth,
    *,
    rows: int = 1,
    start_kwh: FloatArray | None = None,
) -> DayFigures:
    """Run days in a row.

    Parameters
    ----------
    market : IntradayMarket
        The market, which is reset.
    bidder : Bidder or Idle
        Who acts.
    days : (D,) int64
        Days of the feed that follow each other.
    worth : Worth
        Of stored energy.
    rows : int
        Rows that the days are cut into and that run side by side, which is faster. If there are
        more than one, each begins a day earlier, which is not counted, so that its stores hold
        what they hold in a row.
    start_kwh : (K, N, 3) float64, optional
        Energy in the stores when any of the feed's days begins, taken for the first day of each
        row; the stores' initial energy by default [kWh].

    Raises
    ------
    ValueError
        If the days do not follow each other, or cannot be cut into as many rows of one length
        with a day before each.
    """
    days = np.asarray(days, dtype=np.int64)
    if (np.diff(days) != 1).any():
        raise ValueError("days in a row must follow each other")
    if len(days) % rows or (rows > 1 and days[0] == 0):
        raise ValueError(f"{len(days)} days cannot be cut into {rows} rows of one length")
    bidder.fallbacks = 0
    parts = []
    last: Outcome | None = None
    run = days.reshape(rows, -1)
    first = run[:, 0] - (rows > 1)
    energy = None if start_kwh is None else start_kwh[first]
    market.reset(first * market.feed.day_periods, energy)
    if rows > 1:
        _, last = _one_day(market, bidder, worth, last)
        bidder.fallbacks = 0
    for _ in range(run.shape[1]):
        part, last = _one_day(market, bidder, worth, last)
        parts.append(part)
    sums = {name: np.stack([part[name] for part in parts], axis=1).ravel() for name in parts[0]}
    return DayFigures(fallbacks=bidder.fallbacks, **sums)


def validation_rows(n_days: int, most: int = 6) -> int:
    """Into how many rows of one length `evaluate` should cut days: the most up to a limit."""
    fit = (r for r in range(2, most + 1) if n_days % r == 0 and n_days // r >= MIN_ROW_DAYS)
    return max(fit, default=1)


def _one_day(
    market: IntradayMarket, bidder: Bidder | Idle, worth: Worth, last: Outcome | None
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
    begun = market.energy_kwh
    for _ in range(feed.day_periods):
        last = market.step(bidder.act(last))
        net = (last.export_kwh - last.import_kwh).sum(axis=1)
        sums += np.stack(
            [
                last.cost.sum(axis=1),
                last.network_micro / MICRO,
                np.zeros(n),
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
    stored = (worth.per_kwh[0] * (market.energy_kwh - begun)).sum(axis=(1, 2))
    sums[0] -= stored
    sums[2] = stored
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
    market: IntradayMarket,
    policies: Mapping[str, Policy],
    days: IntArray,
    worth: Worth,
    start_kwh: FloatArray | None = None,
) -> dict[str, DayFigures]:
    """Learned policies and what they are to beat, on the same days in a row.

    Where days were planned that is to follow the `plan`. Otherwise it is the `rule`, and beside
    it `grid_only`, where EVs charge on arrival, and `deferred`, where everybody waits, so that
    EVs charge at the last moment; both without peers and with batteries at rest.
    """
    figures: dict[str, DayFigures] = {}
    who: dict[str, Bidder | Idle] = {}
    if market.feed.correction is None:
        alone = unmanaged(market)
        figures["grid_only"] = evaluate(alone, Idle(alone), days, worth, start_kwh=start_kwh)
        who = {"deferred": Idle(market)}
    who |= {stated_name(market): Bidder(market)}
    who |= {name: Bidder(market, policy) for name, policy in policies.items()}
    return figures | {
        name: evaluate(market, bidder, days, worth, start_kwh=start_kwh)
        for name, bidder in who.items()
    }


def stated_name(market: IntradayMarket) -> str:
    """Name of what who has not learned does: 'plan' where days were planned, else 'rule'."""
    return "rule" if market.feed.correction is None else "plan"
