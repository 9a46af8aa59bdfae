"""The bytes of a round's messages: fixed layouts, so that nothing a stranger sends is run."""

from __future__ import annotations

from dataclasses import astuple
from struct import Struct, error
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.clearing import IterationRecord
from raygrid.market.messages import Aggregate, PriceMessage, RoundDecision, RoundOutcome

T = TypeVar("T", np.float64, np.int64)

_PRICES = Struct("<qqqddb")
_SUMS = Struct("<qqqqq")
_OUTCOME = Struct("<bdbq")
_RECORD = Struct("<qdddddd")
_SIZE = Struct("<q")

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
    return b"".join(parts)


def decode_outcome(data: bytes) -> RoundOutcome:
    """Back from `encode_outcome`.

    Raises
    ------
    WireError
        The bytes are no such message.
    """
    decision, mean_price, has_record, n_messages = _head(_OUTCOME, data)
    if not 0 <= decision < len(_DECISIONS):
        raise WireError(f"unknown decision {decision}")
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
    return RoundOutcome(_DECISIONS[decision], record, mean_price, tuple(messages))


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
