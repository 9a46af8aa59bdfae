"""A battery's best gain at given prices, against a linear program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from raygrid.arrays import FloatArray
from raygrid.prosumer.arbitrage import arbitrage_value
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import Population
from raygrid.prosumer.valuation import best_value, dual_value
from tests.prosumer.cases import random_problem


def batteries(n: int, n_periods: int, hours: float, rng: np.random.Generator) -> Population:
    """Batteries of all sizes whose terminal charge is within reach."""
    size, share = rng.uniform(1.0, 9.0, n), rng.uniform(0.0, 1.0, (3, n))
    low = 0.3 * share[0] * size
    start = low + share[1] * (size - low)
    charge, eta = rng.uniform(0.0, 3.0, n), rng.uniform(0.85, 1.0, (2, n))
    reach = np.minimum(start + hours * n_periods * eta[0] * charge, size)
    return replace(
        Population.empty(n, n_periods),
        soc_min_kwh=low,
        soc_max_kwh=size,
        soc_initial_kwh=start,
        soc_final_min_kwh=low + share[2] * (reach - low),
        charge_max_kw=charge,
        discharge_max_kw=rng.uniform(0.1, 3.0, n),
        eta_charge=eta[0],
        eta_discharge=eta[1],
        cycle_cost_per_kwh=rng.choice([0.0, 0.01, 0.03], n),
    )


def by_linear_program(people: Population, i: int, price: FloatArray, hours: float) -> float:
    """Its gain as a rate [currency/h]."""
    n_periods = len(price)
    sums = np.tril(np.ones((n_periods, n_periods)))
    gain = hours * np.hstack([people.eta_charge[i] * sums, -sums / people.eta_discharge[i]])
    floor = np.full(n_periods, people.soc_min_kwh[i])
    floor[-1] = max(floor[-1], people.soc_final_min_kwh[i])
    start, wear = people.soc_initial_kwh[i], people.cycle_cost_per_kwh[i]
    solved = linprog(
        np.concatenate([price + wear, wear - price]),
        A_ub=np.vstack([gain, -gain]),
        b_ub=np.concatenate([people.soc_max_kwh[i] - start + 0 * floor, start - floor]),
        bounds=[(0, people.charge_max_kw[i])] * n_periods
        + [(0, people.discharge_max_kw[i])] * n_periods,
    )
    return float(-solved.fun)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_periods=st.sampled_from([1, 2, 7, 24]),
    hours=st.sampled_from([0.25, 1.0, 2.0]),
    kind=st.sampled_from(["any", "flat", "quarters", "negative"]),
)
def test_the_linear_program_finds_the_same(
    seed: int, n_periods: int, hours: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    people = batteries(3, n_periods, hours, rng)
    price = rng.uniform(0.05, 0.4, (3, n_periods))
    if kind == "flat":
        price[:] = 0.2
    elif kind == "quarters":
        price = np.repeat(price, 4, axis=1)[:, :n_periods]
    elif kind == "negative":
        price -= 0.3
    got = arbitrage_value(people, price, hours)
    for i in range(3):
        expected = by_linear_program(people, i, price[i], hours)
        np.testing.assert_allclose(got[i], expected, rtol=1e-7, atol=1e-7)


def test_nothing_without_battery_and_by_hand_with_one() -> None:
    people = Population.empty(2, 2)
    people.charge_max_kw[1] = people.discharge_max_kw[1] = 1.0
    people.soc_max_kwh[1] = 5.0
    people.eta_charge[1], people.eta_discharge[1] = 0.8, 0.5
    people.cycle_cost_per_kwh[1] = 0.01
    price = np.array([[0.1, 0.9], [0.1, 0.9]])
    # 1 kWh bought at 0.11 stores 0.8, of which 0.4 are sold at 0.89.
    np.testing.assert_allclose(arbitrage_value(people, price, 1.0), [0.0, 0.4 * 0.89 - 0.11])


@pytest.mark.parametrize("seed", range(200, 206))
def test_a_prosumers_best_is_reached_by_its_own_optimum(seed: int) -> None:
    """At the price at which the path method's schedule is a best response."""
    population, hours, target, rho = random_problem(seed, n=30)
    n = len(population)
    dispatch = LocalSolver(population, hours).dispatch(0, n, target, rho)
    price = -rho[:, None] * (dispatch.p_kw - target)
    with_mu = dual_value(population, 0, n, price, dispatch.stored_value_per_kwh, hours)
    np.testing.assert_allclose(best_value(population, price, hours), with_mu, rtol=1e-7, atol=1e-7)


def test_equal_prices_of_many_periods_end() -> None:
    """Quarter hours with the price of their hour: any search in prices alone would tie."""
    rng = np.random.default_rng(1)
    people = batteries(50, 96, 0.25, rng)
    price = np.repeat(rng.uniform(0.05, 0.1, (50, 24)), 4, axis=1)
    hourly = replace(people, **{
        name: getattr(people, name)[:, ::4]
        for name in ("generation_min_kw", "generation_limit_kw", "demand_min_kw",
                     "demand_limit_kw", "fixed_load_kw")
    })  # fmt: skip
    np.testing.assert_allclose(
        0.25 * arbitrage_value(people, price, 0.25),
        arbitrage_value(hourly, price[:, ::4], 1.0),
        rtol=1e-9,
        atol=1e-9,
    )
