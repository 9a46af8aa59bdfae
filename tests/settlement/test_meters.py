"""Simulated meters against hand-worked readings and their accuracy class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.market.trades import energy_wh
from raygrid.scenario.metering import Metering
from raygrid.settlement.metering import with_grid
from raygrid.settlement.meters import (
    MeterFleet,
    measure,
    meter_fleet,
    public_keys,
    simulated_secrets,
)

IDS = np.arange(0, 40, dtype=np.int64)


def exact_fleet(n, offset_s=0.0):
    zeros = np.zeros(n)
    return MeterFleet(np.arange(n, dtype=np.int64), zeros, zeros + offset_s, 0.0, 1)


def test_a_late_clock_counts_the_start_of_the_next_period():
    p = np.array([[1.0, 3.0, -2.0]])
    # A quarter of an hour late: 3/4 of each period and 1/4 of the next; the last one repeats.
    got = measure(exact_fleet(1, 900.0), p, 1.0)
    np.testing.assert_array_equal(got.reading_wh, [[1500, 1750, -2000]])
    got = measure(exact_fleet(1, -900.0), p, 1.0)
    np.testing.assert_array_equal(got.reading_wh, [[1000, 2500, -750]])


def test_registers_carry_fractions_on():
    p = np.full((1, 4), 0.4567)
    got = measure(exact_fleet(1), p, 0.001, opening_wh=np.array([70]))
    # 0.4567 Wh a period: the counter shows 0, 0, 1, 1.
    np.testing.assert_array_equal(got.reading_wh, [[0, 0, 1, 0]])
    np.testing.assert_array_equal(got.register_wh, [[70, 70, 71, 71]])
    assert got.closing_wh.tolist() == [71]


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_readings_keep_their_class(seed, percent):
    rng = np.random.default_rng(seed)
    p = rng.normal(0, 5, (len(IDS), 24))
    metering = Metering(accuracy_class_percent=percent, grid_accuracy_class_percent=percent)
    got = measure(meter_fleet(metering, seed, IDS), p, 0.25)
    exact = p * 250
    assert (np.abs(got.reading_wh - exact) <= np.abs(exact) * percent / 100 + 1).all()


@given(st.integers(0, 10_000))
def test_an_exact_meter_differs_from_trades_by_one_watt_hour_at_most(seed):
    rng = np.random.default_rng(seed)
    p = rng.normal(0, 3, (len(IDS) - 1, 8))
    p = with_grid(p, -p.sum(axis=0))
    got = measure(exact_fleet(len(IDS)), p, 0.25)
    assert np.abs(got.reading_wh - energy_wh(IDS, p, 0.25)).max() <= 1


def test_errors_are_mostly_steady_and_use_the_class():
    fleet = meter_fleet(Metering(accuracy_class_percent=1.0), 3, np.arange(1, 2001))
    error = measure(fleet, np.full((2000, 50), 1e4), 1.0).reading_wh / 1e7 - 1
    assert 0.0095 < np.abs(error).max() <= 0.01
    between, within = error.mean(axis=1).std(), error.std(axis=1).mean()
    # Uniform parts of 0.8 and 0.2 classes.
    np.testing.assert_allclose(between, 0.008 / np.sqrt(3), rtol=0.05, atol=0)
    np.testing.assert_allclose(within, 0.002 / np.sqrt(3), rtol=0.05, atol=0)


def test_the_grid_has_a_meter_of_its_own_class_and_a_set_clock():
    metering = Metering(max_clock_offset_s=30.0, grid_accuracy_class_percent=0.2)
    fleet = meter_fleet(metering, 1, IDS)
    assert fleet.clock_offset_s[0] == 0
    assert 0 < np.abs(fleet.clock_offset_s[1:]).max() <= 30
    np.testing.assert_allclose(fleet.accuracy_class[:2], [0.002, 0.01], rtol=1e-12, atol=0)


def test_a_larger_community_has_the_same_meters():
    metering = Metering(max_clock_offset_s=30.0, drop_rate=0.3)
    p = np.random.default_rng(1).normal(0, 2, (len(IDS), 6))
    whole = measure(meter_fleet(metering, 9, IDS), p, 1.0, first_period=48)
    some = measure(meter_fleet(metering, 9, IDS[5:9]), p[5:9], 1.0, first_period=48)
    np.testing.assert_array_equal(some.reading_wh, whole.reading_wh[5:9])
    np.testing.assert_array_equal(some.recorded, whole.recorded[5:9])


def test_readings_are_lost_at_the_given_rate():
    fleet = meter_fleet(Metering(drop_rate=0.1), 4, np.arange(1, 3001))
    recorded = measure(fleet, np.ones((3000, 24)), 1.0).recorded
    # 72,000 draws: six standard deviations are 0.0067.
    np.testing.assert_allclose(1 - recorded.mean(), 0.1, rtol=0, atol=0.0067)


def test_clocks_off_by_a_whole_period_are_refused():
    fleet = meter_fleet(Metering(max_clock_offset_s=7200.0), 1, IDS)
    with pytest.raises(InputError, match="max_clock_offset_s: clocks may be off"):
        measure(fleet, np.ones((len(IDS), 2)), 0.25)


def test_attacks_on_strangers_are_refused():
    metering = Metering(attacks=[{"kind": "stuck", "prosumers": [3, 99]}])
    with pytest.raises(InputError, match=r"attacks\[0\].prosumers: no participant 99"):
        meter_fleet(metering, 1, IDS)


def test_simulated_keys_follow_from_seed_role_and_id():
    keys = simulated_secrets(1, "meter", IDS)
    assert len(set(keys)) == len(IDS)
    assert keys[5:7] == simulated_secrets(1, "meter", IDS[5:7])
    assert not set(keys) & set(simulated_secrets(2, "meter", IDS))
    assert not set(keys) & set(simulated_secrets(1, "owner", IDS))
    assert all(key[0] in (2, 3) and len(key) == 33 for key in public_keys(keys))


@pytest.mark.parametrize("percent", [0.0, 0.2, 1.0, 2.0, 10.0])
def test_the_default_tolerance_grows_with_the_class(percent):
    metering = Metering(accuracy_class_percent=percent, grid_accuracy_class_percent=0.1)
    assert metering.tolerance_ppm_in_force == round(1.5 * max(percent, 0.1) * 1e4)
    assert Metering(tolerance_ppm=7).tolerance_ppm_in_force == 7
