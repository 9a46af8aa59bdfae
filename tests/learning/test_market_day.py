"""A market day whole: positions, plans, money and energy across its stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.market_day import forecast_case
from raygrid.learning.market_day_result import (
    DayCase,
    ForecastRule,
    MarketDayResult,
    MarketDays,
    StoreRule,
)
from raygrid.learning.market_days import LearningScenario, Predictions, learning_scenario
from raygrid.market.clearing import ClearingStatus
from raygrid.market.trades import MICRO

SETTINGS = (
    "history.train_days=2",
    "history.validation_days=1",
    "history.test_days=1",
    "population.evs={share: 0.3}",
    "population.shiftable={share: 1.0}",
)


@pytest.fixture(scope="module")
def found() -> LearningScenario:
    return learning_scenario("ai_tem", settings=SETTINGS, agents=10)


def days_of(found: LearningScenario, case: DayCase) -> MarketDays:
    """The days of a case, forecasts by persistence."""
    feed, ids = found.days.market.feed, found.days.market.units.prosumer_id

    def before(lag: int) -> Predictions:
        both = (np.roll(values, lag, axis=0).T for values in (feed.load_kw, feed.pv_kw))
        return Predictions(ids, *both)

    return MarketDays(found, case, day_ahead=before(96), step=before(1))


CASES = (
    DayCase("grid_only", peers=False, day_ahead=False, forecast=ForecastRule.PERSISTENCE,
            stores=StoreRule.IDLE, limits=False),
    DayCase("self", peers=False, day_ahead=False, forecast=ForecastRule.PERSISTENCE,
            stores=StoreRule.SELF_CONSUMPTION, limits=False),
    DayCase("rule", day_ahead=False, forecast=ForecastRule.PERSISTENCE, stores=StoreRule.RULE),
    DayCase("plan", forecast=ForecastRule.PERSISTENCE),
    DayCase("plan_and_rule", forecast=ForecastRule.PERSISTENCE, stores=StoreRule.RULE),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_energy_and_money_add_up_over_days_in_a_row(found: LearningScenario, case: DayCase) -> None:
    days = days_of(found, case)
    feed, units = found.days.market.feed, found.days.market.units
    energy = None
    for done in days.run([1, 2]):
        assert done.money_residual_micro == 0
        intraday, rows = done.intraday, slice(done.day * 96, (done.day + 1) * 96)
        # AI-TEM (1) over the day for each prosumer: what flows is position plus balance plus
        # peers, and position is counted once.
        position = 0 if done.plan is None else done.plan.position_kw
        traded = (intraday.of("sold_wh") - intraday.of("bought_wh")) / 1000
        grid = intraday.of("export_kwh") - intraday.of("import_kwh")
        np.testing.assert_allclose(
            intraday.injection_kw * 0.25, position * 0.25 + traded + grid, rtol=0, atol=1e-9
        )
        if done.plan is not None:
            assert (done.plan.position_wh.sum(axis=1) == 0).all()
            assert done.plan.status is ClearingStatus.CONVERGED
        # The community as one: what its members have with the grid is what crosses the feeder.
        assert done.billed_export_kwh - done.billed_import_kwh == pytest.approx(
            done.export_kwh - done.import_kwh, abs=1e-6
        )
        # Stores (AI-TEM 3): what they gained is what they took, less losses.
        power = intraday.of("store_kw")
        gain = np.where(power < 0, -power * units.eta_charge, -power / units.eta_discharge)
        assert done.stored_kwh == pytest.approx(gain.sum() * 0.25, abs=1e-6)
        assert done.unmet_kwh == 0
        assert done.ac.converged.all()
        np.testing.assert_array_equal(intraday.of("load_kw"), feed.load_kw[rows])
        if energy is not None:
            first = intraday.of("energy_kwh")[0] - gain[0] * 0.25
            np.testing.assert_allclose(first, energy - feed.used_kwh[rows.start], atol=1e-9)
        energy = done.energy_kwh


def test_trades_tables_are_what_money_and_positions_were_made_of(found: LearningScenario) -> None:
    done = days_of(found, DayCase("plan", forecast=ForecastRule.PERSISTENCE)).run_day(1)
    assert done.plan is not None
    for trades, money, network in (
        (done.plan.trades, done.plan.money_micro, done.plan.network_micro),
        (done.intraday.trades, done.intraday.money_micro, done.intraday.network_micro),
    ):
        assert len(trades)
        assert (trades.energy_wh > 0).all()
        assert ((trades.period >= 96) & (trades.period < 192)).all()
        assert (trades.seller_id != trades.buyer_id).all()
        net = np.zeros(len(money), dtype=np.int64)
        for k, i in enumerate(found.days.market.units.prosumer_id):
            net[k] += trades.value_micro[trades.seller_id == i].sum()
            bought = trades.buyer_id == i
            net[k] -= (trades.value_micro + trades.network_micro)[bought].sum()
        np.testing.assert_array_equal(net, money)
        assert network == trades.network_micro.sum()
    ids = np.concatenate([done.plan.trades.trade_id, done.intraday.trades.trade_id])
    assert len(set(ids.tolist())) == len(ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peers": False}, "no peers to trade with"),
        ({"day_ahead": False}, "no day-ahead market that makes one"),
        ({"stores": StoreRule.IDLE}, "plans the stores"),
    ],
)
def test_stages_that_do_not_fit_together(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DayCase("bad", **changes)


def test_bad_input(found: LearningScenario) -> None:
    with pytest.raises(InputError, match="no learned forecasts a day ahead"):
        MarketDays(found, DayCase("full"))
    days = days_of(found, CASES[0])
    short = replace(days.forecast, load_kw=days.forecast.load_kw[:, :96])
    with pytest.raises(InputError, match="of 96 periods, the history has 384"):
        MarketDays(found, DayCase("full"), day_ahead=short, step=short)
    with pytest.raises(InputError, match="must follow each other"):
        list(days.run([0, 2]))
    with pytest.raises(InputError, match="there is no day 4"):
        days.run_day(4)


@pytest.fixture(scope="module")
def perfect(found: LearningScenario) -> MarketDayResult:
    return MarketDays(found, DayCase("bound", forecast=ForecastRule.PERFECT)).run_day(1)


def test_foresight_and_the_plan_cost_the_central_optimum(
    found: LearningScenario, perfect: MarketDayResult
) -> None:
    """AI-TEM (2): CVXPY on the day's case is the oracle of the plan, the plan that of the day."""
    from raygrid.market.central import solve_central

    assert perfect.plan is not None
    central = solve_central(forecast_case(found, 1), network_constrained=True)
    assert perfect.plan.cost >= -central.welfare - 1e-6
    assert perfect.plan.cost == pytest.approx(-central.welfare, rel=2e-3)
    # Trades are whole watt-hours; what that leaves over is balanced at tariff.
    paid = perfect.community_cost - perfect.network_micro / MICRO
    assert paid == pytest.approx(perfect.plan.cost, abs=0.02)
    assert perfect.failed_wh <= 50


def test_who_knows_the_day_does_as_planned_within_all_limits(
    found: LearningScenario, perfect: MarketDayResult
) -> None:
    plan, intraday = perfect.plan, perfect.intraday
    assert plan is not None
    np.testing.assert_allclose(intraday.of("store_kw"), plan.plan_kw, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        intraday.injection_kw, plan.position_kw + plan.planned_kw, rtol=0, atol=1e-4
    )
    assert perfect.limited_periods == 0
    prices = plan.price_per_kwh
    rows = slice(96, 192)
    feed = found.days.market.feed
    assert (prices <= feed.import_price_per_kwh[rows] + 1e-12).all()
    assert (prices >= feed.export_price_per_kwh[rows] - 1e-12).all()


def test_planned_curtailment_is_followed() -> None:
    """Where the feeder cannot take all PV, the plan says whose is curtailed, and that one does."""
    large = (*SETTINGS, "population.pv_peak_kw={low: 8.0, high: 20.0}")
    found = learning_scenario("ai_tem", settings=large, agents=10)
    done = MarketDays(found, DayCase("large", forecast=ForecastRule.PERFECT)).run_day(1)
    assert done.plan is not None
    assert done.plan.status is ClearingStatus.CONVERGED
    planned = np.maximum(found.days.market.feed.pv_kw[96:192] - done.plan.pv_max_kw, 0.0)
    assert planned.sum() * 0.25 > 1.0
    np.testing.assert_allclose(done.intraday.of("curtailed_kw"), planned, rtol=0, atol=5e-3)
    assert done.limited_periods == 0
    # Nobody's position is broken by it: what was curtailed was not sold.
    paid = done.community_cost - done.network_micro / MICRO
    assert paid == pytest.approx(done.plan.cost, abs=0.03)


def test_an_ev_that_cannot_be_charged_in_its_stay_is_one_line() -> None:
    evs = "{share: 0.3, arrival_hour: {low: 16, high: 16}, departure_hour: {low: 17, high: 17}}"
    with pytest.raises(InputError, match="an EV cannot be charged in its stay"):
        learning_scenario("ai_tem", settings=(*SETTINGS, f"population.evs={evs}"), agents=10)
