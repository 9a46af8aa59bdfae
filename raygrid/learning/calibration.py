"""What validation days say of trained forecasters: widths of intervals, and what networks add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import SCALE_DAYS
from raygrid.learning.inference import (
    SUN_SHARES,
    Forecast,
    Forecaster,
    spread_out,
    sun_heights,
    windows_of,
)
from raygrid.learning.network import HIGH, LEVELS, LOW, MEDIAN, TARGETS
from raygrid.learning.renewal import borne_out, renewed

CALIBRATION_STRIDE = 5
"""Every so many steps count in a calibration; their errors are alike over prosumers."""
INTERVAL = LEVELS[HIGH] - LEVELS[LOW]
"""What intervals should hold."""
OUTSIDE = 1.0 - INTERVAL
"""Share that may be outside of an interval."""
RATE = 0.5
"""A day that falls out of its intervals altogether widens them by a half."""
RECENT_DAYS = 30
"""Days before the first one forecast whose outcomes `forecast_in_turn` begins to follow."""


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
    spread = np.ones((len(TARGETS), len(SUN_SHARES) + 1), dtype=np.float32)
    for k, height, some in groups(misses.counts, misses.sun):
        if some.any():
            spread[k, height] = np.quantile(misses.ratio[k][some], INTERVAL)
    return replace(forecaster, spread=spread)


def moved(spread: FloatArray, outside: IntArray, counted: IntArray) -> FloatArray:
    """Widths of intervals after a day of which a share fell outside.

    Each moves by ``exp(RATE (share - OUTSIDE))``, so that in the long run a fifth is outside,
    whatever the forecasts are.

    Parameters
    ----------
    spread : (...) float64
        Factors of the widths.
    outside, counted : (...) int64
        Samples outside of their interval, and all that count; where none do, nothing moves.

    References
    ----------
    I. Gibbs, E. Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021,
    equation (2), with a day as its step; here the width moves rather than the level.
    """
    share = outside / np.maximum(counted, 1)
    return np.asarray(spread * np.where(counted > 0, np.exp(RATE * (share - OUTSIDE)), 1.0))


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

    @property
    def counts(self) -> BoolArray:
        """(3, N, B, H) samples that have an interval."""
        return np.isfinite(self.ratio)


def _steps(forecaster: Forecaster, at: IntArray) -> IntArray:
    """(B, H) steps that forecasts of these steps or days (B,) are of."""
    if forecaster.spec.task == "step":
        return at[:, None]
    return at[:, None] * STEPS_PER_DAY + np.arange(STEPS_PER_DAY)


def _made(forecaster: Forecaster, data: Dataset, at: IntArray) -> tuple[Forecast, IntArray]:
    """Forecasts of steps or days, and the heights of the sun (N, B, H).

    Where load and PV are forecast apart, which is for any prosumers, the forecaster is `renewed`
    for each day, as on a market day: a line that was fitted with scales of the winter looks better
    beside them than it is.
    """
    if not forecaster.spec.apart:
        series = forecaster.series(data)
        envelope = series.envelope_kw[:, _steps(forecaster, at)]
        return forecaster.forecast(series, at), sun_heights(forecaster.scaling, envelope)
    parts, heights = [], []
    for day, by in zip(at, renewed(forecaster, data, at), strict=True):
        recent = data.until(int(day), SCALE_DAYS)
        last = np.array(recent.days("test"))
        series = by.series(recent)
        parts.append(by.forecast(series, last))
        heights.append(sun_heights(by.scaling, series.envelope_kw[:, _steps(by, last)]))
    made = (np.concatenate([getattr(p, k) for p in parts], axis=1) for k in vars(parts[0]))
    return Forecast(*made), np.concatenate(heights, axis=1)


def _misses(forecaster: Forecaster, data: Dataset, at: IntArray) -> _Misses:
    plain, sun = _made(replace(forecaster, spread=np.ones_like(forecaster.spread)), data, at)
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
    return _Misses(plain, np.stack(ratios), sun)


def groups(counts: BoolArray, sun: IntArray) -> Iterator[tuple[int, int, BoolArray]]:
    """Which samples have one factor of their interval's width.

    Parameters
    ----------
    counts : (K, ...) bool
        Samples that count, of the first K of `TARGETS`.
    sun : (...) int64
        Height of the sun (`SUN_SHARES`), by which those of PV are told apart.

    Yields
    ------
    target, height, samples
        Of loads and net the same samples at every height.
    """
    for k, some in enumerate(counts):
        for height in range(len(SUN_SHARES) + 1):
            yield k, height, some & (sun == height) if TARGETS[k] == "pv" else some


def forecast_in_turn(forecaster: Forecaster, data: Dataset, days: range) -> Forecast:
    """Forecast days in a row, the intervals following how the days before went (`moved`).

    Skies change with the season, and by how much forecasts have lately erred is known. The widths
    begin as calibrated, `RECENT_DAYS` before the first of the days. Expected values and medians are
    those of `Forecaster.forecast`.

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
    """
    _, earliest = windows_of(forecaster.spec)
    each = STEPS_PER_DAY if forecaster.spec.task == "step" else 1
    stride = CALIBRATION_STRIDE if each > 1 else 1
    first = max(days.start - RECENT_DAYS, -(-earliest // each))
    at = np.arange(first * each, days.stop * each)
    counts = at % stride == 0
    wanted = at >= days.start * each
    at, counts, wanted = (x[counts | wanted] for x in (at, counts, wanted))
    misses = _misses(forecaster, data, at)
    quantiles = misses.plain.quantiles
    spread = np.array(forecaster.spread, dtype=np.float64)
    for day in range(first, days.stop):
        today = at // each == day
        if day >= days.start:
            quantiles[:, today] = spread_out(quantiles[:, today], misses.sun[:, today], spread)
        outside, counted = np.zeros((2, *spread.shape), dtype=np.int64)
        of_today = (today & counts)[:, None]
        for k, height, some in groups(misses.counts & of_today, misses.sun):
            counted[k, height] = some.sum()
            outside[k, height] = (misses.ratio[k][some] > spread[k, height]).sum()
        spread = moved(spread, outside, counted)
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

    def scaled(factors: FloatArray) -> Forecaster:
        changed = {}
        for name in ("head2.w", "head2.b"):
            value = np.array(forecaster.weights[name], order="C")
            columns = value.reshape(*value.shape[:2], spec.head_steps, len(TARGETS), -1)
            columns[..., :2, 0] *= factors[:, None, None].astype(np.float32)
            changed[name] = value
        return replace(forecaster, weights=forecaster.weights | changed)

    def expected(of: Forecaster) -> FloatArray:
        return _made(of, data, at)[0].expected[..., :2]

    steps = _steps(forecaster, at)
    actual = np.stack([data.load_kw[:, steps], data.pv_kw[:, steps]], axis=-1)
    unit = np.stack([scaling.load_std_kw, np.maximum(scaling.pv_rating_kw, 1e-9)], axis=-1)
    line = expected(scaled(np.zeros((models, 2))))
    added, wanted = (
        ((values - line) / unit[:, None, None]).reshape(models, -1, 2)
        for values in (expected(forecaster), actual)
    )
    return scaled(borne_out((added**2).sum(axis=1), (added * wanted).sum(axis=1)))
