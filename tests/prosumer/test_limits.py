"""Injection ranges, and bad populations refused with place and cure."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.prosumer.limits import bus_ranges, bus_sums, check_population, injection_range
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import GridConnection, Population
from tests.prosumer.cases import random_problem


def household():
    population = Population.empty(3, 2)
    population.generation_limit_kw[:] = 4.0
    population.demand_limit_kw[:] = 2.0
    population.omega[:] = 0.2
    population.fixed_load_kw[:] = 0.5
    population.soc_max_kwh[:], population.soc_initial_kwh[:] = 10.0, 5.0
    population.charge_max_kw[:], population.discharge_max_kw[:] = 3.0, 2.0
    return population


def test_injection_range_by_hand():
    low, high = injection_range(household())
    np.testing.assert_allclose(low, np.full((3, 2), -2.0 - 0.5 - 3.0), rtol=0, atol=0)
    np.testing.assert_allclose(high, np.full((3, 2), 4.0 - 0.5 + 2.0), rtol=0, atol=0)


def test_bus_ranges_by_hand():
    people = household()
    people.bus[:] = [0, 2, 2]
    wide = np.array([7.0, 8.0])
    grid = GridConnection(np.full(2, 0.3), np.full(2, 0.1), wide, 2 * wide, 1.0)
    low, high = bus_ranges(people, grid, 3, 0)
    np.testing.assert_allclose(low, [[-19.5, -21.5], [0, 0], [-11, -11]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(high, [[12.5, 13.5], [0, 0], [11, 11]], rtol=0, atol=1e-12)
    low, high = bus_ranges(people, None, 3, 0, idle_batteries=True)
    np.testing.assert_allclose(low[:, 0], [-2.5, 0, -5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(high[:, 0], [3.5, 0, 7], rtol=0, atol=1e-12)
    loads = bus_sums(people, people.fixed_load_kw, 3)
    np.testing.assert_allclose(loads[:, 1], [0.5, 0, 1.0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(400, 410))
def test_solutions_stay_in_range(seed):
    population, period_hours, target, rho = random_problem(seed)
    check_population(population, 1, "random", period_hours)
    p = np.empty(target.shape)
    LocalSolver(population, period_hours).solve(0, len(population), target, rho, p)
    low, high = injection_range(population)
    assert np.all((p >= low - 1e-9) & (p <= high + 1e-9))


def test_good_population_passes():
    check_population(household(), 1, "table", 1.0)


@pytest.mark.parametrize(
    ("column", "at", "value", "message"),
    [
        ("alpha", 1, np.nan, "table, prosumer 2, column alpha: alpha is nan; give a finite"),
        ("fixed_load_kw", (1, 1), np.nan, "prosumer 2, column fixed_load_kw, period 1: .* is nan"),
        ("soc_max_kwh", 0, np.inf, "prosumer 1, column soc_max_kwh: .* is inf"),
        ("prosumer_id", 0, 0, "is 0; count from 1; 0 is the grid connection"),
        ("prosumer_id", 2, 1, "column prosumer_id: prosumer_id 1 is used twice"),
        ("bus", 2, 7, "prosumer 3, column bus: bus position 7 is not in the network"),
        ("bus", 2, -1, "bus position -1 is not in the network; use one of its 1 buses"),
        ("size_weight", 0, 0.0, "give a positive weight"),
        ("alpha", 0, -0.1, "a concave cost"),
        ("omega", 0, -0.1, "a convex utility"),
        ("generation_limit_kw", (0, 0), -1.0, "is -1.0, negative"),
        ("charge_max_kw", 0, -1.0, "charge_max_kw is -1.0, negative"),
        ("fixed_load_kw", (0, 1), -1.0, "feed-in as generation"),
        ("eta_charge", 1, 95.0, r"eta_charge is 95.0, not in \(0, 1\]; give a share"),
        ("eta_discharge", 1, 0.0, r"not in \(0, 1\]"),
        ("generation_min_kw", (0, 1), 5.0, "of 5.0 is above generation_limit_kw"),
        ("demand_min_kw", (2, 0), 3.0, "of 3.0 is above demand_limit_kw"),
        ("soc_min_kwh", 0, 11.0, "of 11.0 is above soc_max_kwh"),
        ("soc_initial_kwh", 0, 10.5, "of 10.5 is outside soc_min_kwh to soc_max_kwh"),
        ("soc_final_min_kwh", 0, 12.0, "above soc_max_kwh"),
    ],
)
def test_bad_values_are_refused(column, at, value, message):
    population = household()
    getattr(population, column)[at] = value
    with pytest.raises(InputError, match=message):
        check_population(population, 1, "table")


def test_terminal_charge_needs_the_period_length():
    population = household()
    population.soc_final_min_kwh[1] = 9.0
    check_population(population, 1, "table", 1.0)
    with pytest.raises(InputError, match=r"of 9.0 cannot be reached from 5 kWh; .* at most 8 kWh"):
        check_population(population, 1, "table", 0.5)


def test_empty_and_ragged_populations_are_refused():
    with pytest.raises(InputError, match="no prosumers; give at least one"):
        check_population(Population.empty(0, 3), 1, "table")
    with pytest.raises(InputError, match="no periods"):
        check_population(Population.empty(3, 0), 1, "table")
    with pytest.raises(InputError, match=r"column beta: shape \(2,\); give shape \(3,\)"):
        check_population(replace(household(), beta=np.zeros(2)), 1, "table")
    with pytest.raises(InputError, match=r"shape \(3, 5\); give shape \(3, 2\)"):
        check_population(replace(household(), demand_min_kw=np.zeros((3, 5))), 1, "table")
