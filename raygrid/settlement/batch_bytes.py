"""Batches as the bytes that the contract reads, and back; all big-endian.

The layout is that of ``struct Batch`` in `contracts/src/Batches.sol`:

- header, 19 bytes: group u32, period u32, pricing u8, price i32, members u24, trades u24;
- readings, 6 bytes each: the highest bit says drawn from the grid rather than fed into it, the
  other 47 are watt-hours; drawn and 0 Wh means that there is no reading;
- trades, 11 bytes each: seller u24 and buyer u24 (positions in the group), energy u40 [Wh];
  then, by pricing, nothing (the header's price holds), the trade's price i32, or the seller's
  and the buyer's price i32 [1e-6 currency/kWh].
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
from eth_hash.auto import keccak
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, IntArray
from raygrid.settlement.rules import BatchInput

READING_BYTES = 6
VOID_BYTES = 4
TRADE_BYTES = 11
PRICE_BYTES = 4
_HEADER = struct.Struct(">IIBi3s3s")
_DRAWN = 1 << 47
_SETTLED = 1


class Pricing(IntEnum):
    """Where a batch's prices stand."""

    UNIFORM = 0
    """One price for all, in the header."""
    PER_TRADE = 1
    """Each trade has its own."""
    LOCATIONAL = 2
    """Each trade has one for its seller and one for its buyer."""


def encode_readings(readings_wh: IntArray, valid: BoolArray) -> bytes:
    """Readings of a group's members, in order of their ids; what the meter authority commits.

    Parameters
    ----------
    readings_wh : (M,) int64
        Net readings, fed into the grid positive [Wh].
    valid : (M,) bool
        Where there is a reading.

    Returns
    -------
    bytes
        6 a member.
    """
    drawn = np.where(readings_wh < 0, _DRAWN, 0)
    word = np.where(valid, np.abs(readings_wh) | drawn, _DRAWN)
    return _big_endian(word, READING_BYTES).tobytes()


def readings_hash(readings: bytes) -> bytes:
    """What the meter authority commits of encoded readings."""
    return keccak(readings)


def committed_hash(readings: bytes) -> bytes:
    """What the contract stores of it, until they settle: the hash with its lowest bit cleared."""
    digest = keccak(readings)
    return digest[:-1] + bytes([digest[-1] & ~_SETTLED])


def encode_batch(batch: BatchInput) -> bytes:
    """A batch as the contract reads it."""
    seller_price, buyer_price = batch.seller_price_micro_per_kwh, batch.buyer_price_micro_per_kwh
    columns = [
        _big_endian(batch.seller - batch.first_id, 3),
        _big_endian(batch.buyer - batch.first_id, 3),
        _big_endian(batch.energy_wh, 5),
    ]
    pricing, price = Pricing.UNIFORM, 0
    if not np.array_equal(seller_price, buyer_price):
        pricing = Pricing.LOCATIONAL
        columns += [_big_endian(seller_price, PRICE_BYTES), _big_endian(buyer_price, PRICE_BYTES)]
    elif len(batch) and (seller_price != seller_price[0]).any():
        pricing = Pricing.PER_TRADE
        columns.append(_big_endian(seller_price, PRICE_BYTES))
    elif len(batch):
        price = int(seller_price[0])
    header = _HEADER.pack(
        batch.group,
        batch.period,
        pricing,
        price,
        len(batch.readings_wh).to_bytes(3, "big"),
        len(batch).to_bytes(3, "big"),
    )
    readings = encode_readings(batch.readings_wh, batch.reading_valid)
    return b"".join((header, readings, np.concatenate(columns, axis=1).tobytes()))


def readings_of(payload: bytes) -> bytes:
    """The encoded readings within an encoded batch."""
    members = int.from_bytes(_HEADER.unpack_from(payload)[4], "big")
    return payload[_HEADER.size : _HEADER.size + members * READING_BYTES]


def decode_batch(payload: bytes, first_id: int = 0) -> BatchInput:
    """The inverse of `encode_batch`.

    Parameters
    ----------
    payload : bytes
        One batch, nothing behind it.
    first_id : int
        Id of the group's first participant, which a batch does not say.

    Raises
    ------
    ValueError
        If these are not the bytes of one batch.
    """
    if len(payload) < _HEADER.size or len(payload) != batch_size(payload):
        raise ValueError("these bytes are not one batch")
    group, period, pricing, price, members_24, trades_24 = _HEADER.unpack_from(payload)
    members, trades = int.from_bytes(members_24, "big"), int.from_bytes(trades_24, "big")
    data = np.frombuffer(payload, dtype=np.uint8, offset=_HEADER.size)
    word = _integers(data[: members * READING_BYTES].reshape(members, READING_BYTES))
    size = word & (_DRAWN - 1)
    rows = data[members * READING_BYTES :].reshape(trades, _trade_size(pricing))
    seller_price = np.full(trades, price, dtype=np.int64)
    if pricing != Pricing.UNIFORM:
        seller_price = _prices(rows[:, 11:15])
    buyer_price = _prices(rows[:, 15:19]) if pricing == Pricing.LOCATIONAL else seller_price
    return BatchInput(
        group=group,
        period=period,
        first_id=first_id,
        seller=first_id + _integers(rows[:, 0:3]),
        buyer=first_id + _integers(rows[:, 3:6]),
        energy_wh=_integers(rows[:, 6:11]),
        seller_price_micro_per_kwh=seller_price,
        buyer_price_micro_per_kwh=buyer_price,
        readings_wh=np.where(word >= _DRAWN, -size, size),
        reading_valid=word != _DRAWN,
    )


def batch_size(payload: bytes, offset: int = 0) -> int:
    """Length of the batch that starts at `offset` [B].

    Raises
    ------
    ValueError
        If its header is cut short or names no known pricing.
    """
    if len(payload) < offset + _HEADER.size:
        raise ValueError("the header of a batch is cut short")
    _, _, pricing, _, members, trades = _HEADER.unpack_from(payload, offset)
    if pricing > max(Pricing):
        raise ValueError(f"a batch has the unknown pricing {pricing}")
    readings = int.from_bytes(members, "big") * READING_BYTES
    return _HEADER.size + readings + int.from_bytes(trades, "big") * _trade_size(pricing)


def split_batches(payload: bytes) -> list[bytes]:
    """The single batches of a transaction that carries several, one behind the other."""
    found, offset = [], 0
    while offset < len(payload):
        size = batch_size(payload, offset)
        if offset + size > len(payload):
            raise ValueError("the last batch is cut short")
        found.append(payload[offset : offset + size])
        offset += size
    return found


def encode_voids(void_reason: IntArray) -> bytes:
    """The trades of a batch that are void, as the contract lists them: position u24, reason u8."""
    index = np.flatnonzero(void_reason)
    return _big_endian((index << 8) | void_reason[index], VOID_BYTES).tobytes()


def decode_voids(voids: bytes) -> tuple[IntArray, IntArray]:
    """The inverse: positions and reasons of the trades that are void."""
    word = _integers(np.frombuffer(voids, dtype=np.uint8).reshape(-1, VOID_BYTES))
    return word >> 8, word & 0xFF


def batch_record(payload: bytes, sequence: int, voids: bytes) -> bytes:
    """What the contract keeps of a settled batch.

    Parameters
    ----------
    payload : bytes
        The batch.
    sequence : int
        Its number.
    voids : bytes
        Its void trades, from `encode_voids` or the event.

    Returns
    -------
    bytes
        keccak256 of all three with the lowest bit set.
    """
    digest = keccak(b"".join((payload, sequence.to_bytes(8, "big"), voids)))
    return digest[:-1] + bytes([digest[-1] | _SETTLED])


def _trade_size(pricing: int) -> int:
    return TRADE_BYTES + PRICE_BYTES * pricing


def _big_endian(values: IntArray, size: int) -> NDArray[np.uint8]:
    """(K, size) lowest bytes of (K,) integers, the highest first."""
    wide = np.ascontiguousarray(values, dtype=">i8").view(np.uint8).reshape(-1, 8)
    return wide[:, 8 - size :]


def _integers(rows: NDArray[np.uint8]) -> IntArray:
    """(K,) unsigned integers of (K, size) bytes, the highest first."""
    wide = np.zeros((len(rows), 8), dtype=np.uint8)
    wide[:, 8 - rows.shape[1] :] = rows
    return wide.view(">i8").reshape(-1).astype(np.int64)


def _prices(rows: NDArray[np.uint8]) -> IntArray:
    """(K,) signed prices of (K, 4) bytes."""
    return np.ascontiguousarray(rows).view(">i4").reshape(-1).astype(np.int64)
