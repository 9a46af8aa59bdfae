"""Batches from trades, and transactions from batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.market.trades import micro_value
from raygrid.settlement.plan import (
    ClearedTrades,
    PackingLimits,
    PlannedBatch,
    Registry,
    batch_id,
    pack,
    plan_batches,
    purchases_micro,
)
from tests.settlement.market import trades_table

REGISTRY = Registry.of([0, 3, 5, 8, 9])


def planned(seed: int = 1, locational: bool = False) -> tuple[ClearedTrades, list[PlannedBatch]]:
    trades = ClearedTrades.from_table(trades_table(REGISTRY, 4, seed, locational))
    readings = np.arange(20).reshape(5, 4)
    valid = readings % 3 != 0
    return trades, plan_batches(trades, REGISTRY, np.arange(4), readings, valid)


def test_a_batch_holds_all_trades_of_its_period_under_chain_ids() -> None:
    trades, batches = planned()
    assert [batch.input.period for batch in batches] == [0, 1, 2, 3]
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(len(trades)))
    for batch in batches:
        assert (trades.slot[batch.rows] == batch.input.period).all()
        assert (np.diff(trades.trade_id[batch.rows]) > 0).all()
        np.testing.assert_array_equal(
            REGISTRY.prosumer_id[batch.input.seller], trades.seller_id[batch.rows]
        )
        np.testing.assert_array_equal(
            batch.input.readings_wh, np.arange(20).reshape(5, 4)[:, batch.input.period]
        )
        assert batch.input.first_id == 0


def test_batch_ids_are_those_of_the_contract() -> None:
    assert batch_id(0, 7) == 7
    assert batch_id(3, 7) == 3 * 2**32 + 7


def test_buyers_prices_leave_the_network_accounts_part() -> None:
    trades, _ = planned(locational=True)
    paid = micro_value(trades.energy_wh, trades.buyer_price_micro_per_kwh)
    earned = micro_value(trades.energy_wh, trades.price_micro_per_kwh)
    assert trades.network_micro.any()
    np.testing.assert_array_equal(paid - earned, trades.network_micro)


def test_purchases_are_gross_and_sellers_pay_where_prices_are_negative() -> None:
    trades, _ = planned(locational=True)
    expected = dict.fromkeys(REGISTRY.prosumer_id.tolist(), 0)
    for k in range(len(trades)):
        paid = int(micro_value(trades.energy_wh[k], trades.buyer_price_micro_per_kwh[k]))
        earned = int(micro_value(trades.energy_wh[k], trades.price_micro_per_kwh[k]))
        expected[int(trades.buyer_id[k])] += max(paid, 0)
        expected[int(trades.seller_id[k])] += max(-earned, 0)
    assert purchases_micro(trades, REGISTRY).tolist() == list(expected.values())


def test_no_trades_make_no_batches() -> None:
    trades, _ = planned()
    none = trades.take(np.zeros(0, dtype=np.int64))
    assert plan_batches(none, REGISTRY, np.arange(4), np.zeros((5, 4)), np.ones((5, 4))) == []


def test_strangers_and_unknown_periods_are_refused() -> None:
    trades, _ = planned()
    with pytest.raises(InputError, match="prosumer 9 trades and is no participant"):
        Registry.of([0, 3, 5, 8]).chain_id(np.array([9]))
    with pytest.raises(InputError, match="period 3 have no readings"):
        plan_batches(trades, REGISTRY, np.arange(3), np.zeros((5, 3)), np.ones((5, 3)))


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=20),
    st.integers(50, 120),
    st.integers(50, 120),
)
def test_packing_keeps_order_and_both_limits(
    sizes: list[tuple[int, int]], most_bytes: int, most_gas: int
) -> None:
    batch = planned()[1][0]
    items = [
        (PlannedBatch(k, batch.rows, batch.input), size, gas) for k, (size, gas) in enumerate(sizes)
    ]
    packed = list(pack(items, PackingLimits(most_gas, most_bytes, most_bytes)))
    assert [b.batch_id for part in packed for b in part] == list(range(len(sizes)))
    for part in packed:
        assert sum(sizes[b.batch_id][0] for b in part) <= most_bytes
        assert sum(sizes[b.batch_id][1] for b in part) <= most_gas
    for one, after in pairwise(packed):
        both = [sizes[b.batch_id] for b in [*one, after[0]]]
        assert sum(b for b, _ in both) > most_bytes or sum(g for _, g in both) > most_gas


def test_a_batch_that_fits_nowhere_is_one_line() -> None:
    batch = planned()[1][0]
    with pytest.raises(InputError, match=r"5 participants needs 200 B and up to 1 gas"):
        list(pack([(batch, 200, 1)], PackingLimits(10, 100, 100)))
