"""`raygrid submit` and `raygrid jobs` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from raygrid import cli
from raygrid.commands.jobs import command_line

SIMULATE = cli.cli.commands["simulate"]


@pytest.mark.parametrize(
    "words",
    [
        ("tiny",),
        ("tiny", "--agents", "5", "--quiet"),
        ("tiny", "--actors", "each", "--no-central", "--set", "a.b=1", "--set", "c=x y"),
    ],
)
def test_a_command_line_comes_back(words: tuple[str, ...]) -> None:
    context = SIMULATE.make_context("simulate", list(words))
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name).name == "COMMANDLINE"
    }
    again = SIMULATE.make_context("simulate", list(command_line(SIMULATE, given)))
    assert again.params == context.params


class Stub:
    """A cluster that takes a job down."""

    address = "http://head:8265"
    asked: Any = None
    files: dict[str, str] | None = None

    def __init__(self, address: str) -> None:
        assert address == self.address

    def submit(self, request: Any, folder: Path | None) -> Any:
        from actors.jobs import Job

        Stub.asked = request
        Stub.files = None
        if folder is not None:
            paths = [p for p in folder.rglob("*") if p.is_file()]
            Stub.files = {str(p.relative_to(folder)): p.read_text() for p in paths}
        return Job("tiny-1", "PENDING", request.what, "/x", None, None, None, "")


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("actors.jobs.JobsClient", Stub)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["raygrid", "submit", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        assert caught.value.code == code, shown.err
        return shown.out if code == 0 else shown.err

    return run


def test_a_shipped_scenario_goes_as_it_is_written(submit: Any) -> None:
    out = submit("--agents", "7", "community", "--address", Stub.address, "--set", "market.rho=1")
    assert out == "tiny-1\n"
    assert Stub.asked.arguments == (
        "simulate", "community", "--agents", "7", "--set", "market.rho=1",
    )  # fmt: skip
    assert Stub.asked.out is None
    assert Stub.files is None


def test_a_file_goes_with_its_data_and_settings(submit: Any, tmp_path: Path) -> None:
    import shutil

    from raygrid.files import scenario_path

    own = shutil.copytree(Path(scenario_path("tiny")).parent, tmp_path / "own")
    submit(str(own), "--address", Stub.address, "--set", "market.rho=0.25", "--actors", "2",
           "--out", "/shared/runs")  # fmt: skip
    assert Stub.asked.arguments == ("simulate", "scenario.yaml", "--actors", "2")
    assert Stub.asked.out == "/shared/runs"
    assert "rho: 0.25" in Stub.files["scenario.yaml"]
    assert len(Stub.files) == 1 + sum(path.suffix == ".csv" for path in own.iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tiny"], "Missing option '--address'; see 'raygrid submit --help'"),
        (["tiny", "--frob"], "No such option '--frob'; see 'raygrid simulate --help'"),
        (["tinny"], "did you mean 'tiny'?"),
        (["tiny", "--set", "market.rh=1"], "market.rh: unknown key; did you mean 'rho'?"),
        (["tiny", "--out", "runs"], "--out runs: a job has no folder of its own on the cluster"),
        (["tiny", "more"], "Got unexpected extra argument"),
    ],
)
def test_what_is_refused_before_anything_is_sent(submit: Any, words: list[str], line: str) -> None:
    address = [] if "Missing" in line else ["--address", Stub.address]
    assert line in submit(*words, *address, code=2)
