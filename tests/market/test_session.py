"""Clearing in this process against the central benchmark, and the same bits for any split."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.market.central import solve_central
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.build import load_case
from raygrid.scenario.case import Case
from tests.cases import battery_behind_a_line, small_case


@pytest.fixture(scope="module")
def tiny() -> Case:
    return load_case("tiny")


def test_near_the_central_optimum_and_within_every_limit(tiny: Case) -> None:
    result = clear(tiny, ClearingOptions(), local_exchange(tiny, ClearingOptions()))
    central = solve_central(tiny, network_constrained=True)
    assert result.status is ClearingStatus.CONVERGED
    assert result.welfare <= central.welfare * (1 + 1e-7)
    assert result.welfare >= central.welfare * (1 - 2e-3)
    assert result.bound is not None
    assert result.bound >= central.welfare * (1 - 1e-7)
    np.testing.assert_allclose(result.p_bus_kw.sum(axis=0), 0.0, rtol=0, atol=1e-7)
    assert (np.abs(result.flow_kw) <= tiny.network.limit_kw[:, None] * (1 + 1e-6)).all()


def test_tight_tolerances_reach_the_optimum(tiny: Case) -> None:
    options = ClearingOptions(absolute_tolerance=1e-7, relative_tolerance=1e-7, max_iterations=5000)
    result = clear(tiny, options, local_exchange(tiny, options))
    central = solve_central(tiny, network_constrained=True)
    assert result.welfare == pytest.approx(central.welfare, rel=1e-5, abs=0)
    assert result.bound == pytest.approx(central.welfare, rel=1e-4, abs=0)


def test_without_limits_the_price_is_one(tiny: Case) -> None:
    options = ClearingOptions(network_constrained=False)
    result = clear(tiny, options, local_exchange(tiny, options))
    assert np.ptp(result.lmp_per_kwh, axis=0).max() == 0
    central = solve_central(tiny, network_constrained=False)
    assert result.welfare == pytest.approx(central.welfare, rel=2e-3, abs=0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("hosts", [2, 6])
def test_every_split_gives_the_same_bits(tiny: Case, hosts: int, threads: int) -> None:
    options = ClearingOptions()
    alone = clear(tiny, options, local_exchange(tiny, options))
    order = np.random.default_rng(hosts).permutation(len(tiny.population))
    split = [np.sort(rows) for rows in np.array_split(order, hosts)]
    other = clear(tiny, options, local_exchange(tiny, options, split, threads))
    assert other.iterations == alone.iterations
    assert np.array_equal(other.lmp_per_kwh, alone.lmp_per_kwh)
    assert np.array_equal(other.p_bus_kw, alone.p_bus_kw)
    assert other.welfare == alone.welfare
    assert np.array_equal(other.settlement_price_per_kwh, alone.settlement_price_per_kwh)


def test_residual_balancing_converges_from_a_bad_rho(tiny: Case) -> None:
    fixed = ClearingOptions(rho=50.0, max_iterations=400)
    balanced = ClearingOptions(rho=50.0, max_iterations=400, residual_balancing=True)
    with_it = clear(tiny, balanced, local_exchange(tiny, balanced))
    without = clear(tiny, fixed, local_exchange(tiny, fixed))
    assert with_it.status is ClearingStatus.CONVERGED
    assert with_it.iterations < without.iterations
    assert with_it.records[-1].rho != 50.0


def test_iteration_limit_is_told_apart(tiny: Case) -> None:
    options = ClearingOptions(max_iterations=2)
    result = clear(tiny, options, local_exchange(tiny, options))
    assert result.status is ClearingStatus.ITERATION_LIMIT
    assert "max_iterations" in result.reason
    assert result.iterations == 2


def test_operator_and_hosts_agree_on_the_sums(tiny: Case) -> None:
    """The primal residual formed from bus sums is the one formed from all schedules."""
    options = ClearingOptions()
    exchange = local_exchange(tiny, options)
    outcome = exchange.open()
    for _ in range(5):
        outcome = exchange.round(outcome)
    block = exchange.blocks[0]
    people, operator = block.population, exchange.operator
    p = block.solver.dispatch(0, len(people), block._target, block._rho_i).p_kw
    z = block._state - people.size_weight[:, None] * operator.pi_kw[people.bus]
    squares = float((((p - z) ** 2) / people.size_weight[:, None]).sum())
    assert tiny.grid is not None
    grid_z = block._grid_state - tiny.grid.size_weight * operator.pi_kw[tiny.network.slack]
    squares += float(((block.grid_p_kw - grid_z) ** 2).sum() / tiny.grid.size_weight)
    assert outcome.record is not None
    assert outcome.record.primal_residual == pytest.approx(np.sqrt(squares), rel=1e-6, abs=1e-9)
    total = z.sum(axis=0) + grid_z
    np.testing.assert_allclose(total, 0.0, rtol=0, atol=1e-6)


def test_batteries_move_where_they_hold_a_line() -> None:
    case = battery_behind_a_line()
    options = ClearingOptions()
    exchange = local_exchange(case, options)
    result = clear(case, options, exchange)
    central = solve_central(case, network_constrained=True)
    assert result.status is ClearingStatus.CONVERGED
    assert (np.abs(result.flow_kw) <= 1.5 * (1 + 1e-6)).all()
    np.testing.assert_allclose(result.p_bus_kw.sum(axis=0), 0.0, rtol=0, atol=1e-7)
    assert result.welfare == pytest.approx(central.welfare, rel=1e-3, abs=0)
    assert result.welfare <= central.welfare + 1e-7


def test_a_load_that_no_line_serves_is_infeasible() -> None:
    case = battery_behind_a_line(fixed_load_kw=3.0)
    options = ClearingOptions(max_iterations=60)
    result = clear(case, options, local_exchange(case, options))
    assert result.status is ClearingStatus.INFEASIBLE
    assert "period 1: line 1 (1-2) misses its limit by 0.5 kW" in result.reason
    assert np.isnan(result.welfare)


@pytest.mark.parametrize("factor", [0.01, 160.0])
def test_the_currency_does_not_matter(factor: float) -> None:
    """All money times a factor: as many rounds within a few, and the same optimum."""

    def community(f: float) -> Case:
        drawn = {
            "willingness_per_kwh": (0.15, 0.45), "delta_per_kwh": (0.0, 0.05),
            "pv_cost_per_kwh": (0.0, 0.02), "pv_cost_per_kw2h": (0.001, 0.003),
            "battery_cycle_cost_per_kwh": (0.01, 0.03),
        }  # fmt: skip
        spans = [
            f"population.{name}={{low: {low * f}, high: {high * f}}}"
            for name, (low, high) in drawn.items()
        ]
        tariffs = f"{{import_price_per_kwh: {0.3 * f}, export_price_per_kwh: {0.08 * f}}}"
        return load_case("community", agents=30, settings=[*spans, f"tariffs={tariffs}"])

    options = ClearingOptions()
    plain, other = (
        clear(c, options, local_exchange(c, options)) for c in map(community, (1.0, factor))
    )
    assert other.status is ClearingStatus.CONVERGED
    assert abs(other.iterations - plain.iterations) <= 0.3 * plain.iterations
    assert other.welfare / factor == pytest.approx(plain.welfare, rel=5e-3, abs=0)


@pytest.mark.parametrize("rho", [0.1, 0.3])
def test_a_warm_start_goes_on_where_the_last_clearing_ended(rho: float) -> None:
    """Under the same settings nothing is left to do; a change of rho rescales the duals only."""
    case = small_case(n=6, n_periods=8, seed=3, limit_kw=2.0)
    cold = ClearingOptions()
    first = local_exchange(case, cold)
    before = clear(case, cold, first)
    assert before.warm_start is not None
    options = ClearingOptions(rho=rho)
    after = clear(case, options, first.again(case, options, before.warm_start))
    assert after.status is ClearingStatus.CONVERGED
    assert after.iterations <= 2 < before.iterations
    assert after.welfare == pytest.approx(before.welfare, rel=1e-4)
    np.testing.assert_allclose(after.lmp_per_kwh, before.lmp_per_kwh, atol=1e-3)
