"""Figures printed in the thesis (Emeruom 2026, chapter 6), each with its table's number.

The only place where they stand; a cell is looked up by (scenario, method, network limits,
quantity), the same key by which a reproduction measures its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How a market was cleared."""

    CENTRAL = "central"
    ADMM = "admm"


class Quantity(StrEnum):
    """What a cell says; the value is its name in stored tables, with the unit."""

    ITERATIONS = "iterations"
    SECONDS = "seconds"
    STATUS = "status"
    WELFARE = "welfare"
    ABSOLUTE_GAP = "absolute_gap"
    RELATIVE_GAP = "gap_percent"
    MAX_UTILISATION = "max_line_utilisation_percent"
    HEAVY_LINES = "lines_above_80_percent"
    LINES = "lines"
    VIOLATIONS = "line_violations"
    TIMES_CENTRAL_FREE = "times_central_without_limits"
    TIMES_CENTRAL_LIMITED = "times_central_with_limits"


DEPENDS_ON_DATA = frozenset(
    {
        Quantity.ITERATIONS,
        Quantity.SECONDS,
        Quantity.TIMES_CENTRAL_FREE,
        Quantity.TIMES_CENTRAL_LIMITED,
    }
)
"""Quantities that are never fitted and so must be labelled 'reconstructed data'."""


@dataclass(frozen=True)
class Printed:
    """One printed cell.

    Attributes
    ----------
    table : str
        Number of the table.
    scenario : str
        'ieee14' or 'ieee33'.
    method : Method
        Who cleared.
    network_constrained : bool
        Whether line limits were enforced.
    quantity : Quantity
        What the cell says.
    value : float or None
        Its number; None where it is a word.
    text : str
        The cell as printed.
    remark : str
        What a reader of the comparison must know.
    """

    table: str
    scenario: str
    method: Method
    network_constrained: bool
    quantity: Quantity
    value: float | None
    text: str
    remark: str = ""


OVER_LIMIT = "a slip: a constrained optimum must not exceed 100 %"
LOCAL_SCHEDULE = "flows of ADMM's own p, no target"

_C, _A = Method.CENTRAL, Method.ADMM
_Q = Quantity


def _rows(
    table: str, quantities: tuple[Quantity, ...], rows: list[tuple[str, Method, bool, str]]
) -> list[Printed]:
    """Cells of a table: scenario, method, limits, and the printed texts split by '|'."""
    cells = []
    for scenario, method, limited, texts in rows:
        for quantity, text in zip(quantities, texts.split("|"), strict=True):
            text = text.strip()
            if text == "—":
                continue
            cells.append(
                Printed(table, scenario, method, limited, quantity, _value(text), text,
                        _remark(scenario, method, limited, quantity))
            )  # fmt: skip
    return cells


def _value(text: str) -> float | None:
    try:
        return float(text.strip("≈%×"))
    except ValueError:
        return None


def _remark(scenario: str, method: Method, limited: bool, quantity: Quantity) -> str:
    if quantity is not _Q.MAX_UTILISATION:
        return ""
    if method is _C and limited:
        return OVER_LIMIT
    return LOCAL_SCHEDULE if method is _A and not limited else ""


PRINTED: tuple[Printed, ...] = (
    *_rows(
        "6.4",
        (_Q.ITERATIONS, _Q.SECONDS, _Q.STATUS),
        [
            ("ieee14", _A, False, "84 | 72.960 | converged"),
            ("ieee14", _A, True, "119 | 222.811 | converged"),
            ("ieee33", _A, False, "80 | 91.674 | converged"),
            ("ieee33", _A, True, "49 | 124.723 | converged"),
        ],
    ),
    *_rows(
        "6.5",
        (_Q.WELFARE,),
        [("ieee14", _C, False, "14.11"), ("ieee14", _C, True, "13.97")],
    ),
    *_rows(
        "6.5",
        (_Q.WELFARE, _Q.ABSOLUTE_GAP, _Q.RELATIVE_GAP),
        [
            ("ieee14", _A, False, "14.10 | 0.010 | 0.0466"),
            ("ieee14", _A, True, "13.97 | 0.003 | 0.0187"),
        ],
    ),
    *_rows(
        "6.6",
        (_Q.WELFARE, _Q.SECONDS, _Q.ITERATIONS, _Q.MAX_UTILISATION),
        [
            ("ieee14", _C, False, "14.11 | 0.413 | — | 211.0%"),
            ("ieee14", _C, True, "13.97 | 0.892 | — | 101.0%"),
            ("ieee14", _A, False, "14.10 | 72.960 | 84 | 239.1%"),
            ("ieee14", _A, True, "13.97 | 222.811 | 119 | 100.0%"),
            ("ieee33", _C, False, "49.25 | 0.578 | — | 646.0%"),
            ("ieee33", _C, True, "45.32 | 1.552 | — | 100.1%"),
            ("ieee33", _A, False, "49.24 | 91.674 | 80 | 385.7%"),
            ("ieee33", _A, True, "45.32 | 124.723 | 49 | 100.0%"),
        ],
    ),
    *_rows(
        "6.7",
        (_Q.MAX_UTILISATION, _Q.HEAVY_LINES, _Q.LINES, _Q.VIOLATIONS),
        [
            ("ieee14", _C, False, "≈211% | 3 | 20 | multiple overload hours"),
            ("ieee14", _A, False, "≈239% | 1 | 20 | significant overload"),
            ("ieee14", _A, True, "≈100% | 1 | 20 | none"),
        ],
    ),
    *_rows(
        "6.9",
        (_Q.SECONDS, _Q.TIMES_CENTRAL_FREE, _Q.TIMES_CENTRAL_LIMITED),
        [
            ("ieee14", _C, False, "0.41 | 1.0× | 0.46×"),
            ("ieee14", _C, True, "0.89 | 2.17× | 1.0×"),
            ("ieee14", _A, False, "72.96 | 178.0× | 82.0×"),
            ("ieee14", _A, True, "222.81 | 543.4× | 250.3×"),
        ],
    ),
)

TITLES = {
    "6.4": "Convergence of distributed ADMM",
    "6.5": "Welfare and gap, IEEE 14-bus",
    "6.6": "Performance of both methods on both systems",
    "6.7": "Use of the network and violations, IEEE 14-bus",
    "6.9": "Computation time, IEEE 14-bus",
}
"""What each table shows."""

RHO_SWEEP = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Penalty parameters of figure 6.5."""

RHO = 0.1
"""Penalty parameter of all tables (section 6.4.1)."""
