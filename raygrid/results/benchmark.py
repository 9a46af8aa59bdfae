"""What a benchmark leaves: spreads, targets, tables of cases, as JSON, Markdown and text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Self

from raygrid.errors import InputError
from raygrid.results import provenance
from raygrid.results.files import json_text, write_atomically
from raygrid.results.tables import markdown_table, text_table

SCHEMA_VERSION = 1
"""Of the JSON; files of another version cannot be compared."""
PARTIAL = ".partial"
"""Between name and suffix of the files of a suite that did not come to its end."""
TARGETS = "Figures to reach"
TARGET_COLUMNS = ("target", "bound", "measured", "verdict")


class BenchmarkStatus(StrEnum):
    """How far a suite came."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    ENDED_SHORT = "ended_short"


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing.

    Attributes
    ----------
    median, lowest, highest : float
        Of all measurements.
    n : int
        Their number.
    samples : tuple of float
        All of them, in the order in which they were made.
    """

    median: float
    lowest: float
    highest: float
    n: int
    samples: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Median and range."""
        known = tuple(float(value) for value in values)
        return cls(median(known), min(known), max(known), len(known), known)

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
        """For tables, under `TARGET_COLUMNS`."""
        bound = f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"
        verdict = "pass" if self.met else "miss"
        return dict(zip(TARGET_COLUMNS, (self.what, bound, self.measured, verdict), strict=True))


class Table:
    """Cases of one kind: rows with the same columns, which can grow while a suite runs.

    Parameters
    ----------
    title : str
        What was measured.
    keys : sequence of str
        Columns that name a case, the same again in another run; the others hold figures.
    tell : callable
        Gets a line for each case as it is added.
    """

    def __init__(self, title: str, keys: Sequence[str], tell: Callable[[str], None]) -> None:
        self.title, self.keys = title, tuple(keys)
        self.rows: list[dict[str, Any]] = []
        self._tell = tell

    def add(self, row: Any) -> None:
        """Add a case: a mapping, or a dataclass."""
        if is_dataclass(row):
            row = {name: getattr(row, name) for name in row.__dataclass_fields__}
        self.rows.append(dict(row))
        self._tell(f"{self.title}: {case_name(self.rows[-1], self.keys)}")

    def column(self, name: str) -> list[Any]:
        """One column of all cases so far."""
        return [row[name] for row in self.rows]


class Report:
    """Collects a suite's tables and writes ``<out>/<suite>.json`` and ``.md``.

    Parameters
    ----------
    suite : str
        Name of the suite.
    about : str
        What is measured and how, one paragraph.
    command : str
        The command that measures it again.
    settings : mapping
        Values in force.
    tell : callable, optional
        Gets a line whenever a case is done.

    Attributes
    ----------
    tables : list of Table
        In the order in which they were begun.
    missed : list of Target
        Figures that were not reached.
    """

    def __init__(
        self,
        suite: str,
        about: str,
        command: str,
        settings: Mapping[str, Any],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.suite, self.about = suite, " ".join(about.split())
        self.tables: list[Table] = []
        self.missed: list[Target] = []
        self._tell = tell
        self._facts: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "suite": suite,
            "about": self.about,
            "command": command,
            "settings": dict(settings),
            "started": _now(),
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "git_commit": provenance.git_commit(),
            "load_before": os.getloadavg()[0],
        }

    def tell(self, line: str) -> None:
        """Say what is going on."""
        self._tell(f"{self.suite}: {line}")

    def table(self, title: str, keys: Sequence[str], rows: Iterable[Any] = ()) -> Table:
        """Begin a table; see `Table`."""
        table = Table(title, keys, self.tell)
        self.tables.append(table)
        for row in rows:
            table.add(row)
        return table

    def targets(self, targets: Iterable[Target]) -> None:
        """Add the figures to reach."""
        table = Table(TARGETS, TARGET_COLUMNS[:2], lambda _: None)
        for target in targets:
            table.add(target.row())
            if not target.met:
                self.missed.append(target)
        self.tables.append(table)

    def document(self, status: BenchmarkStatus = BenchmarkStatus.COMPLETE) -> dict[str, Any]:
        """Everything, as it stands in the JSON."""
        return {
            **self._facts,
            "status": str(status),
            "finished": _now(),
            "tables": [
                {
                    "title": table.title,
                    "keys": list(table.keys),
                    "rows": [_plain(row) for row in table.rows],
                }
                for table in self.tables
            ],
        }

    def write(self, out: Path, status: BenchmarkStatus = BenchmarkStatus.COMPLETE) -> Path:
        """Write both files, those of a suite that ended early beside the last complete ones.

        Parameters
        ----------
        out : Path
            Folder.
        status : BenchmarkStatus
            How far the suite came.

        Returns
        -------
        Path
            The JSON file.
        """
        out.mkdir(parents=True, exist_ok=True)
        complete = status is BenchmarkStatus.COMPLETE
        path = out / f"{self.suite}{'' if complete else PARTIAL}.json"
        document = self.document(status)
        _write(path, json_text(document))
        _write(path.with_suffix(".md"), markdown(document))
        if complete:
            for suffix in (".json", ".md"):
                (out / f"{self.suite}{PARTIAL}{suffix}").unlink(missing_ok=True)
        return path


def read(path: Path) -> dict[str, Any]:
    """The document of a JSON file that a benchmark left.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        It is not there, or not such a file, or of another schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(reason, str(path), "name a JSON file of `raygrid benchmark`") from None
    except ValueError:
        raise InputError("no JSON", str(path), "name a JSON file of `raygrid benchmark`") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION or "tables" not in document:
        raise InputError(
            f"schema {version} where {SCHEMA_VERSION} is read",
            str(path),
            "measure it again with this raygrid",
        )
    return dict(document)


def markdown(document: Mapping[str, Any]) -> str:
    """A document as a page."""
    parts = [f"# {document['suite'].replace('_', ' ')}", document["about"], _made(document)]
    for title, columns, cells in shown_tables(document):
        parts += [f"## {title}", markdown_table(columns, cells)]
    return "\n\n".join(parts) + "\n"


def text(document: Mapping[str, Any], width: int) -> str:
    """A document for a terminal so many characters wide; too wide a table one case at a time."""
    parts = [f"{document['suite']}: {_made(document)}"]
    for title, columns, cells in shown_tables(document):
        whole = text_table(columns, cells)
        if max(map(len, whole.splitlines())) > width:
            long = max(map(len, columns))
            whole = "\n\n".join(
                "\n".join(
                    f"{name:{long}}  {value}" for name, value in zip(columns, row, strict=True)
                )
                for row in cells
            )
        parts.append(f"{title}\n\n{whole}")
    return "\n\n".join(parts)


def shown_tables(
    document: Mapping[str, Any],
) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Title, column names and cells of every table that has rows."""
    for table in document["tables"]:
        if rows := table["rows"]:
            cells = [[_short(name, row[name]) for name in rows[0]] for row in rows]
            yield table["title"], [name.replace("_", " ") for name in rows[0]], cells


def case_name(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    """What tells a case from the others of its table."""
    return ", ".join(f"{key.replace('_', ' ')} {cell(row[key])}" for key in keys)


def cell(value: Any) -> str:
    """A value for people: four digits, words for what is no number."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = Spread(**{**value, "samples": tuple(value["samples"])})
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def _made(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items() if v is not None)
    early = "" if document["status"] == BenchmarkStatus.COMPLETE else "Not complete. "
    return (
        f"{early}Made by `{document['command']}` on {machine['cpus']} CPUs "
        f"({machine['processor'] or machine['architecture']}), "
        f"load {document['load_before']:.1f} before it began; {versions}. "
        "Of n measurements the median is given (lowest to highest)."
    )


def _short(column: str, value: Any) -> str:
    """A cell; digests by their first digits, which tell two apart as well."""
    return value[:12] if column.endswith("_sha256") else cell(value)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: asdict(value) if isinstance(value, Spread) else _number(value)
        for key, value in row.items()
    }


def _number(value: Any) -> Any:
    """NumPy's numbers as Python's, so that they are shown alike before and after storing."""
    return value.item() if hasattr(value, "item") else value


def _write(path: Path, content: str) -> None:
    write_atomically(path, lambda stream: stream.write(content.encode()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
