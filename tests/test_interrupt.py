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


def interrupted(out, sign, times, *arguments):
    """Folder of a run that got two Ctrl-C once it had shown a sign so often, and what it said."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "raygrid", "simulate", *arguments, "--no-central",
         "--out", str(out)],
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
    (folder,) = (out / arguments[0]).iterdir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    return folder, shown[before:]


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
    # Ray ends with an escape that switches colours off.
    lines = [line.strip() for line in shown.replace(b"\x1b[0m", b"").splitlines()]
    assert [line for line in lines if line] == [b"raygrid: interrupted"]
    assert pq.read_table(folder / "schedule.parquet").num_rows > 0
    assert (folder / "intraday.parquet").exists() == (days > 0)
    assert not (folder / "batches.parquet").exists()
    left = interrupted_run(folder)
    assert len(left.days) == days
    assert len(left.rounds.records) > 10
