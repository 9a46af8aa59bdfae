"""`raygrid train`: folders, resuming, and one line where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raygrid.cli import cli
from raygrid.errors import EndedShortError, InputError

SMALL = ("history.train_days=10", "history.validation_days=2", "history.test_days=2",
         "horizon.start=2016-03-28", "population.agents=10")  # fmt: skip


def invoke(*words: str) -> Any:
    """Run a command; its own errors come through."""
    arguments = [*words, *(w for setting in SMALL for w in ("--set", setting))]
    found = CliRunner().invoke(cli, arguments)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of a few batches."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'raygrid[learn]'")
    import torch

    from raygrid.learning import training

    torch.set_num_threads(1)
    plain = training.TrainOptions

    def options(**given: Any) -> Any:
        few = {"batches_per_epoch": 2, "times_per_batch": 2, "validation_stride": 96}
        return plain(**(few | given))

    monkeypatch.setattr(training, "TrainOptions", options)


@pytest.mark.optional
@pytest.mark.usefixtures("quick")
def test_a_forecaster_is_trained_resumed_and_loaded(tmp_path: Path) -> None:
    from raygrid.learning.inference import load_forecaster

    words = ("train", "forecaster", "ai_tem", "--out", str(tmp_path))
    first = invoke(*words, "--epochs", "2")
    folder = Path(first.stdout.splitlines()[-1])
    assert folder == tmp_path / "ai_tem" / "forecaster-step-shared-1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["scenario"] == "ai_tem"
    assert manifest["epochs"] == 2
    assert "epoch 2/2" in first.stderr
    assert len((folder / "log.csv").read_text().splitlines()) == 3
    assert load_forecaster(folder).prosumer_id.tolist() == list(range(1, 11))
    again = invoke(*words, "--epochs", "2", "--resume")
    assert "epoch" not in again.stderr
    with pytest.raises(InputError, match="of another scenario, seed"):
        invoke(*words, "--epochs", "3", "--resume")


@pytest.mark.optional
@pytest.mark.usefixtures("quick")
def test_nan_ends_the_command_with_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raygrid.learning import training
    from raygrid.learning.inference import load_forecaster

    plain = training.Trainer.epoch

    def epoch(self: Any, state: Any, total: int) -> float:
        return float("nan") if state.epoch else plain(self, state, total)

    monkeypatch.setattr(training.Trainer, "epoch", epoch)
    with pytest.raises(EndedShortError, match="not a number after epoch 1"):
        invoke("train", "forecaster", "ai_tem", "--out", str(tmp_path))
    folder = tmp_path / "ai_tem" / "forecaster-step-shared-1"
    assert load_forecaster(folder).facts["status"] == "diverged"


@pytest.mark.optional
@pytest.mark.usefixtures("quick")
def test_forecasters_side_by_side(tmp_path: Path) -> None:
    words = (
        "train", "compare", "ai_tem", "--out", str(tmp_path), "--seeds", "1", "--epochs", "1",
        "--models", "persistence,seasonal_naive,hybrid_shared",
    )  # fmt: skip
    found = invoke(*words)
    assert "| persistence | 1 |" in found.stdout
    assert "hybrid_shared, seed 1" in found.stderr
    again = invoke(*words)
    assert again.stderr == ""
    assert again.stdout == found.stdout
    path = tmp_path / "ai_tem" / "forecasters" / "step-hybrid_shared-1.json"
    # Neither a score under another's name nor a shorter training's is taken over.
    path.with_name("step-transformer-1.json").write_bytes(path.read_bytes())
    other = [w.replace("persistence,seasonal_naive,hybrid_shared", "transformer") for w in words]
    assert "epoch 1/1" in invoke(*other).stderr
    longer = [*words[:-3], "2", *words[-2:]]
    assert "epoch 1/2" in invoke(*longer).stderr
    for option, value, line in (("--models", "oracle", "no forecaster"), ("--seeds", "x", "seeds")):
        with pytest.raises(InputError, match=line):
            invoke(*words, option, value)


def test_without_torch_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="torch is not installed; pip install"):
        invoke("train", "forecaster", "ai_tem")


@pytest.mark.optional
@pytest.mark.usefixtures("quick")
def test_a_scenario_without_history_is_refused() -> None:
    found = CliRunner().invoke(cli, ["train", "forecaster", "tiny"])
    assert isinstance(found.exception, InputError)
    assert "no history to learn from" in str(found.exception)


@pytest.mark.optional
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--device", "abacus"], "--device abacus: torch cannot compute there"),
        (["--actors", "2"], "weights of way 'shared' are trained in one process"),
        (["--way", "own", "--for-anybody"], "own weights of each prosumer fit nobody else"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(
    options: list[str], line: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    words = ["train", "forecaster", "community", "--agents", "5", "--out", str(tmp_path), *options]
    found = CliRunner().invoke(cli, words)
    assert isinstance(found.exception, InputError)
    assert line in str(found.exception)
    assert "\n" not in str(found.exception)
