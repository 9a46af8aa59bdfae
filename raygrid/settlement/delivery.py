"""What a stored run hands to settlement: who takes part, what was traded and delivered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.market.sessions import n_sessions
from raygrid.prosumer.population import GRID_ID
from raygrid.results.files import SCENARIO
from raygrid.results.reader import RunReader
from raygrid.settlement.plan import ClearedTrades, Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.scenario.config import Scenario


@dataclass(frozen=True)
class Delivery:
    """A day's trades and what was delivered.

    Attributes
    ----------
    trades : ClearedTrades
        Trades of these periods.
    first_period : int
        Global index of the first period.
    p_kw : (M, T) float64
        Delivered net power in the registry's order [kW].
    sessions : int
        Number of sessions S of a period.
    """

    trades: ClearedTrades
    first_period: int
    p_kw: FloatArray
    sessions: int = 1

    @property
    def slots(self) -> IntArray:
        """(T * S,) global indices of the periods' sessions."""
        first, count = self.sessions * self.first_period, self.sessions * self.p_kw.shape[1]
        return first + np.arange(count, dtype=np.int64)


def stored_scenario(run: RunReader) -> Scenario:
    """The scenario of a stored run, every value in force."""
    from raygrid.scenario.load import load_scenario

    return load_scenario(run.path / SCENARIO)[0]


def stored_registry(run: RunReader) -> Registry:
    """Who takes part in a stored run: its prosumers and the grid connection, if it has one."""
    table = run.read_table("prosumers", ["prosumer_id"])
    return Registry.of(table["prosumer_id"].to_pylist())


def delivery_of(schedule: pa.Table, trades: pa.Table, registry: Registry) -> Delivery:
    """What was traded and delivered, from the rows of a day.

    Parameters
    ----------
    schedule : pyarrow.Table
        prosumer_id, period and p_kw of `schedule.parquet`, or of `intraday.parquet`, which has
        no grid connection: it delivers what all others draw.
    trades : pyarrow.Table
        Rows of `trades.parquet` of the same periods.
    registry : Registry
        Who takes part.

    Raises
    ------
    InputError
        If the schedule lacks somebody.
    """
    row = registry.chain_id(schedule["prosumer_id"].to_numpy())
    period = schedule["period"].to_numpy()
    first, last = int(period.min()), int(period.max())
    p_kw = np.full((len(registry), last - first + 1), np.nan)
    p_kw[row, period - first] = schedule["p_kw"].to_numpy()
    sessions = n_sessions(trades)
    if sessions > 1 and registry.prosumer_id[0] == GRID_ID:
        p_kw[0] = -p_kw[1:].sum(axis=0)
    if np.isnan(p_kw).any():
        raise InputError(
            "the schedule lacks a participant or a period",
            "schedule.parquet",
            "run the scenario again",
        )
    return Delivery(ClearedTrades.from_table(trades), first, p_kw, sessions)


DELIVERED = ["prosumer_id", "period", "p_kw"]
"""Columns of `schedule.parquet` or `intraday.parquet` that say what was delivered."""


def delivered_by(has_intraday: bool) -> str:
    """The table that says what was delivered: what was measured, where there was a stage for it."""
    return "intraday" if has_intraday else "schedule"


def stored_deliveries(run: RunReader, registry: Registry, n_periods: int) -> list[Delivery]:
    """What was traded and delivered on each day of a stored run.

    Parameters
    ----------
    run : RunReader
        The run; it needs trades and a schedule.
    registry : Registry
        Who takes part.
    n_periods : int
        Periods T of a day.

    Raises
    ------
    InputError
        If the run has no trades, or a schedule that lacks somebody.
    """
    if not run.has("trades.parquet"):
        raise InputError(
            "the run has no trades to settle",
            str(run.path),
            "settle a run whose market cleared and whose trades were matched",
        )
    name = delivered_by(run.has("intraday.parquet"))
    schedule, trades = run.read_table(name, DELIVERED), run.read_table("trades")
    days = [table["period"].to_numpy() // n_periods for table in (schedule, trades)]
    try:
        return [
            delivery_of(schedule.filter(days[0] == day), trades.filter(days[1] == day), registry)
            for day in np.unique(days[0]).tolist()
        ]
    except InputError as error:
        raise InputError(error.what, f"{run.path}, {error.where}", error.cure) from error
