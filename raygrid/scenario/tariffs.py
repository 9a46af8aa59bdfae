"""The grid connection of a case: prices by hour of day, and limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.files import data_path
from raygrid.prosumer.population import GridConnection
from raygrid.scenario.config import Horizon, PriceBlock, Scenario
from raygrid.scenario.resample import resample
from raygrid.scenario.tables import read_tariffs


def tariffs_of_day(scenario: Scenario, base_dir: Path, day: int) -> dict[str, FloatArray] | None:
    """Prices and limits of the grid connection on a day, as far as they are given.

    Parameters
    ----------
    scenario : Scenario
        A validated scenario.
    base_dir : Path
        Folder that its data paths are relative to.
    day : int
        Which of the days in a row, from 0; a table that has ended begins anew.

    Returns
    -------
    dict of str to (T,) float64, or None
        By the names of `GridConnection`; None without a grid connection.

    Raises
    ------
    InputError
        If a table is wrong, or the export price above the import price.
    """
    tariffs, horizon, name = scenario.tariffs, scenario.horizon, scenario.name
    if tariffs is None:
        return None
    first_hour = day * horizon.day_hours
    if tariffs.table is not None:
        arrays = read_tariffs(
            data_path(tariffs.table, base_dir),
            n_periods=horizon.periods,
            period_hours=horizon.dt,
            table_hours=tariffs.table_period_hours,
            first_hour=first_hour,
        )
    else:
        arrays = {
            key: _prices(name, getattr(tariffs, key), horizon, first_hour)
            for key in ("import_price_per_kwh", "export_price_per_kwh")
        }
        for key in ("import_limit_kw", "export_limit_kw"):
            value = getattr(tariffs, key)
            if value is not None:
                arrays[key] = np.full(horizon.periods, float(value))
    above = arrays["export_price_per_kwh"] > arrays["import_price_per_kwh"]
    if above.any():
        t = int(np.flatnonzero(above)[0])
        raise InputError(
            f"the export price {arrays['export_price_per_kwh'][t]:g} is above the import price "
            f"{arrays['import_price_per_kwh'][t]:g} in period {t}",
            f"{name}:tariffs.{'table' if tariffs.table else 'export_price_per_kwh'}",
            "lower it, or money could be made by buying and selling at once",
        )
    return arrays


def grid_connection(
    scenario: Scenario, arrays: dict[str, FloatArray], p_min_kw: FloatArray, p_max_kw: FloatArray
) -> GridConnection:
    """The grid connection; limits that are not given are above all that prosumers can do.

    Parameters
    ----------
    scenario : Scenario
        A validated scenario.
    arrays : dict of str to (T,) float64
        From `tariffs_of_day`.
    p_min_kw, p_max_kw : (B, T) float64
        Range of the prosumers' net injection per bus [kW].
    """
    needed = {"import_limit_kw": -p_min_kw.sum(axis=0), "export_limit_kw": p_max_kw.sum(axis=0)}
    limits = {
        key: np.full(len(most), float(max(most.max(), 0.0)) + 1.0) for key, most in needed.items()
    }
    penalty = scenario.tariffs is not None and scenario.tariffs.import_is_penalty
    return GridConnection(**(limits | arrays), size_weight=1.0, import_is_penalty=penalty)


def _row(values: FloatArray, from_hours: float, horizon: Horizon, first_hour: float) -> FloatArray:
    """One row of values, resampled to the horizon (T,)."""
    rows = resample(values[None, :], from_hours, horizon.dt, horizon.periods, first_hour)
    return np.asarray(rows[0])


def _prices(name: str, price: object, horizon: Horizon, first_hour: float) -> FloatArray:
    """Prices per period (T,) [currency/kWh] from any of their three forms."""
    n_periods = horizon.periods
    if isinstance(price, tuple) and isinstance(price[0], PriceBlock):
        # Blocks are averaged over each period, on a grid of minutes.
        minutes = np.zeros(24 * 60)
        for block in price:
            start, end = round(block.from_hour * 60), round(block.to_hour * 60)
            index = np.arange(start, end if end > start else end + 24 * 60) % (24 * 60)
            minutes[index] = block.price_per_kwh
        at = horizon.start
        hour = first_hour + at.hour + at.minute / 60 + at.second / 3600
        return _row(minutes, 1 / 60, horizon, hour % 24.0)
    if isinstance(price, tuple):
        if len(price) != n_periods:
            raise InputError(
                f"{len(price)} prices for {n_periods} periods",
                f"{name}:tariffs",
                "give one price a period, a single price, or time-of-use blocks",
            )
        return np.array(price, dtype=np.float64)
    return np.full(n_periods, price, dtype=np.float64)
