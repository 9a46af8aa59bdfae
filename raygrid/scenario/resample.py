"""Profiles of one period length brought to another, by averaging."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray


def resample(
    values: FloatArray, from_hours: float, to_hours: float, n_periods: int, first_hour: float = 0.0
) -> FloatArray:
    """Average powers (or prices), constant within each period, over other periods.

    Energy is kept: the mean of each new period is that of the time it covers. Beyond the end the
    values begin anew, so that one day can be repeated.

    Parameters
    ----------
    values : (n, P) array
        One row a profile.
    from_hours, to_hours : float
        Length of an old and of a new period [h].
    n_periods : int
        Number T of new periods.
    first_hour : float
        Where the first new period begins [h].

    Returns
    -------
    (n, T) array
        Exactly the given values where the periods coincide.
    """
    n_old = values.shape[1]
    start = first_hour / from_hours
    width = to_hours / from_hours
    if width == 1.0 and start == round(start):
        index = (int(start) + np.arange(n_periods)) % n_old
        return np.asarray(values[:, index])
    edges = start + width * np.arange(n_periods + 1)
    # Whole periods before each edge, and the part of the period that the edge cuts.
    nearest = np.rint(edges)
    edges = np.where(np.abs(edges - nearest) < 1e-9, nearest, edges)
    whole = np.floor(edges).astype(np.int64)
    part = edges - whole
    # Only the days in use are summed up: keeps rounding small in a table of a whole year.
    base = int(whole[0])
    index = np.arange(base, int(whole[-1]) + 2) % n_old
    window = np.asarray(values[:, index], dtype=np.float64)
    integral = np.concatenate([np.zeros((len(window), 1)), np.cumsum(window, axis=1)], axis=1)
    at_edges = integral[:, whole - base] + part * window[:, whole - base]
    mean = np.diff(at_edges, axis=1) / width
    # The mean lies between the extremes of what it covers; differences of sums may miss by an ulp.
    return np.asarray(np.clip(mean, window.min(axis=1)[:, None], window.max(axis=1)[:, None]))
