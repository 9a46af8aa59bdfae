"""Shape tables of a whole year, and the profile of each household taken from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.scenario.resample import resample

QUARTER_HOUR = 0.25
HOURS_PER_WEEK = 168.0


@dataclass(frozen=True)
class ShapeTable:
    """Shapes in rows, one value a period, from `start` on; after the end they begin anew.

    Attributes
    ----------
    path : Path
        The file.
    names : tuple of str
        Name of each shape.
    values : (S, P) float64
        Power as a share of the rated power.
    start : datetime
        Beginning of the first period (local standard time).
    period_hours : float
        Length of a period [h].
    """

    path: Path
    names: tuple[str, ...]
    values: FloatArray
    start: datetime
    period_hours: float

    def first_hour(self, begin: datetime) -> float:
        """Hours from the table's start to `begin`.

        Raises
        ------
        InputError
            If `begin` is not in the table's time.
        """
        hours = (begin - self.start).total_seconds() / 3600.0
        if not 0 <= hours < self.values.shape[1] * self.period_hours:
            raise InputError(
                f"horizon.start {begin.isoformat()} is outside the profiles",
                str(self.path),
                f"give a time of {self.start.year}",
            )
        return hours


def read_shapes(path: Path, names: Sequence[str]) -> ShapeTable:
    """Read some shapes from a Parquet table.

    Parameters
    ----------
    path : Path
        A Parquet file with one column a shape; its metadata give `start` (ISO time) and
        `period_hours`.
    names : sequence of str
        The columns to read, in this order.

    Returns
    -------
    ShapeTable
        The shapes.

    Raises
    ------
    InputError
        If the file, a column or the metadata are missing or hold no finite numbers.
    """
    values, start, period_hours = read_columns(path, names)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise InputError("values that are negative or missing", str(path), "write the table anew")
    return ShapeTable(path, tuple(names), values, start, period_hours)


def read_columns(path: Path, names: Sequence[str]) -> tuple[FloatArray, datetime, float]:
    """Read columns of a Parquet table of even periods.

    Parameters
    ----------
    path, names
        As in `read_shapes`.

    Returns
    -------
    values : (S, P) float64
        One row a column, NaN where the table has no value.
    start : datetime
        Beginning of the first period (local standard time).
    period_hours : float
        Length of a period [h].

    Raises
    ------
    InputError
        If the file, a column or the metadata are missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = str(path)
    if path.suffix != ".parquet" or not path.is_file():
        raise InputError("no such Parquet file", where, "check the path of the shape table")
    try:
        file = pq.ParquetFile(path)
        known = file.schema_arrow.names
        for name in names:
            if name not in known:
                raise InputError(
                    f"no shape '{name}'", where, f"known are {', '.join(sorted(known))}"
                )
        table = file.read(columns=list(names))
        metadata = file.schema_arrow.metadata or {}
        start = datetime.fromisoformat(metadata[b"start"].decode())
        period_hours = float(metadata[b"period_hours"])
        columns = [table.column(n).cast(pa.float64()).combine_chunks() for n in names]
        values = np.array([column.to_numpy(zero_copy_only=False) for column in columns])
    except KeyError as error:
        raise InputError(
            f"the metadata lack {error}", where, "write `start` and `period_hours` into them"
        ) from None
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        line = (str(error).splitlines() or [""])[0]
        raise InputError(f"cannot be read ({line})", where, "write the table anew") from None
    if period_hours <= 0:
        raise InputError(f"a period of {period_hours:g} h", where, "write the table anew")
    return values, start, period_hours


def shifted_profiles(
    table: ShapeTable,
    shape: IntArray,
    shift_weeks: IntArray,
    shift_quarters: IntArray,
    *,
    begin: datetime,
    first_hour: float,
    period_hours: float,
    n_periods: int,
) -> FloatArray:
    """Profiles of households, each its shape at a time shifted by weeks and quarter hours.

    Shifts tell households of the same shape apart; whole weeks keep the weekday and, being few,
    the season.

    Parameters
    ----------
    table : ShapeTable
        The shapes.
    shape, shift_weeks, shift_quarters : (n,) int64
        Position of each household's shape, and its shifts.
    begin : datetime
        Start of the scenario.
    first_hour : float
        Hours from `begin` to the first period.
    period_hours, n_periods : float, int
        Length [h] and number T of the periods.

    Returns
    -------
    (n, T) float64
        Power as a share of the rated power.
    """
    origin = table.first_hour(begin) + first_hour
    # Only the different (shape, shift) pairs are averaged, however many households there are.
    codes = np.stack([shift_weeks, shift_quarters, shape], axis=1)
    unique, code = np.unique(codes, axis=0, return_inverse=True)
    span = table.values.shape[1] * table.period_hours
    profiles = np.empty((len(unique), n_periods))
    for weeks, quarters in np.unique(unique[:, :2], axis=0):
        rows = np.flatnonzero((unique[:, 0] == weeks) & (unique[:, 1] == quarters))
        hour = (origin + weeks * HOURS_PER_WEEK + quarters * QUARTER_HOUR) % span
        profiles[rows] = resample(
            table.values[unique[rows, 2]], table.period_hours, period_hours, n_periods, hour
        )
    return np.asarray(profiles[code.reshape(-1)])
