"""Random local problems, degenerate ones included, and CVXPY as their oracle."""

from __future__ import annotations

import warnings

import numpy as np

from raygrid.prosumer.population import Population


def random_population(rng, n, n_periods, period_hours):
    """n prosumers with every mix of devices and many degenerate values."""
    p = Population.empty(n, n_periods)
    shape = (n, n_periods)
    has_gen, has_demand, has_fixed = (rng.random(n) < share for share in (0.6, 0.5, 0.7))
    has_battery = rng.random(n) < 0.85

    p.alpha[:] = has_gen * rng.choice([0, 0, 1e-4, 0.01, 0.1, 1.0], n) * rng.uniform(0.5, 1.5, n)
    p.beta[:] = has_gen * rng.choice([0, 0, 0.02, 0.2], n) * rng.uniform(0.5, 1.5, n)
    p.gamma[:] = has_gen * rng.choice([0, 0.01], n)
    limit = np.maximum(rng.normal(2, 3, shape), 0) * has_gen[:, None]
    p.generation_limit_kw[:] = limit
    p.generation_min_kw[:] = limit * rng.choice([0, 0, 0, 0.3, 1], n)[:, None]

    p.omega[:] = has_demand * rng.choice([0, 0.1, 0.2, 1.0], n) * rng.uniform(0.5, 1.5, n)
    p.delta[:] = has_demand * rng.choice([0, 0.05, 0.2], n)
    limit = rng.uniform(0, 5, shape) * has_demand[:, None] * (rng.random(shape) < 0.8)
    p.demand_limit_kw[:] = limit
    p.demand_min_kw[:] = limit * rng.choice([0, 0, 0.2, 1], n)[:, None]
    p.fixed_load_kw[:] = rng.uniform(0, 3, shape) * has_fixed[:, None]

    capacity = rng.choice([0, 1, 5, 10, 40], n) * has_battery
    least = capacity * rng.choice([0, 0.1, 0.2, 1], n)
    p.soc_max_kwh[:], p.soc_min_kwh[:] = capacity, least
    p.soc_initial_kwh[:] = least + rng.choice([0, 1, 0.5, 0.3, 0.9], n) * (capacity - least)
    p.charge_max_kw[:] = rng.choice([0, 1, 3, 3, 10], n) * has_battery
    p.discharge_max_kw[:] = rng.choice([0, 1, 3, 3, 10], n) * has_battery
    p.eta_charge[:] = rng.choice([1, 1, 0.95, 0.9, 0.7], n)
    p.eta_discharge[:] = rng.choice([1, 0.95, 0.9, 0.7], n)
    p.cycle_cost_per_kwh[:] = rng.choice([0, 0.005, 0.02, 0.1], n) * has_battery
    reach = p.soc_initial_kwh + n_periods * period_hours * p.eta_charge * p.charge_max_kw
    reach = np.minimum(capacity, reach)
    p.soc_final_min_kwh[:] = least + rng.choice([0, 0, 0.5, 1, 1], n) * (reach - least)
    return p


def random_problem(seed, n=40, n_periods=None):
    """A population, period length, targets and penalties; prices from mild to absurd."""
    rng = np.random.default_rng(seed)
    n_periods = n_periods or int(rng.choice([1, 2, 3, 6, 12, 24]))
    period_hours = float(rng.choice([0.25, 1.0, 2.0]))
    population = random_population(rng, n, n_periods, period_hours)
    rho = rng.choice([0.01, 0.1, 0.1, 1.0], n) * rng.uniform(0.5, 2, n)
    target = rng.normal(0, 1, (n, n_periods)) * rng.choice([1, 4, 10], n)[:, None]
    target += rng.choice([0, 0, 3, -3, 10, -10], n)[:, None]
    return population, period_hours, target, rho


def spread(values, n_periods):
    return np.repeat(values[:, None], n_periods, axis=1)


def device_model(population, period_hours):
    """CVXPY variables (p, x, y, c, d), the cost rate and the constraints of a population."""
    import cvxpy as cp

    p = population
    n, n_periods = p.fixed_load_kw.shape
    x, y, c, d = (cp.Variable((n, n_periods), nonneg=True) for _ in range(4))
    soc = cp.Variable((n, n_periods + 1))

    def wide(values):
        return spread(values, n_periods)

    cost = (
        cp.sum_squares(cp.multiply(wide(np.sqrt(p.alpha)), x))
        + cp.sum(cp.multiply(wide(p.beta), x))
        + n_periods * np.sum(p.gamma[p.has_generator])
        - cp.sum(cp.multiply(wide(p.omega), cp.log(1 + y)))
        + cp.sum(cp.multiply(wide(p.delta), y))
        + cp.sum(cp.multiply(wide(p.cycle_cost_per_kwh), c + d))
    )
    gain = period_hours * (
        cp.multiply(wide(p.eta_charge), c) - cp.multiply(wide(1 / p.eta_discharge), d)
    )
    constraints = [
        x >= p.generation_min_kw,
        x <= p.generation_limit_kw,
        y >= p.demand_min_kw,
        y <= p.demand_limit_kw,
        c <= wide(p.charge_max_kw),
        d <= wide(p.discharge_max_kw),
        soc[:, 0] == p.soc_initial_kwh,
        soc[:, 1:] == soc[:, :-1] + gain,
        soc[:, 1:] >= wide(p.soc_min_kwh),
        soc[:, 1:] <= wide(p.soc_max_kwh),
        soc[:, -1] >= p.soc_final_min_kwh,
    ]
    return (x - y - p.fixed_load_kw + d - c, x, y, c, d), cost, constraints


CLARABEL = {"solver": "CLARABEL", "tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}


def oracle(population, period_hours, target, rho):
    """The same local problems, stated as one separable problem and solved by Clarabel."""
    import cvxpy as cp

    powers, cost, constraints = device_model(population, period_hours)
    weight = spread(np.sqrt(rho / 2), target.shape[1])
    problem = cp.Problem(
        cp.Minimize(cost + cp.sum_squares(cp.multiply(weight, powers[0] - target))), constraints
    )
    with warnings.catch_warnings():  # a last digit that it misses is no matter here
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(**CLARABEL)
    assert problem.status in ("optimal", "optimal_inaccurate")
    return [power.value for power in powers]


def objective(population, target, rho, p, x, y, c, d):
    """(n,) local objectives, without the constant generation cost."""
    q = population
    rate = q.alpha[:, None] * x**2 + q.beta[:, None] * x + q.delta[:, None] * y
    rate = rate - q.omega[:, None] * np.log1p(np.maximum(y, 0))
    rate = rate + q.cycle_cost_per_kwh[:, None] * (c + d)
    return (rate + rho[:, None] / 2 * (p - target) ** 2).sum(axis=1)
