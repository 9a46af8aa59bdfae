"""The statement of one participant."""

import re

import pytest
from click.testing import CliRunner

from raygrid.cli import cli
from raygrid.errors import InputError
from raygrid.results.reader import RunReader
from raygrid.results.statement import statement_text


@pytest.fixture
def run(make_run):
    return RunReader(make_run(settled=True))


def test_statement_adds_up(run):
    who = 9
    text = statement_text(run, who)
    trades = [
        row
        for row in run.read_table("trades").to_pylist()
        if who in (row["seller_id"], row["buyer_id"])
    ]
    lines = re.findall(r"^ *\d+ .*(?:sold|bought) .*(?:settled|rejected: meter)$", text, flags=re.M)
    assert len(lines) == len(trades) > 0
    earned = sum(row["value_micro"] for row in trades if row["status"] == "settled")
    assert f"earned {earned / 1e6:.6f} $" in text
    assert "Statement of prosumer 9" in text


def test_a_meter_that_voids_trades_is_told(run):
    text = statement_text(run, 3)
    assert text.count("report of another day (no reading, traded") == 24
    assert "sold       0.000 kWh, earned 0.000000 $" in text


def test_the_grid_has_one_too(run):
    assert "Statement of the grid connection" in statement_text(run, 0)


def test_strangers_and_unsettled_runs_are_refused(run, make_run):
    with pytest.raises(InputError, match="no participant 99"):
        statement_text(run, 99)
    with pytest.raises(InputError, match="was not settled"):
        statement_text(RunReader(make_run()), 1)


def test_the_command_prints_it(run):
    got = CliRunner().invoke(cli, ["report", str(run.path), "--statement", "9"])
    assert got.exit_code == 0
    assert got.output.strip() == statement_text(run, 9)
    assert not (run.path / "report.html").exists()
