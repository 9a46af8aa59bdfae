"""The thesis' tables beside ours, without clearing anything."""

import json

import pyarrow.parquet as pq
import pytest

from raygrid.results import reproduce
from raygrid.results.printed import PRINTED, RHO_SWEEP, Method, Quantity
from raygrid.results.reproduce import MeasuredCase, MethodRecord, reproduce_thesis
from raygrid.results.tables import (
    COLUMNS,
    compare,
    comparison_rows,
    comparison_table,
    markdown_table,
    text_table,
)


def printed(table, scenario, method, limited, quantity):
    key = (table, scenario, method, limited, quantity)
    found = [
        c for c in PRINTED
        if (c.table, c.scenario, c.method, c.network_constrained, c.quantity) == key
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


def as_the_thesis(scenario, *, network_constrained, rho, central):
    """A measurement that finds just what Table 6.6 prints."""

    def record(method):
        def value(quantity):
            return printed("6.6", scenario, method, network_constrained, quantity).value

        admm = method is Method.ADMM
        return MethodRecord(
            status="converged" if admm else "optimal",
            welfare=value(Quantity.WELFARE),
            seconds=value(Quantity.SECONDS),
            max_line_utilisation=value(Quantity.MAX_UTILISATION) / 100,
            lines_above_80=1,
            lines=20,
            line_violations=0 if network_constrained else 9,
            iterations=int(value(Quantity.ITERATIONS)) if admm else None,
            primal_residual=1e-3 * rho if admm else None,
            dual_residual=1e-3 / rho if admm else None,
        )

    return MeasuredCase(record(Method.ADMM), record(Method.CENTRAL) if central else None)


def test_printed_cells_are_those_of_the_thesis():
    assert len(PRINTED) == 12 + 2 + 6 + 28 + 12 + 12
    assert printed("6.4", "ieee33", Method.ADMM, True, Quantity.ITERATIONS).value == 49
    assert printed("6.5", "ieee14", Method.ADMM, True, Quantity.RELATIVE_GAP).value == 0.0187
    assert printed("6.6", "ieee33", Method.CENTRAL, False, Quantity.MAX_UTILISATION).value == 646
    assert printed("6.7", "ieee14", Method.CENTRAL, False, Quantity.MAX_UTILISATION).value == 211
    assert printed("6.7", "ieee14", Method.ADMM, True, Quantity.VIOLATIONS).value is None
    assert (
        printed("6.9", "ieee14", Method.ADMM, True, Quantity.TIMES_CENTRAL_LIMITED).value == 250.3
    )


def test_printed_tables_agree_with_each_other():
    """Table 6.4 repeats in 6.6, and 6.9's ratios follow from its times."""
    for cell in PRINTED:
        if cell.table == "6.4" and cell.value is not None:
            again = printed(
                "6.6", cell.scenario, cell.method, cell.network_constrained, cell.quantity
            )
            assert cell.value == again.value
        if cell.table == "6.9" and cell.quantity is not Quantity.SECONDS:
            limited = cell.quantity is Quantity.TIMES_CENTRAL_LIMITED
            time = printed("6.9", "ieee14", cell.method, cell.network_constrained, Quantity.SECONDS)
            base = printed("6.9", "ieee14", Method.CENTRAL, limited, Quantity.SECONDS)
            assert cell.value == pytest.approx(time.value / base.value, rel=5e-3)


def test_a_perfect_reproduction_differs_nowhere(tmp_path):
    done = reproduce_thesis(as_the_thesis, tmp_path, "raygrid reproduce thesis")
    assert done.converged
    compared = [c for c in done.comparisons if c.difference is not None]
    assert len(compared) > 60
    for c in compared:
        if c.printed.quantity is Quantity.HEAVY_LINES or c.printed.table == "6.5":
            continue
        assert abs(c.difference) <= 0.01 * abs(c.printed.value), c


def test_measured_gap_and_ratios():
    cases = {
        ("ieee14", limited): as_the_thesis(
            "ieee14", network_constrained=limited, rho=0.1, central=True
        )
        for limited in (False, True)
    }
    values = reproduce.measured_values(cases)
    admm = ("ieee14", Method.ADMM, False)
    assert values[(*admm, Quantity.ABSOLUTE_GAP)] == pytest.approx(0.01, abs=1e-12)
    assert values[(*admm, Quantity.RELATIVE_GAP)] == pytest.approx(100 * 0.01 / 14.11, rel=1e-9)
    assert values[(*admm, Quantity.TIMES_CENTRAL_LIMITED)] == pytest.approx(72.96 / 0.892, rel=1e-9)
    assert values[(*admm, Quantity.VIOLATIONS)] == "9 line-hours"
    assert ("ieee14", Method.CENTRAL, True, Quantity.ITERATIONS) not in values


def test_reproduction_is_stored_with_manifest_and_command(tmp_path):
    done = reproduce_thesis(as_the_thesis, tmp_path, "raygrid reproduce thesis")
    manifest = json.loads((done.path / "manifest.json").read_text())
    assert manifest["status"] == "ok"
    assert manifest["command"] == "raygrid reproduce thesis"
    assert manifest["notes"] == ["reconstructed data"]
    assert set(manifest["files"]) == {
        "comparison.csv", "comparison.parquet", "rho_sweep.csv", "rho_sweep.parquet",
        "rho_sweep.svg", "tables.md",
    }  # fmt: skip
    assert pq.read_table(done.path / "comparison.parquet").num_rows == len(PRINTED)
    sweep = pq.read_table(done.path / "rho_sweep.parquet")
    assert sweep["rho"].to_pylist() == list(RHO_SWEEP)
    svg = (done.path / "rho_sweep.svg").read_text()
    assert svg.count("<circle") == len(RHO_SWEEP)
    page = (done.path / "tables.md").read_text()
    for number in ("6.4", "6.5", "6.6", "6.7", "6.9"):
        assert f"## Table {number}: " in page
    assert "Figure 6.5" in page


def test_iterations_and_times_are_labelled():
    rows = comparison_table(compare({})).to_pylist()
    for row in rows:
        labelled = row["remark"].startswith("reconstructed data")
        is_time = row["quantity"] in ("iterations", "seconds") or "times_" in row["quantity"]
        assert labelled == is_time, row


def test_what_was_not_measured_stays_open():
    assert all(c.ours is None and c.text == "–" for c in compare({}))


def test_a_clearing_that_did_not_converge_ends_the_reproduction_short(tmp_path):
    def slow(scenario, **options):
        case = as_the_thesis(scenario, **options)
        if options["rho"] < 5:
            return case
        failed = MethodRecord(**{**vars(case.admm), "status": "iteration_limit"})
        return MeasuredCase(failed, case.central)

    done = reproduce_thesis(slow, tmp_path, "raygrid reproduce thesis")
    assert not done.converged
    manifest = json.loads((done.path / "manifest.json").read_text())
    assert manifest["status"] == "ended_short"


def test_cases_are_named_once_and_tables_align():
    rows = comparison_rows([c for c in compare({}) if c.printed.table == "6.4"])
    assert [row[0] for row in rows[:4]] == [
        "ieee14, ADMM, no limits",
        "",
        "",
        "ieee14, ADMM, with limits",
    ]
    lines = text_table(COLUMNS, rows).splitlines()
    assert len(lines) == 2 + 12
    assert lines[1].startswith("---")
    assert markdown_table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |"


def test_the_terminal_shows_all_tables(tmp_path):
    done = reproduce_thesis(as_the_thesis, tmp_path, "x", rhos=(0.1, 1.0))
    text = reproduce.text(done.comparisons, done.sweep)
    for number in ("6.4", "6.5", "6.6", "6.7", "6.9"):
        assert f"Table {number}: " in text
    assert len(done.sweep) == 2
