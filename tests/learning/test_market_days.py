"""From a scenario with a history to a market to learn in."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.evaluate import Idle, compare, evaluate, unmanaged
from raygrid.learning.market_days import LearningScenario, Predictions, learning_scenario
from raygrid.learning.policy import Bidder
from raygrid.market.units import Slot

SETTINGS = (
    "history.train_days=2",
    "history.validation_days=1",
    "history.test_days=1",
    "population.evs={share: 0.3}",
    "population.shiftable={share: 1.0}",
    "intraday={zones: 3, price_rule: pay_as_bid, congestion_price_per_kwh: 0.02}",
)


def small(*more: str, predictions: Predictions | None = None) -> LearningScenario:
    return learning_scenario(
        "ai_tem", settings=(*SETTINGS, *more), agents=10, predictions=predictions
    )


def perfect(found: LearningScenario) -> Predictions:
    """What is measured as forecast, the prosumers by falling id."""
    units, feed = found.days.market.units, found.days.market.feed
    order = np.argsort(-units.prosumer_id)
    return Predictions(units.prosumer_id[order], feed.load_kw.T[order], feed.pv_kw.T[order])


def test_the_scenario_says_who_there_is_and_how_they_trade() -> None:
    found = small("intraday.reward={violation: 3.0}", "intraday.bidders={episodes: 7}")
    market, days = found.days.market, found.days
    units, feed = market.units, market.feed
    assert (days.train.tolist(), days.validation.tolist(), days.test.tolist()) == ([0, 1], [2], [3])
    assert feed.load_kw.shape == (4 * 96, 10)
    assert feed.day_periods == 96
    assert (units.max_kwh[:, Slot.EV] > 0).sum() == 3
    assert (units.max_kwh[:, Slot.SHIFTABLE] > 0).sum() == 10
    battery = units.max_kwh[:, Slot.BATTERY]
    assert (battery > 0).sum() == 4
    assert market.rules.price_rule == "pay_as_bid"
    assert market.rules.congestion_micro_per_kwh == 20_000
    assert 1 <= len(set(units.zone.tolist())) <= 3
    assert found.options.episodes == 7
    assert found.reward.violation == 3.0
    # Persistence is known when orders are due: it is the period before.
    np.testing.assert_array_equal(feed.predicted_load_kw[1:], feed.load_kw[:-1])


def test_forecasts_take_the_place_of_persistence() -> None:
    """In whatever order the prosumers come."""
    known = perfect(small())
    found = small(predictions=known).days.market.feed
    np.testing.assert_array_equal(found.predicted_load_kw, found.load_kw)
    np.testing.assert_array_equal(found.predicted_pv_kw, found.pv_kw)
    fewer = Predictions(known.prosumer_id[1:], known.load_kw[1:], known.pv_kw[1:])
    with pytest.raises(InputError, match="has no forecast"):
        small(predictions=fewer)


def test_knowing_better_fails_fewer_trades() -> None:
    found = small()
    known = small(predictions=perfect(found))
    worth = found.days.worth
    failed = []
    for market in (found.days.market, known.days.market):
        figures = evaluate(market, Bidder(market), np.arange(3), worth)
        failed.append(figures.failed_kwh.sum())
    assert failed[1] < 0.2 * failed[0]


def test_evs_charge_on_arrival_where_nobody_manages_them() -> None:
    found = small("network.limits=null")
    market = found.days.market
    alone = unmanaged(market)
    stored = {}
    for name, one in (("unmanaged", alone), ("deferred", market)):
        one.reset(np.array([0]))
        for _ in range(92):
            done = one.step(Idle(one).act())
        stored[name] = done.energy_kwh[0, :, Slot.EV]
    evs = market.units.max_kwh[:, Slot.EV] > 0
    assert (stored["unmanaged"][evs] > stored["deferred"][evs] + 2).all(), "by 23 h"
    figures = compare(market, {}, np.arange(2), found.days.worth)
    assert set(figures) == {"grid_only", "deferred", "rule"}
    assert figures["rule"].cost.sum() < figures["grid_only"].cost.sum()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("community", (), "has no days to learn from"),
        ("ai_tem", (*SETTINGS, "tariffs=null"), "no grid connection"),
        (
            "ai_tem",
            (*SETTINGS, "population.shiftable={share: 1.0, loads: 2}"),
            "more than one shiftable store",
        ),
        ("ai_tem", (*SETTINGS, "horizon.periods=7", "horizon.period_hours=7.0"), "fill a day"),
    ],
)
def test_bad_input(name: str, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        learning_scenario(name, settings=settings, agents=10)
