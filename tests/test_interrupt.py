"""Ctrl-C in a terminal while a market clears: a clean end, and what there is so far."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
ENDLESS = [
    *("--set", "market.absolute_tolerance=1e-13", "--set", "market.relative_tolerance=1e-13"),
    *("--set", "market.max_iterations=1000000"),
]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_interrupted_clearing(tmp_path):
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "raygrid", "simulate", "tiny", "--actors", "2",
         "--out", str(tmp_path), *ENDLESS],
        cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while shown.count(b"iteration") < 3:
            shown += terminal.read(4096)
        os.killpg(run.pid, signal.SIGINT)
        try:
            while more := terminal.read(4096):
                shown += more
        except OSError:  # the other end is closed
            pass
    # A crash at the interpreter's end would show as a signal here.
    assert run.wait(timeout=60) == 130
    assert b"raygrid: interrupted" in shown
    assert b"Traceback" not in shown
    (folder,) = (tmp_path / "tiny").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    assert pq.read_table(folder / "convergence.parquet").num_rows > 0
