"""The grid agent's closed form against its optimality condition and CVXPY."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.prosumer.grid_agent import grid_cost_rate, grid_dual_value, solve_grid
from raygrid.prosumer.population import GridConnection


def connection(rng, n_periods):
    buy = rng.normal(0.2, 0.2, n_periods)
    return GridConnection(
        import_price_per_kwh=buy,
        export_price_per_kwh=buy - rng.choice([0, 0.1], n_periods),
        import_limit_kw=rng.choice([0, 5, 50], n_periods).astype(float),
        export_limit_kw=rng.choice([0, 5, 50], n_periods).astype(float),
        size_weight=1.0,
    )


def test_hand_worked_values():
    grid = GridConnection(np.full(5, 0.3), np.full(5, 0.1), np.full(5, 4.0), np.full(5, 2.0), 1.0)
    target = np.array([5.0, 20.0, 2.0, 0.0, -9.0])
    np.testing.assert_allclose(
        solve_grid(grid, target, 0.1), [2.0, 4.0, 0.0, -1.0, -2.0], rtol=0, atol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_other_power_is_better(seed):
    rng = np.random.default_rng(seed)
    grid = connection(rng, 6)
    rho, target = float(rng.uniform(0.01, 2)), rng.normal(0, 20, 6)
    p = solve_grid(grid, target, rho)
    assert np.all((p <= grid.import_limit_kw) & (p >= -grid.export_limit_kw))

    def rate(power):
        return grid_cost_rate(grid, power) + rho / 2 * np.sum((power - target) ** 2)

    for t in range(6):
        for other in np.linspace(-grid.export_limit_kw[t], grid.import_limit_kw[t], 21):
            moved = p.copy()
            moved[t] = other
            assert rate(moved) >= rate(p) - 1e-9


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_dual_value_is_the_best_gain(seed):
    rng = np.random.default_rng(seed)
    grid, price = connection(rng, 4), rng.normal(0.2, 0.3, 4)
    ends = np.stack([grid.import_limit_kw, np.zeros(4), -grid.export_limit_kw])
    best = 0.0
    for t in range(4):
        gains = []
        for power in ends[:, t]:
            p = np.zeros(4)
            p[t] = power
            gains.append(price @ p - grid_cost_rate(grid, p))
        best += max(gains)
    np.testing.assert_allclose(grid_dual_value(grid, price), best, rtol=1e-12, atol=1e-12)


def test_unlimited_connection():
    limit = np.full(2, np.inf)
    grid = GridConnection(np.full(2, 0.3), np.full(2, 0.1), limit, limit, 1.0)
    assert np.all(np.isfinite(solve_grid(grid, np.array([100.0, -100.0]), 0.1)))
    assert grid_dual_value(grid, np.full(2, 0.2)) == 0.0
    assert grid_dual_value(grid, np.array([0.2, 0.4])) == np.inf
