"""Statistics of paired days against published and hand-worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.results.paired import Spread, holm, paired_difference

SLEEP_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SLEEP_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_students_sleep_data() -> None:
    """Biometrika 6 (1908): t = -4.0621 with 9 degrees of freedom, p = 0.002833."""
    found = paired_difference(SLEEP_1, SLEEP_2)
    assert found.mean == pytest.approx(-1.58)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert found.days == 10


def test_the_interval_and_the_p_value_agree_with_scipy() -> None:
    from scipy import stats

    random = np.random.default_rng(3)
    x, y = random.normal(size=30), random.normal(0.3, 1.0, size=30)
    found, theirs = paired_difference(x, y), stats.ttest_rel(x, y)
    assert found.p_value == pytest.approx(float(theirs.pvalue))
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_days_that_all_differ_alike_leave_no_doubt() -> None:
    same = paired_difference(SLEEP_1, SLEEP_1)
    assert (same.mean, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    shifted = paired_difference(np.arange(4.0) + 2.0, np.arange(4.0))
    assert (shifted.mean, shifted.low, shifted.high, shifted.p_value) == (2.0, 2.0, 2.0, 0.0)


def test_one_day_gives_a_difference_but_no_interval() -> None:
    found = paired_difference(np.array([3.0]), np.array([1.0]))
    assert found.mean == 2.0
    assert all(math.isnan(x) for x in (found.low, found.high, found.p_value))
    assert math.isnan(Spread.of(np.array([3.0])).deviation)


def test_days_must_pair() -> None:
    with pytest.raises(ValueError, match="3 days cannot be paired with 2"):
        paired_difference(np.zeros(3), np.zeros(2))


def test_holm_by_hand() -> None:
    """0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1, which may not fall below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    corrected = holm([0.02, math.nan, 0.03])
    assert corrected[0] == corrected[2] == pytest.approx(0.04)
    assert math.isnan(corrected[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_only_raises(p: list[float]) -> None:
    corrected = holm(p)
    assert all(q >= value and q <= 1 for q, value in zip(corrected, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_spread_is_of_the_sample() -> None:
    found = Spread.of(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.mean == 2.5
    assert found.deviation == pytest.approx(math.sqrt(5 / 3))
