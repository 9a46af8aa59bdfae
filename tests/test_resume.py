"""A driver that is killed while a run goes on: another one goes on, to the same market."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import read_table

from actors.benchmarks.ray_nodes import ray_head
from raygrid.settlement.stored import audit_stored
from tests.dying import ROUND

ROOT = Path(__file__).resolve().parent.parent

OWN = {
    "trades": ["tx_hash", "block"],
    "batches": ["tx_hash", "block", "gas"],
    "convergence": ["seconds"],
    # Escrows are funded for what settles together.
    "participants": ["funded_micro"],
    "statements": ["opening_micro", "closing_micro"],
}
"""Columns that depend on the clock, or on the chain that a run settles on."""
OF_THE_CLOCK = {"seconds", "run_id", "memory", "actors", "trades_per_second", "transactions"}
OF_THE_CLOCK |= {"gas_total", "gas_per_trade"}

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray that outlives the drivers that are killed on it, and is started once."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Sockets lie in Ray's folder, whose paths are limited to 107 letters; workers of killed drivers
    # may still write there when it ends.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name,
        ray_head(sys.executable, Path(name), PYTHONPATH=str(ROOT), **token) as head,
        pytest.MonkeyPatch.context() as patched,
    ):
        for variable, value in (token | {"RAY_ADDRESS": head.address}).items():
            patched.setenv(variable, value)
        yield


def raygrid(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raygrid", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def killed(out: Path, moment: str, day: int, *arguments: str | Path) -> Path:
    """The run that a driver leaves that dies at this moment."""
    words = ["simulate", *arguments, "--no-central", "--out", out]
    done = subprocess.run(
        [sys.executable, "-m", "tests.dying", moment, str(day), *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = out.glob("*/*")
    return run


def simulated(out: Path, *arguments: str | Path) -> Path:
    done = raygrid("simulate", *arguments, "--no-central", "--quiet", "--out", out)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def notes(run: Path) -> list[str]:
    found: list[str] = json.loads((run / "manifest.json").read_text())["notes"]
    return found


def figures(run: Path) -> Any:
    """A run's summary, but for what depends on the clock."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(v) for name, v in value.items() if name not in OF_THE_CLOCK}
        return [kept(v) for v in value] if isinstance(value, list) else value

    return kept(json.loads((run / "summary.json").read_text()))


def assert_same(one: Path, other: Path) -> None:
    files = [{path.name for path in run.iterdir()} for run in (one, other)]
    assert files[0] == files[1]
    for file in sorted(name for name in files[0] if name.endswith(".parquet")):
        own = OWN.get(Path(file).stem, [])
        mine, theirs = (read_table(run / file) for run in (one, other))
        own = [name for name in own if name in mine.column_names]
        assert mine.drop(own).equals(theirs.drop(own)), file
    assert figures(one) == figures(other)


def test_a_killed_driver_s_run_is_resumed(tmp_path: Path) -> None:
    """By another process, to the same market, with a Ray that ended with it; only if unfinished."""
    one = simulated(tmp_path / "whole", "tiny", "--chain=none")
    run = killed(tmp_path / "killed", "rounds", 0, "tiny", "--chain=none", "--address=local")
    other = simulated(tmp_path / "resumed", "--resume", run, "--actors", "1")
    assert f"resumed after round {ROUND} of an earlier run" in notes(other)
    assert_same(one, other)
    for arguments, message in (
        (("--resume", other), "the run has come to its end"),
        (("tiny", "--resume", run), "a resumed run keeps its scenario"),
    ):
        refused = raygrid("simulate", *arguments)
        assert refused.returncode == 2
        assert message in refused.stderr


DAYS = (
    *("ai_tem", "--days", "2", "--periods", "8", "--actors", "2"),
    *("--set", "horizon.period_hours=0.25", "--set", "horizon.start=2016-06-16T11:00:00"),
)
"""Two days of two hours around noon, with learned forecasts and an intraday market."""
COMMUNITY = (
    *("community", "--agents=20", "--days=2", "--chain=none"),
    *("--set", "population.evs.share=0.4", "--set", "population.shiftable.share=0.4"),
    *("--set", "stages.forecast=perfect", "--set", "stages.intraday=none"),
)


def test_a_run_of_several_days_is_resumed_however_often_it_is_killed(tmp_path: Path) -> None:
    """In a day's clearing, between days, in the intraday market, and in the settlement of all."""
    whole = simulated(tmp_path / "whole", *DAYS)
    run = killed(tmp_path / "0", "rounds", 0, *DAYS)
    run = killed(tmp_path / "1", "border", 0, "--resume", run)
    run = killed(tmp_path / "2", "intraday", 1, "--resume", run, "--actors", "1")
    run = killed(tmp_path / "3", "settlement", 1, "--resume", run)
    assert {path.name for path in (run / "checkpoint").iterdir()} == {
        *("day-00000.json", "day-00000.parquet", "day-00001.bin"),
    }
    resumed = simulated(tmp_path / "4", "--resume", run)
    assert_same(whole, resumed)
    iterations = [day["clearing"]["iterations"] for day in figures(whole)["days"]]
    # Killed runs that came to no border leave no word.
    assert notes(resumed) == notes(whole) + [
        f"resumed after round {done} of day {day} of an earlier run"
        for day, done in enumerate(iterations)
    ]
    assert audit_stored(resumed).differences == ()


def test_batteries_and_evs_go_on_with_the_charge_that_a_killed_run_left(tmp_path: Path) -> None:
    """And only on as many days as that had."""
    whole = simulated(tmp_path / "whole", *COMMUNITY)
    run = killed(tmp_path / "killed", "rounds", 1, *COMMUNITY)
    scenario = run / "scenario.resolved.yaml"
    text = scenario.read_text()
    scenario.write_text(text.replace("days: 2", "days: 3"))
    refused = raygrid("simulate", "--resume", run)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "belongs to another scenario" in refused.stderr
    scenario.write_text(text)
    assert_same(whole, simulated(tmp_path / "resumed", "--resume", run, "--actors", "1"))
