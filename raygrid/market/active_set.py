"""A dual active-set method for projections onto balance and linear limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.prosumer.compiled import compiled, frozen_view, inner, merged

SOLVED = 0
INFEASIBLE = 1
STALLED = 2

_DEPENDENT = 1e-11
"""Squared distance of a unit row from the span of the active rows that counts as none."""
_TIGHT = 1e-12
"""Violation, relative to the size of the numbers, that counts as none."""
_LOOSE = 1e-10
"""The same for a row that depends on the active ones, where only rounding can differ."""


@dataclass(frozen=True)
class LimitSolution:
    """Multipliers of all periods.

    Attributes
    ----------
    codes : (T,) int64
        SOLVED, INFEASIBLE, or STALLED where rounding kept the method from ending.
    multipliers : (T, M) float64
        m, positive at upper and negative at lower bounds.
    at_fault : (T, M) bool
        Where infeasible, the rows that contradict each other.
    """

    codes: IntArray
    multipliers: FloatArray
    at_fault: BoolArray


def solve_limits(
    gram: FloatArray, free: FloatArray, lower: FloatArray, upper: FloatArray, active: IntArray
) -> LimitSolution:
    """Find m with lower <= s = free - gram m <= upper, m >= 0 at upper, <= 0 at lower bounds.

    These are the optimality conditions of a projection whose rows have the Gram matrix `gram`.
    The dual method of Goldfarb and Idnani (1983) from a warm start: each step adds the most
    violated row and drops those whose multiplier would change sign, so that the dual objective
    grows at every step and the method ends after finitely many. A row that depends on the
    active ones (a parallel line) takes the place of one of them, or proves infeasibility.

    Parameters
    ----------
    gram : (M, M) float64
        Positive semidefinite with unit diagonal; an all-zero row cannot be moved by anybody.
    free : (T, M) float64
        Row values without any multiplier.
    lower, upper : (T, M) float64
        Bounds, infinite where there is none.
    active : (T, M) int64
        In: guess of the active rows, 1 at the upper and -1 at the lower bound, else 0. Out: the
        active rows.

    Returns
    -------
    LimitSolution
        Multipliers, and what is at fault where there are none.
    """
    n_periods, n_rows = free.shape
    codes = np.zeros(n_periods, dtype=np.int64)
    multipliers, at_fault = np.zeros(free.shape), np.zeros(free.shape, dtype=np.bool_)
    if n_rows:
        solve_periods(
            frozen_view(gram),
            frozen_view(free),
            frozen_view(lower),
            frozen_view(upper),
            active,
            np.zeros(n_rows + 1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.zeros((n_rows + 1, n_rows + 1)),
            np.zeros(n_rows + 1),
            codes,
            multipliers,
            at_fault,
        )
    return LimitSolution(codes, multipliers, at_fault)


# The number of active rows travels in an array, since numba would compile each helper anew for
# every constant it starts from; work arrays come from outside for the same reason, compile time.


@inner
def _extend(
    gram: FloatArray, order: IntArray, count: IntArray, row: int, factor: FloatArray
) -> float:
    """Write the Cholesky row of `row` below those of the active ones; return the squared pivot."""
    k = count[0]
    pivot = gram[row, row]
    for a in range(k):
        value = gram[row, order[a]]
        for c in range(a):
            value -= factor[k, c] * factor[a, c]
        value /= factor[a, a]
        factor[k, a] = value
        pivot -= value * value
    return float(pivot)


@inner
def _append(order: IntArray, count: IntArray, row: int, pivot: float, factor: FloatArray) -> None:
    """Make the row whose Cholesky row `_extend` has just written an active one."""
    k = count[0]
    factor[k, k] = np.sqrt(pivot)
    order[k] = row
    count[0] = k + 1


@inner
def _rebuild(gram: FloatArray, order: IntArray, count: IntArray, factor: FloatArray) -> None:
    """Factor the active rows anew; a part of independent rows is independent."""
    k = count[0]
    count[0] = 0
    for a in range(k):
        pivot = _extend(gram, order, count, order[a], factor)
        _append(order, count, order[a], max(pivot, _DEPENDENT), factor)


@inner
def _back_substitute(count: IntArray, factor: FloatArray, x: FloatArray) -> None:
    """Solve L' x = x in place."""
    k = count[0]
    for step in range(k):
        a = k - 1 - step
        value = x[a]
        for c in range(a + 1, k):
            value -= factor[c, a] * x[c]
        x[a] = value / factor[a, a]


@inner
def _multipliers_at_bounds(
    free: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    active: IntArray,
    order: IntArray,
    count: IntArray,
    factor: FloatArray,
    x: FloatArray,
) -> None:
    """Multipliers that put every active row on its bound: G_WW x = free_W - bound_W."""
    for a in range(count[0]):
        row = order[a]
        value = free[row] - (upper[row] if active[row] > 0 else lower[row])
        for c in range(a):
            value -= factor[a, c] * x[c]
        x[a] = value / factor[a, a]
    _back_substitute(count, factor, x)


@inner
def _factor_active(
    gram: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    active: IntArray,
    order: IntArray,
    count: IntArray,
    factor: FloatArray,
) -> None:
    """Factor the rows marked active; those without a bound or dependent on others leave."""
    count[0] = 0
    for i in range(len(active)):
        if active[i] != 0:
            pivot = 0.0
            if abs(upper[i] if active[i] > 0 else lower[i]) < np.inf:
                pivot = _extend(gram, order, count, i, factor)
            if pivot > _DEPENDENT:
                _append(order, count, i, pivot, factor)
            else:
                active[i] = 0


@inner
def _keep_signs(
    active: IntArray, order: IntArray, count: IntArray, x: FloatArray, multiplier: FloatArray
) -> int:
    """Take multipliers over; rows with the wrong sign leave; how many.

    A sign that is wrong by rounding only stands for 0, and the row stays.
    """
    wrong, largest = 0, 0.0
    for i in range(len(multiplier)):
        multiplier[i] = 0.0
    for a in range(count[0]):
        largest = max(largest, abs(x[a]))
    for a in range(count[0]):
        row = order[a]
        if x[a] * active[row] >= 0.0:
            multiplier[row] = x[a]
        elif x[a] * active[row] < -_TIGHT * largest:
            active[row] = 0
            wrong += 1
    return wrong


@merged
def _solve_period(
    gram: FloatArray,
    free: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    active: IntArray,
    order: IntArray,
    count: IntArray,
    factor: FloatArray,
    x: FloatArray,
    multiplier: FloatArray,
    at_fault: BoolArray,
) -> int:
    n_rows = len(free)
    size = 0.0
    for i in range(n_rows):
        size = max(size, abs(free[i]))
        if abs(lower[i]) < np.inf:
            size = max(size, abs(lower[i]))
        if abs(upper[i]) < np.inf:
            size = max(size, abs(upper[i]))
    steps, limit = 0, 200 + 20 * n_rows
    factored = False
    while True:
        # The optimum over the active rows alone: those of the wrong sign leave until none has
        # it, at a warm start because the guess was wrong, later on because of rounding.
        if not factored:
            _factor_active(gram, lower, upper, active, order, count, factor)
            factored = True
        _multipliers_at_bounds(free, lower, upper, active, order, count, factor, x)
        steps += 1
        if _keep_signs(active, order, count, x, multiplier) > 0 and steps < limit:
            factored = False
            continue
        # The most violated row enters; values are formed afresh so that no rounding adds up.
        weight = 0.0
        for a in range(count[0]):
            weight = max(weight, abs(multiplier[order[a]]))
        entering = int(-1)  # noqa: RUF046, UP018 (a literal would compile `_extend` once more)
        violation, side = _TIGHT * (size + weight), 0
        for i in range(n_rows):
            value = free[i]
            for a in range(count[0]):
                value -= gram[i, order[a]] * multiplier[order[a]]
            # at_fault marks rows that were given up as depending on the active ones.
            if value - upper[i] > violation and active[i] <= 0 and not at_fault[i]:
                violation, entering, side = value - upper[i], i, 1
            if lower[i] - value > violation and active[i] >= 0 and not at_fault[i]:
                violation, entering, side = lower[i] - value, i, -1
        if entering < 0:
            break
        while True:
            steps += 1
            if steps > limit:
                return STALLED
            pivot = _extend(gram, order, count, entering, factor)
            k = count[0]
            for a in range(k):
                x[a] = factor[k, a]
            _back_substitute(count, factor, x)
            independent = pivot > _DEPENDENT
            full = violation / pivot if independent else np.inf
            least_rate = 1e-13 if independent else 1e-9
            partial, leaving = np.inf, -1
            for a in range(k):
                row = order[a]
                rate = active[row] * x[a] * side
                if rate > least_rate:
                    length = max(active[row] * multiplier[row], 0.0) / rate
                    if length < partial:
                        partial, leaving = length, a
            if not independent and leaving < 0:
                if violation > _LOOSE * (size + weight):
                    for i in range(n_rows):
                        at_fault[i] = i == entering
                    for a in range(k):
                        at_fault[order[a]] |= abs(x[a]) > 1e-9
                    return INFEASIBLE
                # Contradicts the active rows by rounding only: it holds as well as they do.
                at_fault[entering] = True
                break
            if full <= partial:
                _append(order, count, entering, pivot, factor)
                active[entering] = side
                break
            for a in range(k):
                multiplier[order[a]] -= x[a] * side * partial
            if independent:
                violation -= pivot * partial
            active[order[leaving]] = 0
            for a in range(leaving, k - 1):
                order[a] = order[a + 1]
            count[0] = k - 1
            _rebuild(gram, order, count, factor)
    for i in range(n_rows):
        at_fault[i] = False
    return SOLVED


@compiled
def solve_periods(
    gram: FloatArray,
    free: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    active: IntArray,
    order: IntArray,
    count: IntArray,
    factor: FloatArray,
    x: FloatArray,
    codes: IntArray,
    multipliers: FloatArray,
    at_fault: BoolArray,
) -> None:
    for t in range(len(codes)):
        codes[t] = _solve_period(
            gram, free[t], lower[t], upper[t], active[t], order, count, factor, x,
            multipliers[t], at_fault[t],
        )  # fmt: skip
