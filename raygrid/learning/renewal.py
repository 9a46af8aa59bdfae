"""Weights on a market day: what the days before it make of them.

Weights that know their prosumers learn what is typical of each load from the days since training.
Weights for anybody have the scales of the four weeks before. And their line of PV, fitted to other
weeks, is followed as far as the last days bear it out, where else yesterday's clear-sky index under
today's sun is forecast: under a sky without clouds that is next to exact.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import DAY_STEP, SCALE_DAYS, day_ahead
from raygrid.learning.inference import LEARNT_UNTIL, Forecaster, windows_of
from raygrid.learning.lines import direct_inputs
from raygrid.learning.network import DIRECT_B, DIRECT_W, NumpyOps
from raygrid.learning.typical import day_sums, is_weekend, learnt_typical

LEAN_DAYS = 7
"""Days before a market day that say how far its line of PV is followed."""


def training_end(data: Dataset) -> dict[str, str]:
    """What weights say of when the training days of their data end, see `days_since_training`."""
    end = data.clock.start + timedelta(days=data.days("train").stop)
    return {LEARNT_UNTIL: end.isoformat()}


def days_since_training(forecaster: Forecaster, midnight: datetime) -> int:
    """Days that weights which know their prosumers have not learnt from, 0 if it is not known."""
    until = forecaster.facts.get(LEARNT_UNTIL)
    if until is None or forecaster.fits_anybody:
        return 0
    return max(0, (midnight - datetime.fromisoformat(until)).days)


def with_days_since(forecaster: Forecaster, data: Dataset, day: int) -> Forecaster:
    """Weights that know their prosumers, with what is typical of each load at a midnight.

    Parameters
    ----------
    forecaster : Forecaster
        The weights.
    data : Dataset
        Their prosumers' series; the day itself and later ones are not looked at.
    day : int
        The day; of the days before it those since training count, as far as the series has them.
    """
    midnight = data.clock.start + timedelta(days=day)
    first = max(0, day - days_since_training(forecaster, midnight))
    if first == day:
        return forecaster
    steps = slice(first * STEPS_PER_DAY, day * STEPS_PER_DAY)
    sums = day_sums(data.load_kw[:, steps].astype(np.float64), is_weekend(data)[steps])
    scaling = forecaster.scaling
    since = sums.scaled(np.ones(len(data.load_kw)), scaling)
    return replace(forecaster, scaling=learnt_typical(scaling, since))


def renewed(forecaster: Forecaster, data: Dataset, days: IntArray) -> list[Forecaster]:
    """Weights for anybody, as they stand at the midnights before some days.

    Parameters
    ----------
    forecaster : Forecaster
        Which forecasts load and PV of the day ahead apart.
    data : Dataset
        The series of N prosumers; nothing of a day itself or later is looked at.
    days : (D,) int64
        Days, each with its past.

    Returns
    -------
    list of Forecaster
        One a day, with the scales of `SCALE_DAYS` days before it and the line of PV that
        `line_shares` says.
    """
    shares = line_shares(forecaster, data, days)
    return [
        leaning(forecaster.of(data.until(int(day), SCALE_DAYS)), share)
        for day, share in zip(days, shares, strict=True)
    ]


def line_shares(forecaster: Forecaster, data: Dataset, days: IntArray) -> FloatArray:
    """How far the line of PV is followed on some days, from how the days before went.

    What the line adds to yesterday's index is multiplied by the factor between 0 and 1 that would
    have erred least over the `LEAN_DAYS` days before, each seen with the scales of its own past.

    Parameters
    ----------
    forecaster, data, days
        As in `renewed`.

    Returns
    -------
    (D,) float64
        1 where no day before has its past, or nobody has PV.
    """
    _, earliest = windows_of(forecaster.spec)
    windows = [range(max(earliest, int(day) - LEAN_DAYS), int(day)) for day in days]
    looked_at = sorted(set().union(*windows))
    owners = data.rows(np.flatnonzero(data.pv_rating_kw > 0))
    sums = {day: _added_and_wanted(forecaster, owners, day) for day in looked_at}
    found = np.ones(len(days))
    for k, window in enumerate(windows):
        square, product = np.sum([(0.0, 0.0), *(sums[day] for day in window)], axis=0)
        if square > 0:
            found[k] = borne_out(square, product)
    return found


def borne_out(square: FloatArray, product: FloatArray) -> FloatArray:
    """Factors between 0 and 1 of what is added to a forecast, whose squared errors are least.

    Parameters
    ----------
    square : (...) float64
        Sum of what is added, squared; where it is 0 the factor is 0.
    product : (...) float64
        Sum of what is added times what should have been.
    """
    return np.asarray(np.clip(product / np.where(square > 0, square, np.inf), 0.0, 1.0))


def _added_and_wanted(forecaster: Forecaster, data: Dataset, day: int) -> tuple[float, float]:
    """What a day's line adds to yesterday's index, squared, and times what should be added."""
    recent = data.until(day, SCALE_DAYS)
    by = forecaster.of(recent)
    last = recent.first_days[-1] - 1
    windows = day_ahead(by.series(recent), by.scaling, np.array([last]))
    steps, known = windows.steps[None, :, 0], windows.known[None, :, 0]
    seen = direct_inputs(by.spec, steps, known, NumpyOps())[0]
    line = windows.anchor[:, 0, :, 1] + seen @ by.weights[DIRECT_W][0, :, 1]
    line += by.weights[DIRECT_B][0, :, 1]
    before = steps[0, ..., DAY_STEP.index("pv_index")]
    unit = windows.envelope_kw[:, 0] / data.pv_rating_kw[:, None]
    actual = windows.pv_kw[:, 0] / data.pv_rating_kw[:, None]
    naive = unit * before
    added = np.maximum(unit * line, 0.0) - naive
    return float((added**2).sum()), float((added * (actual - naive)).sum())


def leaning(forecaster: Forecaster, share: float) -> Forecaster:
    """The forecaster with a share of its line of PV, and for the rest yesterday's index.

    Yesterday's index being among the line's inputs, the result is a line again.

    Parameters
    ----------
    forecaster : Forecaster
        Which forecasts load and PV of the day ahead apart.
    share : float
        Between 0 and 1.
    """
    weights = {name: np.array(forecaster.weights[name]) for name in (DIRECT_W, DIRECT_B)}
    for value in weights.values():
        value[..., 1] *= share
    line = weights[DIRECT_W][..., 1]
    line[:, DAY_STEP.index("pv_index")] += 1.0 - share  # the first of its lags
    line[:, DAY_STEP.index("anchor_index")] -= 1.0 - share
    return replace(forecaster, weights=forecaster.weights | weights)
