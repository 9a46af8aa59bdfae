"""A market with EVs and shiftable loads: central optimum, bound, exact schedules, same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.market.central import CentralResult, CentralStatus, solve_central
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.feasibility import FeasibilityStatus, check_feasible
from raygrid.market.prices import marginal_cost
from raygrid.market.session import LocalExchange, clear, local_exchange
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.stores import StoreKind, Stores
from raygrid.prosumer.valuation import best_value, welfare_rate
from raygrid.results.frames import grid_schedule_table, schedule_table
from raygrid.scenario.build import load_case
from raygrid.scenario.case import Case
from tests.prosumer.cases import device_model, random_population
from tests.prosumer.store_cases import random_stores, store_model

SETTINGS = (
    "population.evs.share=0.3",
    "population.evs.v2g_share=0.5",
    "population.evs.cycle_cost_per_kwh={low: 0.004, high: 0.008}",  # so that they discharge
    "population.shiftable.share=0.6",
)
OPTIONS = ClearingOptions(absolute_tolerance=1e-5, relative_tolerance=2e-5, max_iterations=2000)


@pytest.fixture(scope="module")
def case() -> Case:
    """The 33-bus community with EVs at 30 % of its homes."""
    return load_case("community", agents=50, settings=SETTINGS)


@pytest.fixture(scope="module")
def central(case: Case) -> CentralResult:
    return solve_central(case, network_constrained=True)


@pytest.fixture(scope="module")
def exchange(case: Case) -> LocalExchange:
    return local_exchange(case, OPTIONS)


@pytest.fixture(scope="module")
def cleared(case: Case, exchange: LocalExchange) -> ClearingResult:
    return clear(case, OPTIONS, exchange)


@pytest.fixture(scope="module")
def dispatch(case: Case, exchange: LocalExchange, cleared: ClearingResult) -> Dispatch:
    assert cleared.status is ClearingStatus.CONVERGED
    final, _ = exchange.finish()
    parts = exchange.blocks[0].final_chunks(final.messages[0])
    whole = Dispatch.joined([dispatch for _, _, dispatch in parts])
    ids = exchange.blocks[0].population.prosumer_id
    return whole.take(np.argsort(ids))


def test_within_a_hundredth_of_a_percent_of_the_central_optimum(
    case: Case, cleared: ClearingResult, central: CentralResult
) -> None:
    assert central.status is CentralStatus.OPTIMAL
    assert cleared.status is ClearingStatus.CONVERGED
    gap = (central.welfare - cleared.welfare) / abs(central.welfare)
    assert -1e-7 <= gap <= 1e-4
    assert cleared.bound is not None
    assert cleared.bound >= central.welfare - 1e-7 * abs(central.welfare)
    np.testing.assert_allclose(cleared.p_bus_kw.sum(axis=0), 0.0, rtol=0, atol=1e-7)
    limit = case.network.limit_kw[:, None]
    assert (np.abs(cleared.flow_kw) <= limit * (1 + 1e-6)).all()


def assert_exact(case: Case, stores: Stores, dispatch: Dispatch, atol: float) -> None:
    """All that is asked of EVs and shiftable loads, from powers alone."""
    own = dispatch.stores
    assert own is not None
    limits = stores.limits(case.n_periods)
    assert (own.charge_kw >= 0).all()
    assert (own.charge_kw <= limits.charge_kw + atol).all()
    assert (own.discharge_kw <= limits.discharge_kw + atol).all()
    gain = stores.eta_charge[:, None] * own.charge_kw
    gain = gain - own.discharge_kw / stores.eta_discharge[:, None]
    energy = np.cumsum(case.period_hours * gain - limits.used_kwh, axis=1)
    energy += stores.initial_kwh[:, None]
    np.testing.assert_allclose(own.energy_kwh, energy, rtol=0, atol=1e-9)
    assert (energy >= limits.floor_kwh - max(atol, 1e-9)).all()
    assert (energy <= stores.max_kwh[:, None] + max(atol, 1e-9)).all()
    loads = stores.kind == StoreKind.SHIFTABLE
    np.testing.assert_allclose(energy[loads, -1], stores.max_kwh[loads], atol=max(atol, 1e-9))


def test_the_final_schedule_serves_every_store_exactly(case: Case, dispatch: Dispatch) -> None:
    assert_exact(case, case.population.stores, dispatch, 0.0)


def test_so_does_the_central_one(case: Case, central: CentralResult) -> None:
    assert_exact(case, case.population.stores, central.dispatch, 1e-6)


def test_welfare_is_that_of_the_schedule(
    case: Case, cleared: ClearingResult, dispatch: Dispatch
) -> None:
    from raygrid.prosumer.grid_agent import grid_cost_rate

    assert case.grid is not None
    rate = welfare_rate(case.population, dispatch).sum()
    rate -= grid_cost_rate(case.grid, cleared.grid_kw)
    assert rate * case.period_hours == pytest.approx(cleared.welfare, abs=1e-6)
    none = replace(case.population.stores, cycle_cost_per_kwh=np.zeros(case.stores))
    free = welfare_rate(replace(case.population, stores=none), dispatch).sum()
    own = dispatch.stores
    assert own is not None
    wear = case.population.stores.cycle_cost_per_kwh @ (own.charge_kw + own.discharge_kw).sum(1)
    assert free - welfare_rate(case.population, dispatch).sum() == pytest.approx(wear)


def test_the_schedule_s_rows_add_up(
    case: Case, cleared: ClearingResult, dispatch: Dispatch
) -> None:
    table = schedule_table(case.population, case.network.bus_id, dispatch, with_stores=True)
    column = {name: table[name].to_numpy() for name in table.column_names}
    p = (
        column["generation_kw"] - column["demand_kw"] - case.population.fixed_load_kw.ravel()
        + column["discharge_kw"] - column["charge_kw"] - column["ev_kw"] - column["shifted_kw"]
    )  # fmt: skip
    np.testing.assert_allclose(column["p_kw"], p, rtol=0, atol=1e-12)
    own = dispatch.stores
    assert own is not None
    evs = own.kind == StoreKind.EV
    total = own.energy_kwh[evs].sum()
    assert column["ev_soc_kwh"].sum() == pytest.approx(total)
    assert column["shifted_kw"].min() >= 0
    of_grid = grid_schedule_table(cleared.grid_kw, 0, with_stores=True)
    assert of_grid.column_names == table.column_names
    plain = schedule_table(case.population, case.network.bus_id, dispatch)
    assert "ev_soc_kwh" not in plain.column_names


def test_a_discharging_ev_sells_at_its_shadow_price(case: Case, dispatch: Dispatch) -> None:
    own = dispatch.stores
    assert own is not None
    k, t = np.unravel_index(np.argmax(own.discharge_kw), own.discharge_kw.shape)
    assert own.discharge_kw[k, t] > 0
    stores, i = case.population.stores, own.owner[k]
    alone = replace(
        dispatch,
        generation_kw=np.zeros_like(dispatch.p_kw),
        discharge_kw=np.zeros_like(dispatch.p_kw),
    )
    expected = own.stored_value_per_kwh[k, t] / stores.eta_discharge[k]
    expected += stores.cycle_cost_per_kwh[k]
    assert marginal_cost(case.population, alone)[i, t] == pytest.approx(expected)


@pytest.mark.parametrize(("hosts", "threads"), [(2, 1), (7, 2)])
def test_every_split_gives_the_same_bits(
    case: Case, cleared: ClearingResult, dispatch: Dispatch, hosts: int, threads: int
) -> None:
    order = np.random.default_rng(hosts).permutation(len(case.population))
    split = [np.sort(rows) for rows in np.array_split(order, hosts)]
    other = local_exchange(case, OPTIONS, split, threads)
    result = clear(case, OPTIONS, other)
    assert result.iterations == cleared.iterations
    assert result.welfare == cleared.welfare
    assert result.bound == cleared.bound
    assert np.array_equal(result.p_bus_kw, cleared.p_bus_kw)
    final, _ = other.finish()
    for rows, block, message in zip(split, other.blocks, final.messages, strict=True):
        part = Dispatch.joined([d for _, _, d in block.final_chunks(message)])
        assert np.array_equal(part.p_kw, dispatch.p_kw[rows])
        own, expected = part.stores, dispatch.take(rows).stores
        assert (own is None) == (expected is None or not len(expected.owner))
        if own is not None and expected is not None:
            assert np.array_equal(own.energy_kwh, expected.energy_kwh)


def test_what_limits_cannot_carry_is_found_infeasible(case: Case) -> None:
    """An EV that must charge more than its line carries."""
    assert check_feasible(case).status is FeasibilityStatus.FEASIBLE
    people = case.population
    k = int(np.flatnonzero(people.stores.kind == StoreKind.EV)[0])
    rows = replace(
        case.rows,
        upper=np.minimum(case.rows.upper, 1e-3),
        lower=np.maximum(case.rows.lower, -1e-3),
    )
    alone = people.take(people.stores.owner[k : k + 1])
    alone = replace(
        alone,
        fixed_load_kw=np.zeros_like(alone.fixed_load_kw),
        charge_max_kw=np.zeros(1),
        discharge_max_kw=np.zeros(1),
        generation_limit_kw=np.zeros_like(alone.fixed_load_kw),
    )
    tight = replace(case, community=GivenCommunity(alone), rows=rows)
    assert check_feasible(tight).status is FeasibilityStatus.INFEASIBLE


@pytest.mark.parametrize("seed", range(5))
def test_a_prosumer_with_battery_ev_and_shiftable_load_against_cvxpy(seed: int) -> None:
    """All its devices at given prices, as one problem."""
    import cvxpy as cp

    rng = np.random.default_rng(seed)
    n, n_periods, hours = 12, 24, float(rng.choice([0.25, 1.0]))
    people = random_population(rng, n, n_periods, hours)
    stores = random_stores(rng, 3 * n, n_periods, hours)
    people = replace(people, stores=replace(stores, owner=np.sort(rng.integers(0, n, len(stores)))))
    price = rng.uniform(0.05, 0.5, (n, n_periods))
    (p, *_), cost, constraints = device_model(people, hours)
    (c, d), wear, others = store_model(people.stores, n_periods, hours)
    value = cp.sum(cp.multiply(price, p)) - cost
    value += cp.sum(cp.multiply(price[people.stores.owner], d - c)) - wear
    problem = cp.Problem(cp.Maximize(value), constraints + others)
    problem.solve(solver="CLARABEL", max_step_fraction=0.9)
    found = best_value(people, price, hours).sum()
    assert found == pytest.approx(problem.value, rel=1e-6, abs=1e-6)
