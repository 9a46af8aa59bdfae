"""What a benchmark leaves, and two of them side by side."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.results.benchmark import (
    BenchmarkStatus,
    Report,
    Spread,
    Target,
    cell,
    read,
    text,
)
from raygrid.results.benchmark_comparison import compare, comparison_text


def test_spread_is_median_and_range_and_keeps_all_samples() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3, (3.0, 1.0, 2.0))
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


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (0.00012345, "0.0001234"),
        (123456.7, "123457"),
        ("a", "a"),
        (Spread.of([1.0, 3.0]), "2 (1 to 3, n = 2)"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


@dataclass(frozen=True)
class Row:
    what: str
    time_s: Spread
    rounds: int
    a_sha256: str = "0" * 64


def report(**changes: object) -> Report:
    made = Report("nothing", "Measures\nnothing.", "raygrid benchmark nothing", {"n": 1})
    row = {"what": "x", "time_s": Spread.of([1.0, 3.0]), "rounds": 7, **changes}
    made.table("A table", ["what"]).add(Row(**row))  # type: ignore[arg-type]
    made.targets([Target("time [s]", 2.0, at_most=1)])
    return made


def test_a_report_leaves_json_and_markdown(tmp_path: Path) -> None:
    made = report()
    path = made.write(tmp_path / "new")
    assert [target.what for target in made.missed] == ["time [s]"]
    stored = read(path)
    assert stored["suite"] == "nothing"
    assert stored["status"] == "complete"
    assert stored["settings"] == {"n": 1}
    assert stored["machine"]["cpus"] >= 1
    assert stored["machine"]["memory_gib"] >= 1
    assert stored["versions"]["numpy"] == np.__version__
    table, targets = stored["tables"]
    assert table["keys"] == ["what"]
    (row,) = table["rows"]
    samples = [1.0, 3.0]
    assert row["time_s"] == {"median": 2, "lowest": 1, "highest": 3, "n": 2, "samples": samples}
    assert row["a_sha256"] == "0" * 64
    assert targets["rows"][0]["verdict"] == "miss"
    page = path.with_suffix(".md").read_text()
    assert "| x | 2 (1 to 3, n = 2) | 7 | 000000000000 |" in page
    assert "| time [s] | ≤ 1 | 2 | miss |" in page


def test_a_suite_that_ended_early_does_not_replace_a_complete_one(tmp_path: Path) -> None:
    whole = report().write(tmp_path)
    before = whole.read_text()
    part = report(rounds=1).write(tmp_path, BenchmarkStatus.INTERRUPTED)
    assert part.name == "nothing.partial.json"
    assert read(part)["status"] == "interrupted"
    assert "Not complete." in part.with_suffix(".md").read_text()
    assert whole.read_text() == before
    report().write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nothing.json", "nothing.md"]


def test_text_fits_the_terminal() -> None:
    document = report().document()
    wide, narrow = text(document, 200), text(document, 40)
    assert "x     2 (1 to 3, n = 2)       7  000000000000" in wide
    assert "time s    2 (1 to 3, n = 2)\nrounds    7" in narrow


def test_numbers_of_numpy_are_stored_as_numbers(tmp_path: Path) -> None:
    made = Report("nothing", "", "", {})
    made.table("A", ["n"], [{"n": np.int64(3), "x": np.float64("nan"), "inf": math.inf}])
    (row,) = read(made.write(tmp_path))["tables"][0]["rows"]
    assert row == {"n": 3, "x": None, "inf": None}


def test_progress_names_the_case() -> None:
    lines: list[str] = []
    made = Report("nothing", "", "", {}, lines.append)
    made.table("A", ["buses", "what"], [{"buses": 14, "what": "x", "seconds": 1.0}])
    assert lines == ["nothing: A: buses 14, what x"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "No such file"),
        ("{", "no JSON"),
        ("[]", "schema None where 1 is read"),
        ('{"schema_version": 99, "tables": []}', "schema 99 where 1 is read; measure it again"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: str | None, match: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=match):
        read(path)


def stored(**changes: object) -> dict[str, object]:
    return json.loads(json.dumps(report(**changes).document()))


def test_figures_stand_side_by_side_with_their_ratio() -> None:
    found = compare(stored(time_s=Spread.of([4.0, 6.0])), stored())
    (difference,) = found.differences
    assert (difference.table, difference.case) == ("A table", "what x")
    assert difference.figure == "time_s"
    assert difference.ratio == pytest.approx(2.5)
    assert difference.ranges == "apart"
    assert found.same == 2
    assert found.notes == ()
    shown = comparison_text(found)
    assert "2.5  apart" in shown
    assert "2 figures are the same in both." in shown


def test_ranges_that_touch_overlap() -> None:
    (difference,) = compare(stored(time_s=Spread.of([3.0, 6.0])), stored()).differences
    assert difference.ranges == "overlap"


def test_words_and_zeros_have_no_ratio() -> None:
    found = compare(stored(a_sha256="1" * 64, rounds=5), stored(rounds=0))
    assert [d.ratio for d in found.differences] == [None, None]
    assert [d.ranges for d in found.differences] == ["–", "–"]


def test_other_settings_versions_and_cases_are_noted() -> None:
    other = copy.deepcopy(stored(what="y"))
    other["versions"]["numpy"] = "1.0"  # type: ignore[index]
    other["settings"] = {"n": 2}
    found = compare(stored(), other)
    assert found.differences == ()
    assert found.notes[0] == f"versions: numpy {np.__version__} here, 1.0 there"
    assert "settings: n 1 here, 2 there" in found.notes
    assert "only in this: A table: what x" in found.notes
    assert "only in the other: A table: what y" in found.notes


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"suite": "other"}, "of another suite: nothing here, other there"),
        ({"machine": {"cpus": 1024}}, r"of another machine: .*cpus \d+ here, 1024 there"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        compare(stored(), {**stored(), **change})
