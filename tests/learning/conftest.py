"""Small data sets for forecasters."""

from __future__ import annotations

import pytest

from raygrid.learning.dataset import Dataset, build_dataset
from raygrid.scenario.load import load_scenario

SMALL = ("history.train_days=20", "history.validation_days=4", "history.test_days=3",
         "horizon.start=2016-04-09")  # fmt: skip


@pytest.fixture(scope="session")
def small_data() -> Dataset:
    """Ten prosumers of ai_tem, 27 days."""
    scenario, base_dir = load_scenario("ai_tem", agents=10, settings=SMALL)
    return build_dataset(scenario, base_dir)
