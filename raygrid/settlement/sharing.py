"""A meter's reading shared among the sessions of a period, so that each can be verified apart.

A meter shows one number: what all sessions came to. Which part of it belongs to which session is no
measurement but follows from what was traded: each session's part is what the participant traded in
it, and the rest, by which meter and trades differ, is shared in proportion to these energies. So
the parts add up to the reading, a meter that bears out the sum of all sessions bears out each, and
a participant without a reading has none in any.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement.rules import MAX_READING_WH

_WEIGHT_BITS = 31


def shared_readings(reading_wh: IntArray, traded_wh: IntArray) -> IntArray:
    """Parts of readings; M participants, T periods, S sessions.

    Parameters
    ----------
    reading_wh : (M, T) int64
        Net readings, fed in positive [Wh].
    traded_wh : (M, T * S) int64
        Net energies traded, sold positive, period by period and therein by session [Wh].

    Returns
    -------
    (M, T * S) int64
        Parts that add up to the readings; what nobody traded on goes to the last session [Wh].
    """
    members, periods = reading_wh.shape
    traded = traded_wh.reshape(members, periods, -1)
    rest = reading_wh - traded.sum(axis=-1)
    weight = np.abs(traded)
    # 31 bits of the weights are plenty, and the products below stay within 64.
    largest = int(weight.sum(axis=-1).max(initial=0))
    weight = weight >> max(0, largest.bit_length() - _WEIGHT_BITS)
    ends = np.cumsum(weight, axis=-1)
    total = ends[..., -1:]
    ends[..., -1:] = total = np.maximum(total, 1)
    whole, over = np.divmod(rest[..., None], total)
    parts = np.diff(whole * ends + over * ends // total, axis=-1, prepend=0)
    shared = np.clip(traded + parts, -MAX_READING_WH, MAX_READING_WH)
    return np.asarray(shared.reshape(members, -1))
