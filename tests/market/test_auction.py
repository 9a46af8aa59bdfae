"""The double auction: hand-worked markets, invariants, limits, and the bound it is held against."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.limits import line_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.market.auction import (
    AuctionResult,
    AuctionRules,
    Feeder,
    Orders,
    clear_auction,
    largest_surplus_micro,
)
from raygrid.market.auction_kernels import deliver_many, money_many
from tests.cases import ring_network, two_buses

PLAIN = AuctionRules(same_zone_first=False, congestion_micro_per_kwh=0)


def orders(
    quantity_wh: list[int],
    price_micro: list[int],
    *,
    bus: list[int] | None = None,
    zone: list[int] | None = None,
    participant: list[int] | None = None,
    moves: bool = True,
) -> Orders:
    n = len(quantity_wh)
    return Orders(
        np.array(quantity_wh, dtype=np.int64),
        np.array(price_micro, dtype=np.int64),
        np.array(range(n) if participant is None else participant, dtype=np.int64),
        np.array([0] * n if bus is None else bus, dtype=np.int64),
        np.array([0] * n if zone is None else zone, dtype=np.int64),
        np.full(n, moves),
    )


def rows_of(result: AuctionResult) -> list[tuple[int, ...]]:
    columns = (
        result.seller, result.buyer, result.energy_wh,
        result.price_micro_per_kwh, result.network_micro_per_kwh,
    )  # fmt: skip
    return sorted(zip(*(c.tolist() for c in columns), strict=True))


def random_orders(seed: int, n_buses: int = 6) -> Orders:
    """Participants with one or two orders, some prices the same, one side at most each."""
    rng = np.random.default_rng(seed)
    people = int(rng.integers(1, 15))
    participant = np.concatenate([np.arange(people), np.arange(people)])
    side = rng.choice([-1, 0, 1], people)[participant]
    bus = rng.integers(0, n_buses, people)
    size = rng.choice([5, 800, 20_000], 2 * people)
    return Orders(
        side * rng.integers(0, size),
        rng.integers(8, 30, 2 * people) * rng.choice([1, 10_000]),
        participant,
        bus[participant],
        (bus % 3)[participant],
        rng.random(2 * people) < 0.7,
    )


def ring_feeder(limit_kw: float) -> Feeder:
    network = ring_network(limit_kw)
    return Feeder.of(line_rows(network, PtdfFactor(network), 1))


# --- hand-worked markets ---------------------------------------------------------------------


def test_merit_order_and_price_between_the_last_accepted() -> None:
    """Offers 10 Wh each at 10, 14, 26; bids 15 Wh each at 30, 20, 12 [ct/kWh].

    In merit order 20 Wh trade: the bid at 30 takes all of the first offer and half of the
    second, the bid at 20 the rest of it. Supply is 30 and demand 45, so the price stands
    45 / 75 of the way from 14 to 20: 17.6.
    """
    book = orders([10, 10, 10, -15, -15, -15], [c * 10_000 for c in (10, 14, 26, 30, 20, 12)])
    result = clear_auction(book, PLAIN, 0.25)
    assert result.provisional_micro_per_kwh == 176_000
    assert rows_of(result) == [
        (0, 3, 10, 176_000, 0),
        (1, 3, 5, 176_000, 0),
        (1, 4, 5, 176_000, 0),
    ]
    # (30 - 10) 10 + (30 - 14) 5 + (20 - 14) 5 ct/kWh Wh = 310e-5 currency
    assert result.surplus_micro(book) == pytest.approx(3100)
    assert largest_surplus_micro(book, 0.25) == pytest.approx(3100)


def test_pay_as_bid_leaves_the_difference_to_the_network_account() -> None:
    book = orders([10, 10, -15], [100_000, 140_000, 300_000])
    result = clear_auction(book, AuctionRules("pay_as_bid", False, 0), 0.25)
    assert rows_of(result) == [(0, 2, 10, 100_000, 200_000), (1, 2, 5, 140_000, 160_000)]
    trades = result.trades(np.array([11, 12, 13]), book, period=7, first_id=40)
    assert trades.trade_id.tolist() == [40, 41]
    assert trades.seller_id.tolist() == [11, 12]
    assert trades.buyer_id.tolist() == [13, 13]
    assert trades.period.tolist() == [7, 7]
    assert trades.value_micro.tolist() == [1000, 700]
    assert trades.network_micro.tolist() == [2000, 800]


@pytest.mark.parametrize("cross", [False, True])
def test_no_price_where_offers_and_bids_do_not_cross(cross: bool) -> None:
    book = orders([10, -10], [200_000, 200_000 if cross else 199_999])
    result = clear_auction(book, PLAIN, 0.25)
    assert (result.provisional_micro_per_kwh, len(result)) == ((200_000, 1) if cross else (None, 0))


def test_one_zone_first() -> None:
    """The cheaper offer stands in the other zone; preference gives it what its own cannot use."""
    book = orders([10, 10, -10, -5], [80_000, 90_000, 300_000, 300_000], zone=[0, 1, 1, 0])
    far = clear_auction(book, AuctionRules("pay_as_bid", False, 0), 0.25)
    near = clear_auction(book, AuctionRules("pay_as_bid", True, 0), 0.25)
    assert [row[:3] for row in rows_of(far)] == [(0, 2, 10), (1, 3, 5)]
    assert [row[:3] for row in rows_of(near)] == [(0, 3, 5), (1, 2, 10)]


def test_ties_take_turns() -> None:
    book = orders([10, 10, 10, -10], [80_000] * 3 + [300_000])
    first = [clear_auction(book, PLAIN, 0.25, period=t).seller[0] for t in range(4)]
    assert first == [0, 1, 2, 0]


def test_a_line_limits_the_trade_and_costs_near_its_limit() -> None:
    """One line of 4 kW and a quarter hour: 1,000 Wh fit, 800 of them before loading costs.

    Sold at bus 2 over the line to bus 1: at the limit the fee is all of 5 ct/kWh. A buyer that
    can bear it takes 1,000 Wh; one that cannot takes the 800 Wh that cost nothing.
    """
    network, factor = two_buses(4.0, 1)
    feeder = Feeder.of(line_rows(network, factor, 1))
    rules = AuctionRules("uniform", False, 50_000, 0.8)

    def sold(bid: int, base_kw: float = 0.0, moves: bool = True) -> list[tuple[int, ...]]:
        book = orders([1500, -1500], [100_000, bid], bus=[1, 0], moves=moves)
        base = np.array([-base_kw, base_kw])
        return rows_of(clear_auction(book, rules, 0.25, feeder, base))

    assert sold(300_000) == [(0, 1, 1000, 200_000, 50_000)]
    assert sold(180_000) == [(0, 1, 800, 140_000, 0)]
    assert sold(300_000, base_kw=2.0) == [(0, 1, 500, 200_000, 50_000)]
    assert sold(300_000, base_kw=5.0) == [], "no trade adds to an overload"
    assert sold(300_000, base_kw=-5.0) == [(0, 1, 1500, 200_000, 0)], "relief costs nothing"
    assert sold(300_000, base_kw=5.0, moves=False) == [(0, 1, 1500, 200_000, 0)]


def test_shares_follow_how_far_beyond_the_start_the_trade_leaves_the_line() -> None:
    """3.6 of 4 kW is half way from 80 to 100 %: half the fee."""
    network, factor = two_buses(4.0, 1)
    feeder = Feeder.of(line_rows(network, factor, 1))
    book = orders([900, -900], [100_000, 300_000], bus=[1, 0])
    result = clear_auction(
        book, AuctionRules("uniform", False, 50_000, 0.8), 0.25, feeder, np.zeros(2)
    )
    assert rows_of(result)[0][4] == pytest.approx(25_000, abs=1)
    np.testing.assert_allclose(np.abs(result.position), [0.9])


# --- invariants ------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["uniform", "pay_as_bid"]),
    st.booleans(),
    st.sampled_from([0.05, 2.0, 1e6]),
)
def test_every_auction_keeps_its_promises(
    seed: int, price_rule: str, zones: bool, limit_kw: float
) -> None:
    book = random_orders(seed)
    feeder = ring_feeder(limit_kw)
    base = np.random.default_rng(seed + 1).normal(size=6) * limit_kw / 8
    base[0] -= base.sum()
    rules = AuctionRules(price_rule, zones, 40_000, 0.7)  # type: ignore[arg-type]
    result = clear_auction(book, rules, 0.25, feeder, base, period=0)
    price = book.price_micro_per_kwh

    # Energy: within each order; what is sold is bought (AI-TEM 6 to 8).
    assert (result.energy_wh > 0).all()
    assert (book.quantity_wh[result.seller] > 0).all()
    assert (book.quantity_wh[result.buyer] < 0).all()
    assert (book.participant[result.seller] != book.participant[result.buyer]).all()
    matched_wh = np.zeros(len(book), dtype=np.int64)
    np.add.at(matched_wh, result.seller, result.energy_wh)
    np.add.at(matched_wh, result.buyer, result.energy_wh)
    assert (matched_wh <= np.abs(book.quantity_wh)).all()

    # Individual rationality, fees counted; no negative surplus, nor more than there can be.
    assert (result.price_micro_per_kwh >= price[result.seller]).all()
    paid = result.price_micro_per_kwh + result.network_micro_per_kwh
    assert (paid <= price[result.buyer]).all()
    assert (result.network_micro_per_kwh >= 0).all()
    surplus = result.surplus_micro(book)
    best = largest_surplus_micro(book, 0.25, feeder, base)
    assert -1e-9 <= surplus <= best * (1 + 1e-7) + 1e-3

    # Money: exact in whole micro-units, the network account's part included.
    n = int(book.participant.max()) + 1
    trades = result.trades(np.arange(1, n + 1), book, 0)
    assert trades.value_micro.sum() + trades.network_micro.sum() == sum(
        (e * p + 500) // 1000 for e, p in zip(result.energy_wh.tolist(), paid.tolist(), strict=True)
    )
    if price_rule == "uniform" and len(result):
        assert (result.price_micro_per_kwh == result.provisional_micro_per_kwh).all()

    # Network: positions are those of the trades; none leaves its limits or goes further out.
    before = feeder.position(base, 0)
    moved = base.copy()
    for side, sign in ((result.seller, 1), (result.buyer, -1)):
        flow = sign * result.energy_wh * book.moves[side] / 250
        np.add.at(moved, book.bus[side], flow)
    np.testing.assert_allclose(result.position, feeder.position(moved, 0), rtol=0, atol=1e-9)
    assert (np.abs(result.position) <= np.maximum(np.abs(before), 1) + 1e-9).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_without_limits_the_surplus_is_the_largest(seed: int) -> None:
    """All accepted by the provisional price trade, in merit order: what linear programming finds.

    Only orders beyond the last accepted ones can meet that price as well, at the same gain.
    """
    book = random_orders(seed)
    best = largest_surplus_micro(book, 0.25)
    result = clear_auction(book, AuctionRules("pay_as_bid", False, 0), 0.25)
    assert result.surplus_micro(book) == pytest.approx(best, rel=1e-9, abs=1e-6)


def deliver(
    result: AuctionResult, book: Orders, fed_in: IntArray, drawn: IntArray
) -> tuple[FloatArray, IntArray, IntArray, IntArray, int]:
    n = len(fed_in)
    table = np.stack(
        [result.seller, result.buyer, result.energy_wh, result.price_micro_per_kwh,
         result.network_micro_per_kwh], axis=1,
    )[None]  # fmt: skip
    count = np.array([len(result)])
    sold, bought = np.zeros((2, 1, n), dtype=np.int64)
    money, network = np.zeros((1, n), dtype=np.int64), np.zeros(1, dtype=np.int64)
    deliver_many(table, count, book.participant, fed_in[None], drawn[None], sold, bought)
    money_many(table, count, book.participant, money, network)
    return table[0, :, 2], sold[0], bought[0], money[0], int(network[0])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_delivery_never_exceeds_the_meter(seed: int) -> None:
    book = random_orders(seed)
    result = clear_auction(book, AuctionRules(), 0.25)
    rng = np.random.default_rng(seed)
    n = int(book.participant.max()) + 1
    net = rng.integers(-1000, 1001, n)
    fed_in, drawn = np.maximum(net, 0), np.maximum(-net, 0)
    energy, sold, bought, money, network = deliver(result, book, fed_in, drawn)
    assert (energy <= result.energy_wh).all()
    assert (energy >= 0).all()
    assert (sold <= fed_in).all()
    assert (bought <= drawn).all()
    assert sold.sum() == bought.sum() == energy.sum()
    assert money.sum() + network == 0


def test_delivery_by_hand() -> None:
    """Half of what the seller sold is there: each of its trades is halved, rounded down."""
    book = orders([15, -10, -5], [100_000, 300_000, 300_000])
    result = clear_auction(book, PLAIN, 0.25)
    energy, sold, _, money, network = deliver(
        result, book, np.array([7, 0, 0]), np.array([0, 10, 5])
    )
    assert energy.tolist() == [4, 2]
    assert sold.tolist() == [6, 0, 0]
    assert money.tolist() == [1200, -800, -400]
    assert network == 0


# --- bad input -------------------------------------------------------------------------------


def test_bad_input() -> None:
    with pytest.raises(InputError, match="unknown price rule 'vickrey'"):
        AuctionRules("vickrey")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="starts between 0 and 1"):
        AuctionRules(congestion_start=1.0)
    with pytest.raises(ValueError, match="one length"):
        orders([1, 2], [1])
    with pytest.raises(ValueError, match="larger than settlement"):
        orders([1], [2**31])
    network, factor = two_buses(np.inf, 1)
    rows = line_rows(network, factor, 1)
    assert Feeder.of(rows).per_kw.shape == (2, 0)
    assert clear_auction(orders([], []), PLAIN, 0.25).provisional_micro_per_kwh is None
