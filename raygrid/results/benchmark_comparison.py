"""Two documents of one benchmark suite side by side: case by case, with ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raygrid.errors import InputError
from raygrid.results.benchmark import TARGETS, BenchmarkStatus, case_name, cell
from raygrid.results.tables import text_table

COLUMNS = ("case", "figure", "this", "other", "this / other", "ranges")


@dataclass(frozen=True)
class Difference:
    """One figure that differs.

    Attributes
    ----------
    table, case, figure : str
        Where it stands.
    this, other : object
        Its two values, in the form of the JSON.
    """

    table: str
    case: str
    figure: str
    this: Any
    other: Any

    @property
    def ratio(self) -> float | None:
        """This over other, by the medians; None where one is no number, or 0."""
        this, other = _middle(self.this), _middle(self.other)
        return this / other if this is not None and other else None

    @property
    def ranges(self) -> str:
        """Whether the samples of both lie apart; '–' where there are no two samples each."""
        this, other = self.this, self.other
        if not (isinstance(this, Mapping) and isinstance(other, Mapping)):
            return "–"
        if min(this["n"], other["n"]) < 2:
            return "–"
        apart = this["lowest"] > other["highest"] or this["highest"] < other["lowest"]
        return "apart" if apart else "overlap"


@dataclass(frozen=True)
class Comparison:
    """What two documents have in common.

    Attributes
    ----------
    differences : tuple of Difference
        In the order of this document.
    same : int
        Figures that are the same in both.
    notes : tuple of str
        What a reader must know: other versions, other settings, cases that one side lacks.
    """

    differences: tuple[Difference, ...]
    same: int
    notes: tuple[str, ...]


def check_comparable(suite: str, machine: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse a document of another suite or machine than these.

    Raises
    ------
    InputError
        Says what differs.
    """
    for name, own in (("suite", suite), ("machine", machine)):
        if own != other[name]:
            raise InputError(
                f"of another {name}: {_unlike(own, other[name])}",
                "--compare",
                "compare documents of one suite, measured on one machine",
            )


def compare(this: Mapping[str, Any], other: Mapping[str, Any]) -> Comparison:
    """Set two documents of one suite side by side.

    Parameters
    ----------
    this, other : mapping
        As `raygrid.results.benchmark.read` gives them.

    Raises
    ------
    InputError
        They are of different suites or machines.
    """
    check_comparable(this["suite"], this["machine"], other)
    notes = [
        f"{name}: {_unlike(this[name], other[name])}"
        for name in ("versions", "settings", "git_commit", "status")
        if this[name] != other[name]
    ]
    if this["status"] == other["status"] != BenchmarkStatus.COMPLETE:
        notes.append("neither suite came to its end")
    ours, theirs = dict(_figures(this)), dict(_figures(other))
    differences = tuple(
        Difference(*place, value, theirs[place])
        for place, value in ours.items()
        if place in theirs and value != theirs[place]
    )
    for where, some, rest in (("this", ours, theirs), ("the other", theirs, ours)):
        cases = sorted({place[:2] for place in some} - {place[:2] for place in rest})
        if cases:
            named = "; ".join(": ".join(case) for case in cases[:3])
            more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
            notes.append(f"only in {where}: {named}{more}")
    same = len(ours.keys() & theirs.keys()) - len(differences)
    return Comparison(differences, same, tuple(notes))


def comparison_text(comparison: Comparison) -> str:
    """For people: a table for each of the documents' tables, then the notes."""
    parts = []
    for title in dict.fromkeys(d.table for d in comparison.differences):
        rows = [
            (d.case, d.figure.replace("_", " "), *map(cell, (d.this, d.other, d.ratio)), d.ranges)
            for d in comparison.differences
            if d.table == title
        ]
        parts.append(f"{title}\n\n{text_table(COLUMNS, rows)}")
    parts.append(f"{comparison.same} figures are the same in both.")
    return "\n\n".join([*parts, *comparison.notes])


def _figures(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Every figure by table, case and name; targets repeat what the other tables say."""
    for table in document["tables"]:
        if table["title"] == TARGETS:
            continue
        for row in table["rows"]:
            case = case_name(row, table["keys"])
            for name, value in row.items():
                if name not in table["keys"]:
                    yield (table["title"], case, name), value


def _middle(value: Any) -> float | None:
    if isinstance(value, Mapping):
        value = value["median"]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _unlike(this: Any, other: Any) -> str:
    """The parts of two values that differ, in words."""
    if not (isinstance(this, Mapping) and isinstance(other, Mapping)):
        return f"{this} here, {other} there"
    names = [name for name in {**this, **other} if this.get(name) != other.get(name)]
    return ", ".join(f"{name} {this.get(name)} here, {other.get(name)} there" for name in names)
