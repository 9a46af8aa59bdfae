"""Local solvers against CVXPY, KKT conditions and the invariants of a proximal map."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import Population
from raygrid.prosumer.valuation import dual_value, welfare_rate
from tests.prosumer.cases import objective, oracle, random_problem


def integrate(population, dispatch, period_hours):
    gain = (
        population.eta_charge[:, None] * dispatch.charge_kw
        - dispatch.discharge_kw / population.eta_discharge[:, None]
    )
    return population.soc_initial_kwh[:, None] + period_hours * np.cumsum(gain, axis=1)


def assert_feasible(population, dispatch, period_hours):
    p, atol = population, 1e-9
    assert np.all(dispatch.generation_kw >= p.generation_min_kw)
    assert np.all(dispatch.generation_kw <= p.generation_limit_kw)
    assert np.all(dispatch.demand_kw >= p.demand_min_kw)
    assert np.all(dispatch.demand_kw <= p.demand_limit_kw)
    assert np.all((dispatch.charge_kw >= 0) & (dispatch.charge_kw <= p.charge_max_kw[:, None]))
    assert np.all(dispatch.discharge_kw >= 0)
    assert np.all(dispatch.discharge_kw <= p.discharge_max_kw[:, None])
    soc = integrate(p, dispatch, period_hours)
    np.testing.assert_allclose(dispatch.soc_kwh, soc, rtol=0, atol=atol)
    moves = p.has_battery
    assert np.all(soc[moves] >= p.soc_min_kwh[moves, None] - atol)
    assert np.all(soc[moves] <= p.soc_max_kwh[moves, None] + atol)
    assert np.all(soc[moves, -1] >= p.soc_final_min_kwh[moves] - atol)
    np.testing.assert_allclose(
        dispatch.p_kw,
        dispatch.generation_kw
        - dispatch.demand_kw
        - p.fixed_load_kw
        + dispatch.discharge_kw
        - dispatch.charge_kw,
        rtol=0,
        atol=1e-12,
    )


def duality_gap(population, period_hours, target, rho, dispatch):
    """Relative gap that proves optimality: p maximises lambda p - f(p) at lambda = -v."""
    price = -rho[:, None] * (dispatch.p_kw - target)
    reached = (price * dispatch.p_kw).sum(axis=1) + welfare_rate(population, dispatch)
    bound = dual_value(population, 0, len(rho), price, dispatch.stored_value_per_kwh, period_hours)
    return (bound - reached) / (1 + np.abs(reached))


@pytest.mark.parametrize("seed", range(12))
def test_cvxpy_finds_nothing_better(seed):
    population, period_hours, target, rho = random_problem(seed, n=60)
    solver = LocalSolver(population, period_hours)
    ours = solver.dispatch(0, len(population), target, rho)
    assert_feasible(population, ours, period_hours)
    theirs = oracle(population, period_hours, target, rho)
    powers = ours.p_kw, ours.generation_kw, ours.demand_kw, ours.charge_kw, ours.discharge_kw
    best = objective(population, target, rho, *theirs)
    mine = objective(population, target, rho, *powers)
    assert np.all(mine - best <= 1e-8 * (1 + np.abs(best)))
    # the objective is rho-strongly convex in p, so its own accuracy bounds the distance
    distance = np.linalg.norm(ours.p_kw - theirs[0], axis=1)
    slack = 1e-8 * (1 + np.abs(best))
    assert np.all(rho / 2 * distance**2 <= slack)


@pytest.mark.parametrize("seed", range(100, 160))
def test_duality_gap_closes(seed):
    population, period_hours, target, rho = random_problem(seed, n=50)
    dispatch = LocalSolver(population, period_hours).dispatch(0, 50, target, rho)
    assert_feasible(population, dispatch, period_hours)
    gap = duality_gap(population, period_hours, target, rho, dispatch)
    assert np.all(gap >= -1e-10)
    assert np.all(gap <= 1e-8)


def rounds(seed, target, rho):
    """Targets and penalties of successive rounds: small and large moves, a new penalty, none."""
    rng = np.random.default_rng(seed)
    for k, size in enumerate([0, 1e-9, 0.03, 0.3, 3, 0.01, 1e-3, 1e-5, 0]):
        target = target + size * rng.normal(0, 1, target.shape)
        yield target, rho * (2 if k >= 4 else 1)


@pytest.mark.parametrize("seed", range(5))
def test_batch_and_threads_do_not_change_bits(seed):
    population, period_hours, target, rho = random_problem(seed)
    n = len(population)
    rows = np.arange(n)[::-3]
    together, apart = LocalSolver(population, period_hours), LocalSolver(population, period_hours)
    alone = LocalSolver(population.take(rows), period_hours)
    whole, pieces, some = (
        np.empty(shape) for shape in (target.shape, target.shape, target[rows].shape)
    )
    for a, r in rounds(seed, target, rho):
        together.solve(0, n, a, r, whole)

        def piece(i, a=a, r=r):
            apart.solve(i, i + 1, a[i : i + 1], r[i : i + 1], pieces[i : i + 1])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(piece, range(n)))
        np.testing.assert_array_equal(whole, pieces)
        alone.solve(0, len(rows), a[rows], r[rows], some)
        np.testing.assert_array_equal(some, whole[rows])


@pytest.mark.parametrize("seed", range(600, 625))
def test_paths_renewed_from_the_last_are_optimal(seed):
    population, period_hours, target, rho = random_problem(seed, n=50)
    solver = LocalSolver(population, period_hours)
    p = np.empty(target.shape)
    for a, r in rounds(seed, target, rho):
        solver.solve(0, 50, a, r, p)
        dispatch = solver.dispatch(0, 50, a, r)
        assert_feasible(population, dispatch, period_hours)
        gap = duality_gap(population, period_hours, a, r, dispatch)
        assert np.all(gap >= -1e-10)
        assert np.all(gap <= 1e-8)
        anew = LocalSolver(population, period_hours).dispatch(0, 50, a, r)
        np.testing.assert_allclose(p, anew.p_kw, rtol=0, atol=1e-8)
        burns = (anew.charge_kw > 0) & (anew.discharge_kw > 0)
        assert solver.simultaneous_count() == burns.any(axis=1).sum()


@pytest.mark.parametrize("seed", range(5))
def test_dispatch_repeats_the_last_solution_bit_for_bit(seed):
    population, period_hours, target, rho = random_problem(seed, n=50)
    asked, unasked = LocalSolver(population, period_hours), LocalSolver(population, period_hours)
    p, q = np.empty(target.shape), np.empty(target.shape)
    for a, r in rounds(seed, target, rho):
        asked.solve(0, 50, a, r, p)
        unasked.solve(0, 50, a, r, q)
        np.testing.assert_array_equal(p, q)
        asked.dispatch(0, 50, -a, r)
        for start in (0, 25):
            part = slice(start, start + 25)
            dispatch = asked.dispatch(start, start + 25, a[part], r[part])
            np.testing.assert_array_equal(dispatch.p_kw, p[part])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), other=st.integers(0, 2**32 - 1))
def test_prox_is_firmly_nonexpansive(seed, other):
    population, period_hours, target, rho = random_problem(seed, n=20)
    moved = target + np.random.default_rng(other).normal(0, 3, target.shape)
    solver = LocalSolver(population, period_hours)
    p = solver.dispatch(0, 20, target, rho).p_kw
    q = solver.dispatch(0, 20, moved, rho).p_kw
    step, asked = p - q, target - moved
    inner = (step * asked).sum(axis=1)
    assert np.all(inner >= (step**2).sum(axis=1) - 1e-7 * (1 + (asked**2).sum(axis=1)))
    assert np.all(np.linalg.norm(step, axis=1) <= np.linalg.norm(asked, axis=1) * (1 + 1e-9) + 1e-9)


def test_shape_errors_name_the_shapes():
    solver = LocalSolver(Population.empty(3, 4), 1.0)
    with pytest.raises(ValueError, match="rows 1:4 of a population of 3"):
        solver.solve(1, 4, np.zeros((3, 4)), np.ones(3), np.empty((3, 4)))
    with pytest.raises(ValueError, match=r"target \(3, 5\)"):
        solver.solve(0, 3, np.zeros((3, 5)), np.ones(3), np.empty((3, 4)))


def test_unreachable_terminal_charge_is_refused():
    population = Population.empty(1, 2)
    population.soc_max_kwh[:] = population.soc_final_min_kwh[:] = 10
    population.charge_max_kw[:] = 1
    with pytest.raises(InputError, match=r"cannot be reached.*at most 2 kWh"):
        LocalSolver(population, 1.0)


@pytest.mark.parametrize("seed", range(500, 520))
def test_charges_and_discharges_at_once_only_where_energy_must_burn(seed):
    population, period_hours, target, rho = random_problem(seed, n=50)
    solver = LocalSolver(population, period_hours)
    dispatch = solver.dispatch(0, 50, target, rho)
    both = (dispatch.charge_kw > 0) & (dispatch.discharge_kw > 0)
    assert solver.simultaneous_count() == both.any(axis=1).sum()
    loss = 1 / population.eta_discharge - population.eta_charge
    rows, periods = np.nonzero(both)
    assert np.all(loss[rows] > 0)
    burning = -2 * population.cycle_cost_per_kwh[rows] / loss[rows]
    assert np.all(dispatch.stored_value_per_kwh[rows, periods] <= burning + 1e-9)


def test_no_battery_burns_at_ordinary_prices():
    """Prices above the cycle cost leave no reason to; the count must then be 0."""
    population, period_hours, _, rho = random_problem(1, n=60, n_periods=24)
    population.generation_min_kw[:] = 0
    population.beta[:] = np.maximum(population.beta, 0)
    price = np.random.default_rng(0).uniform(0.02, 0.4, (60, 24))
    solver = LocalSolver(population, period_hours)
    dispatch = solver.dispatch(0, 60, -population.fixed_load_kw + price / rho[:, None], rho)
    assert solver.simultaneous_count() == 0
    assert not np.any((dispatch.charge_kw > 0) & (dispatch.discharge_kw > 0))


def test_battery_shifts_between_two_prices_by_hand():
    """Two periods at prices 0.1 and 0.3: all 4 kWh that fit go from one to the other."""
    population = Population.empty(1, 2)
    population.soc_max_kwh[:], population.charge_max_kw[:] = 4.0, 10.0
    population.discharge_max_kw[:], population.eta_charge[:] = 10.0, 0.8
    population.eta_discharge[:], population.cycle_cost_per_kwh[:] = 0.5, 0.01
    rho = 1e-3
    target = np.array([[0.02, 0.9]]) / rho
    dispatch = LocalSolver(population, 1.0).dispatch(0, 1, target, np.array([rho]))
    np.testing.assert_allclose(dispatch.p_kw, [[-5.0, 2.0]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(dispatch.soc_kwh, [[4.0, 0.0]], rtol=0, atol=1e-9)


def test_free_generation_is_stored_rather_than_curtailed():
    """PV at no cost: what the target cannot take charges the battery up to its limit."""
    population = Population.empty(1, 3)
    population.generation_limit_kw[:] = [[6.0, 6.0, 0.0]]
    population.soc_max_kwh[:] = population.charge_max_kw[:] = 5.0
    population.discharge_max_kw[:] = 5.0
    target = np.array([[1.0, 1.0, 8.0]])
    dispatch = LocalSolver(population, 1.0).dispatch(0, 1, target, np.array([0.1]))
    np.testing.assert_allclose(dispatch.p_kw, [[1.0, 1.0, 5.0]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(dispatch.charge_kw.sum(), 5.0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("alpha", [1e-12, 1e-10, 1e-8])
def test_nearly_free_generators(alpha):
    population, period_hours, target, rho = random_problem(11, n=40, n_periods=12)
    population.alpha[:] = np.where(population.alpha > 0, alpha, 0)
    dispatch = LocalSolver(population, period_hours).dispatch(0, 40, target, rho)
    assert_feasible(population, dispatch, period_hours)
    assert np.all(duality_gap(population, period_hours, target, rho, dispatch) <= 1e-6)
