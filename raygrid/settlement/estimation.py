"""Readings that were lost: what may be put in their place, and what may not.

The rule must give nobody a reason to lose a reading. So nothing comes from the schedule, nor from
the past: whoever failed to deliver would lose the reading and be paid for what was planned.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import BoolArray, IntArray


def fill_single_gaps(
    reading_wh: IntArray,
    register_wh: IntArray,
    recorded: BoolArray,
    opening_wh: IntArray,
    closing_wh: IntArray,
) -> tuple[IntArray, BoolArray]:
    """Fill readings that were lost alone from the registers around them.

    The register before the gap is that of the period before, or the day's opening; the register
    after it is that of the next period less its reading, or the day's closing. Their difference
    is what was delivered, to the watt-hour, so losing the reading changes nothing. Of two and
    more lost in a row only the sum is known. Prices differ between periods, and who lost them
    could choose the dearest one for all of it: they stay lost.

    Parameters
    ----------
    reading_wh, register_wh : (M, T) int64
        Readings, and net registers at the end of each period, where recorded [Wh].
    recorded : (M, T) bool
        Which were recorded.
    opening_wh, closing_wh : (M,) int64
        Net registers at the day's start and end [Wh].

    Returns
    -------
    reading_wh : (M, T) int64
        Readings, 0 where there is none [Wh].
    estimated : (M, T) bool
        Which of them come from registers.
    """
    # Like a day of T + 2 periods of which the first and the last are always known.
    ends = np.ones((len(recorded), 1), dtype=np.bool_)
    known = np.concatenate([ends, recorded, ends], axis=1)
    before = np.concatenate([opening_wh[:, None], register_wh[:, :-1]], axis=1)
    after = np.concatenate([register_wh[:, 1:] - reading_wh[:, 1:], closing_wh[:, None]], axis=1)
    alone = ~recorded & known[:, :-2] & known[:, 2:]
    filled = np.where(recorded, reading_wh, 0)
    return np.where(alone, after - before, filled), alone
