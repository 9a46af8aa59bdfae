"""The bytes of a round's messages: fixed layouts, so that nothing a stranger sends is run."""

from __future__ import annotations

from dataclasses import astuple
from struct import Struct, error
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

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

T = TypeVar("T", np.float64, np.int64)

_PRICES = Struct("<qqqddb")
_SUMS = Struct("<qqqqq")
_OUTCOME = Struct("<bdbq")
_MEMORY = Struct("<qqq")
_RECORD = Struct("<qdddddd")
_SIZE = Struct("<q")
_FEEDER_SUMS = Struct("<qqqqqqqq")
_CONNECTION = Struct("<qqqq")
_NEXT_ROUND = Struct("<qbdd")

_USED: dict[bool | None, int] = {None: -1, False: 0, True: 1}
_USED_BACK = {code: used for used, code in _USED.items()}
_DECISIONS = list(RoundDecision)


class WireError(ValueError):
    """Bytes that are no message of the kind that was due."""


def encode_prices(message: PriceMessage) -> bytes:
    """A `PriceMessage` as bytes."""
    rows, columns = message.pi_kw.shape
    head = _PRICES.pack(
        message.iteration, rows, columns, message.rho, message.rescale, _USED[message.used]
    )
    return head + _floats(message.pi_kw)


def decode_prices(data: bytes) -> PriceMessage:
    """Back from `encode_prices`; the arrays are the message's own.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    iteration, rows, columns, rho, rescale, used = _head(_PRICES, data)
    (pi,) = _words(data, _PRICES.size, np.float64, _area(rows, columns))
    if used not in _USED_BACK:
        raise WireError(f"unknown mark {used}")
    return PriceMessage(iteration, pi.reshape(rows, columns), rho, rescale, _USED_BACK[used])


def encode_sums(message: Aggregate) -> bytes:
    """An `Aggregate` as bytes."""
    rows, columns = message.p_quanta.shape
    norms = message.norm_quanta
    head = _SUMS.pack(message.iteration, message.host, rows, columns, len(norms))
    return head + b"".join(map(_integers, (message.p_quanta, message.phat_quanta, norms)))


def decode_sums(data: bytes) -> Aggregate:
    """Back from `encode_sums`; the arrays are the message's own.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    iteration, host, rows, columns, n_norms = _head(_SUMS, data)
    area = _area(rows, columns)
    p, phat, norms = _words(data, _SUMS.size, np.int64, area, area, n_norms)
    shape = (rows, columns)
    return Aggregate(iteration, host, p.reshape(shape), phat.reshape(shape), norms)


def encode_outcome(outcome: RoundOutcome) -> bytes:
    """A `RoundOutcome` as bytes."""
    record = outcome.record
    parts = [
        _OUTCOME.pack(
            _DECISIONS.index(outcome.decision),
            outcome.mean_price_per_kwh,
            record is not None,
            len(outcome.messages),
        )
    ]
    if record is not None:
        parts.append(_RECORD.pack(*astuple(record)))
    for message in outcome.messages:
        encoded = encode_prices(message)
        parts += [_SIZE.pack(len(encoded)), encoded]
    if outcome.memory is not None:
        parts.append(_encode_memory(outcome.memory))
    return b"".join(parts)


def decode_outcome(data: bytes) -> RoundOutcome:
    """Back from `encode_outcome`.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    decision, mean_price, has_record, n_messages = _head(_OUTCOME, data)
    known = _decision(decision)
    at, record = _OUTCOME.size, None
    if has_record:
        record = IterationRecord(*_head(_RECORD, data, at))
        at += _RECORD.size
    messages: list[PriceMessage] = []
    for _ in range(n_messages):
        (size,) = _head(_SIZE, data, at)
        at += _SIZE.size
        messages.append(decode_prices(data[at : at + size]))
        at += size
    memory = _decode_memory(data[at:]) if len(data) > at else None
    return RoundOutcome(known, record, mean_price, tuple(messages), memory)


def _encode_memory(memory: OperatorMemory) -> bytes:
    rows, columns = memory.row_price.shape
    kept = memory.active.shape[1]
    numbers = _floats(memory.balance_price_per_kwh) + _floats(memory.row_price)
    return _MEMORY.pack(rows, columns, kept) + memory.active.tobytes() + numbers


def _decode_memory(data: bytes) -> OperatorMemory:
    rows, columns, kept = _head(_MEMORY, data)
    at = _MEMORY.size + _area(columns, kept)
    balance, row_price = _words(data, at, np.float64, columns, _area(rows, columns))
    active = np.frombuffer(data[_MEMORY.size : at], dtype=np.int8).reshape(columns, kept).copy()
    return OperatorMemory(active, balance, row_price.reshape(rows, columns))


def encode_feeder_sums(message: FeederSums) -> bytes:
    """A `FeederSums` as bytes."""
    answer = message.responses
    faults = [(fault.period, len(fault.rows), *fault.rows) for fault in answer.faults]
    listed: IntArray = np.array([word for fault in faults for word in fault], dtype=np.int64)
    head = _FEEDER_SUMS.pack(
        message.iteration, message.feeder, *answer.value.shape, len(answer.price),
        len(message.p_quanta), len(message.norm_quanta), len(listed),
    )  # fmt: skip
    integers = (
        answer.buses, answer.weight, answer.left, answer.count, answer.fall,
        message.p_quanta, message.phat_quanta, message.norm_quanta, listed,
    )  # fmt: skip
    floats = (answer.value, answer.size, answer.price)
    return head + b"".join([*map(_integers, integers), *map(_floats, floats)])


def decode_feeder_sums(data: bytes) -> FeederSums:
    """Back from `encode_feeder_sums`; the arrays are the message's own.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    iteration, feeder, tops, periods, knots, shared, n_norms, n_listed = _head(_FEEDER_SUMS, data)
    area, of_shared, shape = _area(tops, periods), _area(shared, periods), (tops, periods)
    counts = (
        tops, area, area, area, knots, of_shared, of_shared, n_norms, n_listed,
        area, area, knots,
    )  # fmt: skip
    buses, weight, left, count, fall, p, phat, norms, listed, *floats = _words(
        data, _FEEDER_SUMS.size, np.int64, *counts
    )
    value, size, price = (words.view(np.float64) for words in floats)
    responses = Responses(
        buses, value.reshape(shape), weight.reshape(shape), size.reshape(shape),
        left.reshape(shape), count.reshape(shape), price, fall, _faults(listed),
    )  # fmt: skip
    if min(responses.count.min(initial=0), responses.left.min(initial=0)) < 0 or (
        int(responses.count.sum()) != knots or (responses.left > responses.count).any()
    ):
        raise WireError(f"{knots} knots do not fit their counts")
    shape = (shared, periods)
    return FeederSums(iteration, feeder, responses, p.reshape(shape), phat.reshape(shape), norms)


def _faults(listed: IntArray) -> tuple[RowFault, ...]:
    faults, words = [], listed.tolist()
    while words:
        if len(words) < 2 or not 0 <= words[1] <= len(words) - 2:
            raise WireError("a list of faults that ends early")
        end = 2 + words[1]
        faults.append(RowFault(words[0], tuple(words[2:end])))
        words = words[end:]
    return tuple(faults)


def encode_connection(message: ConnectionPrices) -> bytes:
    """A `ConnectionPrices` as bytes."""
    head = _CONNECTION.pack(message.iteration, *message.above_kw.shape, len(message.shared_kw))
    return head + _floats(message.above_kw) + _floats(message.shared_kw)


def decode_connection(data: bytes) -> ConnectionPrices:
    """Back from `encode_connection`; the arrays are the message's own.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    iteration, tops, periods, shared = _head(_CONNECTION, data)
    areas = _area(tops, periods), _area(shared, periods)
    above, common = _words(data, _CONNECTION.size, np.float64, *areas)
    return ConnectionPrices(
        iteration, above.reshape(tops, periods), common.reshape(shared, periods)
    )


def encode_bus_sums(sums: IntArray) -> bytes:
    """A feeder operator's `raygrid.market.judge.bus_sums` as bytes."""
    return _integers(sums)


def decode_bus_sums(data: bytes) -> IntArray:
    """Back from `encode_bus_sums`.

    Raises
    ------
    WireError
        The bytes are no such sums.
    """
    return _words(data, 0, np.int64, N_SUMS)[0]


def encode_next_round(message: NextRound) -> bytes:
    """A `NextRound` as bytes."""
    decision = _DECISIONS.index(message.decision)
    return _NEXT_ROUND.pack(message.iteration, decision, message.rho, message.rescale)


def decode_next_round(data: bytes) -> NextRound:
    """Back from `encode_next_round`.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    iteration, decision, rho, rescale = _head(_NEXT_ROUND, data)
    return NextRound(iteration, _decision(decision), rho, rescale)


def _decision(code: int) -> RoundDecision:
    if not 0 <= code < len(_DECISIONS):
        raise WireError(f"unknown decision {code}")
    return _DECISIONS[code]


def _head(layout: Struct, data: bytes, at: int = 0) -> tuple[Any, ...]:
    try:
        return layout.unpack_from(data, at)
    except error as wrong:
        raise WireError(f"{len(data)} bytes are no message: {wrong}") from wrong


def _floats(array: FloatArray) -> bytes:
    return np.ascontiguousarray(array, dtype="<f8").tobytes()


def _integers(array: IntArray) -> bytes:
    return np.ascontiguousarray(array, dtype="<i8").tobytes()


def _words(data: bytes, at: int, kind: type[T], *counts: int) -> list[NDArray[T]]:
    """So many arrays of 8-byte numbers that fill the rest of the message."""
    if min(counts) < 0 or len(data) - at != 8 * sum(counts):
        raise WireError(f"{len(data) - at} bytes for arrays of {counts} numbers")
    whole = np.frombuffer(data, dtype=kind, offset=at).copy()
    return np.split(whole, np.cumsum(counts)[:-1])


def _area(rows: int, columns: int) -> int:
    if min(rows, columns) < 0:
        raise WireError(f"an array of {rows} x {columns}")
    return rows * columns
