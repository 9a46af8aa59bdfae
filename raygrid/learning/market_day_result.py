"""A market day whole: which stages run, in what order, and the figures that come out.

forecast -> day-ahead clearing -> intraday auction -> AC load flow. Metering, settlement and
learning take trades and outcomes from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.grid.fixed_point import fast_ac_check
from raygrid.grid.powerflow import AcCheck
from raygrid.learning.evaluate import unmanaged
from raygrid.learning.market_day import (
    OPTIONS,
    DayAheadPlan,
    clear_day_ahead,
    forecast_case,
    start_energy,
)
from raygrid.learning.market_day_intraday import Acts, IntradayDay, PlanFollower, run_intraday
from raygrid.learning.policy import Bidder, Policy
from raygrid.market.clearing import ClearingOptions
from raygrid.market.feeder_limits import no_limits
from raygrid.market.intraday import IntradayMarket
from raygrid.market.trades import MICRO
from raygrid.market.units import Correction, Feed

if TYPE_CHECKING:
    from raygrid.learning.market_days import LearningScenario, Predictions


class ForecastRule(StrEnum):
    """What loads and PV are taken to be before they are measured.

    All but `perfect` are given, as `raygrid.learning.forecasting` makes them.
    """

    PERFECT = "perfect"
    PERSISTENCE = "persistence"
    SEASONAL = "seasonal"
    LEARNED = "learned"


class StoreRule(StrEnum):
    """What batteries do beyond what an EV or a window must have."""

    IDLE = "idle"
    SELF_CONSUMPTION = "self_consumption"
    """Take what their owner's meter would feed in, give what it would draw."""
    PLAN = "plan"
    """Follow the day-ahead plan, corrected by `DayAheadPlan.correction`."""
    SHARE = "share"
    """The same, and take and give for others beyond it: `raygrid.market.rule.sharing_action`."""
    RULE = "rule"
    """`raygrid.market.rule.rule_action`."""
    POLICY = "policy"
    """Learned bidders."""


@dataclass(frozen=True)
class DayCase:
    """Which stages of a market day run, and how.

    Attributes
    ----------
    name : str
        Name in tables.
    peers : bool
        Whether prosumers trade with each other; otherwise all is with the grid at tariff.
    day_ahead : bool
        Whether a day-ahead market is cleared; it needs peers.
    forecast : ForecastRule
        What loads and PV are taken to be.
    stores : StoreRule
        What batteries do. Without a day-ahead plan EVs charge on arrival and windows are used as
        they open, but under `rule` and `policy`, which wait.
    penalty : bool
        Whether loading costs a fee and orders of one zone go first.
    limits : bool
        Whether lines and voltages bound trades, day ahead and intraday, and re-dispatch keeps
        them.
    chain : bool
        Whether trades are settled on a chain; it changes no figure here.
    """

    name: str
    peers: bool = True
    day_ahead: bool = True
    forecast: ForecastRule = ForecastRule.LEARNED
    stores: StoreRule = StoreRule.PLAN
    penalty: bool = True
    limits: bool = True
    chain: bool = True

    def __post_init__(self) -> None:
        wrong = ""
        if self.day_ahead and not self.peers:
            wrong = "a day-ahead market, but no peers to trade with"
        if self.stores in (StoreRule.PLAN, StoreRule.SHARE) and not self.day_ahead:
            wrong = "stores that follow a plan, but no day-ahead market that makes one"
        if self.day_ahead and self.stores in (StoreRule.IDLE, StoreRule.SELF_CONSUMPTION):
            wrong = f"a day-ahead market plans the stores, but they are {self.stores}"
        if wrong:
            raise InputError(f"has {wrong}", f"case {self.name!r}", "change one of the two")


@dataclass(frozen=True)
class MarketDayResult:
    """What a day came to; N prosumers in the market's order.

    Cost of a prosumer: what it pays for its trades of both sessions less what they earn, its
    balance at tariff, and the wear of its stores. Feeder figures are those of the community as
    one; billed ones add up what each meter has with the grid, as AI-TEM (1) counts it.

    Attributes
    ----------
    case : DayCase
        Which stages ran.
    day : int
        Day of the history.
    cost : (N,) float64
        Of each prosumer [currency].
    baseline_cost : float
        What loads and PV alone would have cost at tariff, stores at rest [currency].
    stored_kwh : float
        What the stores gained over the day [kWh].
    stored_value : float
        The same midway between the day's mean tariffs [currency].
    network_micro, money_residual_micro : int
        What the network account takes, and the sum of all money, which is 0 [1e-6 currency].
    wear : float
        Of all stores [currency].
    pv_kwh, load_kwh, curtailed_kwh, unmet_kwh : float
        PV available, fixed load, PV curtailed, and what stores lacked for their needs [kWh].
    import_kwh, export_kwh : float
        Energy over the feeder's connection [kWh].
    billed_import_kwh, billed_export_kwh : float
        Energy that prosumers have with the grid [kWh].
    peak_kw : float
        Greatest net import of the community [kW].
    day_ahead_wh, intraday_wh, failed_wh : int
        Energy of the trades, and of those that meters did not bear out [Wh].
    day_ahead_trades, intraday_trades : int
        Their numbers.
    limited_periods : int
        Periods in which the linear limits were broken and re-dispatch could not help.
    ac : AcCheck
        Voltages and currents of the measured injections.
    energy_kwh : (N, 3) float64
        Energy in the stores at the day's end [kWh].
    fallbacks : int
        Decisions that the rule made where a policy should have.
    plan : DayAheadPlan or None
        The day-ahead stage.
    intraday : IntradayDay
        The intraday stage.
    seconds : dict of str to float
        Wall times: day_ahead, intraday, ac, and interval, the longest period of the intraday
        stage [s].
    """

    case: DayCase
    day: int
    cost: FloatArray
    baseline_cost: float
    stored_kwh: float
    stored_value: float
    network_micro: int
    money_residual_micro: int
    wear: float
    pv_kwh: float
    load_kwh: float
    curtailed_kwh: float
    unmet_kwh: float
    import_kwh: float
    export_kwh: float
    billed_import_kwh: float
    billed_export_kwh: float
    peak_kw: float
    day_ahead_wh: int
    intraday_wh: int
    failed_wh: int
    day_ahead_trades: int
    intraday_trades: int
    limited_periods: int
    ac: AcCheck
    energy_kwh: FloatArray
    fallbacks: int
    plan: DayAheadPlan | None
    intraday: IntradayDay
    seconds: dict[str, float]

    @property
    def community_cost(self) -> float:
        """All prosumers' cost [currency]."""
        return float(self.cost.sum())

    @property
    def utilisation(self) -> float:
        """PV used by prosumers or their peers over PV available; 1 without PV."""
        return self._used(self.billed_export_kwh)

    @property
    def feeder_utilisation(self) -> float:
        """PV that did not leave the feeder over PV available; 1 without PV."""
        return self._used(self.export_kwh)

    def _used(self, export_kwh: float) -> float:
        if self.pv_kwh <= 0:
            return 1.0
        return max(self.pv_kwh - self.curtailed_kwh - export_kwh, 0.0) / self.pv_kwh


class MarketDays:
    """Days of a community under one case, one after the other.

    Parameters
    ----------
    found : LearningScenario
        The community over all of its days.
    case : DayCase
        Which stages run.
    day_ahead, step : Predictions, optional
        Forecasts of all periods, a day and a step ahead; `ForecastRule.PERFECT` needs none.
    policy : Policy, optional
        Learned bidders; for `StoreRule.POLICY`. Without one the rule acts.
    options : ClearingOptions, optional
        Settings of the day-ahead clearing.

    Raises
    ------
    InputError
        If forecasts are missing, or a policy does not fit.
    """

    def __init__(
        self,
        found: LearningScenario,
        case: DayCase,
        *,
        day_ahead: Predictions | None = None,
        step: Predictions | None = None,
        policy: Policy | None = None,
        options: ClearingOptions | None = None,
    ) -> None:
        self.found, self.case, self.options = found, case, options
        market = found.days.market
        self.forecast = _forecast(case, market, day_ahead, "a day")
        ahead = _forecast(case, market, step, "a step")
        ids, where = market.units.prosumer_id, f"case {case.name!r}"
        load, pv = ahead.of(ids, where)
        feed = replace(
            market.feed,
            predicted_load_kw=np.ascontiguousarray(load.T),
            predicted_pv_kw=np.ascontiguousarray(pv.T),
        )
        if not case.day_ahead:
            feed = _unplanned(market.over(feed), case.stores)
        rules = market.rules
        if not case.penalty:
            rules = replace(rules, congestion_micro_per_kwh=0, same_zone_first=False)
        limits = market.limits if case.limits else no_limits(len(market.units))
        self.market = IntradayMarket(
            market.units, feed, limits, rules, market.pricing, peers=case.peers
        )
        if case.day_ahead:
            # From here on the market has arrays of its own, which its bidders observe.
            nothing = np.zeros((0, *market.units.min_kwh.shape))
            self.market.commit(0, nothing[..., 0], nothing)
        self.bidder: Bidder | None = None
        if case.stores is StoreRule.POLICY or case.stores is StoreRule.RULE:
            self.bidder = Bidder(self.market, policy if case.stores is StoreRule.POLICY else None)

    def run(
        self, days: Sequence[int], energy_kwh: FloatArray | None = None
    ) -> Iterator[MarketDayResult]:
        """Run days that follow each other, each from the energy that the one before left.

        Parameters
        ----------
        days : sequence of int
            Days of the history.
        energy_kwh : (N, 3) float64, optional
            Energy in the stores when the first one begins; their initial energy by default [kWh].

        Yields
        ------
        MarketDayResult
            Day by day.

        Raises
        ------
        InputError
            If days do not follow each other, or one cannot be served.
        """
        if any(b - a != 1 for a, b in pairwise(days)):
            raise InputError("days in a row must follow each other", "days", "leave no day out")
        for day in days:
            done = self.run_day(day, energy_kwh)
            energy_kwh = done.energy_kwh
            yield done

    def run_day(self, day: int, energy_kwh: FloatArray | None = None) -> MarketDayResult:
        """Run one day; see `run`."""
        feed, market = self.market.feed, self.market
        if not 0 <= day < feed.n_days:
            raise InputError(f"there is no day {day}", "days", f"choose 0 to {feed.n_days - 1}")
        started = perf_counter()
        plan = self.plan(day, energy_kwh) if self.case.day_ahead else None
        planned = perf_counter()
        shares = self.case.stores is StoreRule.SHARE
        bidder: Acts = self.bidder or PlanFollower(market, shares=shares)
        if self.bidder is not None:
            self.bidder.fallbacks = 0
        begin_kwh = start_energy(feed, market.units, day * feed.day_periods, energy_kwh)
        intraday = run_intraday(market, bidder, plan, day=day, energy_kwh=energy_kwh)
        traded = perf_counter()
        ac = self.check(intraday, day)
        seconds = {
            "day_ahead": planned - started,
            "intraday": traded - planned,
            "interval": float(intraday.seconds.max()),
            "ac": perf_counter() - traded,
        }
        return self._result(day, plan, intraday, ac, begin_kwh, seconds)

    def plan(self, day: int, energy_kwh: FloatArray | None = None) -> DayAheadPlan:
        """Clear the day-ahead market of a day."""
        case = forecast_case(self.found, day, self.forecast, energy_kwh, voltages=self.case.limits)
        options = self.options or OPTIONS
        if not self.case.limits:
            options = replace(options, network_constrained=False)
        return clear_day_ahead(
            case,
            day * self.market.feed.day_periods,
            options=options,
            market=self.found.scenario.market,
        )

    def check(self, intraday: IntradayDay, day: int) -> AcCheck:
        """AC load flow of a day's measured injections (AI-TEM 9)."""
        from raygrid.learning.market_days import reactive_share, voltage_limits

        network, units = self.found.network, self.market.units
        v_min, v_max, v_slack = voltage_limits(self.found.scenario)
        share = reactive_share(self.found.scenario)
        load = np.stack([o.load_kw[0] for o in intraday.outcomes])
        p_bus, q_bus = (np.zeros((network.n_buses, len(load))) for _ in range(2))
        np.add.at(p_bus, units.bus, intraday.injection_kw.T)
        np.add.at(q_bus, units.bus, -share * load.T)
        return fast_ac_check(
            network, p_bus, q_bus, v_slack_pu=v_slack, v_min_pu=v_min, v_max_pu=v_max
        )

    def _result(
        self,
        day: int,
        plan: DayAheadPlan | None,
        intraday: IntradayDay,
        ac: AcCheck,
        begin_kwh: FloatArray,
        seconds: dict[str, float],
    ) -> MarketDayResult:
        feed = self.market.feed
        hours = feed.period_hours
        rows = slice(day * feed.day_periods, (day + 1) * feed.day_periods)
        buy, sell = feed.import_price_per_kwh[rows], feed.export_price_per_kwh[rows]
        pv, load = feed.pv_kw[rows], feed.load_kw[rows]
        alone = (pv - load) * hours
        net = intraday.injection_kw.sum(axis=1) * hours
        # `used` is gone when a period begins: EVs came back with less.
        used = feed.used_kwh[rows].sum(axis=0)
        gained = float((intraday.energy_kwh - begin_kwh + used).sum())
        earned = intraday.money_micro + (0 if plan is None else plan.money_micro)
        network = intraday.network_micro + (0 if plan is None else plan.network_micro)
        return MarketDayResult(
            case=self.case,
            day=day,
            cost=intraday.grid_cost + intraday.wear - earned / MICRO,
            baseline_cost=float(
                (np.maximum(-alone, 0) * buy[:, None] - np.maximum(alone, 0) * sell[:, None]).sum()
            ),
            stored_kwh=gained,
            stored_value=gained * float(buy.mean() + sell.mean()) / 2,
            network_micro=network,
            money_residual_micro=int(earned.sum()) + network,
            wear=float(intraday.wear.sum()),
            pv_kwh=float(pv.sum()) * hours,
            load_kwh=float(load.sum()) * hours,
            curtailed_kwh=float(intraday.of("curtailed_kw").sum()) * hours,
            unmet_kwh=float(intraday.of("unmet_kwh").sum()),
            import_kwh=float(np.maximum(-net, 0).sum()),
            export_kwh=float(np.maximum(net, 0).sum()),
            billed_import_kwh=float(intraday.of("import_kwh").sum()),
            billed_export_kwh=float(intraday.of("export_kwh").sum()),
            peak_kw=float(np.maximum(-net, 0).max() / hours),
            day_ahead_wh=0 if plan is None else int(plan.trades.energy_wh.sum()),
            intraday_wh=int(intraday.trades.energy_wh.sum()),
            failed_wh=int(intraday.of("failed_wh").sum()) // 2,
            day_ahead_trades=0 if plan is None else len(plan.trades),
            intraday_trades=len(intraday.trades),
            limited_periods=int(sum(o.overload[0] > 0 for o in intraday.outcomes)),
            ac=ac,
            energy_kwh=intraday.energy_kwh,
            fallbacks=0 if self.bidder is None else self.bidder.fallbacks,
            plan=plan,
            intraday=intraday,
            seconds=seconds,
        )


def _forecast(
    case: DayCase, market: IntradayMarket, given: Predictions | None, horizon: str
) -> Predictions:
    """What is forecast for every period, a day or a step ahead."""
    from raygrid.learning.market_days import Predictions

    feed, where = market.feed, f"case {case.name!r}"
    if case.forecast is ForecastRule.PERFECT:
        return Predictions(market.units.prosumer_id, feed.load_kw.T, feed.pv_kw.T)
    if given is None:
        raise InputError(
            f"has no {case.forecast} forecasts {horizon} ahead",
            where,
            "give those of `raygrid.learning.forecasting`",
        )
    if given.load_kw.shape[1] != feed.n_periods:
        raise InputError(
            f"has forecasts {horizon} ahead of {given.load_kw.shape[1]} periods, the history has "
            f"{feed.n_periods}",
            where,
            "forecast all days",
        )
    return given


def _unplanned(market: IntradayMarket, stores: StoreRule) -> Feed:
    """The feed of a market whose stores follow no plan."""
    if stores not in (StoreRule.IDLE, StoreRule.SELF_CONSUMPTION):
        return market.feed
    feed = unmanaged(market).feed
    if stores is StoreRule.IDLE:
        return feed
    shape = feed.load_kw.shape
    always = np.ones(shape, dtype=np.bool_)
    none = np.zeros(shape)
    rule = Correction(none, always, always, np.full(shape, np.inf), none)
    return replace(feed, correction=rule)
