"""The axis of stored values: what a battery does at each, and where it gains what is asked.

The energy that a battery gains in a period is a non-decreasing map of the value mu of a
stored kWh (see `raygrid.prosumer.storage_path`). It is set-valued at few mu, the same in all
periods: where a free generator (alpha = 0) or a free demand (omega = 0) is indifferent, and at
``mu0 = -2 cycle_cost / (1/eta_discharge - eta_charge)``, below which the convex problem burns
energy by charging and discharging at once. These *jumps* cut the axis of mu into segments. A
point on the refined axis is (place, level): place 2s is segment s, with level mu; place 2j + 1
is jump j, with level in [0, 1] the same for all periods. Points are ordered lexicographically,
and along them the energy gained is continuous.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import inner

# columns of one prosumer's parameters, `unit`: 1/(2 alpha) is 0 for a free generator
ETA_CHARGE, ETA_DISCHARGE, CHARGE_MAX, DISCHARGE_MAX, CYCLE_COST = range(5)
INV_RHO, INV_2ALPHA, BETA, OMEGA, DELTA, DT, UNIT_SIZE = range(5, 12)

# columns of the refined axis, `axis` (J + 1, 6): per segment the jump above it (inf for the
# last), whether the battery burns, and on which side of its jump each free device is
JUMP, BURNING, X_CHARGE, X_DISCHARGE, Y_CHARGE, Y_DISCHARGE, AXIS_SIZE = range(7)

# rows of the work space, `work` (9, T), whose first column is the stretch's first period:
# target plus fixed load, device limits, and the battery's powers below and above a jump
NEED, X_MIN, X_MAX, Y_MIN, Y_MAX = range(5)
CHARGE, DISCHARGE, CHARGE_ABOVE, DISCHARGE_ABOVE, WORK_SIZE = range(5, 10)

NARROW = 4e-16
MAX_STEPS = 200

Point = tuple[int, float]
"""(place, level) on the refined axis."""


@inner
def device_answer(
    v: float, x_side: float, y_side: float, unit: FloatArray
) -> tuple[float, float, float, float]:
    """What other devices do at v before their limits: p - a, x, y and dy/dv."""
    x = x_side - (v + unit[BETA]) * unit[INV_2ALPHA]
    omega = unit[OMEGA]
    y = np.inf if y_side > 0.0 else -np.inf
    bend = 0.0
    if omega > 0.0:
        margin = unit[DELTA] - v
        y = np.inf
        if margin > 0.0:
            y = omega / margin - 1.0
            bend = omega / (margin * margin)
    return v * unit[INV_RHO], x, y, bend


@inner
def battery_powers(
    stop: int,
    mu: float,
    segment: int,
    into: int,
    axis: FloatArray,
    unit: FloatArray,
    work: FloatArray,
) -> None:
    """Charge and discharge [kW] that answer mu on one segment, into two rows of `work`.

    Where the battery burns, one of charge and discharge is at its limit, which moves the
    divide between the two regimes from 0 to discharge_max - charge_max.
    """
    charge_max, discharge_max = unit[CHARGE_MAX], unit[DISCHARGE_MAX]
    v = unit[CYCLE_COST] - mu * unit[ETA_CHARGE]
    p_c, x_c, y_c, _ = device_answer(v, axis[segment, X_CHARGE], axis[segment, Y_CHARGE], unit)
    v = -unit[CYCLE_COST] - mu / unit[ETA_DISCHARGE]
    p_d, x_d, y_d, _ = device_answer(
        v, axis[segment, X_DISCHARGE], axis[segment, Y_DISCHARGE], unit
    )
    if axis[segment, BURNING] > 0.0:
        p_c -= discharge_max
        p_d += charge_max
    for t in range(stop):
        need, x_min, x_max = work[NEED, t], work[X_MIN, t], work[X_MAX, t]
        y_min, y_max = work[Y_MIN, t], work[Y_MAX, t]
        b_c = need + p_c - min(max(x_c, x_min), x_max) + min(max(y_c, y_min), y_max)
        b_d = need + p_d - min(max(x_d, x_min), x_max) + min(max(y_d, y_min), y_max)
        work[into, t] = min(max(-b_c, 0.0), charge_max)
        work[into + 1, t] = min(max(b_d, 0.0), discharge_max)


@inner
def powers_at(
    stop: int, point: Point, axis: FloatArray, unit: FloatArray, work: FloatArray
) -> float:
    """Set charge and discharge at a point of the refined axis; the energy [kWh] they gain."""
    segment = point[0] // 2
    on_jump = point[0] % 2 == 1
    mu = axis[segment, JUMP] if on_jump else point[1]
    below = int(CHARGE)  # a literal would compile the callee once more
    battery_powers(stop, mu, segment, below, axis, unit, work)
    if on_jump:
        battery_powers(stop, mu, segment + 1, below + 2, axis, unit, work)
        for t in range(stop):
            work[CHARGE, t] += point[1] * (work[CHARGE_ABOVE, t] - work[CHARGE, t])
            work[DISCHARGE, t] += point[1] * (work[DISCHARGE_ABOVE, t] - work[DISCHARGE, t])
    energy = 0.0
    gain = unit[DT] * unit[ETA_CHARGE]
    drain = unit[DT] / unit[ETA_DISCHARGE]
    for t in range(stop):
        energy += gain * work[CHARGE, t] - drain * work[DISCHARGE, t]
    return float(energy)


@inner
def energy_slope(
    stop: int, mu: float, segment: int, axis: FloatArray, unit: FloatArray, work: FloatArray
) -> float:
    """Derivative in mu of the energy gained, at the powers that answer mu."""
    slope = 0.0
    for charging in (True, False):
        eta = unit[ETA_CHARGE] if charging else 1.0 / unit[ETA_DISCHARGE]
        v = (unit[CYCLE_COST] if charging else -unit[CYCLE_COST]) - mu * eta
        limit = unit[CHARGE_MAX] if charging else unit[DISCHARGE_MAX]
        x_side = axis[segment, X_CHARGE if charging else X_DISCHARGE]
        y_side = axis[segment, Y_CHARGE if charging else Y_DISCHARGE]
        power = CHARGE if charging else DISCHARGE
        _, x, y, bend = device_answer(v, x_side, y_side, unit)
        moves = 0.0
        for t in range(stop):
            part = unit[INV_RHO]
            part += unit[INV_2ALPHA] if work[X_MIN, t] < x < work[X_MAX, t] else 0.0
            part += bend if work[Y_MIN, t] < y < work[Y_MAX, t] else 0.0
            moves += part if 0.0 < work[power, t] < limit else 0.0
        slope += eta * eta * moves
    return float(unit[DT] * slope)


@inner
def is_before(point: Point, other: Point) -> bool:
    """Order of two points on the refined axis."""
    return point[0] < other[0] or (point[0] == other[0] and point[1] < other[1])


@inner
def find_point(
    stop: int,
    wanted: float,
    low: Point,
    high: Point,
    upward: bool,
    gained: float,
    tolerance: float,
    axis: FloatArray,
    unit: FloatArray,
    work: FloatArray,
) -> Point:
    """Point between `low` and `high` where the first `stop` periods gain `wanted` [kWh].

    Searches from `low` if `upward`, else from `high`: within a segment by Newton's method,
    bisecting where it is slow; a jump is looked at only when the search gets there. `gained`
    is what the first point gains, whose powers are then in `work`; NaN where not known.
    """
    place, mu = low if upward else high
    limit = high if upward else low
    sign = -1.0 if upward else 1.0  # of the error at the start
    while place <= limit[0] if upward else place >= limit[0]:
        if place % 2 == 1:
            jump = place // 2
            below = powers_at(stop, (2 * jump, axis[jump, JUMP]), axis, unit, work)
            above = powers_at(stop, (2 * jump + 2, axis[jump, JUMP]), axis, unit, work)
            if below < wanted <= above:
                return place, (wanted - below) / (above - below)
            if place == limit[0]:
                return limit
            place = place + 1 if upward else place - 1
            mu = axis[jump, JUMP]
            gained = np.nan
        is_last = place == limit[0]
        end = limit[1]
        if not is_last:
            end = axis[place // 2, JUMP] if upward else axis[place // 2 - 1, JUMP]
        start = mu
        a, b = (mu, end) if upward else (end, mu)
        end_known = is_last
        stride = b - a
        previous_stride = stride
        for _ in range(MAX_STEPS):
            if gained != gained:
                gained = powers_at(stop, (place, mu), axis, unit, work)
            error = gained - wanted
            gained = np.nan
            if abs(error) <= tolerance:
                return place, mu
            if mu == end and not end_known:
                if error * sign > 0.0:
                    break
                end_known = True
            if error < 0.0:
                a = mu
            else:
                b = mu
            if b - a <= NARROW * (abs(a) + abs(b)):
                return place, b
            slope = energy_slope(stop, mu, place // 2, axis, unit, work)
            ahead = mu - error / slope if slope > 0.0 else end
            if slope > 0.0 and abs(ahead - mu) <= NARROW * abs(mu):
                return place, mu
            if slope == 0.0 or not a < ahead < b:
                ahead = 0.5 * (a + b) if end_known else end
            elif 2.0 * abs(ahead - mu) > previous_stride and mu != start:
                ahead = 0.5 * (a + b)
            previous_stride = stride
            stride = abs(ahead - mu)
            mu = ahead
        if is_last:
            return limit
        place += 1 if upward else -1
    return limit


@inner
def refined_axis(
    unit: FloatArray, free_generator: bool, free_demand: bool, axis: FloatArray
) -> int:
    """Fill in the segments of the refined axis; returns the number of jumps J.

    Where jumps share a mu, burning comes first, then those of discharge, then those of
    charge, so that along the axis a battery burns, discharges, rests, charges.
    """
    eta_charge, eta_discharge = unit[ETA_CHARGE], unit[ETA_DISCHARGE]
    cycle_cost, beta, delta = unit[CYCLE_COST], unit[BETA], unit[DELTA]
    loss = 1.0 / eta_discharge - eta_charge
    burns = loss > 0.0 and unit[CHARGE_MAX] > 0.0 and unit[DISCHARGE_MAX] > 0.0
    axis[0, JUMP] = np.inf
    axis[0, BURNING] = 1.0 if burns else 0.0
    axis[0, X_CHARGE] = axis[0, X_DISCHARGE] = -np.inf if free_generator else 0.0
    axis[0, Y_CHARGE] = axis[0, Y_DISCHARGE] = 1.0 if free_demand else 0.0
    n = 0
    for column in (BURNING, X_DISCHARGE, Y_DISCHARGE, X_CHARGE, Y_CHARGE):
        of_generator = column in (X_DISCHARGE, X_CHARGE)
        if column == BURNING:
            if not burns:
                continue
            mu = -2.0 * cycle_cost / loss if cycle_cost > 0.0 else 0.0
        else:
            if not (free_generator if of_generator else free_demand):
                continue
            cost = beta if of_generator else -delta
            if column in (X_CHARGE, Y_CHARGE):
                mu = (cost + cycle_cost) / eta_charge
            else:
                mu = (cost - cycle_cost) * eta_discharge
        # insert the jump behind those at lower or equal mu: the segments above it move up
        at = n
        while at > 0 and axis[at - 1, JUMP] > mu:
            at -= 1
        for s in range(n, at - 1, -1):
            for k in range(AXIS_SIZE):
                axis[s + 1, k] = axis[s, k]
            axis[s + 1, column] = np.inf if of_generator else 0.0
        axis[at, JUMP] = mu
        n += 1
    return n


@inner
def value_bounds(
    rho: float, unit: FloatArray, work: FloatArray, axis: FloatArray, n_jumps: int
) -> tuple[float, float, float]:
    """Stored values beyond all jumps and 0 at which every period is saturated, and a guess.

    The guess is the mean local marginal cost with the battery at rest and least demand.
    """
    eta_charge, cycle_cost = unit[ETA_CHARGE], unit[CYCLE_COST]
    v_low = np.inf
    v_high = -np.inf
    guess = 0.0
    share = unit[INV_2ALPHA] / (unit[INV_2ALPHA] + unit[INV_RHO])  # of x in a marginal kW
    for t in range(work.shape[1]):
        x_min, x_max = work[X_MIN, t], work[X_MAX, t]
        least = x_min - work[Y_MAX, t] - unit[CHARGE_MAX]
        most = x_max - work[Y_MIN, t] + unit[DISCHARGE_MAX]
        v_low = min(v_low, rho * (least - work[NEED, t]))
        v_high = max(v_high, rho * (most - work[NEED, t]))
        short = work[NEED, t] + work[Y_MIN, t]
        x = share * (short - unit[BETA] * unit[INV_RHO]) if unit[INV_2ALPHA] > 0.0 else short
        guess += rho * (short - min(max(x, x_min), x_max))
    margin = 1e-9 * (abs(v_low) + abs(v_high) + cycle_cost)
    lowest = min(-(cycle_cost + v_high + margin) * unit[ETA_DISCHARGE], 0.0)
    lowest = min(lowest, (cycle_cost - v_high - margin) / eta_charge)
    highest = max((cycle_cost - v_low + margin) / eta_charge, 0.0)
    if n_jumps > 0:
        lowest = min(lowest, axis[0, JUMP])
        highest = max(highest, axis[n_jumps - 1, JUMP])
    return lowest, highest, min(max(guess / work.shape[1], lowest), highest)
