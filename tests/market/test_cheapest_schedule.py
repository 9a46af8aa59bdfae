"""Priced limits are met and, where devices leave their limits, the cheapest ones do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray
from raygrid.grid.network import NetworkRows
from raygrid.market.final_schedule import FinalStatus, cheapest_schedule, final_schedule


def rows_of(matrix: FloatArray, limit: FloatArray) -> NetworkRows:
    m = len(matrix)
    bound = limit
    return NetworkRows(matrix, -bound, bound, np.array(["line"] * m), np.arange(m))


def test_the_cheapest_bus_moves() -> None:
    """Bus 1 saves least when it moves down, bus 2 costs least when it moves up."""
    p, room = np.array([[1.0], [0.5], [-1.0]]), np.full((3, 1), 5.0)
    up_price = np.array([[0.3], [0.2], [0.1]])
    free = rows_of(np.zeros((0, 3)), np.zeros((0, 1)))
    result = cheapest_schedule(p, room, room, up_price, up_price, free)
    np.testing.assert_allclose(result.delta_kw, [[-0.5], [0.0], [0.0]], rtol=0, atol=1e-9)
    result = cheapest_schedule(-p, room, room, up_price, up_price, free)
    np.testing.assert_allclose(result.delta_kw, [[0.0], [0.0], [0.5]], rtol=0, atol=1e-9)


def test_prices_never_make_it_move_more_than_it_must() -> None:
    p, room = np.array([[1.0], [-1.0]]), np.full((2, 1), 5.0)
    free = rows_of(np.zeros((0, 2)), np.zeros((0, 1)))
    cost = np.array([[0.1], [0.9]])
    result = cheapest_schedule(p, room, room, cost, cost, free)
    np.testing.assert_allclose(result.delta_kw, 0.0, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_balance_limits_and_headroom_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_buses, n_rows, n_periods = 5, 3, 2
    matrix = rng.normal(size=(n_rows, n_buses))
    target = rng.normal(size=(n_buses, n_periods))
    target -= target.mean(axis=0)
    rows = rows_of(matrix, np.abs(matrix @ target) + 0.01)
    p = target + 0.1 * rng.normal(size=target.shape)
    up, down = np.maximum(target - p, 0) + 0.05, np.maximum(p - target, 0) + 0.05
    price = rng.normal(size=target.shape)
    result = cheapest_schedule(p, up, down, price, price, rows)
    assert result.status is FinalStatus.OK
    final = p + result.delta_kw
    np.testing.assert_allclose(final.sum(axis=0), 0.0, rtol=0, atol=1e-12)
    assert (np.abs(matrix @ final) <= rows.upper * (1 + 1e-7)).all()
    assert (result.delta_kw <= up).all()
    assert (result.delta_kw >= -down).all()


def test_out_of_reach_is_a_fault() -> None:
    p, room = np.array([[3.0], [-1.0]]), np.full((2, 1), 0.5)
    free = rows_of(np.zeros((0, 2)), np.zeros((0, 1)))
    result = cheapest_schedule(p, room, room, room, room, free)
    assert result.status is FinalStatus.INFEASIBLE
    assert [fault.period for fault in result.faults] == [0]


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_priced_limit_is_used_to_the_full(side: float) -> None:
    p = side * np.array([[0.9], [-0.9]])
    room, weight = np.full((2, 1), 1.0), np.ones(2)
    rows = rows_of(np.array([[1.0, 0.0]]), np.array([[1.0]]))
    unpriced = final_schedule(p, room, room, weight, rows)
    np.testing.assert_allclose(unpriced.delta_kw, 0.0, rtol=0, atol=1e-12)
    priced = final_schedule(p, room, room, weight, rows, np.array([[0.2 * side]]))
    np.testing.assert_allclose(priced.delta_kw, side * np.array([[0.1], [-0.1]]), atol=1e-8)


def test_a_priced_limit_out_of_reach_is_only_kept() -> None:
    p, room = np.array([[0.5], [-0.5]]), np.full((2, 1), 0.1)
    rows = rows_of(np.array([[1.0, 0.0]]), np.array([[1.0]]))
    result = final_schedule(p, room, room, np.ones(2), rows, np.array([[0.2]]))
    assert result.status is FinalStatus.OK
    np.testing.assert_allclose(result.delta_kw, 0.0, rtol=0, atol=1e-12)
