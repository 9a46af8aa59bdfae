"""Forecasts for the market: no look into the future, naive rules by hand, any days in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import fit_scaling
from raygrid.learning.forecasting import (
    LAST_ERROR,
    Naive,
    day_ahead_predictions,
    find_forecaster,
    forecast_when_due,
    period_before,
    step_predictions,
    typical_day,
)
from raygrid.learning.inference import Forecaster, save_forecaster
from raygrid.learning.network import LEVELS, NetworkSpec, initial_weights


def random_forecaster(data: Dataset, task: str) -> Forecaster:
    """A small network with weights that are far from where training starts."""
    spec = NetworkSpec(task=task, width=8, heads=2, embedding=2)
    random = np.random.default_rng(4)
    weights = {
        k: v + 0.2 * random.standard_normal(v.shape).astype("f4")
        for k, v in initial_weights(spec, 1, len(data.prosumer_id), 3).items()
    }
    facts = {"scenario": data.name, "data": data.digest(), "levels": list(LEVELS)}
    return Forecaster(spec, weights, fit_scaling(data), data.prosumer_id, facts)


def with_another_future(data: Dataset, step: int) -> Dataset:
    """The data with everything that is measured from a step on changed, of test days."""
    load, pv = data.load_kw.copy(), data.pv_kw.copy()
    load[:, step:] = 3 * load[:, step:] + 1
    pv[:, step:] *= 0.3
    measured = ("ghi_w_per_m2", "temperature_c", "humidity_percent")
    changed = {name: getattr(data.weather, name).copy() for name in measured}
    for values in changed.values():
        values[step:] *= 0.5
    return replace(data, load_kw=load, pv_kw=pv, weather=replace(data.weather, **changed))


@pytest.mark.parametrize("rule", [Naive.PERSISTENCE, Naive.SEASONAL, "network"])
def test_the_day_ahead_knows_nothing_after_its_midnight(small_data: Dataset, rule: str) -> None:
    day = small_data.days("test").start + 1
    other = with_another_future(small_data, day * STEPS_PER_DAY)
    by = random_forecaster(small_data, "day") if rule == "network" else Naive(rule)
    ours, theirs = (day_ahead_predictions(d, by, np.array([day, 9])) for d in (small_data, other))
    np.testing.assert_array_equal(ours.load_kw, theirs.load_kw)
    np.testing.assert_array_equal(ours.pv_kw, theirs.pv_kw)
    # What is measured that day tells in the forecast of a later one, or the test shows nothing.
    if rule != Naive.SEASONAL:
        ours, theirs = (
            day_ahead_predictions(d, by, np.array([day + 1])) for d in (small_data, other)
        )
        assert (ours.load_kw != theirs.load_kw).any()


@pytest.mark.parametrize("rule", [Naive.PERSISTENCE, Naive.SEASONAL, "network"])
def test_a_step_is_forecast_from_the_steps_before_it(small_data: Dataset, rule: str) -> None:
    day = small_data.days("test").start
    step = day * STEPS_PER_DAY + 40
    other = with_another_future(small_data, step)
    by = random_forecaster(small_data, "step") if rule == "network" else Naive(rule)
    ours, theirs = (step_predictions(d, by, np.array([day])) for d in (small_data, other))
    np.testing.assert_array_equal(ours.load_kw[:, :41], theirs.load_kw[:, :41])
    np.testing.assert_array_equal(ours.pv_kw[:, :41], theirs.pv_kw[:, :41])
    if rule != Naive.SEASONAL:
        assert (ours.load_kw[:, 41] != theirs.load_kw[:, 41]).all()


def test_naive_rules_by_hand(small_data: Dataset) -> None:
    load = small_data.load_kw.astype(float)
    days = np.array([20, 8])
    by_day = load.reshape(len(load), -1, STEPS_PER_DAY)

    def rows(*of: int) -> np.ndarray:
        return by_day[:, list(of)].reshape(len(load), -1)

    assert np.array_equal(
        day_ahead_predictions(small_data, Naive.PERSISTENCE, days).load_kw, rows(19, 7)
    )
    assert np.array_equal(
        day_ahead_predictions(small_data, Naive.SEASONAL, days).load_kw, rows(13, 1)
    )
    assert np.array_equal(step_predictions(small_data, Naive.SEASONAL, days).load_kw, rows(19, 7))
    assert np.array_equal(step_predictions(small_data, Naive.PERFECT).load_kw, load)
    found = step_predictions(small_data, Naive.PERSISTENCE).load_kw
    assert np.array_equal(found[:, 1:], load[:, :-1])
    assert np.array_equal(found[:, 0], typical_day(small_data)[:, 0, 0])


def test_hours_are_means_of_quarter_hours(small_data: Dataset) -> None:
    hours = small_data.pv_kw.astype(float).reshape(len(small_data.pv_kw), -1, 4).mean(axis=2)
    found = day_ahead_predictions(small_data, Naive.PERFECT, period_hours=1.0)
    np.testing.assert_allclose(found.pv_kw, hours, rtol=1e-12)
    # The hour before, not the quarter hour before.
    last = step_predictions(small_data, Naive.PERSISTENCE, period_hours=1.0)
    np.testing.assert_allclose(last.pv_kw[:, 1:], hours[:, :-1], rtol=1e-12)


def test_networks_forecast_days_in_any_order_and_early_ones_as_typical(
    small_data: Dataset,
) -> None:
    forecaster = random_forecaster(small_data, "day")
    everything = day_ahead_predictions(small_data, forecaster)
    assert everything.load_kw.shape == small_data.load_kw.shape
    some = day_ahead_predictions(small_data, forecaster, np.array([25, 3, 7]))
    for k, day in enumerate((25, 3, 7)):
        there = slice(day * STEPS_PER_DAY, (day + 1) * STEPS_PER_DAY)
        here = slice(k * STEPS_PER_DAY, (k + 1) * STEPS_PER_DAY)
        np.testing.assert_allclose(
            some.load_kw[:, here], everything.load_kw[:, there], rtol=1e-5, atol=1e-6
        )
    typical = typical_day(small_data)
    np.testing.assert_array_equal(everything.load_kw[:, : 7 * STEPS_PER_DAY],
                                  np.tile(typical[..., 0], 7))  # fmt: skip
    direct = forecaster.forecast(forecaster.series(small_data), np.array([7])).expected
    np.testing.assert_allclose(
        everything.pv_kw[:, 7 * STEPS_PER_DAY : 8 * STEPS_PER_DAY], direct[:, 0, :, 1], atol=1e-6
    )


def test_what_cannot_be_forecast_is_refused_in_one_line(small_data: Dataset) -> None:
    step = random_forecaster(small_data, "step")
    with pytest.raises(InputError, match="task 'step', where 'day' is needed"):
        day_ahead_predictions(small_data, step)
    with pytest.raises(InputError, match="periods of 1 h, where forecasts one step ahead"):
        step_predictions(small_data, step, period_hours=1.0)
    with pytest.raises(InputError, match=r"periods of 0\.3 h are no whole quarter hours"):
        step_predictions(small_data, Naive.PERFECT, period_hours=0.3)
    with pytest.raises(InputError, match="it has days 0 to 26"):
        day_ahead_predictions(small_data, Naive.PERFECT, np.array([27]))


def test_weights_beside_a_scenario_are_found_and_others_are_told(
    small_data: Dataset, tmp_path: Path
) -> None:
    save_forecaster(tmp_path / "weights" / "forecaster-day", random_forecaster(small_data, "day"))
    found, note = find_forecaster("ours", tmp_path, "day", small_data)
    assert found is not None
    assert not note
    none, note = find_forecaster("ours", tmp_path, "step", small_data)
    assert none is None
    assert "no weights/forecaster-step" in note
    changed = replace(small_data, load_kw=small_data.load_kw + 1)
    none, note = find_forecaster("ours", tmp_path, "day", changed)
    assert none is None
    assert "trained on other data" in note
    with pytest.raises(InputError, match="trained on other data"):
        find_forecaster("ours", tmp_path, "day", changed, tmp_path / "weights" / "forecaster-day")


def test_periods_are_forecast_when_due_by_the_rule_that_erred_less() -> None:
    """By hand: a day that is 1 kW too low throughout, then loads that stay where they are."""
    measured = np.array([[3.0, 5.0, 2.0, 4.0]])
    low = measured - 1.0
    by_hand = [[2.0, 4.0 + LAST_ERROR, 1.0 + LAST_ERROR, 3.0 + LAST_ERROR]]
    np.testing.assert_allclose(forecast_when_due(low, measured), by_hand)
    still, odd = np.full((1, 4), 2.0), np.array([[2.0, 5.0, 0.0, 5.0]])
    # The first error shows after the second period.
    np.testing.assert_allclose(forecast_when_due(odd, still), [[2.0, 5.0, 2.0, 2.0]])
    np.testing.assert_array_equal(period_before(odd, still), [[2.0, 2.0, 2.0, 2.0]])
    # A little light too early at dawn is no reason to go by the dark before.
    dawn, sun = np.array([[0.0, 0.01, 2.0, 3.0]]), np.array([[0.0, 0.0, 2.0, 3.0]])
    corrected = [[0.0, 0.01, 2.0 - 0.01 * LAST_ERROR, 3.0]]
    np.testing.assert_allclose(forecast_when_due(dawn, sun), corrected)


def test_periods_forecast_when_due_see_nothing_later() -> None:
    random = np.random.default_rng(1)
    ahead, measured = random.uniform(0, 3, (2, 5, 24))
    found = forecast_when_due(ahead, measured)
    assert (found >= 0).all()
    changed = measured.copy()
    changed[:, 12:] += 5.0
    np.testing.assert_array_equal(forecast_when_due(ahead, changed)[:, :13], found[:, :13])
    assert (forecast_when_due(ahead, changed)[:, 13:] != found[:, 13:]).any()
