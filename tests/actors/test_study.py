"""Studies on Ray: failures kept apart, an interruption, and going on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.cluster import Cluster, ClusterOptions
from actors.study import StudyOptions, run_study
from raygrid.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

STUDY = """
name: pair
scenarios: [tiny]
settings: {results.powerflow: false}
axes:
  actors: [1, 9]
  seed: [1]
central: false
"""


def options(folder: Path, text: str) -> StudyOptions:
    path = folder / "study.yaml"
    path.write_text(text)
    return StudyOptions(path, folder / "out", "raygrid study study.yaml")


@pytest.mark.ray
@pytest.mark.slow
def test_a_failure_stays_alone_and_is_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    told: list[str] = []
    asked = options(tmp_path, STUDY)
    result = run_study(asked, told.append)
    assert [record.status for record in result.records] == ["ok", "failed"]
    assert "9 actors for 6 prosumers" in result.records[1].reason
    assert not result.ok
    summary = result.records[0].summary
    assert summary is not None
    assert summary["memory"]["driver_peak_bytes"] > 50e6
    assert summary["memory"]["actors_peak_bytes"] > 50e6
    table = pq.read_table(result.path / "study.parquet")
    assert table["axis.actors"].to_pylist() == [1]
    before = {p: p.stat().st_mtime_ns for p in result.path.glob("runs/*/*/manifest.json")}

    # Now the one that failed can be done, and another one with it.
    again = options(tmp_path, STUDY.replace("[1, 9]", "[1, 2]") + "concurrency: 2\n")
    result = run_study(again, told.append)
    assert result.kept == 1
    assert result.ok
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert pq.read_table(result.path / "study.parquet").num_rows == 2
    assert json.loads((result.path / "failures.json").read_text()) == []
    welfare = {r.summary["clearing"]["welfare"] for r in result.records if r.summary}
    assert len(welfare) == 1, "every placement gives the same bits"
    third = run_study(again, told.append)
    assert third.kept == 2


@pytest.mark.ray
@pytest.mark.slow
def test_more_cpus_than_there_are(cluster: Cluster, tmp_path: Path) -> None:
    text = "name: wide\nscenarios: [tiny]\naxes: {cpus: [1, 999]}\n"
    with pytest.raises(InputError, match=r"wide: tiny cpus=999: the cluster has \d+ CPUs; ask"):
        run_study(options(tmp_path, text))
    assert not list((tmp_path / "out").glob("wide/runs/*/*"))


ENDLESS = """
name: long
scenarios: [tiny]
settings: {results.powerflow: false, market.max_iterations: 9000000}
points:
- {actors: 1}
- {actors: 2, market.absolute_tolerance: 1.0e-15, market.relative_tolerance: 1.0e-15}
central: false
"""


@pytest.mark.ray
@pytest.mark.slow
def test_an_interrupted_study_keeps_what_it_had(tmp_path: Path) -> None:
    asked = options(tmp_path, ENDLESS)
    run = subprocess.Popen(
        [sys.executable, "-m", "raygrid", "study", str(asked.file), "--out", str(asked.out)],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.stderr is not None
    assert "[1/2] tiny actors=1: converged" in run.stderr.readline()
    deadline = time.monotonic() + 60
    folder = asked.out / "long"
    while len(list(folder.glob("runs/tiny/*/manifest.json"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, shown = run.communicate(timeout=60)
    assert run.returncode == 130, shown
    assert "Traceback" not in shown
    assert pq.read_table(folder / "study.parquet").num_rows == 1
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    statuses = [json.loads(p.read_text())["status"]
                for p in folder.glob("runs/tiny/*/manifest.json")]  # fmt: skip
    assert sorted(statuses) == ["interrupted", "ok"]


def test_what_is_wrong_is_said_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ray(_: ClusterOptions) -> Cluster:
        raise AssertionError("Ray was started on wrong input")

    monkeypatch.setattr("actors.study.connect", no_ray)
    with pytest.raises(InputError, match="unknown axis; did you mean 'agents'"):
        run_study(options(tmp_path, "name: a\naxes: {agent: [1]}\n"))
    assert not (tmp_path / "out").exists()
