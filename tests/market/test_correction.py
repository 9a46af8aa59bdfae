"""How stores follow a day-ahead plan, and batteries make up for what was forecast wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.market.actions import Action
from raygrid.market.feeder_limits import no_limits
from raygrid.market.intraday import IntradayMarket
from raygrid.market.rule import plan_action
from raygrid.market.units import Correction, Slot
from tests.synthetic import community

HOURS = 0.25
NOON = 48


def market_at_noon(
    takes: bool, gives: bool, error_kw: float, known: bool, pv_max_kw: float = np.inf
) -> IntradayMarket:
    """A market whose surplus at noon is off by `error_kw` from what was planned.

    Known errors are in the forecast that orders are placed on; others only meters show.
    """
    people = community()
    feed = people.feed
    n, battery = len(people.units), people.units.max_kwh[:, Slot.BATTERY] > 0
    pv = feed.predicted_pv_kw[NOON] + 5.0
    load = feed.predicted_load_kw[NOON]
    predicted, measured = feed.predicted_pv_kw.copy(), feed.pv_kw.copy()
    measured_load = feed.load_kw.copy()
    predicted[NOON] = pv + (error_kw if known else 0.0)
    measured[NOON], measured_load[NOON] = pv + error_kw, load
    own = replace(feed, predicted_pv_kw=predicted, pv_kw=measured, load_kw=measured_load)
    market = IntradayMarket(people.units, own, no_limits(n), peers=False)
    plan = np.zeros((1, n, 3))
    plan[0, battery, Slot.BATTERY] = -0.2
    must = market_must(market)
    planned = (pv - load + plan[0].sum(axis=-1) + must)[None]
    yes = np.ones((1, n), dtype=np.bool_)
    worth = np.full((1, n), 0.2)
    rule = Correction(planned, takes & yes, gives & yes, np.full((1, n), pv_max_kw), worth)
    market.commit(NOON, np.zeros((1, n)), plan, rule)
    market.reset(np.array([NOON]))
    return market


def market_must(market: IntradayMarket) -> np.ndarray:
    """What EVs and windows must charge at noon whatever is planned (N,) [kW]."""
    market.reset(np.array([NOON]))
    return np.asarray(market.outlook.stores.plan_kw[0].sum(axis=-1))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("error_kw", [0.3, -0.3])
def test_a_battery_takes_and_gives_what_was_forecast_wrongly(error_kw: float, known: bool) -> None:
    market = market_at_noon(True, True, error_kw, known)
    done = market.step(np.full((1, len(market.units)), Action.WAIT))
    battery = market.units.max_kwh[:, Slot.BATTERY] > 0
    np.testing.assert_allclose(done.store_kw[0, battery, Slot.BATTERY], -0.2 - error_kw, atol=1e-9)
    # The meter shows what was planned, and those without a battery leave it to the grid.
    rule = market.feed.correction
    assert rule is not None
    off = (done.export_kwh - done.import_kwh)[0] / HOURS - rule.planned_kw[NOON]
    np.testing.assert_allclose(off[battery], 0.0, atol=1e-9)
    np.testing.assert_allclose(off[~battery], error_kw, atol=1e-9)


@pytest.mark.parametrize(("takes", "gives", "error_kw"), [(False, True, 0.3), (True, False, -0.3)])
def test_it_rests_where_the_tariff_is_cheaper(takes: bool, gives: bool, error_kw: float) -> None:
    for known in (True, False):
        market = market_at_noon(takes, gives, error_kw, known)
        done = market.step(np.full((1, len(market.units)), Action.WAIT))
        battery = market.units.max_kwh[:, Slot.BATTERY] > 0
        np.testing.assert_allclose(done.store_kw[0, battery, Slot.BATTERY], -0.2, atol=1e-9)


def test_no_more_pv_is_fed_in_than_the_plan_allows() -> None:
    market = market_at_noon(False, False, 0.5, True, pv_max_kw=2.0)
    done = market.step(np.full((1, len(market.units)), Action.WAIT))
    np.testing.assert_allclose(done.pv_kw - done.curtailed_kw, 2.0, atol=1e-12)


def test_who_follows_the_plan_trades_what_is_left_over() -> None:
    market = market_at_noon(False, False, 0.0, True)
    action = plan_action(market.outlook)
    surplus = market.outlook.surplus_kw
    assert (action[surplus > 1e-6] == Action.SELL).all()
    assert (action[surplus < -1e-6] == Action.BUY).all()


@pytest.mark.parametrize("action", [Action.CHARGE, Action.DISCHARGE])
@pytest.mark.parametrize("error_kw", [0.3, -0.3])
def test_a_battery_that_acts_for_others_makes_up_for_its_own_home_too(
    action: Action, error_kw: float
) -> None:
    """Its meter shows what its home traded, so that no trade of it fails."""
    as_forecast, missed = (market_with_peers(action, error) for error in (0.0, error_kw))
    battery = as_forecast.units.max_kwh[:, Slot.BATTERY] > 0
    done = []
    for market in (as_forecast, missed):
        told = np.where(battery, action, plan_action(market.outlook))
        done.append(market.step(told))
    before, after = done
    traded = (before.bought_wh + before.sold_wh)[0, battery]
    assert (traded > 0).any()
    assert (after.failed_wh[0, battery] == 0).all()
    for name in ("bought_wh", "sold_wh"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    change = (after.store_kw - before.store_kw)[0, :, Slot.BATTERY]
    np.testing.assert_allclose(change, np.where(battery, -error_kw, 0.0), atol=1e-9)


def market_with_peers(action: Action, error_kw: float) -> IntradayMarket:
    """Those without a battery have 0.1 kW over, or lack it; only meters show the others' error."""
    people = community()
    feed, n = people.feed, len(people.units)
    battery = people.units.max_kwh[:, Slot.BATTERY] > 0
    left = 0.1 if action is Action.CHARGE else -0.1
    powers = {name: getattr(feed, name).copy() for name in
              ("predicted_pv_kw", "predicted_load_kw", "pv_kw", "load_kw")}  # fmt: skip
    must = market_must(IntradayMarket(people.units, feed, no_limits(n), peers=False))
    for name in ("predicted_pv_kw", "pv_kw"):
        powers[name][NOON] = 3.0 + np.where(battery, 0.0, left) - must
    for name in ("predicted_load_kw", "load_kw"):
        powers[name][NOON] = 3.0
    powers["pv_kw"][NOON, battery] += error_kw
    yes, none = np.ones((1, n), dtype=np.bool_), np.zeros((1, n))
    market = IntradayMarket(people.units, replace(feed, **powers), no_limits(n))
    planned, worth = np.where(battery, 0.0, left)[None], np.full((1, n), 0.2)
    rule = Correction(planned, yes, yes, np.full((1, n), np.inf), worth)
    market.commit(NOON, none, np.zeros((1, n, 3)), rule)
    energy = np.where(battery, 0.5 * people.units.max_kwh[:, Slot.BATTERY], 0.0)
    start = people.units.initial_kwh.copy()
    start[:, Slot.BATTERY] = energy
    market.reset(np.array([NOON]), start[None])
    return market
