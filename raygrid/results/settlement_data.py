"""What a report shows of settlement, gathered from a run's tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raygrid.arrays import FloatArray, IntArray
from raygrid.results.reader import RunReader

STATUSES = ("settled", "rejected", "unsettled")
"""As a report tells them apart; `cleared` and `verified` trades are not settled yet."""

MAX_FINDINGS = 100


@dataclass(frozen=True)
class Activity:
    """Trades by period and by seller; S sellers, T periods.

    Attributes
    ----------
    trades : dict of str to (T,) int64
        Number of trades by status.
    energy_kwh, value : dict of str to (T,) float64
        Their energy [kWh] and what sellers get [currency].
    seller : (S,) int64
        Ids of all sellers, in ascending order.
    seller_kwh : (S, T) float64
        Energy that each sold, settled or not, but for rejected trades [kWh].
    """

    trades: dict[str, IntArray]
    energy_kwh: dict[str, FloatArray]
    value: dict[str, FloatArray]
    seller: IntArray
    seller_kwh: FloatArray


@dataclass(frozen=True)
class Findings:
    """Readings for which trades are void: who, when, how much and why."""

    count: int
    participants: int
    reasons: dict[str, int]
    rows: list[dict[str, object]]


@dataclass(frozen=True)
class Accounts:
    """Participants' statements and meters; None where the stage wrote no such table."""

    statements: pa.Table | None
    findings: Findings | None
    estimated: int
    batches: pa.Table | None


def load_activity(run: RunReader, period: IntArray) -> Activity | None:
    """Sums over the trades of a run, part by part; None where it has none.

    Parameters
    ----------
    run : RunReader
        The run.
    period : (T,) int64
        Its periods.
    """
    if not run.has("trades.parquet"):
        return None
    n = len(period)
    trades = {name: np.zeros(n, dtype=np.int64) for name in STATUSES}
    energy = {name: np.zeros(n, dtype=np.int64) for name in STATUSES}
    value = {name: np.zeros(n, dtype=np.int64) for name in STATUSES}
    sold = []
    names = ["seller_id", "period", "energy_wh", "value_micro", "status"]
    for part in run.iter_table("trades", names):
        for status in STATUSES:
            rows = part.filter(_of_status(part["status"], status))
            t = np.searchsorted(period, rows["period"].to_numpy())
            np.add.at(trades[status], t, 1)
            np.add.at(energy[status], t, rows["energy_wh"].to_numpy())
            np.add.at(value[status], t, rows["value_micro"].to_numpy())
        kept = part.filter(pc.not_equal(part["status"], "rejected"))
        sold.append(kept.group_by(["seller_id", "period"]).aggregate([("energy_wh", "sum")]))
    merged = pa.concat_tables(sold)
    seller, s = np.unique(merged["seller_id"].to_numpy(), return_inverse=True)
    by_seller = np.zeros((len(seller), n))
    t = np.searchsorted(period, merged["period"].to_numpy())
    np.add.at(by_seller, (s, t), merged["energy_wh_sum"].to_numpy() / 1e3)
    return Activity(
        trades=trades,
        energy_kwh={name: wh / 1e3 for name, wh in energy.items()},
        value={name: micro / 1e6 for name, micro in value.items()},
        seller=seller,
        seller_kwh=by_seller,
    )


def _of_status(column: pa.ChunkedArray, status: str) -> pa.ChunkedArray:
    if status == "unsettled":
        known = pa.array([name for name in STATUSES if name != status])
        return pc.invert(pc.is_in(column, known))
    return pc.equal(column, status)


def load_accounts(run: RunReader) -> Accounts:
    """Statements, findings of verification and batches of a run, as far as it has them."""
    estimated, findings = 0, None
    if run.has("readings.parquet"):
        count = 0
        reasons: dict[str, int] = {}
        who: set[int] = set()
        rows: list[dict[str, object]] = []
        for part in run.iter_table("readings"):
            estimated += int(pc.sum(part["estimated"]).as_py() or 0)
            void = part.filter(pc.not_equal(part["reason"], ""))
            count += void.num_rows
            who.update(void["prosumer_id"].to_pylist())
            for item in pc.value_counts(void["reason"]).to_pylist():
                reasons[item["values"]] = reasons.get(item["values"], 0) + item["counts"]
            rows += void.slice(0, MAX_FINDINGS - len(rows)).to_pylist()
        findings = Findings(count, len(who), reasons, rows)
    tables = {
        name: run.read_table(name) if run.has(f"{name}.parquet") else None
        for name in ("statements", "batches")
    }
    return Accounts(tables["statements"], findings, estimated, tables["batches"])
