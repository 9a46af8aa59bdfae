"""Training over Ray hosts ends as in one process, also where a host dies meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.cluster import Cluster, ClusterOptions, ClusterResources
from actors.errors import LostStateError
from actors.placement import PlacementPolicy, plan_placement
from actors.training import HostedOptions, RayGroup, TrainingActor, train_on_hosts
from raygrid.errors import InputError
from raygrid.learning.dataset import Dataset, build_dataset, dataset_parts
from raygrid.learning.network import NetworkSpec
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import load_scenario

pytestmark = pytest.mark.optional
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'raygrid[learn]'")

torch.set_num_threads(1)

SPEC = NetworkSpec(width=8, heads=2, embedding=2)
BOUNDS = [(0, 2), (2, 6)]


def options(way: str) -> Any:
    from raygrid.learning.train_options import TrainOptions

    return TrainOptions(
        way=way, epochs=2, batches_per_epoch=5, times_per_batch=4, validation_stride=48
    )


@pytest.fixture(scope="module")
def loaded() -> tuple[Scenario, Path]:
    settings = (
        "history.train_days=10", "history.validation_days=3", "history.test_days=2",
        "horizon.start=2016-03-29",
    )  # fmt: skip
    return load_scenario("ai_tem", agents=6, settings=settings)


@pytest.fixture(scope="module")
def data(loaded: tuple[Scenario, Path]) -> Dataset:
    return build_dataset(*loaded)


@pytest.fixture(scope="module")
def orders(loaded: tuple[Scenario, Path], data: Dataset) -> list[Any]:
    from raygrid.learning.hosted import TrainingOrder

    return [
        TrainingOrder(part, SPEC, options("federated"))
        for part in dataset_parts(*loaded, data, BOUNDS)
    ]


@pytest.fixture
def group(cluster: Cluster, resources: ClusterResources, orders: list[Any]) -> Iterator[RayGroup]:
    placement = plan_placement(PlacementPolicy.parse("2"), 6, 1e6, resources)
    with RayGroup(orders, placement, resources, "cpu") as hired:
        yield hired


@pytest.mark.parametrize("way", ["federated", "own"])
def test_two_hosts_train_what_one_process_trains(
    cluster: Cluster, resources: ClusterResources, orders: list[Any], data: Dataset, way: str
) -> None:
    from raygrid.learning.hosted import HostedLearner
    from raygrid.learning.training import train

    placement = plan_placement(PlacementPolicy.parse("2"), 6, 1e6, resources)
    ordered = [replace(order, options=options(way)) for order in orders]
    with RayGroup(ordered, placement, resources, "cpu") as group:
        learner = HostedLearner(group, data.prosumer_id, options(way))
        spread = train(data, SPEC, options(way), learner=learner)
    alone = train(data, SPEC, options(way))
    for name, array in alone.forecaster.weights.items():
        np.testing.assert_allclose(
            spread.forecaster.weights[name], array, rtol=1e-3, atol=1e-5, err_msg=name
        )


def test_a_host_that_dies_is_started_anew_and_training_ends_with_the_same_bits(
    group: RayGroup, data: Dataset
) -> None:
    import ray

    from raygrid.learning.hosted import HostedLearner
    from raygrid.learning.training import train

    way = options("federated")
    whole = train(data, SPEC, way, learner=HostedLearner(group, data.prosumer_id, way))
    victim = ray.get(group.hosts[1].ping.remote())

    def kill(line: str) -> None:
        if line.startswith("epoch 1/"):
            os.kill(victim.pid, signal.SIGKILL)

    learner = HostedLearner(group, data.prosumer_id, way)
    mended = train(data, SPEC, way, learner=learner, tell=kill)
    assert ray.get(group.hosts[1].ping.remote()).incarnation != victim.incarnation
    for name, array in whole.forecaster.weights.items():
        np.testing.assert_array_equal(mended.forecaster.weights[name], array)


def test_an_actor_that_was_given_nothing_says_so() -> None:
    with pytest.raises(LostStateError, match="no prosumers loaded"):
        TrainingActor().call("prosumers", ())


def test_what_hosts_cannot_share_is_refused_before_any_starts(
    loaded: tuple[Scenario, Path], data: Dataset
) -> None:
    nowhere = HostedOptions(PlacementPolicy.parse("2"), ClusterOptions("127.0.0.1:1"))
    with pytest.raises(InputError, match="weights of way 'shared' are trained in one process"):
        train_on_hosts(*loaded, data, SPEC, options("shared"), nowhere)
    many = replace(nowhere, actors=PlacementPolicy.parse("7"))
    with pytest.raises(InputError, match="7 actors for 6 prosumers"):
        train_on_hosts(*loaded, data, SPEC, options("own"), many)
