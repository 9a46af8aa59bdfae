"""A cleared day as it is delivered: balances, money, charge, and what stands in for the missing."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.delivered_day import deliver, intraday_market
from raygrid.learning.forecasting import forecast_when_due
from raygrid.learning.market_day import _cleared
from raygrid.learning.stages import DayStages
from raygrid.market.clearing import ClearingOptions
from raygrid.market.marketplace import match_trades
from raygrid.market.sessions import SESSIONS, session_table
from raygrid.prosumer.carried import CarriedCommunity
from raygrid.prosumer.stores import StoreKind
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario
from raygrid.scenario.stages import Stages

SETTINGS = ("population.evs.share=0.4", "population.shiftable.share=0.4",
            "network.limits.fixed_load_margin=null", "network.limits.scale=1.0e6")  # fmt: skip


def day(*settings):
    scenario, base_dir = load_scenario(
        "community", agents=12, settings=(*SETTINGS, "stages.intraday=plan", *settings)
    )
    draft = draft_case(scenario, base_dir=base_dir)
    stages = DayStages.of(scenario, base_dir, 12)
    measured = draft.surveyed()
    cleared = stages.forecast_draft(draft, measured, 0).surveyed()
    result, dispatch = _cleared(cleared, ClearingOptions())
    matched = match_trades(cleared, result, dispatch.p_kw, scenario.market)
    done = deliver(
        scenario, cleared, measured, result, dispatch, matched.trades,
        bidders=stages.bidders, policy=stages.policy,
    )  # fmt: skip
    return measured, dispatch, done


@pytest.fixture(scope="module")
def forecast():
    return day("stages.forecast=persistence")


@pytest.fixture(scope="module")
def perfect():
    free = "{low: 0.0, high: 0.0}"
    return day(
        "stages.forecast=perfect", f"population.pv_cost_per_kwh={free}",
        "tariffs.export_price_per_kwh=0.05",
    )  # fmt: skip


def columns(done, first=0):
    table = done.rows(first)
    return {name: table[name].to_numpy() for name in table.column_names if name != "action"}


def test_every_prosumer_and_period_balances(forecast):
    c = columns(forecast[2], 24)
    assert set(c["period"]) == set(range(24, 48))
    p = c["pv_kw"] - c["curtailed_kw"] - c["load_kw"] + c["battery_kw"] + c["ev_kw"]
    np.testing.assert_allclose(c["p_kw"], p + c["shifted_kw"], atol=1e-9)
    traded = (c["position_wh"] + c["sold_wh"] - c["bought_wh"]) / 1e3
    net = traded + c["export_kwh"] - c["import_kwh"]
    # Beside rounding to whole watt-hours a meter and its trades agree.
    np.testing.assert_allclose(c["p_kw"], net, atol=2e-3)


def test_money_of_both_sessions_sums_to_zero(forecast):
    done = forecast[2]
    assert done.summary()["money_residual"] == 0.0
    network = done.intraday.network_micro + done.plan.network_micro
    assert int(done.money_micro.sum()) + network == 0
    cost = done.intraday.grid_cost.sum() + done.intraday.wear.sum() + network / 1e6
    assert done.summary()["cost"] == pytest.approx(cost)


def test_a_forecast_without_error_leaves_nothing_to_trade(perfect):
    _, dispatch, done = perfect
    found = done.forecast_summary("perfect")
    assert all(not value for name, value in found.items() if name != "rule")
    np.testing.assert_allclose(
        done.intraday.injection_kw.T.sum(axis=1), dispatch.p_kw.sum(axis=1), rtol=0.02, atol=0.2
    )
    assert done.summary()["failed_kwh"] < 0.05


def test_forecasts_say_what_was_cleared_and_what_was_measured(forecast):
    measured, _, done = forecast
    rows = done.forecast_rows(0)
    order = np.argsort(rows["prosumer_id"].to_numpy(), kind="stable")
    fixed = rows["fixed_load_kw"].to_numpy()[order].reshape(12, 24)
    assert np.abs(fixed - measured.population.fixed_load_kw).max() > 0.05
    step, ahead = (rows[name].to_numpy()[order] for name in ("step_load_kw", "fixed_load_kw"))
    demand = rows["load_kw"].to_numpy()[order] - ahead
    due = forecast_when_due(ahead.reshape(12, 24), measured.population.fixed_load_kw)
    np.testing.assert_allclose(step.reshape(12, 24), due + demand.reshape(12, 24), atol=1e-12)
    errors = done.forecast_summary("persistence")
    error = rows["load_kw"].to_numpy()[order].reshape(12, 24) - done.load_kw.T
    assert errors["day_ahead_load_rmse_kw"] == pytest.approx(np.sqrt(np.mean(error**2)))


def test_orders_may_go_by_the_period_before():
    _, _, done = day("stages.forecast=persistence", "stages.step=persistence")
    rows = done.forecast_rows(0)
    order = np.argsort(rows["prosumer_id"].to_numpy(), kind="stable")
    step = rows["step_pv_kw"].to_numpy()[order].reshape(12, 24)
    np.testing.assert_array_equal(step[:, 1:], done.pv_kw.T[:, :-1])


def test_the_next_day_begins_with_what_is_left(forecast):
    measured, _, done = forecast
    charge = done.charge(measured.population)
    case = replace(measured, community=CarriedCommunity(measured.community, charge))
    people, c = case.population, columns(done)
    last = c["period"] == 23
    order = np.argsort(c["prosumer_id"][last])
    has = people.has_battery
    np.testing.assert_allclose(
        people.soc_initial_kwh[has], c["battery_kwh"][last][order][has], atol=1e-9
    )
    is_ev = people.stores.kind == StoreKind.EV
    assert is_ev.any()
    np.testing.assert_allclose(
        people.stores.initial_kwh[is_ev],
        c["ev_kwh"][last][order][people.stores.owner[is_ev]], atol=1e-9,
    )  # fmt: skip


def test_sessions_are_numbered_by_period(forecast):
    done = forecast[2]
    rows = session_table(done.sessions, 100, 48)
    assert rows.num_rows == sum(map(len, done.sessions))
    np.testing.assert_array_equal(rows["trade_id"], 100 + np.arange(rows.num_rows))
    assert (np.diff(rows["period"].to_numpy()) >= 0).all()
    assert rows["period"].to_numpy().min() >= 48
    assert set(rows["session"].to_pylist()) == set(SESSIONS)
    energy = rows["energy_wh"].to_numpy()
    is_first = np.array([name == "day_ahead" for name in rows["session"].to_pylist()])
    assert energy[is_first].sum() == done.plan.trades.energy_wh.sum()


def stages_of(*settings):
    scenario, base_dir = load_scenario("ieee118", agents=12, settings=settings)
    return DayStages.of(scenario, base_dir, 12)


def test_what_is_missing_falls_back_and_says_so():
    found = stages_of("stages.intraday=policy", "stages.forecast=learned")
    assert (found.forecast, found.bidders, found.policy) == ("persistence", "rule", None)
    assert found.step is None
    assert len(found.notes) == 2
    assert "the day before is its forecast" in found.notes[0]
    assert "keep to the day-ahead plan" in found.notes[1]


def test_many_prosumers_go_without_stages_and_are_told():
    stages = Stages(intraday="rule", up_to_prosumers=10)
    assert stages.left_out(10) == ""
    assert "11 prosumers, more than stages.up_to_prosumers (10)" in stages.left_out(11)
    assert Stages(up_to_prosumers=10).left_out(11) == ""
    assert Stages(intraday="rule").left_out(10**6) == ""


@pytest.mark.parametrize("key", ["policy", "forecaster"])
def test_weights_that_are_asked_for_and_missing_are_refused(key, tmp_path):
    with pytest.raises(InputError, match="weights"):
        stages_of(
            "stages.intraday=policy", "stages.forecast=learned", f"stages.{key}={tmp_path / 'no'}"
        )


def test_errors_that_nobody_balances_are_refused():
    with pytest.raises(InputError, match="leaves errors that nobody balances"):
        load_scenario("ieee118", settings=["stages.forecast=seasonal"])


def test_generation_of_tables_is_no_pv():
    scenario, base_dir = load_scenario("tiny", settings=["stages.intraday=plan"])
    with pytest.raises(InputError, match="takes generation for PV"):
        intraday_market(scenario, draft_case(scenario, base_dir=base_dir).surveyed())
