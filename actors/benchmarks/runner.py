"""Runs suites by name and writes what they leave, whatever ends them."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actors.benchmarks.common import SuiteSettings
from raygrid.errors import InputError, RaygridError
from raygrid.results.benchmark import BenchmarkStatus, Report, Target
from raygrid.results.folder import check_writable
from raygrid.scenario.load import apply_overrides, validate_as

SUITES = (
    "local_solver",
    "ray_iteration",
    "clearing",
    "placement",
    "profile",
    "peers",
    "simulate",
    "communication",
    "stragglers",
    "recovery",
    "convergence",
    "scale",
    "town",
    "settlement",
    "dqn",
    "processes",
)
"""All suites, in the order in which `all` runs them."""
ONLY_BY_NAME = ("processes",)
"""Suites that `all` leaves out: 300 processes take minutes to start, and gigabytes."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to run suites.

    Attributes
    ----------
    out : Path
        Folder of the files.
    command : str
        The command line, for the record.
    quick : bool
        Whether small cases will do, to see that a suite works.
    repeats : int or None
        Measurements of each thing; None leaves it to the suite.
    settings : tuple of str
        'key=value' of the suite's settings.
    """

    out: Path
    command: str
    quick: bool = False
    repeats: int | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a suite left.

    Attributes
    ----------
    path : Path
        Its JSON file.
    document : dict
        What stands in it.
    missed : tuple of Target
        Figures that were not reached.
    """

    path: Path
    document: dict[str, Any]
    missed: tuple[Target, ...]


def resolve(names: Iterable[str]) -> list[str]:
    """Suites by name, 'all' for all of them but `ONLY_BY_NAME`.

    Raises
    ------
    InputError
        There is no such suite.
    """
    found: list[str] = []
    for name in names:
        if name != "all" and name not in SUITES:
            close = get_close_matches(name, SUITES, 1)
            cure = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(SUITES)}"
            raise InputError("no suite of this name", name, cure)
        found += [s for s in SUITES if s not in ONLY_BY_NAME] if name == "all" else [name]
    return list(dict.fromkeys(found))


def summary(name: str) -> str:
    """What a suite measures, in a line; nothing is loaded for it."""
    spec = find_spec(f"actors.benchmarks.{name}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[0]


def settings_of(name: str, options: BenchmarkOptions) -> SuiteSettings:
    """A suite's settings in force.

    Raises
    ------
    InputError
        A setting that the suite does not know, or cannot take.
    """
    module = import_module(f"actors.benchmarks.{name}")
    base: SuiteSettings = module.QUICK if options.quick else module.Settings()
    raw = base.model_dump()
    if options.repeats is not None and "repeats" in raw:
        raw["repeats"] = options.repeats
    model: type[SuiteSettings] = module.Settings
    return validate_as(model, apply_overrides(raw, options.settings), f"suite {name}")


def run_suite(name: str, options: BenchmarkOptions, tell: Callable[[str], None]) -> Measured:
    """Run one suite and write its files.

    Ctrl-C, or a measurement that cannot be made, ends it; the cases measured so far are written.

    Parameters
    ----------
    name : str
        The suite.
    options : BenchmarkOptions
        How to run it.
    tell : callable
        Gets a line whenever a case is done.

    Raises
    ------
    InputError
        A wrong setting, or a folder that cannot be written to.
    """
    settings = settings_of(name, options)
    check_writable(options.out)
    module = import_module(f"actors.benchmarks.{name}")
    stored: Mapping[str, Any] = settings.model_dump(mode="json")
    report = Report(name, module.__doc__ or "", options.command, stored, tell)
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > cpus:
        tell(f"{name}: the machine is busy (load {load:.1f} on {cpus} CPUs), times will be longer")
    try:
        module.run(report, settings)
    except (KeyboardInterrupt, RaygridError) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        status = BenchmarkStatus.INTERRUPTED if interrupted else BenchmarkStatus.ENDED_SHORT
        path = report.write(options.out, status)
        tell(f"{name}: what was measured so far is in {path}")
        raise
    path = report.write(options.out)
    return Measured(path, report.document(), tuple(report.missed))
