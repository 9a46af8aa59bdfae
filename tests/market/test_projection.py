"""The projection against an independent QP solver, its KKT conditions and its invariants."""

from __future__ import annotations

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from raygrid.arrays import FloatArray
from raygrid.grid.network import NetworkRows
from raygrid.market.projection import Projection, ProjectionResult, ProjectionStatus


def make_rows(matrix: FloatArray, lower: FloatArray, upper: FloatArray) -> NetworkRows:
    n_rows = len(matrix)
    return NetworkRows(matrix, lower, upper, np.full(n_rows, "line"), np.arange(n_rows))


def random_case(seed: int) -> tuple[NetworkRows, FloatArray, FloatArray]:
    """A feasible random projection; parallel lines, one-sided rows and empty buses included."""
    rng = np.random.default_rng(seed)
    n_buses, n_rows, n_periods = rng.integers(2, 12), rng.integers(1, 8), rng.integers(1, 5)
    weight = rng.uniform(0.2, 30, n_buses) * (rng.random(n_buses) > 0.25)
    weight[rng.integers(n_buses)] = 1.0
    weight[0] = 2.0
    matrix = rng.uniform(-1, 1, (n_rows, n_buses))
    matrix[:, 0] = 0.0
    if n_rows > 2:
        matrix[-1] = matrix[0] * rng.choice([1.0, -0.5])
    inside = rng.normal(size=(n_buses, n_periods)) * weight[:, None]
    inside -= weight[:, None] * inside.sum(axis=0) / weight.sum()
    value = matrix @ inside
    lower = value - rng.exponential(0.5, value.shape) * (rng.random(value.shape) > 0.2)
    upper = value + rng.exponential(0.5, value.shape) * (rng.random(value.shape) > 0.2)
    lower[rng.random(value.shape) < 0.3] = -np.inf
    phat = rng.normal(size=(n_buses, n_periods)) * 5 * (weight[:, None] > 0)
    return make_rows(matrix, lower, upper), weight, phat


def oracle(rows: NetworkRows, weight: FloatArray, phat: FloatArray) -> FloatArray:
    """pi of buses with agents by Clarabel, an interior-point method."""
    has = weight > 0
    pi = np.full_like(phat, np.nan)
    n = int(has.sum())
    for t in range(phat.shape[1]):
        up, low = np.isfinite(rows.upper[:, t]), np.isfinite(rows.lower[:, t])
        move = rows.matrix[:, has] * weight[has]
        value = rows.matrix @ phat[:, t]
        a = np.vstack([weight[has][None, :], -move[up], move[low]])
        b = np.concatenate(
            [[phat[:, t].sum()], (rows.upper[:, t] - value)[up], (value - rows.lower[:, t])[low]]
        )
        options = clarabel.DefaultSettings()
        options.verbose = False
        options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = 1e-12
        cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(len(b) - 1)]
        quadratic = sp.csc_matrix(sp.diags(2 * weight[has]))
        solution = clarabel.DefaultSolver(
            quadratic, np.zeros(n), sp.csc_matrix(a), b, cones, options
        ).solve()
        pi[has, t] = solution.x
    return pi


def assert_optimal(
    rows: NetworkRows, weight: FloatArray, phat: FloatArray, result: ProjectionResult
) -> None:
    """All KKT conditions of (4-6)."""
    assert result.status is ProjectionStatus.OK
    size = 1.0 + np.abs(phat).max()
    m, z = result.multipliers, result.z_bus_kw
    np.testing.assert_allclose(
        result.pi_kw, result.nu_kw + rows.matrix.T @ m, rtol=1e-9, atol=1e-9 * size
    )
    np.testing.assert_allclose(z, phat - weight[:, None] * result.pi_kw, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(z.sum(axis=0), 0.0, atol=1e-9 * size)
    value = rows.matrix @ z
    assert (value <= rows.upper + 1e-9 * size).all()
    assert (value >= rows.lower - 1e-9 * size).all()
    assert np.abs(np.where(m > 0, value - rows.upper, 0.0)).max(initial=0) <= 1e-9 * size
    assert np.abs(np.where(m < 0, value - rows.lower, 0.0)).max(initial=0) <= 1e-9 * size


@pytest.mark.parametrize("seed", range(60))
def test_matches_interior_point_and_kkt(seed: int) -> None:
    rows, weight, phat = random_case(seed)
    result = Projection(rows, weight).project(phat)
    assert_optimal(rows, weight, phat, result)
    expected = oracle(rows, weight, phat)
    has = weight > 0
    np.testing.assert_allclose(result.pi_kw[has], expected[has], rtol=1e-5, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_invariants(seed: int) -> None:
    rows, weight, phat = random_case(seed)
    projection = Projection(rows, weight)
    first = projection.project(phat)
    assert_optimal(rows, weight, phat, first)
    size = 1.0 + np.abs(phat).max()
    # Idempotent; the second call starts warm.
    again = projection.project(first.z_bus_kw)
    np.testing.assert_allclose(again.z_bus_kw, first.z_bus_kw, rtol=0, atol=1e-8 * size)
    # Nonexpansive in the norm sum z^2 / n.
    other = phat + np.random.default_rng(seed + 1).normal(size=phat.shape) * (weight[:, None] > 0)
    second = projection.project(other)
    assert_optimal(rows, weight, other, second)
    inverse = np.where(weight > 0, 1.0 / np.where(weight > 0, weight, 1.0), 0.0)[:, None]
    moved = np.sum(inverse * (second.z_bus_kw - first.z_bus_kw) ** 2, axis=0)
    assert (moved <= np.sum(inverse * (other - phat) ** 2, axis=0) * (1 + 1e-9) + 1e-9).all()


def test_without_rows_it_is_averaging() -> None:
    rows = make_rows(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 2)))
    weight = np.array([1.0, 0.0, 3.0])
    phat = np.array([[4.0, 1.0], [0.0, 0.0], [4.0, -5.0]])
    result = Projection(rows, weight).project(phat)
    np.testing.assert_allclose(result.pi_kw, [[2.0, -1.0]] * 3, rtol=1e-14, atol=0)
    np.testing.assert_allclose(result.z_bus_kw.sum(axis=0), 0.0, atol=1e-14)


def test_two_buses_by_hand() -> None:
    # One line, limit 1, equal weights: Z = (1, -1); pi = Phat - Z.
    rows = make_rows(np.array([[0.0, -1.0]]), np.array([[-1.0]]), np.array([[1.0]]))
    result = Projection(rows, np.ones(2)).project(np.array([[3.0], [-2.0]]))
    np.testing.assert_allclose(result.z_bus_kw[:, 0], [1.0, -1.0], rtol=1e-13, atol=0)
    np.testing.assert_allclose(result.pi_kw[:, 0], [2.0, -1.0], rtol=1e-13, atol=0)
    np.testing.assert_allclose(result.multipliers[:, 0], [3.0], rtol=1e-13, atol=0)


def test_parallel_lines_change_nothing() -> None:
    rows, weight, phat = random_case(3)
    doubled = make_rows(
        np.vstack([rows.matrix] * 2), np.vstack([rows.lower] * 2), np.vstack([rows.upper] * 2)
    )
    once = Projection(rows, weight).project(phat)
    twice = Projection(doubled, weight).project(phat)
    assert_optimal(doubled, weight, phat, twice)
    np.testing.assert_allclose(twice.z_bus_kw, once.z_bus_kw, rtol=1e-9, atol=1e-9)


def test_contradicting_rows_are_named() -> None:
    matrix = np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [0.0, -2.0, 0.0]])
    lower = np.full((3, 2), -np.inf)
    upper = np.array([[1.0, 1.0], [9.0, 9.0], [9.0, -4.0]])
    result = Projection(make_rows(matrix, lower, upper), np.ones(3)).project(np.zeros((3, 2)))
    assert result.status is ProjectionStatus.INFEASIBLE
    assert [(f.period, f.rows) for f in result.faults] == [(1, (0, 2))]


def test_row_that_nobody_can_move() -> None:
    # The second row sees only a bus without agents; its flow offset breaks its limit.
    matrix = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rows = make_rows(matrix, np.full((2, 1), -5.0), np.array([[5.0], [-0.5]]))
    result = Projection(rows, np.array([1.0, 1.0, 0.0])).project(np.zeros((3, 1)))
    assert [(f.period, f.rows) for f in result.faults] == [(0, (1,))]


def test_same_bits_again_from_the_same_history() -> None:
    rows, weight, phat = random_case(11)
    a, b = Projection(rows, weight), Projection(rows, weight)
    for step in range(3):
        first, second = a.project(phat + step), b.project(phat + step)
        assert np.array_equal(first.pi_kw, second.pi_kw)


def test_refuses_bad_input() -> None:
    rows, weight, phat = random_case(1)
    with pytest.raises(ValueError, match="not finite"):
        Projection(rows, weight).project(phat * np.nan)
    with pytest.raises(ValueError, match="weights"):
        Projection(rows, weight * 0)
    with pytest.raises(ValueError, match="columns of rows"):
        Projection(rows, weight[:-1])


def test_degenerate_cases_agree_with_a_linear_program() -> None:
    """Small integers: rows coincide, contradict, touch in corners, or move for nobody."""
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        n_buses, n_rows = rng.integers(2, 9), rng.integers(1, 14)
        matrix = rng.integers(-2, 3, (n_rows, n_buses)).astype(float)
        weight = rng.integers(0, 3, n_buses).astype(float)
        weight[0] = rng.choice([1.0, 1e5])
        phat = rng.integers(-6, 7, (n_buses, 1)) * (weight > 0)[:, None].astype(float)
        upper = rng.integers(0, 4, (n_rows, 1)).astype(float)
        lower = upper - rng.integers(0, 5, (n_rows, 1))
        rows = make_rows(matrix, lower, upper)
        has = weight > 0
        program = linprog(
            np.zeros(int(has.sum())),
            A_ub=np.vstack([matrix[:, has], -matrix[:, has]]),
            b_ub=np.concatenate([upper[:, 0], -lower[:, 0]]),
            A_eq=np.ones((1, int(has.sum()))),
            b_eq=[0.0],
            bounds=(None, None),
        )
        result = Projection(rows, weight).project(phat)
        assert (result.status is ProjectionStatus.OK) == (program.status == 0)
        outcomes.append(result.status)
        if result.status is ProjectionStatus.OK:
            assert_optimal(rows, weight, phat, result)
    assert min(outcomes.count(status) for status in ProjectionStatus) > 30
