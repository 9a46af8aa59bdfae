"""Trades matched by hosts: those of one host, conserved to the watt-hour, for every placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import FloatArray, IntArray
from raygrid.grid.distance import electrical_distance, neighbour_order
from raygrid.market import spread_trades
from raygrid.market.host_trades import HostTrades
from raygrid.market.spread_trades import plan_stretches, round_energies, sales_of
from raygrid.market.trades import Matching, energy_wh, ordered_trades, sparse_trades
from tests.cases import small_case

NETWORK = small_case(n=2, n_periods=1, seed=1).network


def hosts_of(
    ids: IntArray, bus: IntArray, p_kw: FloatArray, count: int, grid_first: bool = True
) -> list[HostTrades]:
    """Hosts by bus and id, the grid connection (id 0) with the first, wherever its bus is."""
    order = np.lexsort((ids, bus))
    if grid_first:
        order = np.concatenate([order[ids[order] == 0], order[ids[order] != 0]])
    return [
        HostTrades(ids[rows], bus[rows], p_kw[rows], 0.5) for rows in np.array_split(order, count)
    ]


def matched(hosts: Sequence[HostTrades], minimum_wh: int = 1) -> tuple[Matching, list[Matching]]:
    """Trades of all hosts by period, seller and buyer; and as each host has them."""

    def ask(method: str, *arguments: Any) -> list[Any]:
        return [getattr(host, method)(*arguments) for host in hosts]

    round_energies(ask)
    parts = []
    for sales in sales_of(plan_stretches(ask("totals"), NETWORK), len(hosts)):
        bought = [(rows, hosts[k].purchases(sales.sold.take(rows))) for k, rows in sales.buyers]
        found = hosts[sales.host].trades(sales.sold, bought, minimum_wh)
        assert len(found.seller_bus) == len(found.buyer_bus) == len(found.matching)
        parts.append(found.matching)
    columns = [
        np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Matching)[:4]
    ]
    order = np.lexsort((columns[1], columns[0], columns[2]))
    dropped = np.sum([part.dropped_wh for part in parts], axis=0)
    return Matching(*(column[order] for column in columns), dropped), parts


def assert_same(got: Matching, expected: Matching) -> None:
    for f in fields(Matching):
        assert np.array_equal(getattr(got, f.name), getattr(expected, f.name)), f.name


def draw(seed: int, n: int, n_periods: int, coarse: bool) -> tuple[IntArray, IntArray, FloatArray]:
    """Ids, buses and balanced injections [kW]; coarse ones have many equal fractions."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(3 * n)[:n]
    if 0 not in ids:
        ids[0] = 0
    bus = rng.integers(0, NETWORK.n_buses, n)
    p_kw = rng.normal(size=(n, n_periods))
    if coarse:
        p_kw = np.round(p_kw * 2000) / 2000 + rng.integers(0, 2, (1, n_periods)) * 0.0005
    p_kw[rng.random((n, n_periods)) < 0.2] = 0.0
    p_kw[-1] = -p_kw[:-1].sum(axis=0)
    return ids, bus, p_kw


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), n=st.integers(2, 40), n_periods=st.integers(1, 5),
    coarse=st.booleans(), minimum_wh=st.sampled_from([1, 1, 40]), along=st.booleans(),
)  # fmt: skip
def test_hosts_match_as_one_process_does(
    seed: int, n: int, n_periods: int, coarse: bool, minimum_wh: int, along: bool
) -> None:
    """For 1, 2 and 7 hosts; what is sold is what was injected, to the watt-hour."""
    ids, bus, p_kw = draw(seed, n, n_periods, coarse)
    energy = energy_wh(ids, p_kw, 0.5)
    if along:
        order = neighbour_order(NETWORK)
        expected = ordered_trades(ids, bus, energy, order, minimum_wh)
    else:
        distance = electrical_distance(NETWORK)
        expected = sparse_trades(ids, bus, energy, distance, minimum_wh)
    with pytest.MonkeyPatch.context() as patch:
        if along:
            patch.setattr(spread_trades, "MAX_BUSES", 1)
        first = None
        for count in (1, 2, 7):
            got, parts = matched(hosts_of(ids, bus, p_kw, min(count, n)), minimum_wh)
            assert_same(got, expected)
            # In host order the trades of a period come in the same order for every placement.
            rows = np.concatenate(
                [np.stack([p.period, p.seller_id, p.buyer_id], axis=1) for p in parts]
            )
            rows = rows[np.argsort(rows[:, 0], kind="stable")]
            first = rows if first is None else first
            assert np.array_equal(rows, first)
    sold = np.zeros_like(energy)
    where = np.argsort(ids)
    np.add.at(sold, (where[np.searchsorted(ids[where], got.seller_id)], got.period), got.energy_wh)
    if minimum_wh == 1:
        assert np.array_equal(sold, np.maximum(energy, 0))
        assert not got.dropped_wh.any()


def test_against_a_plain_matching_of_lines() -> None:
    """The oracle walks along both lines one watt-hour at a time."""
    ids, bus, p_kw = draw(seed=4, n=12, n_periods=1, coarse=False)
    energy = energy_wh(ids, p_kw / 20, 0.5)[:, 0]
    left = {int(k): int(wh) for k, wh in zip(ids, energy, strict=True)}
    home = {int(k): int(b) for k, b in zip(ids, bus, strict=True)}
    distance = electrical_distance(NETWORK)
    buses = sorted(set(home.values()))
    pairs = [(b, b) for b in buses]
    pairs += sorted(
        ((a, b) for a in buses for b in buses if a < b), key=lambda ab: (distance[ab], ab)
    )
    expected: dict[tuple[int, int], int] = {}
    for one, other in pairs:
        for sells, buys in {(one, other), (other, one)}:
            while True:
                sellers = sorted(k for k in left if home[k] == sells and left[k] > 0)
                buyers = sorted(k for k in left if home[k] == buys and left[k] < 0)
                if not sellers or not buyers:
                    break
                left[sellers[0]] -= 1
                left[buyers[0]] += 1
                pair = sellers[0], buyers[0]
                expected[pair] = expected.get(pair, 0) + 1
    got, _ = matched(hosts_of(ids, bus, p_kw / 20, 3))
    trades = zip(got.seller_id, got.buyer_id, got.energy_wh, strict=True)
    assert {(int(s), int(b)): int(wh) for s, b, wh in trades} == expected


def test_the_largest_takes_what_rounding_leaves() -> None:
    """Whole energies that do not quite balance, as floats allow; and far ones are refused."""
    ids, bus = np.arange(4), np.zeros(4, dtype=np.int64)
    p_kw = np.array([[0.5], [0.1], [-0.3], [-0.298]])
    got, _ = matched(hosts_of(ids, bus, p_kw, 2))
    assert_same(got, sparse_trades(ids, bus, energy_wh(ids, p_kw, 0.5), np.zeros((6, 6))))
    with pytest.raises(ValueError, match=r"period 0: injections are -?\d+ Wh from balance"):
        matched(hosts_of(ids, bus, np.abs(p_kw), 2))


def test_without_sales_there_are_no_trades() -> None:
    ids, bus = np.arange(3), np.zeros(3, dtype=np.int64)
    got, _ = matched(hosts_of(ids, bus, np.zeros((3, 2)), 3))
    assert len(got) == 0
    assert got.dropped_wh.tolist() == [0, 0]
