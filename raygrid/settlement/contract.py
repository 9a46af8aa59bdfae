"""The calldata of the settlement contract's functions, and what its events say.

Pure bytes: nothing here talks to a chain. What a batch looks like is in
`raygrid.settlement.batch_bytes`, what the contract makes of it in `raygrid.settlement.rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement.artifacts import (
    WORD,
    Artifact,
    decode_error,
    encode_bytes,
    encode_word,
    load_artifact,
    read_number,
    read_signed,
)
from raygrid.settlement.batch_bytes import (
    batch_record,
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
from raygrid.settlement.rules import BUYER, Tolerance, VoidReason

__all__ = [
    "BUYER",
    "MAX_REGISTERED_AT_ONCE",
    "NETWORK_ACCOUNT",
    "TOKEN_DECIMALS",
    "Artifact",
    "Log",
    "Parties",
    "ProvenTrade",
    "SettledEvent",
    "VoidReason",
    "batch_record",
    "batches_of_call",
    "commit_call",
    "committed_hash",
    "decode_balances",
    "decode_batch",
    "decode_error",
    "decode_proof",
    "decode_settled",
    "decode_voids",
    "encode_batch",
    "encode_readings",
    "encode_voids",
    "fund_call",
    "load_artifact",
    "prove_call",
    "readings_hash",
    "readings_of",
    "register_calls",
    "settle_call",
    "settlement_code",
    "split_batches",
]

NETWORK_ACCOUNT = 2**32 - 1
"""Id of the account that takes or bears the difference of seller's and buyer's prices."""
MAX_REGISTERED_AT_ONCE = 600
"""Most participants that one call registers."""
TOKEN_DECIMALS = 6
"""Decimals that the token of the escrow must have."""

_ADDRESS = 20
_COMMITMENT = 40


class Log(Protocol):
    """A log as chains give it: the part that is read here."""

    @property
    def topics(self) -> Sequence[bytes]:
        """Topics; the first says which event."""

    @property
    def data(self) -> bytes:
        """The rest of the event."""


@dataclass(frozen=True)
class Parties:
    """Who a settlement contract is deployed for; addresses of 20 bytes.

    Attributes
    ----------
    admin : bytes
        Hands out the roles.
    registrar, operator, meter_authority, pauser : bytes
        The roles; operator and meter authority cannot be the same.
    network_owner : bytes
        Who withdraws from the network account.
    """

    admin: bytes
    registrar: bytes
    operator: bytes
    meter_authority: bytes
    pauser: bytes
    network_owner: bytes


def settlement_code(token: bytes, parties: Parties, tolerance: Tolerance) -> bytes:
    """Code that deploys a settlement contract.

    Parameters
    ----------
    token : bytes
        Address of the escrow's token.
    parties : Parties
        Who has which role.
    tolerance : Tolerance
        Of verification (5-7), for good.
    """
    words: tuple[int | bytes, ...] = (
        token,
        parties.admin,
        parties.registrar,
        parties.operator,
        parties.meter_authority,
        parties.pauser,
        parties.network_owner,
        tolerance.wh,
        tolerance.ppm,
    )
    return load_artifact().bytecode + b"".join(map(encode_word, words))


def register_calls(group: int, owners: Sequence[bytes], meters: Sequence[bytes]) -> list[bytes]:
    """Calldata that registers participants under the next free ids.

    Parameters
    ----------
    group : int
        Their group: a new one, or the latest one, which then grows.
    owners, meters : sequence of bytes
        Per participant the addresses of its owner and its meter's key.

    Returns
    -------
    list of bytes
        As many calls as it takes, to be sent in order.
    """
    accounts = [owner + meter for owner, meter in zip(owners, meters, strict=True)]
    if any(len(account) != 2 * _ADDRESS for account in accounts):
        raise ValueError("addresses have 20 bytes")
    return [
        load_artifact().call(
            "register(uint32,bytes)",
            group,
            tail=b"".join(accounts[first : first + MAX_REGISTERED_AT_ONCE]),
        )
        for first in range(0, len(accounts), MAX_REGISTERED_AT_ONCE)
    ]


def fund_call(first_id: int, amounts_micro: IntArray) -> bytes:
    """Calldata that pays into the escrows of participants in a row.

    Parameters
    ----------
    first_id : int
        The first of them, a multiple of four.
    amounts_micro : (M,) int64
        What each gets [1e-6 currency].
    """
    if first_id % 4 or (np.asarray(amounts_micro) < 0).any():
        raise ValueError("escrows are funded from a multiple of four on, with amounts from 0 on")
    packed = np.ascontiguousarray(amounts_micro, dtype=">i8").tobytes()
    return load_artifact().call("fund(uint32,bytes)", first_id, tail=packed)


def commit_call(groups: Sequence[int], periods: Sequence[int], hashes: Sequence[bytes]) -> bytes:
    """Calldata that commits readings.

    Parameters
    ----------
    groups, periods : sequence of int
        Whose readings, and of when.
    hashes : sequence of bytes
        `readings_hash` of each.
    """
    parts = [
        group.to_bytes(4, "big") + period.to_bytes(4, "big") + digest
        for group, period, digest in zip(groups, periods, hashes, strict=True)
    ]
    if any(len(part) != _COMMITMENT for part in parts):
        raise ValueError("hashes have 32 bytes")
    return load_artifact().call("commitReadings(bytes)", tail=b"".join(parts))


def settle_call(batches: Sequence[bytes], first_sequence: int) -> bytes:
    """Calldata that settles batches one after the other.

    Parameters
    ----------
    batches : sequence of bytes
        From `encode_batch`.
    first_sequence : int
        Number of the first of them.
    """
    return load_artifact().call("settle(uint64,bytes)", first_sequence, tail=b"".join(batches))


def batches_of_call(calldata: bytes) -> tuple[int, list[bytes]]:
    """What a transaction to `settle` carried: number of the first batch, and the batches.

    Raises
    ------
    ValueError
        If it was no call of `settle`.
    """
    selector = load_artifact().functions["settle(uint64,bytes)"]
    if calldata[:4] != selector or len(calldata) < 4 + 3 * WORD:
        raise ValueError("this transaction is no call of settle")
    sequence, offset = read_number(calldata, 4), read_number(calldata, 4 + WORD)
    size = read_number(calldata, 4 + offset)
    start = 4 + offset + WORD
    if start + size > len(calldata):
        raise ValueError("this call of settle is cut short")
    return sequence, split_batches(calldata[start : start + size])


def prove_call(payload: bytes, sequence: int, voids: bytes, index: int) -> bytes:
    """Calldata of the view that proves one trade of a settled batch.

    Parameters
    ----------
    payload : bytes
        The batch, from the operator's transaction.
    sequence : int
        Its number.
    voids : bytes
        Its void trades, from the event.
    index : int
        Position of the trade in the batch.
    """
    first, second = encode_bytes(payload), encode_bytes(voids)
    head = 4 * WORD
    words = (head, sequence, head + len(first), index)
    selector = load_artifact().functions["proveTrade(bytes,uint64,bytes,uint256)"]
    return b"".join((selector, *map(encode_word, words), first, second))


@dataclass(frozen=True)
class ProvenTrade:
    """A trade that a chain has proven.

    Attributes
    ----------
    void_reason : int
        `VoidReason`, plus `BUYER` where the buyer is the reason; 0 if it settled.
    seller, buyer : int
        Ids on the chain.
    energy_wh : int
        Energy [Wh].
    earned_micro, paid_micro : int
        What the seller was credited and the buyer debited, if it settled [1e-6 currency].
    """

    void_reason: int
    seller: int
    buyer: int
    energy_wh: int
    earned_micro: int
    paid_micro: int


def decode_proof(answer: bytes) -> ProvenTrade:
    """Read the answer to `prove_call`."""
    reason, seller, buyer, energy_wh = (read_number(answer, k * WORD) for k in range(4))
    earned, paid = (read_signed(answer, k * WORD) for k in (4, 5))
    return ProvenTrade(reason, seller, buyer, energy_wh, earned, paid)


@dataclass(frozen=True)
class SettledEvent:
    """A batch settled, as its event says.

    Attributes
    ----------
    sequence, group, period : int
        Its number, whose trades and of when.
    record : bytes
        What the contract keeps of it.
    settled : int
        Number of trades that settled.
    energy_wh : int
        What they traded [Wh].
    network_micro : int
        What the network account got [1e-6 currency].
    voids : bytes
        Void trades, as they enter the record.
    """

    sequence: int
    group: int
    period: int
    record: bytes
    settled: int
    energy_wh: int
    network_micro: int
    voids: bytes

    @property
    def void_index(self) -> IntArray:
        """Positions of the trades that are void."""
        return decode_voids(self.voids)[0]

    @property
    def void_reason(self) -> IntArray:
        """Why each of them is, as in `raygrid.settlement.rules.BatchOutcome`."""
        return decode_voids(self.voids)[1]


def decode_settled(log: Log) -> SettledEvent:
    """Read the event of a settled batch.

    Raises
    ------
    ValueError
        If it is another event.
    """
    if not log.topics or log.topics[0] != load_artifact().topic("BatchSettled"):
        raise ValueError("this log is not of a settled batch")
    sequence, group, period = (int.from_bytes(topic, "big") for topic in log.topics[1:4])
    data = log.data
    offset = read_number(data, 4 * WORD)
    size = read_number(data, offset)
    return SettledEvent(
        sequence=sequence,
        group=group,
        period=period,
        record=data[:WORD],
        settled=read_number(data, WORD),
        energy_wh=read_number(data, 2 * WORD),
        network_micro=read_signed(data, 3 * WORD),
        voids=data[offset + WORD : offset + WORD + size],
    )


def decode_balances(answer: bytes) -> IntArray:
    """Read the answer of `balanceWords`: (4 * words,) balances in order of ids."""
    return np.frombuffer(answer, dtype=">u8", offset=2 * WORD).astype(np.int64)
