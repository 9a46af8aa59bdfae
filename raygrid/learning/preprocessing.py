"""From meters' readings to even series: alignment, gaps, outliers, faults (AI-TEM III.B)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError

SHORT_GAP_HOURS = 1.0
"""Gaps shorter than this are filled, longer ones refused."""
MEDIAN_HOURS = 2.0
"""What is looked at on either side of a missing value."""
STANDSTILL_HOURS = 24.0
"""A load that does not change for so long is no load but a meter that stands still."""
IQR_FACTOR = 3.0
"""Fences stand so many interquartile ranges beyond the quartiles (Tukey's outer fences)."""
NIGHT_PV_SHARE = 0.01
"""PV output at night, of the rating, that counts as a fault; less is noise and set to zero."""
OVER_RATING = 1.3
"""PV output over the rating that counts as a fault."""


@dataclass(frozen=True)
class DataReport:
    """What was mended in measured series.

    Attributes
    ----------
    filled : int
        Missing values that were filled.
    clipped : int
        Outliers that were brought to a fence.
    night_pv : int
        Small PV readings at night, or small negative ones, that were set to zero.
    """

    filled: int = 0
    clipped: int = 0
    night_pv: int = 0

    def __add__(self, other: DataReport) -> DataReport:
        return DataReport(
            self.filled + other.filled,
            self.clipped + other.clipped,
            self.night_pv + other.night_pv,
        )

    def lines(self) -> list[str]:
        """One line for each kind of repair that was made."""
        named = {
            "missing values filled by the rolling median": self.filled,
            "outliers brought to the fences of the training days": self.clipped,
            "small PV readings at night or below zero set to zero": self.night_pv,
        }
        return [f"{count} {what}" for what, count in named.items() if count]


@dataclass(frozen=True)
class Clock:
    """Where the periods of a series lie.

    Attributes
    ----------
    start : datetime
        Beginning of the first period.
    period_hours : float
        Length of a period [h].
    """

    start: datetime
    period_hours: float

    def at(self, period: int) -> str:
        """Beginning of a period, as text."""
        return (self.start + timedelta(hours=period * self.period_hours)).isoformat()


def align(hours: FloatArray, values: FloatArray, n_periods: int, period_hours: float) -> FloatArray:
    """Bring readings at any times to even periods.

    Readings closer than a period are averaged; each of coarser ones (hourly) holds until the next
    is due.

    Parameters
    ----------
    hours : (n,) float64
        Time of each reading from the start of the first period on [h], ascending.
    values : (n,) float64
        Readings, NaN where one is missing.
    n_periods : int
        Number K of periods.
    period_hours : float
        Length of a period [h].

    Returns
    -------
    (K,) float64
        NaN where no reading counts.
    """
    known = np.isfinite(values)
    hours, values = hours[known], values[known]
    pitch = float(np.median(np.diff(hours))) if len(hours) > 1 else period_hours
    if pitch <= period_hours * (1 + 1e-9):
        period = np.floor(hours / period_hours + 1e-9).astype(np.int64)
        inside = (period >= 0) & (period < n_periods)
        count = np.bincount(period[inside], minlength=n_periods)
        total = np.bincount(period[inside], values[inside], minlength=n_periods)
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    start = np.arange(n_periods) * period_hours
    last = np.searchsorted(hours, start + 1e-9, side="right") - 1
    valid = (last >= 0) & (start - hours[np.maximum(last, 0)] < pitch - 1e-9)
    return np.asarray(np.where(valid, values[np.maximum(last, 0)], np.nan))


def runs(mask: BoolArray) -> list[tuple[int, int]]:
    """Beginnings and ends (exclusive) of the stretches where a (K,) mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def fill_gaps(series: FloatArray, what: str, clock: Clock) -> tuple[FloatArray, int]:
    """Fill gaps shorter than an hour by the rolling median of what lies around them.

    Parameters
    ----------
    series : (K,) float64
        NaN where a value is missing.
    what : str
        Whose series it is, for the error.
    clock : Clock
        Where its periods lie.

    Returns
    -------
    filled : (K,) float64
        Without gaps.
    count : int
        Number of values that were filled.

    Raises
    ------
    InputError
        If a gap is an hour or longer.
    """
    gaps = runs(~np.isfinite(series))
    filled = series.copy()
    reach = round(MEDIAN_HOURS / clock.period_hours)
    for first, last in gaps:
        length = (last - first) * clock.period_hours
        if length >= SHORT_GAP_HOURS - 1e-9:
            raise InputError(
                f"nothing measured from {clock.at(first)} to {clock.at(last)} ({length:g} h)",
                what,
                "only gaps shorter than 1 h are filled: add the readings or leave the prosumer out",
            )
        for k in range(first, last):
            filled[k] = np.nanmedian(series[max(k - reach, 0) : k + reach + 1])
    return filled, sum(last - first for first, last in gaps)


def check_load(series: FloatArray, what: str, clock: Clock) -> None:
    """Refuse a load that is negative, or that a meter which stands still has written.

    Raises
    ------
    InputError
        Names the first such period.
    """
    negative = np.flatnonzero(series < 0)
    if len(negative):
        k = int(negative[0])
        raise InputError(
            f"a load of {series[k]:g} kW at {clock.at(k)}",
            what,
            "loads are 0 or more: put generation into the PV column",
        )
    still = runs(np.concatenate([np.diff(series) == 0, [False]]))
    for first, last in still:
        hours = (last - first + 1) * clock.period_hours
        if hours >= STANDSTILL_HOURS:
            raise InputError(
                f"the load stays at {series[first]:g} kW for {hours:g} h from {clock.at(first)} on",
                what,
                "a meter stood still: leave those days or the prosumer out",
            )


def check_pv(
    series: FloatArray, rating_kw: float, night: BoolArray | None, what: str, clock: Clock
) -> tuple[FloatArray, int]:
    """Set small readings at night and below zero to zero, and refuse what is impossible.

    Parameters
    ----------
    series : (K,) float64
        PV output [kW].
    rating_kw : float
        Rating of the system [kW].
    night : (K,) bool, or None
        Where the sun is below the horizon; None if nobody knows.
    what, clock
        As in `fill_gaps`.

    Returns
    -------
    mended : (K,) float64
        0 or more, and 0 at night.
    count : int
        Number of values that were set to zero.

    Raises
    ------
    InputError
        If it is below zero, above the rating or feeds in at night by more than noise.
    """
    noise = NIGHT_PV_SHARE * rating_kw
    dark = np.zeros(len(series), dtype=bool) if night is None else night
    for wrong, fault, cure in (
        (series < -noise, "is negative", "PV output is 0 or more"),
        (dark & (series > noise), "at night", "check the clock and the time zone of the readings"),
        (series > OVER_RATING * rating_kw, f"with {rating_kw:g} kWp", "check unit and rating"),
    ):
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            raise InputError(f"PV output of {series[k]:g} kW {fault} at {clock.at(k)}", what, cure)
    mend = (series < 0) | (dark & (series > 0))
    return np.where(mend, 0.0, series), int(mend.sum())


def fences(training: FloatArray, *, logarithmic: bool) -> tuple[float, float]:
    """Interquartile-range bounds of training values, beyond which values are outliers.

    Loads are nearly log-normal: fences on the plain scale would cut off every evening peak, so
    theirs stand on the logarithmic scale.

    Parameters
    ----------
    training : (n,) float64
        Values of the training days.
    logarithmic : bool
        Whether quartiles are those of the logarithm.

    Returns
    -------
    low, high : float
        The fences; infinite where the quartiles coincide.
    """
    values = training[training > 0] if logarithmic else training
    if len(values) == 0:
        return -np.inf, np.inf
    scaled = np.log(values) if logarithmic else values
    lower, upper = np.quantile(scaled, [0.25, 0.75])
    span = IQR_FACTOR * (upper - lower)
    if span == 0:
        return -np.inf, np.inf
    if logarithmic:
        return 0.0, float(np.exp(upper + span))
    return float(lower - span), float(upper + span)


def clip(series: FloatArray, bounds: tuple[float, FloatArray | float]) -> tuple[FloatArray, int]:
    """Bring outliers to the fences; returns the series and how many there were."""
    clipped = np.clip(series, *bounds)
    return clipped, int((clipped != series).sum())


@dataclass(frozen=True)
class Readings:
    """Measured series on even periods, before they are checked.

    Attributes
    ----------
    path : Path
        Where they come from.
    prosumer_id : (N,) int64
        Whose they are, ascending.
    load_kw, pv_kw : (N, K) float64
        NaN where nothing was measured; PV is 0 where the table has no such column.
    """

    path: Path
    prosumer_id: IntArray
    load_kw: FloatArray
    pv_kw: FloatArray


def read_readings(path: Path, clock: Clock, n_periods: int) -> Readings:
    """Read measured loads and PV of prosumers from a CSV or Parquet table.

    Parameters
    ----------
    path : Path
        Columns: time (ISO, local standard time), prosumer_id, load_kw and optionally pv_kw; one
        row a reading, empty cells are missing values.
    clock : Clock
        Periods that the readings are brought to.
    n_periods : int
        Number K of periods.

    Returns
    -------
    Readings
        Aligned, gaps and faults still in them.

    Raises
    ------
    InputError
        If the table or a column is missing or holds something else.
    """
    table = _readings_table(path)
    ids = np.unique(table["prosumer_id"])
    load, pv = np.zeros((2, len(ids), n_periods))
    for row, prosumer in enumerate(ids):
        mine = table["prosumer_id"] == prosumer
        hours = (table["time"][mine] - np.datetime64(clock.start)) / np.timedelta64(1, "s") / 3600
        order = np.argsort(hours, kind="stable")
        load[row] = align(
            hours[order], table["load_kw"][mine][order], n_periods, clock.period_hours
        )
        if "pv_kw" in table:
            pv[row] = align(
                hours[order], table["pv_kw"][mine][order], n_periods, clock.period_hours
            )
            if not np.isfinite(table["pv_kw"][mine]).any():
                pv[row] = 0.0  # a household without PV leaves its cells empty
    return Readings(path, ids, load, pv)


def _readings_table(path: Path) -> dict[str, Any]:
    """Columns of a table of readings: time, prosumer_id, load_kw and perhaps pv_kw."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    where = str(path)
    kinds = {"time": pa.timestamp("us"), "prosumer_id": pa.int64(), "load_kw": pa.float64()}
    try:
        read = pa.parquet.read_table if path.suffix == ".parquet" else pa.csv.read_csv
        table = read(path)
        missing = [name for name in kinds if name not in table.column_names]
        if missing:
            raise InputError(f"no column '{missing[0]}'", where, "add it")
        if "pv_kw" in table.column_names:
            kinds["pv_kw"] = pa.float64()
        columns = {name: table.column(name).cast(kind) for name, kind in kinds.items()}
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where, "check the path") from None
    except pa.ArrowException as error:
        line = (str(error).splitlines() or [""])[0]
        raise InputError(f"cannot be read ({line})", where, "mend the table") from None
    for name in ("time", "prosumer_id"):
        if columns[name].null_count:
            raise InputError(f"an empty cell in '{name}'", where, "fill it")
    if not len(table):
        raise InputError("no readings", where, "add rows")
    return {name: column.to_numpy() for name, column in columns.items()}
