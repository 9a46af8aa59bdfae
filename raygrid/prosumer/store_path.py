"""Compiled exact solver of a store that is connected at times (an EV, a shiftable load).

With mu the value of a stored kWh, ``v = rho (p - a)`` minus the local marginal cost and
p = d - c, stationarity reads as for a battery (`raygrid.prosumer.storage_path`): charging
v = cycle_cost - mu eta_c, discharging v = -cycle_cost - mu / eta_d. The energy gained in a period
is so a non-decreasing, piecewise linear function of mu: two ramps, one of charge and one of
discharge. Let E_t(mu) be the energy that is wanted at the end of period t by those that come
after it, a falling function. Backwards,

    E_(t-1)(mu) = E_t(mu) - gain_t(mu) + used_t,   cut off at the bounds of period t - 1,

and the values at which it is cut off are all that the way forwards needs: the value of one period
follows from that of the period before by clipping it between them. No search, no start, no
tolerance: the answer depends on the problem alone.

Where the store burns energy by charging and discharging at once (values below
``-2 cycle_cost / (1/eta_d - eta_c)``), one of the two is at its limit, which moves the ramps; at
that value itself the energy gained jumps.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import compiled, compiled_in_place, inner

INITIAL, LEAST, MOST, FINAL_LEAST, CHARGE_MAX, DISCHARGE_MAX = range(6)
ETA_CHARGE, ETA_DISCHARGE, CYCLE_COST, UNIT_COLUMNS = range(6, 10)
"""Columns of a store's scalar parameters."""
ARRIVAL, DEPARTURE, NEEDED, USED_SINCE = range(4)
"""Columns of a stay."""
CHARGE, DISCHARGE, FLOOR, USED, LIMIT_ROWS = range(5)
"""Rows of a store's limits per period."""

AT, RATE, DROP, PIECE_ROWS = range(4)
"""Rows of the pieces of E(mu): where its slope changes, by how much it falls faster from there
on, and how much it drops there."""

# rows of the work space per period: values at which E is cut off at its ceiling and floor, and
# what is wanted at most where energy is burnt
AT_CEILING, AT_FLOOR, WANTED, PATH_ROWS = range(4)

DETAIL_ROWS = 4
"""Charge, discharge, energy and value."""


def piece_columns(n_periods: int) -> int:
    """Width of the work space for the pieces of T periods."""
    return 12 * n_periods + 4


@inner
def period_limits(unit: FloatArray, stays: FloatArray, limits: FloatArray) -> None:
    """Limits (4, T) of one store from its stays (S, 4)."""
    n_periods = limits.shape[1]
    for t in range(n_periods):
        limits[CHARGE, t] = limits[DISCHARGE, t] = limits[USED, t] = 0.0
        limits[FLOOR, t] = unit[LEAST]
    for k in range(stays.shape[0]):
        arrival, departure = stays[k, ARRIVAL], stays[k, DEPARTURE]
        if departure <= arrival:
            continue
        first = int(arrival)
        stop = min(int(np.ceil(departure)), n_periods)
        limits[USED, first] += stays[k, USED_SINCE]
        for t in range(first, stop):
            share = min(departure, t + 1.0) - max(arrival, float(t))
            limits[CHARGE, t] += share * unit[CHARGE_MAX]
            limits[DISCHARGE, t] += share * unit[DISCHARGE_MAX]
        limits[FLOOR, stop - 1] = max(limits[FLOOR, stop - 1], stays[k, NEEDED])
    limits[FLOOR, n_periods - 1] = max(limits[FLOOR, n_periods - 1], unit[FINAL_LEAST])


@compiled
def fill_limits(units: FloatArray, stays: FloatArray, out: FloatArray) -> None:
    """Limits (M, 4, T) of M stores."""
    for i in range(units.shape[0]):
        period_limits(units[i], stays[i], out[i])


@inner
def insert(pieces: FloatArray, first: int, last: int, at: float, rate: float, drop: float) -> None:
    """Put a piece among the sorted pieces first:last, which grow to last + 1."""
    k = last
    while k > first and pieces[AT, k - 1] > at:
        for row in range(PIECE_ROWS):
            pieces[row, k] = pieces[row, k - 1]
        k -= 1
    pieces[AT, k] = at
    pieces[RATE, k] = rate
    pieces[DROP, k] = drop


@inner
def insert_ramp(
    pieces: FloatArray,
    first: int,
    last: int,
    start: float,
    stop: float,
    rate: float,
    least: float,
    most: float,
) -> int:
    """Let E fall by `rate` between `start` and `stop`, as far as these are within a range."""
    start, stop = max(start, least), min(stop, most)
    if start < stop:
        insert(pieces, first, last, start, rate, 0.0)
        insert(pieces, first, last + 1, stop, -rate, 0.0)
        last += 2
    return last


@inner
def cut_above(
    pieces: FloatArray, first: int, last: int, level: float, ceiling: float
) -> tuple[int, float]:
    """Cut E off where it is above a ceiling; first piece left, and the value there.

    `level` is what E begins with, above the ceiling.
    """
    rate = 0.0
    for k in range(first, last):
        if k > first and rate > 0.0:
            fall = rate * (pieces[AT, k] - pieces[AT, k - 1])
            if level - fall <= ceiling:
                at = min(pieces[AT, k - 1] + (level - ceiling) / rate, pieces[AT, k])
                pieces[AT, k - 1] = at
                pieces[RATE, k - 1] = rate
                pieces[DROP, k - 1] = 0.0
                return k - 1, at
            level -= fall
        if level - pieces[DROP, k] <= ceiling:
            pieces[DROP, k] -= level - ceiling
            pieces[RATE, k] += rate
            return k, pieces[AT, k]
        level -= pieces[DROP, k]
        rate += pieces[RATE, k]
    return last, pieces[AT, last - 1] if last > first else 0.0


@inner
def cut_below(
    pieces: FloatArray, first: int, last: int, level: float, floor: float
) -> tuple[int, float]:
    """Cut E off where it is below a floor; one behind the last piece left, and the value there.

    `level` is what E ends with, below the floor.
    """
    rate = 0.0
    for k in range(last - 1, first - 1, -1):
        if k < last - 1 and rate > 0.0:
            rise = rate * (pieces[AT, k + 1] - pieces[AT, k])
            if level + rise >= floor:
                at = max(pieces[AT, k + 1] - (floor - level) / rate, pieces[AT, k])
                pieces[AT, k + 1] = at
                pieces[RATE, k + 1] = -rate
                pieces[DROP, k + 1] = 0.0
                return k + 2, at
            level += rise
        if level + pieces[DROP, k] >= floor:
            pieces[DROP, k] -= floor - level
            pieces[RATE, k] -= rate
            return k + 1, pieces[AT, k]
        level += pieces[DROP, k]
        rate -= pieces[RATE, k]
    return first, pieces[AT, first] if last > first else 0.0


@inner
def energy_before(pieces: FloatArray, first: int, last: int, level: float, value: float) -> float:
    """E just below a value; `level` is what E begins with."""
    rate = 0.0
    for k in range(first, last):
        if k > first:
            level -= rate * (min(pieces[AT, k], value) - pieces[AT, k - 1])
        if pieces[AT, k] >= value:
            return level
        level -= pieces[DROP, k]
        rate += pieces[RATE, k]
    return level


@inner
def power(unlimited: float, limit: float) -> float:
    """A power between 0 and its limit."""
    return min(max(unlimited, 0.0), limit)


@inner
def solve_store(
    target: FloatArray,
    rho: float,
    period_hours: float,
    unit: FloatArray,
    limits: FloatArray,
    path: FloatArray,
    pieces: FloatArray,
    detail: FloatArray,
) -> bool:
    """Charge, discharge, energy and value (4, T) of one store; whether it burns energy.

    Parameters
    ----------
    target : (T,) float64
        ADMM target a [kW].
    rho : float
        Penalty rho_i.
    period_hours : float
        dt [h].
    unit : (9,) float64
        Parameters.
    limits : (4, T) float64
        From `period_limits`.
    path, pieces : (PATH_ROWS, T), (PIECE_ROWS, piece_columns(T)) float64
        Work space.
    detail : (4, T) float64
        Receives the result [kW, kW, kWh, currency/kWh].
    """
    n_periods = len(target)
    eta_c, eta_d, wear = unit[ETA_CHARGE], unit[ETA_DISCHARGE], unit[CYCLE_COST]
    most, initial = unit[MOST], unit[INITIAL]
    gain, drain = period_hours * eta_c, period_hours / eta_d
    charge_rate, discharge_rate = gain * eta_c / rho, drain / eta_d / rho
    loss = 1.0 / eta_d - eta_c
    burns = loss > 0.0 and unit[CHARGE_MAX] > 0.0 and unit[DISCHARGE_MAX] > 0.0
    burning = -2.0 * wear / loss if burns else -np.inf

    # A kWh that is left at the end is worth nothing.
    left, right = most, min(limits[FLOOR, n_periods - 1], most)
    first, last = int(0), int(1)  # noqa: RUF046, UP018 (literals would compile all anew)
    pieces[AT, 0] = pieces[RATE, 0] = 0.0
    pieces[DROP, 0] = left - right
    start = 0.0
    for t in range(n_periods - 1, -1, -1):
        a, c_max, d_max = target[t], limits[CHARGE, t], limits[DISCHARGE, t]
        if burns:
            path[WANTED, t] = energy_before(pieces, first, last, left, burning)
        charge_from = (wear + rho * a) / eta_c
        discharge_to = (rho * a - wear) * eta_d
        c_span, d_span = rho / eta_c, rho * eta_d
        if c_max > 0.0:
            last = insert_ramp(
                pieces, first, last, charge_from, charge_from + c_span * c_max,
                charge_rate, burning, np.inf,
            )  # fmt: skip
        if d_max > 0.0:
            last = insert_ramp(
                pieces, first, last, discharge_to - d_span * d_max, discharge_to,
                discharge_rate, burning, np.inf,
            )  # fmt: skip
        if burns and c_max > 0.0:
            unlimited = (burning * eta_c - wear) / rho - a
            both = power(unlimited + d_max, c_max) - power(unlimited, c_max)
            if both > 0.0:
                insert(pieces, first, last, burning, 0.0, period_hours * loss * both)
                last += 1
            moved = charge_from - c_span * d_max
            last = insert_ramp(
                pieces, first, last, moved, moved + c_span * c_max, charge_rate, -np.inf, burning
            )
            moved = discharge_to + d_span * c_max
            last = insert_ramp(
                pieces, first, last, moved - d_span * d_max, moved, discharge_rate,
                -np.inf, burning,
            )  # fmt: skip
        left += drain * d_max + limits[USED, t]
        right += limits[USED, t] - gain * c_max
        ceiling = most if t > 0 else initial
        floor = limits[FLOOR, t - 1] if t > 0 else initial
        at_ceiling, at_floor = -np.inf, np.inf
        if left > ceiling:
            first, at_ceiling = cut_above(pieces, first, last, left, ceiling)
            left = ceiling
            right = min(right, ceiling)
        if right < floor:
            last, at_floor = cut_below(pieces, first, last, right, floor)
            right = floor
            left = max(left, floor)
        if t > 0:
            path[AT_CEILING, t - 1] = at_ceiling
            path[AT_FLOOR, t - 1] = at_floor
        elif at_ceiling > -np.inf:
            start = at_ceiling
        elif at_floor < np.inf:
            start = at_floor

    value, energy = start, initial
    burnt = False
    dust = 1e-12 * max(1.0, unit[CHARGE_MAX] + unit[DISCHARGE_MAX])
    for t in range(n_periods):
        a, c_max, d_max = target[t], limits[CHARGE, t], limits[DISCHARGE, t]
        shift_c = d_max if value < burning else 0.0
        shift_d = c_max if value < burning else 0.0
        c = power((value * eta_c - wear) / rho - a + shift_c, c_max)
        d = power(a - (wear + value / eta_d) / rho + shift_d, d_max)
        before = energy - limits[USED, t]
        if burns and value == burning:
            excess = before + gain * c - drain * d - path[WANTED, t]
            if excess > 0.0:
                both = min(min(excess / (period_hours * loss), c_max - c), d_max - d)
                c += both
                d += both
        c = c if c > dust else 0.0
        d = d if d > dust else 0.0
        # what leaves the bounds is rounding
        over = before + gain * c - drain * d - most
        if over > 0.0:
            if c > 0.0:
                c = max(c - over / gain, 0.0)
            else:
                d = min(d + over / drain, d_max)
        under = limits[FLOOR, t] - (before + gain * c - drain * d)
        if under > 0.0:
            if d > 0.0:
                d = max(d - under / drain, 0.0)
            else:
                c = min(c + under / gain, c_max)
        energy = before + gain * c - drain * d
        burnt |= c > 0.0 and d > 0.0
        detail[0, t] = c
        detail[1, t] = d
        detail[2, t] = energy
        detail[3, t] = value
        if t < n_periods - 1:
            value = min(max(value, path[AT_CEILING, t]), path[AT_FLOOR, t])
    return burnt


@compiled_in_place
def solve_store_rows(
    target: FloatArray,
    rho: FloatArray,
    period_hours: float,
    units: FloatArray,
    stays: FloatArray,
    out_p: FloatArray,
    detail: FloatArray,
    limits: FloatArray,
    path: FloatArray,
    pieces: FloatArray,
    one: FloatArray,
) -> int:
    """Solve the local problems of M stores; how many of them burn energy.

    Parameters
    ----------
    target : (M, T) float64
        ADMM targets a [kW].
    rho : (M,) float64
        Penalties rho_i.
    period_hours : float
        dt [h].
    units, stays : (M, 9), (M, S, 4) float64
        Parameters and stays.
    out_p : (M, T) float64
        Receives the net injections [kW].
    detail : (4, M, T) or (4, 0, T) float64
        Receives charge, discharge, energy and value, where M rows are given.
    limits, path, pieces, one : (4, T), (3, T), (3, piece_columns(T)), (4, T) float64
        Work space.
    """
    burnt = 0
    for i in range(target.shape[0]):
        period_limits(units[i], stays[i], limits)
        if solve_store(target[i], rho[i], period_hours, units[i], limits, path, pieces, one):
            burnt += 1
        for t in range(target.shape[1]):
            out_p[i, t] = one[1, t] - one[0, t]
            if detail.shape[1] > 0:
                for k in range(DETAIL_ROWS):
                    detail[k, i, t] = one[k, t]
    return burnt


@compiled
def store_dual_rows(
    price: FloatArray,
    value: FloatArray,
    period_hours: float,
    units: FloatArray,
    stays: FloatArray,
    limits: FloatArray,
    rates: FloatArray,
) -> None:
    """Dual value (M,) of each store's problem at given prices and values of a stored kWh."""
    n_periods = price.shape[1]
    for i in range(price.shape[0]):
        unit = units[i]
        period_limits(unit, stays[i], limits)
        rate = 0.0
        stock = unit[INITIAL] * value[i, 0]
        for t in range(n_periods):
            mu, pay, wear = value[i, t], price[i, t], unit[CYCLE_COST]
            rate += limits[CHARGE, t] * max(mu * unit[ETA_CHARGE] - pay - wear, 0.0)
            rate += limits[DISCHARGE, t] * max(pay - mu / unit[ETA_DISCHARGE] - wear, 0.0)
            step = (value[i, t + 1] if t < n_periods - 1 else 0.0) - mu
            stock += step * (unit[MOST] if step > 0.0 else limits[FLOOR, t])
            stock -= mu * limits[USED, t]
        rates[i] = rate + stock / period_hours
