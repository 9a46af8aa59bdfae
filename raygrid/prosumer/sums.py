"""Sums over prosumers by bus as whole quanta, so that no split and no order changes a bit."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray, IntArray, check_range
from raygrid.prosumer.compiled import compiled, frozen_view

_PER_QUANTUM = 1.0 / QUANTUM


def add_by_bus(bus_row: IntArray, values: FloatArray, sums: IntArray) -> None:
    """Add the rows of `values` to the rows of their buses, in place.

    Parameters
    ----------
    bus_row : (n,) int64
        Row of each prosumer's bus in `sums`.
    values : (n, T) float64
        Values in natural units.
    sums : (B, T) int64
        Sums in quanta.

    Raises
    ------
    EndedShortError
        If a value is too large for the sums, or not a number.
    """
    check_range(_add_rows(bus_row, frozen_view(values), sums))


@compiled
def _add_rows(bus_row: IntArray, values: FloatArray, sums: IntArray) -> float:
    """Returns the largest magnitude, or nan where there is one."""
    largest = 0.0
    for i in range(values.shape[0]):
        b = bus_row[i]
        for t in range(values.shape[1]):
            value = values[i, t]
            if not abs(value) <= largest:
                largest = abs(value)
            sums[b, t] += np.int64(np.rint(value * _PER_QUANTUM))
    return largest
