"""Audit of the meters' side: stored reports are signed, committed, and say what was accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raygrid.settlement.evidence import Difference, Findings
from raygrid.settlement.participants import Participants
from raygrid.settlement.reports import MeterReport, pack_messages
from raygrid.settlement.verification import verify_reports

if TYPE_CHECKING:
    import pyarrow as pa


def audit_meters(
    participants: Participants,
    meters: pa.Table,
    readings: pa.Table,
    community: bytes,
    n_periods: int,
    estimation: str = "register",
) -> tuple[Difference, ...]:
    """Put the accepted reports together again and verify them anew.

    A changed reading changes the message and with it the commitment and the signer, so that no
    reading of the run's tables can differ from what the registered meter signed.

    Parameters
    ----------
    participants : Participants
        With the registered keys.
    meters, readings : pyarrow.Table
        Rows of `meters.parquet` and `readings.parquet`.
    community : bytes
        `raygrid.settlement.reports.community_id`.
    n_periods : int
        Periods of a day.
    estimation : str
        The scenario's rule for lost readings.

    Returns
    -------
    tuple of Difference
        Empty where everything holds.
    """
    findings = Findings()
    ids = participants.prosumer_id
    keys = dict(zip(ids.tolist(), participants.meter_key, strict=True))
    rows = readings.sort_by([("prosumer_id", "ascending"), ("period", "ascending")])
    period = rows["period"].to_numpy()
    for day in np.unique(meters["day"].to_numpy()).tolist():
        head = meters.filter(meters["day"].to_numpy() == day).sort_by("prosumer_id")
        body = rows.filter(period // n_periods == day)
        where = f"day {day}"
        if not findings.same(where, "meters", ids.tolist(), head["prosumer_id"].to_pylist()):
            continue
        if not findings.same(where, "readings", len(ids) * n_periods, body.num_rows):
            continue
        shape = len(ids), n_periods
        recorded = body["reported_wh"].is_valid().to_numpy().reshape(shape)
        messages = pack_messages(
            community,
            ids,
            day * n_periods,
            [bytes.fromhex(text) for text in head["nonce"].to_pylist()],
            head["opening_wh"].to_numpy(),
            head["closing_wh"].to_numpy(),
            recorded,
            body["reported_wh"].fill_null(0).to_numpy().reshape(shape),
            body["register_wh"].fill_null(0).to_numpy().reshape(shape),
        )
        reports, commitments = [], {}
        for who, message, fault, commitment, signature in zip(
            ids.tolist(),
            messages,
            *(head[name].to_pylist() for name in ("fault", "commitment", "signature")),
            strict=True,
        ):
            if not fault:
                reports.append(MeterReport(who, message, bytes.fromhex(signature)))
                commitments[who] = bytes.fromhex(commitment)
        again = verify_reports(
            reports, commitments, keys, community, day * n_periods, n_periods, estimation
        )
        valid = body["accepted_wh"].is_valid().to_numpy().reshape(shape)
        accepted = body["accepted_wh"].fill_null(0).to_numpy().reshape(shape)
        for who, stored, found in zip(
            ids.tolist(), head["fault"].to_pylist(), again.fault, strict=True
        ):
            if not stored:
                findings.same(
                    f"meter {who}, {where}", "fault of its report", found or "none", "none"
                )
        wrong = (valid != again.valid) | (accepted != again.reading_wh)
        for k, t in np.argwhere(wrong).tolist():
            findings.same(
                f"meter {ids[k]}, period {day * n_periods + t}",
                "accepted reading",
                int(again.reading_wh[k, t]) if again.valid[k, t] else "none",
                int(accepted[k, t]) if valid[k, t] else "none",
            )
    return tuple(findings.found)
