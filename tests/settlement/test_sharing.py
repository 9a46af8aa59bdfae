"""Readings shared among sessions: parts add up, and bear out what the whole bears out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raygrid.settlement.rules import Tolerance, VoidReason, meter_faults
from raygrid.settlement.sharing import shared_readings

ENERGY = st.integers(-100_000, 100_000)
TOLERANCE = Tolerance(5, 15_000)


@given(st.lists(ENERGY, min_size=1, max_size=4), st.integers(-(2**40), 2**40))
def test_parts_add_up_to_the_reading(traded, reading):
    parts = shared_readings(np.array([[reading]]), np.array([traded]))
    assert parts.shape == (1, len(traded))
    assert parts.sum() == reading


@given(ENERGY, st.integers(-(2**46), 2**46))
def test_one_session_has_all_of_it(traded, reading):
    assert shared_readings(np.array([[reading]]), np.array([[traded]])).item() == reading


@given(st.lists(ENERGY, min_size=4, max_size=4), st.integers(-1000, 1000))
def test_what_bears_out_the_sum_bears_out_each_session(traded, parts_per_mille):
    """Within half a watt-hour of the tolerance, by which parts are rounded."""
    traded, total = np.array(traded), sum(traded)
    limit = TOLERANCE.wh + TOLERANCE.ppm * abs(total) / 1e6 / (1 + TOLERANCE.ppm / 1e6)
    reading = total + int((limit - 1) * parts_per_mille / 1000)
    parts = shared_readings(np.array([[reading]]), traded[None])[0]
    sold, bought = np.maximum(traded, 0), np.maximum(-traded, 0)
    faults = meter_faults(sold, bought, parts, np.ones(4, dtype=bool), TOLERANCE)
    assert (faults == VoidReason.NONE).all()


def test_what_differs_is_shared_by_what_was_traded():
    traded = np.array([[-3000, 1000, 0, 0, 0, 0, 0, 4000]])
    parts = shared_readings(np.array([[-1600, 4000]]), traded)
    np.testing.assert_array_equal(parts, [[-2700, 1100, 0, 0, 0, 0, 0, 4000]])


def test_great_energies_do_not_overflow():
    traded = np.array([[2**41, -(2**41), 2**40, 0]])
    parts = shared_readings(np.array([[2**46]]), traded)
    assert parts.sum() == 2**46
    assert (np.abs(parts) < 2**46).all()
