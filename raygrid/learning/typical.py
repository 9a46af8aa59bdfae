"""What is typical of a household's load by quarter hour, on working days and weekends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset

if TYPE_CHECKING:
    from raygrid.learning.features import Scaling

AROUND = 2
"""Quarter hours on either side that typical loads are averaged over."""


def is_weekend(data: Dataset) -> BoolArray:
    """Which periods (K,) are of a Saturday or Sunday."""
    day = np.arange(data.n_periods) // STEPS_PER_DAY
    return np.asarray((data.clock.start.weekday() + day) % 7 >= 5)


@dataclass(frozen=True)
class DaySums:
    """Sums over days of loads and their squares, each the mean over the quarter hours around.

    Attributes
    ----------
    load, square : (N, 2, 96) float64
        By quarter hour, of working days and weekends.
    days : (2,) float64
        Number of days of either kind.
    """

    load: FloatArray
    square: FloatArray
    days: FloatArray

    def of_all_days(self) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation (N, 2, 96); of a kind without days those of the other."""
        none = (self.days == 0)[:, None]
        days = np.where(none, self.days.sum(), self.days[:, None])
        mean, square = (
            np.where(none, sums.sum(axis=1, keepdims=True), sums) / days
            for sums in (self.load, self.square)
        )
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def rows(self, index: IntArray) -> DaySums:
        """Sums of the loads at these positions."""
        return DaySums(self.load[index], self.square[index], self.days)

    def scaled(self, size_kw: FloatArray, scaling: Scaling) -> DaySums:
        """Sums of loads in kW per size, as those of normalised loads of these sizes (N,)."""
        size, mean, std = (
            values[:, None, None] for values in (size_kw, scaling.load_mean_kw, scaling.load_std_kw)
        )
        load = size * self.load
        days = self.days[:, None]
        square = size**2 * self.square - 2 * mean * load + mean**2 * days
        return DaySums((load - mean * days) / std, square / std**2, self.days)


def day_sums(load: FloatArray, weekend: BoolArray) -> DaySums:
    """Sum up loads (N, K) of whole days by quarter hour and kind of day."""
    around, squares = _around(load)
    kinds = np.stack([~weekend[::STEPS_PER_DAY], weekend[::STEPS_PER_DAY]]).astype(np.float64)
    both = np.einsum("kd,ndq->nkq", kinds, around), np.einsum("kd,ndq->nkq", kinds, squares)
    return DaySums(*both, kinds.sum(axis=1))


def _around(load: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means of loads (N, K), and of their squares, over the quarter hours around (N, D, 96)."""
    by_day = load.reshape(len(load), -1, STEPS_PER_DAY)
    padded = np.pad(by_day, ((0, 0), (0, 0), (AROUND, AROUND)), mode="wrap")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1, axis=2)
    return around.mean(axis=3), (around**2).mean(axis=3)


def learnt_typical(scaling: Scaling, since: DaySums) -> Scaling:
    """Scales that know days after those of training: what is typical of each load by then.

    Parameters
    ----------
    scaling : Scaling
        Of the training days.
    since : DaySums
        Of normalised loads on later days.
    """
    typical, varied, days = _merged(scaling, since.load, since.square, since.days)
    return replace(scaling, load_typical=typical, load_varied=varied, typical_days=days)


def _merged(
    scaling: Scaling, load: FloatArray, square: FloatArray, days: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Typical loads and deviations (..., 2, 96) with the sums of more days (..., 2)."""
    known = scaling.typical_days
    total = (known + days)[..., None]
    weight = known[:, None]
    mean = (weight * scaling.load_typical + load) / total
    squares = weight * (scaling.load_varied**2 + scaling.load_typical**2) + square
    return mean, np.sqrt(np.maximum(squares / total - mean**2, 0.0)), known + days


def typical_in_turn(data: Dataset, scaling: Scaling, weekend: BoolArray) -> FloatArray:
    """What is typical of loads, each day as the days before it leave it.

    On training days it is what the scales say; on later days the days in between count as well.

    Parameters
    ----------
    data : Dataset
        The series.
    scaling : Scaling
        Of the training days.
    weekend : (K,) bool
        Periods of Saturdays and Sundays.

    Returns
    -------
    (N, K, 3) float64
        Channels `raygrid.learning.features.TYPICAL`.
    """
    kind, quarter = weekend.astype(np.int64), np.arange(data.n_periods) % STEPS_PER_DAY
    typical, varied = scaling.load_typical, scaling.load_varied
    found = np.stack(
        [typical[:, kind, quarter], typical[:, kind, quarter - 1], varied[:, kind, quarter]], axis=2
    )
    first, n_days = data.days("train").stop, data.n_periods // STEPS_PER_DAY
    load, square = np.zeros_like(typical), np.zeros_like(typical)
    days = np.zeros(2)
    normal = data.load_kw[:, first * STEPS_PER_DAY :].astype(float)
    normal = (normal - scaling.load_mean_kw[:, None]) / scaling.load_std_kw[:, None]
    around, squares = _around(normal)
    for day in range(first + 1, n_days):
        of_kind = kind[(day - 1) * STEPS_PER_DAY]
        load[:, of_kind] += around[:, day - 1 - first]
        square[:, of_kind] += squares[:, day - 1 - first]
        days[of_kind] += 1
        typical, varied, _ = _merged(scaling, load, square, days)
        today = kind[day * STEPS_PER_DAY]
        by_quarter = (typical[:, today], np.roll(typical[:, today], 1, axis=1), varied[:, today])
        steps = slice(day * STEPS_PER_DAY, (day + 1) * STEPS_PER_DAY)
        found[:, steps] = np.stack(by_quarter, axis=2)
    return found
