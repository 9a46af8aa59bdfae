"""The series that forecasters learn from: a scenario's history, or measured readings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.files import data_path
from raygrid.learning.preprocessing import (
    Clock,
    DataReport,
    Readings,
    check_load,
    check_pv,
    fill_gaps,
    read_readings,
)
from raygrid.learning.weather import PERIOD_HOURS as PERIOD_HOURS
from raygrid.learning.weather import STEPS_PER_DAY as STEPS_PER_DAY
from raygrid.learning.weather import Weather, read_weather, weather_of_past
from raygrid.prosumer.community import Community, Recipe
from raygrid.prosumer.packed import PackedPopulation
from raygrid.prosumer.population import Prosumers
from raygrid.scenario.build import CaseDraft, draft_case
from raygrid.scenario.config import CommunityPopulation, Scenario, ShapedPopulation
from raygrid.scenario.drawn import DrawnCommunity
from raygrid.scenario.history import DAYS_PER_WEEK, History
from raygrid.scenario.shapes import read_shapes

AT_ONCE = 200
"""Prosumers whose long profiles are in memory at once, beside what is kept of them."""

VALIDATION_DAYS = 14
"""Of a history that a scenario does not state itself."""
LEAST_TRAIN_DAYS = 14


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

    def until(self, day: int, days_before: int) -> Dataset:
        """The series of a day, the last, and of so many days before it, which are for training.

        Parameters
        ----------
        day : int
            Which day.
        days_before : int
            At most; fewer where the series begins later.
        """
        first = max(0, day - days_before)
        steps = slice(first * STEPS_PER_DAY, (day + 1) * STEPS_PER_DAY)
        start = self.clock.start + timedelta(days=first)
        return replace(
            self,
            clock=replace(self.clock, start=start),
            first_days=(0, day - first, day - first, day - first + 1),
            load_kw=self.load_kw[:, steps],
            pv_kw=self.pv_kw[:, steps],
            weather=Weather(**{name: v[steps] for name, v in vars(self.weather).items()}),
            import_price_per_kwh=self.import_price_per_kwh[steps],
        )

    def learnt_before(self, n_days: int) -> Dataset:
        """The series of days before a last one, of which the last few come after training.

        Parameters
        ----------
        n_days : int
            Days between those of training and the last one; at most all are.
        """
        last = self.first_days[-1] - 1
        trained = max(0, last - n_days)
        return replace(self, first_days=(0, trained, last, last + 1))

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
    history = history_of(scenario, base_dir)
    clock = Clock(history.start, PERIOD_HOURS)
    n_periods = history.days * STEPS_PER_DAY
    known = known_weather(scenario, base_dir, clock, n_periods)
    draft = draft_days(scenario, base_dir, history.start, history.days, history)
    weather, report = known or (past_weather(scenario, draft), DataReport())
    training = history.train_days * STEPS_PER_DAY
    if readings is None:
        ids, load, pv, rating = households(scenario, draft.community, training)
    else:
        found = read_readings(readings, clock, n_periods)
        ids = found.prosumer_id
        night = weather.clear_ghi_w_per_m2 <= 0
        load, pv, rating, mended = clean(found, clock, night, training)
        report += mended
    return Dataset(
        name=scenario.name,
        clock=clock,
        first_days=history.first_days,
        prosumer_id=np.asarray(ids, dtype=np.int64),
        load_kw=load,
        pv_kw=pv,
        pv_rating_kw=rating,
        weather=weather,
        import_price_per_kwh=import_price(draft, n_periods),
        report=report,
    )


def history_of(scenario: Scenario, base_dir: Path) -> History:
    """The days that a scenario is learnt from: those it states, else all before its own.

    Of households that are drawn from shapes of a year, these are the days of the table before the
    horizon begins. The last of them, which a household may take its market day from, train nobody.

    Raises
    ------
    InputError
        If it states none and its prosumers have no past, or too little.
    """
    source = scenario.population
    if scenario.history is not None:
        return scenario.history
    where = f"{scenario.name}:history"
    if not isinstance(source, CommunityPopulation):
        raise InputError(
            "no history to learn from", where, "add the section, as in the scenario ai_tem"
        )
    begin = scenario.horizon.start
    days = (begin - first_midnight(scenario, base_dir)).days
    test = DAYS_PER_WEEK * source.max_week_shift + 1
    train = days - test - VALIDATION_DAYS
    if train < LEAST_TRAIN_DAYS:
        raise InputError(
            f"{days} days of load shapes before {begin.date()} are too few to learn from",
            "horizon.start",
            f"begin {LEAST_TRAIN_DAYS - train} days later, or add the section `history`",
        )
    return History(
        start=begin_of_day(begin) - timedelta(days=days),
        train_days=train,
        validation_days=VALIDATION_DAYS,
        test_days=test,
        weather=None,
    )


def first_midnight(scenario: Scenario, base_dir: Path) -> datetime:
    """The first midnight that a community's prosumers are known from.

    Parameters
    ----------
    scenario : Scenario
        With a population of source `community`.
    base_dir : Path
        Folder that its data paths are relative to.
    """
    if scenario.history is not None:
        return scenario.history.start
    source = scenario.population
    assert isinstance(source, CommunityPopulation)
    return read_shapes(data_path(source.load_shapes, base_dir), source.household_shapes[:1]).start


def begin_of_day(time: datetime) -> datetime:
    """The midnight before a time."""
    return datetime(time.year, time.month, time.day)


def draft_days(
    scenario: Scenario, base_dir: Path, start: datetime, days: int, history: History | None
) -> CaseDraft:
    """A scenario's prosumers and tariffs in quarter hours on days from a midnight on.

    Parameters
    ----------
    scenario : Scenario
        Whose.
    base_dir : Path
        Folder that data paths are relative to.
    start : datetime
        The midnight.
    days : int
        Number of days.
    history : History or None
        Within whose parts households are shifted.
    """
    horizon = scenario.horizon.model_copy(
        update={
            "start": start,
            "periods": days * STEPS_PER_DAY,
            "period_hours": PERIOD_HOURS,
            "days": 1,
        }
    )
    changed = scenario.model_copy(update={"horizon": horizon, "history": history})
    return draft_case(changed, base_dir=base_dir)


def import_price(draft: CaseDraft, n_periods: int) -> FloatArray:
    """Price of the grid (K,), 0 without one [currency/kWh]."""
    if draft.tariffs is None:
        return np.zeros(n_periods)
    return np.asarray(draft.tariffs["import_price_per_kwh"])


def known_weather(
    scenario: Scenario, base_dir: Path, clock: Clock, n_periods: int
) -> tuple[Weather, DataReport] | None:
    """Weather of some days of the history, where it names a table."""
    history = scenario.history
    if history is None or history.weather is None:
        return None
    return read_weather(data_path(history.weather, base_dir), clock, n_periods, scenario.seed)


def past_weather(scenario: Scenario, draft: CaseDraft) -> Weather:
    """What the PV of the days before tells of the sun, where no weather is known."""
    community = draft.community
    if not isinstance(community, DrawnCommunity):
        raise InputError(
            "no weather to learn from",
            f"{scenario.name}:history",
            "add `weather`, as in the scenario ai_tem",
        )
    return weather_of_past(community.pv_shapes.mean(axis=0))


def households(
    scenario: Scenario, community: Community, training: int
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Loads and PV of a community, a few prosumers at a time; see `series_of`, ids ascending."""
    parts = []
    for start in range(0, len(community), AT_ONCE):
        recipe = community.recipe(start, min(start + AT_ONCE, len(community)))
        parts.append(series_of(recipe.build(), elastic_headroom(scenario), training))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0])
    ids, load, pv, rating = (column[order] for column in columns)
    return ids, load, pv, rating


def elastic_headroom(scenario: Scenario) -> float:
    """Limit of the elastic demand over the load that it stands for."""
    source = scenario.population
    return source.elastic_headroom if isinstance(source, ShapedPopulation) else np.inf


def series_of(
    built: Prosumers, headroom: float, training: int
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """What forecasters learn of some prosumers.

    Parameters
    ----------
    built : Prosumers
        In quarter hours.
    headroom : float
        As of `elastic_headroom`.
    training : int
        Number of periods, from the first on, that an unknown PV rating is taken from.

    Returns
    -------
    prosumer_id : (n,) int64
        Whose.
    load_kw, pv_kw : (n, K) float32
        Load without a price, and PV output [kW].
    rating_kw : (n,) float64
        Rating of the PV systems [kW].
    """
    people = built.rows(0, len(built))
    load = people.fixed_load_kw + people.demand_limit_kw / headroom
    pv = people.generation_limit_kw
    rating = _rating(built, pv[:, :training])
    return people.prosumer_id, load.astype("f4"), pv.astype("f4"), rating


@dataclass(frozen=True)
class DatasetPart:
    """A recipe for the series of some prosumers, for whoever hosts them.

    Attributes
    ----------
    calendar : Dataset
        No prosumers: clock, split, weather and price.
    prosumers : Recipe
        How to build them in quarter hours.
    headroom : float
        As of `elastic_headroom`.
    """

    calendar: Dataset
    prosumers: Recipe
    headroom: float

    def build(self) -> Dataset:
        """Their series, ids ascending."""
        training = self.calendar.first_days[1] * STEPS_PER_DAY
        ids, load, pv, rating = series_of(self.prosumers.build(), self.headroom, training)
        order = np.argsort(ids)
        return replace(
            self.calendar,
            prosumer_id=ids[order],
            load_kw=load[order],
            pv_kw=pv[order],
            pv_rating_kw=rating[order],
        )


def dataset_parts(
    scenario: Scenario, base_dir: Path, data: Dataset, bounds: Sequence[tuple[int, int]]
) -> list[DatasetPart]:
    """Recipes for parts of a scenario's history.

    Parameters
    ----------
    scenario, base_dir
        As in `build_dataset`.
    data : Dataset
        What that made.
    bounds : sequence of (int, int)
        First and last but one position of each part, by bus and id.
    """
    history = history_of(scenario, base_dir)
    draft = draft_days(scenario, base_dir, history.start, history.days, history)
    calendar, headroom = data.rows(np.zeros(0, dtype=np.int64)), elastic_headroom(scenario)
    return [
        DatasetPart(calendar, draft.community.recipe(start, stop), headroom)
        for start, stop in bounds
    ]


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
