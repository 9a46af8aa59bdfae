"""A day that was cleared on forecasts, as it is delivered: the intraday stage of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.forecasting import forecast_when_due, period_before
from raygrid.learning.market_day import DayAheadPlan, between_peers, plan_of
from raygrid.learning.market_day_intraday import (
    Acts,
    IntradayDay,
    PlanFollower,
    run_intraday,
    sessions_of,
)
from raygrid.learning.market_days import Predictions, case_market
from raygrid.learning.policy import Bidder, Policy
from raygrid.market.actions import Action
from raygrid.market.feeder_limits import feeder_limits
from raygrid.market.intraday import IntradayMarket
from raygrid.market.trades import MICRO, Trades
from raygrid.market.units import Slot
from raygrid.prosumer.carried import Charge
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import Population
from raygrid.prosumer.stores import StoreKind
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario, TablesPopulation
from raygrid.scenario.stages import Stages

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.learning.stages import DayOutlook
    from raygrid.market.clearing import ClearingResult


Held = dict[tuple[str, str], tuple[FloatArray, FloatArray]]
"""Bounds (N, T) of intervals by horizon ('day_ahead', 'step') and target ('load', 'pv') [kW]."""
LEAST_WIDTH_KW = 1e-6
"""Narrower intervals are of nights, and count for nothing [kW]."""


def intraday_market(
    scenario: Scenario, measured: Case, predictions: Predictions | None = None
) -> IntradayMarket:
    """The intraday market of one measured day, with the limits that the day-ahead market has.

    Parameters
    ----------
    scenario : Scenario
        Rules of the market.
    measured : Case
        The day as it is measured.
    predictions : Predictions, optional
        What is forecast for a period when its orders are due; persistence without it.

    Raises
    ------
    InputError
        If there is no grid connection, or there are devices that this stage does not know.
    """
    if isinstance(scenario.population, TablesPopulation):
        raise InputError(
            "the intraday stage takes generation for PV, which a table does not promise",
            f"{scenario.name}:stages.intraday",
            "choose a population of source community, households or town, or none",
        )
    market = case_market(scenario, measured, measured.n_periods, predictions)
    units, network = market.units, measured.network
    if scenario.voltage is not None and scenario.market.network_constrained:
        return market
    if not scenario.market.network_constrained:
        network = replace(network, limit_kw=np.full(network.n_lines, np.inf))
    # The day-ahead market knows no voltage limits either, so that a plan that it makes can be kept.
    limits = feeder_limits(network, units.bus)
    return IntradayMarket(units, market.feed, limits, market.rules, market.pricing)


@dataclass(frozen=True)
class DeliveredDay:
    """What a cleared day came to when it was measured; N prosumers by id, T periods.

    Attributes
    ----------
    plan : DayAheadPlan
        What the day-ahead market committed everybody to.
    intraday : IntradayDay
        The periods one by one.
    market : IntradayMarket
        The market, at the end of the day.
    cleared : Population
        Prosumers as the day-ahead market knew them.
    forecast, step : Predictions
        Loads and PV as forecast a day ahead, and when orders were due.
    held : Held
        Their intervals, where forecasters are learned; of the fixed load, for the elastic response
        of a load is not forecast.
    fixed_load_kw : (N, T) float64
        Measured load without elastic demand [kW].
    bidders : str
        Who acted.
    fallbacks : int
        Decisions that the rule made where a policy should have.
    seconds : float
        Wall time [s].
    """

    plan: DayAheadPlan
    intraday: IntradayDay
    market: IntradayMarket
    cleared: Population
    forecast: Predictions
    step: Predictions
    held: Held
    fixed_load_kw: FloatArray
    bidders: str
    fallbacks: int
    seconds: float

    @property
    def prosumer_id(self) -> IntArray:
        """(N,) ids."""
        return self.market.units.prosumer_id

    @property
    def load_kw(self) -> FloatArray:
        """(T, N) measured load, elastic demand as planned included [kW]."""
        return self.market.feed.load_kw

    @property
    def pv_kw(self) -> FloatArray:
        """(T, N) measured PV, before curtailment [kW]."""
        return self.market.feed.pv_kw

    @property
    def money_micro(self) -> IntArray:
        """(N,) what the trades of both sessions earn less what they pay [1e-6 currency]."""
        return np.asarray(self.plan.money_micro + self.intraday.money_micro)

    @property
    def sessions(self) -> tuple[Trades, ...]:
        """Trades of each of `raygrid.market.sessions.SESSIONS`, their periods counted from 0."""
        return sessions_of(self.plan, self.intraday, self.market)

    @property
    def cost(self) -> FloatArray:
        """(N,) balance at tariff and wear less what trades earned [currency]."""
        return np.asarray(self.intraday.grid_cost + self.intraday.wear - self.money_micro / MICRO)

    def bus_kw(self, n_buses: int) -> FloatArray:
        """(B, T) measured net injections of the prosumers of each bus [kW]."""
        p_kw = np.zeros((n_buses, len(self.intraday.injection_kw)))
        np.add.at(p_kw, self.market.units.bus, self.intraday.injection_kw.T)
        return p_kw

    def charge(self, population: Population) -> Charge:
        """The energy that is left in batteries and stores, in the order of bus and id.

        Parameters
        ----------
        population : Population
            The prosumers by id, with their stores.
        """
        energy, stores = self.intraday.energy_kwh, population.stores
        slot = np.where(stores.kind == StoreKind.EV, Slot.EV, Slot.SHIFTABLE)
        store_kwh = energy[stores.owner, slot]
        by_id = Charge(energy[:, Slot.BATTERY].copy(), stores.owner, store_kwh)
        order = np.lexsort((population.prosumer_id, population.bus))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return by_id.moved(back)

    def summary(self) -> dict[str, Any]:
        """The stage in figures; energies [kWh], money [currency]."""
        day, hours = self.intraday, self.market.feed.period_hours
        net = day.injection_kw.sum(axis=1) * hours
        residual = int(self.money_micro.sum()) + day.network_micro + self.plan.network_micro
        return {
            "bidders": self.bidders,
            "fallbacks": self.fallbacks,
            "day_ahead_trades": len(self.plan.trades),
            "day_ahead_kwh": int(self.plan.trades.energy_wh.sum()) / 1e3,
            "trades": len(day.trades),
            "traded_kwh": int(day.trades.energy_wh.sum()) / 1e3,
            "failed_kwh": int(day.of("failed_wh").sum()) / 2e3,
            "grid_import_kwh": float(np.maximum(-net, 0.0).sum()),
            "grid_export_kwh": float(np.maximum(net, 0.0).sum()),
            "billed_import_kwh": float(day.of("import_kwh").sum()),
            "billed_export_kwh": float(day.of("export_kwh").sum()),
            "curtailed_kwh": float(day.of("curtailed_kw").sum()) * hours,
            "unmet_kwh": float(day.of("unmet_kwh").sum()),
            "limited_periods": int((day.of("overload") > 0).sum()),
            "grid_cost": float(day.grid_cost.sum()),
            "wear": float(day.wear.sum()),
            "cost": float(self.cost.sum()),
            "network_value": (day.network_micro + self.plan.network_micro) / MICRO,
            "money_residual": residual / MICRO,
            "seconds": self.seconds,
        }

    def forecast_summary(self, rule: str) -> dict[str, Any]:
        """How far forecasts were off, a day ahead and when orders were due [kW].

        Parameters
        ----------
        rule : str
            What the forecast a day ahead was made by.
        """
        found: dict[str, Any] = {"rule": rule}
        ids = self.prosumer_id
        for name, ahead in (("day_ahead", self.forecast), ("step", self.step)):
            load, pv = ahead.of(ids, "forecast")
            for what, error in (("load", load.T - self.load_kw), ("pv", pv.T - self.pv_kw)):
                found[f"{name}_{what}_rmse_kw"] = float(np.sqrt(np.mean(error**2)))
                found[f"{name}_{what}_bias_kw"] = float(np.mean(error))
            for what in ("load", "pv"):
                found[f"{name}_{what}_coverage"] = self._coverage(name, what)
        return found

    def _coverage(self, name: str, what: str) -> float | None:
        """Share of what was measured within its interval of 80 %; of PV where there may be any."""
        bounds = self.held.get((name, what))
        if bounds is None:
            return None
        low, high = bounds
        measured = self.fixed_load_kw if what == "load" else self.pv_kw.T
        counts = high - low > LEAST_WIDTH_KW
        within = (measured >= low) & (measured <= high)
        return float(within[counts].mean()) if counts.any() else None

    def forecast_rows(self, first_period: int) -> pa.Table:
        """Rows of `forecasts.parquet`, from a global period on."""
        ids = self.prosumer_id
        columns = _keys(ids, len(self.load_kw), first_period)
        for prefix, ahead in (("", self.forecast), ("step_", self.step)):
            load, pv = ahead.of(ids, "forecast")
            columns |= {f"{prefix}load_kw": load.ravel(), f"{prefix}pv_kw": pv.ravel()}
        for (name, what), bounds in self.held.items():
            before = "step_" if name == "step" else ""
            named = before + ("fixed_load" if what == "load" else what)
            for side, values in zip(("low", "high"), bounds, strict=True):
                columns[f"{named}_{side}_kw"] = values.ravel()
        columns["fixed_load_kw"] = self.cleared.fixed_load_kw.ravel()
        columns["demand_limit_kw"] = self.cleared.demand_limit_kw.ravel()
        return _table("forecasts", columns)

    def rows(self, first_period: int) -> pa.Table:
        """Rows of `intraday.parquet`, from a global period on."""
        import pyarrow as pa

        day, n_periods = self.intraday, len(self.load_kw)

        def flat(values: Any) -> Any:
            return np.ascontiguousarray(values.T).ravel()

        store, energy = day.of("store_kw"), day.of("energy_kwh")
        names = [action.name.lower() for action in Action]
        columns = _keys(self.prosumer_id, n_periods, first_period)
        columns["action"] = pa.array([names[k] for k in flat(day.of("action")).tolist()])
        columns["position_wh"] = flat(self.plan.position_wh)
        for name in ("sold_wh", "bought_wh", "failed_wh", "money_micro", "pv_kw", "load_kw",
                     "curtailed_kw", "import_kwh", "export_kwh", "grid_cost", "cycle_cost",
                     "unmet_kwh"):  # fmt: skip
            columns[name] = flat(day.of(name))
        columns["p_kw"] = flat(day.injection_kw)
        for slot, name in ((Slot.BATTERY, "battery"), (Slot.EV, "ev"), (Slot.SHIFTABLE, "shifted")):
            columns[f"{name}_kw"] = flat(store[..., slot])
            columns[f"{name}_kwh"] = flat(energy[..., slot])
        return _table("intraday", columns)


def deliver(
    scenario: Scenario,
    cleared: Case,
    measured: Case,
    result: ClearingResult,
    dispatch: Dispatch,
    matched: Trades,
    *,
    bidders: str,
    policy: Policy | None = None,
    outlook: DayOutlook | None = None,
) -> DeliveredDay:
    """Run the intraday market of a cleared day on what is measured.

    Elastic demand is what it was planned to be, as far as what is measured allows; what prosumers
    generate is taken as PV. Orders are placed on learned forecasts of each period where there are
    some, else by the rule `stages.step`, those of the first period on the forecast of the day
    ahead; on what is measured where the market was cleared on that.

    Parameters
    ----------
    scenario : Scenario
        Rules of the market.
    cleared, measured : Case
        The day as it was cleared, and as it is measured.
    result : ClearingResult
        How it was cleared.
    dispatch : Dispatch
        The final schedule, in the order of the cleared population.
    matched : Trades
        Trades of that schedule, their periods counted from 0.
    bidders : str
        'plan', 'rule' or 'policy'.
    policy : Policy, optional
        Learned bidders, for 'policy'.
    outlook : DayOutlook, optional
        What learned forecasters say of the day.
    """
    started = perf_counter()
    known, people = cleared.population, measured.population
    if not np.array_equal(known.prosumer_id, people.prosumer_id):
        raise ValueError("a day is cleared and measured for the same prosumers")
    demand = np.clip(dispatch.demand_kw, people.demand_min_kw, people.demand_limit_kw)
    load, pv = people.fixed_load_kw + demand, people.generation_limit_kw
    forecast = Predictions(
        known.prosumer_id, known.fixed_load_kw + dispatch.demand_kw, known.generation_limit_kw
    )
    due: Sequence[FloatArray] = ()
    held: Held = {}
    if outlook is not None:
        share = getattr(scenario.population, "flexible_share", 0.0)
        for name, made in (("day_ahead", outlook.ahead), ("step", outlook.step)):
            if made is None:
                continue
            mine = made.found.at(known.prosumer_id)
            for k, what in enumerate(("load", "pv")):
                held[name, what] = mine.low_kw[..., k], mine.high_kw[..., k]
            fixed, flexible = 1.0 - share, dispatch.demand_kw
            low, high = held[name, "load"]
            held[name, "load"] = fixed * low, fixed * high
            if name == "step":
                # Of a load without a price.
                due = fixed * mine.expected_kw[..., 0] + flexible, mine.expected_kw[..., 1]
    # What is fixed of a load is forecast; elastic demand is known as planned.
    due = due or (
        _when_due(scenario.stages, known.fixed_load_kw, people.fixed_load_kw) + dispatch.demand_kw,
        _when_due(scenario.stages, forecast.pv_kw, pv),
    )
    step = Predictions(known.prosumer_id, *due)
    none = np.zeros_like(demand)
    as_measured = replace(people, fixed_load_kw=load, demand_min_kw=none, demand_limit_kw=none)
    case = replace(measured, network=cleared.network, community=GivenCommunity(as_measured))
    market = intraday_market(scenario, case, step)
    plan = plan_of(cleared, result, dispatch, between_peers(matched, 0), 0, result.seconds)
    acts: Acts
    if bidders == "plan":
        acts = PlanFollower(market)
    else:
        acts = Bidder(market, policy if bidders == "policy" else None)
    day = run_intraday(market, acts, plan)
    fallbacks = acts.fallbacks if bidders == "policy" and isinstance(acts, Bidder) else 0
    return DeliveredDay(
        plan, day, market, known, forecast, step, held, people.fixed_load_kw, bidders, fallbacks,
        perf_counter() - started,
    )  # fmt: skip


def _when_due(stages: Stages, ahead_kw: FloatArray, measured_kw: FloatArray) -> FloatArray:
    """Forecasts (N, T) of periods when their orders are due, where no weights make them [kW]."""
    if stages.forecast == "perfect":
        return measured_kw
    by = forecast_when_due if stages.step == "corrected" else period_before
    return by(ahead_kw, measured_kw)


def _keys(ids: IntArray, n_periods: int, first_period: int) -> dict[str, Any]:
    periods = np.arange(first_period, first_period + n_periods)
    return {"prosumer_id": np.repeat(ids, n_periods), "period": np.tile(periods, len(ids))}


def _table(name: str, columns: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    from raygrid.schemas import conform

    return conform(name, pa.table(columns))
