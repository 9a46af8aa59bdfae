"""`raygrid train dqn`: a training as a user runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from raygrid.commands.train_dqn import dqn
from raygrid.errors import InputError
from raygrid.learning.policy import load_policy

pytest.importorskip("torch", reason="needs the extra 'learn'")
pytestmark = pytest.mark.optional
SMALL = (
    "--agents", "5", "--episodes", "4", "--quiet",
    "--set", "history.train_days=2", "--set", "history.validation_days=1",
    "--set", "history.test_days=1", "--set", "population.evs={share: 0.2}",
    "--set", "population.shiftable={share: 1.0}",
    "--set", "intraday={bidders: {copies: 2, hidden: 8, replay: 300, batch: 16}}",
)  # fmt: skip


def train(*arguments: str) -> str:
    """The command's output; it loads in this process what others have loaded already."""
    done = CliRunner().invoke(dqn, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_training_from_its_command_to_its_policy(tmp_path: Path) -> None:
    printed = train("ai_tem", *SMALL, "--seed", "3", "--out", str(tmp_path))
    folder = tmp_path / "ai_tem" / "dqn-3"
    assert printed.splitlines() == [str(folder)]
    assert sorted(p.name for p in folder.iterdir()) == [
        "learning_curve.csv", "manifest.json", "weights.npz",
    ]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "dqn"
    assert manifest["status"] == "done"
    assert manifest["options"]["seed"] == 3
    assert manifest["scenario"] == "ai_tem"
    for part in ("validation", "test"):
        assert set(manifest[part]) == {"plan", "learned", "learned less plan"}
    assert manifest["planned"]
    assert manifest["forecasts"][0].startswith("step: persistence (")
    (_,) = (tmp_path / "ai_tem").glob("plans-*.npz")
    with (folder / "learning_curve.csv").open(encoding="utf-8") as file:
        assert [int(row["episode"]) for row in csv.DictReader(file)] == [0, 4]
    assert len(load_policy(folder, 5)) == 5

    with pytest.raises(InputError, match="holds a finished training"):
        train("ai_tem", *SMALL, "--seed", "3", "--out", str(tmp_path))


def test_without_a_plan_and_with_one_network_for_all(tmp_path: Path) -> None:
    printed = train("ai_tem", *SMALL, "--no-plan", "--shared", "--out", str(tmp_path))
    folder = tmp_path / "ai_tem" / "dqn-shared-1"
    assert printed.splitlines() == [str(folder)]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found = {"grid_only", "deferred", "rule", "learned", "learned less rule"}
    assert set(manifest["validation"]) == found
    assert not manifest["planned"]
    assert not list((tmp_path / "ai_tem").glob("plans-*"))
    assert load_policy(folder, 5).is_shared
    assert load_policy(folder, 500).is_shared


def test_bad_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no days to learn from"):
        train("community", "--out", str(tmp_path))
    with pytest.raises(InputError, match="the checkpoint is missing or damaged"):
        train("ai_tem", *SMALL, "--resume", "--out", str(tmp_path))
    (tmp_path / "ai_tem" / "dqn-1").mkdir(parents=True)
    (tmp_path / "ai_tem" / "dqn-1" / "learning_curve.csv").touch()
    with pytest.raises(InputError, match="add --resume to go on with it"):
        train("ai_tem", *SMALL, "--out", str(tmp_path))
