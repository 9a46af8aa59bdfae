"""Weather of the days that are learnt from, and what was forecast of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.learning.preprocessing import Clock, DataReport, align, fill_gaps
from raygrid.scenario.shapes import read_columns

PERIOD_HOURS = 0.25
STEPS_PER_DAY = 96
WEATHER = ("ghi_w_per_m2", "clear_ghi_w_per_m2", "temperature_c", "humidity_percent")

FORECAST_MEMORY_HOURS = 6.0
INDEX_ERROR = (0.05, 0.20)
"""Standard deviation of the forecast clear-sky index at the issue time and 24 h later."""
TEMPERATURE_ERROR_C = (0.5, 2.0)
"""The same of the forecast temperature [deg C]."""

SKY_DAYS = 14
"""Days before, whose greatest PV output by quarter hour stands for a clear sky."""
FULL_SUN_W = 1000.0
"""Irradiance at which PV gives its rating [W/m2]."""
MILD = (20.0, 50.0)
"""Temperature [deg C] and humidity [%] where no weather is known."""


@dataclass(frozen=True)
class Weather:
    """Weather at the community, and what was forecast of it; all (K,) float64.

    Attributes
    ----------
    ghi_w_per_m2, clear_ghi_w_per_m2 : (K,) float64
        Global horizontal irradiance as measured, and under a clear sky [W/m2].
    temperature_c, humidity_percent : (K,) float64
        Air [deg C] and relative humidity [%].
    forecast_ghi_w_per_m2, forecast_temperature_c : (K,) float64
        What was forecast for each period at the midnight before it.
    """

    ghi_w_per_m2: FloatArray
    clear_ghi_w_per_m2: FloatArray
    temperature_c: FloatArray
    humidity_percent: FloatArray
    forecast_ghi_w_per_m2: FloatArray
    forecast_temperature_c: FloatArray


def weather_of_past(pv_share: FloatArray) -> Weather:
    """Where no weather is known, the greatest PV output of the days before is the clear sky.

    Parameters
    ----------
    pv_share : (K,) float64
        Mean output of all kinds of PV systems, of their rating.

    Returns
    -------
    Weather
        Irradiance of each day depends on the `SKY_DAYS` days before it alone (that of the first
        day on itself); temperature and humidity do not change.
    """
    by_day = pv_share.reshape(-1, STEPS_PER_DAY)
    sky = np.stack(
        [by_day[max(0, d - SKY_DAYS) : max(d, 1)].max(axis=0) for d in range(len(by_day))]
    ).reshape(-1)
    ghi = FULL_SUN_W * sky
    air, humidity = (np.full(len(ghi), value) for value in MILD)
    return Weather(ghi, ghi, air, humidity, ghi, air)


def read_weather(path: Path, clock: Clock, n_periods: int, seed: int) -> tuple[Weather, DataReport]:
    """Weather of the history, and a forecast of it.

    Parameters
    ----------
    path : Path
        Parquet table with the columns of `WEATHER`; its metadata give `start` and `period_hours`.
    clock : Clock
        Periods that it is brought to.
    n_periods : int
        Number K of periods.
    seed : int
        Seed of the forecast's errors.

    Returns
    -------
    weather : Weather
        Without gaps.
    report : DataReport
        What was mended.

    Raises
    ------
    InputError
        If a column is missing, or the table does not hold the history.
    """
    values, start, pitch = read_columns(path, WEATHER)
    hours = np.arange(values.shape[1], dtype=np.float64) * pitch
    hours -= (clock.start - start).total_seconds() / 3600.0
    if hours[0] > 0 or hours[-1] + pitch < n_periods * clock.period_hours - 1e-9:
        raise InputError(
            f"does not hold the history, which begins on {clock.start.date()} and has "
            f"{n_periods // STEPS_PER_DAY} days",
            str(path),
            "give weather for all of it",
        )
    columns, filled = {}, 0
    for name, series in zip(WEATHER, values, strict=True):
        even = align(hours, series, n_periods, clock.period_hours)
        columns[name], count = fill_gaps(even, f"{path}, {name}", clock)
        filled += count
    ghi, temperature = forecast_weather(
        columns["ghi_w_per_m2"], columns["clear_ghi_w_per_m2"], columns["temperature_c"], seed
    )
    weather = Weather(**columns, forecast_ghi_w_per_m2=ghi, forecast_temperature_c=temperature)
    return weather, DataReport(filled=filled)


def forecast_weather(
    ghi: FloatArray, clear_ghi: FloatArray, temperature: FloatArray, seed: int
) -> tuple[FloatArray, FloatArray]:
    """A weather service's forecast of each day, issued at the midnight before it.

    It knows the hourly course of the clear-sky index but no clouds shorter than an hour, and errs
    by a process of 6 h memory whose standard deviation grows over the day, in the index from 0.05
    to 0.20 and in temperature from 0.5 to 2 deg C.

    Parameters
    ----------
    ghi, clear_ghi : (K,) float64
        Irradiance as it will be, and under a clear sky [W/m2].
    temperature : (K,) float64
        As it will be [deg C].
    seed : int
        Seed of the errors; a day's errors do not depend on how many days there are.

    Returns
    -------
    (K,) float64, (K,) float64
        Forecast irradiance [W/m2] and temperature [deg C].
    """
    days = len(ghi) // STEPS_PER_DAY
    per_hour = round(1 / PERIOD_HOURS)
    by_hour = np.repeat(
        ghi.reshape(-1, per_hour).mean(axis=1)
        / np.maximum(clear_ghi.reshape(-1, per_hour).mean(axis=1), 1.0),
        per_hour,
    )
    keep = np.exp(-PERIOD_HOURS / FORECAST_MEMORY_HOURS)
    errors = np.empty((2, days, STEPS_PER_DAY))
    for day in range(days):
        random = np.random.default_rng([seed, zlib.crc32(b"weather forecast"), day])
        shocks = random.standard_normal((2, STEPS_PER_DAY))
        errors[:, day, 0] = shocks[:, 0]
        for k in range(1, STEPS_PER_DAY):
            errors[:, day, k] = keep * errors[:, day, k - 1] + np.sqrt(1 - keep**2) * shocks[:, k]
    growth = np.sqrt(np.arange(1, STEPS_PER_DAY + 1) / STEPS_PER_DAY)
    index_error, air_error = (
        ((low + (high - low) * growth) * error).reshape(-1)
        for (low, high), error in zip((INDEX_ERROR, TEMPERATURE_ERROR_C), errors, strict=True)
    )
    index = np.clip(by_hour + index_error, 0.05, 1.2)
    return index * clear_ghi, temperature + air_error
