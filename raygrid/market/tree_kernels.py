"""Compiled passes up and down a tree of limited lines; see `raygrid.market.tree`.

The net injection below a line is a non-increasing, piecewise linear function of the price. It is
kept as its value at price 0, the weight by which it falls there, and its knots, in ascending
order, of which `begin` to `mid` lie left and `mid` to `end` right of 0; from each knot on it falls
faster by the knot's weight. Searches start at 0, near which prices lie, so that distant knots cost
no digits. Weights are whole quanta: they add up exactly, a flat end is exactly flat, and the order
of knots with the same price changes no bit.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import QUANTUM, BoolArray, FloatArray, IntArray
from raygrid.prosumer.compiled import compiled, inner

LEAST = 1e-300
"""Prices of knots keep this distance to 0, so that sorting leaves each on its side."""

_TIGHT = 1e-10
"""Violation, relative to the size of the numbers, that counts as none where nobody can move."""


@compiled
def add_up(parent: IntArray, values: FloatArray) -> None:
    """Add each row to that of its parent (-1: none), last first, in place."""
    for i in range(len(parent) - 1, -1, -1):
        above = parent[i]
        if above >= 0:
            for t in range(values.shape[1]):
                values[above, t] += values[i, t]


@inner
def _fall(
    q: FloatArray, d: IntArray, begin: int, mid: int, end: int,
    value: float, weight: int, level: float,
) -> tuple[float, int, int, float]:  # fmt: skip
    """Least price at which the function is at most `level`.

    Returns the price (-inf where it is everywhere), the first knot right of it, the weight
    there, and by how much the level is missed where it is never reached; the price is then that
    from which on the function is least.
    """
    at = 0.0
    if value > level:
        for j in range(mid, end):
            after = value - weight * QUANTUM * (q[j] - at)
            if after <= level:
                return at + (value - level) / (weight * QUANTUM), j, weight, 0.0
            value, at = after, q[j]
            weight += d[j]
        if weight > 0:
            return at + (value - level) / (weight * QUANTUM), end, weight, 0.0
        if end == begin:
            at = -np.inf
        return at, end, weight, value - level
    for j in range(mid - 1, begin - 1, -1):
        before = value + weight * QUANTUM * (at - q[j])
        if before > level:
            return at - (level - value) / (weight * QUANTUM), j + 1, weight, 0.0
        value, at = before, q[j]
        weight -= d[j]
    if weight > 0:
        return at - (level - value) / (weight * QUANTUM), begin, weight, 0.0
    return -np.inf, begin, weight, 0.0


@inner
def _rise(
    q: FloatArray, d: IntArray, begin: int, mid: int, end: int,
    value: float, weight: int, level: float,
) -> tuple[float, int, int, float]:  # fmt: skip
    """Largest price at which the function is at least `level`; the mirror image of `_fall`.

    Returns the price (inf where it is everywhere), where the knots left of it end, the weight
    there, and by how much the level is missed where it is never reached.
    """
    at = 0.0
    if value < level:
        for j in range(mid - 1, begin - 1, -1):
            before = value + weight * QUANTUM * (at - q[j])
            if before >= level:
                return at - (level - value) / (weight * QUANTUM), j + 1, weight, 0.0
            value, at = before, q[j]
            weight -= d[j]
        if weight > 0:
            return at - (level - value) / (weight * QUANTUM), begin, weight, 0.0
        if end == begin:
            at = np.inf
        return at, begin, weight, level - value
    for j in range(mid, end):
        after = value - weight * QUANTUM * (q[j] - at)
        if after < level:
            return at + (value - level) / (weight * QUANTUM), j, weight, 0.0
        value, at = after, q[j]
        weight += d[j]
    if weight > 0:
        return at + (value - level) / (weight * QUANTUM), end, weight, 0.0
    return np.inf, end, weight, 0.0


@inner
def _merge(
    q: FloatArray, d: IntArray, bound: IntArray, n_runs: int, q2: FloatArray, d2: IntArray
) -> bool:
    """Sort knots that come in sorted runs; whether the result is in the second two arrays."""
    total, second = bound[n_runs], False
    while n_runs > 1:
        for r in range(0, n_runs, 2):
            a, stop_a = bound[r], bound[r + 1]
            b, stop_b = stop_a, bound[min(r + 2, n_runs)]
            for k in range(a, stop_b):
                if b >= stop_b or (a < stop_a and q[a] <= q[b]):
                    q2[k], d2[k] = q[a], d[a]
                    a += 1
                else:
                    q2[k], d2[k] = q[b], d[b]
                    b += 1
        n_runs = (n_runs + 1) // 2
        for r in range(n_runs):
            bound[r] = bound[2 * r]
        bound[n_runs] = total
        q, q2 = q2, q
        d, d2 = d2, d
        second = not second
    return second


@compiled
def climb(
    item_parent: IntArray, item_comp: IntArray, value: FloatArray,
    child_first: IntArray, child: IntArray, given: BoolArray, base: IntArray,
    lower: FloatArray, upper: FloatArray, second_lower: FloatArray, second_upper: FloatArray,
    start: IntArray,
    own_first: IntArray, own: IntArray, own_price: FloatArray, own_fall: IntArray,
    q: FloatArray, d: IntArray, begin: IntArray, mid: IntArray, end: IntArray,
    weight: IntArray, size: FloatArray, reach: FloatArray, leave: FloatArray, fault: IntArray,
) -> None:  # fmt: skip
    """Form the function of every component, last first, and cut it at the limits of its line.

    Parameters
    ----------
    item_parent, item_comp : (I,) int64
        Item above each item, -1 at a top; component whose top the item is, else -1.
    value : (I, T) float64
        Values at price 0. In: of what stands at the item alone. Out: of all below it.
    child_first, child : (C + 1,), (K,) int64
        Components right below each.
    given : (C,) bool
        Components whose function came from elsewhere and is in place.
    base : (C,) int64
        Own weight of each component, without that of knots.
    lower, upper : (C, T) float64
        Limits of the line above; infinite where there is none.
    second_lower, second_upper : (C, T) float64
        Wider limits, taken where the first cannot be kept.
    start : (C,) int64
        First place of each component's knots, kept free for the cut.
    own_first, own : (C + 1,), (J,) int64
        Rows of the next two arrays that belong to each component.
    own_price, own_fall : (R, T, k)
        Knots in ascending order, the first half left of 0 and the others right of it, by
        `LEAST` or more; those that fall by 0 are none.
    q, d : (T, cap)
        Prices and weights of knots.
    begin, mid, end, weight, size : (C, T)
        Where the knots are, weights at 0, largest number met.
    reach, leave : (C, T) float64
        Prices at which the function meets the upper and the lower limit; infinite where it is
        not cut.
    fault : (C, T) int64
        1 where the least injection is above the limit, -1 where the largest is below.
    """
    cap, half = q.shape[1], own_price.shape[2] // 2
    q1, d1 = np.empty(cap), np.empty(cap, dtype=np.int64)
    q2, d2 = np.empty(cap), np.empty(cap, dtype=np.int64)
    bound = np.empty(cap + 2, dtype=np.int64)
    for i in range(len(item_parent) - 1, -1, -1):
        c = item_comp[i]
        if c >= 0 and not given[c]:
            for t in range(q.shape[0]):
                # Add up what stands right below.
                w, largest = base[c], abs(value[i, t])
                first, at, run, n_left, only = start[c] + 1, 0, 0, 0, -1
                for e in range(child_first[c], child_first[c + 1]):
                    below = child[e]
                    w += weight[below, t]
                    largest = max(largest, size[below, t])
                    if end[below, t] > begin[below, t]:
                        bound[run] = at
                        at += end[below, t] - begin[below, t]
                        n_left += mid[below, t] - begin[below, t]
                        run, only = run + 1, below
                if run == 1 and own_first[c] == own_first[c + 1]:
                    first, at = begin[only, t], 0
                    centre, stop = mid[only, t], end[only, t]
                else:
                    at = 0
                    for e in range(child_first[c], child_first[c + 1]):
                        below = child[e]
                        for j in range(begin[below, t], end[below, t]):
                            q1[at], d1[at] = q[t, j], d[t, j]
                            at += 1
                    for e in range(own_first[c], own_first[c + 1]):
                        was = at
                        for k in range(2 * half):
                            falls = own_fall[own[e], t, k]
                            if falls != 0:
                                q1[at], d1[at] = own_price[own[e], t, k], falls
                                at += 1
                                if k < half:
                                    w += falls
                                    n_left += 1
                        if at > was:
                            bound[run] = was
                            run += 1
                    bound[run] = at
                    if run > 1 and _merge(q1, d1, bound, run, q2, d2):
                        for j in range(at):
                            q[t, first + j], d[t, first + j] = q2[j], d2[j]
                    else:
                        for j in range(at):
                            q[t, first + j], d[t, first + j] = q1[j], d1[j]
                    centre, stop = first + n_left, first + at
                # Cut at the limits, at the second ones where the first are out of reach.
                v = value[i, t]
                for attempt in range(2):
                    high = second_upper[c, t] if attempt else upper[c, t]
                    low = second_lower[c, t] if attempt else lower[c, t]
                    if high < np.inf:
                        largest = max(largest, abs(high))
                    if low > -np.inf:
                        largest = max(largest, abs(low))
                    reach[c, t], leave[c, t], fault[c, t] = -np.inf, np.inf, 0
                    if high < np.inf:
                        price, j, s, missed = _fall(q[t], d[t], first, centre, stop, v, w, high)
                        if missed > _TIGHT * largest:
                            fault[c, t] = 1
                        elif missed > 0.0 or (price > -np.inf and low >= high):
                            # Flat at the limit, or held there: one value whatever the price.
                            reach[c, t], v, w = price, high, 0 * w
                            stop = centre = first
                            if low >= high and price > -np.inf:
                                leave[c, t] = price
                        elif price > -np.inf:
                            reach[c, t] = price
                            first = j - 1
                            if v > high:
                                v, w = high, 0 * w
                                centre, price = first, max(price, LEAST)
                            else:
                                price = min(price, -LEAST)
                            q[t, first], d[t, first] = price, s
                    if low > -np.inf and fault[c, t] == 0:
                        price, j, s, missed = _rise(q[t], d[t], first, centre, stop, v, w, low)
                        if missed > _TIGHT * largest:
                            fault[c, t] = -1
                        elif missed > 0.0 or (
                            price < np.inf and (low >= high or price <= reach[c, t])
                        ):
                            leave[c, t], v, w = max(price, reach[c, t]), low, 0 * w
                            stop = centre = first
                        elif price < np.inf:
                            leave[c, t] = price
                            stop = j + 1
                            if v < low:
                                v, w = low, 0 * w
                                centre, price = stop, min(price, -LEAST)
                            else:
                                price = max(price, LEAST)
                            q[t, j], d[t, j] = price, -s
                    if fault[c, t] == 0:
                        break
                if fault[c, t] != 0:
                    v, w = high if fault[c, t] > 0 else low, 0 * w
                    stop = centre = first
                    reach[c, t], leave[c, t] = -np.inf, np.inf
                value[i, t], weight[c, t], size[c, t] = v, w, largest
                begin[c, t], mid[c, t], end[c, t] = first, centre, stop
        above = item_parent[i]
        if above >= 0:
            for t in range(value.shape[1]):
                value[above, t] += value[i, t]


@compiled
def load_given(
    comps: IntArray, left: IntArray, count: IntArray, price: FloatArray, fall: IntArray,
    start: IntArray, q: FloatArray, d: IntArray, begin: IntArray, mid: IntArray, end: IntArray,
) -> None:  # fmt: skip
    """Put knots that came from elsewhere, one run per component and period, into their places."""
    at = 0
    for r in range(len(comps)):
        c = comps[r]
        for t in range(count.shape[1]):
            begin[c, t] = start[c] + 1
            mid[c, t] = begin[c, t] + left[r, t]
            end[c, t] = begin[c, t] + count[r, t]
            for j in range(begin[c, t], end[c, t]):
                q[t, j], d[t, j] = price[at], fall[at]
                at += 1


@compiled
def take_out(
    comps: IntArray, q: FloatArray, d: IntArray, begin: IntArray, end: IntArray,
    price: FloatArray, fall: IntArray,
) -> None:  # fmt: skip
    """The inverse of `load_given`."""
    at = 0
    for c in comps:
        for t in range(begin.shape[1]):
            for j in range(begin[c, t], end[c, t]):
                price[at], fall[at] = q[t, j], d[t, j]
                at += 1


@compiled
def balance(
    value: FloatArray, weight: IntArray, left: IntArray, count: IntArray, size: FloatArray,
    granted: FloatArray, q: FloatArray, d: IntArray, price: FloatArray, fault: IntArray,
) -> None:  # fmt: skip
    """Price at which a function is zero, the middle where it is at many; see `climb`.

    `q` and `d` hold the knots of all periods in a row; `granted` is how far off a period may end
    where zero cannot be reached.
    """
    begin = 0
    for t in range(len(price)):
        mid, end = begin + left[t], begin + count[t]
        low, _, _, above = _fall(q, d, begin, mid, end, value[t], weight[t], 0.0)
        high, _, _, below = _rise(q, d, begin, mid, end, value[t], weight[t], 0.0)
        begin = end
        if max(above, below) > granted[t] + _TIGHT * size[t]:
            fault[t] = 1 if above > 0.0 else -1
        if above > 0.0:
            high = low
        elif below > 0.0:
            low = high
        if abs(low) < np.inf and abs(high) < np.inf:
            price[t] = 0.5 * (low + high)
        elif abs(low) < np.inf:
            price[t] = low
        else:
            price[t] = high if abs(high) < np.inf else 0.0


@compiled
def descend(above: IntArray, reach: FloatArray, leave: FloatArray, price: FloatArray) -> None:
    """Prices of all components from those above the tops' lines, in place; above is -1 there."""
    for c in range(len(above)):
        for t in range(price.shape[1]):
            value = price[c, t] if above[c] < 0 else price[above[c], t]
            price[c, t] = min(max(value, reach[c, t]), leave[c, t])
