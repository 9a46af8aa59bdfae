"""Packed prosumers are the same prosumers, and surveys do not depend on the split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import EndedShortError, InputError
from raygrid.prosumer.limits import bus_sums, injection_range
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile
from raygrid.prosumer.population import (
    PROFILE_FIELDS,
    ROWS_AT_A_TIME,
    UNIT_FIELDS,
    Population,
)
from raygrid.prosumer.size import flexibility_weight, with_weights
from raygrid.prosumer.sums import add_by_bus
from raygrid.prosumer.survey import Survey, joined, survey

N, T, N_BUSES = 37, 6, 4


def packed(seed: int = 0) -> PackedPopulation:
    rng = np.random.default_rng(seed)
    units = Population.empty(N, T)
    units.bus[:] = rng.integers(0, N_BUSES, N)
    units.alpha[:], units.beta[:] = rng.uniform(0.001, 0.1, (2, N))
    units.omega[:] = rng.uniform(0.1, 1.0, N)
    stores = rng.random(N) < 0.4
    units.charge_max_kw[stores] = units.discharge_max_kw[stores] = 2.0
    units.soc_max_kwh[stores] = 5.0
    shape = rng.integers(0, 3, N).astype(np.int32)
    profiles = [
        ShapedProfile(rng.uniform(0.0, 1.0, (3, T)), shape, rng.uniform(0.5, 4.0, N))
        for _ in range(3)
    ]
    shaped = (None, profiles[0], None, profiles[1], profiles[2])
    arrays = {name: getattr(units, name) for name in UNIT_FIELDS}
    return PackedPopulation(**arrays, periods=T, shaped=shaped)


def surveyed(people: Population | PackedPopulation) -> Survey:
    return survey(people, N_BUSES, "test", 1.0)


def test_values_are_shape_times_scale() -> None:
    people = packed()
    whole = people.rows(0, N)
    load = people.shaped[4]
    assert load is not None
    np.testing.assert_array_equal(
        whole.fixed_load_kw, load.scale[:, None] * load.shapes[load.shape]
    )
    assert not whole.generation_min_kw.any()
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        np.testing.assert_array_equal(getattr(people.rows(5, 9), name), getattr(whole, name)[5:9])
    blocks = list(people.blocks(10))
    assert [len(block) for block in blocks] == [10, 10, 10, 7]
    with pytest.raises(ValueError, match="4 profiles"):
        replace(people, shaped=people.shaped[1:])


def test_local_problems_are_the_same_bit_for_bit() -> None:
    people = packed()
    target = np.random.default_rng(1).normal(0.0, 2.0, (N, T))
    got, expected = np.empty((2, N, T))
    rho = np.full(N, 0.3)
    LocalSolver(people.rows(0, N), 1.0).solve(0, N, target, rho, expected)
    solver = LocalSolver(people, 1.0)
    for start, stop in ((0, 11), (11, 30), (30, N)):
        solver.solve(start, stop, target[start:stop], rho[start:stop], got[start:stop])
    np.testing.assert_array_equal(got, expected)


def test_surveys_add_up_whatever_the_split() -> None:
    people = packed()
    dense = people.rows(0, N)
    whole = surveyed(people)
    order = np.random.default_rng(2).permutation(N)
    parts = [surveyed(dense.take(order[part])) for part in (slice(0, 5), slice(5, 30))]
    parts.append(surveyed(dense.take(order[30:])))
    for name, value in vars(joined(parts)).items():
        np.testing.assert_array_equal(value, getattr(whole, name), err_msg=name)
    for got, values in zip(
        whole.on_all_buses(N_BUSES),
        (dense.fixed_load_kw, *injection_range(dense)),
        strict=True,
    ):
        np.testing.assert_allclose(got, bus_sums(dense, values, N_BUSES), rtol=0, atol=N * 1e-9)
    assert (whole.prosumers, whole.batteries) == (N, int(dense.has_battery.sum()))


def test_loads_of_other_days_stand_beside() -> None:
    people, other = packed(), packed(5)
    both = survey(people, N_BUSES, "test", 1.0, [other])
    np.testing.assert_array_equal(
        both.fixed_load_quanta,
        np.concatenate(
            [surveyed(people).fixed_load_quanta, surveyed(other).fixed_load_quanta], axis=1
        ),
    )


def test_weights_that_are_not_given_follow() -> None:
    people = packed()
    assert with_weights(people, 0.3) is people
    some = np.where(np.arange(N) % 2 == 0, 7.0, 0.0)
    weighted = with_weights(replace(people, size_weight=some), 0.3)
    found = flexibility_weight(people.rows(0, N), 0.3)
    np.testing.assert_array_equal(weighted.size_weight, np.where(some > 0, some, found))


def test_bad_prosumers_are_named() -> None:
    people = packed()
    people.alpha[21] = -1.0
    with pytest.raises(InputError, match="here, prosumer 22, column alpha"):
        survey(people, N_BUSES, "here", 1.0)


@pytest.mark.parametrize("n", [N, ROWS_AT_A_TIME])
def test_profiles_are_shapes_times_sizes(n: int) -> None:
    rng = np.random.default_rng(4)
    shapes, scale = rng.normal(size=(3, T)), rng.normal(size=n + 2)
    shape = rng.integers(0, 3, n + 2).astype(np.int32)
    values = ShapedProfile(shapes, shape, scale).values(1, n + 1)
    np.testing.assert_array_equal(values, (scale[:, None] * shapes[shape])[1 : n + 1])
    assert values.flags.c_contiguous


@pytest.mark.parametrize("n", [N, ROWS_AT_A_TIME])
def test_sums_by_bus(n: int) -> None:
    rng = np.random.default_rng(3)
    values, bus = rng.normal(size=(n, T)), rng.integers(0, N_BUSES, n)
    sums = np.zeros((N_BUSES, T), dtype=np.int64)
    add_by_bus(bus, values, sums)
    expected = np.zeros((N_BUSES, T), dtype=np.int64)
    np.add.at(expected, bus, np.rint(values * 1e9).astype(np.int64))
    np.testing.assert_array_equal(sums, expected)
    for bad in (np.nan, np.inf, 1e10):
        values[n // 2, T - 1] = bad
        with pytest.raises(EndedShortError, match="powers or costs reach"):
            add_by_bus(bus, values, sums)
