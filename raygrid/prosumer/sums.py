"""Sums over prosumers by bus as whole quanta, so that no split and no order changes a bit."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray, IntArray, check_range
from raygrid.prosumer.compiled import compiled, frozen_view
from raygrid.prosumer.population import ROWS_AT_A_TIME

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
    if len(values) >= ROWS_AT_A_TIME:
        check_range(_add_rows(bus_row, frozen_view(values), sums))
        return
    # Fewer are added before machine code would be loaded, let alone compiled.
    check_range(float(np.abs(values).max(initial=0.0)))
    np.add.at(sums, bus_row, np.rint(values * _PER_QUANTUM).astype(np.int64))


@compiled
def _add_rows(bus_row: IntArray, values: FloatArray, sums: IntArray) -> float:
    """Returns the largest magnitude, or nan where there is one."""
    largest = 0.0
    for i in range(values.shape[0]):
        b = bus_row[i]
        for t in range(values.shape[1]):
            value = values[i, t]
            if abs(value) > largest or value != value:
                largest = abs(value)
            sums[b, t] += np.int64(np.rint(value * _PER_QUANTUM))
    return largest
