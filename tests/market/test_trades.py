"""Trades: exact sums, stated bounds, thesis (5-3), and independence of order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.trades import (
    Matching,
    energy_wh,
    locational_trades,
    micro_value,
    ordered_trades,
    proportional_trades,
    sparse_trades,
    uniform_trades,
)

N_BUSES = 5


def random_market(seed: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Ids, buses and balanced injections, with idle agents and tiny and large ones."""
    rng = np.random.default_rng(seed)
    n, n_periods = int(rng.integers(2, 30)), 3
    ids = rng.permutation(n).astype(np.int64)
    bus = rng.integers(0, N_BUSES, n)
    p = rng.normal(size=(n, n_periods)) * rng.choice([1e-3, 1.0, 50.0], (n, 1))
    p *= rng.random(p.shape) > 0.2
    p[0] -= p.sum(axis=0)
    return ids, bus, p


def random_distance(seed: int) -> FloatArray:
    points = np.random.default_rng(seed).random((N_BUSES, 2))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def totals(matching: Matching, ids: IntArray, n_periods: int) -> IntArray:
    """Net energy of each agent by its trades."""
    position = np.argsort(ids)
    total = np.zeros((len(ids), n_periods), dtype=np.int64)
    for who, sign in ((matching.seller_id, 1), (matching.buyer_id, -1)):
        np.add.at(total, (position[who], matching.period), sign * matching.energy_wh)
    return total


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 1.0]))
def test_energies_sum_to_zero_and_are_close(seed: int, hours: float) -> None:
    ids, _, p = random_market(seed)
    energy = energy_wh(ids, p, hours)
    assert energy.dtype == np.int64
    assert (energy.sum(axis=0) == 0).all()
    assert np.abs(energy - p * hours * 1000).max() < 1.0 + 1e-6
    assert (energy * p >= 0).all()
    order = np.random.default_rng(seed).permutation(len(ids))
    assert np.array_equal(energy_wh(ids[order], p[order], hours), energy[order])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_both_matchings_meet_all_totals(seed: int) -> None:
    ids, bus, p = random_market(seed)
    energy = energy_wh(ids, p, 1.0)
    proportional = proportional_trades(ids, energy)
    sparse = sparse_trades(ids, bus, energy, random_distance(seed))
    along = ordered_trades(ids, bus, energy, np.random.default_rng(seed).permutation(N_BUSES))
    for matching in (proportional, sparse, along):
        assert (matching.energy_wh > 0).all()
        assert (matching.dropped_wh == 0).all()
        assert np.array_equal(totals(matching, ids, p.shape[1]), energy)
    for t in range(p.shape[1]):
        active = int((energy[:, t] != 0).sum())
        for matching in (sparse, along):
            assert (matching.period == t).sum() <= max(active - 1, 0)
    order = np.random.default_rng(seed).permutation(len(ids))
    again = sparse_trades(ids[order], bus[order], energy[order], random_distance(seed))
    for name in ("seller_id", "buyer_id", "period", "energy_wh"):
        assert np.array_equal(getattr(again, name), getattr(sparse, name))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_proportional_is_within_one_watt_hour_of_5_3(seed: int) -> None:
    ids, _, p = random_market(seed)
    energy = energy_wh(ids, p, 1.0)
    matching = proportional_trades(ids, energy)
    position = np.argsort(ids)
    for t in range(p.shape[1]):
        sold = np.maximum(energy[:, t], 0)
        if not sold.any():
            continue
        exact = np.multiply.outer(sold, np.maximum(-energy[:, t], 0)) / sold.sum()
        got = np.zeros_like(exact)
        here = matching.period == t
        rows, columns = position[matching.seller_id[here]], position[matching.buyer_id[here]]
        got[rows, columns] = matching.energy_wh[here]
        assert np.abs(got - exact).max() <= 1.0 + 1e-9


def test_sparse_prefers_own_bus_then_the_nearest() -> None:
    # Sellers on bus 0; buyers on buses 0, 1 (far) and 2 (near).
    ids = np.array([1, 2, 3, 4])
    bus = np.array([0, 0, 1, 2])
    distance = np.array([[0.0, 5.0, 1.0], [5.0, 0.0, 6.0], [1.0, 6.0, 0.0]])
    energy = np.array([[100], [-30], [-40], [-30]])
    matching = sparse_trades(ids, bus, energy, distance)
    pairs = list(zip(matching.buyer_id.tolist(), matching.energy_wh.tolist(), strict=True))
    assert pairs == [(2, 30), (3, 40), (4, 30)]
    scarce = np.array([[60], [-30], [-40], [10]])
    matching = sparse_trades(ids, bus, scarce, distance)
    trades = {
        (s, b): e
        for s, b, e in zip(
            matching.seller_id.tolist(),
            matching.buyer_id.tolist(),
            matching.energy_wh.tolist(),
            strict=True,
        )
    }
    assert trades == {(1, 2): 30, (1, 3): 30, (4, 3): 10}


def test_order_of_buses_pairs_the_last_open_ones() -> None:
    # In the order 2, 0, 1: bus 0 sells to bus 1, the rest comes from bus 2.
    energy = np.array([[30], [-50], [20]])
    matching = ordered_trades(np.array([1, 2, 3]), np.arange(3), energy, np.array([2, 0, 1]))
    assert matching.seller_id.tolist() == [1, 3]
    assert matching.energy_wh.tolist() == [30, 20]
    more = np.array([[60], [-50], [-10]])
    matching = ordered_trades(np.array([1, 2, 3]), np.arange(3), more, np.array([2, 0, 1]))
    assert matching.buyer_id.tolist() == [2, 3]


def test_rounding_goes_to_the_lower_id_where_fractions_tie() -> None:
    ids = np.array([3, 1, 2])
    p = np.array([[0.0005], [0.0005], [-0.001]])
    assert energy_wh(ids, p, 1.0)[:, 0].tolist() == [0, 1, -1]


def test_trades_below_the_minimum_are_dropped_and_counted() -> None:
    energy = np.array([[100, 3], [-96, -2], [-4, -1]])
    matching = proportional_trades(np.array([0, 1, 2]), energy, minimum_wh=3)
    assert matching.energy_wh.tolist() == [96, 4]
    assert matching.dropped_wh.tolist() == [0, 3]


def test_uniform_values_by_hand() -> None:
    matching = proportional_trades(np.array([1, 2]), np.array([[1500, 1], [-1500, -1]]))
    trades = uniform_trades(matching, np.array([0.06, 0.0005]), first_id=7)
    assert trades.trade_id.tolist() == [7, 8]
    assert trades.price_micro_per_kwh.tolist() == [60_000, 500]
    assert trades.value_micro.tolist() == [90_000, 1]
    assert trades.network_micro.tolist() == [0, 0]


def test_rounding_of_negative_prices() -> None:
    assert micro_value(np.array([1, 1, 1]), np.array([-500, -501, 499])).tolist() == [0, -1, 0]


def test_locational_parties_get_the_price_of_their_own_bus() -> None:
    ids, bus, p = random_market(8)
    energy = energy_wh(ids, p, 1.0)
    lmp = np.random.default_rng(8).normal(0.1, 0.1, (N_BUSES, p.shape[1]))
    matching = sparse_trades(ids, bus, energy, random_distance(8))
    trades = locational_trades(matching, lmp, ids, bus)
    position = np.argsort(ids)
    at_seller = lmp[bus[position[trades.seller_id]], trades.period]
    at_buyer = lmp[bus[position[trades.buyer_id]], trades.period]
    kwh = trades.energy_wh / 1000
    np.testing.assert_allclose(trades.value_micro / 1e6, kwh * at_seller, rtol=0, atol=1e-4)
    paid = (trades.value_micro + trades.network_micro) / 1e6
    np.testing.assert_allclose(paid, kwh * at_buyer, rtol=0, atol=1e-4)
    surplus = -np.sum(lmp[bus] * energy) / 1000
    np.testing.assert_allclose(trades.network_micro.sum() / 1e6, surplus, rtol=0, atol=1e-2)


def test_table_has_the_schema_of_trades() -> None:
    from raygrid.schemas import TRADES

    ids, _, p = random_market(2)
    matching = proportional_trades(ids, energy_wh(ids, p, 1.0))
    table = uniform_trades(matching, np.full(p.shape[1], 0.06)).table()
    assert table.schema == TRADES
    assert table.num_rows == len(matching)
    assert set(table["status"].to_pylist()) == {"cleared"}


def test_empty_market() -> None:
    energy = np.zeros((3, 2), dtype=np.int64)
    ids = np.arange(3)
    assert len(proportional_trades(ids, energy)) == 0
    matching = sparse_trades(ids, np.zeros(3, dtype=np.int64), energy, np.zeros((1, 1)))
    assert len(uniform_trades(matching, np.zeros(2)).table()) == 0


def test_refuses_what_does_not_balance() -> None:
    with pytest.raises(ValueError, match="period 0: injections are"):
        energy_wh(np.arange(2), np.array([[1.0], [-0.9]]), 1.0)
    with pytest.raises(ValueError, match="do not sum to zero"):
        proportional_trades(np.arange(2), np.array([[5], [-4]]))
    big = 3 * 10**9
    with pytest.raises(ValueError, match="too large"):
        proportional_trades(np.arange(2), np.array([[big], [-big]]))
