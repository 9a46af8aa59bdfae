"""Headrooms and moving devices: limits exact, sums hit, nobody else matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.headroom import (
    UNLIMITED_KW,
    apply_delta,
    apply_grid_delta,
    grid_headroom,
    headroom,
)
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GridConnection, Population


def random_schedules(seed: int) -> tuple[Population, Dispatch, IntArray]:
    rng = np.random.default_rng(seed)
    n, n_periods, n_buses = 12, 4, 3
    shape = (n, n_periods)
    low, width = rng.random(shape), rng.random(shape) * (rng.random(shape) > 0.3)
    bus = rng.integers(0, n_buses, n)
    population = replace(
        Population.empty(n, n_periods),
        bus=bus,
        generation_min_kw=low,
        generation_limit_kw=low + width,
        demand_min_kw=low / 2,
        demand_limit_kw=low / 2 + width,
        fixed_load_kw=rng.random(shape),
    )
    generation = low + width * rng.choice([0.0, 0.4, 1.0], shape)
    generation = np.clip(generation, population.generation_min_kw, population.generation_limit_kw)
    demand = low / 2 + width * rng.choice([0.0, 0.7, 1.0], shape)
    demand = np.clip(demand, population.demand_min_kw, population.demand_limit_kw)
    charge = rng.random(shape)
    zeros = np.zeros(shape)
    p = generation - demand - population.fixed_load_kw - charge
    return population, Dispatch(p, generation, demand, charge, zeros, zeros, zeros), bus


def bus_sum(values: FloatArray, bus: IntArray) -> FloatArray:
    total = np.zeros((3, values.shape[1]))
    np.add.at(total, bus, values)
    return total


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_limits_exact_and_sums_hit(seed: int) -> None:
    population, dispatch, bus = random_schedules(seed)
    whole = np.random.default_rng(seed).random((3, dispatch.p_kw.shape[1])) < 0.5
    up, down = headroom(population, dispatch, whole[bus])
    up_bus, down_bus = bus_sum(up, bus), bus_sum(down, bus)
    rng = np.random.default_rng(seed)
    delta = np.where(rng.random(up_bus.shape) > 0.5, up_bus, -down_bus)
    delta *= rng.choice([0.0, 0.3, 1.0], up_bus.shape)
    moved = apply_delta(population, dispatch, bus, delta, up_bus, down_bus, whole)
    assert (moved.generation_kw >= population.generation_min_kw).all()
    assert (moved.generation_kw <= population.generation_limit_kw).all()
    assert (moved.demand_kw >= population.demand_min_kw).all()
    assert (moved.demand_kw <= population.demand_limit_kw).all()
    expected = bus_sum(dispatch.p_kw, bus) + delta
    np.testing.assert_allclose(bus_sum(moved.p_kw, bus), expected, rtol=0, atol=1e-12)
    # Alone on a host, told the totals of its bus, a prosumer moves to the same bits.
    alone = apply_delta(
        population.take(slice(5, 6)),
        dispatch.take(slice(5, 6)),
        bus[5:6],
        delta,
        up_bus,
        down_bus,
        whole,
    )
    assert np.array_equal(alone.p_kw[0], moved.p_kw[5])


def test_grid_moves_within_its_limits() -> None:
    price = np.zeros(3)
    grid = GridConnection(price, price, np.array([5.0, np.inf, 5.0]), np.full(3, 2.0), 3.0)
    grid_kw = np.array([4.0, 1.0, -2.0])
    whole = np.ones(3, dtype=np.bool_)
    up, down = grid_headroom(grid, grid_kw, whole)
    np.testing.assert_allclose(up, [1.0, UNLIMITED_KW, 7.0], rtol=1e-15, atol=0)
    np.testing.assert_allclose(down, [6.0, 3.0, 0.0], rtol=1e-15, atol=0)
    moved = apply_grid_delta(grid, grid_kw, np.array([2.0, -3.0, 0.0]), up * 2, down, whole)
    np.testing.assert_allclose(moved, [5.0, -2.0, -2.0], rtol=1e-15, atol=0)


def test_full_move_reaches_the_bound_exactly() -> None:
    population, dispatch, bus = random_schedules(4)
    whole = np.ones((3, dispatch.p_kw.shape[1]), dtype=np.bool_)
    up, down = headroom(population, dispatch, whole[bus])
    up_bus, down_bus = bus_sum(up, bus), bus_sum(down, bus)
    moved = apply_delta(population, dispatch, bus, up_bus, up_bus, down_bus, whole)
    np.testing.assert_allclose(
        moved.generation_kw, population.generation_limit_kw, rtol=1e-15, atol=1e-15
    )
    np.testing.assert_allclose(moved.demand_kw, population.demand_min_kw, rtol=1e-15, atol=1e-15)


def test_only_marginal_devices_move_while_they_suffice() -> None:
    population, dispatch, _ = random_schedules(7)
    up, down = headroom(population, dispatch, np.zeros(dispatch.p_kw.shape[1], dtype=np.bool_))
    x = dispatch.generation_kw
    at_limit = (x == population.generation_min_kw) | (x == population.generation_limit_kw)
    y = dispatch.demand_kw
    at_limit &= (y == population.demand_min_kw) | (y == population.demand_limit_kw)
    assert at_limit.any()
    assert (up[at_limit] == 0).all()
    assert (down[at_limit] == 0).all()


def test_marginal_grid_keeps_its_direction() -> None:
    price, limit = np.zeros(4), np.full(4, 5.0)
    grid = GridConnection(price, price, limit, limit, 3.0)
    grid_kw = np.array([2.0, -1.0, 0.0, 5.0])
    up, down = grid_headroom(grid, grid_kw, np.zeros(4, dtype=np.bool_))
    np.testing.assert_allclose(up, [3.0, 1.0, 0.0, 0.0], rtol=1e-15, atol=0)
    np.testing.assert_allclose(down, [2.0, 4.0, 0.0, 0.0], rtol=1e-15, atol=0)
