"""Random EVs and shiftable loads that can be served, and CVXPY as their oracle."""

from __future__ import annotations

import warnings

import numpy as np

from raygrid.prosumer.stores import StoreKind, Stores
from tests.prosumer.cases import CLARABEL, spread


def random_stores(rng, n, n_periods, period_hours):
    """n stores of every kind, some with needs at the edge of what can be charged."""
    s = Stores.empty(n, 2)
    shift = rng.random(n) < 0.3
    s.owner[:] = np.arange(n)
    s.kind[:] = np.where(shift, StoreKind.SHIFTABLE, StoreKind.EV)
    for eta in (s.eta_charge, s.eta_discharge):
        eta[:] = np.where(shift, 1, rng.choice([1, 0.95, 0.8], n))
    s.charge_max_kw[:] = rng.choice([1, 3, 7], n)
    s.discharge_max_kw[:] = np.where(shift, 0, rng.choice([0, 0, 3, 7], n))
    s.cycle_cost_per_kwh[:] = np.where(shift, 0, rng.choice([0, 0.01, 0.05], n))

    cuts = np.sort(rng.uniform(0, n_periods, (n, 4)), axis=1)
    cuts = np.where((rng.random(n) < 0.5)[:, None], np.round(cuts), cuts)
    s.arrival[:, 0] = np.where(rng.random(n) < 0.3, 0, cuts[:, 0])
    s.departure[:, 0] = cuts[:, 1]
    s.arrival[:, 1] = np.maximum(cuts[:, 2], np.ceil(cuts[:, 1]))
    s.departure[:, 1] = np.where(rng.random(n) < 0.5, n_periods, cuts[:, 3])
    once = shift | (rng.random(n) < 0.3)
    s.arrival[once, 1] = s.departure[once, 1] = 0

    capacity = np.where(shift, 0, rng.choice([5, 20, 50], n))
    s.min_kwh[:], s.max_kwh[:] = 0.2 * capacity, 0.9 * capacity
    s.initial_kwh[:] = rng.uniform(0.5, 0.9, n) * capacity
    s.used_kwh[:, 1] = np.where(s.is_stay[:, 1], rng.uniform(0, 0.3, n) * capacity, 0)
    reach = charged_fully(s, n_periods, period_hours, np.where(shift, np.inf, s.max_kwh))
    s.max_kwh[shift] = (rng.choice([0.3, 0.7, 1], n) * reach[:, -1])[shift]
    at_end = s.min_kwh + rng.choice([0, 0.5, 1], n) * (reach[:, -1] - s.min_kwh)
    s.final_min_kwh[:] = np.where(shift, s.max_kwh, at_end)
    last = np.clip(np.ceil(s.departure[:, 0]).astype(int) - 1, 0, n_periods - 1)
    by_then = reach[np.arange(n), last]
    needed = np.maximum(s.min_kwh + s.used_kwh[:, 1], rng.choice([0.3, 1], n) * by_then)
    needed = np.minimum(np.where(shift, s.max_kwh, needed), by_then)
    s.needed_kwh[:, 0] = np.where(s.is_stay[:, 0], needed, 0)
    # the rest would have to use what it does not have
    reach = charged_fully(s, n_periods, period_hours, s.max_kwh)
    short = s.limits(n_periods).floor_kwh - reach
    return s.take(np.flatnonzero(short.max(axis=1) <= 1e-9))


def charged_fully(stores, n_periods, period_hours, ceiling_kwh):
    """(n, T) energy of stores that always charge."""
    limits, energy, path = stores.limits(n_periods), stores.initial_kwh, []
    for t in range(n_periods):
        gain = period_hours * stores.eta_charge * limits.charge_kw[:, t]
        energy = np.minimum(energy - limits.used_kwh[:, t] + gain, ceiling_kwh)
        path.append(energy)
    return np.stack(path, axis=1)


def random_store_problem(seed, n=40, n_periods=None):
    """Stores, period length, targets and penalties; prices from mild to absurd."""
    rng = np.random.default_rng(seed)
    n_periods = n_periods or int(rng.choice([2, 4, 8, 24, 48]))
    period_hours = float(rng.choice([0.25, 1.0, 2.0]))
    stores = random_stores(rng, n, n_periods, period_hours)
    n = len(stores)
    rho = rng.choice([0.01, 0.1, 1.0], n) * rng.uniform(0.5, 2, n)
    target = rng.normal(0, 1, (n, n_periods)) * rng.choice([1, 4, 10], n)[:, None]
    target += rng.choice([0, 3, -3, -10, -30], n)[:, None]
    return stores, period_hours, target, rho


def store_model(stores, n_periods, period_hours):
    """CVXPY variables (charge, discharge), the cost rate and the constraints of stores."""
    import cvxpy as cp

    n, limits = len(stores), stores.limits(n_periods)
    c, d = (cp.Variable((n, n_periods), nonneg=True) for _ in range(2))
    energy = cp.Variable((n, n_periods + 1))
    gain = cp.multiply(spread(stores.eta_charge, n_periods), c)
    gain = gain - cp.multiply(spread(1 / stores.eta_discharge, n_periods), d)
    constraints = [
        c <= limits.charge_kw,
        d <= limits.discharge_kw,
        energy[:, 0] == stores.initial_kwh,
        energy[:, 1:] == energy[:, :-1] - limits.used_kwh + period_hours * gain,
        energy[:, 1:] >= limits.floor_kwh,
        energy[:, 1:] <= spread(stores.max_kwh, n_periods),
    ]
    cost = cp.sum(cp.multiply(spread(stores.cycle_cost_per_kwh, n_periods), c + d))
    return (c, d), cost, constraints


def store_oracle(stores, period_hours, target, rho):
    """The local problems of stores, stated as one and solved by Clarabel."""
    import cvxpy as cp

    (c, d), cost, constraints = store_model(stores, target.shape[1], period_hours)
    weight = spread(np.sqrt(rho / 2), target.shape[1])
    misses = cp.sum_squares(cp.multiply(weight, d - c - target))
    problem = cp.Problem(cp.Minimize(cost + misses), constraints)
    with warnings.catch_warnings():  # a last digit that it misses is no matter here
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(**CLARABEL)
    assert problem.status in ("optimal", "optimal_inaccurate")
    return c.value, d.value
