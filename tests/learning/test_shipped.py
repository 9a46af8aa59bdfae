"""The weights that ship with ai_tem forecast its test days, by numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.files import data_root
from raygrid.learning.baselines import persistence
from raygrid.learning.dataset import Dataset, build_dataset
from raygrid.learning.inference import load_forecaster
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
