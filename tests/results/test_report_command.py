"""`raygrid report` as a user calls it."""

import pytest
from click.testing import CliRunner

from raygrid.cli import cli
from raygrid.errors import InputError


def test_report_names_the_page_it_wrote(make_run):
    path = make_run(n=5, n_buses=4)
    result = CliRunner().invoke(cli, ["report", str(path)])
    assert result.exit_code == 0
    assert result.output.strip() == str(path / "report.html")
    assert (path / "report.html").read_text().startswith("<!doctype html>")


def test_report_elsewhere(make_run, tmp_path):
    page = tmp_path / "page.html"
    result = CliRunner().invoke(cli, ["report", str(make_run(n=5, n_buses=4)), "--out", str(page)])
    assert result.exit_code == 0
    assert page.exists()


def test_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="name the folder of a raygrid run") as caught:
        CliRunner().invoke(cli, ["report", str(tmp_path)], catch_exceptions=False)
    assert caught.value.exit_code == 2
