"""Hosts of some prosumers each train what one process trains; what travels are weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.dataset import Dataset, dataset_parts
from raygrid.learning.network import NetworkSpec
from raygrid.scenario.load import load_scenario
from tests.learning.conftest import SMALL

pytestmark = pytest.mark.optional
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'raygrid[learn]'")

torch.set_num_threads(1)

SPEC = NetworkSpec(width=8, heads=2, embedding=2)


def options(way: str, **changes: Any) -> Any:
    from raygrid.learning.train_options import TrainOptions

    few = {"epochs": 2, "batches_per_epoch": 5, "times_per_batch": 4, "validation_stride": 48}
    return TrainOptions(way=way, **(few | changes))


def group_of(data: Dataset, way: str, parts: Sequence[Any]) -> Any:
    """Hosts of this process, each with some rows of the data."""
    from raygrid.learning.hosted import GivenDataset, HostedTraining, LocalGroup, TrainingOrder

    recipes = [GivenDataset(data.rows(rows)) for rows in parts]
    return LocalGroup([HostedTraining(TrainingOrder(r, SPEC, options(way))) for r in recipes])


class Spy:
    """A group that keeps what travels."""

    def __init__(self, group: Any) -> None:
        self.group, self.sent, self.got = group, list[Any](), list[Any]()

    def __len__(self) -> int:
        return len(self.group)

    def ask(self, method: str, arguments: Any) -> Any:
        self.sent.append((method, arguments))
        self.got.append((method, self.group.ask(method, arguments)))
        return self.got[-1][1]


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """All arrays in a message."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from arrays_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from arrays_in(inner)
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_in(getattr(value, field.name))
    else:
        assert isinstance(value, int | float | str | None)


# Not in the order of the ids, and of unequal size, as the buses of a feeder may have it.
PARTS = (np.array([1, 4, 7, 9]), np.array([0, 2, 3]), np.array([5, 6, 8]))


@pytest.mark.parametrize("way", ["own", "federated"])
def test_hosts_train_what_one_process_trains(small_data: Dataset, way: str) -> None:
    from raygrid.learning.hosted import HostedLearner
    from raygrid.learning.training import train

    alone = train(small_data, SPEC, options(way))
    group = group_of(small_data, way, PARTS)
    learner = HostedLearner(group, small_data.prosumer_id, options(way))
    spread = train(small_data, SPEC, options(way), learner=learner)
    assert [row["epoch"] for row in spread.log] == [1, 2]
    for name, array in alone.forecaster.weights.items():
        ours, theirs = spread.forecaster.weights[name], array
        if name.endswith("qkv.b"):
            # A bias of all keys moves nothing: its slopes are rounding, which Adam scales.
            ours, theirs = (
                np.delete(x, np.s_[SPEC.width : 2 * SPEC.width], 2) for x in (ours, theirs)
            )
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(
        spread.log[-1]["validation_loss"], alone.log[-1]["validation_loss"], rtol=1e-4
    )


@pytest.mark.parametrize("way", ["own", "federated"])
def test_sums_of_products_add_up_over_hosts(small_data: Dataset, way: str) -> None:
    from raygrid.learning.hosted import HostedLearner

    found = []
    for parts in (PARTS, [np.arange(10)]):
        group = group_of(small_data, way, parts)
        found.append(HostedLearner(group, small_data.prosumer_id, options(way)).direct())
    for name, array in found[1].items():
        assert len(array) == (10 if way == "own" else 1)
        np.testing.assert_allclose(found[0][name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["own", "federated"])
def test_nothing_of_the_size_of_a_profile_travels(small_data: Dataset, way: str) -> None:
    """Messages have arrays with the shapes of weights, one number a prosumer, and their ids."""
    from raygrid.learning.hosted import HostedLearner
    from raygrid.learning.training import train

    spy = Spy(group_of(small_data, way, PARTS))
    learner = HostedLearner(spy, small_data.prosumer_id, options(way))
    train(small_data, SPEC, options(way), learner=learner)
    assert {method for method, _ in spy.sent} == {
        "prosumers", "validate", *(["direct", "epoch"] if way == "own" else ["products", "round"])
    }  # fmt: skip
    # Sums of products of the regression's inputs, over all windows of a host.
    size = SPEC.direct_inputs + 1
    sums = {(2, size, size), (2, size)}
    shapes = {*SPEC.shapes().values(), (1, SPEC.embedding), (SPEC.embedding,), (), *sums}
    seen = 0
    for array in arrays_in([spy.sent, spy.got]):
        # The first axis is that of prosumers or models; embeddings may have both.
        assert array.shape[1:] in shapes or array.shape == (1, len(array[0]), SPEC.embedding)
        seen += 1
    assert seen > 100


def test_federated_training_that_was_broken_off_goes_on_as_if_it_had_not(
    small_data: Dataset, tmp_path: Any
) -> None:
    from raygrid.learning.training import train

    whole = train(small_data, SPEC, options("federated", epochs=3))
    way = options("federated", epochs=3)

    class Stop(Exception):
        pass

    def tell(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise Stop

    with pytest.raises(Stop):
        train(small_data, SPEC, way, folder=tmp_path, tell=tell)
    resumed = train(small_data, SPEC, way, folder=tmp_path, resume=True)
    for name, array in whole.forecaster.weights.items():
        np.testing.assert_array_equal(resumed.forecaster.weights[name], array)


def test_hosts_build_the_rows_of_the_data_set(small_data: Dataset) -> None:
    scenario, base_dir = load_scenario("ai_tem", agents=10, settings=SMALL)
    seen = []
    for part in dataset_parts(scenario, base_dir, small_data, [(0, 4), (4, 10)]):
        assert len(part.calendar.load_kw) == 0
        own = part.build()
        rows = np.searchsorted(small_data.prosumer_id, own.prosumer_id)
        assert own.digest() == small_data.rows(rows).digest()
        seen += rows.tolist()
    assert sorted(seen) == list(range(10))


def test_weights_for_anybody_train_and_forecast_others(small_data: Dataset, tmp_path: Any) -> None:
    from raygrid.learning.inference import load_forecaster, save_forecaster
    from raygrid.learning.training import train

    spec = replace(SPEC, embedding=0)
    for way in ("shared", "federated"):
        done = train(small_data.rows(np.arange(6)), spec, options(way))
        assert np.isfinite(done.log[-1]["validation_loss"])
        folder = save_forecaster(tmp_path / way, done.forecaster)
        others = load_forecaster(folder, small_data)
        at = np.array([20 * 96, 20 * 96 + 48])
        found = others.forecast(others.series(small_data), at).expected
        assert found.shape == (10, 2, 1, 3)
        own = done.forecaster
        np.testing.assert_allclose(
            found[:6], own.forecast(own.series(small_data.rows(np.arange(6))), at).expected,
            rtol=1e-5, atol=1e-6,
        )  # fmt: skip


def test_a_device_that_torch_cannot_use_is_one_line() -> None:
    from raygrid.learning.training import choose_device

    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("cuda:77", "abacus", "meta"):
        with pytest.raises(InputError, match="torch cannot compute there") as caught:
            choose_device(wrong)
        assert "\n" not in str(caught.value)
