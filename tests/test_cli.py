"""The command line: exit codes, one-line errors, the scenario commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from raygrid import __version__, cli
from raygrid.errors import EndedShortError, ExitCode, InputError


@pytest.fixture(autouse=True)
def own_signals():
    """A command that ends takes no more interrupts; the tests' own process does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["raygrid", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (
            InputError("x is\nwrong", "file:key", "mend it"),
            2,
            "raygrid: file:key: x is wrong; mend",
        ),
        (EndedShortError("no luck"), 1, "raygrid: no luck"),
        (KeyboardInterrupt(), 130, "raygrid: interrupted"),
        (click.UsageError("no such thing"), 2, "no such thing"),
    ],
)
def test_exit_codes(monkeypatch, capsys, raised, code, line):
    @cli.cli.command("fail")
    def fail():
        raise raised

    try:
        assert run(monkeypatch, "fail") == code
    finally:
        cli.cli.commands.pop("fail")
    error = capsys.readouterr().err
    assert line in error
    assert "Traceback" not in error


def test_a_bug_leaves_a_log_and_no_traceback(monkeypatch, capsys, tmp_path):
    @cli.cli.command("fail")
    def fail():
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        assert run(monkeypatch, "fail") == 3
    finally:
        cli.cli.commands.pop("fail")
    error = capsys.readouterr().err
    (log,) = tmp_path.iterdir()
    assert str(log) in error
    assert "Traceback" not in error
    assert "ZeroDivisionError: oops" in log.read_text()


def test_scenario_commands(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert __version__ in capsys.readouterr().out
    assert run(monkeypatch, "scenario", "list") == 0
    assert capsys.readouterr().out.count("tiny") == 1
    assert run(monkeypatch, "scenario", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Scenario"
    assert run(monkeypatch, "scenario", "show", "tiny", "--set", "market.rho=0.25") == 0
    assert "rho: 0.25" in capsys.readouterr().out
    assert run(monkeypatch, "scenario", "validate", "tiny") == 0
    assert "6 prosumers (3 with generation, 2 with a battery)" in capsys.readouterr().out
    assert run(monkeypatch, "scenario", "validate", "tiny", "--set", "market.rho=0") == 2
    assert run(monkeypatch, "scenario", "nothing") == 2


def test_run_as_a_module():
    root = Path(cli.__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "raygrid", "scenario", "validate", "tinny"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == "raygrid: 'tinny': no such scenario or file; did you mean 'tiny'?"


def test_an_interrupt_in_code_that_is_text_ends_by_the_exit_code(tmp_path):
    """Such as a dataclass that is being made: `python -m` would end by the signal instead."""
    (tmp_path / "program.py").write_text(
        "from raygrid import cli\n"
        "cli.cli.main = lambda **_: exec('raise KeyboardInterrupt')\n"
        "cli.main()\n"
    )
    root = Path(cli.__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "program"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "raygrid: interrupted\n")


def test_ctrl_c_while_the_command_is_loaded():
    """One line and exit code 130, as later."""
    program = """
import sys
from raygrid.__main__ import main

class Impatient:
    def find_spec(self, name, *_):
        if name == "raygrid.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, "raygrid: interrupted\n")
