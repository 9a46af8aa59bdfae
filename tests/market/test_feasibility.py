"""Feasibility: named periods and lines by hand, and agreement with the central problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import RaygridError
from raygrid.grid.network import Network, NetworkRows
from raygrid.market import feasibility
from raygrid.market.central import CentralStatus, solve_central
from raygrid.market.feasibility import FeasibilityStatus, check_feasible
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.population import GridConnection, Population
from raygrid.scenario.case import Case


def make_case(
    load: list[float], limit: float = 10.0, import_limit: float = 20.0, battery: bool = False
) -> Case:
    """A line from the slack bus (outside number 3) to bus 5, which has load, maybe a battery."""
    n_periods = len(load)
    network = Network(
        "pair", np.array([3, 5]), 0, np.array([8]), np.array([0]), np.array([1]),
        np.zeros(1), np.ones(1), np.array([limit]), np.zeros(1),
    )  # fmt: skip
    bound = np.full((1, n_periods), limit)
    rows = NetworkRows(np.array([[0.0, -1.0]]), -bound, bound, np.array(["line"]), np.zeros(1, int))
    people = replace(
        Population.empty(1, n_periods), bus=np.array([1]), fixed_load_kw=np.array([load])
    )
    if battery:
        people = replace(
            people,
            soc_max_kwh=np.array([4.0]),
            soc_initial_kwh=np.array([1.0]),
            soc_final_min_kwh=np.array([0.5]),
            charge_max_kw=np.array([2.0]),
            discharge_max_kw=np.array([3.0]),
        )
    price = np.full(n_periods, 0.3)
    grid = GridConnection(
        price, price / 3, np.full(n_periods, import_limit), np.full(n_periods, 5.0), 3.0
    )
    return Case(
        "pair", network, rows, GivenCommunity(people), grid, 0.5, "EUR", np.zeros((2, n_periods))
    )


def test_feasible() -> None:
    result = check_feasible(make_case([3.0, 10.0]))
    assert result.status is FeasibilityStatus.FEASIBLE
    assert result.reason() == ""


def test_import_limit_is_named() -> None:
    result = check_feasible(make_case([3.0, 9.0], import_limit=6.5))
    assert result.status is FeasibilityStatus.INFEASIBLE
    assert result.reason() == "period 1: fixed loads exceed generation and import limit by 2.5 kW"


def test_line_is_named_in_outside_numbers() -> None:
    result = check_feasible(make_case([3.0, 10.4]))
    assert result.reason() == "period 1: line 8 (3-5) misses its limit by 0.4 kW at best"
    unconstrained = check_feasible(make_case([3.0, 10.4]), network_constrained=False)
    assert unconstrained.status is FeasibilityStatus.FEASIBLE


def test_surplus_is_named() -> None:
    case = make_case([3.0])
    must_run = replace(
        case.population,
        generation_min_kw=np.array([[9.5]]),
        generation_limit_kw=np.array([[9.5]]),
    )
    text = check_feasible(replace(case, community=GivenCommunity(must_run))).reason()
    assert text == "period 0: least generation exceeds loads and export limit by 1.5 kW"


def test_charge_limits_what_a_battery_can_do() -> None:
    # 1 kWh within, 0.5 to be left, 0.25 charged in period 0 through the line's 0.5 kW of room.
    case = make_case([9.5, 11.5], battery=True)
    assert check_feasible(case).status is FeasibilityStatus.FEASIBLE
    result = check_feasible(make_case([9.5, 11.7], battery=True))
    assert result.status is FeasibilityStatus.INFEASIBLE
    np.testing.assert_allclose(sum(s.excess for s in result.shortfalls), 0.2, rtol=1e-6)


def test_large_cases_take_batteries_at_full_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasibility, "MAX_BATTERY_PERIODS", 1)
    result = check_feasible(make_case([9.5, 11.7], battery=True))
    assert result.status is FeasibilityStatus.NOT_EXCLUDED
    result = check_feasible(make_case([9.5, 13.7], battery=True))
    assert result.reason() == "period 1: line 8 (3-5) misses its limit by 0.7 kW at best"


def test_reason_is_cut() -> None:
    text = check_feasible(make_case([11.0, 12.0, 13.0, 14.0])).reason(most=2)
    assert text.count("line 8") == 2
    assert text.endswith("; and 2 more")


def test_impossible_battery() -> None:
    case = make_case([1.0], battery=True)
    beyond = replace(case.population, soc_final_min_kwh=np.array([3.9]))
    with pytest.raises(RaygridError, match="batteries cannot keep"):
        check_feasible(replace(case, community=GivenCommunity(beyond)))


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_central_problem(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = make_case(rng.uniform(6.0, 11.5, 6).tolist(), battery=True)
    central = solve_central(case, network_constrained=True)
    feasible = check_feasible(case).status is FeasibilityStatus.FEASIBLE
    assert feasible == (central.status is CentralStatus.OPTIMAL)
