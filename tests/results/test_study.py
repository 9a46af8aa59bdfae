"""A study's table, scaling and report, from records written by hand."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raygrid.errors import InputError
from raygrid.results.files import RunStatus
from raygrid.results.study import (
    StudyRecord,
    failures,
    fit_power_law,
    group_runs,
    size_series,
    strong_scaling,
    study_table,
    weak_scaling,
)
from raygrid.results.study_folder import StudyFolder

GIB = 1024**3


def record(
    agents: int, cpus: int, seconds: float, seed: int = 1, iterations: int = 30, **values: Any
) -> StudyRecord:
    summary = {
        "status": "ok", "prosumers": agents, "periods": 24, "buses": 33, "lines": 32,
        "actors": cpus, "central": None,
        "clearing": {"status": "converged", "iterations": iterations, "welfare": 1.5,
                     "line_violations": 0, "seconds": seconds},
        "seconds": {"build": 0.1, "clear": seconds, "total": seconds + 1, "ray_start": 0.0},
        "memory": {"driver_peak_bytes": GIB // 2, "actors_peak_bytes": agents * 1024},
    }  # fmt: skip
    axes = {"agents": agents, "cpus": cpus, "seed": seed, **values}
    return StudyRecord(
        f"{agents}-{cpus}-{seed}-{json.dumps(values)}", "community", axes, 0, "ok", "", cpus, 1,
        f"runs/community/{agents}-{cpus}-{seed}", seconds + 2, summary,
    )  # fmt: skip


def with_market(run: StudyRecord, cost: float) -> StudyRecord:
    sections = {
        "intraday": {"cost": cost, "grid_import_kwh": 20.0, "grid_export_kwh": 1.5,
                     "curtailed_kwh": 3.0, "day_ahead_kwh": 7.0, "traded_kwh": 2.0,
                     "failed_kwh": 0.25},
        "powerflow": {"overloads": 4, "voltage_violations": 0},
        "settlement": {"settled": 31},
    }  # fmt: skip
    return replace(run, summary={**(run.summary or {}), **sections})


def failed(reason: str = "out of memory") -> StudyRecord:
    run = record(10**6, 1, 1.0)
    return replace(run, status="failed", reason=reason, summary=None, run=None)


GRID = [
    record(agents, cpus, 1e-3 * agents / cpus**0.9, seed, iterations=29 + seed)
    for agents in (1000, 2000, 4000)
    for cpus in (1, 2, 4)
    for seed in (1, 2, 3)
]


def test_the_exponent_of_an_exact_law() -> None:
    sizes = np.array([1e3, 1e4, 1e5, 1e6])
    law = fit_power_law(sizes.tolist(), (3e-4 * sizes**1.07).tolist())
    assert law is not None
    assert law.exponent == pytest.approx(1.07, rel=1e-12)
    assert law.factor == pytest.approx(3e-4, rel=1e-9)
    assert law.r_squared == pytest.approx(1.0)
    assert law.error == pytest.approx(0.0, abs=1e-9)


def test_the_error_of_the_exponent_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    sizes = np.geomspace(1e3, 1e6, 12)
    seconds = 1e-4 * sizes * np.exp(rng.normal(0, 0.1, 12))
    law = fit_power_law(sizes.tolist(), seconds.tolist())
    coefficients, covariance = np.polyfit(np.log(sizes), np.log(seconds), 1, cov=True)
    assert law is not None
    assert law.exponent == pytest.approx(coefficients[0], rel=1e-9)
    assert law.error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-9)


def test_two_sizes_have_no_error_and_one_has_no_law() -> None:
    law = fit_power_law([1e3, 1e4], [1.0, 10.0])
    assert law is not None
    assert law.exponent == pytest.approx(1.0)
    assert math.isnan(law.error)
    assert fit_power_law([1e3, 1e3], [1.0, 2.0]) is None


def test_medians_and_worst_over_seeds() -> None:
    groups = group_runs(
        [record(100, 1, s, seed, iterations=i) for seed, s, i in ((1, 3.0, 9), (2, 1.0, 7),
                                                                  (3, 2.0, 20))]
    )  # fmt: skip
    (group,) = groups
    assert (group.runs, group.converged) == (3, 3)
    assert group.clear_seconds == 2.0
    assert (group.least_seconds, group.most_seconds) == (1.0, 3.0)
    assert (group.iterations, group.most_iterations) == (9, 20)
    assert group.memory_bytes == GIB // 2 + 100 * 1024


def test_strong_scaling() -> None:
    series = strong_scaling(group_runs(GRID))
    assert len(series) == 3
    for one in series:
        assert [point.cpus for point in one.points] == [1, 2, 4]
        assert one.points[2].speedup == pytest.approx(4**0.9)
        assert one.points[2].efficiency == pytest.approx(4**-0.1)


def test_weak_scaling() -> None:
    by_load = {one.name: one for one in weak_scaling(group_runs(GRID))}
    one = by_load["community, 1000 prosumers per CPU"]
    assert [(point.cpus, point.prosumers) for point in one.points] == [
        (1, 1000), (2, 2000), (4, 4000),
    ]  # fmt: skip
    assert one.points[1].efficiency == pytest.approx(2**-0.1)
    assert one.points[1].speedup == pytest.approx(2**0.9)


def test_other_axes_make_other_series() -> None:
    records = [record(n, 1, n / 1e3, **{"market.rho": rho}) for n in (10, 20) for rho in (0.1, 1.0)]
    assert [name for name, _ in size_series(group_runs(records))] == [
        "community, market.rho 0.1", "community, market.rho 1.0",
    ]  # fmt: skip


def test_one_actor_per_cpu_is_no_other_series() -> None:
    records = [record(100, cpus, 1 / cpus, actors=str(cpus)) for cpus in (1, 2)]
    assert len(strong_scaling(group_runs(records))) == 1


def test_the_table_has_finished_runs_and_typed_axes() -> None:
    table = study_table(
        [record(10, 1, 0.5, **{"market.rho": 1}), record(20, 1, 0.5, **{"market.rho": 0.5}),
         failed()]
    )  # fmt: skip
    assert table.num_rows == 2
    assert table["axis.market.rho"].to_pylist() == [1.0, 0.5]
    assert table["axis.agents"].to_pylist() == [10, 20]
    assert table["memory_bytes"].to_pylist() == [GIB // 2 + 10 * 1024, GIB // 2 + 20 * 1024]
    mixed = study_table([record(10, 1, 0.5, actors="auto"), record(10, 1, 0.5, actors=2)])
    assert mixed["axis.actors"].to_pylist() == ["auto", "2"]
    assert failures([record(10, 1, 0.5), failed()])[0]["reason"] == "out of memory"
    assert study_table([]).num_rows == 0


FACTS = {"description": "How <it> scales.", "command": "raygrid study s.yaml", "cluster": {}}


def test_the_folder_keeps_records_table_and_report(tmp_path: Path) -> None:
    records = [*GRID, failed("<b>bang</b>")]
    with StudyFolder(tmp_path, "s", FACTS) as folder:
        for one in records:
            folder.add(one)
            if one.run is not None:
                (folder.path / one.run).mkdir(parents=True)
                (folder.path / one.run / "manifest.json").write_text("{}")
        folder.finish(RunStatus.ENDED_SHORT, records, len(records) + 2, "name: s\n")
    assert pq.read_table(folder.path / "study.parquet").num_rows == len(GRID)
    told = json.loads((folder.path / "failures.json").read_text())
    assert [one["reason"] for one in told] == ["<b>bang</b>"]
    manifest = json.loads((folder.path / "manifest.json").read_text())
    assert (manifest["status"], manifest["done"], manifest["failed"]) == ("ended_short", 27, 1)
    page = (folder.path / "report.html").read_text()
    assert "<b>bang</b>" not in page
    assert "&lt;b&gt;bang" in page
    assert "exponent 1.00" in page
    assert "1 run failed; the others stand; 2 runs to go" in page
    for figure in ("time", "strong", "weak", "iterations", "memory"):
        assert re.search(rf'id="fig-{figure}".*?<svg', page, re.DOTALL)
    assert not re.search(r'(src|href)="http', page)


def test_what_was_done_is_known_again(tmp_path: Path) -> None:
    done, gone, bad = GRID[0], GRID[1], failed()
    with StudyFolder(tmp_path, "s", FACTS) as folder:
        for one in (done, gone, bad):
            folder.add(one)
        assert done.run is not None
        (folder.path / done.run).mkdir(parents=True)
        (folder.path / done.run / "manifest.json").write_text("{}")
        (folder.path / "records" / "torn.json").write_text('{"key": "to')
    with StudyFolder(tmp_path, "s", FACTS) as folder:
        found = folder.records([done.key, gone.key, bad.key, "torn", "new"])
    assert found == {done.key: done}


def test_two_at_work_in_one_folder(tmp_path: Path) -> None:
    with (
        StudyFolder(tmp_path, "s", FACTS),
        pytest.raises(InputError, match="another process runs this study; wait"),
    ):
        StudyFolder(tmp_path, "s", FACTS)
    StudyFolder(tmp_path, "s", FACTS).close()


def test_a_study_without_results_has_a_report(tmp_path: Path) -> None:
    with StudyFolder(tmp_path, "s", FACTS) as folder:
        folder.finish(RunStatus.INTERRUPTED, [], 4, "name: s\n")
    page = (folder.path / "report.html").read_text()
    assert "4 runs to go" in page
    assert "No two sizes of the same community to compare." in page


def test_markets_side_by_side(tmp_path: Path) -> None:
    """What a market came to stands in the table and the report; empty where there was none."""
    rule = {"stages.intraday": "rule"}
    runs = [with_market(record(100, 1, 1.0, **rule), 12.5), record(100, 1, 1.0)]
    rows = study_table(runs).to_pylist()
    assert [row["cost"] for row in rows] == [12.5, None]
    assert [row["settled_trades"] for row in rows] == [31, None]
    assert (rows[0]["overloads"], rows[0]["failed_kwh"]) == (4, 0.25)

    def report(name: str, some: list[StudyRecord]) -> str:
        with StudyFolder(tmp_path, name, FACTS) as folder:
            folder.finish(RunStatus.OK, some, len(some), f"name: {name}\n")
        return (folder.path / "report.html").read_text()

    page = report("both", runs)
    table = page[page.index("What the markets came to") :]
    table = table[: table.index("</table>")]
    assert "12.5" in table
    assert table.count("<tr>") == 2
    assert "What the markets came to" not in report("one", runs[1:])
