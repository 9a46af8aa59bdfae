"""Narrower limits for markets of linear rows."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.learning.market_days import LearningScenario, learning_scenario, voltage_limits
from raygrid.learning.reserve import Reserve

SETTINGS = ("history.train_days=2", "history.validation_days=1", "history.test_days=1")


@pytest.fixture(scope="module")
def found() -> LearningScenario:
    return learning_scenario("ai_tem", settings=SETTINGS, agents=8)


def test_a_reserve_of_nothing_changes_no_row(found: LearningScenario) -> None:
    ours, same = found.days.market.limits, Reserve(0.0, 0.0).within(found).days.market.limits
    np.testing.assert_allclose(same.per_kw, ours.per_kw, rtol=1e-12)
    np.testing.assert_allclose(same.constant, ours.constant, rtol=1e-12, atol=1e-15)


def test_rows_are_full_sooner(found: LearningScenario) -> None:
    """A line at 95 % of its limit, and a voltage at 0.953 p.u., are at their bounds."""
    narrow = Reserve(0.05, 0.003).within(found)
    assert voltage_limits(narrow.scenario)[:2] == pytest.approx((0.953, 1.047))
    np.testing.assert_allclose(narrow.network.limit_kw, 0.95 * found.network.limit_kw)
    wide, close = found.days.market.limits, narrow.days.market.limits
    lines = wide.kind == "line"
    np.testing.assert_allclose(close.per_kw[:, lines], wide.per_kw[:, lines] / 0.95)
    np.testing.assert_allclose(
        close.per_kw[:, ~lines], wide.per_kw[:, ~lines] * 0.1 / 0.094, rtol=0.02
    )
    assert found.days.market.limits is not close


def test_the_check_is_against_the_true_limits(found: LearningScenario) -> None:
    from raygrid.grid.powerflow import ac_check

    reserve = Reserve(0.05, 0.003)
    narrow = reserve.within(found)
    p_kw = np.full((found.network.n_buses, 1), -0.2)
    bounds = {"v_min_pu": 0.95, "v_max_pu": 1.05}
    true = ac_check(found.network, p_kw, 0.3 * p_kw, **bounds)
    judged = reserve.judged(ac_check(narrow.network, p_kw, 0.3 * p_kw), found)
    np.testing.assert_allclose(judged.loading, true.loading, rtol=1e-9)
    assert (judged.v_min_pu, judged.v_max_pu) == (true.v_min_pu, true.v_max_pu)
    assert judged.n_overloads == true.n_overloads > 0
    assert judged.n_voltage_violations == true.n_voltage_violations > 0
