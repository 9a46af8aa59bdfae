"""The rules of settlement against hand-worked cases, plain Python sums and invariants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.arrays import IntArray
from raygrid.market.trades import micro_value
from raygrid.settlement.rules import (
    BUYER,
    BatchInput,
    Tolerance,
    VoidReason,
    exact_value,
    meter_faults,
    settle_batch,
)

EXACT = Tolerance(0, 0)
PLENTY = 10**12


def ints(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def batch(
    rows: list[tuple[int, int, int, int, int]],
    readings: list[int],
    *,
    first_id: int = 0,
    valid: list[bool] | None = None,
) -> BatchInput:
    """A batch of rows (seller, buyer, Wh, seller's price, buyer's price)."""
    seller, buyer, energy, seller_price, buyer_price = np.array(rows, np.int64).reshape(-1, 5).T
    return BatchInput(
        1, 2, first_id, first_id + seller, first_id + buyer, energy, seller_price, buyer_price,
        ints(*readings), np.array(valid or [True] * len(readings)),
    )  # fmt: skip


def settled(
    given_batch: BatchInput, balances: list[int] | None = None, **rest: Any
) -> tuple[list[int], list[int], int]:
    members = len(given_batch.readings_wh)
    held = ints(*(balances or [PLENTY] * members))
    outcome = settle_batch(given_batch, held, rest.pop("tolerance", EXACT), **rest)
    return outcome.void_reason.tolist(), outcome.delta_micro.tolist(), outcome.network_micro


def test_buyers_pay_sellers() -> None:
    """2 kWh at 0.25 and 0.5 kWh at 0.10, by hand."""
    rows = [(0, 2, 2000, 250_000, 250_000), (1, 2, 500, 100_000, 100_000)]
    assert settled(batch(rows, [2000, 500, -2500])) == ([0, 0], [500_000, 50_000, -550_000], 0)


def test_ids_are_those_of_the_group() -> None:
    rows = [(0, 1, 1000, 7, 7)]
    assert settled(batch(rows, [1000, -1000], first_id=400)) == ([0], [7, -7], 0)


def test_values_are_rounded_to_the_nearest_halves_upwards() -> None:
    energy = ints(1, 1, 1, 1, 3)
    price = ints(500, 499, -500, -501, -500)
    assert exact_value(energy, price).tolist() == [1, 0, 0, -1, -1]


@given(st.integers(0, 2**40 - 1), st.integers(-(2**31), 2**31 - 1))
def test_exact_value_is_exact(energy: int, price: int) -> None:
    assert exact_value(ints(energy), ints(price))[0] == (energy * price + 500) // 1000


@given(st.integers(0, 10**7), st.integers(-(10**9), 10**9))
def test_exact_value_is_what_the_market_says(energy: int, price: int) -> None:
    assert exact_value(ints(energy), ints(price)) == micro_value(ints(energy), ints(price))


def test_the_network_takes_the_difference() -> None:
    rows = [(0, 1, 1000, 100, 250)]
    assert settled(batch(rows, [1000, -1000])) == ([0], [100, -250], 150)


def test_the_network_pays_only_what_it_has() -> None:
    rows = [(0, 1, 1000, 250, 100), (0, 1, 1000, 100, 120)]
    b = batch(rows, [2000, -2000])
    assert settled(b, network_balance_micro=130) == ([0, 0], [350, -220], -130)
    expected = [VoidReason.NETWORK_FUNDS, 0]
    assert settled(b, network_balance_micro=129) == (expected, [100, -120], 20)


def test_a_bad_meter_voids_its_own_trades_only() -> None:
    rows = [(0, 2, 1000, 5, 5), (1, 2, 1000, 5, 5), (1, 3, 1000, 5, 5)]
    b = batch(rows, [900, 2000, -2000, -1000])
    assert settled(b) == ([VoidReason.MISMATCH, 0, 0], [0, 10, -5, -5], 0)


def test_reasons_of_participants() -> None:
    faults = meter_faults(
        sold_wh=ints(10, 10, 10, 10, 0, 0),
        bought_wh=ints(0, 0, 0, 10, 0, 0),
        readings_wh=ints(10, 12, 10, 0, 99, 0),
        reading_valid=np.array([True, True, False, True, True, False]),
        tolerance=Tolerance(1, 0),
    )
    assert faults.tolist() == [
        VoidReason.NONE, VoidReason.MISMATCH, VoidReason.NO_READING, VoidReason.BOTH_SIDES,
        VoidReason.NONE, VoidReason.NONE,
    ]  # fmt: skip


@given(
    net=st.integers(-(2**61), 2**61),
    reading=st.integers(-(2**47) + 1, 2**47 - 1),
    wh=st.integers(0, 2**61),
    ppm=st.integers(0, 2**32 - 1),
    near=st.booleans(),
)
def test_tolerance_is_exact(net: int, reading: int, wh: int, ppm: int, near: bool) -> None:
    """(5-7) in integers without bounds."""
    if near:  # within one watt-hour of the limit
        net = reading + wh + ppm * abs(reading) // 10**6 + net % 2
        if abs(net) >= 2**62:
            return
    expected = abs(net - reading) * 10**6 <= wh * 10**6 + ppm * abs(reading)
    (found,) = meter_faults(
        ints(max(net, 0)), ints(max(-net, 0)), ints(reading), np.array([True]), Tolerance(wh, ppm)
    )
    if net:
        assert (found == VoidReason.NONE) == expected


def test_all_that_a_participant_owes_must_be_covered() -> None:
    rows = [(0, 2, 1000, 60, 60), (1, 2, 1000, 50, 50)]
    b = batch(rows, [1000, 1000, -2000])
    assert settled(b, [1, 1, 110])[0] == [0, 0]
    reason = VoidReason.NO_FUNDS | BUYER
    assert settled(b, [1, 1, 109]) == ([reason, reason], [0, 0, 0], 0)


def test_funds_are_looked_at_after_the_meters() -> None:
    rows = [(0, 2, 1000, 60, 60), (1, 2, 1000, 50, 50)]
    b = batch(rows, [0, 1000, -2000])
    assert settled(b, [0, 0, 50]) == ([VoidReason.MISMATCH, 0], [0, 50, -50], 0)


def test_a_seller_pays_where_the_price_is_negative() -> None:
    rows = [(0, 1, 1000, -60, -60)]
    b = batch(rows, [1000, -1000])
    assert settled(b, [60, 0]) == ([0], [-60, 60], 0)
    assert settled(b, [59, PLENTY])[0] == [VoidReason.NO_FUNDS]


def test_the_sellers_reason_comes_first() -> None:
    b = batch([(0, 1, 10, 1, 1)], [0, 0], valid=[True, False])
    assert settled(b)[0] == [VoidReason.MISMATCH]


def test_values_beyond_63_bits_are_refused() -> None:
    most, price = 2**40 - 1, 2**31 - 1
    one = [(0, 1, most, price, price)]
    assert settled(batch(one, [0, 0]))[0] == [VoidReason.MISMATCH]
    with pytest.raises(ValueError, match="2\\^63"):
        settled(batch(one * 2, [0, 0]))


@pytest.mark.parametrize(
    ("rows", "readings", "message"),
    [
        ([(0, 2, 1, 1, 1)], [0, 0], "buyer 2"),
        ([(-1, 1, 1, 1, 1)], [0, 0], "seller -1"),
        ([(0, 1, -1, 1, 1)], [0, 0], "energy"),
        ([(0, 1, 2**40, 1, 1)], [0, 0], "energy"),
        ([(0, 1, 1, 2**31, 1)], [0, 0], "price"),
        ([(0, 1, 1, 1, -(2**31) - 1)], [0, 0], "price"),
        ([], [2**47], "reading"),
    ],
)
def test_what_a_batch_cannot_carry_is_refused(
    rows: list[tuple[int, int, int, int, int]], readings: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        batch(rows, readings)


@pytest.mark.parametrize(("wh", "ppm"), [(-1, 0), (0, -1), (2**62, 0), (0, 2**32)])
def test_tolerances_out_of_range_are_refused(wh: int, ppm: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Tolerance(wh, ppm)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 5), st.integers(0, 50),
            st.integers(-2000, 9000), st.integers(-2000, 9000),
        ),
        max_size=12,
    ),
    readings=st.lists(st.integers(-60, 60), min_size=6, max_size=6),
    balances=st.lists(st.integers(0, 200), min_size=6, max_size=6),
    network=st.integers(0, 100),
)  # fmt: skip
def test_money_is_conserved_and_meters_bound_energy(
    rows: list[tuple[int, int, int, int, int]],
    readings: list[int],
    balances: list[int],
    network: int,
) -> None:
    b, held, tolerance = batch(rows, readings), ints(*balances), Tolerance(5, 100_000)
    outcome = settle_batch(b, held, tolerance, network)
    assert outcome.delta_micro.sum() + outcome.network_micro == 0
    assert (held + outcome.delta_micro).min() >= 0
    assert network + outcome.network_micro >= 0
    live = outcome.settled
    for member, reading in enumerate(readings):
        sold = int(b.energy_wh[live & (b.seller == member)].sum())
        bought = int(b.energy_wh[live & (b.buyer == member)].sum())
        assert sold == 0 or bought == 0
        assert sold + bought <= abs(reading) * 1.1 + 5
    assert outcome.energy_wh == b.energy_wh[live].sum()
