"""What forecasters see: steps behind, what is known of the steps ahead, and targets.

A forecaster is told the clear-sky index of a prosumer's PV, its output over an envelope that
follows the sun; it forecasts that index, and nights are dark without learning it. The envelope of
a prosumer is clear-sky irradiance times, for each quarter hour of the day, the greatest ratio of
output to it in the training days. Everything that is fitted here is fitted to training days.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.preprocessing import DataReport, clip, fences
from raygrid.learning.typical import day_sums, is_weekend, typical_in_turn

STEPS_BEHIND = 24
"""Input window of AI-TEM V.C: six hours."""
LAG_DAYS = (1, 2, 7)
PAST_DAYS = max(LAG_DAYS)
"""Days before that a forecast of the day ahead looks at."""
OWN = ("load", "pv", "pv_index", "has_pv", "load_log", "roughness")
"""Channels of each prosumer and step. The logarithm tells small loads apart, which lie close
together beside evening peaks; roughness is by how much the PV index has changed lately."""
PUBLIC = ("irradiance", "clear_sky", "sky_index", "temperature", "humidity", "forecast_index")
"""Channels of each step that all prosumers share; how the sky was forecast at the midnight before
tells by how much that forecast errs today."""
CALENDAR = ("day_sine", "day_cosine", "half_day_sine", "half_day_cosine", "weekend", "price")
AHEAD = ("forecast_index", "forecast_temperature", "clear_sky", "index_next", "index_in_an_hour")
"""What is known of a step ahead, beside the calendar: forecasts for it, and where the sky was
forecast to go from there."""
TYPICAL = ("typical_load", "typical_load_before", "load_deviation")
"""What training days say of a household's load at that time of day, and a step before."""
KNOWN = (*CALENDAR, *AHEAD, "anchor_load", "anchor_index", "envelope_share", "has_pv", *TYPICAL)
"""Channels of a step ahead, of each prosumer."""
LAGGED = ("load", "pv_index") * len(LAG_DAYS) + ("unusual_load",) * len(LAG_DAYS)
"""Channels of a step ahead at its lags: loads over what is typical of their own day as well, which
says more after a weekend."""
DAY_STEP = (*LAGGED, *KNOWN)
"""Channels of a step of the day ahead."""
OF_LOAD = ("load", "unusual_load", "anchor_load", *TYPICAL)
"""Those that tell of a household's load."""
SCALE_DAYS = 28
"""Days before a market day, that scales are taken from where weights fit any prosumers."""
DARK = 0.02
"""Share of the rating below which an envelope is taken for night, and has no index."""
MIN_CLEAR_W = 10.0
INDEX_LIMIT = 1.5
SMALL_LOAD = 0.05
"""Share of the mean load below which the logarithm tells no more."""
ROUGH = 0.1
"""Unit of roughness."""
LATELY = 8
"""Steps that roughness goes back."""
ENVELOPE_SPREAD = 2
"""Quarter hours on either side that the envelope's ratio is smoothed over."""


COMMON_SCALES = ("typical_days", "weather_mean", "weather_std", "price_mean", "price_std")
"""Scales that all prosumers share."""


@dataclass(frozen=True)
class Scaling:
    """What training days say of each prosumer; kept with the weights.

    Attributes
    ----------
    load_mean_kw, load_std_kw, load_peak_kw : (N,) float64
        Of the training days.
    load_typical, load_varied : (N, 2, 96) float64
        Mean and deviation of normalised load by quarter hour, on working days and weekends, over
        the quarter hours around.
    typical_days : (2,) float64
        Days of either kind that they are of, 1 or more.
    load_fence_kw : (N,) float64
        Loads above it are outliers, which inputs (never targets) are clipped at.
    pv_rating_kw : (N,) float64
        0 without PV.
    pv_ratio : (N, 96) float64
        Envelope over clear-sky irradiance, by quarter hour of the day [kW per W/m2].
    net_std_kw : (N,) float64
        Of PV less load in the training days.
    weather_mean, weather_std : (2,) float64
        Of temperature and humidity.
    price_mean, price_std : () float64
        Of the import price.
    """

    load_mean_kw: FloatArray
    load_std_kw: FloatArray
    load_peak_kw: FloatArray
    load_typical: FloatArray
    load_varied: FloatArray
    typical_days: FloatArray
    load_fence_kw: FloatArray
    pv_rating_kw: FloatArray
    pv_ratio: FloatArray
    net_std_kw: FloatArray
    weather_mean: FloatArray
    weather_std: FloatArray
    price_mean: FloatArray
    price_std: FloatArray

    def arrays(self) -> dict[str, FloatArray]:
        """The arrays by name, as they are stored beside weights."""
        return {f"scaling.{f.name}": np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: dict[str, Any]) -> Scaling:
        """From stored arrays."""
        return cls(**{f.name: arrays[f"scaling.{f.name}"] for f in fields(cls)})

    def rows(self, index: IntArray) -> Scaling:
        """Scales of the prosumers at these positions."""
        names = {f.name for f in fields(self)} - set(COMMON_SCALES)
        return replace(self, **{name: getattr(self, name)[index] for name in names})


def fit_scaling(data: Dataset) -> Scaling:
    """Take scales, fences and envelopes from the training days of a data set."""
    steps = data.steps("train")
    load, pv = data.load_kw[:, steps].astype(float), data.pv_kw[:, steps].astype(float)
    fence = np.array([fences(row, logarithmic=True)[1] for row in load])
    clear = data.weather.clear_ghi_w_per_m2[steps].reshape(-1, STEPS_PER_DAY)
    by_day = pv.reshape(len(pv), -1, STEPS_PER_DAY)
    ratio = np.where(clear > MIN_CLEAR_W, by_day / np.maximum(clear, MIN_CLEAR_W), 0.0)
    highest = np.quantile(ratio, 0.98, axis=1)
    padded = np.pad(highest, ((0, 0), (ENVELOPE_SPREAD, ENVELOPE_SPREAD)), mode="wrap")
    window = 2 * ENVELOPE_SPREAD + 1
    envelope = np.lib.stride_tricks.sliding_window_view(padded, window, axis=1).max(axis=2)
    weather = np.stack([data.weather.temperature_c, data.weather.humidity_percent])[:, steps]
    price = data.import_price_per_kwh[steps]
    mean, std = load.mean(axis=1), np.maximum(load.std(axis=1), 1e-6)
    normal = (load - mean[:, None]) / std[:, None]
    sums = day_sums(normal, is_weekend(data)[steps])
    typical, varied = sums.of_all_days()
    return Scaling(
        load_mean_kw=mean,
        load_std_kw=std,
        load_typical=typical,
        load_varied=varied,
        typical_days=np.maximum(sums.days, 1.0),
        load_peak_kw=np.maximum(load.max(axis=1), 1e-6),
        load_fence_kw=np.where(np.isfinite(fence), fence, load.max(axis=1)),
        pv_rating_kw=data.pv_rating_kw,
        pv_ratio=envelope,
        net_std_kw=np.maximum((pv - load).std(axis=1), 1e-6),
        weather_mean=weather.mean(axis=1),
        weather_std=np.maximum(weather.std(axis=1), 1e-6),
        price_mean=np.asarray(price.mean()),
        price_std=np.asarray(max(float(price.std()), 1e-6)),
    )


def roughness(index: FloatArray, lit: BoolArray) -> FloatArray:
    """Root mean square change of a PV index (N, K) over the last `LATELY` steps by day."""
    both = lit.copy()
    both[:, 1:] &= lit[:, :-1]
    both[:, 0] = False
    change = np.where(both, np.diff(index, axis=1, prepend=0.0), 0.0)

    def lately(values: FloatArray) -> FloatArray:
        total = np.cumsum(values, axis=1)
        total[:, LATELY:] -= total[:, :-LATELY].copy()
        return total

    mean = lately(change**2) / np.maximum(lately(both.astype(float)), 1.0)
    return np.asarray(np.sqrt(np.maximum(mean, 0.0)) / ROUGH)


@dataclass(frozen=True)
class Series:
    """All channels of a data set, from which windows are cut; float32.

    Attributes
    ----------
    own : (N, K, 6) array
        Channels `OWN`: normalised load, PV and its index over their scales, 1 with PV, and so on.
    public : (K, 6) array
        Channels `PUBLIC`.
    calendar : (K, 6) array
        Channels `CALENDAR`.
    ahead : (K, 5) array
        Channels `AHEAD`, as they were known at the midnight before.
    typical : (N, K, 3) array
        Channels `TYPICAL`.
    envelope_kw : (N, K) array
        Greatest PV output under the sun of each step [kW].
    load_kw, pv_kw : (N, K) array
        Targets [kW]: what happened, outliers and all.
    report : DataReport
        Outliers that were clipped.
    """

    own: Any
    public: Any
    calendar: Any
    ahead: Any
    typical: Any
    envelope_kw: Any
    load_kw: Any
    pv_kw: Any
    report: DataReport


def make_series(
    data: Dataset, scaling: Scaling, *, recent: bool = True, dark: float = DARK
) -> Series:
    """Normalise a data set into channels.

    What is typical of a load is what its scales say, which is of the training days; on later days
    the days in between count as well.

    Parameters
    ----------
    data : Dataset
        The series.
    scaling : Scaling
        Their scales.
    recent : bool
        Whether channels that only forecasts of one step see (load_log, roughness) are filled in;
        forecasts of the day ahead do without.
    dark : float
        Share of the rating below which an envelope has no index.
    """
    n, n_periods = data.load_kw.shape
    fence = scaling.load_fence_kw.astype(data.load_kw.dtype)[:, None]
    clipped, count = clip(data.load_kw, (0.0, fence))
    weather = data.weather
    clear = weather.clear_ghi_w_per_m2
    envelope = scaling.pv_ratio[:, np.arange(n_periods) % STEPS_PER_DAY] * clear
    floor = np.maximum(dark * scaling.pv_rating_kw, 1e-9)[:, None]
    index = np.where(envelope > floor, data.pv_kw / np.maximum(envelope, floor), 0.0)
    index = np.clip(index, 0.0, INDEX_LIMIT)
    has_pv = scaling.pv_rating_kw > 0
    nothing = np.broadcast_to(0.0, (n, n_periods))
    own = np.stack(
        [
            (clipped - scaling.load_mean_kw[:, None]) / scaling.load_std_kw[:, None],
            data.pv_kw / np.maximum(scaling.pv_rating_kw, 1e-9)[:, None],
            index,
            np.broadcast_to(has_pv[:, None], (n, n_periods)),
            np.log(clipped / scaling.load_mean_kw[:, None] + SMALL_LOAD) if recent else nothing,
            roughness(index, envelope > floor) if recent else nothing,
        ],
        axis=2,
    )
    own[~has_pv, :, 1:4] = own[~has_pv, :, 5:] = 0.0
    day_light = clear > MIN_CLEAR_W

    def sky(ghi: FloatArray) -> FloatArray:
        return np.asarray(np.where(day_light, ghi / np.maximum(clear, MIN_CLEAR_W), 0.0))

    air = (weather.temperature_c - scaling.weather_mean[0]) / scaling.weather_std[0]
    humidity = (weather.humidity_percent - scaling.weather_mean[1]) / scaling.weather_std[1]
    forecast_air = (weather.forecast_temperature_c - scaling.weather_mean[0]) / (
        scaling.weather_std[0]
    )
    ghi = weather.ghi_w_per_m2
    course = hourly_course(sky(weather.forecast_ghi_w_per_m2), day_light)
    turn = 2 * np.pi * (np.arange(n_periods) % STEPS_PER_DAY) / STEPS_PER_DAY
    weekend = is_weekend(data)
    price = (data.import_price_per_kwh - scaling.price_mean) / scaling.price_std
    single = np.float32
    return Series(
        own=own.astype(single),
        public=np.stack([ghi / 1e3, clear / 1e3, sky(ghi), air, humidity, course], axis=1).astype(
            single
        ),
        calendar=np.stack(
            [np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn), weekend, price], axis=1
        ).astype(single),
        ahead=np.stack(
            [course, forecast_air, clear / 1e3, later(course, 1), later(course, 4)], axis=1
        ).astype(single),
        typical=typical_in_turn(data, scaling, weekend).astype(single),
        envelope_kw=np.maximum(envelope, 0.0).astype(single),
        load_kw=data.load_kw.astype(single),
        pv_kw=data.pv_kw.astype(single),
        report=DataReport(clipped=count),
    )


def hourly_course(index: FloatArray, day_light: BoolArray) -> FloatArray:
    """A forecast clear-sky index of hours, interpolated between their middles within each day.

    Parameters
    ----------
    index : (K,) float64
        Forecast for each step.
    day_light : (K,) bool
        Where there is sun.

    Returns
    -------
    (K,) float64
        The course; 0 by night.
    """
    per_hour = STEPS_PER_DAY // 24
    middle = (np.arange(STEPS_PER_DAY) + 0.5) / per_hour
    course = np.zeros(len(index))
    days, lit = index.reshape(-1, 24, per_hour), day_light.reshape(-1, 24, per_hour)
    for day in range(len(days)):
        count = lit[day].sum(axis=1)
        hours = np.flatnonzero(count)
        if len(hours):
            mean = (days[day] * lit[day]).sum(axis=1)[hours] / count[hours]
            steps = slice(day * STEPS_PER_DAY, (day + 1) * STEPS_PER_DAY)
            course[steps] = np.interp(middle, hours + 0.5, mean)
    return np.asarray(np.where(day_light, course, 0.0))


def later(values: FloatArray, steps: int) -> FloatArray:
    """Values (K,) so many steps on, the day's last ones repeated: the next day's are not known."""
    by_day = values.reshape(-1, STEPS_PER_DAY)
    return by_day[:, np.minimum(np.arange(STEPS_PER_DAY) + steps, STEPS_PER_DAY - 1)].reshape(-1)


@dataclass(frozen=True)
class Windows:
    """A batch of samples: N prosumers at B times each.

    Attributes
    ----------
    steps : (N, B, S, C) float32
        Input steps: those behind (one step ahead), or those of the day ahead with their lags.
    known : (N, B, H, D) float32
        What is known of each step ahead.
    anchor : (N, B, H, 2) float32
        Load (normalised) and PV index that forecasts start from.
    envelope_kw : (N, B, H) float32
        PV envelope of each step ahead [kW].
    load_kw, pv_kw : (N, B, H) float32
        Targets [kW].
    """

    steps: Any
    known: Any
    anchor: Any
    envelope_kw: Any
    load_kw: Any
    pv_kw: Any


STEP_CHANNELS = len(OWN) + len(PUBLIC) + len(CALENDAR)
KNOWN_CHANNELS = len(KNOWN)
DAY_CHANNELS = len(DAY_STEP)
FIRST_STEP = PAST_DAYS * STEPS_PER_DAY
"""First period that has all lags."""


def _of_each(channels: Any, at: IntArray) -> Any:
    """Channels (N, K, ...) of all prosumers at the same steps (B, S), or each's own (N, B, S)."""
    if at.ndim == 2:
        return channels[:, at]
    return channels[np.arange(len(channels))[:, None, None], at]


def _of_all(channels: Any, at: IntArray, n: int) -> Any:
    """Channels (K, C) that N prosumers share at these steps: (N, B, S, C)."""
    found = channels[at]
    return found if at.ndim == 3 else np.broadcast_to(found, (n, *found.shape))


def _known(series: Series, ahead: IntArray, anchor: Any, envelope_share: Any) -> Any:
    """What is known of steps ahead (B, H), or (N, B, H), for each prosumer (N, B, H, D)."""
    n = len(series.own)
    public = [_of_all(channels, ahead, n) for channels in (series.calendar, series.ahead)]
    has_pv = np.broadcast_to(series.own[:, :1, 3, None], envelope_share.shape)
    own = np.stack([anchor[..., 0], anchor[..., 1], envelope_share, has_pv], axis=3)
    return np.concatenate([*public, own, _of_each(series.typical, ahead)], axis=3)


def one_step(series: Series, scaling: Scaling, times: IntArray) -> Windows:
    """Samples for one step ahead: 24 steps behind each time, the step itself ahead.

    Parameters
    ----------
    series : Series
        Channels of the prosumers.
    scaling : Scaling
        Their scales.
    times : (B,) or (N, B) int64
        Periods that are forecast, `STEPS_BEHIND` or later; of all prosumers, or of each its own.

    Returns
    -------
    Windows
        H is 1; the anchor is the last step.
    """
    behind = times[..., None] - np.arange(STEPS_BEHIND, 0, -1)
    own = _of_each(series.own, behind)
    public = [_of_all(channels, behind, len(own)) for channels in (series.public, series.calendar)]
    steps = np.concatenate([own, *public], axis=3)
    ahead = times[..., None]
    anchor = own[:, :, -1:, (0, 2)]
    return _finish(series, scaling, ahead, steps, anchor)


def day_ahead(series: Series, scaling: Scaling, days: IntArray) -> Windows:
    """Samples for the day ahead, known at its midnight: lags of 1, 2 and 7 days, and forecasts.

    Parameters
    ----------
    series, scaling
        As in `one_step`.
    days : (B,) or (N, B) int64
        Days that are forecast, 7 or later; of all prosumers, or of each its own.

    Returns
    -------
    Windows
        S and H are 96; the anchor is the mean of the lags in load, the forecast sky in PV.
    """
    ahead = days[..., None] * STEPS_PER_DAY + np.arange(STEPS_PER_DAY)
    lags = [_of_each(series.own, ahead - lag * STEPS_PER_DAY) for lag in LAG_DAYS]
    load = np.mean([lag[..., 0] for lag in lags], axis=0)
    sky = np.minimum(series.ahead[ahead, 0], 1.0) * series.own[:, :1, 3, None]
    anchor = np.stack([load, sky], axis=3).astype(np.float32)
    found = _finish(series, scaling, ahead, None, anchor)
    own = np.concatenate([lag[..., (0, 2)] for lag in lags], axis=3)
    unusual = [
        lag[..., 0] - _of_each(series.typical, ahead - back * STEPS_PER_DAY)[..., 0]
        for lag, back in zip(lags, LAG_DAYS, strict=True)
    ]
    steps = np.concatenate([own, np.stack(unusual, axis=3), found.known], axis=3)
    return Windows(steps, found.known, anchor, found.envelope_kw, found.load_kw, found.pv_kw)


def _finish(series: Series, scaling: Scaling, ahead: IntArray, steps: Any, anchor: Any) -> Windows:
    envelope = _of_each(series.envelope_kw, ahead)
    share = envelope / np.maximum(scaling.pv_rating_kw, 1e-9).astype(np.float32)[:, None, None]
    share = share * series.own[:, :1, 3, None]
    return Windows(
        steps=steps,
        known=_known(series, ahead, anchor, share),
        anchor=anchor,
        envelope_kw=envelope,
        load_kw=_of_each(series.load_kw, ahead),
        pv_kw=_of_each(series.pv_kw, ahead),
    )
