"""Statements against sums by hand and against each other."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raygrid.market.trades import Matching, locational_trades, micro_value, uniform_trades
from raygrid.schemas import conform
from raygrid.settlement.meters import public_keys, simulated_secrets
from raygrid.settlement.participants import Participants, simulated_participants
from raygrid.settlement.statements import (
    buyer_price_micro,
    network_account_micro,
    person_table,
    statements_table,
)


def participants(n, funded=1_000_000):
    ids = np.arange(n, dtype=np.int64)
    keys = public_keys(simulated_secrets(1, "meter", ids))
    return simulated_participants(1, ids, np.zeros_like(ids), np.full(n, funded), keys)


def trades(rows):
    """Rows of (seller, buyer, period, energy, price, value, network, status)."""
    names = ["seller_id", "buyer_id", "period", "energy_wh", "price_micro_per_kwh",
             "value_micro", "network_micro", "status"]  # fmt: skip
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    n = len(rows)
    empty = {name: pa.nulls(n) for name in ("batch_id", "sequence", "tx_hash", "block")}
    table = {"trade_id": range(n), **columns, "reason": [""] * n, **empty}
    return conform("trades", pa.table({name: pa.array(cells) for name, cells in table.items()}))


TRADES = trades(
    [
        (1, 2, 0, 1000, 200_000, 200_000, 50_000, "settled"),
        (1, 0, 0, 500, 200_000, 100_000, -10_000, "settled"),
        (0, 2, 1, 250, -40_000, -10_000, 0, "settled"),
        (1, 2, 1, 70, 100_000, 7_000, 0, "rejected"),
        (0, 1, 2, 30, 100_000, 3_000, 0, "cleared"),
    ]
)


def test_accounts_by_hand():
    rows = statements_table(participants(4), TRADES).to_pylist()
    assert [row["prosumer_id"] for row in rows] == [0, 1, 2, 3]
    grid, seller, buyer, idle = rows
    assert (grid["bought_wh"], grid["sold_wh"], grid["paid_micro"]) == (500, 250, 90_000)
    assert (grid["earned_micro"], grid["unsettled_sold_wh"]) == (-10_000, 30)
    assert (seller["sold_wh"], seller["earned_micro"]) == (1500, 300_000)
    assert (seller["rejected_sold_wh"], seller["unsettled_bought_wh"]) == (70, 30)
    assert (seller["trades"], seller["rejected_trades"]) == (4, 1)
    assert (buyer["bought_wh"], buyer["paid_micro"]) == (1250, 240_000)
    assert (buyer["network_micro"], buyer["rejected_bought_wh"]) == (50_000, 70)
    assert buyer["closing_micro"] == 1_000_000 - 240_000
    assert idle["closing_micro"] == 1_000_000
    assert network_account_micro(TRADES) == 40_000


def test_money_is_conserved():
    table = statements_table(participants(4), TRADES)
    closing, opening = (sum(table[f"{k}_micro"].to_pylist()) for k in ("closing", "opening"))
    assert closing + network_account_micro(TRADES) == opening


def test_statement_of_one_person():
    rows = person_table(TRADES, 1).to_pylist()
    assert [(r["period"], r["partner_id"], r["energy_wh"], r["money_micro"]) for r in rows] == [
        (0, 2, 1000, 200_000),
        (0, 0, 500, 100_000),
        (1, 2, 70, 0),
        (2, 0, -30, 0),
    ]
    (account,) = statements_table(participants(4), TRADES).slice(2, 1).to_pylist()
    got = sum(r["money_micro"] for r in person_table(TRADES, 2).to_pylist())
    assert got == account["earned_micro"] - account["paid_micro"]


def test_no_trades():
    table = statements_table(participants(2), TRADES.slice(0, 0))
    assert table["closing_micro"].to_pylist() == [1_000_000] * 2
    assert person_table(TRADES.slice(0, 0), 1).num_rows == 0


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(-(10**6), 10**6),
                          st.integers(-(10**6), 10**6)), min_size=1))  # fmt: skip
def test_buyers_pay_the_same_money_at_the_price_that_is_told(cells):
    energy, price, at_buyer = (np.array(column) for column in zip(*cells, strict=True))
    value = micro_value(energy, price)
    network = micro_value(energy, at_buyer) - value
    told = buyer_price_micro(energy, price, value, network)
    np.testing.assert_array_equal(micro_value(energy, told), value + network)
    np.testing.assert_array_equal(told[network == 0], price[network == 0])
    # A trade of a kilowatt-hour or more has no other price.
    big = (energy >= 1000) & (network != 0)
    np.testing.assert_array_equal(told[big], at_buyer[big])


def test_trades_of_the_market_keep_their_network_part():
    ids = np.arange(3)
    matching = Matching(*(np.array(a) for a in ([1], [2], [0], [1500], [0])))
    lmp = np.array([[0.1], [0.2], [0.3]])
    table = locational_trades(matching, lmp, ids, ids).table()
    assert table["value_micro"].to_pylist() == [300_000]
    assert table["network_micro"].to_pylist() == [150_000]
    uniform = uniform_trades(matching, np.array([0.2])).table()
    assert uniform["network_micro"].to_pylist() == [0]


def test_participants_come_back_from_their_table():
    some = participants(5)
    back = Participants.from_table(some.table())
    assert (back.owner_address, back.meter_address) == (some.owner_address, some.meter_address)
    assert back.meter_key == some.meter_key
    np.testing.assert_array_equal(back.prosumer_id, some.prosumer_id)
    assert some.table()["role"].to_pylist() == ["grid", *["prosumer"] * 4]
    assert len({*some.owner_address, *some.meter_address}) == 10
    assert all(len(address) == 20 for address in some.owner_address)


def test_members_of_a_group():
    ids = np.arange(5)
    keys = public_keys(simulated_secrets(1, "meter", ids))
    group = np.array([0, 0, 1, 1, 1])
    some = simulated_participants(1, ids, group, np.zeros(5, dtype=np.int64), keys)
    assert ids[some.members(1)].tolist() == [2, 3, 4]
    assert ids[some.members(7)].tolist() == []
