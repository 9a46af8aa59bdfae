"""What a report shows of forecasts and the intraday auction, summed over all prosumers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.sessions import SESSIONS
from raygrid.results.reader import RunReader

FORECASTS = ("measured", "day ahead", "step ahead")


@dataclass(frozen=True)
class LearningData:
    """Sums over all prosumers by period; T periods.

    Attributes
    ----------
    load_kw, pv_kw : dict of str to (T,) float64
        As measured, as forecast a day ahead, and when orders were due, by `FORECASTS` [kW].
    traded_kwh : dict of str to (T,) float64
        Energy of each of `raygrid.market.sessions.SESSIONS` [kWh].
    price_per_kwh : (T,) float64
        Mean price of the intraday trades, for sellers; NaN where there were none [currency/kWh].
    curtailed_kwh : (T,) float64
        PV that was curtailed [kWh].
    """

    load_kw: dict[str, FloatArray]
    pv_kw: dict[str, FloatArray]
    traded_kwh: dict[str, FloatArray]
    price_per_kwh: FloatArray
    curtailed_kwh: FloatArray


def load_learning(run: RunReader, period: IntArray) -> LearningData | None:
    """The stages of a run, summed over prosumers part by part; None where it had none.

    Parameters
    ----------
    run : RunReader
        The run.
    period : (T,) int64
        Its periods.
    """
    if not (run.has("intraday.parquet") and run.has("forecasts.parquet")):
        return None
    hours = float(run.manifest["period_hours"])
    measured = _sums(run, "intraday", period, ("load_kw", "pv_kw", "curtailed_kw"))
    names = ("load_kw", "pv_kw", "step_load_kw", "step_pv_kw")
    forecast = _sums(run, "forecasts", period, names)

    def of(what: str) -> dict[str, FloatArray]:
        values = (measured[what], forecast[what], forecast[f"step_{what}"])
        return dict(zip(FORECASTS, values, strict=True))

    traded = {name: np.zeros(len(period)) for name in SESSIONS}
    value = np.zeros(len(period))
    for part in run.iter_table("trades", ["period", "energy_wh", "value_micro", "session"]):
        for name in SESSIONS:
            rows = part.filter(pc.equal(part["session"], name))
            at = np.searchsorted(period, rows["period"].to_numpy())
            np.add.at(traded[name], at, rows["energy_wh"].to_numpy() / 1e3)
            if name == "intraday":
                np.add.at(value, at, rows["value_micro"].to_numpy() / 1e6)
    energy = traded["intraday"]
    price = np.divide(value, energy, out=np.full(len(period), np.nan), where=energy > 0)
    return LearningData(of("load_kw"), of("pv_kw"), traded, price, measured["curtailed_kw"] * hours)


def _sums(
    run: RunReader, table: str, period: IntArray, names: tuple[str, ...]
) -> dict[str, FloatArray]:
    found = {name: np.zeros(len(period)) for name in names}
    for part in run.iter_table(table, ["period", *names]):
        at = np.searchsorted(period, part["period"].to_numpy())
        for name, sums in found.items():
            np.add.at(sums, at, part[name].to_numpy())
    return found
