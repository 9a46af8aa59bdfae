"""Populations of households: drawn from a seed, or given with the names of their shapes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.files import data_path
from raygrid.grid.network import Network
from raygrid.prosumer.population import Population
from raygrid.scenario import draws
from raygrid.scenario.config import (
    CommunityPopulation,
    Horizon,
    HouseholdsPopulation,
    ShapedPopulation,
    TownPopulation,
)
from raygrid.scenario.drawn import DrawnCommunity, HouseholdRules
from raygrid.scenario.drawn_stores import EvRules, ShiftableRules, StoreRules
from raygrid.scenario.draws import Range
from raygrid.scenario.fields import Section, Span
from raygrid.scenario.history import History, split_profiles
from raygrid.scenario.shapes import ShapeTable, read_shapes, shifted_profiles
from raygrid.scenario.stays import Clock
from raygrid.scenario.tables import bus_positions
from raygrid.scenario.tabular import TableData, read_table
from raygrid.scenario.unit_stores import (
    STORE_COLUMNS,
    STORE_KINDS,
    check_store_units,
    unit_stores,
)

Rules = TypeVar("Rules", HouseholdRules, EvRules, ShiftableRules)


def _between(seed: int, stream: str, ids: IntArray, span: Span) -> FloatArray:
    return span.low + (span.high - span.low) * draws.uniform(seed, stream, ids)


@dataclass(frozen=True)
class When:
    """The time that profiles are taken from.

    Attributes
    ----------
    horizon : Horizon
        The scenario's horizon.
    first_hour : float
        Hours from the scenario's start to the first period [h].
    history : History, optional
        Keeps shifts within the parts of its split.
    """

    horizon: Horizon
    first_hour: float = 0.0
    history: History | None = None

    @property
    def clock(self) -> Clock:
        """The hours of the day that the periods cover."""
        horizon = self.horizon
        return Clock.of(horizon.start, self.first_hour, horizon.periods, horizon.dt)

    def profiles(
        self,
        table: ShapeTable,
        shape: IntArray,
        weeks: IntArray | None = None,
        quarters: IntArray | None = None,
    ) -> FloatArray:
        """Profiles (n, T) of the given shapes, shifted if told so."""
        none = np.zeros(len(shape), dtype=np.int64)
        rule = partial(split_profiles, self.history) if self.history else shifted_profiles
        return rule(
            table,
            shape,
            none if weeks is None else weeks,
            none if quarters is None else quarters,
            begin=self.horizon.start,
            first_hour=self.first_hour,
            period_hours=self.horizon.dt,
            n_periods=self.horizon.periods,
        )


def _spread_shifts(
    source: ShapedPopulation, seed: int, ids: IntArray, shape: IntArray
) -> tuple[IntArray, IntArray]:
    """Shifts (n,), (n,) that spread the prosumers of each shape evenly, in a seeded order.

    No two of the same shape have the same shift, as long as there are as many shifts as such
    prosumers.
    """
    weeks, quarters = source.max_week_shift, source.max_quarter_hour_shift
    n_shifts = (2 * weeks + 1) * (2 * quarters + 1)
    order = draws.uniform(seed, "shift", ids)
    code = np.zeros(len(ids), dtype=np.int64)
    for k in np.unique(shape):
        rows = np.flatnonzero(shape == k)
        rows = rows[np.argsort(order[rows])]
        start = int(draws.integers(seed, "first_shift", np.array([k]), 0, n_shifts - 1)[0])
        code[rows] = (start + np.arange(len(rows)) * n_shifts // len(rows)) % n_shifts
    return code // (2 * quarters + 1) - weeks, code % (2 * quarters + 1) - quarters


def _split_flexible(
    population: Population,
    source: ShapedPopulation,
    seed: int,
    household_kw: FloatArray,
    other_kw: FloatArray | float = 0.0,
) -> Population:
    """Split household load into a fixed and an elastic part with a utility (3-10).

    The marginal utility omega / (1 + y) - delta falls from the drawn willingness on.
    """
    ids = population.prosumer_id
    flexible = source.flexible_share * household_kw
    delta = _between(seed, "delta", ids, source.delta_per_kwh)
    willing = _between(seed, "willingness", ids, source.willingness_per_kwh)
    elastic = (flexible > 0).any(axis=1)
    return replace(
        population,
        fixed_load_kw=household_kw - flexible + other_kw,
        demand_limit_kw=source.elastic_headroom * flexible,
        delta=np.where(elastic, delta, 0.0),
        omega=np.where(elastic, willing + delta, 0.0),
    )


def drawn_community(
    source: CommunityPopulation,
    when: When,
    weight: FloatArray,
    *,
    seed: int,
    base_dir: Path,
) -> DrawnCommunity:
    """Households to be drawn from a seed; what each is depends on the seed and its id alone.

    Parameters
    ----------
    source : CommunityPopulation
        The scenario's section.
    when : When
        The time that profiles are taken from.
    weight : (B,) float64
        Share of the prosumers at each bus.
    seed : int
        The scenario's seed.
    base_dir : Path
        Folder that data paths are relative to.

    Returns
    -------
    DrawnCommunity
        Needs no file any more.

    Raises
    ------
    InputError
        If a shape table is missing or does not hold the horizon's start.
    """
    loads = read_shapes(data_path(source.load_shapes, base_dir), source.household_shapes)
    weeks = np.arange(-source.max_week_shift, source.max_week_shift + 1)
    quarters = np.arange(-source.max_quarter_hour_shift, source.max_quarter_hour_shift + 1)
    every = np.meshgrid(np.arange(len(loads.names)), weeks, quarters, indexing="ij")
    codes = [np.ravel(code) for code in every]
    household = when.profiles(loads, *codes).reshape(*every[0].shape, when.horizon.periods)
    flexible = source.flexible_share * household
    pv = read_shapes(data_path(source.pv_shapes, base_dir), source.pv_systems)
    return DrawnCommunity(
        agents=source.agents,
        seed=seed,
        bus_weight=weight,
        rules=rules_of(HouseholdRules, source),
        fixed_shapes=household - flexible,
        elastic_shapes=source.elastic_headroom * flexible,
        pv_shapes=source.pv_clearness * when.profiles(pv, np.arange(len(source.pv_systems))),
        stores=StoreRules(
            rules_of(EvRules, source.evs), rules_of(ShiftableRules, source.shiftable), when.clock
        ),
    )


def rules_of(kind: type[Rules], section: Section) -> Rules:
    """Rules of a kind from the values of the same names in a section."""
    values: dict[str, Any] = {f.name: getattr(section, f.name) for f in fields(kind)}
    rules: dict[str, Any] = {
        name: Range(value.low, value.high) if isinstance(value, Span) else value
        for name, value in values.items()
    }
    return kind(**rules)


KINDS = ("household", "load", "pv", "battery")


@dataclass(frozen=True)
class HouseholdUnits:
    """The units of given households, and the shapes that these follow.

    Attributes
    ----------
    ids, bus : (n,) int64
        The households in ascending order, and the positions of their buses.
    shapes : ShapeTable
        Shapes of the units.
    main_shape : (n,) int64
        Position of the shape of each household's first load; -1 without loads.
    kind : (m,) str array
        One of `KINDS` or `STORE_KINDS` per unit.
    owner, shape : (m,) int64
        Its household's position, and its shape's.
    power_kw, capacity_kwh, efficiency : (m,) float64
        Its rated power, and a battery's size and efficiency.
    table : TableData
        The units as they were read.
    """

    ids: IntArray
    bus: IntArray
    shapes: ShapeTable
    main_shape: IntArray
    kind: np.ndarray[tuple[int], np.dtype[np.str_]]
    owner: IntArray
    shape: IntArray
    power_kw: FloatArray
    capacity_kwh: FloatArray
    efficiency: FloatArray
    table: TableData

    def total(
        self,
        when: When,
        kind: str,
        weeks: IntArray | None = None,
        quarters: IntArray | None = None,
    ) -> FloatArray:
        """Power of one kind of units, summed per household (n, T), each shifted if told so."""
        rows = np.flatnonzero(self.kind == kind)
        at = self.owner[rows]
        values = when.profiles(
            self.shapes,
            self.shape[rows],
            None if weeks is None else weeks[at],
            None if quarters is None else quarters[at],
        )
        sums = np.zeros((len(self.ids), values.shape[1]))
        np.add.at(sums, at, values * self.power_kw[rows, None])
        return sums

    def batteries(self, n_periods: int, soc_initial_share: float) -> Population:
        """The households with their batteries alone."""
        population = replace(
            Population.empty(len(self.ids), n_periods), prosumer_id=self.ids, bus=self.bus
        )
        battery = self.kind == "battery"
        at, capacity = self.owner[battery], self.capacity_kwh[battery]
        for name in ("charge_max_kw", "discharge_max_kw"):
            getattr(population, name)[at] = self.power_kw[battery]
        population.soc_max_kwh[at] = capacity
        for name in ("soc_initial_kwh", "soc_final_min_kwh"):
            getattr(population, name)[at] = soc_initial_share * capacity
        for name in ("eta_charge", "eta_discharge"):
            getattr(population, name)[at] = self.efficiency[battery]
        return population


def read_units(
    source: HouseholdsPopulation | TownPopulation, network: Network, base_dir: Path
) -> HouseholdUnits:
    """Read the units of given households and the shapes that these follow.

    Parameters
    ----------
    source : HouseholdsPopulation or TownPopulation
        The scenario's section.
    network : Network
        Where the buses must be.
    base_dir : Path
        Folder that data paths are relative to.

    Raises
    ------
    InputError
        If a table is wrong.
    """
    table = read_table(
        data_path(source.units, base_dir),
        {
            "unit": "int",
            "prosumer_id": "int",
            "bus": "int",
            "kind": "text",
            "shape": "text",
            "power_kw": "nonnegative",
            "capacity_kwh": "nonnegative",
            "efficiency": "nonnegative",
        },
        None if isinstance(source, TownPopulation) else STORE_COLUMNS,
    )
    table.keys_unique("unit")
    bus = bus_positions(table, "bus", network.bus_id)
    kind, shape = np.array(table.texts("kind")), np.array(table.texts("shape"))
    owner = table.ints("prosumer_id")
    kinds = KINDS if isinstance(source, TownPopulation) else (*KINDS, *STORE_KINDS)
    strange = ~np.isin(kind, kinds)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        table.refuse(row, "kind", f"'{kind[row]}' is no kind", f"one of {', '.join(kinds)}")
    if (owner < 1).any():
        row = int(np.flatnonzero(owner < 1)[0])
        table.refuse(row, "prosumer_id", f"id {owner[row]}", "prosumers count from 1")
    ids, first, position = np.unique(owner, return_index=True, return_inverse=True)
    apart = bus != bus[first][position]
    if apart.any():
        row = int(np.flatnonzero(apart)[0])
        table.refuse(row, "bus", f"prosumer {owner[row]} stands at two buses", "choose one")
    efficiency = table.floats("efficiency")
    battery = kind == "battery"
    wrong = np.isin(kind, ("battery", "ev")) & ~((efficiency > 0) & (efficiency <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        table.refuse(row, "efficiency", f"{efficiency[row]:g} is outside (0, 1]", "give e.g. 0.95")
    if len(np.unique(position[battery])) < battery.sum():
        raise InputError(
            "a prosumer with two batteries",
            str(table.path),
            "merge them or make them two prosumers",
        )
    check_store_units(table, kind)
    names = sorted(set(shape[np.isin(kind, ("household", "load", "pv"))]))
    shapes = read_shapes(data_path(source.load_shapes, base_dir), names)
    column = np.searchsorted(names, shape) if names else np.zeros(len(shape), np.int64)
    is_load = np.flatnonzero((kind == "household") | (kind == "load"))
    # A prosumer's first load stands for it; heat pumps and chargers come after households.
    main = np.full(len(ids), -1)
    main[position[is_load][::-1]] = column[is_load][::-1]
    return HouseholdUnits(
        ids=ids,
        bus=bus[first],
        shapes=shapes,
        main_shape=main,
        kind=kind,
        owner=position.astype(np.int64),
        shape=column,
        power_kw=table.floats("power_kw"),
        capacity_kwh=table.floats("capacity_kwh"),
        efficiency=efficiency,
        table=table,
    )


def read_households(
    source: HouseholdsPopulation,
    when: When,
    network: Network,
    *,
    seed: int,
    base_dir: Path,
) -> Population:
    """Build given households from their units and the shapes these follow.

    A prosumer may have several units. Its loads are told apart from those of the same shape by one
    seeded shift (`_spread_shifts`); PV is not shifted, since all see the same sun. `household`
    units have an elastic part, other `load` units are fixed.

    Parameters
    ----------
    source : HouseholdsPopulation
        The scenario's section.
    when : When
        The time that profiles are taken from.
    network : Network
        Where the buses must be.
    seed : int
        The scenario's seed.
    base_dir : Path
        Folder that data paths are relative to.

    Returns
    -------
    Population
        The households, ids in ascending order.

    Raises
    ------
    InputError
        If a table is wrong.
    """
    units = read_units(source, network, base_dir)
    ids = units.ids
    weeks, quarters = _spread_shifts(source, seed, ids, units.main_shape)
    pv = units.total(when, "pv")
    has_pv = (pv > 0).any(axis=1)
    population = replace(
        units.batteries(when.horizon.periods, source.soc_initial_share),
        alpha=np.where(has_pv, _between(seed, "pv_alpha", ids, source.pv_cost_per_kw2h), 0.0),
        beta=np.where(has_pv, _between(seed, "pv_cost", ids, source.pv_cost_per_kwh), 0.0),
        generation_limit_kw=pv,
    )
    costs = _between(seed, "cycle_cost", ids, source.battery_cycle_cost_per_kwh)
    population = replace(
        population, cycle_cost_per_kwh=np.where(population.has_battery, costs, 0.0)
    )
    wear = _between(seed, "ev_cycle_cost", ids, source.battery_cycle_cost_per_kwh)
    stores, constant = unit_stores(units.table, units.kind, units.owner, when.clock, wear)
    population = _split_flexible(
        replace(population, stores=stores),
        source,
        seed,
        units.total(when, "household", weeks, quarters),
        units.total(when, "load", weeks, quarters) + constant,
    )
    return (
        population
        if source.agents is None
        else _first(population, source.agents, data_path(source.units, base_dir))
    )


def _first(population: Population, agents: int, path: Path) -> Population:
    if agents > len(population):
        raise InputError(
            f"{agents} agents are asked for, {len(population)} are there",
            str(path),
            "ask for fewer, or use the scenario `community`",
        )
    return population.take(slice(0, agents))
