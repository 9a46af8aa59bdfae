"""Study files: the grid they stand for, what is refused, and when a run is another run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from raygrid.errors import InputError
from raygrid.files import data_root
from raygrid.scenario.study import StudyRun, json_schema, load_study, plan_study

STUDY = """
name: sweep
scenarios: [tiny]
settings: {market.max_iterations: 50}
points: [{actors: 1, cpus: 1}, {actors: 2, cpus: 2}]
axes:
  market.rho: [0.1, 0.2]
  seed: [1, 2, 3]
repeats: 2
central: false
"""


def plan(folder: Path, text: str = STUDY) -> tuple[StudyRun, ...]:
    path = folder / "study.yaml"
    path.write_text(text)
    return plan_study(load_study(path), path)


def test_the_grid(tmp_path: Path) -> None:
    runs = plan(tmp_path)
    assert len(runs) == 2 * 2 * 3 * 2
    assert len({run.key for run in runs}) == len(runs)
    assert {(run.actors, run.cpus) for run in runs} == {("1", 1), ("2", 2)}
    first = runs[0]
    assert first.settings == ("market.max_iterations=50", "market.rho=0.1")
    assert first.seed == 1
    assert first.describe() == "tiny actors=1 cpus=1 market.rho=0.1 seed=1"
    assert runs[1].describe().endswith("#2")


def test_the_same_file_gives_the_same_keys(tmp_path: Path) -> None:
    before = {run.key for run in plan(tmp_path)}
    longer = plan(tmp_path, STUDY.replace("[1, 2, 3]", "[1, 2, 3, 4]"))
    assert before < {run.key for run in longer}
    assert before.isdisjoint(
        run.key for run in plan(tmp_path, STUDY.replace("max_iterations: 50", "max_iterations: 60"))
    )


def test_a_combination_that_stands_twice_runs_once(tmp_path: Path) -> None:
    assert len(plan(tmp_path, "name: a\nscenarios: [tiny]\naxes: {seed: [1, 1, 2]}\n")) == 2


def test_changed_data_make_another_run(tmp_path: Path) -> None:
    own = shutil.copytree(data_root("scenarios") / "tiny", tmp_path / "own")
    text = "name: a\nscenarios: [own]\n"
    (before,) = plan(tmp_path, text)
    assert plan(tmp_path, text) == (before,)
    data = own / "profiles.csv"
    data.write_text(data.read_text().replace("0.2", "0.3", 1))
    assert plan(tmp_path, text)[0].key != before.key


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\naxes: {agent: [1]}\n", "axes.agent: unknown axis; did you mean 'agents'?"),
        ("name: a\naxes: {colour: [1]}\n", "axes.colour: unknown axis; use agents, periods, seed"),
        ("name: a\npoints: [{nodes: 1}]\n", "points[0].nodes: unknown axis; use agents"),
        ("name: a\naxes: {market.rh: [1.0]}\n", "market.rh: unknown key; did you mean 'rho'?"),
        ("name: a\naxes: {market.rho: [-1.0]}\n", "market.rho=-1.0: "),
        ("name: a\naxes: {agents: [many]}\n", "agents=many: agents is many; give a whole number"),
        ("name: a\naxes: {cpus: [0]}\n", "cpus is 0; give a whole number from 1"),
        ("name: a\naxes: {agents: []}\n", "axes.agents: [] is refused; it should have at least 1"),
        ("name: a\naxes: {agents: 5}\n", "axes.agents: 5 is refused"),
        ("name: a\naxis: {agents: [5]}\n", "axis: unknown key; did you mean 'axes'?"),
        ("name: a\nscenarios: [tinny]\n", "tinny': no such scenario or file"),
        ("name: a\nsettings: {rho: 1}\n", "settings.rho: unknown setting; give a key such as"),
        ("name: a\npoints: [{seed: 1}]\naxes: {seed: [1]}\n", "points[0].seed: it is an axis as"),
        ("name: a\nrepeats: 10000000\n", "10000000 runs, more than 10000; shorten an axis"),
        ("axes: {agents: [5]}\n", "name: missing; add it; see `raygrid study --schema`"),
        ("name: ../a\n", "name: '../a' is refused"),
        ("", "the file is empty, not a mapping"),
    ],
)
def test_what_is_refused_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(tmp_path, text)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schema_knows_a_good_study_from_a_bad_one() -> None:
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.validate(yaml.safe_load(STUDY), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "a", "axis": {}}, schema)
