"""The days that forecasters and bidders learn from, and how households differ within them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Self

import numpy as np
from pydantic import Field, NaiveDatetime, model_validator

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.scenario.fields import DataPath, Section
from raygrid.scenario.resample import resample
from raygrid.scenario.shapes import QUARTER_HOUR, ShapeTable

HOURS_PER_DAY = 24.0
DAYS_PER_WEEK = 7

SplitDays = Annotated[int, Field(strict=True, ge=1, le=3660)]


class History(Section):
    """Days of the shape tables that are learnt from, split in the order of their dates.

    A household's shape is then shifted within its part of the split only, so that no day of the
    test part trains anybody.
    """

    start: NaiveDatetime = Field(description="midnight at which the first training day begins")
    train_days: SplitDays = Field(120, description="days that weights are fitted to")
    validation_days: SplitDays = Field(
        30, description="days after them, which decide when fitting ends"
    )
    test_days: SplitDays = Field(30, description="days after those, which results are for")
    weather: DataPath | None = Field(
        None,
        description="Parquet table: ghi_w_per_m2, clear_ghi_w_per_m2, temperature_c, "
        "humidity_percent; its metadata give `start` and `period_hours`",
    )

    @model_validator(mode="after")
    def _whole_days(self) -> Self:
        if self.start != datetime(self.start.year, self.start.month, self.start.day):
            raise ValueError(f"start {self.start.isoformat()} is no midnight; give a date")
        return self

    @property
    def days(self) -> int:
        """Number of all days."""
        return self.train_days + self.validation_days + self.test_days

    @property
    def end(self) -> datetime:
        """Midnight after the last test day."""
        return self.start + timedelta(days=self.days)

    @property
    def first_days(self) -> tuple[int, int, int, int]:
        """First day of training, of validation and of the test, and the day after the last."""
        validated = self.train_days + self.validation_days
        return 0, self.train_days, validated, self.days


def split_index(
    history: History, steps: IntArray, steps_per_day: int, shift_days: int, shift_steps: int
) -> IntArray:
    """Steps that a shifted household takes its shape from, within the same part of the split.

    Where a shift leads out of the part, whole weeks lead back into it, so that weekdays agree;
    parts shorter than a week go round by whole days.

    Parameters
    ----------
    history : History
        The days and their split.
    steps : (n,) int64
        Steps of the shape table, counted from the start of the history.
    steps_per_day : int
        Steps in a day.
    shift_days, shift_steps : int
        Shift, in days and in single steps.

    Returns
    -------
    (n,) int64
        Steps, counted alike.
    """
    edges = np.array(history.first_days) * steps_per_day
    part = np.searchsorted(edges, steps, side="right") - 1
    first, length = edges[part], np.diff(edges)[part]
    week = DAYS_PER_WEEK * steps_per_day
    around = np.where(length >= week, length // week * week, length)
    moved = steps + shift_days * steps_per_day + shift_steps
    inside = (moved >= first) & (moved < first + length)
    return np.asarray(np.where(inside, moved, first + (moved - first) % around))


def split_profiles(
    history: History,
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
    """Profiles of households whose shifts stay within their part of the split.

    Parameters are those of `raygrid.scenario.shapes.shifted_profiles`, after the history.

    Raises
    ------
    InputError
        If a period is outside the history, or the history outside the table.
    """
    offset = round(table.first_hour(history.start) / table.period_hours)
    hour = (begin - history.start).total_seconds() / 3600.0 + first_hour
    last_hour = hour + n_periods * period_hours
    if hour < 0 or last_hour > history.days * HOURS_PER_DAY + 1e-9:
        day = begin + timedelta(hours=first_hour)
        raise InputError(
            f"the day from {day.isoformat()} is outside the history, "
            f"{history.start.date()} to {history.end.date()}",
            "horizon.start",
            "choose a day of the history",
        )
    steps_per_day = round(HOURS_PER_DAY / table.period_hours)
    if offset + history.days * steps_per_day > table.values.shape[1]:
        raise InputError(
            f"ends before the history, on {history.end.date()}",
            str(table.path),
            "shorten the history",
        )
    first = int(hour / table.period_hours)
    steps = np.arange(first, int(np.ceil(last_hour / table.period_hours - 1e-9)))
    into = hour - first * table.period_hours
    profiles = np.empty((len(shape), n_periods))
    shifts = np.stack([shift_weeks, shift_quarters], axis=1)
    for weeks, quarters in np.unique(shifts, axis=0):
        rows = np.flatnonzero((shift_weeks == weeks) & (shift_quarters == quarters))
        shift_steps = round(quarters * QUARTER_HOUR / table.period_hours)
        taken = offset + split_index(
            history, steps, steps_per_day, int(weeks) * DAYS_PER_WEEK, shift_steps
        )
        profiles[rows] = resample(
            table.values[np.ix_(shape[rows], taken)],
            table.period_hours,
            period_hours,
            n_periods,
            into,
        )
    return profiles
