"""Tables that set a printed value beside ours: as text, Markdown and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from raygrid.results.figure import RECONSTRUCTED
from raygrid.results.printed import DEPENDS_ON_DATA, PRINTED, Method, Printed, Quantity


@dataclass(frozen=True)
class Comparison:
    """A printed cell and what we measured for it.

    Attributes
    ----------
    printed : Printed
        The cell.
    ours : float or None
        Our value in the cell's unit; None where it was not measured or is a word.
    text : str
        Our value in words.
    """

    printed: Printed
    ours: float | None
    text: str

    @property
    def difference(self) -> float | None:
        """Ours minus printed, in the cell's unit."""
        if self.ours is None or self.printed.value is None:
            return None
        return self.ours - self.printed.value

    @property
    def remark(self) -> str:
        """What a reader must know, 'reconstructed data' beside iterations and times."""
        label = RECONSTRUCTED if self.printed.quantity in DEPENDS_ON_DATA else ""
        return "; ".join(part for part in (label, self.printed.remark) if part)


Key = tuple[str, Method, bool, Quantity]
"""Scenario, method, limits enforced, quantity."""


def compare(
    measured: Mapping[Key, float | str], printed: Iterable[Printed] = PRINTED
) -> list[Comparison]:
    """Every printed cell beside the measured one.

    Parameters
    ----------
    measured : mapping
        Values by (scenario, method, network_constrained, quantity); numbers, or words.
    printed : iterable of Printed
        Cells to compare with.
    """
    out = []
    for cell in printed:
        value = measured.get((cell.scenario, cell.method, cell.network_constrained, cell.quantity))
        number = None if value is None or isinstance(value, str) else float(value)
        if isinstance(value, str):
            text = value
        elif number is None:
            text = "–"
        else:
            text = _like(cell, number)
        out.append(Comparison(cell, number, text))
    return out


def _like(cell: Printed, value: float) -> str:
    """The value with the printed cell's digits; more where it is small beside them."""
    if cell.value is None or cell.quantity in (
        Quantity.ITERATIONS, Quantity.HEAVY_LINES, Quantity.LINES, Quantity.VIOLATIONS,
    ):  # fmt: skip
        return f"{value:.0f}"
    digits = len(cell.text.strip("≈%×").partition(".")[2])
    unit = "%" if cell.text.endswith("%") else "×" if cell.text.endswith("×") else ""
    if value != 0 and abs(value) < 10.0**-digits:
        return f"{value:.2g}{unit}"
    return f"{value:.{digits}f}{unit}"


def comparison_table(comparisons: Sequence[Comparison]) -> pa.Table:
    """Comparisons as columns, one row a cell."""
    cells = [comparison.printed for comparison in comparisons]
    return pa.table(
        {
            "table": pa.array([cell.table for cell in cells], pa.string()),
            "scenario": pa.array([cell.scenario for cell in cells], pa.string()),
            "method": pa.array([str(cell.method) for cell in cells], pa.string()),
            "network_constrained": pa.array([c.network_constrained for c in cells], pa.bool_()),
            "quantity": pa.array([str(cell.quantity) for cell in cells], pa.string()),
            "printed": pa.array([cell.value for cell in cells], pa.float64()),
            "ours": pa.array([comparison.ours for comparison in comparisons], pa.float64()),
            "difference": pa.array([c.difference for c in comparisons], pa.float64()),
            "printed_text": pa.array([cell.text for cell in cells], pa.string()),
            "ours_text": pa.array([comparison.text for comparison in comparisons], pa.string()),
            "remark": pa.array([comparison.remark for comparison in comparisons], pa.string()),
        }
    )


COLUMNS = ("Case", "Quantity", "Printed", "Ours", "Difference", "Remark")


def comparison_rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Rows for people under `COLUMNS`; a case is named once."""
    rows: list[tuple[str, ...]] = []
    last = ""
    for c in comparisons:
        cell = c.printed
        case = (
            f"{cell.scenario}, {'central' if cell.method is Method.CENTRAL else 'ADMM'}, "
            f"{'with' if cell.network_constrained else 'no'} limits"
        )
        words = str(cell.quantity).replace("_percent", " [%]").replace("_", " ")
        difference = "" if c.difference is None else f"{c.difference:+.3g}"
        rows.append((case if case != last else "", words, cell.text, c.text, difference, c.remark))
        last = case
    return rows


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned plain text; columns of numbers to the right.

    Parameters
    ----------
    columns : sequence of str
        Names.
    rows : sequence of sequences of str
        Cells.
    """
    widths = [max([len(name), *(len(row[k]) for row in rows)]) for k, name in enumerate(columns)]
    right = [bool(rows) and all(_numeric(row[k]) for row in rows) for k in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, rows)])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def _numeric(cell: str) -> bool:
    stripped = cell.strip("≈%×+- ")
    return not stripped or stripped[0].isdigit() or stripped in ("–", "—")
