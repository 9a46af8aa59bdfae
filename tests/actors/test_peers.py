"""Houses that raygrid and its peers all can state, and what they give."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.benchmarks import processes
from actors.benchmarks.peers import (
    MEAN_PRICE,
    PERIODS,
    OsqpLoop,
    Settings,
    cleared_in_process,
    houses,
    pycity_problem,
    pycity_rows,
    run_pycity,
    supplied,
    tolerances,
)
from raygrid.errors import EndedShortError
from raygrid.market.central import CentralResult, CentralStatus, solve_central
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import Population
from raygrid.scenario.case import Case

PYCITY = Path(os.environ.get("RAYGRID_PYCITY", ".peers/bin/python"))
FREE = ClearingOptions(network_constrained=False, max_iterations=1000)


@pytest.fixture(scope="module")
def people() -> Population:
    return houses(6)


@pytest.fixture(scope="module")
def market(people: Population) -> tuple[Case, float]:
    return supplied(people)


@pytest.fixture(scope="module")
def central(market: tuple[Case, float]) -> CentralResult:
    return solve_central(market[0], network_constrained=False)


def test_houses_have_what_every_peer_can_state(people: Population) -> None:
    assert people.n_periods == PERIODS
    assert people.has_battery.any()
    assert people.has_generator.any()
    assert (people.fixed_load_kw > 0).all()
    assert not people.has_elastic_demand.any()
    assert not people.beta.any()
    np.testing.assert_array_equal(people.eta_charge, people.eta_discharge)
    np.testing.assert_allclose(people.soc_initial_kwh, people.soc_max_kwh / 2)


def test_the_optimum_is_that_of_the_squared_purchase(
    people: Population, market: tuple[Case, float], central: CentralResult
) -> None:
    k = market[1]
    assert central.status is CentralStatus.OPTIMAL
    bought = -central.dispatch.p_kw[:-1].sum(axis=0)
    assert central.welfare == pytest.approx(-k * float(bought @ bought), rel=1e-6)
    assert float((2 * k * people.fixed_load_kw.sum(axis=0)).mean()) == pytest.approx(MEAN_PRICE)
    np.testing.assert_allclose(central.lmp_per_kwh[0], 2 * k * bought, atol=1e-5)


def test_an_osqp_per_prosumer_solves_the_same_subproblems(market: tuple[Case, float]) -> None:
    rows, n = market[0].population, 7
    rho = 0.1 / rows.size_weight
    target = np.random.default_rng(1).normal(0.0, 2.0, (n, PERIODS))
    ours, loops = np.empty((n, PERIODS)), np.empty((n, PERIODS))
    LocalSolver(rows, 1.0).solve(0, n, target, rho, ours)
    loop = OsqpLoop(rows, 1.0, 0.1)
    loop.solve(0, n, target, rho, loops)
    np.testing.assert_allclose(loops, ours, rtol=0, atol=2e-3)
    np.testing.assert_allclose(loop.dispatch(0, n, target, rho).p_kw, loops, rtol=0, atol=1e-3)


@pytest.mark.parametrize("osqp", [False, True])
def test_both_local_solvers_find_the_central_optimum(
    market: tuple[Case, float], central: CentralResult, osqp: bool
) -> None:
    result, _ = cleared_in_process(market[0], FREE, osqp)
    assert result.status is ClearingStatus.CONVERGED
    assert result.welfare == pytest.approx(central.welfare, rel=1e-3)


def test_tolerances_are_those_of_the_thesis(central: CentralResult) -> None:
    primal, dual = tolerances(central, FREE, 7)
    floor = 1e-4 * np.sqrt(7 * PERIODS)
    assert primal == pytest.approx(floor + 1e-3 * np.linalg.norm(central.dispatch.p_kw))
    prices = np.tile(central.lmp_per_kwh[0], (7, 1))
    assert dual == pytest.approx(floor + 1e-3 * np.linalg.norm(prices))


def test_a_peer_that_is_not_there_says_how_to_get_it(
    people: Population, market: tuple[Case, float], central: CentralResult, tmp_path: Path
) -> None:
    settings = Settings(pycity_python=tmp_path / "python")
    (row,) = pycity_rows(people, market[1], central, settings)
    assert "not installed: `make peers`" in row["status"]
    assert row["seconds"] is None


def test_a_peer_that_fails_is_one_line(people: Population) -> None:
    with pytest.raises(EndedShortError, match="pycity_scheduling failed: ModuleNotFoundError"):
        run_pycity(Path(sys.executable), pycity_problem(people, rhos=[1.0], repeats=1))


@pytest.mark.optional
def test_exchange_admm_comes_near_the_same_optimum(
    people: Population, market: tuple[Case, float], central: CentralResult
) -> None:
    if not PYCITY.is_file():
        pytest.skip("needs the environment of `make peers`, or its Python in RAYGRID_PYCITY")
    settings = Settings(pycity_python=PYCITY.absolute(), pycity_rhos=(), repeats=1)
    (row,) = pycity_rows(people, market[1], central, settings)
    assert row["status"] == "converged"
    assert abs(row["gap_percent"]) < 0.01
    assert row["iterations"] < 100


def test_processes_stop_where_the_machine_would_keep_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "available_bytes", lambda: 8 * 1024.0**3)
    settings = processes.Settings(keep_gib=6.0)
    assert processes.left_out(10, settings) == ""
    assert processes.left_out(100, settings).startswith("left out: -2.7 GiB would stay free, 6 GiB")
    # 2 GiB less what may go meanwhile hold 13 processes of 110 MiB.
    assert processes.sizes_to_try(settings) == [13, 25, 50, 100, 200, 300]
    assert processes.sizes_to_try(processes.Settings(sizes=(2, 13), keep_gib=6.0)) == [2, 13]
