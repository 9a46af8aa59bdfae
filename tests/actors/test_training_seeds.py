"""Several seeds on Ray: the weights of trainings in this process."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors import training_seeds
from actors.cluster import ClusterOptions
from actors.training_seeds import RaySeeds, train_one
from raygrid.errors import InputError
from raygrid.learning.bidders_market import BiddersMarket, TrainBiddersOptions, bidders_market
from raygrid.learning.dqn_training import CHECKPOINT
from raygrid.learning.train_bidders import training_folder
from raygrid.learning.train_seeds import seeds_of, train_seeds

pytest.importorskip("torch", reason="needs the extra 'learn'")
pytestmark = pytest.mark.optional
SETTINGS = (
    "history.train_days=2", "history.validation_days=1", "history.test_days=1",
    "population.evs={share: 0.2}", "population.shiftable={share: 1.0}",
    "intraday={bidders: {copies: 2, hidden: 8, replay: 300, batch: 16}}",
)  # fmt: skip


def asked(out: Path) -> TrainBiddersOptions:
    return TrainBiddersOptions(
        "ai_tem", out, "test", SETTINGS, agents=5, episodes=4, planned=False, shared=True,
        device="cpu", measure_every=2,
    )  # fmt: skip


def test_seeds_on_ray_are_those_of_this_process(tmp_path: Path) -> None:
    here, there = asked(tmp_path / "here"), asked(tmp_path / "there")
    expected = train_seeds(here, (1, 2))
    lines: list[str] = []
    found = train_seeds(there, (1, 2), RaySeeds(ClusterOptions(num_cpus=2), 2), lines.append)
    for one, other in zip(found.folders, expected.folders, strict=True):
        weights = "weights.npz"
        assert (one / weights).read_bytes() == (other / weights).read_bytes()
    assert {line.split(",")[0] for line in lines} >= {"seed 1", "seed 2"}
    with found.table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["episode"]) for row in rows] == [0, 2, 4]
    costs = []
    for folder in found.folders:
        with (folder / "learning_curve.csv").open(encoding="utf-8") as stream:
            costs.append(float(list(csv.DictReader(stream))[-1]["validation_cost"]))
    assert float(rows[-1]["validation_cost_mean"]) == pytest.approx(sum(costs) / 2, rel=1e-7)
    spread = abs(costs[0] - costs[1]) / 2**0.5
    assert float(rows[-1]["validation_cost_std"]) == pytest.approx(spread, rel=1e-5, abs=1e-9)

    # Those that ended are kept; the one that never began does.
    told: list[str] = []
    again = train_seeds(replace(there, resume=True), (1, 3), tell=told.append)
    assert "seed 1: taken over" in told
    assert (again.folders[1] / "weights.npz").exists()


def dies_once(job: TrainBiddersOptions, market: BiddersMarket) -> Iterator[str]:
    """A task that is killed once it has a checkpoint to go on from."""
    for line in train_one(job, market):
        yield line
        if not job.resume and (training_folder(market, job) / CHECKPOINT).exists():
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_seed_whose_process_is_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_seeds(asked(tmp_path / "here"), (1,))
    monkeypatch.setattr(training_seeds, "train_one", dies_once)
    lines: list[str] = []
    there = asked(tmp_path / "there")
    found = train_seeds(there, (1,), RaySeeds(ClusterOptions(num_cpus=1), 1), lines.append)
    assert "seed 1: its process died and is started anew" in lines
    ours, theirs = ((t.folders[0] / "weights.npz").read_bytes() for t in (found, expected))
    assert ours == theirs


def test_bad_use(tmp_path: Path) -> None:
    for text in ("", "1,1", "-1", "a"):
        with pytest.raises(InputError, match="names no seeds"):
            seeds_of(text)
    market = bidders_market(asked(tmp_path))
    with pytest.raises(InputError, match="not seen by all machines"):
        list(train_one(asked(tmp_path / "elsewhere"), market))
