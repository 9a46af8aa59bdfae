"""Verification of metered energy: whose report is accepted, and who delivered what was traded.

References
----------
Emeruom 2026 (the thesis), (5-6), (5-7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.settlement.estimation import fill_single_gaps
from raygrid.settlement.reports import (
    DecodedMessages,
    MeterReport,
    decode_messages,
    signer,
)
from raygrid.settlement.rules import MAX_READING_WH, Tolerance, VoidReason, meter_faults
from raygrid.settlement.sharing import shared_readings

if TYPE_CHECKING:
    import pyarrow as pa

MAX_REGISTER_WH = 2**61
"""Largest register; differences of two of them then fit into 64 bits [Wh]."""


class ReportFault(StrEnum):
    """Why a day's report of a meter is refused."""

    NONE = ""
    NO_REPORT = "no report"
    COMMITMENT = "not the committed report"
    MALFORMED = "malformed report"
    SIGNATURE = "not signed by the registered meter"
    COMMUNITY = "report of another community"
    METER = "report of another meter"
    DAY = "report of another day"
    REGISTERS = "readings and registers disagree"
    RANGE = "reading out of range"


VOID_WORDS = {
    VoidReason.NONE: "",
    VoidReason.NO_READING: "no reading",
    VoidReason.MISMATCH: "reading differs from trades",
    VoidReason.BOTH_SIDES: "sells and buys in one period",
    VoidReason.NO_FUNDS: "no funds",
    VoidReason.NETWORK_FUNDS: "no funds in the network account",
}
"""The contract's reasons in words, as they stand in a run's tables."""


@dataclass(frozen=True)
class AcceptedReadings:
    """What the meter authority accepts of a day's reports, M participants by T periods.

    Attributes
    ----------
    participant : (M,) int64
        Ids in ascending order.
    first_period : int
        Global index of the first period.
    reading_wh : (M, T) int64
        Accepted net energies, sold positive; 0 where there is none [Wh].
    valid : (M, T) bool
        Where there is one.
    estimated : (M, T) bool
        Where it comes from registers.
    fault : list of ReportFault
        Why a meter's whole report was refused.
    reports : list of MeterReport or None
        The report that was looked at, refused or not.
    decoded : DecodedMessages
        What it says.
    """

    participant: IntArray
    first_period: int
    reading_wh: IntArray
    valid: BoolArray
    estimated: BoolArray
    fault: list[ReportFault]
    reports: list[MeterReport | None]
    decoded: DecodedMessages


def verify_reports(
    reports: Sequence[MeterReport],
    commitments: Mapping[int, bytes],
    public_keys: Mapping[int, bytes],
    community: bytes,
    first_period: int,
    n_periods: int,
    estimation: str = "register",
) -> AcceptedReadings:
    """Accept or refuse the reports of a day.

    A meter counts with the report that it committed to when the day ended: a second one, or one
    changed on the way, is not it. The report must be signed with the registered key, and the
    signed header must name this community, this meter and this day, so that no older report and
    no other meter's can stand in.

    Parameters
    ----------
    reports : sequence of MeterReport
        What arrived, in any order; several of one sender may.
    commitments : mapping of int to bytes
        Published commitment of each sender.
    public_keys : mapping of int to bytes
        Registered meters: compressed public key of each participant.
    community : bytes
        `raygrid.settlement.reports.community_id`.
    first_period, n_periods : int
        The day.
    estimation : str
        `register` fills single lost readings, see `raygrid.settlement.estimation`; `none` none.
    """
    participant = np.array(sorted(public_keys), dtype=np.int64)
    arrived: dict[int, MeterReport] = {}
    committed: set[int] = set()
    for report in reports:
        who = report.sender
        if who not in committed and who in public_keys:
            arrived.setdefault(who, report)
            if report.commitment == commitments.get(who):
                arrived[who] = report
                committed.add(who)
    chosen = [arrived.get(who) for who in participant.tolist()]
    decoded = decode_messages([r.message if r else b"" for r in chosen], n_periods)
    bad_registers, bad_range = _bad_registers(decoded), _bad_range(decoded)
    fault = []
    for k, (who, found) in enumerate(zip(participant.tolist(), chosen, strict=True)):
        fault.append(
            ReportFault.NO_REPORT
            if found is None
            else ReportFault.COMMITMENT
            if who not in committed
            else ReportFault.MALFORMED
            if not decoded.well_formed[k]
            else ReportFault.SIGNATURE
            if signer(found) != public_keys[who]
            else ReportFault.COMMUNITY
            if decoded.community[k] != community
            else ReportFault.METER
            if decoded.participant[k] != who
            else ReportFault.DAY
            if decoded.first_period[k] != first_period
            else ReportFault.REGISTERS
            if bad_registers[k]
            else ReportFault.RANGE
            if bad_range[k]
            else ReportFault.NONE
        )
    good = np.array([not known for known in fault], dtype=np.bool_)[:, None]
    recorded = decoded.recorded & good
    reading, estimated = np.where(recorded, decoded.reading_wh, 0), np.zeros_like(recorded)
    if estimation == "register":
        reading, estimated = fill_single_gaps(
            decoded.reading_wh,
            decoded.register_wh,
            decoded.recorded,
            decoded.opening_wh,
            decoded.closing_wh,
        )
        estimated &= good & ~_beyond(reading, MAX_READING_WH)
        reading = np.where(recorded | estimated, reading, 0)
    return AcceptedReadings(
        participant=participant,
        first_period=first_period,
        reading_wh=reading,
        valid=recorded | estimated,
        estimated=estimated,
        fault=fault,
        reports=chosen,
        decoded=decoded,
    )


def _bad_registers(decoded: DecodedMessages) -> BoolArray:
    """(M,) bool: a register that its own reading, or the opening or closing one, contradicts."""
    register, reading, recorded = decoded.register_wh, decoded.reading_wh, decoded.recorded
    before = np.concatenate([decoded.opening_wh[:, None], register[:, :-1]], axis=1)
    first = np.ones((len(recorded), 1), dtype=np.bool_)
    both = recorded & np.concatenate([first, recorded[:, :-1]], axis=1)
    bad = (both & (register - before != reading)).any(axis=1)
    return np.asarray(bad | (recorded[:, -1] & (register[:, -1] != decoded.closing_wh)))


def _bad_range(decoded: DecodedMessages) -> BoolArray:
    """(M,) bool: a number that no batch can carry, the range R of PBET (16)."""
    ends = np.stack([decoded.opening_wh, decoded.closing_wh], axis=1)
    return np.asarray(
        _beyond(decoded.reading_wh, MAX_READING_WH).any(axis=1)
        | _beyond(decoded.register_wh, MAX_REGISTER_WH).any(axis=1)
        | _beyond(ends, MAX_REGISTER_WH).any(axis=1)
    )


def _beyond(value: IntArray, bound: int) -> BoolArray:
    """Which values are outside -bound ... bound; unlike `abs`, right for the least int64."""
    return (value > bound) | (value < -bound)


def net_traded_wh(
    seller: IntArray,
    buyer: IntArray,
    period: IntArray,
    energy_wh: IntArray,
    participant: IntArray,
    first_period: int,
    n_periods: int,
) -> IntArray:
    """Net energy that each participant traded in each period, sold positive.

    Parameters
    ----------
    seller, buyer, period, energy_wh : (K,) int64
        Trades; all of them within the periods, of participants.
    participant : (M,) int64
        Ids in ascending order.
    first_period, n_periods : int
        The periods.

    Returns
    -------
    (M, T) int64
        Net energies [Wh].
    """
    net = np.zeros((len(participant), n_periods), dtype=np.int64)
    t = period - first_period
    np.add.at(net, (np.searchsorted(participant, seller), t), energy_wh)
    np.subtract.at(net, (np.searchsorted(participant, buyer), t), energy_wh)
    return net


@dataclass(frozen=True)
class Verification:
    """Metered against traded energy of a day (5-7), M participants, T periods, S sessions each.

    The rule is `raygrid.settlement.rules.meter_faults`, that of the contract, which has the last
    word: it also voids who sells and buys at once, which no market of raygrid does.

    Attributes
    ----------
    accepted : AcceptedReadings
        The meters' side.
    traded_wh : (M, T * S) int64
        The market's side: net energy traded, sold positive, by period and session [Wh].
    tolerance : Tolerance
        Epsilon.
    """

    accepted: AcceptedReadings
    traded_wh: IntArray
    tolerance: Tolerance

    @property
    def sessions(self) -> int:
        """Number of sessions S."""
        return int(self.traded_wh.shape[1] // max(self.accepted.reading_wh.shape[1], 1))

    @cached_property
    def slot_reading_wh(self) -> IntArray:
        """(M, T * S) part of each reading that is of a session [Wh]."""
        return shared_readings(self.accepted.reading_wh, self.traded_wh)

    @property
    def slot_valid(self) -> BoolArray:
        """(M, T * S) where there is one."""
        return np.repeat(self.accepted.valid, self.sessions, axis=1)

    @cached_property
    def net_wh(self) -> IntArray:
        """(M, T) net energy traded in all sessions, sold positive [Wh]."""
        return np.asarray(self._by_period(self.traded_wh).sum(axis=-1))

    @property
    def deviation_wh(self) -> IntArray:
        """(M, T) metered minus traded energy; 0 where there is no reading [Wh]."""
        a = self.accepted
        return np.where(a.valid, a.reading_wh - self.net_wh, 0)

    @cached_property
    def fault(self) -> IntArray:
        """(M, T) `VoidReason` for which a participant's trades of a period are void, some at
        least."""
        sold, bought = np.maximum(self.traded_wh, 0), np.maximum(-self.traded_wh, 0)
        readings, valid = self.slot_reading_wh, self.slot_valid
        faults = meter_faults(sold, bought, readings, valid, self.tolerance)
        return np.asarray(self._by_period(faults).max(axis=-1))

    def _by_period(self, values: IntArray) -> IntArray:
        return values.reshape(*self.accepted.reading_wh.shape, -1)

    @property
    def void(self) -> BoolArray:
        """(M, T) bool: whose trades of which period are void."""
        return np.asarray(self.fault != VoidReason.NONE)

    def reasons(self) -> list[list[str]]:
        """Why trades are void, by participant and period; empty where they stand."""
        out = []
        for report_fault, row in zip(self.accepted.fault, self.fault.tolist(), strict=True):
            words = dict(VOID_WORDS)
            words[VoidReason.NO_READING] = report_fault or words[VoidReason.NO_READING]
            out.append([str(words[VoidReason(code)]) for code in row])
        return out

    def verified_trades(self, seller: IntArray, buyer: IntArray, period: IntArray) -> BoolArray:
        """(K,) bool: trades of which neither party is void."""
        who, t = self.accepted.participant, period - self.accepted.first_period
        void = self.void
        parties = (np.searchsorted(who, seller), np.searchsorted(who, buyer))
        return np.asarray(~(void[parties[0], t] | void[parties[1], t]))

    def readings_table(self) -> pa.Table:
        """Rows of `readings.parquet`: who, when, how much and why."""
        import pyarrow as pa

        from raygrid.schemas import conform

        a, d = self.accepted, self.accepted.decoded
        n, n_periods = a.reading_wh.shape
        unread = ~(d.recorded & d.well_formed[:, None]).ravel()
        columns = {
            "prosumer_id": np.repeat(a.participant, n_periods),
            "period": np.tile(a.first_period + np.arange(n_periods), n),
            "traded_wh": self.net_wh.ravel(),
            "reported_wh": pa.array(d.reading_wh.ravel(), mask=unread),
            "register_wh": pa.array(d.register_wh.ravel(), mask=unread),
            "accepted_wh": pa.array(a.reading_wh.ravel(), mask=~a.valid.ravel()),
            "estimated": a.estimated.ravel(),
            "reason": pa.array([text for row in self.reasons() for text in row], pa.string()),
        }
        return conform("readings", pa.table(columns))


def meters_table(accepted: AcceptedReadings, attacks: Sequence[str]) -> pa.Table:
    """Rows of `meters.parquet` of a day: each meter's report, and why it was refused.

    Parameters
    ----------
    accepted : AcceptedReadings
        The day.
    attacks : sequence of str
        What the simulation knows, in the order of the participants.
    """
    import pyarrow as pa

    from raygrid.schemas import conform

    d = accepted.decoded
    n_periods = accepted.reading_wh.shape[1]
    columns = {
        "prosumer_id": accepted.participant,
        "day": np.full(len(accepted.participant), accepted.first_period // n_periods),
        "opening_wh": d.opening_wh,
        "closing_wh": d.closing_wh,
        "nonce": pa.array([nonce.hex() for nonce in d.nonce], pa.string()),
        "commitment": pa.array([r.commitment.hex() if r else "" for r in accepted.reports]),
        "signature": pa.array([r.signature.hex() if r else "" for r in accepted.reports]),
        "fault": pa.array([str(fault) for fault in accepted.fault], pa.string()),
        "attack": pa.array(list(attacks), pa.string()),
    }
    return conform("meters", pa.table(columns))
