"""A figure of a report, and the words and colours that figures share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.results.summary import LIMIT_TOLERANCE
from raygrid.results.svg import number

HEAVY = 0.8
"""Utilisation from which a line is called heavily loaded (Table 6.7)."""

RECONSTRUCTED = "reconstructed data"
"""Label of iterations and times of scenarios that the thesis does not print in full."""

LOAD_LEGEND = [("below 80 %", "blue"), ("80 to 100 %", "orange"), ("above 100 %", "red")]


@dataclass(frozen=True)
class Figure:
    """A figure of the report; without `svg` the caption says why there is nothing to see."""

    key: str
    title: str
    svg: str
    caption: str


def percent(share: float, digits: int = 3) -> str:
    """A fraction as a percentage; full lines are not rounded below or above 100 %."""
    if np.isfinite(share) and abs(share - 1) < 1e-4:
        return "100 %"
    return f"{number(float(share) * 100, digits)} %"


def use_colour(share: float) -> str:
    """Colour of a line by its utilisation."""
    if share > 1 + LIMIT_TOLERANCE:
        return "red"
    return "orange" if share >= HEAVY else "blue"
