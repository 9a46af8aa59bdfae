"""The final schedule: the least change of bus injections that balances within all limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from raygrid.arrays import BoolArray, FloatArray
from raygrid.errors import RaygridError
from raygrid.grid.tree_rows import LimitRows, TreeRows
from raygrid.market.active_set import SOLVED, STALLED, solve_limits
from raygrid.market.bands import INSIDE, OUTSIDE, widened
from raygrid.market.projection import RowFault
from raygrid.market.tree_final import Rooms, tree_final

TREE_THREADS = 2
"""Threads for the final schedule of a large radial network."""


class FinalStatus(StrEnum):
    """Whether a final schedule exists for the given headroom."""

    OK = "ok"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class FinalSchedule:
    """Change of the bus injections from the converged to the final schedule.

    Attributes
    ----------
    status : FinalStatus
        OK, or INFEASIBLE where the headroom of some period cannot reach balance and limits.
    delta_kw : (B, T) float64
        Change of the net injection per bus, within the headroom; zero in periods at fault [kW].
    faults : tuple of RowFault
        Periods at fault, each with the rows that contradict the headroom; no rows where the
        balance alone is out of reach.
    """

    status: FinalStatus
    delta_kw: FloatArray
    faults: tuple[RowFault, ...] = ()


def final_schedule(
    p_bus_kw: FloatArray,
    up_kw: FloatArray,
    down_kw: FloatArray,
    bus_weight: FloatArray,
    rows: LimitRows,
    row_price: FloatArray | None = None,
) -> FinalSchedule:
    """Balance the bus sums within all limits (4-12) by the least weighted change.

    Per period minimises ``sum_b delta_b^2 / n_b`` subject to ``sum_b (p_b + delta_b) = 0``,
    ``lower <= matrix (p + delta) <= upper`` and ``-down <= delta <= up``. A limit that has a
    price is used to the full where that is possible, since slack in it costs its price.

    Parameters
    ----------
    p_bus_kw : (B, T) float64
        Net injection per bus after the last round [kW].
    up_kw, down_kw : (B, T) float64
        By how much each bus can raise and lower it, neither negative [kW].
    bus_weight : (B,) float64
        Sum of size weights per bus n_b.
    rows : NetworkRows or TreeRows
        Limits; may be empty.
    row_price : (M, T) float64, optional
        Price of each limit, positive at upper, negative at lower bounds.

    Returns
    -------
    FinalSchedule
        Changes, or the periods and rows at fault.

    Raises
    ------
    ValueError
        If a headroom is negative or an entry is not finite.
    RaygridError
        If rounding kept the method from ending.
    """
    if not all(np.isfinite(a).all() for a in (p_bus_kw, up_kw, down_kw)):
        raise ValueError("injections and headrooms must be finite")
    if (up_kw < 0).any() or (down_kw < 0).any():
        raise ValueError("headrooms must not be negative")
    if isinstance(rows, TreeRows):
        free = np.zeros_like(p_bus_kw)
        rooms = Rooms(p_bus_kw, up_kw, down_kw, up_kw, down_kw, free, free)
        return _of_tree(rows, bus_weight, rooms, row_price)
    delta = np.zeros_like(p_bus_kw)
    faults: list[RowFault] = []
    for t in range(p_bus_kw.shape[1]):
        p, up, down = p_bus_kw[:, t], up_kw[:, t], down_kw[:, t]
        excess = float(p.sum())
        target = min(max(-excess, -float(down.sum())), float(up.sum()))
        if abs(excess + target) > OUTSIDE * float(np.abs(p).sum()) / 2:
            faults.append(RowFault(t, ()))
            continue
        at_fault: tuple[int, ...] = ()
        price = None if row_price is None else row_price[:, t]
        for lower, upper in _bands(rows.lower[:, t], rows.upper[:, t], price):
            change, at_fault = _one_period(
                p, up, down, target, bus_weight, rows.matrix, lower, upper
            )
            if change is not None:
                delta[:, t] = change
                break
        else:
            faults.append(RowFault(t, at_fault))
    status = FinalStatus.INFEASIBLE if faults else FinalStatus.OK
    return FinalSchedule(status, delta, tuple(faults))


def cheapest_schedule(
    p_bus_kw: FloatArray,
    up_kw: FloatArray,
    down_kw: FloatArray,
    up_price: FloatArray,
    down_price: FloatArray,
    rows: LimitRows,
) -> FinalSchedule:
    """Balance the bus sums within all limits by the least change, and of those the cheapest.

    Per period minimises ``sum_b |delta_b|`` and then ``sum_b price_b delta_b`` under the
    conditions of `final_schedule`. For periods in which devices must leave their limits, where
    it matters which of them do.

    Parameters
    ----------
    p_bus_kw, up_kw, down_kw : (B, T) float64
        As in `final_schedule` [kW].
    up_price, down_price : (B, T) float64
        Mean marginal cost of each bus's room upwards, and what a move downwards saves
        [currency/kWh].
    rows : NetworkRows or TreeRows
        Limits; may be empty.

    Returns
    -------
    FinalSchedule
        Changes, or the periods at fault; `final_schedule` tells which rows are.
    """
    from scipy.optimize import linprog

    if isinstance(rows, TreeRows):
        none = np.zeros_like(p_bus_kw)
        rooms = Rooms(p_bus_kw, none, none, up_kw, down_kw, up_price, down_price)
        return _of_tree(rows, np.ones(len(p_bus_kw)), rooms, None)
    delta = np.zeros_like(p_bus_kw)
    faults: list[RowFault] = []
    n_buses = len(p_bus_kw)
    for t in range(p_bus_kw.shape[1]):
        p, up, down = p_bus_kw[:, t], up_kw[:, t], down_kw[:, t]
        prices = np.concatenate([up_price[:, t], -down_price[:, t]])
        # A kW more of movement outweighs every difference between prices.
        weight = 1.0 + 4.0 * float(np.abs(prices).max(initial=0.0))
        lower, upper = widened(rows.lower[:, t], rows.upper[:, t], -INSIDE)
        flow = rows.matrix @ p
        both = np.hstack([rows.matrix, -rows.matrix])
        finite_up, finite_low = np.isfinite(upper), np.isfinite(lower)
        solved = linprog(
            weight + prices,
            A_ub=np.vstack([both[finite_up], -both[finite_low]]),
            b_ub=np.concatenate([(upper - flow)[finite_up], (flow - lower)[finite_low]]),
            A_eq=np.concatenate([np.ones(n_buses), -np.ones(n_buses)])[None, :],
            b_eq=[-p.sum()],
            bounds=np.stack([np.zeros(2 * n_buses), np.concatenate([up, down])], axis=1),
            method="highs-ds",
            options={"primal_feasibility_tolerance": 1e-10},
        )
        if solved.status != 0:
            faults.append(RowFault(t, ()))
            continue
        delta[:, t] = np.clip(solved.x[:n_buses] - solved.x[n_buses:], -down, up)
        _close_sum(delta[:, t], up, down, -float(p.sum()))
    status = FinalStatus.INFEASIBLE if faults else FinalStatus.OK
    return FinalSchedule(status, delta, tuple(faults))


@dataclass(frozen=True)
class StagedSchedule:
    """A final schedule that uses the room of all devices only where it must.

    Attributes
    ----------
    final : FinalSchedule
        Changes, or the periods and rows at fault.
    whole : (B, T) bool
        Where the change is one of all devices, not of those between their limits alone.
    """

    final: FinalSchedule
    whole: BoolArray


def staged_schedule(
    rooms: Rooms, bus_weight: FloatArray, rows: LimitRows, row_price: FloatArray
) -> StagedSchedule:
    """Balance the bus sums within all limits with near rooms, with far ones where it must be.

    Over dense rows, periods that near rooms cannot bring out are done anew with all devices, as
    by `cheapest_schedule`; over `TreeRows`, far rooms are used bus by bus, see
    `raygrid.market.tree_final`.

    Parameters
    ----------
    rooms : Rooms
        Injections and rooms of the buses.
    bus_weight, rows, row_price
        As in `final_schedule`.
    """
    if isinstance(rows, TreeRows):
        delta, faults = tree_final(rows, bus_weight, rooms, row_price, threads=TREE_THREADS)
        status = FinalStatus.INFEASIBLE if faults else FinalStatus.OK
        return StagedSchedule(FinalSchedule(status, delta, faults), rooms.uses_far(delta))
    near = final_schedule(
        rooms.p_kw, rooms.near_up_kw, rooms.near_down_kw, bus_weight, rows, row_price
    )
    periods = np.array([fault.period for fault in near.faults], dtype=np.int64)
    whole = np.zeros(rooms.p_kw.shape, dtype=np.bool_)
    whole[:, periods] = True
    if not near.faults:
        return StagedSchedule(near, whole)
    part = rows.with_bounds(rows.lower[:, periods], rows.upper[:, periods])
    own = rooms.take(slice(None), periods)
    far = cheapest_schedule(own.p_kw, own.up_kw, own.down_kw, own.up_price, own.down_price, part)
    if far.faults:
        far = final_schedule(own.p_kw, own.up_kw, own.down_kw, bus_weight, part)
    delta = near.delta_kw.copy()
    delta[:, periods] = far.delta_kw
    faults = tuple(RowFault(int(periods[f.period]), f.rows) for f in far.faults)
    return StagedSchedule(FinalSchedule(far.status, delta, faults), whole)


def _of_tree(
    rows: TreeRows, bus_weight: FloatArray, rooms: Rooms, row_price: FloatArray | None
) -> FinalSchedule:
    delta, faults = tree_final(rows, bus_weight, rooms, row_price)
    status = FinalStatus.INFEASIBLE if faults else FinalStatus.OK
    return FinalSchedule(status, delta, faults)


def _bands(
    lower: FloatArray, upper: FloatArray, price: FloatArray | None
) -> list[tuple[FloatArray, FloatArray]]:
    """Bounds to try, the best first: priced limits met, within all limits, a hair outside."""
    inside = widened(lower, upper, -INSIDE)
    bands = [inside, widened(lower, upper, OUTSIDE)]
    if price is not None and price.any():
        low, high = inside
        met = np.where(price > 0, high, low), np.where(price < 0, low, high)
        bands.insert(0, met)
    return bands


def _one_period(
    p: FloatArray,
    up: FloatArray,
    down: FloatArray,
    target: float,
    bus_weight: FloatArray,
    matrix: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
) -> tuple[FloatArray | None, tuple[int, ...]]:
    """The change of one period, whose sum is `target`; else None and the rows at fault.

    The headroom of each bus that can move is one more row, e_b, of the projection.
    """
    n_rows, delta = len(lower), np.zeros_like(p)
    free = np.flatnonzero((up + down > 0) & (bus_weight > 0))
    n = bus_weight[free]
    total = float(n.sum()) if len(free) else 1.0
    start = n * (target / total)
    mean = matrix[:, free] @ n / total
    spread = matrix[:, free] - mean[:, None]
    cross = spread * n
    gram = np.block([[cross @ spread.T, cross], [cross.T, np.diag(n) - np.outer(n, n) / total]])
    norm = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    size = np.concatenate([np.abs(matrix).max(axis=1, initial=0.0) * np.sqrt(total), np.sqrt(n)])
    movable = norm > 1e-9 * size
    scale = np.where(movable, 1.0 / np.where(movable, norm, 1.0), 1.0)
    gram = np.where(np.outer(movable, movable), gram * np.outer(scale, scale), 0.0)
    value = np.concatenate([matrix @ p + matrix[:, free] @ start, start])
    solution = solve_limits(
        gram,
        (value * scale)[None, :],
        (np.concatenate([lower, -down[free]]) * scale)[None, :],
        (np.concatenate([upper, up[free]]) * scale)[None, :],
        np.zeros((1, len(value)), dtype=np.int64),
    )
    if solution.codes[0] == STALLED:
        raise RaygridError("the final schedule's active-set method does not settle")
    if solution.codes[0] != SOLVED:
        return None, tuple(int(i) for i in np.flatnonzero(solution.at_fault[0, :n_rows]))
    m = solution.multipliers[0] * np.where(movable, scale, 0.0)
    correction = spread.T @ m[:n_rows] + m[n_rows:] - (n @ m[n_rows:]) / total
    delta[free] = np.clip(start - n * correction, -down[free], up[free])
    _close_sum(delta, up, down, target)
    return delta, ()


def _close_sum(delta: FloatArray, up: FloatArray, down: FloatArray, target: float) -> None:
    """Put what rounding left of the sum on the buses with most room, in place."""
    for _ in range(2):
        rest = target - float(delta.sum())
        room = up - delta if rest > 0 else delta + down
        b = int(np.argmax(room))
        delta[b] += np.copysign(min(abs(rest), float(room[b])), rest)
