"""Welfare and dual values against sums by hand and CVXPY."""

import numpy as np
import pytest

from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import Population
from raygrid.prosumer.valuation import dual_value, welfare_rate
from tests.prosumer.cases import CLARABEL, device_model, random_problem


def test_welfare_by_hand():
    population = Population.empty(2, 2)
    population.generation_limit_kw[0] = [0, 5]
    population.alpha[0], population.beta[0], population.gamma[:] = 0.1, 0.02, 0.5
    population.omega[1], population.delta[1] = 0.3, 0.05
    population.cycle_cost_per_kwh[1] = 0.01
    none = np.zeros((2, 2))
    x, y, c, d = none.copy(), none.copy(), none.copy(), none.copy()
    x[0, 1] = 2.0
    y[1] = [1.0, 3.0]
    c[1, 0], d[1, 1] = 2.0, 1.0
    rates = welfare_rate(population, Dispatch(x - y + d - c, x, y, c, d, none, none))
    expected = [
        -(0.1 * 4 + 0.02 * 2) - 2 * 0.5,
        0.3 * (np.log(2) + np.log(4)) - 0.05 * 4 - 0.01 * 3,
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-14, atol=0)


def best_at_prices(population, period_hours, price):
    """CVXPY's maximum of lambda p - f(p), summed over the population."""
    import cvxpy as cp

    powers, cost, constraints = device_model(population, period_hours)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(price, powers[0])) - cost), constraints)
    return problem.solve(**CLARABEL)


@pytest.mark.parametrize("seed", range(200, 206))
def test_dual_value_at_the_optimal_stored_value(seed):
    population, period_hours, target, rho = random_problem(seed, n=30)
    n = len(population)
    dispatch = LocalSolver(population, period_hours).dispatch(0, n, target, rho)
    # at the local problem's own price its p is a best response, so CVXPY must find this value
    price = -rho[:, None] * (dispatch.p_kw - target)
    value = dual_value(population, 0, n, price, dispatch.stored_value_per_kwh, period_hours)
    best = best_at_prices(population, period_hours, price)
    np.testing.assert_allclose(value.sum(), best, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(300, 340))
def test_any_stored_value_bounds(seed):
    population, period_hours, target, rho = random_problem(seed, n=30)
    n = len(population)
    dispatch = LocalSolver(population, period_hours).dispatch(0, n, target, rho)
    price = -rho[:, None] * (dispatch.p_kw - target)
    best = (price * dispatch.p_kw).sum(axis=1) + welfare_rate(population, dispatch)
    rng = np.random.default_rng(seed)
    for scale in (0.0, 0.01, 0.3, 5.0):
        mu = dispatch.stored_value_per_kwh + rng.normal(0, scale, price.shape)
        value = dual_value(population, 0, n, price, mu, period_hours)
        assert np.all(value >= best - 1e-9 * (1 + np.abs(best)))


def test_rows_are_those_of_the_population():
    population, period_hours, target, _ = random_problem(7)
    mu = np.zeros_like(target)
    whole = dual_value(population, 0, len(target), target, mu, period_hours)
    part = dual_value(population, 5, 9, target[5:9], mu[5:9], period_hours)
    np.testing.assert_array_equal(part, whole[5:9])
    with pytest.raises(ValueError, match="for rows x periods"):
        dual_value(population, 5, 9, target, mu, period_hours)


def test_dual_value_closed_forms():
    """Best at its price: 1 kW at rising cost, all 4 kW at flat cost, 1 kW of demand, then 10."""
    population = Population.empty(3, 1)
    population.generation_limit_kw[:] = [[4.0], [4.0], [0.0]]
    population.alpha[:2], population.beta[:2] = [0.1, 0.0], [0.02, 0.05]
    population.demand_limit_kw[2], population.omega[2], population.delta[2] = 10.0, 0.3, 0.05
    price, mu = np.array([[0.22], [0.06], [0.10]]), np.zeros((3, 1))
    gain = dual_value(population, 0, 3, price, mu, 1.0)
    by_hand = [0.22 - 0.1 - 0.02, 4 * (0.06 - 0.05), 0.3 * np.log(2) - 0.05 - 0.10]
    np.testing.assert_allclose(gain, by_hand, rtol=1e-12, atol=1e-15)
    # Paid as much as demand dislikes (3-10), it takes all that it can.
    gain = dual_value(population, 2, 3, np.array([[-0.05]]), mu[:1], 1.0)
    np.testing.assert_allclose(gain, [0.3 * np.log(11)], rtol=1e-12, atol=1e-15)
