"""Copies of given prosumers: the originals first, the others at seeded sizes."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.market.clearing import ClearingOptions
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS, Population
from raygrid.scenario.build import load_case
from raygrid.scenario.repeated import SIZED


def test_copies_differ_from_their_originals_in_size_alone() -> None:
    few, many = load_case("ieee14").population, load_case("ieee14", agents=60, seed=3).population

    def total(people: Population) -> FloatArray:
        return (people.generation_limit_kw + people.demand_limit_kw).sum(axis=1)

    sizes = total(many) / total(few)[np.arange(60) % 25]
    np.testing.assert_allclose(sizes[:25], 1.0, rtol=1e-12)
    assert len(np.unique(sizes[25:])) == 35
    assert 0.7 <= sizes[25:].min() < 0.8
    assert 1.2 < sizes.max() <= 1.3
    row = np.arange(60) % 25
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        got, original = getattr(many, name), getattr(few, name)[row]
        if name == "prosumer_id":
            assert got.tolist() == list(range(1, 61))
        elif name == "size_weight":
            continue
        elif name in SIZED:
            np.testing.assert_allclose(got, sizes * original, rtol=1e-12, err_msg=name)
        elif name in PROFILE_FIELDS:
            np.testing.assert_allclose(got, sizes[:, None] * original, rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(got, original, err_msg=name)


def test_the_thesis_case_is_left_as_it_is() -> None:
    """Its limits too; they grow with more agents only."""
    limits = [load_case("ieee14", agents=n).network.limit_kw for n in (10, 25, 50)]
    np.testing.assert_array_equal(limits[0], limits[1])
    np.testing.assert_allclose(limits[2], 2 * limits[1], rtol=1e-12)


def test_copies_need_to_be_asked_for() -> None:
    with pytest.raises(InputError, match="7 agents are asked for, 6 are there"):
        load_case("tiny", agents=7)


def test_the_thesis_mix_is_an_island_whose_limits_bind() -> None:
    case = load_case("thesis14", agents=200)
    assert case.grid is None
    assert case.population.has_battery.mean() == pytest.approx(0.2)
    options = ClearingOptions(relative_tolerance=5e-4)
    result = clear(case, options, local_exchange(case, options))
    assert np.ptp(result.lmp_per_kwh, axis=0).max() > 0.01
    assert result.bound is not None
    assert 0 <= result.bound - result.welfare < 1e-4 * result.bound
