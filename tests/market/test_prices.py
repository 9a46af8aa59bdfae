"""Prices by hand and by their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raygrid.arrays import FloatArray, dequantise
from raygrid.market.prices import (
    grid_seller_sums,
    locational_price,
    marginal_cost,
    money_surplus,
    seller_sums,
    settlement_price,
    tariff_difference,
)
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GridConnection, Population


def make_dispatch(generation: FloatArray, load: FloatArray, discharge: FloatArray) -> Dispatch:
    zeros = np.zeros_like(load)
    p = generation - load + discharge
    return Dispatch(p, generation, zeros, zeros, discharge, zeros, zeros + 0.09)


def population(n: int) -> Population:
    return replace(
        Population.empty(n, 1),
        alpha=np.full(n, 0.01),
        beta=np.full(n, 0.02),
        eta_discharge=np.full(n, 0.9),
        cycle_cost_per_kwh=np.full(n, 0.003),
    )


GENERATION = np.array([[2.0], [4.0], [0.0], [3.0]])
LOAD = np.array([[0.0], [1.0], [9.0], [0.0]])
DISCHARGE = np.array([[0.0], [0.0], [0.0], [1.0]])


def test_marginal_costs_by_hand() -> None:
    mc = marginal_cost(population(4), make_dispatch(GENERATION, LOAD, DISCHARGE))
    storage = 0.09 / 0.9 + 0.003
    expected = [0.06, 0.10, 0.0, (3 * 0.08 + storage) / 4]
    np.testing.assert_allclose(mc[:, 0], expected, rtol=1e-14, atol=0)


def test_settlement_price_by_hand_with_grid() -> None:
    people, dispatch = population(4), make_dispatch(GENERATION, LOAD, DISCHARGE)
    cost, sold = seller_sums(people, dispatch)
    np.testing.assert_allclose(dequantise(sold), [2.0 + 3.0 + 4.0], rtol=1e-12, atol=0)
    grid = GridConnection(np.array([0.3]), np.array([0.1]), np.ones(1), np.ones(1), 12.0)
    grid_cost, grid_sold = grid_seller_sums(grid, np.array([1.0]))
    price = settlement_price(cost + grid_cost, sold + grid_sold, np.array([9.0]))
    mc = marginal_cost(people, dispatch)[:, 0]
    expected = (2 * mc[0] + 3 * mc[1] + 4 * mc[3] + 0.3) / 10
    np.testing.assert_allclose(price, [expected], rtol=1e-8, atol=0)


def test_sums_do_not_depend_on_order_or_hosts() -> None:
    rng = np.random.default_rng(5)
    shape = (50, 3)
    people = replace(
        Population.empty(50, 3), alpha=rng.random(50), beta=rng.random(50), bus=np.zeros(50, int)
    )
    dispatch = make_dispatch(rng.random(shape), rng.random(shape), rng.random(shape))
    whole = seller_sums(people, dispatch)
    order = rng.permutation(50)
    total = [np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)]
    for part in np.array_split(order, 4):
        for k, value in enumerate(seller_sums(people.take(part), dispatch.take(part))):
            total[k] += value
    assert np.array_equal(total[0], whole[0])
    assert np.array_equal(total[1], whole[1])


def test_locational_price_holds_where_nobody_supplies() -> None:
    price = settlement_price(np.array([0, 30]), np.array([0, 3]), np.array([0.2, 0.3]))
    np.testing.assert_allclose(price, [0.2, 0.3], rtol=1e-15, atol=0)


def test_locational_price_sign() -> None:
    np.testing.assert_allclose(locational_price(0.5, np.array([[-0.4]])), [[0.2]])


def test_surplus_by_hand_and_zero_for_one_price() -> None:
    p = np.array([[3.0], [-3.0]])
    np.testing.assert_allclose(money_surplus(np.array([[0.1], [0.3]]), p, 0.25), [0.15])
    np.testing.assert_allclose(money_surplus(np.array([0.7]), p, 0.25), [0.0], atol=1e-15)


def test_tariff_difference_by_hand() -> None:
    price = np.array([0.3, 0.1])
    grid = GridConnection(price, price / 2, np.full(2, 9.0), np.full(2, 9.0), 3.0)
    got = tariff_difference(np.array([0.2, 0.2]), grid, np.array([2.0, -2.0]), 0.5)
    np.testing.assert_allclose(got, [-0.1, -0.15], rtol=1e-14, atol=0)
