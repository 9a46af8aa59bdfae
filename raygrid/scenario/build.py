"""From a scenario to a case: network, population, grid connection, limits that can bind."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray
from raygrid.errors import InputError
from raygrid.files import data_path
from raygrid.grid.checks import check_network
from raygrid.grid.limits import line_rows, stack_rows, voltage_rows
from raygrid.grid.network import Network
from raygrid.grid.ptdf import PtdfFactor
from raygrid.grid.voltage import VoltageModel, check_dense_voltages, lindistflow
from raygrid.prosumer.community import Community, GivenCommunity
from raygrid.prosumer.population import GridConnection
from raygrid.prosumer.size import SLOPE, price_level
from raygrid.prosumer.survey import Survey, SurveyedRecipe
from raygrid.scenario.case import Case
from raygrid.scenario.config import (
    CommunityPopulation,
    Scenario,
    TablesPopulation,
    TownPopulation,
    Voltage,
)
from raygrid.scenario.draws import Range
from raygrid.scenario.households import When, drawn_community, read_households
from raygrid.scenario.load import load_scenario
from raygrid.scenario.network import BuiltinNetwork, TablesNetwork, TownNetwork
from raygrid.scenario.repeated import RepeatedCommunity
from raygrid.scenario.store_tables import read_stores
from raygrid.scenario.tables import read_network, read_population
from raygrid.scenario.tariffs import grid_connection, tariffs_of_day
from raygrid.scenario.town import Town, town_of
from raygrid.scenario.variants import variant_community

GRID_WEIGHT_SHARE = 1.0
"""Size weight of the grid connection over that of all prosumers together."""
PENALTY_GRID_WEIGHT_SHARE = 0.05
"""The same where imports are only a penalty: an agent that should rest must not carry much."""


def load_case(
    name_or_path: str | Path,
    *,
    settings: Iterable[str] = (),
    agents: int | None = None,
    periods: int | None = None,
    seed: int | None = None,
) -> Case:
    """Read a scenario and build its first day; see `load_scenario` for the arguments."""
    scenario, base_dir = load_scenario(
        name_or_path, settings=settings, agents=agents, periods=periods, seed=seed
    )
    return build_case(scenario, base_dir=base_dir)


def build_case(scenario: Scenario, *, base_dir: Path, day: int = 0) -> Case:
    """Build the case of one market day; see `draft_case`."""
    return draft_case(scenario, base_dir=base_dir, day=day).surveyed()


@dataclass(frozen=True)
class CaseDraft:
    """A case before anybody has looked at all of its prosumers.

    Limits, size weights and the grid connection follow from sums over them, which whoever has
    the prosumers can add up part by part: `case(joined(surveys))` is the same case, bit for bit,
    however they are split.

    Attributes
    ----------
    scenario : Scenario
        What was authored.
    network : Network
        The network as its source has it.
    weight : (B,) float64
        Share of the prosumers at each bus.
    community : Community
        The prosumers.
    other_days : tuple of Community
        They on other market days, where limits follow from the loads of all days.
    tariffs : dict of str to (T,) float64, or None
        Prices of the grid connection and those of its limits that are given.
    grid_weight : float or None
        Size weight of the grid connection, where a table gives one.
    town : Town or None
        The plan of the network, where it is that of a town.
    limits_known : bool
        Whether `network` has the limits and impedances that the scenario sets, from another day.
    """

    scenario: Scenario
    network: Network
    weight: FloatArray
    community: Community
    other_days: tuple[Community, ...]
    tariffs: dict[str, FloatArray] | None
    grid_weight: float | None
    town: Town | None = None
    limits_known: bool = False

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.scenario.name

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.scenario.horizon.periods

    def recipe(self, start: int, stop: int) -> SurveyedRecipe:
        """How to build and survey the prosumers at these positions by bus and id."""
        return SurveyedRecipe(
            self.community.recipe(start, stop),
            tuple(other.recipe(start, stop) for other in self.other_days),
            self.network.n_buses,
            population_source(self.scenario),
            self.scenario.horizon.dt,
        )

    def survey(self) -> Survey:
        """Survey all prosumers here."""
        recipe = self.recipe(0, len(self.community))
        return recipe.survey(recipe.prosumers.build())

    def surveyed(self) -> Case:
        """The case, all prosumers surveyed here."""
        return self.case(self.survey())

    def case(self, everyone: Survey) -> Case:
        """The case, from the survey of all prosumers.

        Raises
        ------
        InputError
            If limits and prosumers do not fit together.
        """
        scenario, horizon = self.scenario, self.scenario.horizon
        fixed, p_min, p_max = everyone.on_all_buses(self.network.n_buses)
        grid = None
        if self.tariffs is not None:
            grid = grid_connection(scenario, self.tariffs, p_min, p_max)
        level = price_level(everyone, grid)
        if grid is not None:
            grid = replace(grid, size_weight=self._grid_weight(grid, everyone, level))
        if self.limits_known:
            network, factor = self.network, PtdfFactor(self.network)
        else:
            loads = fixed
            if everyone.stores:
                even = everyone.even_charge_kw(self.network.n_buses)
                loads = fixed + np.tile(even, fixed.shape[1] // even.shape[1])
            network, factor = _set_limits(
                scenario, self.network, self.town, everyone.prosumers, loads
            )
        if grid is not None:
            p_min[network.slack] -= grid.export_limit_kw
            p_max[network.slack] += grid.import_limit_kw
        rows = line_rows(network, factor, horizon.periods, p_min, p_max)
        fixed_bus = fixed[:, : horizon.periods]
        reactive = fixed_bus * math.tan(math.acos(scenario.population.power_factor))
        if scenario.voltage is not None:
            limits = scenario.voltage
            voltages = voltage_rows(
                network,
                limits.v_min_pu,
                limits.v_max_pu,
                -reactive,
                model=_voltage_model(limits, network, fixed_bus, reactive),
                p_min_kw=p_min,
                p_max_kw=p_max,
            )
            rows = stack_rows(rows, voltages)
        return Case(
            name=scenario.name,
            network=network,
            rows=rows,
            community=self.community,
            grid=grid,
            period_hours=horizon.dt,
            currency=scenario.currency,
            reactive_load_kvar=reactive,
            price_level=level,
            stores=everyone.stores,
            notes=scenario.notes,
        )

    def _grid_weight(self, grid: GridConnection, everyone: Survey, level: float) -> float:
        """Size weight of the grid connection, unless given a share of all prosumers'."""
        given = None if self.scenario.tariffs is None else self.scenario.tariffs.size_weight
        if given or self.grid_weight:
            return given or self.grid_weight or 0.0
        share = PENALTY_GRID_WEIGHT_SHARE if grid.import_is_penalty else GRID_WEIGHT_SHARE
        weight = everyone.weight_quanta + everyone.power_quanta * (SLOPE / level)
        return share * weight * QUANTUM


def draft_case(scenario: Scenario, *, base_dir: Path, day: int = 0) -> CaseDraft:
    """Read all files of a scenario and make ready for building the case of one market day.

    Parameters
    ----------
    scenario : Scenario
        A validated scenario.
    base_dir : Path
        Folder that its data paths are relative to.
    day : int
        Which of the days in a row, from 0; profiles and prices go on where the day before ended.

    Returns
    -------
    CaseDraft
        Depends on the scenario, its data and its seed alone.

    Raises
    ------
    InputError
        If data are missing or do not fit together.
    """
    horizon = scenario.horizon
    place = _read_network(scenario, base_dir)
    if scenario.voltage is not None:
        check_dense_voltages(place.network)  # before any host builds its prosumers in vain
    community, grid_weight = _community(scenario, base_dir, place, day)
    tariffs = tariffs_of_day(scenario, base_dir, day)
    if tariffs is None and grid_weight is not None:
        raise InputError(
            "a row of role 'grid', but no `tariffs`",
            population_source(scenario),
            "add the section or leave the row out",
        )
    # Lines are the same every day, so all days count, on whichever of them the case is.
    days = [d for d in range(horizon.days) if d != day and _limits_follow_loads(scenario)]
    others = [_community(scenario, base_dir, place, d)[0] for d in days]
    return CaseDraft(
        scenario,
        place.network,
        place.weight,
        community,
        tuple(others),
        tariffs,
        grid_weight,
        place.town,
    )


def draft_another_day(draft: CaseDraft, network: Network, *, base_dir: Path, day: int) -> CaseDraft:
    """The draft of another market day of the same run, which reads and makes what changes alone.

    Parameters
    ----------
    draft : CaseDraft
        Of the run's first case.
    network : Network
        That case's network, its limits and impedances as the scenario sets them.
    base_dir : Path
        Folder that data paths are relative to.
    day : int
        Which of the days in a row, from 0.

    Returns
    -------
    CaseDraft
        That of `draft_case`, with limits that nobody needs to look at the other days for.
    """
    scenario = draft.scenario
    place = _Place(draft.network, draft.weight, draft.town)
    return replace(
        draft,
        network=network,
        community=_community(scenario, base_dir, place, day)[0],
        other_days=(),
        tariffs=tariffs_of_day(scenario, base_dir, day),
        limits_known=True,
    )


def population_source(scenario: Scenario) -> str:
    """Where the prosumers come from, for messages."""
    return getattr(scenario.population, "prosumers", None) or f"{scenario.name}:population"


def _voltage_model(
    limits: Voltage, network: Network, fixed_bus_kw: FloatArray, reactive_kvar: FloatArray
) -> VoltageModel:
    """How voltages follow injections, as the scenario asks or as the network allows."""
    if limits.model == "lindistflow" or (limits.model == "auto" and network.is_radial):
        return lindistflow(network, limits.v_slack_pu)
    from raygrid.grid.powerflow import jacobian_sensitivities

    # One point for all periods: the fixed loads, which no clearing changes, at their mean.
    return jacobian_sensitivities(
        network,
        -fixed_bus_kw.mean(axis=1),
        -reactive_kvar.mean(axis=1),
        v_slack_pu=limits.v_slack_pu,
    )


# --- network ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where prosumers stand: the network, the share of them at each bus (B,), a town's plan."""

    network: Network
    weight: FloatArray
    town: Town | None


def _read_network(scenario: Scenario, base_dir: Path) -> _Place:
    """The network as its source has it."""
    source = scenario.network
    if isinstance(source, TablesNetwork | TownNetwork):
        lines = data_path(source.lines, base_dir)
        network, weight = read_network(
            lines,
            name=scenario.name,
            slack_bus=source.slack_bus,
            base_kva=source.base_kva,
            buses=data_path(source.buses, base_dir) if source.buses else None,
        )
        network = check_network(network, str(lines))
        if isinstance(source, TablesNetwork):
            return _Place(network, weight, None)
        town = town_of(network, source.grids, source.grids_per_feeder, scenario.seed, str(lines))
        weights = np.append(0.0, np.tile(weight, source.grids))
        return _Place(town.network(scenario.name), weights, town)
    from raygrid.grid.pandapower_files import builtin_net, load_pandapower_file

    if isinstance(source, BuiltinNetwork):
        net = builtin_net(source.name)
    else:
        net = load_pandapower_file(data_path(source.path, base_dir))
    return _Place(*pandapower_network(net, scenario.name), None)


def _limits_follow_loads(scenario: Scenario) -> bool:
    """Whether limits are set by the flows of the fixed loads."""
    source = scenario.network
    margins = [None if source.limits is None else source.limits.fixed_load_margin]
    if isinstance(source, TownNetwork):
        margins += [source.transformer_margin, source.trunk_margin]
    return any(margin is not None for margin in margins)


def _set_limits(
    scenario: Scenario, network: Network, town: Town | None, n: int, load_kw: FloatArray
) -> tuple[Network, PtdfFactor]:
    """Limits and impedances as the scenario sets them, and the network's factorisation."""
    source = scenario.network
    if source.reference_prosumers is not None:
        scale = source.reference_prosumers / n
        network = replace(network, r_pu=network.r_pu * scale, x_pu=network.x_pu * scale)
    factor = PtdfFactor(network)
    rule, limit = source.limits, network.limit_kw
    flow = factor.flows(-load_kw) if _limits_follow_loads(scenario) else None
    if town is not None and isinstance(source, TownNetwork) and flow is not None:
        limit = town.limits_kw(limit, flow, source.transformer_margin, source.trunk_margin)
    if rule is None:
        return replace(network, limit_kw=limit), factor
    limit = limit * rule.scale
    if rule.reference_prosumers is not None:
        limit = limit * max(n / rule.reference_prosumers, 1.0)
    if rule.fixed_load_margin is not None and flow is not None:
        limit = np.maximum(
            rule.fixed_load_margin * np.abs(flow).max(axis=1), rule.floor_kw_per_prosumer * n
        )
    position = {int(line): k for k, line in enumerate(network.line_id)}
    for k, single in enumerate(rule.lines):
        if single.line not in position:
            raise InputError(
                f"line {single.line} is not in the network",
                f"{scenario.name}:network.limits.lines[{k}]",
                f"lines are {min(position)} to {max(position)}",
            )
        limit[position[single.line]] = single.limit_kw
    # The factorisation knows impedances and phase shifts only; limits leave it valid.
    return replace(network, limit_kw=limit), factor


def pandapower_network(net: Any, name: str) -> tuple[Network, FloatArray]:
    """A pandapower net as a network, with its loads as the prosumers' shares of the buses.

    Parameters
    ----------
    net : pandapowerNet
        The net; left as it is.
    name : str
        Name shown in results.

    Returns
    -------
    network : Network
        See `convert_pandapower`.
    weight : (B,) float64
        Active load of each bus [kW]; equal, and 0 at the slack, where the net has no loads.
    """
    from raygrid.grid.pandapower_net import convert_pandapower

    converted = convert_pandapower(net, name=name)
    network = converted.network
    weight = np.zeros(network.n_buses)
    for bus, p_mw, scaling, in_service in zip(
        net.load.bus, net.load.p_mw, net.load.scaling, net.load.in_service, strict=True
    ):
        if in_service and int(bus) in converted.position_of_bus and p_mw > 0:
            weight[converted.position_of_bus[int(bus)]] += 1e3 * p_mw * scaling
    if not weight.any():
        weight[:] = 1.0
        weight[network.slack] = 0.0
    return network, weight


# --- population ------------------------------------------------------------------------------


def _community(
    scenario: Scenario, base_dir: Path, place: _Place, day: int
) -> tuple[Community, float | None]:
    """The prosumers on a day, and the grid's size weight where a table gives one."""
    source, horizon, seed = scenario.population, scenario.horizon, scenario.seed
    network, town = place.network, place.town
    when = When(horizon, day * horizon.day_hours, scenario.history)
    if isinstance(source, CommunityPopulation):
        return drawn_community(source, when, place.weight, seed=seed, base_dir=base_dir), None
    if isinstance(source, TownPopulation):
        assert town is not None  # the scenario's validation sees to it
        return variant_community(source, when, town, seed=seed, base_dir=base_dir), None
    if isinstance(source, TablesPopulation):
        population, grid_weight = read_population(
            data_path(source.prosumers, base_dir),
            data_path(source.profiles, base_dir),
            network,
            n_periods=horizon.periods,
            period_hours=horizon.dt,
            table_hours=source.period_hours,
            first_hour=when.first_hour,
            span_hours=horizon.day_hours * (1 if source.repeat else horizon.days),
            agents=None if source.copy_size else source.agents,
        )
        if source.stores is not None:
            stores = read_stores(
                data_path(source.stores, base_dir),
                population.prosumer_id,
                period_hours=horizon.dt,
                table_hours=source.period_hours,
            )
            population = replace(population, stores=stores)
        size, agents = source.copy_size, source.agents or len(population)
        if size is None or agents <= len(population):
            return GivenCommunity(population.take(slice(0, agents))), grid_weight
        copies = RepeatedCommunity(population, agents, seed, Range(size.low, size.high))
        return copies, grid_weight
    population = read_households(source, when, network, seed=seed, base_dir=base_dir)
    return GivenCommunity(replace(population, size_weight=np.zeros(len(population)))), None
