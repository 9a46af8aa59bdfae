"""Raylets and drivers' machines that are killed by process id: the same market, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.benchmarks.deaths import Moment

ROOT = Path(__file__).resolve().parent.parent
CASES = "{operator_raylet: [within]}"
DRIVERS = "[final, writing]"
"""Within and between rounds a driver dies in test_resume, and a worker's raylet in test_nodes."""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """One run of the benchmark, with one cluster for all deaths; prices of 24 are not unique."""
    out = tmp_path_factory.mktemp("recovery")
    settings = (f"cases={CASES}", f"drivers={DRIVERS}", "agents=24", "repeats=1")
    done = subprocess.run(
        [
            sys.executable, "-m", "raygrid", "benchmark", "recovery", "--out", out,
            *(word for setting in settings for word in ("--set", setting)),
        ],
        capture_output=True, text=True, check=False, timeout=500, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr[-4000:]
    document = json.loads((out / "recovery.json").read_text())
    assert document["status"] == "complete"
    return {table["title"]: table["rows"] for table in document["tables"]}


def test_the_market_is_the_same_after_a_raylet_is_killed(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    rows = tables["Deaths during a clearing"]
    assert [row["victim"] for row in rows] == ["operator_raylet"]
    for row in rows:
        assert row["same_bits"], row
        assert row["extra_rounds"]["highest"] == 0, row
        assert row["mended"]["lowest"] >= 1, row


def test_a_run_is_resumed_whose_driver_s_machine_is_gone(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    rows = {
        Moment(row["moment"]): row
        for row in tables["Drivers killed with their machines, and resumed"]
    }
    assert set(rows) == {Moment.FINAL, Moment.WRITING}
    for row in rows.values():
        assert row["same_bits"], row
        assert row["extra_rounds"] == 0, row
    assert rows[Moment.FINAL]["rounds_kept"] == rows[Moment.WRITING]["rounds_kept"] > 5
