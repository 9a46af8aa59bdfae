"""The central benchmark against hand-worked cases, KKT conditions and invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.grid.network import Network, NetworkRows
from raygrid.market.central import CentralStatus, solve_central
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.population import GridConnection, Population
from raygrid.scenario.case import Case

ATOL = 1e-5


def triangle(limit_kw: float, n_periods: int) -> tuple[Network, NetworkRows]:
    """Three buses, three equal lines; slack at bus 1. Its PTDF is known by hand (thirds)."""
    ptdf = np.array([[0.0, -2.0, -1.0], [0.0, 1.0, -1.0], [0.0, -1.0, -2.0]]) / 3.0
    limit = np.full(3, limit_kw)
    network = Network(
        name="triangle",
        bus_id=np.array([1, 2, 3]),
        slack=0,
        line_id=np.array([1, 2, 3]),
        from_bus=np.array([0, 1, 0]),
        to_bus=np.array([1, 2, 2]),
        r_pu=np.zeros(3),
        x_pu=np.ones(3),
        limit_kw=limit,
        flow_offset_kw=np.zeros(3),
    )
    bound = np.repeat(limit[:, None], n_periods, axis=1)
    return network, NetworkRows(ptdf, -bound, bound, np.array(["line"] * 3), np.arange(3))


def make_case(
    population: Population,
    *,
    limit_kw: float = 100.0,
    grid: GridConnection | None = None,
    period_hours: float = 1.0,
) -> Case:
    network, rows = triangle(limit_kw, population.n_periods)
    reactive = np.zeros((3, population.n_periods))
    return Case(
        "test", network, rows, GivenCommunity(population), grid, period_hours, "USD", reactive
    )


def seller_and_buyer() -> Population:
    """Seller at bus 1 (cost 0.01 x^2 + 0.02 x), buyer at bus 3 (0.3 log(1 + y) - 0.01 y)."""
    population = Population.empty(2, 1)
    population.bus[:] = [0, 2]
    population.alpha[0], population.beta[0], population.gamma[0] = 0.01, 0.02, 0.005
    population.generation_limit_kw[0] = 10.0
    population.omega[1], population.delta[1] = 0.3, 0.01
    population.demand_limit_kw[1] = 10.0
    return population


def mixed_population(seed: int, n: int = 12, n_periods: int = 8) -> Population:
    """Random prosumers, each with any of the devices."""
    rng = np.random.default_rng(seed)
    population = Population.empty(n, n_periods)
    population.bus[:] = rng.integers(0, 3, n)
    has = rng.random((3, n)) < 0.6
    population.alpha[:] = has[0] * rng.uniform(0.003, 0.02, n)
    population.beta[:] = has[0] * rng.uniform(0.0, 0.05, n)
    population.generation_limit_kw[:] = has[0][:, None] * rng.uniform(0, 4, (n, n_periods))
    population.omega[:] = has[1] * rng.uniform(0.1, 0.3, n)
    population.delta[:] = has[1] * 0.05
    population.demand_limit_kw[:] = has[1][:, None] * rng.uniform(0.5, 2, (n, n_periods))
    population.fixed_load_kw[:] = rng.uniform(0, 0.3, (n, n_periods))
    population.soc_max_kwh[:] = has[2] * 6.0
    population.soc_initial_kwh[:] = has[2] * 3.0
    population.soc_final_min_kwh[:] = has[2] * 3.0
    population.charge_max_kw[:] = has[2] * 2.0
    population.discharge_max_kw[:] = has[2] * 1.5
    population.eta_charge[has[2]], population.eta_discharge[has[2]] = 0.95, 0.93
    population.cycle_cost_per_kwh[:] = has[2] * 0.001
    return population


def tariff(n_periods: int, import_price: float = 0.3, export_price: float = 0.01) -> GridConnection:
    return GridConnection(
        import_price_per_kwh=np.full(n_periods, import_price),
        export_price_per_kwh=np.full(n_periods, export_price),
        import_limit_kw=np.full(n_periods, np.inf),
        export_limit_kw=np.full(n_periods, 5.0),
        size_weight=30.0,
    )


def test_two_agents_without_limits_meet_where_marginals_cross() -> None:
    result = solve_central(make_case(seller_and_buyer()), network_constrained=False)
    # 0.02 x + 0.02 = 0.3 / (1 + x) - 0.01, i.e. 0.02 x^2 + 0.05 x - 0.27 = 0.
    x = (-0.05 + np.sqrt(0.05**2 + 4 * 0.02 * 0.27)) / 0.04
    welfare = 0.3 * np.log1p(x) - 0.01 * x - 0.01 * x * x - 0.02 * x - 0.005
    assert result.status is CentralStatus.OPTIMAL
    np.testing.assert_allclose(result.dispatch.generation_kw[0], x, rtol=1e-3, atol=ATOL)
    np.testing.assert_allclose(result.dispatch.demand_kw[1], x, rtol=1e-3, atol=ATOL)
    np.testing.assert_allclose(result.lmp_per_kwh, 0.02 * x + 0.02, rtol=1e-3, atol=ATOL)
    np.testing.assert_allclose(result.welfare, welfare, rtol=1e-7, atol=1e-8)
    assert result.row_price.shape == (3, 1)
    assert not result.row_price.any()


def test_two_agents_behind_a_full_line_see_their_own_marginals() -> None:
    # Two thirds of the trade flow over line 3 (1-3), so a limit of 1 kW lets 1.5 kW through.
    result = solve_central(make_case(seller_and_buyer(), limit_kw=1.0), network_constrained=True)
    np.testing.assert_allclose(result.p_bus_kw[:, 0], [1.5, 0.0, -1.5], rtol=1e-5, atol=ATOL)
    seller, buyer = 0.02 * 1.5 + 0.02, 0.3 / 2.5 - 0.01
    np.testing.assert_allclose(result.lmp_per_kwh[0], seller, rtol=1e-4, atol=ATOL)
    np.testing.assert_allclose(result.lmp_per_kwh[2], buyer, rtol=1e-4, atol=ATOL)
    # One more kW of the limit is 1.5 kW more trade at the price difference.
    np.testing.assert_allclose(
        result.row_price[:, 0], [0, 0, 1.5 * (buyer - seller)], rtol=1e-4, atol=ATOL
    )


def test_unenforced_limits_leave_the_line_overloaded() -> None:
    case = make_case(seller_and_buyer(), limit_kw=1.0)
    result = solve_central(case, network_constrained=False)
    assert np.abs(case.rows.matrix @ result.p_bus_kw).max() > 1.0


@pytest.mark.parametrize("seed", range(4))
def test_price_differences_are_the_line_multipliers(seed: int) -> None:
    population = mixed_population(seed)
    case = make_case(population, limit_kw=1.2, grid=tariff(population.n_periods))
    result = solve_central(case, network_constrained=True)
    assert result.status is CentralStatus.OPTIMAL
    flow = case.rows.matrix @ result.p_bus_kw
    assert np.all(np.abs(flow) <= 1.2 + 1e-5)
    assert np.abs(result.row_price).max() > 1e-3
    energy_price = result.lmp_per_kwh + case.rows.matrix.T @ result.row_price
    expected = np.broadcast_to(energy_price[:1], energy_price.shape)
    np.testing.assert_allclose(energy_price, expected, rtol=1e-5, atol=1e-6)
    slack_lines = np.abs(flow) < 1.2 - 1e-3
    np.testing.assert_allclose(result.row_price[slack_lines], 0.0, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("period_hours", [1.0, 0.25])
def test_every_device_answers_its_price(seed: int, period_hours: float) -> None:
    """KKT of each device at its bus's price; the battery's through the value of a stored kWh."""
    population = mixed_population(seed)
    case = make_case(
        population, limit_kw=1.2, grid=tariff(population.n_periods), period_hours=period_hours
    )
    result = solve_central(case, network_constrained=True)
    d, price = result.dispatch, result.lmp_per_kwh[population.bus]
    tol, wide = 1e-4, 1e-3

    def check(gain: np.ndarray, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        assert np.all(gain[value > low + wide] > -tol)
        assert np.all(gain[value < high - wide] < tol)

    zero = np.zeros_like(price)
    marginal_cost = 2 * population.alpha[:, None] * d.generation_kw + population.beta[:, None]
    check(price - marginal_cost, d.generation_kw, zero, population.generation_limit_kw)
    marginal_utility = population.omega[:, None] / (1 + d.demand_kw) - population.delta[:, None]
    check(marginal_utility - price, d.demand_kw, zero, population.demand_limit_kw)
    cycle, mu = population.cycle_cost_per_kwh[:, None], d.stored_value_per_kwh
    charge_gain = population.eta_charge[:, None] * mu - price - cycle
    discharge_gain = price - cycle - mu / population.eta_discharge[:, None]
    check(charge_gain, d.charge_kw, zero, zero + population.charge_max_kw[:, None])
    check(discharge_gain, d.discharge_kw, zero, zero + population.discharge_max_kw[:, None])
    assert result.simultaneous_kw < 1e-3
    balance = d.generation_kw - d.demand_kw - population.fixed_load_kw + d.discharge_kw
    np.testing.assert_allclose(d.p_kw, balance - d.charge_kw, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.p_bus_kw.sum(axis=0), 0.0, rtol=0, atol=1e-5)
    assert np.all(d.soc_kwh <= population.soc_max_kwh[:, None] + ATOL)
    assert np.all(d.soc_kwh[:, -1] >= population.soc_final_min_kwh - ATOL)


def test_period_length_scales_welfare_and_leaves_prices() -> None:
    """Four quarter hours of one hour's profile are that hour; without storage it is exact."""
    hourly = mixed_population(5)
    hourly.charge_max_kw[:] = 0.0
    hourly.discharge_max_kw[:] = 0.0
    profiles = (
        "generation_min_kw",
        "generation_limit_kw",
        "demand_min_kw",
        "demand_limit_kw",
        "fixed_load_kw",
    )
    quarters = replace(
        hourly, **{name: np.repeat(getattr(hourly, name), 4, axis=1) for name in profiles}
    )
    one = solve_central(make_case(hourly, limit_kw=1.2, grid=tariff(8)), network_constrained=True)
    four = solve_central(
        make_case(quarters, limit_kw=1.2, grid=tariff(32), period_hours=0.25),
        network_constrained=True,
    )
    np.testing.assert_allclose(four.welfare, one.welfare, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(four.lmp_per_kwh[:, ::4], one.lmp_per_kwh, rtol=1e-3, atol=1e-4)


def test_stored_value_is_what_one_more_initial_kwh_is_worth() -> None:
    population = mixed_population(1)
    case = make_case(population, grid=tariff(8), period_hours=0.5)
    result = solve_central(case, network_constrained=False)
    who = int(np.flatnonzero(population.has_battery)[0])
    more = population.soc_initial_kwh.copy()
    more[who] += 0.01
    richer = solve_central(
        replace(case, community=GivenCommunity(replace(population, soc_initial_kwh=more))),
        network_constrained=False,
    )
    np.testing.assert_allclose(
        (richer.welfare - result.welfare) / 0.01,
        result.dispatch.stored_value_per_kwh[who, 0],
        rtol=0.02,
        atol=1e-3,
    )


def test_import_and_export_at_their_prices() -> None:
    population = Population.empty(1, 2)
    population.fixed_load_kw[0, 0] = 2.0
    population.generation_min_kw[0, 1] = 3.0
    population.generation_limit_kw[0, 1] = 3.0
    result = solve_central(make_case(population, grid=tariff(2)), network_constrained=True)
    np.testing.assert_allclose(result.grid_kw, [2.0, -3.0], rtol=1e-6, atol=ATOL)
    np.testing.assert_allclose(result.lmp_per_kwh[0], [0.3, 0.01], rtol=1e-4, atol=ATOL)
    np.testing.assert_allclose(result.welfare, -0.6 + 0.03, rtol=1e-5, atol=1e-6)


def test_lossless_battery_never_cycles_for_nothing() -> None:
    population = Population.empty(1, 4)
    population.charge_max_kw[:] = population.discharge_max_kw[:] = 2.0
    population.soc_max_kwh[:], population.soc_initial_kwh[:] = 4.0, 2.0
    result = solve_central(make_case(population, grid=tariff(4)), network_constrained=False)
    both = np.minimum(result.dispatch.charge_kw, result.dispatch.discharge_kw)
    np.testing.assert_allclose(both, 0.0, rtol=0, atol=1e-12)


def test_negative_prices_that_want_both_at_once_are_reported() -> None:
    population = Population.empty(1, 2)
    population.charge_max_kw[:] = population.discharge_max_kw[:] = 2.0
    population.soc_max_kwh[:] = 1.0
    population.eta_charge[:] = population.eta_discharge[:] = 0.9
    grid = tariff(2, import_price=-1.0, export_price=-1.0)
    result = solve_central(make_case(population, grid=grid), network_constrained=False)
    assert result.simultaneous_kw > 0.1


def test_load_that_no_one_can_serve_is_infeasible() -> None:
    population = seller_and_buyer()
    population.fixed_load_kw[1] = 50.0
    result = solve_central(make_case(population), network_constrained=False)
    assert result.status is CentralStatus.INFEASIBLE
    assert "infeasible" in result.reason
    assert np.isnan(result.welfare)
    assert np.isnan(result.lmp_per_kwh).all()
    assert np.isnan(result.dispatch.p_kw).all()


def test_rows_without_bounds_and_one_sided_rows() -> None:
    case = make_case(seller_and_buyer(), limit_kw=1.0)
    free = replace(case.rows, lower=np.full((3, 1), -np.inf), upper=np.full((3, 1), np.inf))
    unlimited = solve_central(replace(case, rows=free), network_constrained=True)
    reference = solve_central(case, network_constrained=False)
    np.testing.assert_allclose(unlimited.welfare, reference.welfare, rtol=1e-7, atol=1e-8)
    upper = free.upper.copy()
    upper[2] = 1.0
    one_sided = solve_central(
        replace(case, rows=replace(free, upper=upper)), network_constrained=True
    )
    both = solve_central(case, network_constrained=True)
    np.testing.assert_allclose(one_sided.welfare, both.welfare, rtol=1e-7, atol=1e-8)


def test_an_unknown_solver_fails_with_its_name() -> None:
    result = solve_central(
        make_case(seller_and_buyer()), network_constrained=False, solver="NOSUCH"
    )
    assert result.status is CentralStatus.FAILED
    assert "NOSUCH" in result.reason
