"""Study files: a grid of scenarios, settings and seeds, and the runs that it stands for."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from raygrid.errors import InputError
from raygrid.files import list_scenarios
from raygrid.scenario.bundle import own_data
from raygrid.scenario.fields import Count, Flag, Section, Text
from raygrid.scenario.load import dump_resolved, load_scenario, read_raw, validate_as

FLAG_AXES: dict[str, tuple[type, ...]] = {
    "agents": (int,),
    "periods": (int,),
    "seed": (int,),
    "actors": (str, int),
    "cpus": (int,),
}
"""Axes that are no key of a scenario (agents, periods and seed are for short), and their types."""
MAX_RUNS = 10_000
"""Largest grid."""

Value = bool | int | float | str | None | list[Any] | dict[str, Any]


class Study(Section):
    """A study file: every scenario with every point and every combination of the axes."""

    name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = Field(
        description="name of the study and of its folder of results"
    )
    description: str = Field("", description="one line, shown in the report")
    scenarios: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        ("community",),
        description="names of shipped scenarios, or files relative to the study file's folder",
    )
    settings: dict[str, Value] = Field(
        {}, description="keys of the scenarios that all runs change, such as market.rho"
    )
    points: Annotated[tuple[dict[str, Value], ...], Field(min_length=1)] = Field(
        ({},),
        description="values that go together, each a mapping of axis to value; weak scaling: "
        "[{agents: 1000, cpus: 1}, {agents: 2000, cpus: 2}]",
    )
    axes: dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]] = Field(
        {},
        description="values that are combined: agents, periods, seed, actors, cpus, or a key of "
        "the scenarios such as market.rho; each axis a list",
    )
    repeats: Count = Field(1, description="runs of each combination, for the spread of times")
    concurrency: Count = Field(
        1, description="runs at once; they share the CPUs, each has a part of its own"
    )
    central: Flag | None = Field(
        None, description="solve the central benchmark too; left out: as each scenario says"
    )


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes
    ----------
    key : str
        Changes with anything that the result depends on: tells whether a run was done already.
    scenario : str
        Name of its scenario.
    source : str
        Name of a shipped scenario, or a path.
    values : mapping
        Value of each axis.
    repeat : int
        Its number among runs that differ in nothing.
    settings : tuple of str
        `key=value` for every key of the scenario that is changed.
    agents, periods, seed : int or None
        Values of the axes of these names.
    actors : str
        Placement, as `--actors` has it.
    cpus : int or None
        CPUs that it may use; None leaves it to the study's concurrency.
    """

    key: str
    scenario: str
    source: str
    values: Mapping[str, Value] = field(default_factory=dict)
    repeat: int = 0
    settings: tuple[str, ...] = ()
    agents: int | None = None
    periods: int | None = None
    seed: int | None = None
    actors: str = "auto"
    cpus: int | None = None

    def describe(self) -> str:
        """The run in a few words."""
        words = [f"{name}={_text(value)}" for name, value in self.values.items()]
        return " ".join([self.scenario, *words, *([f"#{self.repeat + 1}"] if self.repeat else [])])


def load_study(path: Path) -> Study:
    """Read and validate a study file.

    Raises
    ------
    InputError
        Names the first wrong key or axis in one line, and the closest right one.
    """
    study = validate_as(Study, read_raw(path), str(path))
    for name in study.axes:
        _check_axis(name, f"{path}:axes")
    for k, point in enumerate(study.points):
        for name in point:
            _check_axis(name, f"{path}:points[{k}]")
            if name in study.axes:
                raise InputError(
                    "it is an axis as well", f"{path}:points[{k}].{name}", "name it in one of them"
                )
    for name in study.settings:
        if "." not in name:
            raise InputError(
                "unknown setting", f"{path}:settings.{name}", "give a key such as market.rho"
            )
    return study


def plan_study(study: Study, path: Path) -> tuple[StudyRun, ...]:
    """All runs of a study, each with a scenario that was checked.

    Parameters
    ----------
    study : Study
        From `load_study`.
    path : Path
        Its file.

    Returns
    -------
    tuple of StudyRun
        Scenario by scenario; the last axis changes fastest.

    Raises
    ------
    InputError
        If a scenario, or what an axis makes of it, is wrong, or there are too many runs.
    """
    count = len(study.scenarios) * len(study.points) * study.repeats
    for choices in study.axes.values():
        count *= len(choices)
    if count > MAX_RUNS:
        raise InputError(
            f"{count} runs, more than {MAX_RUNS}", str(path), "shorten an axis, or split the study"
        )
    runs: dict[str, StudyRun] = {}
    for name in study.scenarios:
        source = name if name in list_scenarios() else str(path.parent / name)
        for point in study.points:
            for combination in itertools.product(*study.axes.values()):
                values = {**point, **dict(zip(study.axes, combination, strict=True))}
                for run in _runs(study, source, values, path):
                    runs.setdefault(run.key, run)
    return tuple(runs.values())


def json_schema() -> dict[str, Any]:
    """JSON schema of a study file, generated from the model."""
    schema = Study.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _runs(study: Study, source: str, values: dict[str, Value], path: Path) -> list[StudyRun]:
    """The repeats of one combination."""
    changed = {**study.settings, **{k: v for k, v in values.items() if k not in FLAG_AXES}}
    settings = tuple(f"{name}={_text(value)}" for name, value in changed.items())
    flags = {name: values[name] for name in ("agents", "periods", "seed") if name in values}
    where = f"{path}: {_label(values)}"
    for name in FLAG_AXES:
        _check_value(name, values.get(name), where)
    try:
        scenario, base_dir = load_scenario(source, settings=settings, **flags)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(error.what, f"{where}: {error.where}", error.cure) from error
    resolved = dump_resolved(scenario, base_dir)
    actors = str(values.get("actors") or "auto")
    cpus = values.get("cpus")
    assert cpus is None or isinstance(cpus, int)
    common = [resolved, *_digests(resolved), actors, str(cpus), str(study.central)]
    return [
        StudyRun(
            key=hashlib.sha256("\0".join([*common, str(repeat)]).encode()).hexdigest()[:16],
            scenario=scenario.name,
            source=source,
            values=values,
            repeat=repeat,
            settings=settings,
            actors=actors,
            cpus=cpus,
            **flags,  # type: ignore[arg-type]
        )
        for repeat in range(study.repeats)
    ]


def _digests(resolved: str) -> list[str]:
    """Digests of a scenario's own data, so that changed data make another run."""
    digests = []
    for _, _, file in own_data(yaml.safe_load(resolved)):
        if file.is_file():
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests


def _check_axis(name: str, where: str) -> None:
    """Refuse an axis that is neither one of ours nor a key with its section."""
    if name in FLAG_AXES or "." in name:
        return
    close = difflib.get_close_matches(name, FLAG_AXES, n=1)
    cure = f"did you mean '{close[0]}'?" if close else (
        f"use {', '.join(FLAG_AXES)}, or a key of the scenario with its section such as market.rho"
    )  # fmt: skip
    raise InputError("unknown axis", f"{where}.{name}", cure)


def _check_value(name: str, value: Value, where: str) -> None:
    kinds = FLAG_AXES[name]
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InputError(f"{name} is {_text(value)}", where, "give a whole number")
    if name == "cpus" and isinstance(value, int) and value < 1:
        raise InputError(f"cpus is {value}", where, "give a whole number from 1")


def _label(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in values.items()) or "settings"


def _text(value: Value) -> str:
    """A value as `--set` reads it."""
    return value if isinstance(value, str) and value else json.dumps(value)
