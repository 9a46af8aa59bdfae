"""Lost readings: registers give single ones back to the watt-hour and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raygrid.settlement.estimation import fill_single_gaps

SHAPE = (4, 7)


def filled(reading, recorded, opening):
    register = opening[:, None] + np.cumsum(reading, axis=1)
    closing = opening + reading.sum(axis=1)
    blank = np.where(recorded, 1, 0)
    return fill_single_gaps(reading * blank, register * blank, recorded, opening, closing)


def test_single_gaps_by_hand():
    reading = np.array([[10, -4, 7, 3, 5]])
    for lost in range(5):
        recorded = np.ones((1, 5), dtype=bool)
        recorded[0, lost] = False
        got, estimated = filled(reading, recorded, np.array([100]))
        np.testing.assert_array_equal(got, reading)
        np.testing.assert_array_equal(estimated, ~recorded)


def test_two_in_a_row_stay_lost():
    reading = np.array([[10, -4, 7, 3, 5]])
    recorded = np.array([[True, False, False, True, False]])
    got, estimated = filled(reading, recorded, np.array([0]))
    np.testing.assert_array_equal(got, [[10, 0, 0, 3, 5]])
    np.testing.assert_array_equal(estimated, [[False, False, False, False, True]])


@given(
    arrays.arrays(np.int64, SHAPE, elements=st.integers(-(10**6), 10**6)),
    arrays.arrays(np.bool_, SHAPE),
    st.integers(0, 10**9),
)
def test_losing_readings_never_changes_one(reading, recorded, opening):
    """Whoever loses readings ends with the true ones or with none: there is nothing to gain."""
    got, estimated = filled(reading, recorded, np.full(SHAPE[0], opening))
    known = recorded | estimated
    np.testing.assert_array_equal(got, np.where(known, reading, 0))
    assert not (recorded & estimated).any()
    padded = np.pad(recorded, ((0, 0), (1, 1)), constant_values=True)
    np.testing.assert_array_equal(estimated, ~recorded & padded[:, :-2] & padded[:, 2:])
