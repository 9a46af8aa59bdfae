"""Intervals that learn from the days of a run: wider where a day fell out of them too often.

Widths move after each day as `raygrid.learning.calibration.moved` says, of loads, and of PV apart
for each height of the sun. Expected values, which markets go by, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.calibration import groups, moved
from raygrid.learning.inference import SUN_SHARES, Forecaster, sun_heights
from raygrid.learning.network import TARGETS
from raygrid.learning.recent import Interval, RecentDays

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Adjustment:
    """What a day did to the intervals of one horizon; targets load and PV, heights of the sun.

    Attributes
    ----------
    outside, counted : (2, 5) int64
        Samples outside of their interval, and all that count.
    spread : (2, 5) float64
        Factor of the intervals' widths from now on.
    """

    outside: IntArray
    counted: IntArray
    spread: FloatArray


def adjusted(by: Forecaster, recent: RecentDays, found: Interval) -> tuple[Forecaster, Adjustment]:
    """Move a forecaster's intervals by how a day went.

    Parameters
    ----------
    by : Forecaster
        Who made these forecasts.
    recent : RecentDays
        With what happened.
    found : Interval
        `raygrid.learning.recent.intervals` of that day.
    """
    data, steps = recent.data, recent.steps
    envelope = by.series(data).envelope_kw[:, None, steps]
    sun = sun_heights(by.scaling, envelope)[:, 0]
    heights = len(SUN_SHARES) + 1
    outside, counted = np.zeros((2, 2, heights), dtype=np.int64)
    spread = np.array(by.spread, dtype=np.float64)
    measured = np.stack([data.load_kw[:, steps], data.pv_kw[:, steps]])
    low, high = (np.moveaxis(bound, -1, 0) for bound in (found.low_kw, found.high_kw))
    missed = (measured < low) | (measured > high)
    counts = high - low > 1e-6 * by.scaling.load_std_kw[:, None]
    for k, height, some in groups(counts, sun):
        counted[k, height] = some.sum()
        outside[k, height] = (missed[k] & some).sum()
    spread[:2] = moved(spread[:2], outside, counted)
    changed = replace(by, spread=spread.astype(by.spread.dtype))
    return changed, Adjustment(outside, counted, spread[:2])


def adjustment_rows(day: int, made: Sequence[tuple[str, Adjustment]]) -> pa.Table:
    """Rows of `calibration.parquet`.

    Parameters
    ----------
    day : int
        Which of the days in a row.
    made : sequence of (str, Adjustment)
        By horizon, 'day_ahead' and 'step'.
    """
    import pyarrow as pa

    from raygrid.schemas import conform

    targets, heights = TARGETS[:2], len(SUN_SHARES) + 1
    keys = [(h, t, s) for h, _ in made for t in targets for s in range(heights)]
    columns = {
        "day": np.full(len(keys), day),
        "horizon": pa.array([key[0] for key in keys], pa.string()),
        "target": pa.array([key[1] for key in keys], pa.string()),
        "sun": np.array([key[2] for key in keys], dtype=np.int64),
    }
    for name in ("outside", "counted", "spread"):
        columns[name] = np.concatenate([getattr(a, name).ravel() for _, a in made])
    return conform("calibration", pa.table(columns))
