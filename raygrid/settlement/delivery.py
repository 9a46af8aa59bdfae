"""What a stored run hands to settlement: who takes part, what was traded and delivered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.results.files import SCENARIO
from raygrid.results.reader import RunReader
from raygrid.settlement.plan import ClearedTrades, Registry

if TYPE_CHECKING:
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
    """

    trades: ClearedTrades
    first_period: int
    p_kw: FloatArray

    @property
    def periods(self) -> IntArray:
        """(T,) global indices of the periods."""
        return self.first_period + np.arange(self.p_kw.shape[1], dtype=np.int64)


def stored_scenario(run: RunReader) -> Scenario:
    """The scenario of a stored run, every value in force."""
    from raygrid.scenario.load import load_scenario

    return load_scenario(run.path / SCENARIO)[0]


def stored_registry(run: RunReader) -> Registry:
    """Who takes part in a stored run: its prosumers and the grid connection, if it has one."""
    table = run.read_table("prosumers", ["prosumer_id"])
    return Registry.of(table["prosumer_id"].to_pylist())


def stored_delivery(run: RunReader, registry: Registry) -> Delivery:
    """What was traded and delivered in a stored run.

    Parameters
    ----------
    run : RunReader
        The run; it needs trades and a schedule.
    registry : Registry
        Who takes part.

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
    schedule = run.read_table("schedule", ["prosumer_id", "period", "p_kw"])
    row = registry.chain_id(schedule["prosumer_id"].to_numpy())
    period = schedule["period"].to_numpy()
    first, last = int(period.min()), int(period.max())
    p_kw = np.full((len(registry), last - first + 1), np.nan)
    p_kw[row, period - first] = schedule["p_kw"].to_numpy()
    if np.isnan(p_kw).any():
        raise InputError(
            "the schedule lacks a participant or a period",
            str(run.path / "schedule.parquet"),
            "run the scenario again",
        )
    return Delivery(ClearedTrades.from_table(run.read_table("trades")), first, p_kw)
