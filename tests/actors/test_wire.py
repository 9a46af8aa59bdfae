"""Messages as bytes: there and back, and nothing but messages."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from actors import wire
from raygrid.arrays import FloatArray, IntArray
from raygrid.market.clearing import IterationRecord
from raygrid.market.hierarchy import ConnectionPrices, FeederSums, NextRound
from raygrid.market.judge import N_SUMS
from raygrid.market.messages import (
    Aggregate,
    OperatorMemory,
    PriceMessage,
    RoundDecision,
    RoundOutcome,
)
from raygrid.market.projection import RowFault
from raygrid.market.tree_solver import Responses

integers = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False)
shapes = st.tuples(st.integers(0, 4), st.integers(0, 4))
prices = st.builds(
    PriceMessage,
    integers,
    arrays(np.float64, shapes, elements=numbers),
    numbers,
    numbers,
    st.sampled_from([None, True, False]),
)
records = st.builds(IterationRecord, integers, *[numbers] * 6)


@st.composite
def memories(draw: st.DrawFn) -> OperatorMemory:
    periods, rows, kept = (draw(st.integers(0, 4)) for _ in range(3))
    balance, row_price = (
        draw(arrays(np.float64, shape, elements=numbers)) for shape in (periods, (rows, periods))
    )
    return OperatorMemory(draw(arrays(np.int8, (periods, kept))), balance, row_price)


outcomes = st.builds(
    RoundOutcome,
    st.sampled_from(RoundDecision),
    st.none() | records,
    numbers,
    st.lists(prices, max_size=3).map(tuple),
    st.none() | memories(),
)


@st.composite
def sums(draw: st.DrawFn) -> Aggregate:
    shape = draw(shapes)
    p, phat = (draw(arrays(np.int64, shape)) for _ in range(2))
    return Aggregate(draw(integers), draw(integers), p, phat, draw(arrays(np.int64, 4)))


def same(one: object, other: object) -> bool:
    for field in fields(one):  # type: ignore[arg-type]
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or not np.array_equal(a, b) or not b.flags.writeable:
                return False
        elif isinstance(a, OperatorMemory) and isinstance(b, OperatorMemory):
            if not same(a, b):
                return False
        elif isinstance(a, tuple):
            if len(a) != len(b) or not all(map(same, a, b)):
                return False
        elif a != b:
            return False
    return True


@given(prices)
def test_prices(message: PriceMessage) -> None:
    assert same(message, wire.decode_prices(wire.encode_prices(message)))


@given(sums())
def test_sums(message: Aggregate) -> None:
    assert same(message, wire.decode_sums(wire.encode_sums(message)))


@given(outcomes)
def test_outcomes(outcome: RoundOutcome) -> None:
    assert same(outcome, wire.decode_outcome(wire.encode_outcome(outcome)))


@st.composite
def feeder_sums(draw: st.DrawFn) -> FeederSums:
    (tops, periods), shared = draw(shapes), draw(st.integers(0, 3))
    counts = draw(arrays(np.int64, (tops, periods), elements=st.integers(0, 3)))
    knots = int(counts.sum())

    def whole(*shape: int) -> IntArray:
        return draw(arrays(np.int64, shape))

    def real(*shape: int) -> FloatArray:
        return draw(arrays(np.float64, shape, elements=numbers))

    faults = draw(st.lists(st.builds(RowFault, integers, st.lists(integers).map(tuple))))
    responses = Responses(
        whole(tops), real(tops, periods), whole(tops, periods), real(tops, periods),
        counts // 2, counts, real(knots), whole(knots), tuple(faults),
    )  # fmt: skip
    sums = whole(shared, periods), whole(shared, periods), whole(4)
    return FeederSums(draw(integers), draw(integers), responses, *sums)


@given(feeder_sums())
def test_feeder_sums(message: FeederSums) -> None:
    got = wire.decode_feeder_sums(wire.encode_feeder_sums(message))
    assert same(replace(got, responses=message.responses), message)
    assert got.responses.faults == message.responses.faults
    assert same(replace(message.responses, faults=()), replace(got.responses, faults=()))


@given(
    st.builds(
        ConnectionPrices,
        integers,
        arrays(np.float64, (2, 3), elements=numbers),
        arrays(np.float64, st.tuples(st.integers(0, 3), st.just(3)), elements=numbers),
    )
)
def test_connections(message: ConnectionPrices) -> None:
    assert same(message, wire.decode_connection(wire.encode_connection(message)))


@given(st.builds(NextRound, integers, st.sampled_from(RoundDecision), numbers, numbers))
def test_next_rounds(message: NextRound) -> None:
    assert wire.decode_next_round(wire.encode_next_round(message)) == message


@given(arrays(np.int64, N_SUMS))
def test_bus_sums(sums: IntArray) -> None:
    np.testing.assert_array_equal(wire.decode_bus_sums(wire.encode_bus_sums(sums)), sums)


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    for decode in (
        wire.decode_prices, wire.decode_sums, wire.decode_outcome, wire.decode_feeder_sums,
        wire.decode_connection, wire.decode_next_round, wire.decode_bus_sums,
    ):  # fmt: skip
        try:
            decode(data)
        except wire.WireError:
            continue


def test_a_message_that_was_cut_is_refused() -> None:
    whole = wire.encode_prices(PriceMessage(1, np.ones((2, 3)), 0.1, 1.0))
    for end in (0, 10, len(whole) - 1):
        with pytest.raises(wire.WireError):
            wire.decode_prices(whole[:end])
