"""What a battery gains at most at given prices: an exact linear program, solved backwards.

The value of a state of charge is a concave, piecewise linear function: slopes that fall from left
to right, each over some kWh. A period before it adds two pieces, charging and discharging, each
with its own slope and the energy that it can move; the value of doing the best of all is the
sup-convolution, in which all pieces are put in order of their slopes. States out of bounds are
cut off at either end. That is all; nothing is searched for.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import compiled, frozen_view, inner
from raygrid.prosumer.population import Population
from raygrid.prosumer.units import kernel_units


def arbitrage_value(
    population: Population, price_per_kwh: FloatArray, period_hours: float
) -> FloatArray:
    """Most that each battery gains at given prices (thesis 3-11 to 3-15).

    ``max sum_t lambda (d - c) - cycle_cost (c + d)`` within its power limits and states of
    charge. Charging and discharging at once is allowed, as in the convex model.

    Parameters
    ----------
    population : Population
        n prosumers; whose terminal charge cannot be reached come as close as they can.
    price_per_kwh : (n, T) float64
        Price lambda at each prosumer's bus [currency/kWh].
    period_hours : float
        dt [h].

    Returns
    -------
    (n,) float64
        Rates summed over the periods [currency/h]; dt times them is money. 0 without battery.
    """
    n, n_periods = price_per_kwh.shape
    values = np.zeros(n)
    _arbitrage_rows(
        frozen_view(price_per_kwh), period_hours, kernel_units(population),
        np.empty((2, 2 * n_periods + 2)), values,
    )  # fmt: skip
    return values


@inner
def _insert(pieces: FloatArray, first: int, last: int, slope: float, length: float) -> None:
    """Put a piece among pieces first:last in order of falling slope; they grow to last + 1."""
    k = last
    while k > first and pieces[0, k - 1] < slope:
        pieces[0, k] = pieces[0, k - 1]
        pieces[1, k] = pieces[1, k - 1]
        k -= 1
    pieces[0, k] = slope
    pieces[1, k] = length


@inner
def _best_gain(
    price: FloatArray, period_hours: float, parameters: FloatArray, pieces: FloatArray
) -> float:
    """Money that one battery gains at most.

    `parameters` has the columns `raygrid.prosumer.units.KERNEL_COLUMNS`; `pieces` (2, 2 T + 2) is
    work space for slopes and lengths.
    """
    lowest, highest = parameters[4], parameters[5]
    least_end = max(lowest, parameters[7])
    eta_charge, eta_discharge, wear = parameters[10], parameters[11], parameters[12]
    stored = period_hours * eta_charge * parameters[8]
    drawn = period_hours / eta_discharge * parameters[9]
    left, value = least_end, 0.0  # where the function begins, and what it is there
    pieces[0, 0] = 0.0
    pieces[1, 0] = max(highest - least_end, 0.0)
    right = left + pieces[1, 0]
    first, last = int(0), int(1)  # noqa: RUF046, UP018 (literals would compile all anew)
    for t in range(len(price) - 1, -1, -1):
        if first > 0:  # room at the end for two more
            for k in range(first, last):
                pieces[0, k - first] = pieces[0, k]
                pieces[1, k - first] = pieces[1, k]
            last -= first
            first = 0
        cost = (price[t] + wear) / eta_charge
        gain = (price[t] - wear) * eta_discharge
        _insert(pieces, first, last, cost, stored)
        _insert(pieces, first, last + 1, gain, drawn)
        last += 2
        left -= stored
        right += drawn
        value -= cost * stored
        # the charge before period t is bounded too, or given
        low = lowest if t > 0 else parameters[6]
        high = highest if t > 0 else parameters[6]
        while last > first + 1 and right - pieces[1, last - 1] >= high:
            last -= 1
            right -= pieces[1, last]
        if right > high:
            pieces[1, last - 1] = max(pieces[1, last - 1] - (right - high), 0.0)
            right = high
        while last > first + 1 and left + pieces[1, first] <= low:
            left += pieces[1, first]
            value += pieces[0, first] * pieces[1, first]
            first += 1
        if left < low:
            cut = min(low - left, pieces[1, first])
            value += pieces[0, first] * cut
            pieces[1, first] -= cut
            left = low
    return value


@compiled
def _arbitrage_rows(
    price: FloatArray,
    period_hours: float,
    units: FloatArray,
    pieces: FloatArray,
    values: FloatArray,
) -> None:
    for i in range(price.shape[0]):
        if units[i, 8] > 0.0 or units[i, 9] > 0.0:
            values[i] = _best_gain(price[i], period_hours, units[i], pieces) / period_hours
