"""What validation days say of trained forecasters: widths of intervals, and what networks add."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.inference import (
    SUN_SHARES,
    Forecast,
    Forecaster,
    spread_out,
    sun_heights,
    windows_of,
)
from raygrid.learning.network import HIGH, LEVELS, LOW, MEDIAN, TARGETS

CALIBRATION_STRIDE = 5
"""Every so many steps count in a calibration; their errors are alike over prosumers."""
INTERVAL = LEVELS[HIGH] - LEVELS[LOW]
"""What intervals should hold."""
RECENT_DAYS = 30
"""Days that `forecast_in_turn` calibrates on."""
ADAPTION = 0.1
"""How fast its shares follow what a day's intervals held."""
SHARES_WITHIN = (0.5, 0.99)


def calibrate(forecaster: Forecaster, data: Dataset, at: IntArray) -> Forecaster:
    """Widen or narrow the intervals so that 80 % hold what happened at validation times.

    Split conformal prediction over all prosumers: how far what happened lies from the median,
    over the distance of the interval's bound on that side, has the wanted factor as its 80 %
    quantile. Of PV only times of day count, apart for each height of the sun.

    Parameters
    ----------
    forecaster : Forecaster
        Whose spread is left aside.
    data : Dataset
        What happened.
    at : (B,) int64
        Steps or days of the validation part.

    Returns
    -------
    Forecaster
        The same with another spread.

    References
    ----------
    Y. Romano, E. Patterson, E. Candes, "Conformalized quantile regression", NeurIPS 2019.
    """
    misses = _misses(forecaster, data, at)
    shares = np.full(len(TARGETS), INTERVAL)
    return replace(forecaster, spread=_spread(misses, np.ones(len(at), dtype=bool), shares))


@dataclass(frozen=True)
class _Misses:
    """By how much forecasts of N prosumers at B times missed.

    Attributes
    ----------
    plain : Forecast
        With a spread of 1.
    ratio : (3, N, B, H) float64
        Distance of what happened from the median over that of the bound on that side, of load, PV
        and net; NaN where there is no interval (PV by night).
    sun : (N, B, H) int64
        Height of the sun (`SUN_SHARES`).
    """

    plain: Forecast
    ratio: FloatArray
    sun: IntArray


def _steps(forecaster: Forecaster, at: IntArray) -> IntArray:
    """(B, H) steps that forecasts of these steps or days (B,) are of."""
    if forecaster.spec.task == "step":
        return at[:, None]
    return at[:, None] * STEPS_PER_DAY + np.arange(STEPS_PER_DAY)


def _misses(forecaster: Forecaster, data: Dataset, at: IntArray) -> _Misses:
    series = forecaster.series(data)
    plain = replace(forecaster, spread=np.ones_like(forecaster.spread)).forecast(series, at)
    steps = _steps(forecaster, at)
    load, pv = data.load_kw[:, steps].astype(float), data.pv_kw[:, steps].astype(float)
    ratios = []
    for k, actual in enumerate((load, pv, pv - load)):
        quantiles = plain.quantiles[..., k, :]
        away = actual - quantiles[..., MEDIAN]
        bound = np.where(away > 0, quantiles[..., HIGH], quantiles[..., LOW])
        width = np.abs(bound - quantiles[..., MEDIAN])
        counts = width > 1e-6 * forecaster.scaling.load_std_kw[:, None, None]
        ratios.append(np.where(counts, np.abs(away) / np.where(counts, width, 1.0), np.nan))
    return _Misses(
        plain, np.stack(ratios), sun_heights(forecaster.scaling, series.envelope_kw[:, steps])
    )


def _spread(misses: _Misses, times: BoolArray, shares: FloatArray) -> Any:
    """Factors that make intervals of some times hold these shares (3,) of what happened."""
    spread = np.ones((len(TARGETS), len(SUN_SHARES) + 1), dtype=np.float32)
    sun = misses.sun[:, times]
    for k, share in enumerate(shares):
        ratio = misses.ratio[k][:, times]
        counts = np.isfinite(ratio)
        for height in range(len(SUN_SHARES) + 1):
            some = counts & (sun == height) if TARGETS[k] == "pv" else counts
            if some.any():
                spread[k, height] = np.quantile(ratio[some], share)
    return spread


def _held(misses: _Misses, times: BoolArray, spread: Any) -> FloatArray:
    """Share (3,) that intervals of this spread hold, `INTERVAL` where there are none."""
    factor = np.stack([row[misses.sun[:, times]] for row in spread])
    ratio = misses.ratio[:, :, times]
    counts = np.isfinite(ratio)
    held, of = ((x.sum(axis=(1, 2, 3))) for x in (counts & (ratio <= factor), counts))
    return np.asarray(np.where(of > 0, held / np.maximum(of, 1), INTERVAL))


def forecast_in_turn(forecaster: Forecaster, data: Dataset, days: range) -> Forecast:
    """Forecast days in a row, the intervals calibrated again each day on those before.

    Skies change with the season, and by how much forecasts have lately erred is known. Each day's
    factors make the intervals of the `RECENT_DAYS` days before hold a share of what happened. That
    share begins at 80 % as many days earlier, and after each day moves by `ADAPTION` times what the
    day's intervals held too little or too much (adaptive conformal inference), so that over many
    days they hold 80 % however skies drift. Expected values and medians are those of
    `Forecaster.forecast`.

    Parameters
    ----------
    forecaster : Forecaster
        Of either task.
    data : Dataset
        The series; only what was known before each day is looked at.
    days : range
        Days that are forecast.

    Returns
    -------
    Forecast
        Of their steps, or of the days.

    References
    ----------
    I. Gibbs, E. Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021,
    equation (2), with a day as its step.
    """
    _, earliest = windows_of(forecaster.spec)
    each = STEPS_PER_DAY if forecaster.spec.task == "step" else 1
    stride = CALIBRATION_STRIDE if each > 1 else 1
    first = max(days.start - 2 * RECENT_DAYS, -(-earliest // each))
    at = np.arange(first * each, days.stop * each)
    counts = at % stride == 0
    wanted = at >= days.start * each
    at, counts, wanted = (x[counts | wanted] for x in (at, counts, wanted))
    misses = _misses(forecaster, data, at)
    quantiles = misses.plain.quantiles
    shares = np.full(len(TARGETS), INTERVAL)
    for day in range(min(first + RECENT_DAYS, days.start), days.stop):
        today = at // each == day
        before = counts & (at < day * each) & (at >= (day - RECENT_DAYS) * each)
        spread = _spread(misses, before, shares)
        if day >= days.start:
            quantiles[:, today] = spread_out(quantiles[:, today], misses.sun[:, today], spread)
        shares = shares + ADAPTION * (INTERVAL - _held(misses, today & counts, spread))
        shares = np.clip(shares, *SHARES_WITHIN)
    return Forecast(misses.plain.expected[:, wanted], quantiles[:, wanted])


def temper(forecaster: Forecaster, data: Dataset, at: IntArray) -> Forecaster:
    """Shrink what the network adds to expected load and PV to what validation times bear out.

    What it adds to its line (plain networks: to their anchor) is multiplied by the factor between
    0 and 1 whose squared error is least, one for load and one for PV of each model: trained on four
    months of weather, a network says more about the next day's sky than it knows.

    Parameters
    ----------
    forecaster : Forecaster
        As trained.
    data : Dataset
        What happened.
    at : (B,) int64
        Steps or days of the validation part.

    Returns
    -------
    Forecaster
        The same with the last layer's columns scaled.
    """
    spec, scaling = forecaster.spec, forecaster.scaling
    models = len(forecaster.weights["embedding"])
    series = forecaster.series(data)

    def scaled(factors: FloatArray) -> Forecaster:
        changed = {}
        for name in ("head2.w", "head2.b"):
            value = np.array(forecaster.weights[name], order="C")
            columns = value.reshape(*value.shape[:2], spec.head_steps, len(TARGETS), -1)
            columns[..., :2, 0] *= factors[:, None, None].astype(np.float32)
            changed[name] = value
        return replace(forecaster, weights=forecaster.weights | changed)

    def expected(of: Forecaster) -> FloatArray:
        return of.forecast(series, at).expected[..., :2]

    steps = _steps(forecaster, at)
    actual = np.stack([series.load_kw[:, steps], series.pv_kw[:, steps]], axis=-1)
    unit = np.stack([scaling.load_std_kw, np.maximum(scaling.pv_rating_kw, 1e-9)], axis=-1)
    line = expected(scaled(np.zeros((models, 2))))
    added, wanted = (
        ((values - line) / unit[:, None, None]).reshape(models, -1, 2)
        for values in (expected(forecaster), actual)
    )
    square = (added**2).sum(axis=1)
    factors = (added * wanted).sum(axis=1) / np.where(square > 0, square, 1.0)
    return scaled(np.clip(factors, 0.0, 1.0))
