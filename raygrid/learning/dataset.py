"""The series that forecasters learn from: a scenario's history, or measured readings."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.files import data_path
from raygrid.learning.preprocessing import (
    Clock,
    DataReport,
    Readings,
    align,
    check_load,
    check_pv,
    fill_gaps,
    read_readings,
)
from raygrid.prosumer.packed import PackedPopulation
from raygrid.prosumer.population import Prosumers
from raygrid.scenario.build import draft_case
from raygrid.scenario.config import Scenario, ShapedPopulation
from raygrid.scenario.shapes import read_columns

PERIOD_HOURS = 0.25
STEPS_PER_DAY = 96
WEATHER = ("ghi_w_per_m2", "clear_ghi_w_per_m2", "temperature_c", "humidity_percent")
AT_ONCE = 200
"""Prosumers whose long profiles are in memory at once, beside what is kept of them."""

FORECAST_MEMORY_HOURS = 6.0
INDEX_ERROR = (0.05, 0.20)
"""Standard deviation of the forecast clear-sky index at the issue time and 24 h later."""
TEMPERATURE_ERROR_C = (0.5, 2.0)
"""The same of the forecast temperature [deg C]."""


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


@dataclass(frozen=True)
class Dataset:
    """Loads and PV of prosumers on even quarter hours of whole days.

    Attributes
    ----------
    name : str
        The scenario's name.
    clock : Clock
        Where the periods lie.
    first_days : (int, int, int, int)
        First day of training, of validation, of the test, and the day after the last.
    prosumer_id : (N,) int64
        Ids, ascending.
    load_kw, pv_kw : (N, K) float32
        Household load and PV output [kW], without gaps.
    pv_rating_kw : (N,) float64
        Rating of each PV system, 0 without one [kW].
    weather : Weather
        At the community.
    import_price_per_kwh : (K,) float64
        Price of the grid.
    report : DataReport
        What was mended.
    """

    name: str
    clock: Clock
    first_days: tuple[int, int, int, int]
    prosumer_id: IntArray
    load_kw: FloatArray
    pv_kw: FloatArray
    pv_rating_kw: FloatArray
    weather: Weather
    import_price_per_kwh: FloatArray
    report: DataReport

    @property
    def n_periods(self) -> int:
        """Number of periods K."""
        return int(self.load_kw.shape[1])

    def days(self, part: str) -> range:
        """Days of a part of the split: 'train', 'validation' or 'test'."""
        k = ("train", "validation", "test").index(part)
        return range(self.first_days[k], self.first_days[k + 1])

    def steps(self, part: str) -> IntArray:
        """Periods of a part of the split."""
        days = self.days(part)
        return np.arange(days.start * STEPS_PER_DAY, days.stop * STEPS_PER_DAY)

    def rows(self, index: IntArray) -> Dataset:
        """The prosumers at these positions: what one of several hosts holds."""
        return replace(
            self,
            prosumer_id=self.prosumer_id[index],
            load_kw=self.load_kw[index],
            pv_kw=self.pv_kw[index],
            pv_rating_kw=self.pv_rating_kw[index],
        )

    def digest(self) -> str:
        """SHA-256 of what a forecaster can learn from, for manifests."""
        found = hashlib.sha256(repr((self.clock, self.first_days)).encode())
        for array in (self.prosumer_id, self.load_kw, self.pv_kw, self.pv_rating_kw):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update(self.weather.ghi_w_per_m2.tobytes())
        return found.hexdigest()


def build_dataset(scenario: Scenario, base_dir: Path, readings: Path | None = None) -> Dataset:
    """The history of a scenario's prosumers, or readings in its place.

    Parameters
    ----------
    scenario : Scenario
        With a `history` that names its weather.
    base_dir : Path
        Folder that data paths are relative to.
    readings : Path, optional
        Measured loads and PV (`raygrid.learning.preprocessing.read_readings`).

    Returns
    -------
    Dataset
        Checked, without gaps.

    Raises
    ------
    InputError
        If the scenario lacks what is needed, or data are missing or impossible.
    """
    history = scenario.history
    if history is None or history.weather is None:
        raise InputError(
            "no history with weather to learn from",
            f"{scenario.name}:history",
            "add the section, as in the scenario ai_tem",
        )
    clock = Clock(history.start, PERIOD_HOURS)
    n_periods = history.days * STEPS_PER_DAY
    weather, mended = read_weather(
        data_path(history.weather, base_dir), clock, n_periods, scenario.seed
    )
    horizon = scenario.horizon.model_copy(
        update={
            "start": history.start,
            "periods": n_periods,
            "period_hours": PERIOD_HOURS,
            "days": 1,
        }
    )
    draft = draft_case(scenario.model_copy(update={"horizon": horizon}), base_dir=base_dir)
    price = np.zeros(n_periods)
    if draft.tariffs is not None:
        price = draft.tariffs["import_price_per_kwh"]
    night = weather.clear_ghi_w_per_m2 <= 0
    if readings is None:
        source = scenario.population
        headroom = source.elastic_headroom if isinstance(source, ShapedPopulation) else np.inf
        parts = []
        for start in range(0, len(draft.community), AT_ONCE):
            stop = min(start + AT_ONCE, len(draft.community))
            built = draft.community.recipe(start, stop).build()
            people = built.rows(0, stop - start)
            load = people.fixed_load_kw + people.demand_limit_kw / headroom
            pv = people.generation_limit_kw
            rating = _rating(built, pv[:, : history.train_days * STEPS_PER_DAY])
            parts.append((people.prosumer_id, load.astype("f4"), pv.astype("f4"), rating))
        ids, load, pv, rating = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(ids)
        ids, load, pv, rating = (column[order] for column in (ids, load, pv, rating))
        report = mended
    else:
        found = read_readings(readings, clock, n_periods)
        ids = found.prosumer_id
        load, pv, rating, report = clean(found, clock, night, history.train_days * STEPS_PER_DAY)
        report = mended + report
    return Dataset(
        name=scenario.name,
        clock=clock,
        first_days=history.first_days,
        prosumer_id=np.asarray(ids, dtype=np.int64),
        load_kw=load,
        pv_kw=pv,
        pv_rating_kw=rating,
        weather=weather,
        import_price_per_kwh=price,
        report=report,
    )


def _rating(built: Prosumers, training_pv_kw: FloatArray) -> FloatArray:
    """Rating of the PV systems [kW]: as drawn, else the greatest output of the training days."""
    shaped = built.shaped[1] if isinstance(built, PackedPopulation) else None
    if shaped is None:
        return np.asarray(training_pv_kw.max(axis=1), dtype=np.float64)
    return shaped.scale


def clean(
    readings: Readings, clock: Clock, night: BoolArray, training: int
) -> tuple[FloatArray, FloatArray, FloatArray, DataReport]:
    """Fill, check and mend measured series.

    Parameters
    ----------
    readings : Readings
        Aligned readings.
    clock : Clock
        Where their periods lie.
    night : (K,) bool
        Where the sun is below the horizon.
    training : int
        Number of periods of the training days.

    Returns
    -------
    load_kw, pv_kw : (N, K) float32
        Without gaps and faults.
    rating_kw : (N,) float64
        Rating of the PV systems: their greatest output in the training days.
    report : DataReport
        What was mended.

    Raises
    ------
    InputError
        Names the first fault that cannot be mended.
    """
    load, pv = np.empty((2, *readings.load_kw.shape), dtype="f4")
    rating = np.zeros(len(load))
    report = DataReport()
    for row, prosumer in enumerate(readings.prosumer_id):
        what = f"{readings.path}: prosumer {prosumer}"
        series, filled = fill_gaps(readings.load_kw[row], f"{what}, load_kw", clock)
        check_load(series, f"{what}, load_kw", clock)
        load[row] = series
        series, more = fill_gaps(readings.pv_kw[row], f"{what}, pv_kw", clock)
        # The greatest output by day in training: no fault may pass as the rating.
        seen = series[:training]
        rating[row] = float(np.max(seen[~night[:training]], initial=0.0))
        series, mended = check_pv(series, rating[row], night, f"{what}, pv_kw", clock)
        pv[row] = series
        report += DataReport(filled=filled + more, night_pv=mended)
    return load, pv, rating, report


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
