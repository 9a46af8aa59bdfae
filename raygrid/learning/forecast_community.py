"""A community as its prosumers forecast it for the day ahead: what they clear on.

Each host forecasts for its own prosumers, from what their shapes were on the days before. Nothing
of the day itself is in what it gets. A forecast depends on the prosumer alone, never on the host.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.learning.dataset import (
    PERIOD_HOURS,
    STEPS_PER_DAY,
    Dataset,
    begin_of_day,
    draft_days,
    first_midnight,
    import_price,
    known_weather,
    past_weather,
)
from raygrid.learning.features import (
    PAST_DAYS,
    SCALE_DAYS,
    Scaling,
    fit_scaling,
)
from raygrid.learning.forecasting import Naive, quarter_hours
from raygrid.learning.inference import Forecaster
from raygrid.learning.preprocessing import Clock, DataReport
from raygrid.learning.renewal import days_since_training, leaning, line_shares
from raygrid.learning.shape_rules import LearntShapes, NaiveShapes, ShapeRule
from raygrid.learning.typical import DaySums, day_sums, is_weekend
from raygrid.learning.weather import SKY_DAYS, Weather
from raygrid.prosumer.community import Community, Recipe
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile
from raygrid.prosumer.population import Population, Prosumers
from raygrid.scenario.config import CommunityPopulation, Scenario
from raygrid.scenario.drawn import DrawnCommunity


@dataclass(frozen=True)
class ForecastPart:
    """A recipe for prosumers with forecast loads and PV in place of the measured ones.

    Attributes
    ----------
    prosumers : Recipe
        How to build them as they will be measured.
    rule : ShapeRule
        How their day is forecast.
    flexible_share, elastic_headroom : float
        How load without a price is split into fixed and elastic.
    first_step, width, n_periods : int
        Quarter hour at which the horizon begins, those of a period, and the number of periods.
    """

    prosumers: Recipe
    rule: ShapeRule
    flexible_share: float
    elastic_headroom: float
    first_step: int
    width: int
    n_periods: int

    def build(self) -> Prosumers:
        """The prosumers as they are forecast."""
        built = self.prosumers.build()
        assert isinstance(built, PackedPopulation)  # `forecast_community` sees to it
        load, pv = (self._periods(profile) for profile in self.rule.forecast(built))
        flexible = self.flexible_share * load.shapes
        shaped = (
            built.shaped[0],
            pv,
            built.shaped[2],
            replace(load, shapes=self.elastic_headroom * flexible),
            replace(load, shapes=load.shapes - flexible),
        )
        return replace(built, shaped=shaped)

    def _periods(self, profile: ShapedProfile) -> ShapedProfile:
        end = self.first_step + self.width * self.n_periods
        steps = profile.shapes[:, self.first_step : end]
        means = steps.reshape(len(steps), self.n_periods, self.width).mean(axis=2)
        return replace(profile, shapes=means)


@dataclass(frozen=True)
class ForecastCommunity:
    """A community whose loads and PV are those of its prosumers' own forecasts.

    Parameters
    ----------
    community : Community
        The prosumers as they will be measured, for the stages after the clearing.
    part : ForecastPart
        How to forecast, the recipe of the prosumers to be filled in.
    """

    community: Community
    part: ForecastPart

    def __len__(self) -> int:
        return len(self.community)

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.community.n_periods

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host, forecast shapes of its own included [B]."""
        return self.community.bytes_each + 3 * 8.0 * self.n_periods

    def recipe(self, start: int, stop: int) -> ForecastPart:
        """How to build the prosumers at these positions."""
        return replace(self.part, prosumers=self.community.recipe(start, stop))

    def everyone(self) -> Population:
        """All prosumers in order of their ids."""
        everyone = self.recipe(0, len(self)).build().rows(0, len(self))
        return everyone.take(np.argsort(everyone.prosumer_id, kind="stable"))


def forecast_community(
    scenario: Scenario,
    base_dir: Path,
    community: Community,
    by: Forecaster | Naive,
    *,
    day: int = 0,
) -> Community:
    """A community as its prosumers forecast it at the midnight before a market day.

    Parameters
    ----------
    scenario : Scenario
        With a population of source `community`.
    base_dir : Path
        Folder that its data paths are relative to.
    community : Community
        The prosumers of that day as they will be measured.
    by : Forecaster or Naive
        Who forecasts: a forecaster of task 'day' with shared weights.
    day : int
        Which of the days in a row, from 0.

    Returns
    -------
    Community
        The given one for perfect forecasts, else a `ForecastCommunity`.

    Raises
    ------
    InputError
        If the horizon is not within one day, the community has no past, or weights do not fit.
    """
    if by is Naive.PERFECT:
        return community
    source, horizon = scenario.population, scenario.horizon
    if not isinstance(source, CommunityPopulation):
        raise InputError(
            "no past to forecast from",
            f"{scenario.name}:population",
            "forecast populations of source `community`, or clear on what is measured",
        )
    begin = horizon.begin(day)
    midnight = begin_of_day(begin)
    first_step = quarter_hours((begin - midnight).total_seconds() / 3600.0, "horizon.start")
    width = quarter_hours(horizon.dt, "horizon.period_hours")
    if first_step + width * horizon.periods > STEPS_PER_DAY:
        raise InputError(
            f"{horizon.periods} periods of {horizon.dt:g} h from {begin.isoformat()}",
            f"{scenario.name}:horizon",
            "forecasts reach to midnight: keep a market day within a day, or set "
            "stages.forecast=perfect",
        )
    past = _past(scenario, base_dir, midnight, days_of_past(scenario, base_dir, midnight, by))
    if isinstance(by, Forecaster):
        rule: ShapeRule = _learnt(by, past, scenario, len(community))
    else:
        lag = 1 if by is Naive.PERSISTENCE else PAST_DAYS
        rule = NaiveShapes(past.load[:, -lag - 1], past.pv[:, -lag - 1])
    part = ForecastPart(
        community.recipe(0, 0),
        rule,
        source.flexible_share,
        source.elastic_headroom,
        first_step,
        width,
        horizon.periods,
    )
    return ForecastCommunity(community, part)


def days_of_past(
    scenario: Scenario, base_dir: Path, midnight: datetime, by: Forecaster | Naive
) -> int:
    """Days before a midnight that forecasts look at: more where scales are taken from them, or
    loads are learnt from them.

    Raises
    ------
    InputError
        If fewer are known than forecasts need.
    """
    n_past = PAST_DAYS
    if isinstance(by, Forecaster):
        learnt = days_learnt_from(scenario, by, midnight)
        n_past = SCALE_DAYS + SKY_DAYS if by.fits_anybody else max(n_past, learnt)
    n_past = min(n_past, (midnight - first_midnight(scenario, base_dir)).days)
    if n_past < PAST_DAYS:
        raise InputError(
            f"{midnight.date()} has no {PAST_DAYS} days of past",
            f"{scenario.name}:horizon.start",
            f"begin {PAST_DAYS} days after the first that is known, or set stages.forecast=perfect",
        )
    return n_past


def days_learnt_from(scenario: Scenario, by: Forecaster, midnight: datetime) -> int:
    """Days since training that a market day's forecasts learn from; 0 where nothing is learnt."""
    if scenario.stages.update != "typical":
        return 0
    return days_since_training(by, midnight)


def leaning_today(
    scenario: Scenario, base_dir: Path, by: Forecaster, midnight: datetime
) -> Forecaster:
    """Weights for anybody with the line of PV that hosts forecast with on a market day.

    Parameters
    ----------
    scenario, base_dir
        As in `forecast_community`.
    by : Forecaster
        Which forecasts load and PV of the day ahead apart.
    midnight : datetime
        When the day begins.
    """
    n_past = days_of_past(scenario, base_dir, midnight, by)
    return _leaning(by, _past(scenario, base_dir, midnight, n_past))


def _leaning(by: Forecaster, past: _Past) -> Forecaster:
    roofs = _series_of_shapes(past, np.broadcast_to(past.load[0], past.pv.shape), past.pv, 1.0)
    return leaning(by, line_shares(by, roofs, np.array([past.pv.shape[1] - 1]))[0])


@dataclass(frozen=True)
class _Past:
    """Shapes on the days before a market day; the day itself, the last, is left empty.

    load (C, D + 1, 96) and pv (O, D + 1, 96) are per kW, calendar has no prosumers.
    """

    load: FloatArray
    pv: FloatArray
    calendar: Dataset

    @property
    def midnight(self) -> datetime:
        """When the market day begins."""
        return self.calendar.clock.start + timedelta(days=self.load.shape[1] - 1)


def _past(scenario: Scenario, base_dir: Path, midnight: datetime, n_past: int) -> _Past:
    source = scenario.population
    assert isinstance(source, CommunityPopulation)
    start = midnight - timedelta(days=n_past)
    draft = draft_days(scenario, base_dir, start, n_past + 1, scenario.history)
    shapes = draft.community
    assert isinstance(shapes, DrawnCommunity)
    n_periods = shapes.n_periods
    load = shapes.fixed_shapes + shapes.elastic_shapes / source.elastic_headroom
    load = load.reshape(-1, n_past + 1, STEPS_PER_DAY).copy()
    pv = shapes.pv_shapes.reshape(-1, n_past + 1, STEPS_PER_DAY).copy()
    load[:, -1] = pv[:, -1] = 0.0
    clock = Clock(start, PERIOD_HOURS)
    whole = Clock(start, PERIOD_HOURS)
    if scenario.history is not None:
        whole = Clock(scenario.history.start, PERIOD_HOURS)
    before = (start - whole.start).days * STEPS_PER_DAY
    known = known_weather(scenario, base_dir, whole, before + n_periods)
    weather = known[0] if known else past_weather(scenario, draft)
    weather = Weather(
        **{
            name: series[before : before + n_periods].copy()
            for name, series in vars(weather).items()
        }
    )
    for measured in (weather.ghi_w_per_m2, weather.temperature_c, weather.humidity_percent):
        measured[-STEPS_PER_DAY:] = 0.0
    nobody = np.zeros((0, n_periods))
    calendar = Dataset(
        scenario.name,
        clock,
        (0, n_past, n_past, n_past + 1),
        np.zeros(0, dtype=np.int64),
        nobody,
        nobody,
        np.zeros(0),
        weather,
        import_price(draft, n_periods),
        DataReport(),
    )
    return _Past(load, pv, calendar)


def _learnt(by: Forecaster, past: _Past, scenario: Scenario, n: int) -> LearntShapes:
    name, n_days, since = scenario.name, 0, None
    if by.spec.task != "day" or len(by.weights["embedding"]) != 1:
        raise InputError(
            "a forecaster of single steps, or with own weights of each prosumer",
            f"scenario {name}",
            "train one for the day ahead: raygrid train forecaster --task day --way shared",
        )
    ids = by.prosumer_id
    if by.fits_anybody and not by.spec.apart:
        raise InputError(
            "weights for anybody that forecast load and PV together",
            f"scenario {name}",
            "train them anew: raygrid train forecaster --task day --for-anybody",
        )
    if by.fits_anybody:
        by = _leaning(by, past)
        load_scaling, pv_scaling = _scaling_of_shapes(past)
        ids = ids[:0]
    else:
        load_scaling = pv_scaling = by.scaling
        if len(ids) < n or not np.array_equal(ids[:n], np.arange(1, n + 1)):
            raise InputError(
                f"the forecaster knows {len(ids)} prosumers, not these {n}",
                f"scenario {name}",
                "train weights for this scenario, or some that fit any prosumers",
            )
        n_days = days_learnt_from(scenario, by, past.midnight)
        since = _since(past, n_days)
    single = np.float32
    calendar = past.calendar.until(past.calendar.first_days[-1] - 1, PAST_DAYS)
    last = slice(-1 - PAST_DAYS, -1)
    return LearntShapes(
        by.spec,
        by.weights,
        calendar.learnt_before(n_days),
        past.load[:, last].astype(single),
        past.pv[:, last].astype(single),
        load_scaling,
        pv_scaling,
        ids,
        since,
    )


def _since(past: _Past, n_days: int) -> DaySums | None:
    """Sums of load shapes over the days since training, but for the last `PAST_DAYS`."""
    first, stop = (past.load.shape[1] - 1 - n for n in (n_days, PAST_DAYS))
    if first >= stop:
        return None
    load = past.load[:, first:stop].reshape(len(past.load), -1)
    return day_sums(load, is_weekend(past.calendar)[first * STEPS_PER_DAY : stop * STEPS_PER_DAY])


def _scaling_of_shapes(past: _Past) -> tuple[Scaling, Scaling]:
    """Scales of load shapes and of PV shapes, from the days before (of the last ones)."""
    of_load = _series_of_shapes(past, past.load, np.zeros_like(past.load), 0.0)
    of_pv = _series_of_shapes(past, np.zeros_like(past.pv), past.pv, 1.0)
    return fit_scaling(of_load), fit_scaling(of_pv)


def _series_of_shapes(past: _Past, load: FloatArray, pv: FloatArray, rating_kw: float) -> Dataset:
    """Shapes (n, D + 1, 96) as prosumers; the last `SCALE_DAYS` days are for training."""
    n, n_days = len(load), past.load.shape[1]
    first = max(0, n_days - 1 - SCALE_DAYS)
    return replace(
        past.calendar,
        first_days=(first, n_days - 1, n_days - 1, n_days),
        prosumer_id=np.arange(n),
        load_kw=load.reshape(n, -1).astype(np.float32),
        pv_kw=pv.reshape(n, -1).astype(np.float32),
        pv_rating_kw=np.full(n, rating_kw),
    )
