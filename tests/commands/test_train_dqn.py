"""`raygrid train dqn`: a training as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raygrid.learning.policy import load_policy

pytest.importorskip("torch", reason="needs the extra 'learn'")
pytestmark = pytest.mark.optional

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--agents", "5", "--episodes", "4", "--quiet",
    "--set", "history.train_days=2", "--set", "history.validation_days=1",
    "--set", "history.test_days=1", "--set", "population.evs={share: 0.2}",
    "--set", "population.shiftable={share: 1.0}",
    "--set", "intraday={bidders: {copies: 2, hidden: 8, replay: 300, batch: 16}}",
)  # fmt: skip


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raygrid", "train", "dqn", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )


def test_a_training_from_its_command_to_its_policy(tmp_path: Path) -> None:
    done = train("ai_tem", *SMALL, "--seed", "3", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "ai_tem" / "dqn-3"
    assert done.stdout.splitlines() == [str(folder)]
    assert sorted(p.name for p in folder.iterdir()) == [
        "learning_curve.csv", "manifest.json", "weights.npz",
    ]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "dqn"
    assert manifest["status"] == "done"
    assert manifest["options"]["seed"] == 3
    assert manifest["scenario"] == "ai_tem"
    assert set(manifest["validation"]) == {"grid_only", "deferred", "rule", "learned"}
    with (folder / "learning_curve.csv").open(encoding="utf-8") as file:
        assert [int(row["episode"]) for row in csv.DictReader(file)] == [0, 4]
    assert len(load_policy(folder, 5)) == 5

    again = train("ai_tem", *SMALL, "--seed", "3", "--out", str(tmp_path))
    assert again.returncode == 2
    assert "holds a finished training" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_bad_use_is_one_line(tmp_path: Path) -> None:
    done = train("community", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "has no days to learn from" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = train("ai_tem", *SMALL, "--resume", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "the checkpoint is missing or damaged" in done.stderr
