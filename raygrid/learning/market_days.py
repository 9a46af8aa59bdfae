"""From a scenario with a history to an intraday market over all of its days."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import Network
from raygrid.learning.dqn import DqnOptions
from raygrid.learning.dqn_training import TrainingDays
from raygrid.learning.environment import RewardWeights
from raygrid.market.actions import OrderPricing
from raygrid.market.auction import AuctionRules
from raygrid.market.feeder_limits import FeederLimits, feeder_limits
from raygrid.market.intraday import IntradayMarket
from raygrid.market.trades import MICRO
from raygrid.market.units import N_SLOTS, Feed, Slot, Units, make_feed
from raygrid.market.zones import feeder_zones
from raygrid.prosumer.population import Population
from raygrid.prosumer.stores import StoreKind
from raygrid.scenario.case import Case
from raygrid.scenario.config import Horizon, Scenario
from raygrid.scenario.history import HOURS_PER_DAY, History
from raygrid.scenario.intraday import Intraday

if TYPE_CHECKING:
    from raygrid.scenario.build import CaseDraft

SLOT_OF_KIND = {StoreKind.EV: Slot.EV, StoreKind.SHIFTABLE: Slot.SHIFTABLE}

DEFAULT_VOLTAGE_PU = (0.95, 1.05)
"""Limits where the scenario has none (AI-TEM VI.E) [p.u.]."""


@dataclass(frozen=True)
class Predictions:
    """What was forecast for every period when its orders were due.

    Attributes
    ----------
    prosumer_id : (N,) int64
        Whose rows they are, in any order.
    load_kw, pv_kw : (N, K) float64
        Forecasts [kW].
    """

    prosumer_id: IntArray
    load_kw: FloatArray
    pv_kw: FloatArray

    def of(self, prosumer_id: IntArray, where: str) -> tuple[FloatArray, FloatArray]:
        """Rows of these prosumers, in their order.

        Raises
        ------
        InputError
            If one of them has no forecast.
        """
        order = np.argsort(self.prosumer_id)
        at = np.searchsorted(self.prosumer_id, prosumer_id, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)]
        missing = prosumer_id[self.prosumer_id[rows] != prosumer_id]
        if len(missing):
            raise InputError(
                f"prosumer {missing[0]} has no forecast", where, "forecast for all prosumers"
            )
        return self.load_kw[rows], self.pv_kw[rows]


@dataclass(frozen=True)
class LearningScenario:
    """A scenario as bidders learn in it.

    Attributes
    ----------
    scenario : Scenario
        What was authored.
    network : Network
        With its limits set.
    days : TrainingDays
        The market over the history, and its split.
    case : Case
        All days of the history in a row.
    draft : CaseDraft
        What that case was made of.
    """

    scenario: Scenario
    network: Network
    days: TrainingDays
    case: Case
    draft: CaseDraft

    @property
    def options(self) -> DqnOptions:
        """Settings of the training, as the scenario has them."""
        bidders = (self.scenario.intraday or Intraday()).bidders
        return DqnOptions(**bidders.model_dump(), seed=self.scenario.seed)

    @property
    def reward(self) -> RewardWeights:
        """Weights of the reward, as the scenario has them."""
        return RewardWeights(**(self.scenario.intraday or Intraday()).reward.model_dump())


def learning_scenario(
    name_or_path: str | Path,
    *,
    settings: Iterable[str] = (),
    agents: int | None = None,
    predictions: Predictions | None = None,
) -> LearningScenario:
    """Build the intraday market of a scenario over all days of its history.

    Parameters
    ----------
    name_or_path, settings, agents
        As `raygrid.scenario.load.load_scenario`.
    predictions : Predictions, optional
        Forecasts for every period; persistence without them.

    Raises
    ------
    InputError
        If the scenario has no history, no tariff, or devices that this stage does not know.
    """
    from raygrid.scenario.build import draft_case
    from raygrid.scenario.load import load_scenario

    scenario, base_dir = load_scenario(name_or_path, settings=settings, agents=agents)
    where = f"scenario {scenario.name!r}"
    history = scenario.history
    if history is None:
        raise InputError(
            "has no days to learn from", where, "give it a `history`, or choose ai_tem"
        )
    day_periods = round(HOURS_PER_DAY / scenario.horizon.dt)
    if abs(day_periods * scenario.horizon.dt - HOURS_PER_DAY) > 1e-9:
        raise InputError(
            f"periods of {scenario.horizon.dt:g} h do not fill a day", where, "choose others"
        )
    horizon = Horizon(
        periods=day_periods * history.days,
        period_hours=scenario.horizon.dt,
        start=history.start,
    )
    whole = scenario.model_copy(update={"horizon": horizon})
    draft = draft_case(whole, base_dir=base_dir)
    case = draft.surveyed()
    market = case_market(whole, case, day_periods, predictions)
    return LearningScenario(scenario, case.network, _split(market, history), case, draft)


def _split(market: IntradayMarket, history: History) -> TrainingDays:
    first, validation, test, end = history.first_days
    return TrainingDays(
        market, np.arange(first, validation), np.arange(validation, test), np.arange(test, end)
    )


def case_market(
    scenario: Scenario, case: Case, day_periods: int, predictions: Predictions | None = None
) -> IntradayMarket:
    """The intraday market of a case, all of its periods in a row.

    Elastic demand is taken at the level that it has without a price, so that loads are those of
    the shapes; what shifts are the shiftable loads.

    Parameters
    ----------
    scenario : Scenario
        For the rules of the market and the voltage limits.
    case : Case
        Prosumers, network and tariffs.
    day_periods : int
        Periods of a day.
    predictions : Predictions, optional
        Forecasts for every period.
    """
    where = f"scenario {scenario.name!r}"
    grid, population = case.grid, case.population
    if grid is None:
        raise InputError("has no grid connection to balance with", where, "give it `tariffs`")
    rules = scenario.intraday or Intraday()
    n_periods = case.n_periods
    zone = feeder_zones(case.network, rules.zones)[population.bus]
    units, limits_kw = _units(population, zone, n_periods, where)
    charge, discharge, needed, used = limits_kw
    predicted: tuple[FloatArray | None, FloatArray | None] = (None, None)
    if predictions is not None:
        predicted = predictions.of(population.prosumer_id, where)
    headroom = getattr(scenario.population, "elastic_headroom", 1.0)
    feed: Feed = make_feed(
        units,
        period_hours=case.period_hours,
        day_periods=day_periods,
        load_kw=population.fixed_load_kw + population.demand_limit_kw / headroom,
        pv_kw=population.generation_limit_kw,
        import_price_per_kwh=grid.import_price_per_kwh,
        export_price_per_kwh=grid.export_price_per_kwh,
        charge_max_kw=charge,
        discharge_max_kw=discharge,
        needed_kwh=needed,
        used_kwh=used,
        predicted_load_kw=predicted[0],
        predicted_pv_kw=predicted[1],
    )
    return IntradayMarket(
        units,
        feed,
        _limits(scenario, case, population.bus),
        AuctionRules(
            rules.price_rule,
            rules.same_zone_first,
            round(rules.congestion_price_per_kwh * MICRO),
            rules.congestion_start,
        ),
        OrderPricing(rules.bid_share, rules.offer_share, rules.lookahead_hours),
    )


def voltage_limits(scenario: Scenario) -> tuple[float, float, float]:
    """Least and greatest voltage, and that of the slack bus [p.u.]."""
    if scenario.voltage is None:
        return (*DEFAULT_VOLTAGE_PU, 1.0)
    return scenario.voltage.v_min_pu, scenario.voltage.v_max_pu, scenario.voltage.v_slack_pu


def reactive_share(scenario: Scenario) -> float:
    """Reactive over active power of the loads."""
    return float(np.tan(np.arccos(scenario.population.power_factor)))


def _limits(scenario: Scenario, case: Case, bus: IntArray) -> FeederLimits:
    """Lines and voltages; on meshed networks lines alone, unless the scenario limits voltages."""
    v_min, v_max, v_slack = voltage_limits(scenario)
    radial = case.network.is_radial
    return feeder_limits(
        case.network,
        bus,
        v_min_pu=v_min if radial else None,
        v_max_pu=v_max if radial else None,
        v_slack_pu=v_slack,
        reactive_share=reactive_share(scenario),
    )


def _units(
    population: Population, zone: IntArray, n_periods: int, where: str
) -> tuple[Units, tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
    """Prosumers with their stores; charge and discharge limits, needs and uses (K, N, 3)."""
    n, shape = len(population), (n_periods, len(population), N_SLOTS)
    charge, discharge, needed, used = (np.zeros(shape) for _ in range(4))
    columns = {
        name: np.zeros((n, N_SLOTS)) for name in ("min_kwh", "max_kwh", "initial_kwh", "cycle")
    } | {name: np.ones((n, N_SLOTS)) for name in ("eta_charge", "eta_discharge")}
    battery = Slot.BATTERY
    for name, values in (
        ("min_kwh", population.soc_min_kwh), ("max_kwh", population.soc_max_kwh),
        ("initial_kwh", population.soc_initial_kwh), ("cycle", population.cycle_cost_per_kwh),
        ("eta_charge", population.eta_charge), ("eta_discharge", population.eta_discharge),
    ):  # fmt: skip
        columns[name][:, battery] = values
    charge[..., battery], discharge[..., battery] = (
        population.charge_max_kw, population.discharge_max_kw,
    )  # fmt: skip

    stores = population.stores
    limits = stores.limits(n_periods) if len(stores) else None
    taken = set()
    for row in range(len(stores)):
        kind, owner = StoreKind(int(stores.kind[row])), int(stores.owner[row])
        slot = SLOT_OF_KIND[kind]
        if (owner, slot) in taken:
            raise InputError(
                f"prosumer {population.prosumer_id[owner]} has more than one "
                f"{kind.name.lower()} store, which the intraday stage does not know",
                where,
                "give each prosumer one EV and one shiftable load at most",
            )
        taken.add((owner, slot))
        for name, values in (
            ("min_kwh", stores.min_kwh), ("max_kwh", stores.max_kwh),
            ("initial_kwh", stores.initial_kwh), ("cycle", stores.cycle_cost_per_kwh),
            ("eta_charge", stores.eta_charge), ("eta_discharge", stores.eta_discharge),
        ):  # fmt: skip
            columns[name][owner, slot] = values[row]
        assert limits is not None  # there are stores
        charge[:, owner, slot] = limits.charge_kw[row]
        discharge[:, owner, slot] = limits.discharge_kw[row]
        needed[:, owner, slot] = limits.floor_kwh[row]
        used[:, owner, slot] = limits.used_kwh[row]
    units = Units(
        population.prosumer_id,
        population.bus,
        zone,
        columns["min_kwh"],
        columns["max_kwh"],
        columns["initial_kwh"],
        columns["eta_charge"],
        columns["eta_discharge"],
        columns["cycle"],
    )
    return units, (charge, discharge, needed, used)
