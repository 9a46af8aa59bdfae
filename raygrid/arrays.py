"""Array types and the exact sums that make every placement give the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raygrid.errors import EndedShortError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

QUANTUM = 1e-9
"""One unit of the int64 partial sums: 1e-9 kW, kW^2 or currency."""


LARGEST = 2.0**62 * QUANTUM
"""Largest magnitude that sums may reach: 4.6e9 kW, kW^2 or currency/h; beyond, int64 wraps."""


def check_range(magnitude: float) -> None:
    """Refuse numbers whose integer sums would wrap around unseen.

    Parameters
    ----------
    magnitude : float
        Sum of magnitudes, or the largest one, in natural units.

    Raises
    ------
    EndedShortError
        If it is above `LARGEST`, or not a number.
    """
    if not magnitude <= LARGEST:
        raise EndedShortError(
            f"powers or costs reach {magnitude:.3g}, more than the {LARGEST:.2g} kW or currency/h "
            "that sums can hold; check units and prices, or take a larger market.rho or a larger "
            "unit of currency"
        )


def quantise(values: FloatArray | np.float64) -> IntArray:
    """Round to whole quanta, so that sums do not depend on their order.

    Parameters
    ----------
    values : (...) array
        Values in natural units.

    Returns
    -------
    (...) int64 array
        Values in units of `QUANTUM`.

    Raises
    ------
    EndedShortError
        If a value is above `LARGEST`, or not a number.
    """
    check_range(float(np.abs(values).max(initial=0.0)))
    return np.asarray(np.rint(values / QUANTUM)).astype(np.int64)


def dequantise(quanta: IntArray) -> FloatArray:
    """Back from whole quanta to natural units; the inverse of `quantise`."""
    return np.asarray(quanta, dtype=np.float64) * QUANTUM
