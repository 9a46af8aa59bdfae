"""How near to its limits a final schedule may come."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray

INSIDE = 1e-9
"""Relative distance kept to a limit, so that rounding does not break it."""
OUTSIDE = 1e-7
"""Relative violation granted where no schedule within the limits exists; a tenth of what
counts as a violation."""


def widened(lower: FloatArray, upper: FloatArray, margin: float) -> tuple[FloatArray, FloatArray]:
    """Bounds moved outwards by a relative margin; a band too narrow to shrink stays."""
    low = lower - margin * np.abs(np.where(np.isfinite(lower), lower, 0.0))
    high = upper + margin * np.abs(np.where(np.isfinite(upper), upper, 0.0))
    narrow = low > high
    return np.where(narrow, lower, low), np.where(narrow, upper, high)
