"""Compiled exact solver of one prosumer's battery path (thesis 3-11 to 3-15).

With mu the value of a stored kWh and ``v = rho (p - a)``, which is minus the local marginal
cost, the prosumer's other devices answer v by x(v) and y(v), so its battery must deliver
``b(v) = a + fixed load + v / rho - x(v) + y(v)``, which grows with v. Stationarity in charge
and discharge then reads

    charging     v = cycle_cost - mu eta_charge
    discharging  v = -cycle_cost - mu / eta_discharge

and the energy gained in a period is a non-decreasing map of mu. mu may fall only where the
path touches its floor and rise only where it touches its ceiling, so the path is a chain of
stretches of constant mu between touches, found one after the other: renewed from the
prosumer's last path where that still holds, else anew (`raygrid.prosumer.stretches`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import inner, merged
from raygrid.prosumer.stored_value import (
    BETA,
    CHARGE,
    CHARGE_MAX,
    CYCLE_COST,
    DELTA,
    DISCHARGE,
    DISCHARGE_MAX,
    DT,
    ETA_CHARGE,
    ETA_DISCHARGE,
    INV_2ALPHA,
    INV_RHO,
    JUMP,
    NEED,
    OMEGA,
    WORK_SIZE,
    X_CHARGE,
    X_MAX,
    X_MIN,
    Y_CHARGE,
    Y_MAX,
    Y_MIN,
    Point,
    is_before,
    refined_axis,
    value_bounds,
)  # fmt: skip
from raygrid.prosumer.stretches import next_stretch, renewed_stretch

OPTIMAL, SIMULTANEOUS, UNREACHABLE = range(3)

FREE = 1e-9
"""Curvature relative to rho below which a device counts as free: steeper responses than this
could not be resolved in mu, and p moves by no more than this part of the device's power."""

# rows of the chain of stretches (4, T), at each one's first period: its point, the charge it
# starts from and the first period of the stretch before it
PLACE, LEVEL, CHARGED, BEFORE, CHAIN_SIZE = range(5)

SCRATCH_SIZE = CHARGE + CHAIN_SIZE + WORK_SIZE

EndArray = NDArray[np.int8]
LevelArray = NDArray[np.float32]


@inner
def load_periods(start: int, stop: int, given: FloatArray, work: FloatArray) -> None:
    """Bring periods start:stop to the front of the work space."""
    for k in range(CHARGE):
        for t in range(stop - start):
            work[k, t] = given[k, start + t]


@inner
def kept_point(
    end: int, level: float, ends: tuple[float, float], n_jumps: int, axis: FloatArray
) -> Point:
    """A kept point, moved onto its segment if rounding or new targets took it off."""
    place = abs(end) - 1
    segment = place // 2
    if place % 2 == 0:
        least = axis[segment - 1, JUMP] if segment > 0 else ends[0]
        most = axis[segment, JUMP] if segment < n_jumps else ends[1]
        level = min(max(level, least), most)
    return place, level


@inner
def keep_chain(
    last: int,
    n_periods: int,
    rest: Point,
    floor: float,
    chain: FloatArray,
    kept_ends: EndArray,
    kept_levels: LevelArray,
) -> None:
    """Write down where stretches start, at which points, and at which bound they end."""
    kept_ends[:] = 0
    start = last
    at_floor = is_before(rest, (int(chain[PLACE, last]), chain[LEVEL, last]))
    while start >= 0:
        end = int(chain[PLACE, start]) + 1
        kept_ends[start] = end if at_floor else -end
        kept_levels[start] = chain[LEVEL, start]
        at_floor = chain[CHARGED, start] == floor
        start = int(chain[BEFORE, start])


@merged
def solve_storage(
    need: FloatArray,
    rho: float,
    period_hours: float,
    parameters: FloatArray,
    x_min: FloatArray,
    x_max: FloatArray,
    y_min: FloatArray,
    y_max: FloatArray,
    charge: FloatArray,
    discharge: FloatArray,
    soc: FloatArray,
    value: FloatArray,
    old_ends: EndArray,
    old_levels: LevelArray,
    keeps: bool,
    new_ends: EndArray,
    new_levels: LevelArray,
    unit: FloatArray,
    axis: FloatArray,
    scratch: FloatArray,
) -> int:
    """Optimal battery path of one prosumer beside its other devices.

    Stretches of the path before are renewed where they still hold. A stretch that does not,
    or is out of order with its neighbour, is looked for anew; the outcome satisfies the same
    conditions, whatever path it starts from.

    Parameters
    ----------
    need : (T,) float64
        ADMM target plus fixed load [kW].
    rho : float
        Penalty rho_i.
    period_hours : float
        dt [h].
    parameters : (14,) float64
        Columns as `raygrid.prosumer.units.KERNEL_COLUMNS`.
    x_min, x_max, y_min, y_max : (T,) float64
        Generation and elastic demand limits [kW].
    charge, discharge, soc, value : (T,) float64
        Receive powers [kW], state of charge [kWh] and value mu [currency/kWh].
    old_ends, old_levels : (T,) int8 and float32
        The path to start from: at a stretch's first period, one more than its place on the
        refined axis, negative if it ends at its ceiling, and its level; 0 elsewhere.
    keeps : bool
        Whether the path found is written down.
    new_ends, new_levels : (T,) int8 and float32
        Receive it.
    unit, axis, scratch : (UNIT_SIZE,), (6, AXIS_SIZE), (SCRATCH_SIZE, T) float64
        Work space.

    Returns
    -------
    int
        OPTIMAL, SIMULTANEOUS (the convex problem charges and discharges at once) or
        UNREACHABLE (the terminal charge cannot be reached; charged as far as it goes).
    """
    n_periods = len(need)
    generation_span = demand_span = demand_max = 0.0
    given = scratch[:CHARGE]
    chain = scratch[CHARGE : CHARGE + CHAIN_SIZE]
    work = scratch[CHARGE + CHAIN_SIZE : SCRATCH_SIZE]
    for t in range(n_periods):
        given[NEED, t] = need[t]
        given[X_MIN, t] = x_min[t]
        given[X_MAX, t] = x_max[t]
        given[Y_MIN, t] = y_min[t]
        given[Y_MAX, t] = y_max[t]
        generation_span = max(generation_span, x_max[t] - x_min[t])
        demand_span = max(demand_span, y_max[t] - y_min[t])
        demand_max = max(demand_max, y_max[t])
    alpha, omega = parameters[0], parameters[2]
    flat = 2.0 * alpha <= FREE * rho
    free_generator = generation_span > 0.0 and flat
    free_demand = demand_span > 0.0 and omega <= FREE * rho * (1.0 + demand_max) ** 2
    unit[ETA_CHARGE] = parameters[10]
    unit[ETA_DISCHARGE] = parameters[11]
    unit[CHARGE_MAX] = parameters[8]
    unit[DISCHARGE_MAX] = parameters[9]
    unit[CYCLE_COST] = parameters[12]
    unit[INV_RHO] = 1.0 / rho
    unit[INV_2ALPHA] = 0.0 if flat else 0.5 / alpha
    unit[BETA] = parameters[1]
    unit[OMEGA] = 0.0 if free_demand else omega
    unit[DELTA] = parameters[3]
    unit[DT] = period_hours
    n_jumps = refined_axis(unit, free_generator, free_demand, axis)
    lowest, highest, level = value_bounds(rho, unit, given, axis, n_jumps)
    scale = max(1.0, parameters[5], period_hours * max(parameters[8], parameters[9]))
    floor_at_end = max(parameters[4], parameters[7])
    bounds = (parameters[4], parameters[5], floor_at_end, 1e-13 * scale)
    # at value 0 rather rest than burn or cycle: behind every jump but those of charge
    rest_place = place = int(0)  # noqa: RUF046, UP018 (a literal 0 would compile all anew)
    for j in range(n_jumps):
        of_charge = (
            axis[j, X_CHARGE] != axis[j + 1, X_CHARGE] or axis[j, Y_CHARGE] != axis[j + 1, Y_CHARGE]
        )
        if axis[j, JUMP] < 0.0 or (axis[j, JUMP] == 0.0 and not of_charge):
            rest_place = 2 * j + 2
        if axis[j, JUMP] < level:
            place = 2 * j + 2

    rest = (rest_place, 0.0)
    point = previous = (place, level)
    start = int(0)  # noqa: RUF046, UP018
    before = -1
    charged = parameters[6]
    trusted = n_periods  # old stretches that start earlier are tried
    was_renewed = False
    while start < n_periods:
        left = n_periods - start
        end = int(old_ends[start])
        renewed = False
        length = left
        if 0 < abs(end) <= 2 * n_jumps + 1:
            point = kept_point(end, float(old_levels[start]), (lowest, highest), n_jumps, axis)
            if start < trusted:
                length = 1
                while length < left and old_ends[start + length] == 0:
                    length += 1
                load_periods(start, start + length, given, work)
                renewed, point = renewed_stretch(
                    length, left, charged, end > 0, point, rest, (lowest, highest), n_jumps,
                    bounds, axis, unit, work,
                )  # fmt: skip
        ahead = bounds[0] if end > 0 else bounds[1]
        if not renewed:
            load_periods(start, n_periods, given, work)
            length, point, ahead = next_stretch(
                left, charged, point, rest, (lowest, highest), n_jumps, bounds, axis, unit, work,
            )  # fmt: skip
        if (
            start > 0
            and (renewed or was_renewed)
            and (
                (charged != bounds[0] and is_before(point, previous))
                or (charged != bounds[1] and is_before(previous, point))
            )
        ):  # the stretch before should not have ended here
            start = trusted = before
            charged = chain[CHARGED, start]
            before = int(chain[BEFORE, start])
            was_renewed = True
            if before >= 0:
                previous = (int(chain[PLACE, before]), chain[LEVEL, before])
            continue
        chain[PLACE, start] = point[0]
        chain[LEVEL, start] = point[1]
        chain[CHARGED, start] = charged
        chain[BEFORE, start] = before
        mu = axis[point[0] // 2, JUMP] if point[0] % 2 == 1 else point[1]
        for t in range(length):
            charge[start + t] = work[CHARGE, t]
            discharge[start + t] = work[DISCHARGE, t]
            value[start + t] = mu
        before = start
        previous = point
        was_renewed = renewed
        charged = ahead
        start += length
    if keeps:
        keep_chain(before, n_periods, rest, bounds[0], chain, new_ends, new_levels)
    dust = 1e-12 * scale / period_hours
    simultaneous = False
    for t in range(n_periods):
        charge[t] = charge[t] if charge[t] > dust else 0.0
        discharge[t] = discharge[t] if discharge[t] > dust else 0.0
        simultaneous |= charge[t] > 0.0 and discharge[t] > 0.0
    settle_charge(period_hours, parameters, charge, discharge, soc)
    if soc[n_periods - 1] < floor_at_end - 1e-9 * scale:
        return UNREACHABLE
    return SIMULTANEOUS if simultaneous else OPTIMAL


@inner
def settle_charge(
    period_hours: float,
    parameters: FloatArray,
    charge: FloatArray,
    discharge: FloatArray,
    soc: FloatArray,
) -> None:
    """Integrate the charge and take rounding out of the powers where it leaves its bounds."""
    gain = parameters[10] * period_hours
    drain = period_hours / parameters[11]
    charged = parameters[6]
    n_periods = len(soc)
    for t in range(n_periods):
        floor = parameters[4]
        if t == n_periods - 1:
            floor = max(floor, parameters[7])
        ahead = charged + gain * charge[t] - drain * discharge[t]
        if ahead > parameters[5]:
            excess = ahead - parameters[5]
            if charge[t] > 0.0:
                charge[t] = max(charge[t] - excess / gain, 0.0)
            else:
                discharge[t] = min(discharge[t] + excess / drain, parameters[9])
            ahead = min(charged + gain * charge[t] - drain * discharge[t], parameters[5])
        elif ahead < floor:
            lack = floor - ahead
            if discharge[t] > 0.0:
                discharge[t] = max(discharge[t] - lack / drain, 0.0)
            else:
                charge[t] = min(charge[t] + lack / gain, parameters[8])
            ahead = charged + gain * charge[t] - drain * discharge[t]
            # what is left is rounding, unless the terminal charge is out of reach
            if floor - ahead <= 1e-12 * max(1.0, parameters[5]):
                ahead = floor
        charged = ahead
        soc[t] = charged
