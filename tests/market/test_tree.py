"""The projection on trees against the dense one, CVXPY, its KKT conditions, and any split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray, quantise
from raygrid.grid.tree_rows import TreeRows, tree_line_rows
from raygrid.market.projection import Projection, ProjectionResult, ProjectionStatus
from raygrid.market.tree import TreeProjection, projection_onto
from raygrid.market.tree_part import part_of
from raygrid.market.tree_solver import Injections, Responses, TreeSolver, solve_balance
from tests.market.trees import random_projection, random_tree

SEEDS = st.integers(0, 2**32 - 1)


def assert_optimal(rows: TreeRows, weight: FloatArray, phat: FloatArray) -> ProjectionResult:
    """Primal and dual feasibility, stationarity and complementary slackness."""
    result = TreeProjection(rows, weight).project(phat)
    assert result.status is ProjectionStatus.OK
    z, m = result.z_bus_kw, result.multipliers
    size = np.abs(phat).sum() + 1.0
    np.testing.assert_allclose(z, phat - weight[:, None] * result.pi_kw, atol=1e-12 * size)
    np.testing.assert_allclose(z.sum(axis=0), 0.0, atol=1e-11 * size)
    np.testing.assert_allclose(
        result.pi_kw, result.nu_kw + rows.prices(m), atol=1e-11 * (1 + np.abs(m).sum())
    )
    flow = rows.flows(z)
    assert (flow <= rows.upper + 1e-9 * size).all()
    assert (flow >= rows.lower - 1e-9 * size).all()
    np.testing.assert_allclose(flow[m > 0], rows.upper[m > 0], atol=1e-9 * size)
    np.testing.assert_allclose(flow[m < 0], rows.lower[m < 0], atol=1e-9 * size)
    return result


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_matches_the_dense_projection(seed: int) -> None:
    rows, weight, phat = random_projection(seed)
    result = assert_optimal(rows, weight, phat)
    dense = Projection(rows.dense(), weight).project(phat)
    np.testing.assert_allclose(result.z_bus_kw, dense.z_bus_kw, rtol=0, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(50, 300))
def test_optimal_on_larger_trees(seed: int, n_buses: int) -> None:
    assert_optimal(*random_projection(seed, n_buses))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_finds_the_same_periods_infeasible(seed: int) -> None:
    rows, weight, phat = random_projection(seed, feasible=False)
    result = TreeProjection(rows, weight).project(phat)
    dense = Projection(rows.dense(), weight).project(phat)
    bad = [fault.period for fault in dense.faults]
    assert [fault.period for fault in result.faults] == bad
    assert result.status is dense.status
    good = np.setdiff1d(np.arange(3), bad)
    np.testing.assert_allclose(result.z_bus_kw[:, good], dense.z_bus_kw[:, good], rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_matches_cvxpy(seed: int) -> None:
    import cvxpy as cp

    rows, weight, phat = random_projection(seed + 900, 12)
    result = TreeProjection(rows, weight).project(phat)
    has = weight > 0
    for t in range(3):
        pi = cp.Variable(int(has.sum()))
        z = phat[has, t] - cp.multiply(weight[has], pi)
        flow = rows.sparse()[:, np.flatnonzero(has)] @ z
        low, high = np.isfinite(rows.lower[:, t]), np.isfinite(rows.upper[:, t])
        limits = [cp.sum(z) == 0]
        if low.any():
            limits.append(flow[low] >= rows.lower[low, t])
        if high.any():
            limits.append(flow[high] <= rows.upper[high, t])
        problem = cp.Problem(cp.Minimize(weight[has] @ cp.square(pi)), limits)
        problem.solve(solver="CLARABEL")
        own = float(weight @ result.pi_kw[:, t] ** 2)
        assert own == pytest.approx(problem.value, rel=1e-6, abs=1e-7)
        np.testing.assert_allclose(z.value, result.z_bus_kw[has, t], rtol=0, atol=1e-3)


def two_feeders(lower: list[float], upper: list[float], weight: list[float]) -> TreeProjection:
    """Slack bus 0 with buses 1 and 2 below it, both lines limited (flow: from the bus up)."""
    network = replace(
        random_tree(np.random.default_rng(0), 3),
        slack=0,
        from_bus=np.array([1, 2]),
        to_bus=np.array([0, 0]),
    )
    bounds = np.array(lower)[:, None], np.array(upper)[:, None]
    return TreeProjection(tree_line_rows(network, *bounds, np.arange(2)), np.array(weight))


def test_by_hand() -> None:
    """Bus 1 may send 1 of its 4; the others take it in proportion to their weights."""
    projection = two_feeders([-9.0, -9.0], [1.0, 9.0], [1.0, 1.0, 2.0])
    result = projection.project(np.array([[0.0], [4.0], [-1.0]]))
    # z = (0 - pi, 1, -1 - 2 pi) adds up to 0 at pi = 0; bus 1's own pi is 3.
    np.testing.assert_allclose(result.z_bus_kw[:, 0], [0.0, 1.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(result.pi_kw[:, 0], [0.0, 3.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(result.multipliers[:, 0], [3.0, 0.0], atol=1e-12)
    assert result.nu_kw[0] == pytest.approx(0.0, abs=1e-12)


def test_without_agents_at_the_slack_bus_limits_can_contradict_the_balance() -> None:
    result = two_feeders([1.0, 2.0], [3.0, 4.0], [0.0, 1.0, 1.0]).project(np.zeros((3, 1)))
    assert result.status is ProjectionStatus.INFEASIBLE
    assert [(fault.period, fault.rows) for fault in result.faults] == [(0, (0, 1))]


def test_a_line_that_nobody_can_load_is_at_fault() -> None:
    result = two_feeders([1.0, -1.0], [3.0, 1.0], [1.0, 0.0, 1.0]).project(np.zeros((3, 1)))
    assert [(fault.period, fault.rows) for fault in result.faults] == [(0, (0,))]


def test_a_flow_held_at_zero_parts_the_prices() -> None:
    result = two_feeders([0.0, -9.0], [0.0, 9.0], [1.0, 1.0, 1.0]).project(
        np.array([[1.0], [5.0], [1.0]])
    )
    np.testing.assert_allclose(result.z_bus_kw[:, 0], [0.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(result.pi_kw[:, 0], [1.0, 5.0, 1.0], atol=1e-12)


def test_buses_without_agents_have_the_price_around_them() -> None:
    result = two_feeders([-9.0, -9.0], [9.0, 9.0], [1.0, 0.0, 1.0]).project(
        np.array([[3.0], [0.0], [1.0]])
    )
    np.testing.assert_allclose(result.pi_kw[:, 0], 2.0, rtol=1e-14)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.booleans())
def test_every_split_gives_the_same_bits(seed: int, feasible: bool) -> None:
    """Any subtrees, below limited lines or not, in any number of parts."""
    rows, weight, phat = random_projection(seed, feasible=feasible)
    whole = TreeProjection(rows, weight).project(phat)
    rng = np.random.default_rng(seed)
    tree, quanta = rows.tree, quantise(weight)
    tops: list[int] = []
    taken = np.zeros(rows.n_buses, dtype=bool)
    for bus in rng.permutation(rows.n_buses).tolist():
        below = tree.below(bus)
        if bus != tree.order[0] and not taken[below].any() and rng.random() < 0.5:
            tops.append(bus)
            taken[below] = True
    cuts = [group for group in (tops[::2], tops[1::2]) if group]
    feeders = [TreeSolver(part_of(rows, group)) for group in cuts]
    trunk = TreeSolver(part_of(rows, [int(tree.order[0])], tops))

    def own(solver: TreeSolver) -> Injections:
        buses = solver.part.buses
        here = ~solver.part.is_port
        return Injections.straight(phat[buses] * here[:, None], quanta[buses] * here)

    ups = [feeder.climb(own(feeder)) for feeder in feeders]
    answers = Responses.join([up.responses for up in ups]) if ups else None
    top = trunk.climb(own(trunk), answers)
    nu, faults = solve_balance(trunk, top, np.zeros(3))
    price = trunk.descend(top, nu[None, :])
    pi = np.full_like(phat, np.nan)
    pi[trunk.part.buses] = trunk.at_nodes(price)
    multipliers = np.zeros_like(whole.multipliers)

    def put(solver: TreeSolver, price: FloatArray, above: FloatArray) -> None:
        at, values = solver.multipliers(price, above)
        multipliers[at] = values

    put(trunk, price, nu[None, :])
    for feeder, up in zip(feeders, ups, strict=True):
        above = trunk.at_ports(price, up.responses.buses)
        below_price = feeder.descend(up, above)
        pi[feeder.part.buses] = feeder.at_nodes(below_price)
        put(feeder, below_price, above)
    assert faults == whole.faults
    np.testing.assert_array_equal(nu, whole.nu_kw)
    np.testing.assert_array_equal(pi, whole.pi_kw)
    np.testing.assert_array_equal(multipliers, whole.multipliers)


def test_the_form_of_the_rows_chooses_the_projection() -> None:
    rows, weight, phat = random_projection(4)
    assert isinstance(projection_onto(rows, weight), TreeProjection)
    assert isinstance(projection_onto(rows.dense(), weight), Projection)
    with pytest.raises(ValueError, match="not finite"):
        projection_onto(rows, weight).project(phat * np.nan)
    with pytest.raises(ValueError, match="all of them zero"):
        TreeProjection(rows, np.zeros_like(weight))
    with pytest.raises(ValueError, match="buses for"):
        TreeProjection(rows, np.ones(len(weight) + 1))
