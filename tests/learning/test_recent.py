"""The last days as forecasters read them: the history's own, and nothing that comes later."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.adapting import adjusted, adjustment_rows
from raygrid.learning.calibration import OUTSIDE
from raygrid.learning.dataset import STEPS_PER_DAY, build_dataset
from raygrid.learning.features import PAST_DAYS
from raygrid.learning.forecast_community import forecast_community
from raygrid.learning.forecasting import day_ahead_predictions, step_predictions
from raygrid.learning.inference import load_forecaster
from raygrid.learning.recent import intervals, recent_days, serves
from raygrid.learning.renewal import with_days_since
from raygrid.learning.stages import DayStages
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario

WEIGHTS = Path(__file__).resolve().parents[2] / "scenarios/ai_tem/weights"
DAY = 1


@pytest.fixture(scope="module")
def ai_tem():
    return load_scenario("ai_tem")


@pytest.fixture(scope="module")
def recent(ai_tem):
    return recent_days(*ai_tem, day=DAY)


@pytest.fixture(scope="module", params=["day", "step"])
def by(request):
    return load_forecaster(WEIGHTS / f"forecaster-{request.param}")


@pytest.fixture(scope="module")
def whole(ai_tem):
    return build_dataset(*ai_tem)


def test_recent_days_are_those_of_the_history(ai_tem, recent, whole):
    first = (ai_tem[0].horizon.start - ai_tem[0].history.start).days + DAY - PAST_DAYS
    rows = slice(first * STEPS_PER_DAY, (first + PAST_DAYS + 1) * STEPS_PER_DAY)
    for name in ("load_kw", "pv_kw"):
        np.testing.assert_array_equal(getattr(recent.data, name), getattr(whole, name)[:, rows])
    for name, series in vars(recent.data.weather).items():
        np.testing.assert_array_equal(series, getattr(whole.weather, name)[rows])


@pytest.mark.parametrize("update", ["typical", "intervals"])
def test_forecasts_are_those_of_the_whole_history(ai_tem, whole, by, update):
    """The days since training are learnt from, or are not."""
    scenario, base_dir = load_scenario("ai_tem", settings=[f"stages.update={update}"])
    first = (scenario.horizon.start - scenario.history.start).days
    today = np.array([first + DAY])
    find = step_predictions if by.spec.task == "step" else day_ahead_predictions
    data = whole
    if update != "typical":
        data = whole.until(int(today[0]), PAST_DAYS)
        today = np.array([PAST_DAYS])
        by = replace(by, facts=by.facts | {"data": data.digest()})
    wanted = find(data, by, today)
    outlook = DayStages.of(scenario, base_dir, 50).outlook(DAY)
    found = (outlook.step if by.spec.task == "step" else outlook.ahead).found
    np.testing.assert_allclose(found.expected_kw[..., 0], wanted.load_kw, atol=1e-4)
    np.testing.assert_allclose(found.expected_kw[..., 1], wanted.pv_kw, atol=1e-4)
    assert (found.low_kw <= found.high_kw).all()


def test_loads_that_changed_since_training_are_learnt(ai_tem, by):
    """After weeks at twice its level, more is typical of a load, and its forecast is another."""
    past = recent_days(*ai_tem, DAY, 31)
    load = past.data.load_kw.copy()
    load[:, : 24 * STEPS_PER_DAY] *= 2.0
    changed = replace(past.data, load_kw=load)
    learnt = with_days_since(by, changed, past.day - PAST_DAYS)
    plain = with_days_since(by, past.data, past.day - PAST_DAYS)
    assert (learnt.scaling.load_typical > plain.scaling.load_typical).mean() > 0.9
    assert learnt.scaling.typical_days.sum() == plain.scaling.typical_days.sum() == 120 + 24
    recent = past.shortened(31)
    found, before = (intervals(one, recent).expected_kw[..., 0] for one in (learnt, plain))
    assert np.abs(found - before).mean() > 0.001


def test_a_forecast_sees_nothing_of_its_period_and_later(recent, by):
    plain, noon = intervals(by, recent), PAST_DAYS * STEPS_PER_DAY + 48
    load, pv = recent.data.load_kw.copy(), recent.data.pv_kw.copy()
    load[:, noon:], pv[:, noon:] = 9.0, 0.0
    ghi = recent.data.weather.ghi_w_per_m2.copy()
    ghi[noon:] = 0.0
    weather = replace(recent.data.weather, ghi_w_per_m2=ghi)
    changed = replace(recent, data=replace(recent.data, load_kw=load, pv_kw=pv, weather=weather))
    found = intervals(by, changed)
    np.testing.assert_array_equal(found.expected_kw[:, :49], plain.expected_kw[:, :49])
    is_step = by.spec.task == "step"
    assert np.array_equal(found.expected_kw[:, 49:], plain.expected_kw[:, 49:]) != is_step


def test_weights_of_others_are_told(ai_tem, recent, by):
    assert serves(by, recent) == ""
    scenario, base_dir = load_scenario("ai_tem", seed=2)
    assert "other prosumers" in serves(by, recent_days(scenario, base_dir))
    scenario, base_dir = load_scenario("ai_tem", agents=30)
    assert "know 50 prosumers" in serves(by, recent_days(scenario, base_dir))


def test_shipped_weights_are_found_and_others_replaced():
    stages = DayStages.of(*load_scenario("ai_tem"), 50)
    assert stages.forecast == "learned"
    assert stages.step is not None
    other = DayStages.of(*load_scenario("ai_tem", seed=2), 50)
    assert (other.forecast, other.step) == ("persistence", None)
    assert sum("other prosumers" in note for note in other.notes) == 2
    hourly = DayStages.of(*load_scenario("ai_tem", periods=24), 50)
    assert (hourly.forecast, hourly.step) == ("learned", None)
    assert hourly.outlook(0) is None


def test_weights_that_are_asked_for_must_fit(tmp_path):
    settings = [f"stages.step_forecaster={WEIGHTS / 'forecaster-step'}"]
    with pytest.raises(InputError, match="other prosumers"):
        DayStages.of(*load_scenario("ai_tem", settings=settings, seed=2), 50)


def test_periods_that_are_no_quarter_hours_are_refused():
    scenario, base_dir = load_scenario("ai_tem", periods=24)
    with pytest.raises(InputError, match="quarter hours"):
        recent_days(scenario, base_dir)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_intervals_move_to_where_a_fifth_is_outside(recent, factor):
    """Too narrow or too wide at first: after some days of the same kind they hold 80 %."""
    by = load_forecaster(WEIGHTS / "forecaster-day")
    by = replace(by, spread=by.spread * np.float32(factor))
    for _ in range(40):
        by, made = adjusted(by, recent, intervals(by, recent))
    counted = made.counted > 200
    share = made.outside[counted] / made.counted[counted]
    np.testing.assert_allclose(share, OUTSIDE, atol=0.03)
    rows = adjustment_rows(3, [("step", made)])
    assert set(rows["horizon"].to_pylist()) == {"step"}
    assert set(rows["day"].to_pylist()) == {3}
    np.testing.assert_array_equal(rows["spread"].to_numpy(), made.spread.ravel())
    np.testing.assert_array_equal(made.spread.astype(by.spread.dtype), by.spread[:2])


def test_expected_values_do_not_move(recent, by):
    before = intervals(by, recent)
    after = intervals(adjusted(by, recent, before)[0], recent)
    np.testing.assert_array_equal(after.expected_kw, before.expected_kw)
    assert not np.array_equal(after.low_kw, before.low_kw)


@pytest.mark.parametrize("day", [0, 2])
def test_intervals_stand_on_what_hosts_clear_on(day):
    """Weights for anybody: the same scales and the same line of PV, by prosumer and by shape."""
    settings = ["horizon.period_hours=0.25", "horizon.days=3"]
    scenario, base_dir = load_scenario("community", agents=30, periods=96, settings=settings)
    stages = DayStages.of(scenario, base_dir, 30)
    measured = draft_case(scenario, base_dir=base_dir, day=day).community
    hosts = forecast_community(scenario, base_dir, measured, stages.by, day=day).everyone()
    _, pv, _, elastic, fixed = hosts.profiles(0, 30)
    load = fixed + elastic / scenario.population.elastic_headroom
    found = stages.outlook(day).ahead.found.at(hosts.prosumer_id)
    np.testing.assert_allclose(found.expected_kw[..., 0], load, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(found.expected_kw[..., 1], pv, rtol=2e-3, atol=2e-4)
    assert (found.low_kw <= found.high_kw).all()
