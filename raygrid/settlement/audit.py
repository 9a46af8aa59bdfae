"""Audit of a settled run: every balance again from trades and readings, and each batch's proof.

The audit believes nobody. It takes what the market cleared and what the meters' reports bear out,
applies the rules of settlement to them, and holds the result against the run's tables and against
the chain: balances, records, the bytes of the batches, and single trades proven by the contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.market.sessions import n_sessions, slots
from raygrid.settlement.contract import (
    NETWORK_ACCOUNT,
    ProvenTrade,
    batch_record,
    encode_batch,
    encode_voids,
)
from raygrid.settlement.evidence import (
    AuditReport,
    ChainView,
    Findings,
    SettledBatch,
    Transfer,
    funded_micro,
)
from raygrid.settlement.participants import Participants
from raygrid.settlement.rules import (
    BatchInput,
    BatchOutcome,
    Tolerance,
    exact_value,
    settle_batch,
)
from raygrid.settlement.sharing import shared_readings
from raygrid.settlement.statements import (
    REJECTED,
    SETTLED,
    buyer_price_micro,
    statements_table,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RunRecords:
    """What a run says, the audit's starting point.

    Attributes
    ----------
    participants : Participants
        Who is registered.
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    period : (T,) int64
        Periods of the readings, rising.
    reading_wh : (M, T) int64
        Accepted readings of the participants [Wh].
    reading_valid : (M, T) bool
        Where there is one.
    traded_wh : (M, T) int64
        Net energy that each traded, as the table of readings has it [Wh].
    tolerance : Tolerance
        Epsilon of (5-7).
    statements : pyarrow.Table or None
        Rows of `statements.parquet`, if there is such a table.
    """

    participants: Participants
    trades: pa.Table
    period: IntArray
    reading_wh: IntArray
    reading_valid: BoolArray
    traded_wh: IntArray
    tolerance: Tolerance
    statements: pa.Table | None = None

    @classmethod
    def from_tables(
        cls,
        participants: pa.Table,
        trades: pa.Table,
        readings: pa.Table,
        tolerance: Tolerance,
        statements: pa.Table | None = None,
    ) -> RunRecords:
        """Records from the run's tables.

        Raises
        ------
        ValueError
            If the readings are not those of every participant in every period.
        """
        people = Participants.from_table(participants)
        rows = readings.sort_by([("prosumer_id", "ascending"), ("period", "ascending")])
        who, period = rows["prosumer_id"].to_numpy(), np.unique(rows["period"].to_numpy())
        shape = len(people), len(period)
        if not np.array_equal(who, np.repeat(people.prosumer_id, len(period))):
            raise ValueError("readings.parquet is not of every participant and period")
        valid = rows["accepted_wh"].is_valid().to_numpy().reshape(shape)
        return cls(
            people,
            trades.sort_by("trade_id"),
            period,
            rows["accepted_wh"].fill_null(0).to_numpy().reshape(shape),
            valid,
            rows["traded_wh"].to_numpy().reshape(shape),
            tolerance,
            statements,
        )


@dataclass
class _Books:
    """Balances as they should be while batches are settled again."""

    balance: IntArray
    network: int
    transfers: list[Transfer]

    def take(self, before: int | None) -> None:
        """Book the transfers that came before a batch; None means all that are left."""
        rest = []
        for transfer in self.transfers:
            if before is not None and transfer.before_sequence > before:
                rest.append(transfer)
            elif transfer.participant == NETWORK_ACCOUNT:
                self.network += transfer.micro
            else:
                self.balance[transfer.participant] += transfer.micro
        self.transfers = rest

    def settle(self, batch: BatchInput, tolerance: Tolerance) -> BatchOutcome:
        """Settle a batch and book it."""
        members = slice(batch.first_id, batch.first_id + len(batch.readings_wh))
        outcome = settle_batch(batch, self.balance[members], tolerance, self.network)
        self.balance[members] += outcome.delta_micro
        self.network += outcome.network_micro
        return outcome


def audit(records: RunRecords, view: ChainView, prove: Sequence[int] = ()) -> AuditReport:
    """Recompute a settled run and compare it with its tables and the chain.

    Parameters
    ----------
    records : RunRecords
        What the run says.
    view : ChainView
        What the chain says.
    prove : sequence of int
        Ids of trades to have proven one by one by the contract, beside the proof of whole
        batches, which all are.

    Returns
    -------
    AuditReport
        With every difference found.
    """
    findings, columns = Findings(), _Columns(records)
    transfers = _known_transfers(records, view, findings)
    _check_trades(columns, findings)
    books = _Books(np.zeros(len(records.participants), dtype=np.int64), 0, transfers)
    final = np.flatnonzero(columns.sequence >= 0)
    order = final[np.argsort(columns.sequence[final], kind="stable")]
    sequences, starts = np.unique(columns.sequence[order], return_index=True)
    rows_of = np.split(order, starts[1:]) if len(order) else []
    _check_funding(records, transfers, len(sequences), findings)
    findings.same("chain", "number of batches", len(sequences), view.next_sequence())
    if not np.array_equal(sequences, np.arange(len(sequences))):
        findings.same("trades.parquet", "batch numbers", "without gaps", sequences.tolist())
    proven: list[int] = []
    settled = rejected = 0
    for sequence, rows in zip(sequences.tolist(), rows_of, strict=True):
        books.take(sequence)
        batch = columns.batch(rows, f"batch {sequence}", findings)
        if batch is None:
            continue
        outcome = books.settle(batch, records.tolerance)
        settled += int(outcome.settled.sum())
        rejected += int((~outcome.settled).sum())
        expected = np.where(outcome.settled, SETTLED, REJECTED)
        for k in np.flatnonzero(expected != columns.status[rows]).tolist():
            name, found = columns.name(rows[k]), str(columns.status[rows[k]])
            findings.same(name, "status", str(expected[k]), found)
        on_chain = _check_batch(sequence, batch, outcome, view, findings)
        if on_chain is None:
            continue
        for index in np.flatnonzero(np.isin(columns.trade_id[rows], prove)).tolist():
            row = rows[index]
            told = view.prove(on_chain, index)
            if findings.same(columns.name(row), "proof", columns.proof(row, outcome, index), told):
                proven.append(int(columns.trade_id[row]))
    books.take(None)
    for trade_id in sorted(set(prove) - set(proven)):
        findings.same(f"trade {trade_id}", "proof", "there", "missing")
    _check_unsettled(columns, view, findings)
    _check_balances(records, books, view, findings)
    _check_traded(columns, findings)
    _check_statements(records, findings)
    return AuditReport(
        batches=len(sequences),
        trades=len(columns.trade_id),
        settled=settled,
        rejected=rejected,
        balances=len(records.participants) + 1,
        proven=tuple(proven),
        differences=tuple(findings.found),
    )


class _Columns:
    """The trades as arrays, with the parties' positions among the participants."""

    def __init__(self, records: RunRecords) -> None:
        self.records = records
        table = records.trades
        ids = records.participants.prosumer_id
        self.trade_id = table["trade_id"].to_numpy()
        self.period, self.slot = table["period"].to_numpy(), slots(table)
        self.sessions = n_sessions(table)
        self.energy_wh = table["energy_wh"].to_numpy()
        self.price = table["price_micro_per_kwh"].to_numpy()
        self.value = table["value_micro"].to_numpy()
        self.network = table["network_micro"].to_numpy()
        self.status = np.array(table["status"].to_pylist(), dtype=np.str_)
        parties = table["seller_id"].to_numpy(), table["buyer_id"].to_numpy()
        self.known = np.isin(parties[0], ids) & np.isin(parties[1], ids)
        self.seller, self.buyer = (np.searchsorted(ids, party) for party in parties)
        self.final = np.isin(self.status, [SETTLED, REJECTED])
        sequence = table["sequence"].fill_null(-1).to_numpy()
        self.sequence = np.where(self.final, sequence, -1)
        self.buyer_price = buyer_price_micro(
            np.maximum(self.energy_wh, 1), self.price, self.value, self.network
        )
        self.group = records.participants.group
        self.net_wh = self._net_wh()
        self.reading_wh = shared_readings(records.reading_wh, self.net_wh)

    def _net_wh(self) -> IntArray:
        """(M, T * S) net energies of each participant, period and session, sold positive [Wh]."""
        r, size = self.records, self.sessions
        net = np.zeros((len(r.participants), len(r.period) * size), dtype=np.int64)
        rows = self.known & np.isin(self.period, r.period)
        at = np.searchsorted(r.period, self.period[rows]) * size + self.slot[rows] % size
        np.add.at(net, (self.seller[rows], at), self.energy_wh[rows])
        np.subtract.at(net, (self.buyer[rows], at), self.energy_wh[rows])
        return net

    def name(self, row: int | np.int64) -> str:
        """How differences call a trade."""
        return f"trade {self.trade_id[row]}"

    def batch(self, rows: IntArray, where: str, findings: Findings) -> BatchInput | None:
        """What the contract must have got for these trades; None where they make no batch."""
        r, people = self.records, self.records.participants
        if not self.known[rows].all():
            return None  # said of the trades themselves
        slot = np.unique(self.slot[rows])
        group = np.unique(self.group[np.concatenate([self.seller[rows], self.buyer[rows]])])
        findings.same(where, "periods and sessions", 1, len(slot))
        findings.same(where, "groups", 1, len(group))
        if len(slot) > 1 or len(group) > 1:
            return None
        period, session = divmod(int(slot[0]), self.sessions)
        at = int(np.searchsorted(r.period, period))
        if at == len(r.period) or r.period[at] != period:
            findings.same(where, f"readings of period {period}", "there", "missing")
            return None
        members = people.members(int(group[0]))
        try:
            return BatchInput(
                group=int(group[0]),
                period=int(slot[0]),
                first_id=members.start,
                seller=self.seller[rows],
                buyer=self.buyer[rows],
                energy_wh=self.energy_wh[rows],
                seller_price_micro_per_kwh=self.price[rows],
                buyer_price_micro_per_kwh=self.buyer_price[rows],
                readings_wh=self.reading_wh[members, at * self.sessions + session],
                reading_valid=r.reading_valid[members, at],
            )
        except ValueError as error:
            findings.same(where, "batch", "one that the contract takes", str(error))
            return None

    def proof(self, row: int | np.int64, outcome: BatchOutcome, index: int) -> ProvenTrade:
        """What the contract must prove of a trade."""
        earned = int(self.value[row])
        return ProvenTrade(
            void_reason=int(outcome.void_reason[index]),
            seller=int(self.seller[row]),
            buyer=int(self.buyer[row]),
            energy_wh=int(self.energy_wh[row]),
            earned_micro=earned,
            paid_micro=earned + int(self.network[row]),
        )


def _check_trades(columns: _Columns, findings: Findings) -> None:
    """The trades' own arithmetic: parties, values and the state of those that are not final."""
    for row in np.flatnonzero(~columns.known).tolist():
        findings.same(columns.name(row), "parties", "participants", "others")
    value = exact_value(columns.energy_wh, columns.price)
    for row in np.flatnonzero(value != columns.value).tolist():
        found = int(columns.value[row])
        findings.same(columns.name(row), "value_micro", int(value[row]), found)
    paid = exact_value(columns.energy_wh, columns.buyer_price)
    for row in np.flatnonzero(paid != columns.value + columns.network).tolist():
        found = int(columns.value[row] + columns.network[row])
        findings.same(columns.name(row), "value for the buyer", int(paid[row]), found)
    for row in np.flatnonzero(columns.final & (columns.sequence < 0)).tolist():
        findings.same(columns.name(row), "sequence", "a number", "missing")


def _check_traded(columns: _Columns, findings: Findings) -> None:
    """Net energies in the table of readings against those of the trades."""
    r = columns.records
    ids = r.participants.prosumer_id
    net = columns.net_wh.reshape(*r.traded_wh.shape, -1).sum(axis=-1)
    for k, t in np.argwhere(net != r.traded_wh).tolist():
        where = f"participant {ids[k]}, period {r.period[t]}"
        findings.same(where, "traded_wh", int(net[k, t]), int(r.traded_wh[k, t]))


def _check_batch(
    sequence: int,
    batch: BatchInput,
    outcome: BatchOutcome,
    view: ChainView,
    findings: Findings,
) -> SettledBatch | None:
    """The chain's side of a batch: record, bytes, void trades. Returns what can be proven from."""
    where = f"batch {sequence}"
    expected, voids = encode_batch(batch), encode_voids(outcome.void_reason)
    record = batch_record(expected, sequence, voids)
    kept, told = view.record(batch.group, batch.period), view.batch(sequence)
    good = findings.same(where, "record", record.hex(), kept.hex() if kept else "missing")
    if told is None:
        findings.same(where, "history on the chain", "there", "missing")
        return None
    identity = batch.group, batch.period
    good &= findings.same(where, "group and period", identity, (told.group, told.period))
    good &= findings.same(where, "bytes", _short(expected), _short(told.payload))
    good &= findings.same(where, "void trades", voids.hex(), told.voids.hex())
    return told if good else None


def _short(payload: bytes) -> str:
    """Bytes as a line can carry them: their number and hash."""
    from eth_hash.auto import keccak

    return f"{len(payload)} bytes with hash {keccak(payload).hex()}"


def _check_unsettled(columns: _Columns, view: ChainView, findings: Findings) -> None:
    """Trades that are called unsettled must not be on the chain."""
    rows = np.flatnonzero(~columns.final & columns.known)
    pairs = np.stack([columns.group[columns.seller[rows]], columns.slot[rows]], axis=1)
    for group, slot in np.unique(pairs, axis=0).tolist():
        kept = view.record(group, slot)
        where = f"group {group}, period {slot // columns.sessions}"
        findings.same(where, "batch on the chain", "none", "there" if kept else "none")


def _known_transfers(records: RunRecords, view: ChainView, findings: Findings) -> list[Transfer]:
    """Money that moved on participants' accounts; that of others is a difference."""
    known, count = [], len(records.participants)
    for transfer in view.transfers():
        if transfer.participant < count or transfer.participant == NETWORK_ACCOUNT:
            known.append(transfer)
        else:
            where = f"account {transfer.participant}"
            findings.same(where, "registered in the run", "yes", "no")
    return known


def _check_funding(
    records: RunRecords, transfers: Sequence[Transfer], batches: int, findings: Findings
) -> None:
    """What was paid into the escrows until the last batch."""
    people = records.participants
    held = funded_micro(transfers, len(people), batches)
    for k in np.flatnonzero(held != people.funded_micro).tolist():
        where = f"participant {people.prosumer_id[k]}"
        findings.same(where, "funded_micro", int(held[k]), int(people.funded_micro[k]))


def _check_balances(
    records: RunRecords, books: _Books, view: ChainView, findings: Findings
) -> None:
    """Balances on the chain against those recomputed."""
    people = records.participants
    found = view.balances(len(people))
    for k in np.flatnonzero(found != books.balance).tolist():
        where = f"participant {people.prosumer_id[k]}"
        findings.same(where, "balance on the chain", int(books.balance[k]), int(found[k]))
    findings.same("network account", "balance", books.network, view.network_balance())


def _check_statements(records: RunRecords, findings: Findings) -> None:
    """The run's statements against those that its trades give."""
    if records.statements is None:
        return
    stored = records.statements.sort_by("prosumer_id").to_pylist()
    for right, found in zip(
        statements_table(records.participants, records.trades).to_pylist(), stored, strict=False
    ):
        for name, value in right.items():
            findings.same(f"statement of {right['prosumer_id']}", name, value, found[name])
    findings.same("statements.parquet", "rows", len(records.participants), len(stored))
