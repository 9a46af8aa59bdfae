"""The environment: what agents see, what they earn, and where a day ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.learning.environment import (
    FEATURES,
    MarketEnvironment,
    RewardWeights,
    Worth,
    community_effect,
    reward,
    training_scales,
)
from raygrid.learning.evaluate import Idle, evaluate, validation_rows
from raygrid.learning.policy import Bidder
from raygrid.market.actions import Action
from raygrid.market.intraday import IntradayMarket
from raygrid.market.rule import dear, rule_action
from raygrid.market.units import N_SLOTS, Slot
from tests.synthetic import community

NO_TERMS = RewardWeights(*[0.0] * 10)


def environment(weights: RewardWeights | None = None) -> MarketEnvironment:
    people = community()
    market = IntradayMarket(people.units, people.feed, people.limits)
    scales = training_scales(people.feed, np.arange(3))
    return MarketEnvironment(market, scales, flat(market), weights)


def flat(market: IntradayMarket, per_kwh: float = 0.2) -> Worth:
    """The same value for every store at every hour."""
    feed = market.feed
    return Worth(np.full((feed.day_periods, len(market.units), N_SLOTS), per_kwh))


def test_observations_by_hand() -> None:
    env = environment()
    seen, mask = env.reset(np.array([1, 2]))
    feed, units = env.market.feed, env.market.units
    assert seen.shape == (2, len(units), len(FEATURES))
    assert seen.dtype == np.float32
    assert mask.shape == (2, len(units), len(Action))
    at = {name: seen[0, :, k] for k, name in enumerate(FEATURES)}
    days = slice(0, 3 * 96)
    np.testing.assert_allclose(
        at["predicted_load"], feed.load_kw[95] / feed.load_kw[days].max(axis=0), rtol=1e-6
    )
    has_battery = units.max_kwh[:, Slot.BATTERY] > 0
    np.testing.assert_allclose(at["battery"], np.where(has_battery, 0.5, 0.0), rtol=1e-6)
    np.testing.assert_allclose(at["import_price"], 0.24 / feed.import_price_per_kwh.mean())
    np.testing.assert_allclose(at["highest_price_ahead"], 0.30 / feed.import_price_per_kwh.mean())
    np.testing.assert_allclose(at["sine_of_day"], 0.0, atol=1e-7)
    np.testing.assert_allclose(at["cosine_of_day"], 1.0)
    np.testing.assert_allclose(at["peer_offers"], 0.5)
    for _ in range(40):
        step = env.step(np.full((2, len(units)), Action.SELL))
    last = step.outcome
    share = last.offered_wh / (last.offered_wh + last.bid_wh)
    np.testing.assert_allclose(step.observation[:, 0, 11], share, rtol=1e-6)
    np.testing.assert_allclose(
        step.observation[:, 0, 15], np.abs(last.position).max(axis=1), rtol=1e-6
    )
    assert np.isfinite(step.observation).all()


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("cost_reduction", lambda o, s: o.baseline_cost - o.grid_cost + o.money_micro / 1e6),
        ("degradation", lambda o, s: -o.cycle_cost),
        ("failed_settlement", lambda o, s: -s.price_per_kwh * o.failed_wh / 1000),
        ("renewable_use", lambda o, s: s.price_per_kwh * (o.pv_kw * 0.25 - o.export_kwh).clip(0)),
        ("trading_profit", lambda o, s: o.money_micro / 1e6 - 0.08 * o.sold_wh / 1000
         + 0.30 * o.bought_wh / 1000),
    ],
)  # fmt: skip
def test_each_term_of_the_reward(term: str, expected) -> None:  # type: ignore[no-untyped-def]
    env = environment(replace(NO_TERMS, **{term: 1.0}))
    env.reset(np.array([0]))
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = env.market.outlook.mask
        step = env.step(np.argmax(rng.random(mask.shape) * mask, axis=-1))
    wanted = expected(step.outcome, env.scales) / env.scales.money
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(step.reward, wanted, rtol=1e-5, atol=1e-6)


def test_own_effect_on_the_community_by_hand() -> None:
    """Others draw 1 kWh; 0 of the two feeds in 0.4 from its battery, and has 0.1 not traded."""
    env = environment()
    env.reset(np.array([0]))
    done = env.step(np.zeros((1, 20), dtype=np.int64)).outcome
    feed = env.market.feed
    buy, sell = feed.import_price_per_kwh[0], feed.export_price_per_kwh[0]
    stores = np.zeros((1, 20, N_SLOTS))
    stores[0, 0, Slot.BATTERY] = 0.4 / feed.period_hours
    stores[0, 1, Slot.BATTERY] = -1.4 / feed.period_hours
    imported, exported = np.zeros((1, 20)), np.zeros((1, 20))
    imported[0, 1], exported[0, 0] = 1.0, 0.1
    bare = replace(done, store_kw=stores, import_kwh=imported, export_kwh=exported)
    effect = community_effect(bare, feed)[0]
    # Net import is 0.9: without 0 it is 1.3, without 1 it is an export of 0.5.
    assert effect[0] == pytest.approx(-0.4 * buy + 0.1 * (buy - sell))
    assert effect[1] == pytest.approx(0.9 * buy + 0.5 * sell + 0.1 * (buy - sell))
    np.testing.assert_allclose(effect[2:], 0.0, atol=1e-12)


def test_energy_of_planned_days_counts_at_their_own_multipliers() -> None:
    """0.5 kWh more in a battery at 0.31; EVs keep the price of the hour, 0.2 and 0.3 after it."""
    per_kwh = np.full((2, 3, N_SLOTS), 0.2)
    per_kwh[1] = 0.3
    planned = np.array([[0.1, 0.1, 0.1], [0.31, 0.1, 0.1]])
    before, after, least = np.zeros((1, 3, N_SLOTS)), np.zeros((1, 3, N_SLOTS)), np.ones((3, 3))
    before[0, :, Slot.BATTERY] = 2.0
    after[0, :, Slot.BATTERY] = 2.5, 2.0, 1.0
    before[0, :, [Slot.EV, Slot.SHIFTABLE]] = after[0, :, [Slot.EV, Slot.SHIFTABLE]] = 1.0
    before[0, 2, Slot.EV], after[0, 2, Slot.EV] = 3.0, 2.0
    found = Worth(per_kwh, planned).gained(np.array([1]), before, after, least)
    np.testing.assert_allclose(found[0], [0.5 * 0.31, 0.0, -0.1 + 0.2 * 1.0 - 0.3 * 2.0])


def test_penalties_and_stored_energy() -> None:
    env = environment()
    env.reset(np.array([0]))
    done = env.step(np.zeros((1, 20), dtype=np.int64)).outcome
    feed, scales = env.market.feed, env.scales
    gained = np.zeros((1, 20))
    gained[0, 4] = 0.3

    def of(term: str, outcome=done):  # type: ignore[no-untyped-def]
        return reward(outcome, gained, scales, replace(NO_TERMS, **{term: 2.0}), feed)[0]

    assert of("stored_energy")[4] == pytest.approx(2 * 0.3 / scales.money[4], rel=1e-5)
    broken = replace(done, overload=np.array([0.25]), unmet_kwh=np.full((1, 20), 0.1))
    assert of("violation", broken) == pytest.approx(np.full(20, -0.5))
    assert of("voltage_feasibility", broken) == pytest.approx(np.zeros(20))
    assert of("voltage_feasibility") == pytest.approx(np.full(20, 2.0))
    lacking = -0.2 * scales.price_per_kwh / scales.money
    np.testing.assert_allclose(of("unmet_demand", broken), lacking, rtol=1e-5)


def test_a_day_is_truncated_after_its_periods() -> None:
    env = environment()
    env.reset(np.array([0, 3]), np.random.default_rng(1))
    ends = [env.step(np.zeros((2, 20), dtype=np.int64)).truncated for _ in range(96)]
    assert ends == [False] * 95 + [True]
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros((2, 20), dtype=np.int64))


def test_batteries_start_anywhere_in_training_and_as_given_otherwise() -> None:
    env = environment()
    units = env.market.units
    env.reset(np.arange(3), np.random.default_rng(1))
    stored = env.market.energy_kwh[..., Slot.BATTERY]
    assert (stored >= units.min_kwh[:, Slot.BATTERY] - 1e-12).all()
    assert (stored <= units.max_kwh[:, Slot.BATTERY] + 1e-12).all()
    assert np.ptp(stored[:, 0]) > 0
    env.reset(np.arange(3))
    np.testing.assert_array_equal(
        env.market.energy_kwh[..., Slot.BATTERY],
        np.repeat(units.initial_kwh[None, :, Slot.BATTERY], 3, axis=0),
    )


def test_the_rule_does_as_it_is_stated() -> None:
    env = environment()
    market, is_dear = env.market, dear(env.market.feed)
    assert is_dear[:96].sum() == 20, "17 to 22 h"
    env.reset(np.array([0]))
    for _ in range(96):
        view = market.outlook
        action = rule_action(view, is_dear)
        assert np.take_along_axis(view.mask, action[..., None], axis=-1).all()
        lacking = view.surplus_kw[0] <= 0
        costly = is_dear[view.period[0]]
        can = view.mask[0]
        discharging = can[:, Action.DISCHARGE] & lacking & costly
        assert (action[0, discharging] == Action.DISCHARGE).all()
        charging = ~lacking & can[:, Action.CHARGE] & ~can[:, Action.SHIFT]
        assert (action[0, charging] == Action.CHARGE).all()
        market.step(action)


def test_what_stored_energy_gains_is_a_potentials_difference() -> None:
    """By hand, and over a day the sum telescopes but for what was driven or used."""
    per_kwh = np.array([0.1, 0.3])[:, None, None] * np.ones((2, 1, N_SLOTS))
    worth = Worth(per_kwh)
    before, after = np.array([[[3.0, 4.0, 0.0]]]), np.array([[[2.0, 6.0, 0.0]]])
    least = np.array([[1.0, 0.0, 0.0]])
    of_even = worth.gained(np.array([4]), before, after, least)
    assert of_even == pytest.approx(0.3 * (1 + 6) - 0.1 * (2 + 4))
    of_odd = worth.gained(np.array([5]), before, after, least)
    assert of_odd == pytest.approx(0.1 * (1 + 6) - 0.3 * (2 + 4))

    env = environment(replace(NO_TERMS, stored_energy=1.0))
    env.reset(np.array([1]))
    market, earned = env.market, 0.0
    begun, used = market.energy_kwh, 0.0
    for _ in range(96):
        step = env.step(rule_action(market.outlook, dear(market.feed)))
        earned = earned + step.reward * env.scales.money
        used = used + (step.outcome.energy_kwh - market.energy_kwh)
    gained = 0.2 * (market.energy_kwh - begun + used).sum(axis=-1)
    np.testing.assert_allclose(earned, gained, rtol=1e-4, atol=1e-5)


def test_the_rule_beats_idling_and_figures_add_up() -> None:
    env = environment()
    market, days = env.market, np.arange(4)
    idle = evaluate(market, Idle(market), days, env.worth)
    rule = evaluate(market, Bidder(market), days, env.worth)
    assert rule.cost.sum() < idle.cost.sum()
    assert (rule.utilisation >= idle.utilisation - 1e-9).all()
    assert rule.utilisation.max() <= 1
    assert idle.fallbacks == 0
    assert rule.fallbacks == 4 * 96 * 20
    np.testing.assert_allclose(idle.traded_kwh, 0)
    np.testing.assert_allclose(
        idle.pv_kwh, market.feed.pv_kw.reshape(4, 96, -1).sum(axis=(1, 2)) / 4
    )
    with pytest.raises(ValueError, match="follow each other"):
        evaluate(market, Idle(market), np.array([0, 2]), env.worth)


def test_what_days_in_a_row_leave_is_the_last_midnight_less_the_first() -> None:
    env = environment()
    market = env.market
    market.reset(np.array([0]))
    first = market.energy_kwh
    figures = evaluate(market, Bidder(market), np.arange(3), env.worth)
    gained = 0.2 * (market.energy_kwh - first).sum()
    assert figures.stored.sum() == pytest.approx(gained, abs=1e-9)


def test_rows_side_by_side_are_days_in_a_row_once_their_stores_have_settled() -> None:
    """A battery that everybody empties at night forgets where it began."""
    env = environment()
    market = env.market
    row = evaluate(market, Bidder(market), np.array([2, 3]), env.worth)
    cut = evaluate(market, Bidder(market), np.array([2, 3]), env.worth, rows=2)
    whole = evaluate(market, Bidder(market), np.arange(1, 4), env.worth)
    np.testing.assert_allclose(cut.cost[0], whole.cost[1], rtol=1e-12)
    assert row.cost[0] != cut.cost[0], "it begins with the stores' initial energy"
    assert cut.fallbacks == row.fallbacks == 2 * 96 * 20
    with pytest.raises(ValueError, match="cannot be cut into 2 rows"):
        evaluate(market, Bidder(market), np.arange(3), env.worth, rows=2)
    assert validation_rows(30) == 6
    assert validation_rows(1) == 1
    assert validation_rows(7) == 1
