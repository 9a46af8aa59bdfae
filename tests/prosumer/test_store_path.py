"""EVs and shiftable loads against CVXPY, duality, hand-worked cases and invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.prosumer.store_local import (
    best_store_value,
    dispatch_stores,
    solve_stores,
    store_dual_value,
)
from raygrid.prosumer.stores import StoreKind, Stores
from tests.prosumer.store_cases import random_store_problem, store_model, store_oracle


def objective(stores, target, rho, charge, discharge):
    rate = stores.cycle_cost_per_kwh[:, None] * (charge + discharge)
    return (rate + rho[:, None] / 2 * (discharge - charge - target) ** 2).sum(axis=1)


def assert_feasible(stores, found, period_hours, atol=1e-9):
    n_periods = found.charge_kw.shape[1]
    limits = stores.limits(n_periods)
    assert np.all((found.charge_kw >= 0) & (found.charge_kw <= limits.charge_kw))
    assert np.all((found.discharge_kw >= 0) & (found.discharge_kw <= limits.discharge_kw))
    gain = stores.eta_charge[:, None] * found.charge_kw
    gain = gain - found.discharge_kw / stores.eta_discharge[:, None]
    energy = np.cumsum(period_hours * gain - limits.used_kwh, axis=1) + stores.initial_kwh[:, None]
    np.testing.assert_allclose(found.energy_kwh, energy, rtol=0, atol=atol)
    assert np.all(energy >= limits.floor_kwh - atol)
    assert np.all(energy <= stores.max_kwh[:, None] + atol)


def one_store(n_periods, **values):
    """One store that is there all the time, with these values."""
    store = Stores.empty(1)
    store.departure[:] = n_periods
    for name, value in values.items():
        getattr(store, name)[...] = value
    return store


@pytest.mark.parametrize("seed", range(10))
def test_cvxpy_finds_nothing_better(seed):
    stores, hours, target, rho = random_store_problem(seed)
    found = dispatch_stores(stores, hours, target, rho)
    assert_feasible(stores, found, hours)
    best = objective(stores, target, rho, *store_oracle(stores, hours, target, rho))
    mine = objective(stores, target, rho, found.charge_kw, found.discharge_kw)
    assert np.all(mine - best <= 1e-7 * (1 + np.abs(best)))


@pytest.mark.parametrize("seed", range(100, 160))
def test_duality_gap_closes(seed):
    """What proves optimality: p maximises lambda p - f(p) at lambda = -rho (p - a)."""
    stores, hours, target, rho = random_store_problem(seed)
    found = dispatch_stores(stores, hours, target, rho)
    assert_feasible(stores, found, hours)
    p = found.discharge_kw - found.charge_kw
    price = -rho[:, None] * (p - target)
    wear = stores.cycle_cost_per_kwh[:, None] * (found.charge_kw + found.discharge_kw)
    reached = (price * p - wear).sum(axis=1)
    bound = store_dual_value(stores, price, found.stored_value_per_kwh, hours)
    gap = (bound - reached) / (1 + np.abs(reached))
    assert np.all(gap >= -1e-11)
    assert np.all(gap <= 1e-10)
    at_prices = (best_store_value(stores, price, hours) - reached) / (1 + np.abs(reached))
    assert np.all(at_prices >= -1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_at_given_prices_is_a_linear_program(seed):
    import cvxpy as cp

    stores, hours, target, _ = random_store_problem(seed, n_periods=24)
    price = 0.3 + 0.05 * target
    (c, d), cost, constraints = store_model(stores, 24, hours)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(price, d - c)) - cost), constraints)
    problem.solve(solver="CLARABEL")
    bound = best_store_value(stores, price, hours).sum()
    np.testing.assert_allclose(bound, problem.value, rtol=1e-5)
    assert bound >= problem.value - 1e-6 * abs(problem.value)


def test_an_ev_charges_evenly_where_nothing_else_counts():
    """6 kWh in 4 hours at a target of 0: 1.5 kW each; half a period counts half."""
    ev = one_store(4, max_kwh=10, initial_kwh=2, charge_max_kw=3, needed_kwh=8)
    found = dispatch_stores(ev, 1.0, np.zeros((1, 4)), np.ones(1))
    np.testing.assert_allclose(found.charge_kw, [[1.5, 1.5, 1.5, 1.5]], rtol=1e-12)
    np.testing.assert_allclose(found.stored_value_per_kwh, 1.5, rtol=1e-12)
    late = one_store(4, max_kwh=10, initial_kwh=2, charge_max_kw=3, needed_kwh=8)
    late.arrival[:] = 1.5
    found = dispatch_stores(late, 1.0, np.zeros((1, 4)), np.ones(1))
    np.testing.assert_allclose(found.charge_kw, [[0, 1.5, 2.25, 2.25]], rtol=1e-12)


def test_a_shiftable_load_waits_for_the_cheap_hours():
    load = one_store(4, max_kwh=3, charge_max_kw=2, needed_kwh=3)
    load.kind[:] = StoreKind.SHIFTABLE
    price = np.array([[0.4, 0.1, 0.2, 0.3]])
    found = dispatch_stores(load, 1.0, price / 1e-6, np.array([1e-6]))
    np.testing.assert_allclose(found.charge_kw, [[0, 2, 1, 0]], atol=1e-9)
    assert best_store_value(load, price, 1.0)[0] == pytest.approx(-0.4, rel=1e-6)


def test_energy_beyond_its_use_is_worth_nothing():
    """Full on departure, nothing needed: it does nothing, at a value of 0."""
    ev = one_store(3, max_kwh=10, initial_kwh=6, charge_max_kw=3, needed_kwh=5)
    found = dispatch_stores(ev, 1.0, np.zeros((1, 3)), np.ones(1))
    assert not found.charge_kw.any()
    np.testing.assert_array_equal(found.stored_value_per_kwh, 0.0)


def test_used_energy_is_gone_on_arrival():
    ev = Stores.empty(1, 2)
    ev.max_kwh[:], ev.initial_kwh[:], ev.charge_max_kw[:] = 10, 5, 4
    ev.arrival[:], ev.departure[:] = [[0, 3]], [[1, 4]]
    ev.used_kwh[:], ev.final_min_kwh[:] = [[0, 4]], 5
    found = dispatch_stores(ev, 1.0, np.zeros((1, 4)), np.ones(1))
    np.testing.assert_allclose(found.energy_kwh, [[7, 7, 7, 5]], rtol=1e-12)
    np.testing.assert_allclose(found.charge_kw, [[2, 0, 0, 2]], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_batch_does_not_change_bits(seed):
    stores, hours, target, rho = random_store_problem(seed)
    whole = np.empty(target.shape)
    solve_stores(stores, hours, target, rho, whole)
    rows = np.arange(len(stores))[::-3]
    some = np.empty((len(rows), target.shape[1]))
    solve_stores(stores.take(rows), hours, target[rows], rho[rows], some)
    np.testing.assert_array_equal(some, whole[rows])
    found = dispatch_stores(stores, hours, target, rho)
    np.testing.assert_array_equal(found.discharge_kw - found.charge_kw, whole)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), other=st.integers(0, 2**32 - 1))
def test_energy_is_kept_and_the_prox_is_firmly_nonexpansive(seed, other):
    stores, hours, target, rho = random_store_problem(seed, n=20)
    moved = target + np.random.default_rng(other).normal(0, 3, target.shape)
    first, second = (dispatch_stores(stores, hours, a, rho) for a in (target, moved))
    for found in (first, second):
        assert_feasible(stores, found, hours)
    p, q = (found.discharge_kw - found.charge_kw for found in (first, second))
    step, asked = p - q, target - moved
    inner = (step * asked).sum(axis=1)
    assert np.all(inner >= (step**2).sum(axis=1) - 1e-7 * (1 + (asked**2).sum(axis=1)))
