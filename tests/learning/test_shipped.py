"""The weights that ship forecast days that they were not trained on, by numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.files import data_root
from raygrid.learning.baselines import persistence
from raygrid.learning.dataset import Dataset, build_dataset
from raygrid.learning.forecast_community import forecast_community
from raygrid.learning.forecasting import Naive
from raygrid.learning.inference import Forecaster, load_forecaster
from raygrid.learning.stages import DayStages
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario

FOLDER = data_root("scenarios") / "ai_tem" / "weights" / "forecaster-step"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return build_dataset(*load_scenario("ai_tem"))


def test_shipped_weights_beat_persistence(data: Dataset) -> None:
    forecaster = load_forecaster(FOLDER, data)
    steps = data.steps("test")[: 4 * 96]
    found = forecaster.forecast(forecaster.series(data), steps).expected[..., :2]
    actual = np.stack([data.load_kw[:, steps], data.pv_kw[:, steps]], axis=2)
    owner = data.pv_rating_kw > 0
    for target, who in ((0, slice(None)), (1, owner)):
        ours, naive = (
            np.sqrt(((f - actual)[who, :, target] ** 2).mean(axis=1))
            for f in (found[:, :, 0], persistence(data, steps))
        )
        assert 1 - (ours / naive).mean() > 0.05


def test_shipped_weights_of_the_day_ahead_beat_yesterday(data: Dataset) -> None:
    forecaster = load_forecaster(FOLDER.with_name("forecaster-day"), data)
    days = np.arange(*(data.days("test").start + k for k in (0, 10)))
    steps = (days[:, None] * 96 + np.arange(96)).reshape(-1)
    found = forecaster.forecast(forecaster.series(data), days).expected[..., :2]
    found = found.reshape(len(found), -1, 2)
    actual = np.stack([data.load_kw[:, steps], data.pv_kw[:, steps]], axis=2)
    owner = data.pv_rating_kw > 0
    for target, who, least in ((0, slice(None), 0.15), (1, owner, 0.35)):
        ours, naive = (
            np.sqrt(((f - actual)[who, :, target] ** 2).mean(axis=1))
            for f in (found, persistence(data, steps, 96))
        )
        assert 1 - (ours / naive).mean() > least


def test_weights_of_community_are_ahead_of_yesterday_in_load_and_pv() -> None:
    """On the market day and days after it: of PV too, though the sky has no clouds."""
    scenario, base_dir = load_scenario("community", agents=60)
    stages = DayStages.of(scenario, base_dir, 60)
    assert isinstance(stages.by, Forecaster)
    assert (stages.bidders, stages.step) == ("rule", None)
    assert len(stages.notes) == 1  # of the reserve
    errors: dict[str, list[tuple[float, float]]] = {"learned": [], "yesterday": []}
    for day in (0, 1, 5, 17):
        measured = draft_case(scenario, base_dir=base_dir, day=day).community
        _, pv, _, _, load = measured.everyone().profiles(0, 60)
        for name, by in (("learned", stages.by), ("yesterday", Naive.PERSISTENCE)):
            ahead = forecast_community(scenario, base_dir, measured, by, day=day)
            _, pv_ahead, _, _, load_ahead = ahead.everyone().profiles(0, 60)
            pairs = ((load_ahead, load), (pv_ahead, pv))
            found = [float(np.sqrt(np.mean((ours - true) ** 2))) for ours, true in pairs]
            errors[name].append((found[0], found[1]))
    ours, naive = (np.array(errors[name]) for name in ("learned", "yesterday"))
    assert (ours[:, 1] < 0.5 * naive[:, 1]).all()
    assert 1 - (ours[:, 0] / naive[:, 0]).mean() > 0.1


def test_weights_for_anybody_ship_without_households() -> None:
    folder = data_root("scenarios") / "community" / "weights" / "forecaster-day"
    found = load_forecaster(folder)
    assert found.fits_anybody
    assert found.spec.apart
    assert len(found.prosumer_id) == 0
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000


@pytest.mark.parametrize("agents", [50, 20])
def test_shipped_bidders_act_at_once(agents: int) -> None:
    """One network for all, so for communities of other sizes as well."""
    stages = DayStages.of(*load_scenario("ai_tem", agents=agents), agents)
    assert stages.bidders == "policy"
    assert stages.policy is not None
    assert stages.policy.is_shared
    assert stages.policy.margin > 0
