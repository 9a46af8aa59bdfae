"""A driver that is killed while a market clears: another one goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

ROOT = Path(__file__).resolve().parent.parent


def raygrid(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raygrid", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


DYING = """
import os, signal, sys
from pathlib import Path
from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors import driver
from actors.simulate import SimulateOptions, simulate

observe = driver.ClearingMetrics.observe

def die(metrics, outcome):
    observe(metrics, outcome)
    if outcome.record.iteration == 5:
        os.kill(os.getpid(), signal.SIGKILL)

driver.ClearingMetrics.observe = die
simulate(SimulateOptions("tiny", Path(sys.argv[1]), "test", chain="none", central=False))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_driver_s_run_is_resumed(tmp_path: Path) -> None:
    """By another process, to the same market; and only that scenario, and only if unfinished."""
    whole = raygrid("simulate", "tiny", "--chain=none", "--no-central", "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "killed")], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    (run,) = (tmp_path / "killed" / "tiny").iterdir()
    resumed = raygrid(
        "simulate", "--resume", run, "--actors", "1", "--no-central", "--out", tmp_path
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after round 5" in resumed.stdout
    (one,), (other,) = ((folder / "tiny").iterdir() for folder in (tmp_path / "whole", tmp_path))
    for name in ("schedule", "prices", "trades"):
        assert read_table(one / f"{name}.parquet").equals(read_table(other / f"{name}.parquet"))
    rounds = [read_table(path / "convergence.parquet").drop(["seconds"]) for path in (one, other)]
    assert rounds[0].equals(rounds[1])
    assert not (other / "checkpoint.bin").exists()
    for arguments, message in (
        (("--resume", other), "the run has come to its end"),
        (("tiny", "--resume", run), "a resumed run keeps its scenario"),
        (("--resume", tmp_path / "none"), "none"),
    ):
        refused = raygrid("simulate", *arguments)
        assert refused.returncode == 2
        assert message in refused.stderr
    (run / "scenario.resolved.yaml").write_text((one / "scenario.resolved.yaml").read_text() + "\n")
    refused = raygrid("simulate", "--resume", run)
    assert refused.returncode == 2
    assert "belongs to another scenario" in refused.stderr
