"""The bytes of batches: one by hand, and back from bytes whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from raygrid.settlement.batch_bytes import (
    batch_record,
    batch_size,
    committed_hash,
    decode_batch,
    decode_voids,
    encode_batch,
    encode_readings,
    encode_voids,
    readings_hash,
    readings_of,
    split_batches,
)
from raygrid.settlement.rules import BatchInput
from tests.settlement.test_rules import batch, ints

HEADER = "0000000100000002"
READINGS = "0000000003e88000000003e8"


def test_readings_by_hand() -> None:
    found = encode_readings(ints(1, -1, 0, 5, 2**47 - 1), np.array([True, True, True, False, True]))
    assert found.hex() == "0000000000018000000000010000000000008000000000007fffffffffff"


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ((7, 7), "0000000007000002000001" + READINGS + "00000000000100000003e8"),
        (
            (7, -9),
            "0200000000000002000001" + READINGS + "00000000000100000003e800000007fffffff7",
        ),
    ],
)
def test_batches_by_hand(prices: tuple[int, int], expected: str) -> None:
    found = encode_batch(batch([(0, 1, 1000, *prices)], [1000, -1000], first_id=9))
    assert found.hex() == HEADER + expected
    assert readings_of(found).hex() == READINGS


def test_a_price_each_takes_four_bytes_a_trade() -> None:
    rows = [(0, 1, 1, 3, 3), (0, 1, 1, 4, 4)]
    found = encode_batch(batch(rows, [2, -2]))
    assert found[8] == 1
    assert len(found) == 19 + 2 * 6 + 2 * 15


def test_hashes_and_records() -> None:
    digest = keccak(b"readings")
    assert readings_hash(b"readings") == digest
    assert committed_hash(b"readings") == digest[:31] + bytes([digest[31] & 0xFE])
    digest = keccak(b"batch" + bytes(7) + b"\x05" + b"void")
    assert batch_record(b"batch", 5, b"void") == digest[:31] + bytes([digest[31] | 1])


def test_voids_by_hand() -> None:
    reasons = np.zeros(70_000, dtype=np.int64)
    reasons[[3, 69_999]] = 2, 0x84
    assert encode_voids(reasons).hex() == "0000030201116f84"
    index, reason = decode_voids(encode_voids(reasons))
    assert index.tolist() == [3, 69_999]
    assert reason.tolist() == [2, 0x84]
    assert encode_voids(np.zeros(4, dtype=np.int64)) == b""


@st.composite
def batches(draw: st.DrawFn) -> BatchInput:
    members = draw(st.integers(1, 6))
    party = st.integers(0, members - 1)
    price = st.integers(-(2**31), 2**31 - 1)
    pricing = draw(st.sampled_from((0, 1, 2)))
    same = draw(price)
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        seller_price = same if pricing == 0 else draw(price)
        buyer_price = draw(price) if pricing == 2 else seller_price
        energy = draw(st.integers(0, 2**40 - 1))
        rows.append((draw(party), draw(party), energy, seller_price, buyer_price))
    valid = draw(st.lists(st.booleans(), min_size=members, max_size=members))
    reading = st.integers(-(2**47) + 1, 2**47 - 1)
    return batch(
        rows, [draw(reading) if v else 0 for v in valid],
        first_id=draw(st.integers(0, 2**31)), valid=valid,
    )  # fmt: skip


@given(st.lists(batches(), max_size=4))
def test_bytes_lead_back_to_the_batches(made: list[BatchInput]) -> None:
    encoded = [encode_batch(one) for one in made]
    assert split_batches(b"".join(encoded)) == encoded
    for one, payload in zip(made, encoded, strict=True):
        assert batch_size(payload) == len(payload)
        back = decode_batch(payload, one.first_id)
        for name in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(back, name), getattr(one, name), err_msg=name)


def test_torn_batches_are_refused() -> None:
    payload = encode_batch(batch([(0, 1, 5, 1, 1)], [5, -5]))
    for bad in (payload[:-1], payload[:10], payload + b"\0", b""):
        with pytest.raises(ValueError, match="one batch"):
            decode_batch(bad)
    with pytest.raises(ValueError, match="unknown pricing"):
        batch_size(payload[:8] + b"\x03" + payload[9:])
    with pytest.raises(ValueError, match="cut short"):
        split_batches(payload + payload[:-1])
    with pytest.raises(ValueError, match="cut short"):
        split_batches(payload + b"\0")
