"""Cases compared day by day: means, paired differences with their interval, corrected p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over days; the deviation of one day is nan."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: FloatArray) -> Spread:
        """Over the n values of a (n,) array."""
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), deviation)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of x - y over days, with the interval and p-value of Student's paired test.

    Attributes
    ----------
    mean : float
        Mean difference.
    low, high : float
        Its 95 % confidence interval; nan with fewer than two days.
    p_value : float
        Two-sided p-value of no difference; nan with fewer than two days, 1 where all days agree
        and none differs.
    days : int
        Number of pairs.
    """

    mean: float
    low: float
    high: float
    p_value: float
    days: int


def paired_difference(x: FloatArray, y: FloatArray) -> PairedDifference:
    """Student's paired t test of two cases on the same days.

    Parameters
    ----------
    x, y : (n,) float64
        One value a day, in the same order of days.

    Raises
    ------
    ValueError
        If the days are not as many.

    References
    ----------
    Student, "The probable error of a mean", Biometrika 6 (1908), whose sleep data the test uses.
    """
    from scipy import stats

    if len(x) != len(y):
        raise ValueError(f"{len(x)} days cannot be paired with {len(y)}")
    difference = np.asarray(x, dtype=np.float64) - np.asarray(y, dtype=np.float64)
    n, mean = len(difference), float(np.mean(difference))
    if n < 2:
        return PairedDifference(mean, float("nan"), float("nan"), float("nan"), n)
    error = float(np.std(difference, ddof=1)) / np.sqrt(n)
    if error <= 1e-12 * max(abs(mean), 1e-300):
        return PairedDifference(mean, mean, mean, 1.0 if mean == 0 else 0.0, n)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return PairedDifference(mean, mean - reach, mean + reach, p_value, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of comparisons by Holm's step-down method.

    The k-th smallest of m is multiplied by m - k + 1, kept from falling, and capped at 1. A nan
    stays nan and is no comparison.

    Parameters
    ----------
    p_values : sequence of float
        Of the m comparisons.

    Returns
    -------
    list of float
        In the same order.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979).
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in corrected]
