"""The last days and the market day itself, as forecasters read them, and what they make of them.

Whoever runs the market day looks at its measured series here to forecast each of its periods when
orders are due, and afterwards to see what intervals held. No forecast sees its own period.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.dataset import (
    PERIOD_HOURS,
    STEPS_PER_DAY,
    Dataset,
    begin_of_day,
    draft_days,
    households,
    import_price,
    known_weather,
    past_weather,
)
from raygrid.learning.features import PAST_DAYS
from raygrid.learning.forecasting import quarter_hours
from raygrid.learning.inference import Forecaster
from raygrid.learning.network import HIGH, LOW
from raygrid.learning.preprocessing import Clock, DataReport
from raygrid.learning.weather import Weather
from raygrid.scenario.config import CommunityPopulation, Scenario


@dataclass(frozen=True)
class RecentDays:
    """Series of some days, `PAST_DAYS` or more, and of the market day after them.

    Attributes
    ----------
    data : Dataset
        Of all prosumers, in quarter hours.
    first_step : int
        Quarter hour of the market day at which its horizon begins.
    n_periods : int
        Its periods T, which are quarter hours.
    """

    data: Dataset
    first_step: int
    n_periods: int

    @property
    def day(self) -> int:
        """Which day of the series the market day is: the last."""
        return self.data.first_days[-1] - 1

    @property
    def midnight(self) -> datetime:
        """When it begins."""
        return self.data.clock.start + timedelta(days=self.day)

    @property
    def steps(self) -> IntArray:
        """(T,) the market's periods within the series."""
        first = self.day * STEPS_PER_DAY + self.first_step
        return np.arange(first, first + self.n_periods)

    def shortened(self, learnt_days: int) -> RecentDays:
        """With as much of the past as a forecast looks at, its scales being known.

        Parameters
        ----------
        learnt_days : int
            Days before the market day that training did not have.
        """
        data = self.data.until(self.day, PAST_DAYS).learnt_before(learnt_days)
        return replace(self, data=data)


def recent_days(
    scenario: Scenario, base_dir: Path, day: int = 0, n_past: int = PAST_DAYS
) -> RecentDays:
    """Draw a scenario's prosumers on a market day and the days before it.

    Parameters
    ----------
    scenario : Scenario
        With a population of source `community` and quarter hours.
    base_dir : Path
        Folder that its data paths are relative to.
    day : int
        Which of the days in a row, from 0.
    n_past : int
        Days before it.

    Raises
    ------
    InputError
        If there is no such past, or periods are no quarter hours.
    """
    horizon = scenario.horizon
    if not isinstance(scenario.population, CommunityPopulation) or horizon.dt != PERIOD_HOURS:
        raise InputError(
            f"periods of {horizon.dt:g} h, or prosumers without a past",
            f"{scenario.name}:horizon.period_hours",
            "forecast quarter hours of a population of source `community`",
        )
    begin = horizon.begin(day)
    midnight = begin_of_day(begin)
    start = midnight - timedelta(days=n_past)
    history = scenario.history
    draft = draft_days(scenario, base_dir, start, n_past + 1, history)
    n_periods = (n_past + 1) * STEPS_PER_DAY
    clock, whole = Clock(start, PERIOD_HOURS), Clock(start, PERIOD_HOURS)
    if history is not None:
        # Clouds are drawn from the history's first day on.
        whole = Clock(history.start, PERIOD_HOURS)
    before = (start - whole.start).days * STEPS_PER_DAY
    if before < 0:
        raise InputError(
            f"{begin.date()} has no {n_past} days of past",
            f"{scenario.name}:horizon.start",
            f"begin {n_past} days after the history or later",
        )
    known = known_weather(scenario, base_dir, whole, before + n_periods)
    weather = past_weather(scenario, draft)
    if known is not None:
        rows = slice(before, before + n_periods)
        weather = Weather(**{name: series[rows] for name, series in vars(known[0]).items()})
    past = n_past * STEPS_PER_DAY
    ids, load, pv, rating = households(scenario, draft.community, past)
    data = Dataset(
        name=scenario.name,
        clock=clock,
        first_days=(0, n_past, n_past, n_past + 1),
        prosumer_id=np.asarray(ids, dtype=np.int64),
        load_kw=load,
        pv_kw=pv,
        pv_rating_kw=rating,
        weather=weather,
        import_price_per_kwh=import_price(draft, n_periods),
        report=DataReport(),
    )
    first = quarter_hours((begin - midnight).total_seconds() / 3600.0, "horizon.start")
    return RecentDays(data, first, horizon.periods)


@dataclass(frozen=True)
class Interval:
    """Forecasts of one horizon with their intervals of 80 %; N prosumers, T periods.

    Loads are those without a price, before any elastic response.

    Attributes
    ----------
    prosumer_id : (N,) int64
        The prosumers.
    expected_kw, low_kw, high_kw : (N, T, 2) float64
        Load and PV [kW].
    """

    prosumer_id: IntArray
    expected_kw: FloatArray
    low_kw: FloatArray
    high_kw: FloatArray

    def at(self, prosumer_id: IntArray) -> Interval:
        """The same for these prosumers, each of whom is there."""
        rows = np.searchsorted(self.prosumer_id, prosumer_id)
        kept = (getattr(self, name)[rows] for name in ("expected_kw", "low_kw", "high_kw"))
        return Interval(prosumer_id, *kept)


def intervals(by: Forecaster, recent: RecentDays) -> Interval:
    """Forecast the market day: at its midnight, or each period when it begins.

    Parameters
    ----------
    by : Forecaster
        Of task 'day' or 'step', for these prosumers.
    recent : RecentDays
        What happened until then; what happened later is not looked at.
    """
    series, is_step = by.series(recent.data), by.spec.task == "step"
    found = by.forecast(series, recent.steps if is_step else np.array([recent.day]))
    expected, quantiles = found.expected[..., :2], found.quantiles[..., :2, :]
    if is_step:
        expected, quantiles = expected[:, :, 0], quantiles[:, :, 0]
    else:
        days = slice(recent.first_step, recent.first_step + recent.n_periods)
        expected, quantiles = expected[:, 0, days], quantiles[:, 0, days]
    return Interval(recent.data.prosumer_id, expected, quantiles[..., LOW], quantiles[..., HIGH])


def serves(by: Forecaster, recent: RecentDays) -> str:
    """Why weights are not for these prosumers; empty where they are.

    Weights that know each prosumer hold its PV rating, which every other seed draws anew.
    """
    data = recent.data
    if by.fits_anybody:
        return ""
    if not np.array_equal(by.prosumer_id, data.prosumer_id):
        return f"they know {len(by.prosumer_id)} prosumers, not these {len(data.prosumer_id)}"
    if not np.allclose(by.scaling.pv_rating_kw, data.pv_rating_kw, rtol=1e-6, atol=1e-9):
        return "they know other prosumers, of another seed or other settings"
    return ""
