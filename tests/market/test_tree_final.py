"""The final schedule on trees against the dense one, and near rooms before far ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray
from raygrid.grid.tree_rows import TreeRows, tree_line_rows
from raygrid.market import tree_final as tree_final_module
from raygrid.market.final_schedule import FinalSchedule, cheapest_schedule, final_schedule
from raygrid.market.tree_final import Rooms, tree_final
from tests.market.trees import random_tree, unlimited_rows

SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Problem:
    p: FloatArray
    up: FloatArray
    down: FloatArray
    weight: FloatArray
    rows: TreeRows


def random_problem(seed: int, feasible: bool, n_buses: int | None = None) -> Problem:
    rng = np.random.default_rng(seed)
    n_buses = int(rng.integers(2, 12)) if n_buses is None else n_buses
    network = random_tree(rng, n_buses)
    rows = unlimited_rows(rng, network, 3)
    shape = (n_buses, 3)
    up = rng.exponential(1.0, shape) * (rng.random(shape) > 0.4)
    down = rng.exponential(1.0, shape) * (rng.random(shape) > 0.4)
    goal = rng.normal(size=shape) * 3
    goal[network.slack] -= goal.sum(axis=0)
    change = rng.uniform(-down, up) if feasible else rng.normal(size=shape) * 0.5
    limit = np.abs(rows.flows(goal)) + rng.exponential(0.2, (rows.n_rows, 3)) + 0.01
    weight = np.round(rng.uniform(1, 9, n_buses), 6)
    return Problem(goal - change, up, down, weight, rows.with_bounds(-limit, limit))


def assert_holds(problem: Problem, result: FinalSchedule) -> None:
    good = np.setdiff1d(np.arange(3), [fault.period for fault in result.faults])
    delta, rows = result.delta_kw[:, good], problem.rows
    assert (delta <= problem.up[:, good]).all()
    assert (delta >= -problem.down[:, good]).all()
    final = problem.p[:, good] + delta
    np.testing.assert_allclose(final.sum(axis=0), 0.0, rtol=0, atol=1e-10)
    flow = rows.flows(final)
    assert (flow <= rows.upper[:, good] * (1 + 1e-7)).all()
    assert (flow >= rows.lower[:, good] * (1 + 1e-7)).all()


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.booleans())
def test_matches_the_dense_schedule(seed: int, feasible: bool) -> None:
    problem = random_problem(seed, feasible)
    arguments = problem.p, problem.up, problem.down, problem.weight
    tree = final_schedule(*arguments, problem.rows)
    dense = final_schedule(*arguments, problem.rows.dense())
    assert tree.status is dense.status
    assert [f.period for f in tree.faults] == [f.period for f in dense.faults]
    np.testing.assert_allclose(tree.delta_kw, dense.delta_kw, rtol=0, atol=1e-6)
    assert_holds(problem, tree)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.booleans())
def test_the_cheapest_moves_as_little_and_costs_as_little(seed: int, feasible: bool) -> None:
    problem = random_problem(seed, feasible)
    price = np.random.default_rng(seed).normal(size=problem.p.shape) * 0.2
    arguments = problem.p, problem.up, problem.down, price, price
    tree = cheapest_schedule(*arguments, problem.rows)
    dense = cheapest_schedule(*arguments, problem.rows.dense())
    assert [f.period for f in tree.faults] == [f.period for f in dense.faults]
    assert_holds(problem, tree)
    moved, least = np.abs(tree.delta_kw).sum(axis=0), np.abs(dense.delta_kw).sum(axis=0)
    np.testing.assert_allclose(moved, least, rtol=0, atol=1e-5)
    cost, lowest = (price * tree.delta_kw).sum(axis=0), (price * dense.delta_kw).sum(axis=0)
    # Prices closer than a thousandth of the step are not told apart.
    assert (cost <= lowest + 0.01 * (1 + moved)).all()


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_priced_limits_are_met_or_kept(seed: int) -> None:
    problem = random_problem(seed, feasible=True)
    rng = np.random.default_rng(seed)
    price = rng.choice([-1.0, 0.0, 0.0, 1.0], size=problem.rows.upper.shape)
    result = final_schedule(
        problem.p, problem.up, problem.down, problem.weight, problem.rows, price
    )
    assert not result.faults
    assert_holds(problem, result)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 3))
def test_periods_at_a_time_and_threads_change_no_bit(seed: int, threads: int) -> None:
    problem = random_problem(seed, feasible=False, n_buses=40)
    none = np.zeros_like(problem.p)
    rooms = Rooms(problem.p, none, none, problem.up, problem.down, none, none)
    whole, faults = tree_final(problem.rows, problem.weight, rooms, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_final_module, "_CELLS", 40)
        parts, same_faults = tree_final(problem.rows, problem.weight, rooms, None, threads)
    np.testing.assert_array_equal(parts, whole)
    assert same_faults == faults


def star(limit: list[float]) -> TreeRows:
    """Slack bus 0 with buses 1, 2, 3 right below it; flows from them upwards."""
    network = replace(
        random_tree(np.random.default_rng(0), 4),
        slack=0,
        from_bus=np.array([1, 2, 3]),
        to_bus=np.zeros(3, dtype=np.int64),
    )
    bound = np.array(limit)[:, None]
    return tree_line_rows(network, -bound, bound, np.arange(3))


def test_far_rooms_are_used_only_where_near_ones_do_not_suffice() -> None:
    """Bus 1 must come down by 1 and has 0.4 near; the others give 1 from near rooms."""
    rows = star([2.0, 9.0, 9.0])
    p = np.array([[-3.0], [3.0], [0.0], [0.0]])
    near = np.array([[9.0], [0.4], [9.0], [9.0]])
    far, none = near + 5.0, np.zeros((4, 1))
    rooms = Rooms(p, near, near, far, far, none, none)
    delta, faults = tree_final(rows, np.ones(4), rooms, None)
    assert not faults
    np.testing.assert_allclose(delta[:, 0], [1 / 3, -1.0, 1 / 3, 1 / 3], rtol=0, atol=1e-8)
    assert rooms.uses_far(delta)[:, 0].tolist() == [False, True, False, False]


def test_the_cheapest_far_room_is_used_first() -> None:
    p = np.array([[-1.0], [0.0], [0.0], [0.0]])
    none, far = np.zeros((4, 1)), np.array([[0.0], [0.7], [5.0], [5.0]])
    price = np.array([[0.0], [0.1], [0.3], [0.2]])
    rooms = Rooms(p, none, none, far, far, price, price)
    delta, faults = tree_final(star([9.0, 9.0, 9.0]), np.ones(4), rooms, None)
    assert not faults
    np.testing.assert_allclose(delta[:, 0], [0.0, 0.7, 0.0, 0.3], rtol=0, atol=1e-8)


def test_one_priced_limit_out_of_reach_does_not_spoil_another() -> None:
    rows = star([2.0, 2.0, 9.0])
    p = np.array([[-2.9], [1.9], [1.0], [0.0]])
    room = np.array([[9.0], [0.5], [0.5], [9.0]])
    price = np.array([[0.1], [0.1], [0.0]])
    result = final_schedule(p, room, room, np.ones(4), rows, price)
    flow = rows.flows(p + result.delta_kw)[:, 0]
    np.testing.assert_allclose(flow[0], 2.0, rtol=1e-8)
    assert flow[1] < 1.5 + 1e-9


def test_faults_name_the_line() -> None:
    p = np.array([[-4.0], [4.0], [0.0], [0.0]])
    room = np.full((4, 1), 0.5)
    result = final_schedule(p, room, room, np.ones(4), star([2.0, 9.0, 9.0]))
    assert [(f.period, f.rows) for f in result.faults] == [(0, (0,))]
    np.testing.assert_array_equal(result.delta_kw, 0.0)
