"""Plans of a history: what they put into the market, and that they come back whole."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.bidders_market import plans_name
from raygrid.learning.market_days import learning_scenario
from raygrid.learning.planned_days import PlannedDays, plan_days
from raygrid.learning.policy import Bidder
from raygrid.market.rule import sharing_action
from raygrid.scenario.load import load_scenario

SETTINGS = (
    "history.train_days=2", "history.validation_days=1", "history.test_days=1",
    "population.evs={share: 0.2}",
)  # fmt: skip


def test_days_are_planned_in_a_row_and_the_market_follows_them(tmp_path: Path) -> None:
    found = learning_scenario("ai_tem", settings=SETTINGS, agents=8)
    market, said = found.days.market, []
    first = int(found.days.train[0])
    planned = plan_days(found, np.arange(first, first + 2), None, said.append)
    assert said == ["planned 2 of 2 days"]
    over = planned.over(market)
    rows = slice(first * 96, (first + 2) * 96)
    np.testing.assert_array_equal(over.feed.position_kw[rows], planned.position_kw)
    assert (over.feed.position_kw[rows.stop :] == 0).all()
    np.testing.assert_allclose(planned.position_kw.sum(axis=1), 0, atol=1e-9)
    assert (market.feed.position_kw == 0).all(), "the market that was given stays as it was"

    starts = planned.starts(over.feed.n_days)
    np.testing.assert_array_equal(starts[first + 1], planned.start_kwh[1])
    assert np.isnan(starts[first + 2]).all()
    over.reset(np.array([first * 96 + 40]))
    rule = over.feed.correction
    assert rule is not None
    k = over.outlook.period
    np.testing.assert_array_equal(
        Bidder(over).act(), sharing_action(over.outlook, rule.takes[k], rule.gives[k])
    )

    planned.save(tmp_path / "plans.npz")
    again = PlannedDays.load(tmp_path / "plans.npz")
    for f in fields(PlannedDays):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(planned, f.name))
    (tmp_path / "plans.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="missing or damaged"):
        PlannedDays.load(tmp_path / "plans.npz")


def test_plans_are_named_by_what_they_are_of() -> None:
    """Scenario and forecasts, but not what bidders learn by."""

    def name(*settings: str, forecasts: tuple[str, ...] = ("a", "b")) -> str:
        return plans_name(*load_scenario("ai_tem", settings=settings), forecasts)

    same = name()
    assert name("intraday.reward={violation: 3.0}", "intraday.bidders={hidden: 8}") == same
    others = {
        name("history.test_days=3"), name("intraday.zones=4"), name(forecasts=("a", "c")), same,
    }  # fmt: skip
    assert len(others) == 4
