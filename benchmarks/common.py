"""What all benchmarks share: spreads, targets, and the JSON and Markdown that they leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Self

import click

from raygrid.market.messages import RoundOutcome
from raygrid.results import provenance
from raygrid.results.files import json_text
from raygrid.results.printed import PRINTED, Method, Quantity
from raygrid.results.summary import line_utilisation
from raygrid.results.tables import markdown_table
from raygrid.scenario.case import Case

OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/benchmarks"),
    show_default=True,
    help="Folder of the JSON and Markdown files.",
)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Median and range."""
        known = [float(value) for value in values]
        return cls(median(known), min(known), max(known), len(known))

    def __str__(self) -> str:
        if self.n == 1:
            return cell(self.median)
        return f"{cell(self.median)} ({cell(self.lowest)} to {cell(self.highest)}, n = {self.n})"


@dataclass(frozen=True)
class Target:
    """A figure to reach beside what was measured.

    Attributes
    ----------
    what : str
        What is measured, with its unit.
    measured : float
        The median where there are several measurements.
    at_most, at_least : float or None
        The bound; one of the two.
    """

    what: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the bound holds; a figure that is not there misses it."""
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    def row(self) -> dict[str, Any]:
        """For tables."""
        bound = f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"
        return {
            "target": self.what,
            "bound": bound,
            "measured": self.measured,
            "verdict": "pass" if self.met else "miss",
        }


def printed(scenario: str, network_constrained: bool, quantity: Quantity) -> float | None:
    """The thesis' figure for ADMM."""
    for c in PRINTED:
        key = (c.scenario, c.method, c.network_constrained, c.quantity)
        if key == (scenario, Method.ADMM, network_constrained, quantity):
            return c.value
    return None


def fullest_line(case: Case, flow_kw: Any) -> float:
    """Largest |flow| / limit."""
    return float(line_utilisation(flow_kw, case.network.limit_kw[:, None]).max(initial=0.0))


def repeat(n: int, measure: Callable[[], Any], unmeasured: int = 1) -> list[Any]:
    """What `measure` gives, n times, after some that are thrown away."""
    return [measure() for _ in range(n + unmeasured)][unmeasured:]


class Clock:
    """A round callback that notes when rounds end."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def __call__(self, outcome: RoundOutcome) -> None:
        self._ends.append(perf_counter())

    @property
    def rounds_ms(self) -> list[float]:
        """Times of the rounds after the first two [ms]."""
        return [1e3 * (end - start) for start, end in pairwise(self._ends[1:])]

    @property
    def round_ms(self) -> Spread:
        """Time of a round after the first two [ms]."""
        return Spread.of(self.rounds_ms)


class Report:
    """Collects a benchmark's tables and writes ``<out>/<name>.json`` and ``.md``.

    Parameters
    ----------
    name : str
        The module's name.
    about : str
        What was measured and how, one paragraph.
    """

    def __init__(self, name: str, about: str) -> None:
        self.name, self.about = name, " ".join(about.split())
        self._load_before = os.getloadavg()[0]
        self._tables: dict[str, list[dict[str, Any]]] = {}

    def table(self, title: str, rows: Sequence[Mapping[str, Any]] | Sequence[Any]) -> None:
        """Add rows: mappings or dataclasses with the same keys."""
        self._tables[title] = [
            {f: getattr(row, f) for f in row.__dataclass_fields__}
            if is_dataclass(row)
            else dict(row)
            for row in rows
        ]

    def targets(self, targets: Iterable[Target]) -> None:
        """Add the figures to reach."""
        self.table("Figures to reach", [target.row() for target in targets])

    def write(self, out: Path) -> None:
        """Write both files and print the Markdown."""
        facts = {
            "benchmark": self.name,
            "about": self.about,
            "command": " ".join(["python", "-m", f"benchmarks.{self.name}", *sys.argv[1:]]),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "git_commit": provenance.git_commit(),
            "load_before": self._load_before,
        }
        tables = {title: [_plain(row) for row in rows] for title, rows in self._tables.items()}
        out.mkdir(parents=True, exist_ok=True)
        text = json_text({**facts, "tables": tables})
        (out / f"{self.name}.json").write_text(text, encoding="utf-8")
        page = self._markdown(facts)
        (out / f"{self.name}.md").write_text(page, encoding="utf-8")
        click.echo(page)

    def _markdown(self, facts: Mapping[str, Any]) -> str:
        machine = facts["machine"]
        versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v is not None)
        parts = [
            f"# {self.name.replace('_', ' ')}",
            self.about,
            f"Made by `{facts['command']}` on {machine['cpus']} CPUs ({machine['architecture']}), "
            f"load {facts['load_before']:.1f} before it began; {versions}. "
            "Of n measurements the median is given (lowest to highest).",
        ]
        for title, rows in self._tables.items():
            columns = list(rows[0]) if rows else []
            cells = [[_short(column, row[column]) for column in columns] for row in rows]
            words = [column.replace("_", " ") for column in columns]
            parts += [f"## {title}", markdown_table(words, cells)]
        return "\n\n".join(parts) + "\n"


def cell(value: Any) -> str:
    """A value for people: four digits, words for what is no number."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def _short(column: str, value: Any) -> str:
    """A cell; digests by their first digits, which tell two apart as well."""
    return value[:12] if column.endswith("_sha256") else cell(value)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: asdict(value) if isinstance(value, Spread) else value for key, value in row.items()
    }
