"""Resampling of profiles keeps energy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.scenario.resample import resample

DAY = np.random.default_rng(1).uniform(0, 5, (3, 24))


def test_same_periods_give_the_same_bits():
    assert (resample(DAY, 1.0, 1.0, 24) == DAY).all()
    assert (resample(DAY, 0.25, 0.25, 10, first_hour=1.0) == DAY[:, 4:14]).all()


def test_hand_worked():
    values = np.array([[1.0, 3.0, 5.0, 7.0]])
    np.testing.assert_allclose(resample(values, 0.5, 1.0, 2), [[2.0, 6.0]], rtol=1e-12)
    np.testing.assert_allclose(resample(values, 1.0, 0.5, 4), [[1, 1, 3, 3]], rtol=1e-12)
    np.testing.assert_allclose(resample(values, 1.0, 1.5, 2), [[5 / 3, 13 / 3]], rtol=1e-12)
    # It begins anew after its end.
    np.testing.assert_allclose(resample(values, 1.0, 2.0, 2, 3.0), [[4.0, 4.0]], rtol=1e-12)


@given(
    dt=st.sampled_from([1 / 12, 0.25, 0.5, 0.75, 1.0, 4.8, 24.0]),
    start=st.floats(0, 100),
)
def test_energy_is_kept_over_whole_days(dt, start):
    n = round(24 / dt) if abs(24 / dt - round(24 / dt)) < 1e-9 else 32
    out = resample(DAY, 1.0, dt, n, start)
    assert out.shape == (3, n)
    assert (out >= DAY.min(axis=1, keepdims=True)).all()
    assert (out <= DAY.max(axis=1, keepdims=True)).all()
    if n * dt == pytest.approx(24):
        np.testing.assert_allclose(out.sum(axis=1) * dt, DAY.sum(axis=1), rtol=1e-9, atol=1e-12)
