"""The intraday stage: balance, stores, needs and limits hold whatever anybody does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.market.actions import Action, OrderPricing, price_table
from raygrid.market.auction import AuctionRules
from raygrid.market.feeder_limits import FeederLimits, feeder_limits
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.redispatch import relieve_many
from raygrid.market.units import Slot, Units, make_feed
from tests.synthetic import Community, community

HOURS = 0.25
NO_LIMITS = FeederLimits(
    np.zeros((2, 0)), np.zeros((2, 0)), np.zeros(0), np.zeros(0, dtype="<U10"),
    np.zeros(0, dtype=np.int64),
)  # fmt: skip
"""Of two prosumers."""


def check_outcome(market: IntradayMarket, done: Outcome, before_kwh: np.ndarray) -> None:
    """Everything that holds in every period, whoever acts."""
    units, feed, k = market.units, market.feed, done.period
    charge, discharge = np.maximum(-done.store_kw, 0), np.maximum(done.store_kw, 0)

    # AI-TEM (1), (6).
    left = (
        (done.pv_kw - done.curtailed_kw + discharge.sum(axis=-1)) * HOURS
        + done.bought_wh / 1000 + done.import_kwh
    )  # fmt: skip
    right = (
        (done.load_kw + charge.sum(axis=-1) + feed.position_kw[k]) * HOURS
        + done.sold_wh / 1000 + done.export_kwh
    )  # fmt: skip
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-9)
    assert (done.sold_wh.sum(axis=1) == done.bought_wh.sum(axis=1)).all()
    assert (np.minimum(done.sold_wh, done.bought_wh) == 0).all()
    assert (np.minimum(done.import_kwh, done.export_kwh) == 0).all()
    # (7), (8): nobody sells more than it feeds in, nor both trades and opposes its trade.
    assert (np.minimum(done.sold_wh, done.import_kwh) == 0).all()
    assert (np.minimum(done.bought_wh, done.export_kwh) == 0).all()
    # (3) to (5).
    step = charge * units.eta_charge - discharge / units.eta_discharge
    np.testing.assert_allclose(done.energy_kwh, before_kwh + step * HOURS, rtol=0, atol=1e-12)
    assert (done.energy_kwh <= units.max_kwh + 1e-9).all()
    assert (done.energy_kwh >= feed.floor_kwh[k] - 1e-9).all()
    assert (done.unmet_kwh == 0).all()
    assert (charge <= feed.charge_max_kw[k] + 1e-9).all()
    assert (discharge <= feed.discharge_max_kw[k] + 1e-9).all()
    # Money, PV and limits.
    assert (done.money_micro.sum(axis=1) + done.network_micro == 0).all()
    assert (done.curtailed_kw >= -1e-12).all()
    assert (done.curtailed_kw <= done.pv_kw + 1e-12).all()
    assert (done.failed_wh >= 0).all()


def run(market: IntradayMarket, seed: int, periods: int) -> list[Outcome]:
    """Random allowed actions, checked period by period."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for _ in range(periods):
        before = market.energy_kwh.copy()
        mask = market.outlook.mask
        done = market.step(np.argmax(rng.random(mask.shape) * mask, axis=-1))
        check_outcome(market, done, before)
        outcomes.append(done)
    return outcomes


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["uniform", "pay_as_bid"]),
    st.sampled_from([8.0, 60.0]),
)
def test_any_actions_balance_and_serve_everybody(seed: int, rule: str, limit_kw: float) -> None:
    market = market_of(community(limit_kw=limit_kw), rule)
    market.reset(np.random.default_rng(seed).integers(0, 200, 3))
    run(market, seed, 96)


def market_of(people: Community, rule: str = "uniform") -> IntradayMarket:
    rules = AuctionRules(rule)  # type: ignore[arg-type]
    return IntradayMarket(people.units, people.feed, people.limits, rules)


@pytest.mark.parametrize("action", list(Action))
def test_evs_depart_and_windows_close_served_under_one_action(action: Action) -> None:
    people = community()
    market = market_of(people)
    served = np.zeros((len(people.units), 3))
    for _ in range(2 * 96):
        before = market.energy_kwh.copy()
        shape = market.outlook.surplus_kw.shape
        done = market.step(np.full(shape, action))
        check_outcome(market, done, before)
        served += np.maximum(-done.store_kw[0], 0) * HOURS
        if done.period[0] % 96 == 29:
            evs = people.units.max_kwh[:, Slot.EV] > 0
            assert (done.energy_kwh[0, evs, Slot.EV] >= 30 - 1e-9).all()
    energy = people.units.max_kwh[:, Slot.SHIFTABLE]
    np.testing.assert_allclose(served[:, Slot.SHIFTABLE], 2 * energy, atol=1e-9)


def test_communities_side_by_side_are_what_each_is_alone() -> None:
    people = community()
    market = market_of(people)
    market.reset(np.array([40, 150]))
    both = run(market, 5, 30)
    actions = [d.action for d in both]
    for e, start in enumerate((40, 150)):
        market.reset(np.array([start]))
        for t in range(30):
            done = market.step(actions[t][e : e + 1])
            np.testing.assert_array_equal(done.money_micro[0], both[t].money_micro[e])
            np.testing.assert_array_equal(done.energy_kwh[0], both[t].energy_kwh[e])


def test_limits_hold_wherever_stores_and_pv_can_make_them() -> None:
    """Noon at full PV on lines of 4 kW: without re-dispatch some would carry far more."""
    people = community(limit_kw=4.0)
    market = market_of(people)
    market.reset(np.array([4 * 12]))
    pv = people.feed.pv_kw[48:56] - people.feed.load_kw[48:56]
    free = people.limits.position(pv, people.feed.load_kw[48:56])
    assert (np.abs(free) > 1).any()
    done = run(market, 1, 8)
    assert all((d.overload == 0).all() for d in done)
    assert sum(d.curtailed_kw.sum() for d in done) > 0


def test_only_those_behind_a_line_relieve_it() -> None:
    """An overload that nobody behind the line can relieve moves nobody elsewhere.

    Three prosumers; the first, alone behind the first row, has nothing to give. The second row
    is relieved all the same, by whoever feeds it, each in proportion.
    """
    effect = np.array([[0.5, 0.0], [0.0, 0.1], [0.0, 0.1]])
    position = np.array([[1.5, 1.2]])
    change = np.zeros((1, 3))
    fall, rise = np.array([[0.0, 3.0, 1.0]]), np.full((1, 3), 9.0)
    relieve_many(position, effect, fall, rise, change)
    np.testing.assert_allclose(change, [[0.0, -1.5, -0.5]])
    np.testing.assert_allclose(position, [[1.5, 1.0]])


def test_rounding_is_no_effect_on_a_line() -> None:
    network = community().network
    limits = feeder_limits(network, np.arange(network.n_buses))
    path = np.abs(limits.per_kw) > 0
    assert path.sum() == 2 * sum(range(1, 6)), "a bus feeds the lines to the slack bus, no others"


def two(
    load_kw: float, pv_kw: float, *, battery_kwh: float = 0.0, start_kwh: float = 0.0
) -> IntradayMarket:
    """A prosumer with PV and a battery, one with a load, for four quarter hours; no limits."""
    zeros = np.zeros((2, 3))
    most, start, power = zeros.copy(), zeros.copy(), zeros.copy()
    most[0, Slot.BATTERY], start[0, Slot.BATTERY] = battery_kwh, start_kwh
    power[0, Slot.BATTERY] = 4.0
    ones = np.ones((2, 3))
    units = Units(
        np.array([1, 2]), np.array([0, 0]), np.array([0, 0]), zeros, most, start, ones, ones, zeros
    )
    load, pv = np.zeros((2, 4)), np.zeros((2, 4))
    load[1], pv[0] = load_kw, pv_kw
    feed = make_feed(
        units,
        period_hours=HOURS,
        day_periods=4,
        load_kw=load,
        pv_kw=pv,
        import_price_per_kwh=np.full(4, 0.3),
        export_price_per_kwh=np.full(4, 0.1),
        charge_max_kw=power,
        discharge_max_kw=power,
    )
    return IntradayMarket(units, feed, NO_LIMITS, AuctionRules())


def test_a_sale_by_hand() -> None:
    """3 kW of surplus and 1 kW of load for a quarter hour: 250 of 750 Wh are sold.

    Demand is a quarter of both, so the price stands a quarter of the way from 0.10 to 0.30.
    """
    done = two(1.0, 3.0).step(np.array([[Action.SELL, Action.BUY]]))
    assert done.price_micro.tolist() == [150_000]
    assert done.sold_wh.tolist() == [[250, 0]]
    assert done.money_micro.tolist() == [[37_500, -37_500]]
    np.testing.assert_allclose(done.export_kwh, [[0.5, 0.0]])
    np.testing.assert_allclose(done.cost, [[-0.05 - 0.0375, 0.0375]])
    np.testing.assert_allclose(done.baseline_cost, [[-0.075, 0.075]])


@pytest.mark.parametrize(
    ("actions", "power", "grid"),
    [
        ((Action.WAIT, Action.WAIT), 0.0, [0.75, -0.25]),
        ((Action.CHARGE, Action.BUY), -3.0, [0.0, -0.25]),
        ((Action.IMPORT, Action.IMPORT), -4.0, [-0.25, -0.25]),
        ((Action.EXPORT, Action.IMPORT), 4.0, [1.75, -0.25]),
        ((Action.DISCHARGE, Action.BUY), 0.0, [0.5, 0.0]),
        ((Action.SHIFT, Action.SHIFT), 0.0, [0.75, -0.25]),
    ],
)
def test_actions_by_hand(actions: tuple[Action, Action], power: float, grid: list[float]) -> None:
    """3 kW of PV with a half-full battery of 4 kW, beside 1 kW of load.

    Charging takes the surplus. Discharging sells the surplus first, which is enough for the
    load, so that the battery rests. Nobody can shift, which is repaired to waiting.
    """
    market = two(1.0, 3.0, battery_kwh=10.0, start_kwh=5.0)
    done = market.step(np.array([actions]))
    np.testing.assert_allclose(done.store_kw[0, 0, Slot.BATTERY], power)
    np.testing.assert_allclose(done.export_kwh[0] - done.import_kwh[0], grid, atol=1e-12)


def test_a_battery_sells_to_peers_only_what_they_buy() -> None:
    market = two(1.0, 0.0, battery_kwh=10.0, start_kwh=5.0)
    done = market.step(np.array([[Action.DISCHARGE, Action.BUY]]))
    np.testing.assert_allclose(done.store_kw[0, 0, Slot.BATTERY], 1.0)
    assert done.sold_wh.tolist() == [[250, 0]]
    np.testing.assert_allclose(done.import_kwh + done.export_kwh, 0.0)


def test_a_wrong_forecast_fails_trades_and_the_grid_makes_up() -> None:
    """Half the PV that was forecast: half of what was sold is delivered, the rest is imported."""
    market = two(8.0, 2.0)
    market.feed.pv_kw[1, 0] = 1.0
    market.step(np.array([[Action.SELL, Action.BUY]]))
    done = market.step(np.array([[Action.SELL, Action.BUY]]))
    assert done.sold_wh.tolist() == [[250, 0]]
    assert done.failed_wh.tolist() == [[250, 250]]
    np.testing.assert_allclose(done.import_kwh, [[0.0, 1.75]])


def test_a_position_sold_a_day_ahead_leaves_its_difference_to_trade() -> None:
    market = two(1.0, 3.0)
    market = IntradayMarket(
        market.units,
        replace(market.feed, position_kw=np.tile([2.5, -0.5], (4, 1))),
        market.limits,
    )
    np.testing.assert_allclose(market.outlook.surplus_kw, [[0.5, -0.5]])
    done = market.step(np.array([[Action.SELL, Action.BUY]]))
    assert done.sold_wh.tolist() == [[125, 0]]
    np.testing.assert_allclose(done.export_kwh + done.import_kwh, 0.0, atol=1e-12)


def test_masks_say_what_can_be_done() -> None:
    mask = two(1.0, 3.0, battery_kwh=10.0, start_kwh=10.0).outlook.mask[0]
    names = [{Action(a).name for a in np.flatnonzero(row)} for row in mask]
    assert names == [{"WAIT", "SELL", "DISCHARGE", "EXPORT"}, {"WAIT", "BUY", "IMPORT"}]


def test_prices_stay_between_the_tariffs() -> None:
    people = community()
    prices = price_table(people.units, people.feed, OrderPricing(0.9, 0.1, 6.0))
    low = np.rint(people.feed.export_price_per_kwh * 1e6)[:, None]
    high = np.rint(people.feed.import_price_per_kwh * 1e6)[:, None]
    for price in (prices.bid[:, None], prices.offer[:, None],
                  prices.charge_bid, prices.discharge_offer):  # fmt: skip
        assert (price >= low).all()
        assert (price <= high).all()
    # 13 h: a kWh saves 0.36 within 6 h, of which 0.9025 comes back, less 0.02 (1 + 0.9025).
    assert prices.charge_bid[52, 0] == pytest.approx((0.36 * 0.9025 - 0.02 * 1.9025) * 1e6, abs=1)


def test_feeder_rows_are_those_of_the_network() -> None:
    """Positions against PTDF flows and LinDistFlow voltages worked out beside them."""
    from raygrid.grid.ptdf import ptdf
    from raygrid.grid.voltage import lindistflow

    people = community()
    network, bus = people.network, people.units.bus
    limits = feeder_limits(network, bus, v_min_pu=0.95, v_max_pu=1.05, reactive_share=0.3)
    rng = np.random.default_rng(2)
    p, load = rng.normal(size=len(bus)) * 5, rng.random(len(bus)) * 3
    p_bus, q_bus = np.zeros(network.n_buses), np.zeros(network.n_buses)
    np.add.at(p_bus, bus, p)
    np.add.at(q_bus, bus, -0.3 * load)
    at = limits.position(p, load)
    np.testing.assert_allclose(
        at[limits.kind == "line"], ptdf(network) @ p_bus / network.limit_kw, atol=1e-12
    )
    voltage = lindistflow(network).voltages(p_bus[:, None], q_bus[:, None])[1:, 0]
    half, middle = (1.05**2 - 0.95**2) / 2, (1.05**2 + 0.95**2) / 2
    np.testing.assert_allclose(
        at[limits.kind == "voltage"], (voltage**2 - middle) / half, atol=1e-12
    )


def test_bad_input() -> None:
    people = community()
    units, feed = people.units, people.feed
    arrays = {
        "period_hours": HOURS, "day_periods": 96,
        "load_kw": feed.load_kw.T, "pv_kw": feed.pv_kw.T,
        "import_price_per_kwh": feed.import_price_per_kwh,
        "export_price_per_kwh": feed.export_price_per_kwh,
        "charge_max_kw": feed.charge_max_kw, "discharge_max_kw": feed.discharge_max_kw,
    }  # fmt: skip
    needed = np.zeros(feed.charge_max_kw.shape)
    needed[20, 0, Slot.EV] = 39.9 + 30
    with pytest.raises(InputError, match=r"the ev of prosumer 1 lacks 29\.9 kWh"):
        make_feed(units, **arrays, needed_kwh=needed)
    gap = feed.load_kw.T.copy()
    gap[3, 7] = np.nan
    with pytest.raises(InputError, match="load of prosumer row 3 in period 7 is nan"):
        make_feed(units, **arrays | {"load_kw": gap})
    with pytest.raises(InputError, match="export price of period 0 is above"):
        make_feed(units, **arrays | {"export_price_per_kwh": np.full(feed.n_periods, 0.5)})
    market = two(1.0, 1.0)
    for _ in range(4):
        market.step(np.zeros((1, 2), dtype=np.int64))
    with pytest.raises(IndexError, match="ends after period 3"):
        market.step(np.zeros((1, 2), dtype=np.int64))
