"""What benchmarks share; their figures are no test."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.common import Clock, Report, Spread, Target, cell, printed, repeat
from raygrid.results.printed import Quantity

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if path.stem not in ("__init__", "common")
)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_is_a_command_and_in_the_makefile(name: str) -> None:
    pytest.importorskip("osqp")
    module = importlib.import_module(f"benchmarks.{name}")
    assert CliRunner().invoke(module.main, ["--help"]).exit_code == 0
    assert f"benchmarks.{name}" in module.__doc__
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    (listed,) = (line for line in lines if line.startswith("BENCHMARKS"))
    assert name in listed.split()


def test_spread_is_median_and_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert str(Spread.of([0.25])) == "0.25"
    assert str(Spread.of([1.0, 2.0])) == "1.5 (1 to 2, n = 2)"


def test_a_target_is_met_at_its_bound_and_never_without_a_figure() -> None:
    assert Target("a", 0.3, at_most=0.3).met
    assert not Target("a", 0.31, at_most=0.3).met
    assert Target("a", 50.0, at_least=50).met
    assert not Target("a", 49.9, at_least=50).met
    assert not Target("a", math.nan, at_most=1).met
    assert not Target("a", math.nan, at_least=1).met
    assert Target("a", 2, at_most=1).row()["verdict"] == "miss"


def test_printed_figures_are_those_of_admm() -> None:
    assert printed("ieee14", True, Quantity.ITERATIONS) == 119
    assert printed("ieee33", False, Quantity.SECONDS) == 91.674
    assert printed("ieee33", True, Quantity.RELATIVE_GAP) is None


def test_what_is_unmeasured_is_thrown_away() -> None:
    counter = iter(range(10))
    assert repeat(2, lambda: next(counter)) == [1, 2]
    assert repeat(2, lambda: next(counter), unmeasured=0) == [3, 4]


def test_a_clock_leaves_out_the_first_two_rounds() -> None:
    clock = Clock()
    for _ in range(4):
        clock(None)
    assert len(clock.rounds_ms) == 2
    assert clock.round_ms.n == 2


def test_a_report_leaves_json_and_markdown(tmp_path: Path) -> None:
    report = Report("nothing", "Measures\nnothing.")
    report.table("A table", [{"what": "x", "time_s": Spread.of([1.0, 3.0]), "a_sha256": "0" * 64}])
    report.targets([Target("time [s]", 2.0, at_most=1)])
    report.write(tmp_path / "new")
    stored = json.loads((tmp_path / "new" / "nothing.json").read_text())
    assert stored["command"].startswith("python -m benchmarks.nothing")
    assert stored["machine"]["cpus"] >= 1
    assert stored["versions"]["numpy"]
    (row,) = stored["tables"]["A table"]
    assert row["time_s"] == {"median": 2.0, "lowest": 1.0, "highest": 3.0, "n": 2}
    assert row["a_sha256"] == "0" * 64
    page = (tmp_path / "new" / "nothing.md").read_text()
    assert "| x | 2 (1 to 3, n = 2) | 000000000000 |" in page
    assert "| time [s] | ≤ 1 | 2 | miss |" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (0.00012345, "0.0001234"), (123456.7, "123457"), ("a", "a")],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text
