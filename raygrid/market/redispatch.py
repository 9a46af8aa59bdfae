"""Local re-dispatch: what the operator changes where a line or a voltage would break its limit."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import compiled

TOLERANCE = 1e-9
"""Positions this far beyond 1 count as within the limit."""

ROUNDS_PER_ROW = 8


@compiled
def relieve_many(
    position: FloatArray,
    effect: FloatArray,
    fall: FloatArray,
    rise: FloatArray,
    change: FloatArray,
) -> None:
    """Move C adjustable powers of E communities until no row is beyond its limit, if they can.

    The worst row first: each power that helps it gives a part of what it can, in proportion to
    its effect on the row. What one row needs may move another, so rows are visited in turn, up
    to `ROUNDS_PER_ROW` times each.

    Parameters
    ----------
    position : (E, M) float64
        Positions of the rows, -1 to 1 within their limits; updated.
    effect : (C, M) float64
        What a kW fed in adds to the positions.
    fall, rise : (E, C) float64
        By how much each power may fall and rise; updated [kW].
    change : (E, C) float64
        Set to the changes [kW].
    """
    n_rows = position.shape[1]
    hopeless = np.zeros(n_rows, dtype=np.bool_)
    for e in range(len(position)):
        change[e, :] = 0.0
        hopeless[:] = False
        for _ in range(ROUNDS_PER_ROW * n_rows):
            worst, over = 0, 0.0
            for m in range(n_rows):
                if abs(position[e, m]) - 1.0 > over and not hopeless[m]:
                    worst, over = m, abs(position[e, m]) - 1.0
            if over <= TOLERANCE:
                break
            side = 1.0 if position[e, worst] > 0.0 else -1.0
            strongest = 0.0
            for c in range(len(effect)):
                towards = side * effect[c, worst]
                if (fall[e, c] if towards > 0.0 else rise[e, c]) > 0.0:
                    strongest = max(strongest, abs(towards))
            if strongest == 0.0:
                hopeless[worst] = True
                continue
            relief = 0.0
            for c in range(len(effect)):
                towards = side * effect[c, worst]
                room = fall[e, c] if towards > 0.0 else rise[e, c]
                relief += room * towards * towards / strongest
            part = over / relief if relief > 0.0 else np.inf
            moved = 0.0
            for c in range(len(effect)):
                towards = side * effect[c, worst]
                room = fall[e, c] if towards > 0.0 else rise[e, c]
                if room <= 0.0 or towards == 0.0:
                    continue
                step = min(room, part * room * abs(towards) / strongest)
                moved += step
                if towards > 0.0:
                    step = -step
                fall[e, c] += step
                rise[e, c] -= step
                change[e, c] += step
                for m in range(n_rows):
                    position[e, m] += step * effect[c, m]
            hopeless[worst] = moved <= 1e-12
