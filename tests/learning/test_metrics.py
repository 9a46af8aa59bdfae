"""Scores against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raygrid.learning.metrics import coverage, crps, pinball, rmse_percent, skill


def test_rmse_by_hand() -> None:
    found = rmse_percent(np.array([[1.0, 1.0]]), np.array([[4.0, -3.0]]), np.array([10.0]))
    np.testing.assert_allclose(found, [100 * np.sqrt(12.5) / 10])


def test_pinball_by_hand() -> None:
    found = pinball(np.array([2.0, 2.0]), np.array(3.0), np.array([0.1, 0.9]))
    np.testing.assert_allclose(found, [0.1, 0.9])
    found = pinball(np.array([2.0, 2.0]), np.array(1.0), np.array([0.1, 0.9]))
    np.testing.assert_allclose(found, [0.9, 0.1])


@given(st.floats(-3, 3), st.floats(0.2, 5.0))
def test_crps_of_a_normal_distribution(actual: float, deviation: float) -> None:
    """Gneiting and Raftery 2007, equation (21)."""
    levels = np.arange(0.0005, 1, 0.001)
    quantiles = deviation * stats.norm.ppf(levels)
    z = actual / deviation
    closed = deviation * (
        z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    )
    found = crps(quantiles, np.array(actual), levels)
    np.testing.assert_allclose(found, closed, rtol=5e-3, atol=2e-3)


def test_crps_of_a_point_is_the_absolute_error() -> None:
    levels = np.arange(0.005, 1, 0.01)
    found = crps(np.full(100, 2.0), np.array(5.0), levels)
    np.testing.assert_allclose(found, 3.0, rtol=1e-2)


def test_the_median_minimises_its_pinball_loss() -> None:
    values = np.random.default_rng(3).exponential(size=2001)
    losses = [pinball(np.array([q]), values, np.array([0.5])).mean() for q in (0.6, 0.7, 0.8)]
    assert np.argmin(losses) == 1  # log 2 = 0.69


def test_coverage_and_skill() -> None:
    actual = np.arange(10.0)
    assert coverage(np.full(10, 1.0), np.full(10, 8.0), actual) == 0.8
    assert skill(np.array(3.0), np.array(4.0)) == pytest.approx(0.25)
