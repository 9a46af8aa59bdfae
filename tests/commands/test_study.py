"""`raygrid study` on the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raygrid import cli
from raygrid.files import scenario_path
from tests.commands.test_jobs import Stub


@pytest.fixture
def raygrid(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr("actors.jobs.JobsClient", Stub)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raygrid", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        return int(str(caught.value.code)), shown.out, shown.err

    return run


def test_the_schema(raygrid: Any) -> None:
    code, out, _ = raygrid("study", "--schema")
    assert code == 0
    assert {"name", "axes", "points"} <= json.loads(out)["properties"].keys()


def test_a_study_that_is_a_job_carries_its_scenarios(raygrid: Any, tmp_path: Path) -> None:
    shutil.copytree(Path(scenario_path("tiny")).parent, tmp_path / "own")
    study = tmp_path / "s.yaml"
    study.write_text("name: s\nscenarios: [tiny, own]\naxes: {market.rho: [0.1, 0.2]}\n")
    code, out, err = raygrid(
        "study", str(study), "--address", Stub.address, "--concurrency", "3"
    )  # fmt: skip
    assert (code, out) == (0, "tiny-1\n"), err
    assert Stub.asked.arguments == ("study", "study.yaml", "--concurrency", "3")
    assert Stub.asked.what == "study s"
    assert Stub.asked.out is None
    assert Stub.files is not None
    sent = yaml.safe_load(Stub.files["study.yaml"])
    assert sent["scenarios"] == ["tiny", "1-tiny.yaml"]
    assert sent["axes"] == {"market.rho": [0.1, 0.2]}
    assert any(name.startswith("data/1-tiny/") for name in Stub.files)


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("name: a\naxes: {agent: [1]}\n", [], "axes.agent: unknown axis; did you mean 'agents'?"),
        ("name: a\naxes: {market.rh: [1]}\n", [], "market.rh: unknown key; did you mean 'rho'?"),
        ("name: a\n", ["--concurrency", "0"], "0 is not in the range x>=1"),
        ("name: a\n", ["--address", "head"], "'head' is not an address of a Ray cluster"),
        ("name: a\n", ["--address", "http://h:1/x"], "is not the address of a Ray dashboard"),
        ("name: a\n", ["--address", Stub.address, "--out", "x"], "give an absolute path"),
    ],
)
def test_one_line_and_exit_code_2(
    raygrid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: list[str],
    line: str,
) -> None:  # fmt: skip
    if "http://h" in " ".join(words):
        from actors.dashboard import check_address

        monkeypatch.setattr("actors.jobs.JobsClient", check_address)
    study = tmp_path / "s.yaml"
    study.write_text(text)
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    if any("://" in word for word in words):
        out = []
    code, _, err = raygrid("study", str(study), *out, *words)
    assert code == 2
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_study_that_is_not_there(raygrid: Any) -> None:
    code, _, err = raygrid("study", "none.yaml")
    assert code == 2
    assert "none.yaml: cannot be read (No such file or directory)" in err
