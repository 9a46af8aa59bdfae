"""The final schedule against an independent QP solver, and what must hold exactly."""

from __future__ import annotations

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray
from raygrid.grid.network import NetworkRows
from raygrid.market.final_schedule import FinalStatus, final_schedule


def make_rows(matrix: FloatArray, limit: FloatArray) -> NetworkRows:
    n_rows = len(matrix)
    return NetworkRows(matrix, -limit, limit, np.full(n_rows, "line"), np.arange(n_rows))


def random_case(
    seed: int, n_buses: int = 8, n_rows: int = 5
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, NetworkRows]:
    """A case with a known feasible change; many headrooms are zero, some limits bind."""
    rng = np.random.default_rng(seed)
    n_periods = 3
    shape = (n_buses, n_periods)
    up = rng.exponential(1.0, shape) * (rng.random(shape) > 0.4)
    down = rng.exponential(1.0, shape) * (rng.random(shape) > 0.4)
    up[0], down[0] = 5.0, 5.0
    weight = rng.uniform(1, 9, n_buses)
    change = rng.uniform(-down, up)
    matrix = rng.uniform(-1, 1, (n_rows, n_buses))
    matrix[:, 0] = 0.0
    goal = rng.normal(size=shape) * 3
    goal[0] -= goal.sum(axis=0)
    p = goal - change
    limit = np.abs(matrix @ goal) + rng.exponential(0.2, (n_rows, n_periods)) + 0.01
    return p, up, down, weight, make_rows(matrix, limit)


def oracle_cost(
    p: FloatArray, up: FloatArray, down: FloatArray, weight: FloatArray, rows: NetworkRows, t: int
) -> float:
    """Least cost by Clarabel."""
    n = len(p)
    value = rows.matrix @ p[:, t]
    a = np.vstack([np.ones((1, n)), rows.matrix, -rows.matrix, np.eye(n), -np.eye(n)])
    limits = [rows.upper[:, t] - value, value - rows.lower[:, t], up[:, t], down[:, t]]
    b = np.concatenate([[-p[:, t].sum()], *limits])
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = 1e-11
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(len(b) - 1)]
    quadratic = sp.csc_matrix(sp.diags(2 / weight))
    solver = clarabel.DefaultSolver(quadratic, np.zeros(n), sp.csc_matrix(a), b, cones, options)
    solution = solver.solve()
    assert str(solution.status) == "Solved"
    return float(solution.obj_val)


def assert_holds(
    p: FloatArray, up: FloatArray, down: FloatArray, rows: NetworkRows, delta: FloatArray
) -> None:
    assert (delta <= up).all()
    assert (delta >= -down).all()
    final = p + delta
    np.testing.assert_allclose(final.sum(axis=0), 0.0, atol=1e-12 * (1 + np.abs(p).sum()))
    value = rows.matrix @ final
    assert (value <= rows.upper).all()
    assert (value >= rows.lower).all()


@pytest.mark.parametrize("seed", range(40))
def test_matches_interior_point(seed: int) -> None:
    p, up, down, weight, rows = random_case(seed)
    result = final_schedule(p, up, down, weight, rows)
    assert result.status is FinalStatus.OK
    assert_holds(p, up, down, rows, result.delta_kw)
    for t in range(p.shape[1]):
        cost = float(np.sum(result.delta_kw[:, t] ** 2 / weight))
        expected = oracle_cost(p, up, down, weight, rows, t)
        np.testing.assert_allclose(cost, expected, rtol=1e-6, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(0, 20))
def test_holds_exactly(seed: int, n_buses: int, n_rows: int) -> None:
    p, up, down, weight, rows = random_case(seed, n_buses, n_rows)
    result = final_schedule(p, up, down, weight, rows)
    assert result.status is FinalStatus.OK
    assert_holds(p, up, down, rows, result.delta_kw)


def test_feasible_schedule_stays() -> None:
    p = np.array([[1.0], [-1.0]])
    rows = make_rows(np.array([[0.0, 1.0]]), np.array([[2.0]]))
    result = final_schedule(p, np.ones((2, 1)), np.ones((2, 1)), np.ones(2), rows)
    np.testing.assert_allclose(result.delta_kw, 0.0, atol=1e-15)


def test_split_by_weight_by_hand() -> None:
    p = np.array([[2.0], [1.0]])
    rows = make_rows(np.zeros((0, 2)), np.zeros((0, 1)))
    wide = np.full((2, 1), 9.0)
    result = final_schedule(p, wide, wide, np.array([1.0, 2.0]), rows)
    np.testing.assert_allclose(result.delta_kw[:, 0], [-1.0, -2.0], rtol=1e-14, atol=0)


def test_fixed_loads_only_need_no_headroom() -> None:
    p = np.array([[1.0 + 1e-9], [-1.0]])
    rows = make_rows(np.array([[0.0, 1.0]]), np.array([[1.0]]))
    none = np.zeros((2, 1))
    assert final_schedule(p, none, none, np.ones(2), rows).status is FinalStatus.OK


def test_faults_name_period_and_rows() -> None:
    p = np.array([[1.0, 1.0, 4.0], [-1.0, -3.0, -4.0]])
    limit = np.array([[2.0, 9.0, 2.0]])
    rows = make_rows(np.array([[0.0, 1.0]]), limit)
    room = np.full((2, 3), 0.5)
    result = final_schedule(p, room, room, np.ones(2), rows)
    assert result.status is FinalStatus.INFEASIBLE
    assert [(f.period, f.rows) for f in result.faults] == [(1, ()), (2, (0,))]
    np.testing.assert_allclose(result.delta_kw[:, 0], 0.0, atol=1e-15)


def test_limits_on_one_side_only() -> None:
    p, up, down, weight, rows = random_case(2)
    open_below = NetworkRows(
        rows.matrix, np.full_like(rows.lower, -np.inf), rows.upper, rows.kind, rows.index
    )
    result = final_schedule(p, up, down, weight, open_below)
    assert result.status is FinalStatus.OK
    assert_holds(p, up, down, open_below, result.delta_kw)


def test_refuses_bad_input() -> None:
    p, up, down, weight, rows = random_case(0)
    with pytest.raises(ValueError, match="negative"):
        final_schedule(p, -up - 1, down, weight, rows)
    with pytest.raises(ValueError, match="finite"):
        final_schedule(p * np.nan, up, down, weight, rows)
