"""Signed day reports of meters and their commitments.

A report is one message per meter and day. Its SHA-3 is published when the day ends, before
anybody knows what is settled, and is a commitment that tells nothing of the readings, since the
message holds a nonce.

References
----------
PBET-Chain 2026, (15): h = H(m || r), with SHA-3. A hash is a commitment and proves nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.settlement.meters import Measurement

MAGIC = b"rgmeter1"
NONCE_BYTES = 16
SIGNATURE_BYTES = 65


@dataclass(frozen=True)
class MeterReport:
    """A report as it arrives.

    Attributes
    ----------
    sender : int
        The participant that it claims to come from.
    message : bytes
        The signed bytes, see `message_type`.
    signature : bytes
        Of the commitment: r, s and recovery id, 65 bytes.
    """

    sender: int
    message: bytes
    signature: bytes

    @property
    def commitment(self) -> bytes:
        """SHA3-256 of the message, 32 bytes: what is signed and published."""
        return hashlib.sha3_256(self.message).digest()


def message_type(n_periods: int) -> np.dtype[Any]:
    """Layout of a report's message, little-endian; what was not recorded is 0.

    Parameters
    ----------
    n_periods : int
        Periods of a day T.
    """
    return np.dtype(
        [
            ("magic", "S8"),
            ("community", "V32"),
            ("participant", "<u4"),
            ("n_periods", "<u4"),
            ("first_period", "<i8"),
            ("nonce", f"V{NONCE_BYTES}"),
            ("opening_wh", "<i8"),
            ("closing_wh", "<i8"),
            ("recorded", "u1", (n_periods,)),
            ("reading_wh", "<i8", (n_periods,)),
            ("register_wh", "<i8", (n_periods,)),
        ]
    )


def community_id(scenario: str, seed: int) -> bytes:
    """32 bytes that bind reports and registrations to one community.

    Parameters
    ----------
    scenario : str
        The scenario's name.
    seed : int
        Its seed.
    """
    return hashlib.sha3_256(f"raygrid community/{seed}/{scenario}".encode()).digest()


def encode_messages(
    measurement: Measurement, community: bytes, nonces: Sequence[bytes]
) -> list[bytes]:
    """Messages of all meters.

    Parameters
    ----------
    measurement : Measurement
        What M meters hold.
    community : bytes
        `community_id`.
    nonces : sequence of bytes
        One a meter, 16 bytes each.
    """
    return pack_messages(
        community,
        measurement.participant,
        measurement.first_period,
        nonces,
        measurement.opening_wh,
        measurement.closing_wh,
        measurement.recorded,
        measurement.reading_wh,
        measurement.register_wh,
    )


def pack_messages(
    community: bytes,
    participant: IntArray,
    first_period: int,
    nonces: Sequence[bytes],
    opening_wh: IntArray,
    closing_wh: IntArray,
    recorded: BoolArray,
    reading_wh: IntArray,
    register_wh: IntArray,
) -> list[bytes]:
    """Messages from their parts, as `message_type` lays them out.

    Parameters
    ----------
    community, first_period
        Those of all messages.
    participant, nonces, opening_wh, closing_wh : (M,)
        Those of each.
    recorded, reading_wh, register_wh : (M, T)
        Those of each period; what was not recorded is left out.
    """
    n, n_periods = reading_wh.shape
    kind = message_type(n_periods)
    rows = np.zeros(n, dtype=kind)
    rows["magic"] = MAGIC
    rows["community"] = np.void(community)
    rows["participant"] = participant
    rows["n_periods"] = n_periods
    rows["first_period"] = first_period
    rows["nonce"] = np.frombuffer(b"".join(nonces), dtype=f"V{NONCE_BYTES}")
    rows["opening_wh"] = opening_wh
    rows["closing_wh"] = closing_wh
    rows["recorded"] = recorded
    rows["reading_wh"] = np.where(recorded, reading_wh, 0)
    rows["register_wh"] = np.where(recorded, register_wh, 0)
    raw, size = rows.tobytes(), kind.itemsize
    return [raw[k * size : (k + 1) * size] for k in range(n)]


def sign_reports(
    measurement: Measurement, community: bytes, secrets: Sequence[bytes]
) -> list[MeterReport]:
    """Reports of all meters, each signed with its own key.

    Parameters
    ----------
    measurement : Measurement
        What M meters hold.
    community : bytes
        `community_id`.
    secrets : sequence of bytes
        Keys in the order of the meters. Nonces follow from them and the day, so that a run
        gives the same bits again.
    """
    from coincurve import PrivateKey

    day = str(measurement.first_period).encode()
    nonces = [
        hashlib.sha3_256(b"nonce/" + day + b"/" + secret).digest()[:NONCE_BYTES]
        for secret in secrets
    ]
    messages = encode_messages(measurement, community, nonces)
    reports = []
    for who, message, secret in zip(
        measurement.participant.tolist(), messages, secrets, strict=True
    ):
        digest = hashlib.sha3_256(message).digest()
        signature = PrivateKey(secret).sign_recoverable(digest, hasher=None)
        reports.append(MeterReport(who, message, signature))
    return reports


def signer(report: MeterReport) -> bytes | None:
    """Compressed public key that made a report's signature; None where none could have."""
    from coincurve import PublicKey

    if len(report.signature) != SIGNATURE_BYTES:
        return None
    try:
        key = PublicKey.from_signature_and_message(report.signature, report.commitment, hasher=None)
    except Exception:  # coincurve raises a bare Exception for a bad recovery
        return None
    return key.format()


@dataclass(frozen=True)
class DecodedMessages:
    """Messages of M meters as arrays; what does not follow `message_type` is not `well_formed`.

    Attributes
    ----------
    well_formed : (M,) bool
        Whether magic, length and number of periods are right; else the rest is 0.
    community, nonce : list of bytes
        32 and 16 bytes each.
    participant, first_period, opening_wh, closing_wh : (M,) int64
        The header.
    recorded : (M, T) bool
        Which readings were recorded.
    reading_wh, register_wh : (M, T) int64
        Readings and registers [Wh].
    """

    well_formed: BoolArray
    community: list[bytes]
    nonce: list[bytes]
    participant: IntArray
    first_period: IntArray
    opening_wh: IntArray
    closing_wh: IntArray
    recorded: BoolArray
    reading_wh: IntArray
    register_wh: IntArray


def decode_messages(messages: Sequence[bytes], n_periods: int) -> DecodedMessages:
    """The inverse of `encode_messages`, for messages that anybody may have made.

    Parameters
    ----------
    messages : sequence of bytes
        Messages; empty ones stand for none.
    n_periods : int
        Periods of a day T.
    """
    kind = message_type(n_periods)
    nothing = bytes(kind.itemsize)
    fits = [len(message) == kind.itemsize for message in messages]
    raw = b"".join(m if fit else nothing for m, fit in zip(messages, fits, strict=True))
    rows = np.frombuffer(raw, dtype=kind)
    flags = rows["recorded"]
    well_formed = (rows["magic"] == MAGIC) & (rows["n_periods"] == n_periods)
    well_formed &= (flags <= 1).all(axis=1)
    return DecodedMessages(
        well_formed=np.asarray(well_formed),
        community=[bytes(value) for value in rows["community"]],
        nonce=[bytes(value) for value in rows["nonce"]],
        participant=rows["participant"].astype(np.int64),
        first_period=rows["first_period"].astype(np.int64),
        opening_wh=rows["opening_wh"].astype(np.int64),
        closing_wh=rows["closing_wh"].astype(np.int64),
        recorded=flags == 1,
        reading_wh=rows["reading_wh"].astype(np.int64),
        register_wh=rows["register_wh"].astype(np.int64),
    )
