"""A community as tables: the columns of a run's tables, read strictly and written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raygrid import schemas
from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import Network
from raygrid.prosumer.population import (
    GRID_ID,
    PROFILE_FIELDS,
    UNIT_FIELDS,
    GridConnection,
    Population,
)
from raygrid.scenario.case import Case
from raygrid.scenario.resample import resample
from raygrid.scenario.store_tables import store_rows
from raygrid.scenario.tabular import Columns, TableData, read_table

_SIGNED = ("beta", "gamma", "delta")
_PROSUMERS: Columns = {
    "prosumer_id": "int",
    "bus": "int",
    "role": "text",
    **{
        name: "float" if name in _SIGNED else "nonnegative"
        for name in UNIT_FIELDS
        if name not in ("prosumer_id", "bus", "size_weight")
    },
}
_PROFILES: Columns = {
    "prosumer_id": "int",
    "period": "int",
    **dict.fromkeys(PROFILE_FIELDS, "nonnegative"),
}
_TARIFFS: Columns = {
    "period": "int",
    "import_price_per_kwh": "float",
    "export_price_per_kwh": "float",
    "import_limit_kw": "nonnegative",
    "export_limit_kw": "nonnegative",
}
_LINES: Columns = {
    "line": "int",
    "from_bus": "int",
    "to_bus": "int",
    "x_pu": "float",
    "limit_kw": "limit",
    "flow_offset_kw": "float",
}
_BUSES: Columns = {"bus": "int", "x": "float", "y": "float"}


def bus_positions(table: TableData, column: str, bus_id: IntArray) -> IntArray:
    """Positions of a column's bus numbers in the network.

    Raises
    ------
    InputError
        If a bus is not in the network.
    """
    numbers = table.ints(column)
    order = np.argsort(bus_id)
    place = np.clip(np.searchsorted(bus_id, numbers, sorter=order), 0, len(bus_id) - 1)
    position = order[place]
    wrong = bus_id[position] != numbers
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        known = ", ".join(map(str, bus_id[:8])) + (", ..." if len(bus_id) > 8 else "")
        table.refuse(
            row, column, f"bus {numbers[row]} is not in the network", f"use one of {known}"
        )
    return np.asarray(position, dtype=np.int64)


def read_network(
    lines: Path,
    *,
    name: str,
    slack_bus: int,
    base_kva: float,
    buses: Path | None = None,
) -> tuple[Network, FloatArray]:
    """Read a network from its tables.

    Parameters
    ----------
    lines : Path
        Table of lines: line, from_bus, to_bus, x_pu, limit_kw, flow_offset_kw, optionally r_pu.
    name : str
        Name shown in results.
    slack_bus : int
        Number of the slack bus.
    base_kva : float
        Common base of the per-unit values [kVA].
    buses : Path, optional
        Table of buses: bus, x, y and optionally weight.

    Returns
    -------
    network : Network
        Buses in ascending order of their numbers.
    weight : (B,) float64
        Share of the prosumers at each bus; equal, and 0 at the slack, where no table says so.

    Raises
    ------
    InputError
        If a table is wrong.
    """
    table = read_table(lines, _LINES, {"r_pu": "nonnegative"})
    table.keys_unique("line")
    ends = np.concatenate([table.ints("from_bus"), table.ints("to_bus")])
    bus_id = np.unique(ends).astype(np.int64)
    loops = table.ints("from_bus") == table.ints("to_bus")
    if loops.any():
        row = int(np.flatnonzero(loops)[0])
        table.refuse(row, "to_bus", "the line ends where it begins", "give another bus")
    if (table.floats("x_pu") == 0).any():
        row = int(np.flatnonzero(table.floats("x_pu") == 0)[0])
        table.refuse(row, "x_pu", "a line without reactance", "merge its two buses")
    if slack_bus not in bus_id:
        raise InputError(
            f"slack_bus {slack_bus} is at no line", str(lines), f"use one of {bus_id[:8].tolist()}"
        )
    slack = int(np.searchsorted(bus_id, slack_bus))
    weight = np.ones(len(bus_id))
    weight[slack] = 0.0
    xy = np.zeros((0, 2))
    if buses is not None:
        table_b = read_table(buses, _BUSES, {"weight": "nonnegative"})
        table_b.keys_unique("bus")
        position = bus_positions(table_b, "bus", bus_id)
        if len(position) != len(bus_id):
            absent = sorted(set(bus_id.tolist()) - set(table_b.ints("bus").tolist()))
            raise InputError(f"bus {absent[0]} is missing", str(buses), "add its row")
        xy = np.zeros((len(bus_id), 2))
        xy[position, 0] = table_b.floats("x")
        xy[position, 1] = table_b.floats("y")
        if "weight" in table_b.columns:
            weight[position] = table_b.floats("weight")
            if not weight.sum() > 0:
                raise InputError("all weights are 0", str(buses), "give some bus a weight")
    network = Network(
        name=name,
        bus_id=bus_id,
        slack=slack,
        line_id=table.ints("line"),
        from_bus=np.searchsorted(bus_id, table.ints("from_bus")).astype(np.int64),
        to_bus=np.searchsorted(bus_id, table.ints("to_bus")).astype(np.int64),
        r_pu=table.floats("r_pu"),
        x_pu=table.floats("x_pu"),
        limit_kw=table.floats("limit_kw"),
        flow_offset_kw=table.floats("flow_offset_kw"),
        base_kva=base_kva,
        bus_xy=xy,
    )
    return network, weight


def _period_columns(table: TableData, key: IntArray, names: list[str]) -> tuple[IntArray, int]:
    """Order of rows by (key position, period), and the number of periods; gaps are refused."""
    period, n_keys = table.ints("period"), len(names)
    n_periods = int(period.max()) + 1
    if period.min() < 0:
        row = int(np.argmin(period))
        table.refuse(row, "period", f"period {period[row]} is negative", "count from 0")
    if len(period) != n_keys * n_periods:
        # A gap: rows are unique, so some (key, period) is missing.
        count = np.bincount(key, minlength=n_keys)
        short = int(np.argmin(count))
        have = set(period[key == short].tolist())
        gap = next(p for p in range(len(have) + 1) if p not in have)
        raise InputError(
            f"period {gap} of {names[short]} is missing",
            str(table.path),
            f"give every period from 0 to {n_periods - 1}",
        )
    return np.lexsort((period, key)), n_periods


def _check_length(path: Path, n_periods: int, table_hours: float, horizon_hours: float) -> None:
    have = n_periods * table_hours
    if have < horizon_hours * (1 - 1e-9):
        raise InputError(
            f"{n_periods} periods of {table_hours:g} h end before the horizon of "
            f"{horizon_hours:g} h",
            str(path),
            "add periods, shorten the horizon, or set population.repeat for days that are alike",
        )


def read_population(
    prosumers: Path,
    profiles: Path,
    network: Network,
    *,
    n_periods: int,
    period_hours: float,
    table_hours: float,
    first_hour: float = 0.0,
    span_hours: float | None = None,
    agents: int | None = None,
) -> tuple[Population, float | None]:
    """Read a population from its two tables.

    Parameters
    ----------
    prosumers, profiles : Path
        Tables with the columns of a run's tables of the same names. A row of role 'grid' (id 0)
        is the grid connection; it has no profiles.
    network : Network
        Where the buses must be.
    n_periods, period_hours : int, float
        The horizon's periods T and their length [h].
    table_hours : float
        Length of a period in the profiles table [h].
    first_hour : float
        Where the horizon begins in the table [h].
    span_hours : float, optional
        How long the profiles have to last, if not for the horizon alone [h].
    agents : int, optional
        Take only the first so many prosumers.

    Returns
    -------
    population : Population
        Prosumers in ascending order of their ids.
    grid_size_weight : float or None
        Size weight of the grid's row, 0 where the row does not say; None without such a row.

    Raises
    ------
    InputError
        If a table is wrong.
    """
    units = read_table(prosumers, _PROSUMERS, {"size_weight": "nonnegative"})
    units.keys_unique("prosumer_id")
    position = bus_positions(units, "bus", network.bus_id)
    ids = units.ints("prosumer_id")
    is_grid = _roles(units, ids, position, network)
    rows = np.flatnonzero(~is_grid)
    rows = rows[np.argsort(ids[rows])]
    if len(rows) == 0:
        raise InputError("no prosumers", str(prosumers), "add rows of role 'prosumer'")
    ids = ids[rows]
    data: dict[str, Any] = {
        name: units.floats(name, default=0.0)[rows]
        for name in UNIT_FIELDS
        if name not in ("prosumer_id", "bus")
    }
    no_battery = (data["charge_max_kw"] == 0) & (data["discharge_max_kw"] == 0)
    for name in ("eta_charge", "eta_discharge"):
        data[name] = np.where(no_battery & (data[name] == 0), 1.0, data[name])
        wrong = ~((data[name] > 0) & (data[name] <= 1))
        if wrong.any():
            row = int(rows[np.flatnonzero(wrong)[0]])
            units.refuse(row, name, "an efficiency outside (0, 1]", "give e.g. 0.95")

    table = read_table(profiles, _PROFILES)
    table.keys_unique("prosumer_id", "period")
    key = np.searchsorted(ids, table.ints("prosumer_id"))
    key = np.minimum(key, len(ids) - 1)
    strange = ids[key] != table.ints("prosumer_id")
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        table.refuse(
            row,
            "prosumer_id",
            f"prosumer {table.ints('prosumer_id')[row]} is not in {prosumers.name}",
            "add it there or leave its rows out",
        )
    absent = np.setdiff1d(np.arange(len(ids)), key)
    if len(absent):
        raise InputError(
            f"prosumer {ids[absent[0]]} has no rows", str(profiles), "add a row for every period"
        )
    order, table_periods = _period_columns(table, key, [f"prosumer {i}" for i in ids])
    _check_length(profiles, table_periods, table_hours, span_hours or n_periods * period_hours)
    for name in PROFILE_FIELDS:
        values = table.floats(name)[order].reshape(len(ids), table_periods)
        data[name] = resample(values, table_hours, period_hours, n_periods, first_hour)
    for low, high in (
        ("generation_min_kw", "generation_limit_kw"),
        ("demand_min_kw", "demand_limit_kw"),
    ):
        crossed = table.floats(low) > table.floats(high)
        if crossed.any():
            row = int(np.flatnonzero(crossed)[0])
            table.refuse(row, low, f"{table.floats(low)[row]:g} is above {high}", "lower it")
        # Averages of bounds that touch may cross by an ulp.
        data[low] = np.minimum(data[low], data[high])
    population = Population(prosumer_id=ids, bus=position[rows], **data)
    if agents is not None:
        if agents > len(population):
            raise InputError(
                f"{agents} agents are asked for, {len(population)} are there",
                str(prosumers),
                "ask for fewer, or use the scenario `community`",
            )
        population = population.take(slice(0, agents))
    weight = units.floats("size_weight", default=0.0)[is_grid]
    return population, float(weight[0]) if len(weight) else None


def _roles(
    units: TableData, ids: IntArray, position: IntArray, network: Network
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which row is the grid; roles and ids that do not fit are refused."""
    roles = units.texts("role")
    for row, role in enumerate(roles):
        if role not in (schemas.ROLE_PROSUMER, schemas.ROLE_GRID):
            units.refuse(row, "role", f"'{role}' is no role", "write 'prosumer' or 'grid'")
        if (role == schemas.ROLE_GRID) != (ids[row] == GRID_ID):
            units.refuse(
                row,
                "prosumer_id",
                f"id {ids[row]} with role '{role}'",
                f"the grid has id {GRID_ID}, prosumers count from 1",
            )
        if ids[row] < 0:
            units.refuse(row, "prosumer_id", f"id {ids[row]} is negative", "count from 1")
        if role == schemas.ROLE_GRID and position[row] != network.slack:
            units.refuse(
                row,
                "bus",
                "the grid connection is not at the slack bus",
                f"put it at bus {network.bus_id[network.slack]} or change slack_bus",
            )
    return np.array([role == schemas.ROLE_GRID for role in roles])


def read_tariffs(
    path: Path, *, n_periods: int, period_hours: float, table_hours: float, first_hour: float = 0.0
) -> dict[str, FloatArray]:
    """Read the grid's prices and limits, each (T,), from a table of a run's `tariffs` columns."""
    table = read_table(path, _TARIFFS)
    table.keys_unique("period")
    order, table_periods = _period_columns(table, np.zeros(len(table), np.int64), ["the tariff"])
    _check_length(path, table_periods, table_hours, n_periods * period_hours)
    return {
        name: resample(
            table.floats(name)[order][None, :], table_hours, period_hours, n_periods, first_hour
        )[0]
        for name in _TARIFFS
        if name != "period"
    }


def population_tables(case: Case) -> dict[str, pa.Table]:
    """The tables that describe a case, from which `read_...` build it again exactly.

    Parameters
    ----------
    case : Case
        A built case.

    Returns
    -------
    dict of str to pyarrow.Table
        'prosumers', 'profiles', 'network', and 'stores', 'tariffs' and 'buses' where there are
        any; columns as in `raygrid.schemas`, plus size_weight and r_pu.
    """
    population, network = case.population, case.network
    rows = [unit_rows(population, network.bus_id)]
    if case.grid is not None:
        rows.insert(0, grid_row(case.grid, int(network.bus_id[network.slack])))
    return {"prosumers": pa.concat_tables(rows), **day_tables(case), **network_tables(case)}


def day_tables(case: Case, day: int = 0) -> dict[str, pa.Table]:
    """The tables of a case that every day has rows of: 'profiles', 'stores' if there are any."""
    population = case.population
    tables = {"profiles": profile_rows(population, day * case.n_periods)}
    if len(population.stores):
        tables["stores"] = store_rows(population, day)
    return tables


def unit_rows(population: Population, bus_id: IntArray) -> pa.Table:
    """Rows of the prosumers table for these prosumers; buses by the numbers of `bus_id`."""
    units: dict[str, Any] = {
        "prosumer_id": population.prosumer_id,
        "bus": bus_id[population.bus],
        "role": pa.repeat(schemas.ROLE_PROSUMER, len(population)),
    }
    # What an agent lacks is 0 in tables, its efficiencies too.
    lacks = ~population.has_battery
    for name in UNIT_FIELDS[2:]:
        values = getattr(population, name)
        if name.startswith("eta_"):
            values = np.where(lacks & (values == 1.0), 0.0, values)
        units[name] = values
    return schemas.conform("prosumers", pa.table(units))


def grid_row(grid: GridConnection, slack_bus: int) -> pa.Table:
    """The row of the prosumers table for the grid connection."""
    row: dict[str, Any] = {name: [0.0] for name in UNIT_FIELDS}
    row |= {"prosumer_id": [GRID_ID], "bus": [slack_bus], "role": [schemas.ROLE_GRID]}
    row["size_weight"] = [grid.size_weight]
    return schemas.conform("prosumers", pa.table(row))


def profile_rows(population: Population, first_period: int = 0) -> pa.Table:
    """Rows of the profiles table for these prosumers, from a global period on."""
    n_periods = population.n_periods
    profiles = {
        "prosumer_id": np.repeat(population.prosumer_id, n_periods),
        "period": np.tile(np.arange(first_period, first_period + n_periods), len(population)),
    } | {name: getattr(population, name).reshape(-1) for name in PROFILE_FIELDS}
    return schemas.conform("profiles", pa.table(profiles))


def tariff_rows(grid: GridConnection, first_period: int = 0) -> pa.Table:
    """Rows of the tariffs table, from a global period on."""
    tariffs = {name: getattr(grid, name) for name in _TARIFFS if name != "period"}
    n_periods = len(grid.import_price_per_kwh)
    periods = np.arange(first_period, first_period + n_periods)
    return schemas.conform("tariffs", pa.table({"period": periods} | tariffs))


def network_tables(case: Case, market: Network | None = None) -> dict[str, pa.Table]:
    """Those tables of a case that do not grow with its prosumers.

    Parameters
    ----------
    case : Case
        The case.
    market : Network, optional
        The network as markets take it, where they keep a reserve of its limits.
    """
    network = case.network
    lines = {
        "line": network.line_id,
        "from_bus": network.bus_id[network.from_bus],
        "to_bus": network.bus_id[network.to_bus],
        "x_pu": network.x_pu,
        "limit_kw": network.limit_kw,
        "flow_offset_kw": network.flow_offset_kw,
        "r_pu": network.r_pu,
    }
    if market is not None and not np.array_equal(market.limit_kw, network.limit_kw):
        lines["market_limit_kw"] = market.limit_kw
    tables = {"network": schemas.conform("network", pa.table(lines))}
    if case.grid is not None:
        tables["tariffs"] = tariff_rows(case.grid)
    if len(network.bus_xy):
        x, y = network.bus_xy.T
        buses = pa.table({"bus": network.bus_id, "x": x, "y": y})
        tables["buses"] = schemas.conform("buses", buses)
    return tables
