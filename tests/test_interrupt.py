"""Ctrl-C in a terminal while a run goes on: a clean end, and what there is so far."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.borders import interrupted_run

ROOT = Path(__file__).resolve().parent.parent
ENDLESS = [
    *("--set", "market.absolute_tolerance=1e-13", "--set", "market.relative_tolerance=1e-13"),
    *("--set", "market.max_iterations=1000000"),
]
DAYS = ["ai_tem", "--days", "2", "--periods", "48", "--set", "horizon.period_hours=0.25"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


SECOND_AFTER_S = 0.5
"""Within Ray's shutdown, which takes some seconds [s]."""


def stopped(sign, times, *arguments):
    """What a command said after two Ctrl-C, which it got once it had shown a sign so often."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "raygrid", *arguments],
        cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while shown.count(sign) < times:
            shown += terminal.read(4096)
        os.killpg(run.pid, signal.SIGINT)
        before = len(shown)
        time.sleep(SECOND_AFTER_S)
        os.killpg(run.pid, signal.SIGINT)
        try:
            while more := terminal.read(4096):
                shown += more
        except OSError:  # the other end is closed
            pass
    # A crash at the interpreter's end would show as a signal here.
    assert run.wait(timeout=60) == 130
    assert b"Traceback" not in shown
    return shown[before:]


def lines_of(shown):
    """What can be read of it; Ray ends with an escape that switches colours off."""
    lines = [line.strip() for line in shown.replace(b"\x1b[0m", b"").splitlines()]
    return [line for line in lines if line]


def interrupted(out, sign, times, *arguments):
    """Folder of a run that was `stopped`, and what it said."""
    shown = stopped(sign, times, "simulate", *arguments, "--no-central", "--out", str(out))
    (folder,) = (out / arguments[0]).iterdir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    return folder, shown


def test_interrupted_clearing(tmp_path):
    folder, shown = interrupted(tmp_path, b"iteration", 3, "tiny", "--actors", "2", *ENDLESS)
    assert b"raygrid: interrupted" in shown
    assert pq.read_table(folder / "convergence.parquet").num_rows > 0


@pytest.mark.parametrize(
    ("sign", "days"), [(b"day 0: trading what was not as forecast", 0), (b"settling on", 1)]
)
def test_interrupted_stages_after_the_clearing(tmp_path, sign, days):
    """One line, and everything that takes to go on: the day's rounds, and the days before it."""
    folder, shown = interrupted(tmp_path, sign, 1, *DAYS)
    assert lines_of(shown) == [b"raygrid: interrupted"]
    assert pq.read_table(folder / "schedule.parquet").num_rows > 0
    assert (folder / "intraday.parquet").exists() == (days > 0)
    assert not (folder / "batches.parquet").exists()
    left = interrupted_run(folder)
    assert len(left.days) == days
    assert len(left.rounds.records) > 10


def test_interrupted_trainings_of_several_seeds_go_on(tmp_path):
    """With the weights of trainings that nothing broke off."""
    pytest.importorskip("torch", reason="needs the extra 'learn'")
    small = (
        "history.train_days=2", "history.validation_days=1", "history.test_days=1",
        "intraday={bidders: {copies: 2, hidden: 8, replay: 300, batch: 16}}",
    )  # fmt: skip
    training = [
        *("train", "dqn", "ai_tem", "--agents", "5", "--shared", "--no-plan"),
        *("--device", "cpu", "--episodes", "400", "--seeds", "1,2"),
        *(word for text in small for word in ("--set", text)),
    ]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    shown = stopped(b"left", 3, *training, "--actors", "2", "--out", str(broken))
    assert lines_of(shown)[-1] == b"raygrid: interrupted"
    for more in (["--resume", "--actors", "2", "--out", str(broken)], ["--out", str(whole)]):
        subprocess.run(
            [sys.executable, "-m", "raygrid", *training, *more],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
    for seed in (1, 2):
        one, other = (
            (folder / "ai_tem" / f"dqn-shared-{seed}" / "weights.npz").read_bytes()
            for folder in (broken, whole)
        )
        assert one == other
