"""The duality bound: never below the central optimum, equal to it at its own prices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.arrays import FloatArray
from raygrid.grid.network import Network, NetworkRows
from raygrid.market.bound import bound_price, welfare_bound
from raygrid.market.central import CentralResult, CentralStatus, solve_central
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.grid_agent import grid_dual_value
from raygrid.prosumer.population import GridConnection, Population
from raygrid.prosumer.valuation import best_value, dual_value
from raygrid.scenario.case import Case

N_PERIODS = 6


def random_case(seed: int) -> Case:
    """Six prosumers on a chain of four buses with one tight line; batteries, loads, grid."""
    rng = np.random.default_rng(seed)
    n, t, n_buses = 6, N_PERIODS, 4
    network = Network(
        "chain", np.arange(n_buses), 0, np.arange(3), np.arange(3), np.arange(1, 4),
        np.zeros(3), np.ones(3), np.full(3, np.inf), np.zeros(3),
    )  # fmt: skip
    matrix = -np.triu(np.ones((3, n_buses)), 1)
    limit = np.full((3, t), 50.0)
    limit[1] = 1.5
    rows = NetworkRows(matrix, -limit, limit, np.full(3, "line"), np.arange(3))
    seller = np.arange(n) % 2 == 0
    battery = np.arange(n) >= 4
    load = rng.uniform(0.1, 0.6, (n, t)) * seller[:, None]
    population = replace(
        Population.empty(n, t),
        bus=np.array([0, 1, 2, 3, 3, 2]),
        alpha=np.where(seller, rng.uniform(0.005, 0.02, n), 0.0),
        beta=np.where(seller, rng.uniform(0.02, 0.1, n), 0.0),
        gamma=np.where(seller, 0.01, 0.0),
        omega=np.where(seller, 0.0, rng.uniform(0.3, 0.6, n)),
        delta=np.where(seller, 0.0, 0.05),
        soc_max_kwh=np.where(battery, 4.0, 0.0),
        soc_initial_kwh=np.where(battery, 1.0, 0.0),
        soc_final_min_kwh=np.where(battery, 1.0, 0.0),
        charge_max_kw=np.where(battery, 1.5, 0.0),
        discharge_max_kw=np.where(battery, 1.5, 0.0),
        eta_charge=np.where(battery, 0.95, 1.0),
        eta_discharge=np.where(battery, 0.9, 1.0),
        cycle_cost_per_kwh=np.where(battery, 0.002, 0.0),
        generation_limit_kw=rng.uniform(0.0, 4.0, (n, t)) * seller[:, None],
        demand_limit_kw=3.0 * ~seller[:, None] * np.ones((1, t)),
        fixed_load_kw=load,
    )
    price = rng.uniform(0.15, 0.3, t)
    grid = GridConnection(price, price / 3, np.full(t, 30.0), np.full(t, 30.0), 18.0)
    return Case(
        "random",
        network,
        rows,
        GivenCommunity(population),
        grid,
        0.5,
        "EUR",
        np.zeros((n_buses, t)),
    )


def bound_at(
    case: Case, nu: FloatArray, row_price: FloatArray, mu: FloatArray, grid_kw: FloatArray
) -> float:
    assert case.grid is not None
    price = bound_price(nu, row_price, case.rows, case.network.slack, case.grid, grid_kw)
    people = case.population
    values = dual_value(people, 0, len(people), price[people.bus], mu, case.period_hours)
    total = float(values.sum()) + grid_dual_value(case.grid, price[case.network.slack])
    return welfare_bound(total, row_price, case.rows, case.period_hours)


def solved(case: Case) -> CentralResult:
    central = solve_central(case, network_constrained=True)
    assert central.status is CentralStatus.OPTIMAL
    return central


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_optimum_at_its_own_prices(seed: int) -> None:
    case = random_case(seed)
    central = solved(case)
    bound = bound_at(
        case,
        central.lmp_per_kwh[0],
        central.row_price,
        central.dispatch.stored_value_per_kwh,
        central.grid_kw,
    )
    np.testing.assert_allclose(bound, central.welfare, rtol=1e-5, atol=1e-5)
    assert bound >= central.welfare - 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_never_below_the_optimum_at_any_price(seed: int) -> None:
    case = random_case(seed)
    central = solved(case)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        bound = bound_at(
            case,
            central.lmp_per_kwh[0] + size * rng.normal(size=N_PERIODS),
            central.row_price + size * rng.normal(size=central.row_price.shape),
            central.dispatch.stored_value_per_kwh
            + size * rng.normal(size=central.dispatch.p_kw.shape),
            central.grid_kw,
        )
        assert bound >= central.welfare - 1e-6


def test_price_of_a_missing_limit_bounds_nothing() -> None:
    one = np.ones((1, 1))
    rows = NetworkRows(one, -one, one * np.inf, np.array(["line"]), np.zeros(1, dtype=np.int64))
    assert welfare_bound(1.0, one, rows, 1.0) == np.inf
    np.testing.assert_allclose(welfare_bound(1.0, -one, rows, 0.5), 1.0, rtol=1e-15)


def test_price_stays_between_tariffs_unless_a_limit_binds() -> None:
    matrix = np.array([[0.0, -1.0]])
    limit = np.full((1, 3), 2.0)
    rows = NetworkRows(matrix, -limit, limit, np.array(["line"]), np.zeros(1, dtype=np.int64))
    grid = GridConnection(np.full(3, 0.3), np.full(3, 0.1), np.full(3, 5.0), np.full(3, 5.0), 3.0)
    row_price = np.array([[0.0, 0.2, 0.0]])
    price = bound_price(
        np.array([0.31, 0.31, 0.35]), row_price, rows, 0, grid, np.array([1.0, 1.0, 5.0])
    )
    np.testing.assert_allclose(price, [[0.3, 0.3, 0.35], [0.3, 0.5, 0.35]], rtol=1e-14)


def test_the_tariff_holds_where_the_grid_moves() -> None:
    """A price a hair off the tariff, times all that flows there, would spoil the bound."""
    none = NetworkRows(
        np.zeros((0, 1)), np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0, dtype="<U7"),
        np.zeros(0, dtype=np.int64),
    )  # fmt: skip
    grid = GridConnection(np.full(4, 0.3), np.full(4, 0.1), np.full(4, 5.0), np.full(4, 5.0), 3.0)
    nu = np.array([0.299, 0.101, 0.2, 0.2])
    price = bound_price(nu, np.zeros((0, 4)), none, 0, grid, np.array([2.0, -2.0, 1e-3, 5.0]))
    np.testing.assert_allclose(price, [[0.3, 0.1, 0.2, 0.3]], rtol=1e-14)


@pytest.mark.parametrize("seed", range(6))
def test_no_stored_values_are_needed(seed: int) -> None:
    """Each prosumer's best at the central prices gives the bound that its mu gives."""
    case = random_case(seed)
    central = solved(case)
    assert case.grid is not None
    price = bound_price(
        central.lmp_per_kwh[0], central.row_price, case.rows, 0, case.grid, central.grid_kw
    )
    people = case.population
    values = best_value(people, price[people.bus], case.period_hours)
    total = float(values.sum()) + grid_dual_value(case.grid, price[0])
    bound = welfare_bound(total, central.row_price, case.rows, case.period_hours)
    np.testing.assert_allclose(bound, central.welfare, rtol=1e-5, atol=1e-5)
    assert bound >= central.welfare - 1e-6
