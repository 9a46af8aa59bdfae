"""Tables of a run from the outcomes of its batches: trades with their fate, and the batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import IntArray
from raygrid.market.sessions import SESSIONS, n_sessions
from raygrid.schemas import conform
from raygrid.settlement.engine import BatchOutcome
from raygrid.settlement.rules import BUYER, VoidReason
from raygrid.settlement.statements import REJECTED, SETTLED
from raygrid.settlement.verification import Verification

if TYPE_CHECKING:
    import pyarrow as pa

UNSETTLED = "unsettled"

WORDS = {
    VoidReason.NO_READING: "no reading",
    VoidReason.MISMATCH: "reading differs from trades",
    VoidReason.BOTH_SIDES: "sells and buys",
    VoidReason.NO_FUNDS: "not enough in escrow",
    VoidReason.NETWORK_FUNDS: "the network account cannot pay the difference of prices",
}


@dataclass(frozen=True)
class DayOutcome:
    """The batches of a day, and what metering says of it.

    Attributes
    ----------
    trade_id : (K,) int64
        The day's trades, to which the batches' rows refer.
    verification : Verification
        Why readings are missing or off.
    batches : list of BatchOutcome
        What became of the trades.
    """

    trade_id: IntArray
    verification: Verification
    batches: list[BatchOutcome]


def settled_trades(trades: pa.Table, days: Iterable[DayOutcome]) -> pa.Table:
    """The trades with status, reason and where they are on the chain.

    Parameters
    ----------
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    days : iterable of DayOutcome
        Days whose trades get a new status; the others keep theirs.

    Returns
    -------
    pyarrow.Table
        Same rows in the same order.
    """
    import pyarrow as pa

    ids = trades["trade_id"].to_numpy()
    order = np.argsort(ids)
    status = np.array(trades["status"].to_pylist(), dtype=object)
    reason = np.array(trades["reason"].to_pylist(), dtype=object)
    places: dict[str, list[object]] = {
        name: trades[name].to_pylist() for name in ("batch_id", "sequence", "tx_hash", "block")
    }
    seller, buyer, period = (
        trades[name].to_numpy() for name in ("seller_id", "buyer_id", "period")
    )
    for day in days:
        faults = _Faults(day.verification)
        for outcome in day.batches:
            planned = outcome.batch.planned
            wanted = day.trade_id[planned.rows]
            rows = order[np.searchsorted(ids, wanted, sorter=order)]
            void = outcome.void_reason
            if outcome.is_settled:
                status[rows] = np.where(void == 0, SETTLED, REJECTED)
                reason[rows] = ""
                for k in np.flatnonzero(void).tolist():
                    row = rows[k]
                    reason[row] = faults.words(
                        int(void[k]), int(seller[row]), int(buyer[row]), int(period[row])
                    )
            else:
                status[rows], reason[rows] = UNSETTLED, outcome.trouble
            tx_hash = None if outcome.tx_hash is None else f"0x{outcome.tx_hash.hex()}"
            # Which batch a trade belongs to is known before any chain has it.
            for name, value in (
                ("batch_id", outcome.batch.batch_id),
                ("sequence", outcome.sequence),
                ("tx_hash", tx_hash),
                ("block", outcome.block),
            ):
                column = places[name]
                for row in rows.tolist():
                    column[row] = value
    changed = {"status": status.tolist(), "reason": reason.tolist(), **places}
    for name, values in changed.items():
        at = trades.column_names.index(name)
        trades = trades.set_column(at, name, pa.array(values, trades.schema.field(name).type))
    return conform("trades", trades)


def unsettled_trades(trades: pa.Table, reason: str) -> pa.Table:
    """The trades where no chain has any of them.

    Parameters
    ----------
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    reason : str
        Why.
    """
    import pyarrow as pa

    rows = trades.num_rows
    columns = {"status": pa.repeat(UNSETTLED, rows), "reason": pa.repeat(reason, rows)}
    for name in ("batch_id", "sequence", "tx_hash", "block"):
        columns[name] = pa.nulls(rows, trades.schema.field(name).type)
    for name, column in columns.items():
        trades = trades.set_column(trades.column_names.index(name), name, column)
    return conform("trades", trades)


class _Faults:
    """Says in words why a trade is void."""

    def __init__(self, verification: Verification) -> None:
        self._participant = verification.accepted.participant
        self._first_period = verification.accepted.first_period
        self._reasons = verification.reasons()

    def words(self, void_reason: int, seller: int, buyer: int, period: int) -> str:
        code = VoidReason(void_reason & ~BUYER)
        if code is VoidReason.NETWORK_FUNDS:
            return WORDS[code]
        party, who = ("buyer", buyer) if void_reason & BUYER else ("seller", seller)
        said = ""
        if code is VoidReason.NO_READING:
            # The meter authority knows more than that there is none: why it refused the report.
            row = int(np.searchsorted(self._participant, who))
            said = self._reasons[row][period - self._first_period]
        return f"{party} {who}: {said or WORDS[code]}"


def batches_table(outcomes: Sequence[BatchOutcome], trades: pa.Table) -> pa.Table:
    """Rows of `batches.parquet`, settled ones by their number.

    Parameters
    ----------
    outcomes : sequence of BatchOutcome
        Batches.
    trades : pyarrow.Table
        From `settled_trades`.
    """
    import pyarrow as pa

    batch_id = trades["batch_id"].fill_null(-1).to_numpy()
    is_settled = np.array([text == SETTLED for text in trades["status"].to_pylist()], dtype=bool)
    columns = {n: trades[n].to_numpy() for n in ("energy_wh", "value_micro", "network_micro")}
    sessions = n_sessions(trades)
    rows, names = [], []
    for outcome in sorted(outcomes, key=_by_sequence):
        its = (batch_id == outcome.batch.batch_id) & is_settled
        known = outcome.record.hex() if outcome.record else ""
        period, session = divmod(outcome.batch.planned.input.period, sessions)
        names.append(SESSIONS[session])
        rows.append(
            {
                "sequence": -1 if outcome.sequence is None else outcome.sequence,
                "group": outcome.batch.planned.input.group,
                "period": period,
                "trades": outcome.size,
                "settled": int(its.sum()),
                "rejected": int((outcome.void_reason != 0).sum()),
                **{name: int(values[its].sum()) for name, values in columns.items()},
                "payload_bytes": len(outcome.batch.payload),
                "status": SETTLED if outcome.is_settled else UNSETTLED,
                "readings_hash": outcome.batch.readings_hash.hex(),
                "payload_hash": known,
                "tx_hash": None if outcome.tx_hash is None else f"0x{outcome.tx_hash.hex()}",
                "block": outcome.block,
                "gas": outcome.gas,
            }
        )
    from raygrid.schemas import BATCHES

    table = pa.Table.from_pylist(rows, schema=BATCHES)
    if sessions > 1:
        table = table.append_column("session", pa.array(names, pa.string()))
    return conform("batches", table)


def _by_sequence(outcome: BatchOutcome) -> tuple[bool, int]:
    if outcome.sequence is None:
        return True, outcome.batch.batch_id
    return False, outcome.sequence
