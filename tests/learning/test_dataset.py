"""The data set is the scenario's, repeatable, and looks into no future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.dataset import Dataset, build_dataset
from raygrid.learning.features import (
    FIRST_STEP,
    STEPS_BEHIND,
    day_ahead,
    fit_scaling,
    hourly_course,
    later,
    make_series,
    one_step,
    roughness,
)
from raygrid.learning.typical import day_sums, is_weekend, learnt_typical
from raygrid.learning.weather import forecast_weather, weather_of_past
from raygrid.scenario.build import load_case
from raygrid.scenario.load import load_scenario
from tests.learning.conftest import SMALL


def test_market_days_are_days_of_the_data_set(small_data: Dataset) -> None:
    """What is forecast is what the market then clears."""
    case = load_case("ai_tem", agents=10, settings=SMALL)
    day = 24 * 96 + np.arange(96)
    flexible = case.population.demand_limit_kw / 2.0
    load = case.population.fixed_load_kw + flexible
    np.testing.assert_allclose(small_data.load_kw[:, day], load, rtol=1e-6)
    np.testing.assert_allclose(
        small_data.pv_kw[:, day], case.population.generation_limit_kw, rtol=1e-6
    )


def test_the_same_twice_and_another_with_another_seed(small_data: Dataset) -> None:
    scenario, base_dir = load_scenario("ai_tem", agents=10, settings=SMALL)
    assert build_dataset(scenario, base_dir).digest() == small_data.digest()
    scenario, base_dir = load_scenario("ai_tem", agents=10, settings=SMALL, seed=2)
    assert build_dataset(scenario, base_dir).digest() != small_data.digest()


def test_a_scenario_without_past_is_refused() -> None:
    with pytest.raises(InputError, match="tiny:history: no history to learn from"):
        build_dataset(*load_scenario("tiny"))
    early = load_scenario("community", settings=["horizon.start=2016-02-10"])
    with pytest.raises(InputError, match="40 days of load shapes before 2016-02-10"):
        build_dataset(*early)


def test_a_drawn_community_learns_from_the_days_before_its_own() -> None:
    scenario, base_dir = load_scenario("community", agents=20)
    data = build_dataset(scenario, base_dir)
    begin = (scenario.horizon.start - data.clock.start).days
    assert begin == data.first_days[3] == data.n_periods // 96
    # A household's market day is at most four weeks before: in the part that trains nobody.
    assert data.first_days[2] < begin - 4 * 7
    # The sky of a day is what the days before had: another day changes nothing before it.
    share = np.maximum(np.random.default_rng(1).random(96 * 30), 0.2)
    changed = share.copy()
    changed[96 * 20 :] *= 2
    ours, theirs = (weather_of_past(s).clear_ghi_w_per_m2 for s in (share, changed))
    np.testing.assert_array_equal(ours[: 96 * 21], theirs[: 96 * 21])
    assert (ours[96 * 21 : 96 * 22] != theirs[96 * 21 : 96 * 22]).any()
    assert ours[96 * 20] == 1000 * share.reshape(-1, 96)[6:20, 0].max()


def test_weather_that_does_not_hold_the_history_is_refused() -> None:
    scenario, base_dir = load_scenario(
        "ai_tem", settings=["history.start=2016-02-20", "population.pv_share=0.0"]
    )
    with pytest.raises(InputError, match="does not hold the history"):
        build_dataset(scenario, base_dir)


def test_forecasts_err_more_later_and_know_no_short_clouds() -> None:
    days = 200
    clear = np.full(96 * days, 800.0)
    ghi = clear * np.tile([0.3, 0.9], 48 * days)
    found, air = forecast_weather(ghi, clear, np.zeros(96 * days), 1)
    error = (found / clear - 0.6).reshape(days, 96)
    assert error.std(axis=0)[:4].mean() == pytest.approx(0.07, abs=0.02)
    assert error.std(axis=0)[-4:].mean() == pytest.approx(0.2, abs=0.04)
    assert air.reshape(days, 96)[:, -4:].std() == pytest.approx(2.0, abs=0.4)
    again, _ = forecast_weather(ghi[:960], clear[:960], np.zeros(960), 1)
    np.testing.assert_array_equal(again, found[:960])


def test_no_window_looks_ahead(small_data: Dataset) -> None:
    """Change everything from the issue time on: inputs stay, targets do not."""
    scaling = fit_scaling(small_data)
    before = make_series(small_data, scaling)
    day = 25
    load = small_data.load_kw.copy()
    load[:, day * 96 :] *= 3.0
    after = make_series(replace(small_data, load_kw=load), scaling)
    for name in ("own", "load_kw", "pv_kw"):
        getattr(after, name)[:, day * 96 :] += 7.0
    after.public[day * 96 :] += 7.0
    for cut, at in ((one_step, day * 96), (day_ahead, day)):
        one, other = (cut(s, scaling, np.array([at])) for s in (before, after))
        for name in ("steps", "known", "anchor", "envelope_kw"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert not np.array_equal(one.load_kw, other.load_kw)


def test_the_course_of_a_forecast_stays_within_its_day() -> None:
    index = np.repeat([np.r_[np.zeros(6), np.linspace(0.2, 0.9, 12), np.zeros(6)]] * 2, 4, axis=1)
    lit = index > 0
    course = hourly_course(index.reshape(-1), lit.reshape(-1))
    by_hour = course.reshape(2, 24, 4)
    assert (by_hour[:, :6] == 0).all()
    # Linear between the middles of hours: means are kept inside, quarter hours differ alike.
    np.testing.assert_allclose(by_hour[:, 7:17].mean(axis=2), index[:, 28:68:4], rtol=1e-12)
    steps = np.diff(by_hour[0, 7:17].reshape(-1))
    np.testing.assert_allclose(steps, 0.7 / 11 / 4, rtol=1e-9)
    other = index.copy()
    other[1] *= 0.5
    np.testing.assert_array_equal(
        hourly_course(other.reshape(-1), lit.reshape(-1))[:96], course[:96]
    )
    np.testing.assert_array_equal(later(np.arange(192.0), 4)[90:97], [94, 95, 95, 95, 95, 95, 100])


def test_roughness_is_the_root_mean_square_change_by_day() -> None:
    index = np.tile([0.5, 0.7], (1, 12))
    lit = np.ones((1, 24), dtype=bool)
    found = roughness(index, lit)[0]
    np.testing.assert_allclose(found[1:], 2.0, rtol=1e-9)
    assert found[0] == 0.0
    lit[0, 8:] = False
    np.testing.assert_allclose(roughness(index, lit)[0, 8:15], 2.0)  # what the evening was like
    assert (roughness(index, lit)[0, 16:] == 0.0).all()


def test_scaling_looks_at_training_days_only(small_data: Dataset) -> None:
    load = small_data.load_kw.copy()
    load[:, 20 * 96 :] *= 50
    one, other = fit_scaling(small_data), fit_scaling(replace(small_data, load_kw=load))
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])


@pytest.mark.parametrize("day", [3, 20, 21, 23, 26])
def test_typical_loads_are_those_of_all_days_before(small_data: Dataset, day: int) -> None:
    """Of training days within them: the same as scales of more training days would say."""
    scaling = fit_scaling(small_data)
    typical = make_series(small_data, scaling).typical[:, day * 96 : (day + 1) * 96]
    known = max(day, 20)
    more = fit_scaling(replace(small_data, first_days=(0, known, known, 27)))
    kind = int(is_weekend(small_data)[day * 96])
    mean, std, other_mean, other_std = (
        values[:, None]
        for values in (
            scaling.load_mean_kw, scaling.load_std_kw, more.load_mean_kw, more.load_std_kw
        )
    )  # fmt: skip
    wanted = (other_mean + other_std * more.load_typical[:, kind] - mean) / std
    np.testing.assert_allclose(typical[..., 0], wanted, atol=1e-6)
    np.testing.assert_allclose(typical[..., 1], np.roll(wanted, 1, axis=1), atol=1e-6)
    np.testing.assert_allclose(
        typical[..., 2], other_std * more.load_varied[:, kind] / std, atol=1e-6
    )


def test_days_since_training_are_learnt_from_sums(small_data: Dataset) -> None:
    """Sums of shapes in kW, for prosumers of some size, are those of their normalised loads."""
    scaling = fit_scaling(small_data)
    steps = slice(20 * 96, 25 * 96)
    load = small_data.load_kw[:, steps].astype(float)
    weekend = is_weekend(small_data)[steps]
    assert 0 < weekend.sum() < len(weekend)
    size = np.linspace(0.5, 5.0, 10)
    shapes = day_sums(load[::-1] / size[::-1, None], weekend)
    found = learnt_typical(scaling, shapes.rows(np.arange(10)[::-1]).scaled(size, scaling))
    normal = (load - scaling.load_mean_kw[:, None]) / scaling.load_std_kw[:, None]
    wanted = learnt_typical(scaling, day_sums(normal, weekend))
    assert found.typical_days.sum() == 25
    for name in ("load_typical", "load_varied", "typical_days"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-9)
    last = make_series(small_data, scaling).typical[:, 25 * 96 : 26 * 96, 0]
    kind = int(is_weekend(small_data)[25 * 96])
    np.testing.assert_allclose(last, found.load_typical[:, kind], atol=1e-6)


def test_a_kind_without_days_is_like_the_other(small_data: Dataset) -> None:
    sums = day_sums(small_data.load_kw[:, : 3 * 96].astype(float), np.zeros(288, dtype=bool))
    typical, varied = sums.of_all_days()
    np.testing.assert_array_equal(typical[:, 0], typical[:, 1])
    np.testing.assert_array_equal(varied[:, 0], varied[:, 1])


def test_window_contents(small_data: Dataset) -> None:
    scaling = fit_scaling(small_data)
    series = make_series(small_data, scaling)
    at = np.array([FIRST_STEP, FIRST_STEP + 50])
    found = one_step(series, scaling, at)
    assert found.steps.shape[:3] == (10, 2, STEPS_BEHIND)
    np.testing.assert_array_equal(found.steps[:, 1, :, 0], series.own[:, at[1] - 24 : at[1], 0])
    np.testing.assert_array_equal(found.load_kw[:, :, 0], small_data.load_kw[:, at])
    # 23 March 2016 is a Wednesday: what working days of training are like at its first hours.
    steps = small_data.steps("train")
    normal = (small_data.load_kw[:, steps] - scaling.load_mean_kw[:, None]).astype(float)
    normal = (normal / scaling.load_std_kw[:, None]).reshape(10, -1, 96)
    working = normal[:, ~np.isin(np.arange(20) % 7, [3, 4])][:, :, [0, 1, 2, 94, 95]].mean(
        axis=(1, 2)
    )
    np.testing.assert_allclose(found.known[:, 0, 0, -3], working, rtol=1e-5, atol=1e-6)
    whole = day_ahead(series, scaling, np.array([8]))
    np.testing.assert_array_equal(whole.steps[:, 0, :, 4], series.own[:, 96:192, 0])
    dark = whole.envelope_kw == 0
    assert whole.pv_kw[dark].max() < 0.02 * small_data.pv_rating_kw.max()
