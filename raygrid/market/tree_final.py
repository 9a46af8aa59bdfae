"""The final schedule of a radial network, by passes up and down the tree.

Each bus answers a price with a change of its injection. It moves first within its *near* room,
where a move costs next to nothing, in proportion to its weight; only at prices beyond all near
rooms does it move within its *far* room, that of all its devices, the cheapest bus first. So far
rooms are used only where, and as far as, near ones do not suffice: below a line that cannot be
kept without, or everywhere where the balance cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np

from raygrid.arrays import QUANTUM, BoolArray, FloatArray, IntArray, dequantise, quantise
from raygrid.grid.tree_rows import TreeRows
from raygrid.market.bands import INSIDE, OUTSIDE, widened
from raygrid.market.projection import RowFault
from raygrid.market.tree_kernels import LEAST
from raygrid.market.tree_part import part_of
from raygrid.market.tree_solver import Injections, Limits, TreeSolver, solve_balance

_CELLS = 250_000
"""Nodes times periods that a thread passes at a time, about 600 bytes each."""
_LARGEST_STEP = 1e4
"""Near moves end at this price at most [kW per unit of size weight]."""
_WIDTH = 1e-3
"""A bus uses its far room over this part of the step, which is how sharp the cheapest is told."""
_FINEST = 1e-6
"""Smallest step for each kW of all rooms, which keeps the weights of knots countable."""


class Attempt(StrEnum):
    """Rooms and limits to try, the best first; a period ends with the first that it can keep."""

    NEAR = "near"
    """Near rooms alone; limits with a price are used to the full, each where it can be."""
    FAR = "far"
    """All rooms; limits with a price are used to the full where near rooms can do that, and
    unless they stand against others."""
    KEPT = "kept"
    """All rooms; limits are only kept."""
    OUTSIDE = "outside"
    """All rooms; limits are kept but for a hair."""


@dataclass(frozen=True)
class Rooms:
    """Injections and by how much they can still change, (B, T) each.

    Attributes
    ----------
    p_kw : float64
        Net injection [kW].
    near_up_kw, near_down_kw : float64
        Room where a move costs next to nothing [kW].
    up_kw, down_kw : float64
        Room of all devices, at least that [kW].
    up_price, down_price : float64
        Mean marginal cost of that room, and what a move downwards saves [currency/kWh].
    """

    p_kw: FloatArray
    near_up_kw: FloatArray
    near_down_kw: FloatArray
    up_kw: FloatArray
    down_kw: FloatArray
    up_price: FloatArray
    down_price: FloatArray

    def take(self, rows: IntArray | slice, columns: IntArray) -> Rooms:
        """Those of some buses and periods."""
        return Rooms(*(getattr(self, f.name)[rows][:, columns] for f in fields(self)))

    def uses_far(self, delta_kw: FloatArray) -> BoolArray:
        """(B, T) where a change needs the room of all devices."""
        slack = 1.0 + INSIDE
        up, down = self.near_up_kw * slack, self.near_down_kw * slack
        return np.asarray((delta_kw > up) | (-delta_kw > down))


def tree_final(
    rows: TreeRows,
    bus_weight: FloatArray,
    rooms: Rooms,
    row_price: FloatArray | None,
    threads: int = 1,
) -> tuple[FloatArray, tuple[RowFault, ...]]:
    """Balance the bus sums within all limits of a radial network; see `final_schedule`.

    Parameters
    ----------
    rows : TreeRows
        Limits.
    bus_weight : (B,) float64
        Sums of size weights per bus, in whole quanta.
    rooms : Rooms
        Of the buses.
    row_price : (M, T) float64 or None
        Price of each limit.
    threads : int
        Threads that share the periods.

    Returns
    -------
    delta_kw : (B, T) float64
        Changes; zero in periods at fault.
    faults : tuple of RowFault
        Periods without a schedule.
    """
    order = rows.tree.order
    passes = _Passes(rows, quantise(bus_weight)[order], row_price)
    n_periods = rooms.p_kw.shape[1]
    size = max(1, _CELLS // rows.n_buses)
    groups = [np.arange(k, min(k + size, n_periods)) for k in range(0, n_periods, size)]
    delta = np.zeros_like(rooms.p_kw)
    faults: list[RowFault] = []

    def solve(periods: IntArray) -> Sequence[RowFault]:
        change, found = passes.solve(rooms.take(order, periods), periods)
        delta[np.ix_(order, periods)] = change
        return found

    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(solve, groups):
            faults += found
    return delta, tuple(faults)


class _Passes:
    """Passes up and down one network, for some of its periods at a time."""

    def __init__(
        self, rows: TreeRows, weight_quanta: IntArray, row_price: FloatArray | None
    ) -> None:
        self._solver = TreeSolver(part_of(rows, [int(rows.tree.order[0])]))
        self._weight = weight_quanta
        self._price: FloatArray | None = None
        if row_price is not None and row_price.any():
            # Each component's price, in the direction of what is below its line.
            has = self._solver.row >= 0
            self._price = np.zeros((len(has), row_price.shape[1]))
            own = row_price[self._solver.row[has]]
            self._price[has] = self._solver.sign[has, None] * own

    def solve(self, rooms: Rooms, periods: IntArray) -> tuple[FloatArray, list[RowFault]]:
        """Changes (n, K) of the nodes, and the faults of some periods."""
        delta = np.zeros_like(rooms.p_kw)
        step = _steps(rooms, dequantise(self._weight))
        granted = OUTSIDE / 2 * np.abs(rooms.p_kw).sum(axis=0)
        left, faults = np.arange(len(periods)), list[RowFault]()
        price = None if self._price is None else self._price[:, periods]
        for attempt in Attempt:
            if not len(left) or (attempt is Attempt.KEPT and price is None):
                continue
            part = rooms.take(slice(None), left)
            injections = _injections(part, self._weight, step[left], attempt is not Attempt.NEAR)
            limits = self._limits(attempt, periods[left], None if price is None else price[:, left])
            climbed = self._solver.climb(injections, None, limits)
            nu, found = solve_balance(self._solver, climbed, granted[left])
            at = self._solver.at_nodes(self._solver.descend(climbed, nu[None, :]))
            change, bent = np.zeros_like(part.p_kw), injections.bent
            change[bent] = _moved(injections, at[bent])
            change = np.clip(change, -part.down_kw, part.up_kw)
            _close(part, change, granted[left])
            good = np.ones(len(left), dtype=np.bool_)
            good[[fault.period for fault in found]] = False
            delta[:, left[good]] = change[:, good]
            if price is not None:
                price[:, left] *= climbed.reach == climbed.leave
                for fault in found:
                    price[np.isin(self._solver.row, fault.rows), left[fault.period]] = 0.0
            faults = [RowFault(int(periods[left[f.period]]), f.rows) for f in found]
            left = left[~good]
        return delta, faults

    def _limits(self, attempt: Attempt, periods: IntArray, price: FloatArray | None) -> Limits:
        limits = self._solver.limits
        low, high = widened(
            limits.lower[:, periods],
            limits.upper[:, periods],
            OUTSIDE if attempt is Attempt.OUTSIDE else -INSIDE,
        )
        if price is None or attempt in (Attempt.KEPT, Attempt.OUTSIDE):
            return Limits(low, high, low, high)
        met_low = np.where((price > 0) & np.isfinite(high), high, low)
        met_high = np.where((price < 0) & np.isfinite(low), low, high)
        return Limits(met_low, met_high, low, high)


def _steps(rooms: Rooms, weight: FloatArray) -> FloatArray:
    """(K,) price beyond which far rooms are used [kW per unit of size weight]."""
    near = np.maximum(rooms.near_up_kw, rooms.near_down_kw)
    n = np.broadcast_to(weight[:, None], near.shape)
    reach = np.divide(near, n, out=np.zeros_like(near), where=n > 0).max(axis=0, initial=0.0)
    room = rooms.up_kw.sum(axis=0) + rooms.down_kw.sum(axis=0)
    step = np.maximum(np.minimum(reach, _LARGEST_STEP), _FINEST * room + QUANTUM)
    return np.asarray(step)


def _injections(
    rooms: Rooms, weight_quanta: IntArray, step_kw: FloatArray, far: bool
) -> Injections:
    """Injection of each bus as a function of the price; see the module's docstring."""
    has = ((rooms.up_kw + rooms.down_kw) > 0).any(axis=1) & (weight_quanta > 0)
    bent = np.flatnonzero(has)
    own = rooms.take(bent, np.arange(len(step_kw)))
    weight = weight_quanta[bent][:, None]
    n = dequantise(weight)
    near_up = np.minimum(own.near_up_kw, n * step_kw)
    near_down = np.minimum(own.near_down_kw, n * step_kw)
    far_up = np.maximum(own.up_kw - near_up, 0.0)
    far_down = np.maximum(own.down_kw - near_down, 0.0)
    near_only = not (far and (far_up.any() or far_down.any()))
    price = np.empty((*near_up.shape, 2 if near_only else 6))
    fall = np.zeros(price.shape, dtype=np.int64)
    half = price.shape[2] // 2
    price[..., half - 1] = np.minimum(-near_up / n, -LEAST)
    price[..., half] = np.maximum(near_down / n, LEAST)
    fall[..., half - 1] = np.where(near_up + near_down > 0, weight, 0)
    fall[..., half] = -fall[..., half - 1]
    if not near_only:
        width = _WIDTH * step_kw
        price[..., 1] = -step_kw * (2.0 + _squashed(own.up_price))
        price[..., 0] = price[..., 1] - width
        price[..., 4] = step_kw * (2.0 - _squashed(own.down_price))
        price[..., 5] = price[..., 4] + width
        for first, room in ((0, far_up), (4, far_down)):
            fall[..., first] = np.rint(room / (width * QUANTUM)).astype(np.int64)
            fall[..., first + 1] = -fall[..., first]
    none = np.zeros(len(weight_quanta), dtype=np.int64)
    return Injections(rooms.p_kw, none, bent, price, fall)


def _squashed(price: FloatArray) -> FloatArray:
    """Prices in their order, between -1 and 1."""
    return np.asarray(price / (1.0 + np.abs(price)))


def _moved(injections: Injections, price: FloatArray) -> FloatArray:
    """(J, K) what the bent nodes add to their injection at given prices (J, K)."""
    half = injections.fall.shape[2] // 2
    moved = -dequantise(injections.fall[..., :half].sum(axis=2)) * price
    for k in range(2 * half):
        beyond = injections.price[..., k] - price
        fall = dequantise(injections.fall[..., k])
        moved -= fall * np.maximum(beyond if k < half else -beyond, 0.0)
    return moved


def _close(rooms: Rooms, change: FloatArray, granted: FloatArray) -> None:
    """Put what rounding has left of the balance on the buses with most room, in place."""
    columns = np.arange(change.shape[1])
    far = rooms.uses_far(change)
    up = np.where(far, rooms.up_kw, rooms.near_up_kw) - change
    down = np.where(far, rooms.down_kw, rooms.near_down_kw) + change
    rest = -(rooms.p_kw + change).sum(axis=0)
    # What is more was granted, or no schedule exists.
    rest[np.abs(rest) > np.maximum(granted, 1e-6)] = 0.0
    bus = np.where(rest > 0, up.argmax(axis=0), down.argmax(axis=0))
    room = np.where(rest > 0, up[bus, columns], down[bus, columns])
    change[bus, columns] += np.copysign(np.minimum(np.abs(rest), np.maximum(room, 0.0)), rest)
