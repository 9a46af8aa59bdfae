"""Stretches of constant stored value: the first of a path, found from anew or renewed.

See `raygrid.prosumer.storage_path` for the mathematics.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import inner
from raygrid.prosumer.stored_value import (
    CHARGE,
    DISCHARGE,
    DT,
    ETA_CHARGE,
    ETA_DISCHARGE,
    JUMP,
    NARROW,
    Point,
    energy_slope,
    find_point,
    is_before,
    powers_at,
)

NEWTON_STEPS = 6
"""A kept stretch that needs more steps than this is looked for anew."""


@inner
def worst_violations(
    stop: int,
    charged: float,
    n_periods: int,
    bounds: tuple[float, float, float, float],
    unit: FloatArray,
    work: FloatArray,
) -> tuple[int, int]:
    """Periods whose ends violate floor and ceiling most on the path in `work`; -1 if none."""
    gain = unit[DT] * unit[ETA_CHARGE]
    drain = unit[DT] / unit[ETA_DISCHARGE]
    worst_low = worst_high = 3.0 * bounds[3]
    at_floor = at_ceiling = -1
    energy = charged
    for t in range(stop):
        energy += gain * work[CHARGE, t] - drain * work[DISCHARGE, t]
        least = bounds[2] if t == n_periods - 1 else bounds[0]
        if least - energy > worst_low:
            worst_low = least - energy
            at_floor = t
        if energy - bounds[1] > worst_high:
            worst_high = energy - bounds[1]
            at_ceiling = t
    return at_floor, at_ceiling


@inner
def next_stretch(
    n_periods: int,
    charged: float,
    guess: Point,
    rest: Point,
    ends: tuple[float, float],
    n_jumps: int,
    bounds: tuple[float, float, float, float],
    axis: FloatArray,
    unit: FloatArray,
    work: FloatArray,
) -> tuple[int, Point, float]:
    """The first stretch of constant value, from the first period in `work` on.

    One candidate path is followed. Where it violates its floor the point must rise until it
    touches there, where its ceiling, fall. As long as all touches are on one side, the
    candidate is the outermost point that the path so far asks for; once the other side is
    violated, no one point serves, and the stretch ends at the last touch. A touch is aimed a
    rounding error beyond its bound: where many values reach the bound itself, that is the
    outermost.

    Parameters
    ----------
    n_periods : int
        Periods left to the end of the horizon.
    charged : float
        State of charge at the start [kWh].
    guess : Point
        Where the search starts; any point.
    rest : Point
        The point where stored energy is worth nothing.
    ends : (2,) tuple
        Values that bracket every solution.
    n_jumps : int
        Number of jumps.
    bounds : (4,) tuple
        Least and largest state of charge, the least at the horizon's end, tolerance [kWh].
    axis, unit, work : arrays
        The prosumer and the work space.

    Returns
    -------
    stop, point, charge at stop
        The powers of its periods stay in `work`.
    """
    tolerance = bounds[3]
    gain = unit[DT] * unit[ETA_CHARGE]
    drain = unit[DT] / unit[ETA_DISCHARGE]
    lowest: Point = (int(0), ends[0])  # noqa: RUF046, UP018 (a literal 0 would compile all anew)
    highest: Point = (2 * n_jumps, ends[1])
    point = guess
    touch = int(0)  # noqa: RUF046, UP018
    touches_floor = False
    t = int(0)  # noqa: RUF046, UP018
    energy = charged
    powers_at(n_periods, point, axis, unit, work)
    while t < n_periods:
        ahead = energy + gain * work[CHARGE, t] - drain * work[DISCHARGE, t]
        least = bounds[2] if t == n_periods - 1 else bounds[0]
        floor = ahead < least - 3.0 * tolerance
        if not floor and ahead <= bounds[1] + 3.0 * tolerance:
            energy = ahead
            t += 1
            continue
        if touch > 0 and touches_floor != floor:
            return touch, point, bounds[0] if touches_floor else bounds[1]
        # look ahead for the worst on the same side: if a touch there mends all before it,
        # the touches in between need not be found
        last = t
        gained = ahead - charged
        worst = least - ahead if floor else ahead - bounds[1]
        for s in range(t + 1, n_periods):
            ahead += gain * work[CHARGE, s] - drain * work[DISCHARGE, s]
            least = bounds[2] if s == n_periods - 1 else bounds[0]
            violation = least - ahead if floor else ahead - bounds[1]
            if violation < least - bounds[1]:  # beyond the other bound
                break
            if violation > worst:
                worst = violation
                last = s
                gained = ahead - charged
        moved = point
        for _ in range(2 * n_periods):  # rounding must not let it go round for ever
            least = bounds[2] if last == n_periods - 1 else bounds[0]
            aim = least - 2.0 * tolerance if floor else bounds[1] + 2.0 * tolerance
            moved = find_point(
                last + 1, aim - charged, moved if floor else lowest, highest if floor else moved,
                floor, gained, tolerance, axis, unit, work,
            )  # fmt: skip
            gained = np.nan
            powers_at(n_periods, moved, axis, unit, work)
            below, above = worst_violations(last, charged, n_periods, bounds, unit, work)
            other, same = (above, below) if floor else (below, above)
            if other >= 0 and last > t:
                last = t
                moved = point
            elif other < 0 and same >= 0:
                last = same
            else:
                break
        for _ in range(
            n_periods if other >= 0 else 0
        ):  # no one point serves: the tightest touch on the other side ends it
            last = other
            aim = bounds[1] + 2.0 * tolerance if floor else bounds[0] - 2.0 * tolerance
            moved = find_point(
                last + 1, aim - charged, point if floor else moved, moved if floor else point,
                not floor, np.nan, tolerance, axis, unit, work,
            )  # fmt: skip
            powers_at(last + 1, moved, axis, unit, work)
            below, above = worst_violations(last, charged, n_periods, bounds, unit, work)
            other = above if floor else below
            if other < 0:
                return last + 1, moved, bounds[1] if floor else bounds[0]
        point = moved
        touch = last + 1
        touches_floor = floor
        t = touch
        energy = least if floor else bounds[1]
    # complementarity at the end: a slack end means a worthless last kWh, so come as close to
    # rest as the path allows
    falls = is_before(rest, point)
    if not falls and not is_before(point, rest):
        return n_periods, point, energy
    if touch > 0 and touches_floor == falls:
        return touch, point, bounds[0] if falls else bounds[1]
    moved = rest
    touch = n_periods
    for _ in range(2 * n_periods):
        powers_at(n_periods, moved, axis, unit, work)
        below, above = worst_violations(n_periods, charged, n_periods, bounds, unit, work)
        worst_at = below if falls else above
        if worst_at < 0:
            return touch, moved, bounds[0] if falls else bounds[1]
        touch = worst_at + 1
        least = bounds[2] if touch == n_periods else bounds[0]
        aim = least - 2.0 * tolerance if falls else bounds[1] + 2.0 * tolerance
        moved = find_point(
            touch, aim - charged, moved if falls else point, point if falls else moved,
            falls, np.nan, tolerance, axis, unit, work,
        )  # fmt: skip
    powers_at(n_periods, moved, axis, unit, work)
    return touch, moved, bounds[0] if falls else bounds[1]


@inner
def renewed_stretch(
    stop: int,
    n_periods: int,
    charged: float,
    at_floor: bool,
    guess: Point,
    rest: Point,
    ends: tuple[float, float],
    n_jumps: int,
    bounds: tuple[float, float, float, float],
    axis: FloatArray,
    unit: FloatArray,
    work: FloatArray,
) -> tuple[bool, Point]:
    """Whether a stretch may still have these periods and end as it did, and its point.

    Newton's method from the point it had, on the same segment or jump; then the bounds inside
    the stretch and, at the horizon's end, the sign of the point are looked at. Its order with
    its neighbours is left to the caller.

    Parameters
    ----------
    stop : int
        Periods of the stretch.
    n_periods : int
        Periods left to the end of the horizon.
    charged : float
        State of charge at the start [kWh].
    at_floor : bool
        Whether it ends at its floor, rather than at its ceiling.
    guess : Point
        The point it had, or one near it on the same segment.
    rest, ends, n_jumps, bounds, axis, unit, work
        As for `next_stretch`.

    Returns
    -------
    whether it holds, point
        If so, the powers of its periods stay in `work`.
    """
    tolerance = bounds[3]
    is_last = stop == n_periods
    place, level = guess
    if is_last and place == rest[0] and level == rest[1]:
        powers_at(stop, guess, axis, unit, work)
        below, above = worst_violations(stop, charged, n_periods, bounds, unit, work)
        return below < 0 and above < 0, guess
    aim = bounds[1]
    if at_floor:
        aim = bounds[2] if is_last else bounds[0]
    wanted = aim - charged
    jump = place // 2
    on_jump = place % 2 == 1
    least, most = ends
    if on_jump:
        least = powers_at(stop, (place - 1, axis[jump, JUMP]), axis, unit, work)
        most = powers_at(stop, (place + 1, axis[jump, JUMP]), axis, unit, work)
        if not least < wanted <= most:
            return False, guess
        level = (wanted - least) / (most - least)
    else:
        if jump > 0:
            least = axis[jump - 1, JUMP]
        if jump < n_jumps:
            most = axis[jump, JUMP]
    for _ in range(NEWTON_STEPS):
        error = powers_at(stop, (place, level), axis, unit, work) - wanted
        found = on_jump or abs(error) <= tolerance
        move = 0.0
        if not found:
            slope = energy_slope(stop, level, jump, axis, unit, work)
            if not slope > 0.0:
                return False, guess
            move = error / slope
            found = abs(move) <= NARROW * abs(level)
        if found:
            below, above = worst_violations(stop - 1, charged, n_periods, bounds, unit, work)
            point = (place, level)
            holds = below < 0 and above < 0
            if is_last:  # only a stretch that asks for more may end at its floor
                holds = holds and not (
                    is_before(point, rest) if at_floor else is_before(rest, point)
                )
            return holds, point
        level -= move
        if not least <= level <= most:
            return False, guess
    return False, guess
