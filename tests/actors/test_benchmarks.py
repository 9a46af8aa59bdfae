"""The suites and the command that runs them; their figures are no test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from actors.benchmarks import runner
from actors.benchmarks.clearing import printed
from actors.benchmarks.common import (
    Clock,
    Memory,
    SuiteSettings,
    available_bytes,
    private_bytes,
    process_tree,
    proportional_bytes,
    repeat,
)
from actors.benchmarks.runner import SUITES, BenchmarkOptions, resolve, run_suite, settings_of
from raygrid import cli
from raygrid.commands.benchmark import benchmark
from raygrid.errors import EndedShortError, InputError
from raygrid.results.benchmark import Report, read
from raygrid.results.printed import Quantity

OUT = BenchmarkOptions(Path("nowhere"), "raygrid benchmark")


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_says_what_it_measures_and_has_settings(name: str) -> None:
    module = import_module(f"actors.benchmarks.{name}")
    assert runner.summary(name).endswith(".")
    assert isinstance(module.QUICK, module.Settings)
    assert issubclass(module.Settings, SuiteSettings)
    assert module.Settings() != module.QUICK


def test_every_module_is_a_suite_or_shared() -> None:
    folder = Path(runner.__file__).parent
    shared = {"__init__", "common", "deaths", "pycity_program", "ray_nodes", "runner"}
    assert {path.stem for path in folder.glob("*.py")} - shared == set(SUITES)


def test_all_means_every_suite_once_but_the_largest() -> None:
    assert resolve(["scale", "all"])[0] == "scale"
    assert sorted(resolve(["scale", "all", "processes"])) == sorted(SUITES)
    assert "processes" not in resolve(["all"])


@pytest.mark.parametrize(
    ("name", "cure"), [("scal", "did you mean 'scale'"), ("zzz", "known: local_solver, ")]
)
def test_unknown_suites_are_refused(name: str, cure: str) -> None:
    with pytest.raises(InputError, match=cure):
        resolve([name])


def test_settings_come_from_the_suite_then_quick_then_options() -> None:
    assert settings_of("placement", OUT).repeats == 5  # type: ignore[attr-defined]
    quick = BenchmarkOptions(Path(), "", quick=True, repeats=4, settings=("actors=['1']",))
    found = settings_of("placement", quick).model_dump()
    assert found == {"scenario": "tiny", "actors": ("1",), "repeats": 4}


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("repeat=3", "unknown key; did you mean 'repeats'"),
        ("repeats=0", "0 is refused"),
        ("repeats", "not of the form key=value"),
    ],
)
def test_wrong_settings_are_refused(setting: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        settings_of("placement", BenchmarkOptions(Path(), "", settings=(setting,)))


def test_a_suite_that_counts_has_nothing_to_repeat() -> None:
    options = BenchmarkOptions(Path(), "", repeats=4)
    assert settings_of("convergence", options) == settings_of("convergence", OUT)


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "interrupted"), (EndedShortError("x"), "ended_short")],
)
def test_what_ends_a_suite_leaves_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def run(report: Report, settings: SuiteSettings) -> None:
        report.table("A", ["n"]).add({"n": 1})
        raise error

    monkeypatch.setattr("actors.benchmarks.placement.run", run)
    lines: list[str] = []
    with pytest.raises(type(error)):
        run_suite("placement", BenchmarkOptions(tmp_path, "c"), lines.append)
    left = read(tmp_path / "placement.partial.json")
    assert left["status"] == status
    assert left["tables"][0]["rows"] == [{"n": 1}]
    assert str(tmp_path / "placement.partial.json") in lines[-1]
    assert not (tmp_path / "placement.json").exists()


def test_the_command_measures_and_compares(tmp_path: Path) -> None:
    arguments = ["communication", "--quick", "--set", "agents=5", "--out", str(tmp_path)]
    first = CliRunner().invoke(benchmark, [*arguments, "--quiet"], catch_exceptions=False)
    assert first.exit_code == 0
    path = Path(first.stdout.strip())
    assert path == tmp_path / "communication.json"
    kept = tmp_path / "kept.json"
    path.rename(kept)
    again = [*arguments, "--compare", str(kept)]
    second = CliRunner().invoke(benchmark, again, catch_exceptions=False)
    assert second.exit_code == 0
    assert "figures are the same in both" in second.stdout
    assert "communication: Against loss" in second.stderr
    # Rounds over modelled links do not depend on the machine: nothing differs.
    stored = json.loads(path.read_text())
    assert stored["tables"][0]["rows"] == json.loads(kept.read_text())["tables"][0]["rows"]
    third = CliRunner().invoke(
        benchmark, [str(path), "--compare", str(kept)], catch_exceptions=False
    )
    assert third.exit_code == 0
    assert "figures are the same in both" in third.stdout


def test_the_list_names_every_suite() -> None:
    done = CliRunner().invoke(benchmark, ["--list"])
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(SUITES)


def test_bad_use_ends_with_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Report("placement", "", "", {}).write(tmp_path)
    for arguments in (
        ["scal"],
        ["scale", "--set", "x=1"],
        ["placement", "--compare", str(tmp_path / "missing.json")],
        ["scale", "--out", "/proc/nowhere"],
        ["scale", "--compare", str(other)],
        ["all", "--compare", str(other)],
    ):
        monkeypatch.setattr(sys, "argv", ["raygrid", "benchmark", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert (ended.value.code, shown.out) == (2, "")
        assert len(shown.err.splitlines()) == 1


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
        clock(None)  # type: ignore[arg-type]
    assert len(clock.rounds_ms) == 2
    assert clock.round_ms.n == 2


def test_memory_counts_a_process_and_what_it_started() -> None:
    memory = Memory()
    code = "x = bytearray(80 * 2**20); print(flush=True); input()"
    with (
        memory.watched(),
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        own = os.getpid()
        assert child.pid in process_tree(own)
        assert private_bytes(child.pid) > 80 * 2**20
        assert proportional_bytes(child.pid) >= private_bytes(child.pid)
        before = proportional_bytes(own)
        child.communicate(b"\n")
    assert memory.largest_bytes > before / 2
    assert proportional_bytes(child.pid) == 0
    assert available_bytes() > 0
