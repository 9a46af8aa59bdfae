"""Forecasts of any days of a scenario's history, as the market reads them: two horizons, one shape.

The day ahead is forecast at each midnight, a step at its beginning; nothing after that is looked
at, but the weather that was forecast for the day. Networks and naive rules are asked alike.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.files import data_root
from raygrid.learning.baselines import SEASON, persistence
from raygrid.learning.dataset import PERIOD_HOURS, STEPS_PER_DAY, Dataset
from raygrid.learning.inference import Forecaster, load_forecaster, windows_of
from raygrid.learning.market_days import Predictions

WEIGHTS_FOLDER = "weights"


class Naive(StrEnum):
    """Rules that need no training."""

    PERSISTENCE = "persistence"
    """A step: the last one. The day ahead: the day before."""
    SEASONAL = "seasonal"
    """A step: that of the day before. The day ahead: the day a week before."""
    PERFECT = "perfect"
    """What will be measured: the bound that nobody can beat."""


def day_ahead_predictions(
    data: Dataset,
    by: Forecaster | Naive,
    days: IntArray | None = None,
    *,
    period_hours: float = PERIOD_HOURS,
) -> Predictions:
    """Forecast whole days, each at the midnight that it begins with.

    Parameters
    ----------
    data : Dataset
        The history; what happens after a midnight does not change that day's forecast.
    by : Forecaster or Naive
        Who forecasts; a forecaster of task 'day'.
    days : (D,) int64, optional
        Days of the history, in any order; all of them if left out.
    period_hours : float
        Length of the market's periods, whole quarter hours that fill a day [h].

    Returns
    -------
    Predictions
        Columns are the periods of these days, in their order. Days without their past are
        forecast as `typical_day`.
    """
    chosen = _days(data, days)
    steps = _steps(chosen)
    if isinstance(by, Forecaster):
        _of_task(by, "day")
        _, first = windows_of(by.spec)

        def forecast(known: IntArray) -> FloatArray:
            found = by.forecast(by.series(data), known).expected[..., :2]
            return found.reshape(len(found), -1, 2)

        values = _filled(data, chosen, first, forecast, steps)
    else:
        lag = SEASON if by is Naive.PERSISTENCE else 7 * SEASON
        values = _naive(data, by, steps, lag)
    return _predictions(data, values, period_hours)


def step_predictions(
    data: Dataset,
    by: Forecaster | Naive,
    days: IntArray | None = None,
    *,
    period_hours: float = PERIOD_HOURS,
) -> Predictions:
    """Forecast every period of some days at its beginning.

    Parameters
    ----------
    data, days, period_hours
        As in `day_ahead_predictions`.
    by : Forecaster or Naive
        Who forecasts; a forecaster of task 'step'.

    Returns
    -------
    Predictions
        Columns are the periods of these days, in their order. Steps without their past are
        forecast as `typical_day`.

    Raises
    ------
    InputError
        If a forecaster of quarter hours is asked for longer periods.
    """
    chosen = _days(data, days)
    steps = _steps(chosen)
    if isinstance(by, Forecaster):
        _of_task(by, "step")
        if period_hours != PERIOD_HOURS:
            raise InputError(
                f"periods of {period_hours:g} h, where forecasts one step ahead are of "
                f"{PERIOD_HOURS:g} h",
                f"scenario {data.name}",
                "choose horizon.period_hours=0.25",
            )
        _, first = windows_of(by.spec)

        def forecast(known: IntArray) -> FloatArray:
            return by.forecast(by.series(data), known).expected[:, :, 0, :2]

        values = _filled(data, steps, first, forecast, steps)
        return _predictions(data, values, period_hours)
    # The last period, not the last quarter hour, is what persistence goes by.
    width = quarter_hours(period_hours, "horizon.period_hours")
    lag = width if by is Naive.PERSISTENCE else SEASON
    values = _naive(data, by, steps, lag)
    return _predictions(data, values, period_hours)


LAST_ERROR = 0.6
"""How much of the last period's error a corrected forecast takes over."""
TELLING = 1e-3
"""Squared errors so far, over the squares of a day's forecast, below which they say nothing of
which rule is better: at dawn a forecast of hardly any sun errs by more than none at all."""


def forecast_when_due(ahead_kw: FloatArray, measured_kw: FloatArray) -> FloatArray:
    """Forecast periods when their orders are due, by the day's forecast and what happened so far.

    Either as the day ahead was, moved by `LAST_ERROR` times what the period before was missed by,
    or as the period before: whichever has erred less on this day so far over all prosumers. Where
    the day ahead is well forecast the first is, next to a naive forecast of loads the second.
    Until its errors add up to something (`TELLING`) the day ahead is gone by.

    Parameters
    ----------
    ahead_kw, measured_kw : (N, T) float64
        Loads or PV as they were forecast at midnight, and as they were measured; of a period itself
        and later ones its forecast sees nothing [kW].

    Returns
    -------
    (N, T) float64
        0 or more; the first period is as the day ahead was [kW].
    """
    moved = moved_by_last_error(ahead_kw, measured_kw)
    before = period_before(ahead_kw, measured_kw)
    missed = [((found - measured_kw) ** 2).sum(axis=0).cumsum() for found in (before, moved)]
    tells = missed[1] > TELLING * np.square(ahead_kw).sum()
    is_better = np.concatenate([[False], (tells & (missed[0] < missed[1]))[:-1]])
    return np.where(is_better, before, moved)


def moved_by_last_error(ahead_kw: FloatArray, measured_kw: FloatArray) -> FloatArray:
    """Each period as the day ahead was, moved by a part of the miss before it. All (N, T) [kW]."""
    moved = np.array(ahead_kw, dtype=np.float64)
    moved[:, 1:] += LAST_ERROR * (measured_kw - ahead_kw)[:, :-1]
    return np.maximum(moved, 0.0)


def period_before(ahead_kw: FloatArray, measured_kw: FloatArray) -> FloatArray:
    """Each period as the one before it was; the first as the day ahead was. All (N, T) [kW]."""
    return np.column_stack([ahead_kw[:, :1], measured_kw[:, :-1]])


def typical_day(data: Dataset) -> FloatArray:
    """Mean load and PV of the training days (N, 96, 2) by quarter hour [kW]."""
    steps = data.steps("train")
    both = np.stack([data.load_kw[:, steps], data.pv_kw[:, steps]], axis=2).astype(np.float64)
    return np.asarray(both.reshape(len(both), -1, STEPS_PER_DAY, 2).mean(axis=1))


def find_forecaster(
    scenario_name: str, base_dir: Path, task: str, data: Dataset, folder: Path | None = None
) -> tuple[Forecaster | None, str]:
    """The weights that a scenario's forecasts are made with.

    Parameters
    ----------
    scenario_name : str
        Name of the scenario.
    base_dir : Path
        Its folder, where weights stand in `weights/forecaster-TASK`.
    task : str
        'day' or 'step'.
    data : Dataset
        What the weights must fit.
    folder : Path, optional
        Weights that somebody asked for, in place of the scenario's.

    Returns
    -------
    forecaster : Forecaster or None
        None where the scenario has no weights, or they are of another seed or history.
    note : str
        Why there is none.

    Raises
    ------
    InputError
        If weights that were asked for do not fit.
    """
    if folder is not None:
        found = load_forecaster(folder, data)
        _of_task(found, task)
        return found, ""
    name = f"forecaster-{task}"
    places = [base_dir / WEIGHTS_FOLDER, data_root("scenarios") / scenario_name / WEIGHTS_FOLDER]
    for place in places:
        if (place / name).is_dir():
            try:
                return load_forecaster(place / name, data), ""
            except InputError as error:
                return None, f"no forecaster for this scenario: {error}"
    return None, f"no forecaster for this scenario: no {WEIGHTS_FOLDER}/{name} beside it"


def _of_task(forecaster: Forecaster, task: str) -> None:
    if forecaster.spec.task != task:
        raise InputError(
            f"a forecaster of task {forecaster.spec.task!r}, where {task!r} is needed",
            "forecast",
            f"train one by --task {task}",
        )


def _days(data: Dataset, days: IntArray | None) -> IntArray:
    n_days = data.n_periods // STEPS_PER_DAY
    if days is None:
        return np.arange(n_days)
    chosen = np.asarray(days, dtype=np.int64)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < n_days):
        raise InputError(
            f"days {chosen.min()} to {chosen.max()} are asked for",
            f"{data.name}:history",
            f"it has days 0 to {n_days - 1}",
        )
    return chosen


def _steps(days: IntArray) -> IntArray:
    return np.asarray((days[:, None] * STEPS_PER_DAY + np.arange(STEPS_PER_DAY)).reshape(-1))


def _filled(
    data: Dataset,
    at: IntArray,
    first: int,
    forecast: Callable[[IntArray], FloatArray],
    steps: IntArray,
) -> FloatArray:
    """Forecasts (N, K, 2) of all steps; those whose days or steps `at` are early are typical."""
    values = typical_day(data)[:, steps % STEPS_PER_DAY]
    early = at < first
    if not early.all():
        known = np.repeat(~early, len(steps) // len(at))
        values[:, known] = forecast(at[~early])
    return values


def _naive(data: Dataset, rule: Naive, steps: IntArray, lag: int) -> FloatArray:
    if rule is Naive.PERFECT:
        return persistence(data, steps, 0)
    values = typical_day(data)[:, steps % STEPS_PER_DAY]
    known = steps >= lag
    values[:, known] = persistence(data, steps[known], lag)
    return values


def quarter_hours(hours: float, where: str) -> int:
    """Quarter hours of a time; of a period they must fill a day.

    Raises
    ------
    InputError
        If they are not whole.
    """
    width = round(hours / PERIOD_HOURS)
    period = where.endswith("period_hours")
    if abs(width * PERIOD_HOURS - hours) > 1e-9 or (
        period and (width < 1 or STEPS_PER_DAY % width)
    ):
        what = f"periods of {hours:g} h are" if period else f"{hours:g} h after midnight is"
        raise InputError(
            f"{what} no whole quarter hours{' that fill a day' if period else ''}",
            where,
            "choose e.g. 0.25 or 1" if period else "begin at a quarter of an hour",
        )
    return width


def _predictions(data: Dataset, values: FloatArray, period_hours: float) -> Predictions:
    """Means over the market's periods."""
    width = quarter_hours(period_hours, "horizon.period_hours")
    means = values.reshape(len(values), -1, width, 2).mean(axis=2)
    return Predictions(data.prosumer_id, means[..., 0], means[..., 1])
