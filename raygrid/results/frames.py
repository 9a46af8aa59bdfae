"""Tables of a run from the arrays of a clearing; vectorised, for the driver and inside actors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import numpy as np
import pyarrow as pa

from raygrid.arrays import FloatArray, IntArray
from raygrid.grid.network import Network
from raygrid.market.clearing import ClearingResult, IterationRecord
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GRID_ID, Population
from raygrid.prosumer.stores import StoreKind
from raygrid.schemas import CONVERGENCE, FLOWS, PRICES, SCHEDULE, STORE_SCHEDULE, conform


def convergence_table(records: Iterable[IterationRecord], day: int = 0) -> pa.Table:
    """convergence.parquet, one row an iteration; of one of the days in a row."""
    rows = list(records)
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(IterationRecord)}
    columns["day"] = [day] * len(rows)
    return pa.table(columns, schema=CONVERGENCE)


def schedule_table(
    population: Population,
    bus_id: IntArray,
    dispatch: Dispatch,
    first_period: int = 0,
    with_stores: bool = False,
) -> pa.Table:
    """Rows of schedule.parquet for these prosumers, by prosumer and period.

    Parameters
    ----------
    population : Population
        N prosumers.
    bus_id : (B,) int64
        Bus numbers as tables show them.
    dispatch : Dispatch
        Their (N, T) schedule.
    first_period : int
        Global index of the first period (day times T).
    with_stores : bool
        Add the columns `raygrid.schemas.STORE_SCHEDULE`: whether anybody in the community, not
        only here, has EVs or shiftable loads.

    Returns
    -------
    pyarrow.Table
        N * T rows.
    """
    n, n_periods = dispatch.p_kw.shape
    zeros = np.zeros(n * n_periods)
    columns = {
        "prosumer_id": np.repeat(population.prosumer_id, n_periods),
        "bus": np.repeat(bus_id[population.bus], n_periods),
        "period": np.tile(np.arange(first_period, first_period + n_periods), n),
        "p_kw": dispatch.p_kw.ravel(),
        "generation_kw": dispatch.generation_kw.ravel(),
        "demand_kw": dispatch.demand_kw.ravel(),
        "charge_kw": dispatch.charge_kw.ravel(),
        "discharge_kw": dispatch.discharge_kw.ravel(),
        "soc_kwh": dispatch.soc_kwh.ravel(),
        "ev_kw": zeros,
        "shifted_kw": zeros,
    }
    own = dispatch.stores
    if own is not None:
        columns["ev_kw"] = own.net_kw(n, StoreKind.EV).ravel()
        columns["shifted_kw"] = own.net_kw(n, StoreKind.SHIFTABLE).ravel()
    if with_stores:
        columns["ev_soc_kwh"] = zeros if own is None else own.ev_energy_kwh(n).ravel()
    return conform("schedule", pa.table(columns))


def grid_schedule_table(
    grid_kw: FloatArray, slack_bus: int, first_period: int = 0, with_stores: bool = False
) -> pa.Table:
    """Rows of schedule.parquet for the grid connection: import generates, export demands.

    Parameters
    ----------
    grid_kw : (T,) float64
        Net import [kW].
    slack_bus : int
        Number of the slack bus, as tables show it.
    first_period : int
        Global index of the first period.
    with_stores : bool
        As for `schedule_table`.
    """
    n_periods = len(grid_kw)
    zeros = np.zeros(n_periods)
    columns = {
        "prosumer_id": np.full(n_periods, GRID_ID, dtype=np.int64),
        "bus": np.full(n_periods, slack_bus, dtype=np.int64),
        "period": np.arange(first_period, first_period + n_periods),
        "p_kw": grid_kw,
        "generation_kw": np.maximum(grid_kw, 0.0),
        "demand_kw": np.maximum(-grid_kw, 0.0),
        **dict.fromkeys((*SCHEDULE.names[6:], *(STORE_SCHEDULE if with_stores else ())), zeros),
    }
    return conform("schedule", pa.table(columns))


def flows_table(
    network: Network, result: ClearingResult, first_period: int = 0, lines: slice = slice(None)
) -> pa.Table:
    """flows.parquet: flows of the final schedule, by line and period [kW]; of all or some lines."""
    flow = result.flow_kw[lines]
    n_lines, n_periods = flow.shape
    columns = {
        "line": np.repeat(network.line_id[lines], n_periods),
        "period": np.tile(np.arange(first_period, first_period + n_periods), n_lines),
        "flow_kw": flow.ravel(),
        "limit_kw": np.repeat(network.limit_kw[lines], n_periods),
    }
    return pa.table(columns, schema=FLOWS)


def prices_table(
    network: Network, result: ClearingResult, first_period: int = 0, buses: slice = slice(None)
) -> pa.Table:
    """prices.parquet: locational and settlement prices, by bus and period [currency/kWh]."""
    price = result.lmp_per_kwh[buses]
    n_buses, n_periods = price.shape
    columns = {
        "bus": np.repeat(network.bus_id[buses], n_periods),
        "period": np.tile(np.arange(first_period, first_period + n_periods), n_buses),
        "lmp_per_kwh": price.ravel(),
        "settlement_price_per_kwh": np.tile(result.settlement_price_per_kwh, n_buses),
    }
    return pa.table(columns, schema=PRICES)


def pieces(count: int, n_periods: int, rows: int) -> list[slice]:
    """Slices of `count` lines or buses that each make a table of at most so many rows."""
    step = max(1, rows // max(1, n_periods))
    return [slice(start, start + step) for start in range(0, max(count, 1), step)]
