"""Compiled loops that match sellers and buyers bus by bus, each trade using up one of them."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import IntArray
from raygrid.prosumer.compiled import compiled, inner


@inner
def _trade(
    left: IntArray, i: int, i_end: int, j: int, j_end: int, trades: IntArray, count: int, t: int
) -> tuple[int, int, int]:
    """Trade sellers i:i_end with buyers j:j_end until one side is used up; where they stand."""
    while True:
        while i < i_end and left[i] <= 0:
            i += 1
        while j < j_end and left[j] >= 0:
            j += 1
        if i == i_end or j == j_end:
            return i, j, count
        amount = min(left[i], -left[j])
        left[i] -= amount
        left[j] += amount
        trades[count, 0], trades[count, 1] = i, j
        trades[count, 2], trades[count, 3] = t, amount
        count += 1


@inner
def _match_own(
    left: IntArray,
    start: IntArray,
    net: IntArray,
    at: IntArray,
    trades: IntArray,
    count: int,
    t: int,
) -> int:
    """Trades within each bus; what it has left over, and where its agents go on."""
    for b in range(len(net)):
        first, last = start[b], start[b + 1]
        i, j, count = _trade(left, first, last, first, last, trades, count, t)
        net[b] = 0
        for n in range(first, last):
            net[b] += left[n]
        at[b] = i if net[b] > 0 else j
    return count


@inner
def _match_two(
    left: IntArray,
    start: IntArray,
    net: IntArray,
    at: IntArray,
    a: int,
    b: int,
    trades: IntArray,
    count: int,
    t: int,
) -> int:
    """Trades between two buses of which one has sales and one purchases left."""
    if net[a] < 0:
        a, b = b, a
    at[a], at[b], count = _trade(left, at[a], start[a + 1], at[b], start[b + 1], trades, count, t)
    flow = min(net[a], -net[b])
    net[a] -= flow
    net[b] += flow
    return count


@compiled
def match_pairs(
    energy: IntArray, start: IntArray, one: IntArray, other: IntArray, trades: IntArray
) -> int:
    """Match sellers and buyers of all periods, pairs of buses in the given order.

    Parameters
    ----------
    energy : (T, N) int64
        Net energies, agents sorted by bus [Wh]; used up.
    start : (B + 1,) int64
        First agent of each bus, and N.
    one, other : (P,) int64
        Pairs of buses.
    trades : (K, 4) int64
        Out: seller, buyer, period and energy; room for one less than the agents of each period.

    Returns
    -------
    int
        Number of trades.
    """
    net = np.empty(len(start) - 1, dtype=np.int64)
    at = np.empty(len(start) - 1, dtype=np.int64)
    count = int(0)  # noqa: RUF046, UP018 (a literal would compile all inner loops once more)
    for t in range(energy.shape[0]):
        left = energy[t]
        count = _match_own(left, start, net, at, trades, count, t)
        for k in range(len(one)):
            a, b = one[k], other[k]
            if min(net[a], net[b]) < 0 < max(net[a], net[b]):
                count = _match_two(left, start, net, at, a, b, trades, count, t)
    return count


@compiled
def match_along(energy: IntArray, start: IntArray, order: IntArray, trades: IntArray) -> int:
    """Match sellers and buyers of all periods along an order of the buses.

    Parameters
    ----------
    energy, start, trades
        As `match_pairs`.
    order : (B,) int64
        Buses in the order in which they meet.

    Returns
    -------
    int
        Number of trades.
    """
    net = np.empty(len(start) - 1, dtype=np.int64)
    at = np.empty(len(start) - 1, dtype=np.int64)
    waiting = np.empty(len(order), dtype=np.int64)
    count = int(0)  # noqa: RUF046, UP018 (a literal would compile all inner loops once more)
    for t in range(energy.shape[0]):
        left = energy[t]
        count = _match_own(left, start, net, at, trades, count, t)
        top = 0
        for b in order:
            while top > 0 and min(net[waiting[top - 1]], net[b]) < 0 < max(
                net[waiting[top - 1]], net[b]
            ):
                a = waiting[top - 1]
                count = _match_two(left, start, net, at, a, b, trades, count, t)
                if net[a] == 0:
                    top -= 1
            if net[b] != 0:
                waiting[top] = b
                top += 1
    return count
