"""Settlement in the report: Table 6.8 of the thesis, statements, and what meters showed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raygrid.prosumer.population import GRID_ID
from raygrid.results.figure import percent
from raygrid.results.run_data import RunData
from raygrid.results.svg import count, number

MAX_STATEMENTS = 200
MAX_BATCHES = 200

PRINTED_6_8 = {
    "trades": "2\u2009795",
    "submitted": "2\u2009795",
    "transactions": "2\u2009795",
    "settled": "2\u2009795",
    "failed": "0",
    "success": "100 %",
}
"""The cells of Table 6.8, of the 14-bus case with limits (Emeruom 2026)."""


@dataclass(frozen=True)
class ReportTable:
    """A table of the page; `columns` are names and units."""

    key: str
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: list[list[str]]
    shown: bool = True


def settlement_tables(data: RunData) -> list[ReportTable]:
    """All tables of the settlement that the run has."""
    accounts = data.accounts
    tables = [
        _performance(data),
        _statements(data, accounts.statements) if accounts.statements is not None else None,
        _findings(data),
        _batches(data, accounts.batches) if accounts.batches is not None else None,
    ]
    return [table for table in tables if table is not None]


def _digits(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else number(float(value), digits)


def _money(micro: int) -> str:
    """Micro-units as money, to the unit that was settled."""
    return f"{micro / 1e6:,.6f}".replace(",", "\u2009").replace("-", "\u2212")


def _performance(data: RunData) -> ReportTable | None:
    """Table 6.8, with what it leaves out."""
    s: dict[str, Any] | None = data.summary.get("settlement")
    if s is None:
        return None
    money = data.currency
    verified, trades = int(s["verified"]), int(s["trades"])
    rate = percent(int(s["settled"]) / verified) if verified else "–"
    mean = f"{number(s['value'] / s['energy_kwh'])} {money}/kWh" if s["energy_kwh"] else "–"
    # Each row: key of the printed cell, metric, ours.
    rows = [
        ("trades", "Bilateral trades (market output)", count(trades)),
        ("", "Rejected by verification or for lack of funds", count(s["rejected"])),
        ("submitted", "Trades verified", count(verified)),
        ("settled", "Trades settled", count(s["settled"])),
        ("failed", "Failed", count(s["failed"])),
        ("success", "Success rate, of the verified ones", rate),
        ("", "Batches", count(s["batches"])),
        ("transactions", "Transactions confirmed", count(s["transactions"])),
        ("", "Energy settled", f"{number(s['energy_kwh'], 5)} kWh"),
        ("", "Value settled", f"{number(s['value'], 5)} {money}, {mean}"),
        ("", "Network account", f"{number(s['network_value'], 5)} {money}"),
        ("", "Gas of all transactions", count(s["gas_total"])),
        ("", "Gas per trade settled", _digits(s["gas_per_trade"], 4)),
        ("", "Trades settled per second", _digits(s["trades_per_second"])),
        ("", "Time", f"{_digits(s['seconds'])} s"),
        ("", "Readings restored from registers", count(data.accounts.estimated)),
    ]
    columns: tuple[tuple[str, str], ...] = (("Metric", ""), (f"On {s['chain']}", ""))
    thesis = str(data.manifest["scenario"]) == "ieee14"
    if thesis and data.manifest["network_constrained"]:
        columns += (("Thesis", ""),)
        cells = [[name, ours, PRINTED_6_8.get(key, "")] for key, name, ours in rows]
    else:
        cells = [[name, ours] for _, name, ours in rows]
    return ReportTable("settlement", "Settlement (Table 6.8)", columns, cells)


def _statements(data: RunData, table: pa.Table) -> ReportTable | None:
    """Accounts of those that traded, the largest ones where there are many."""
    if not table.num_rows:
        return None
    c = {name: table[name].to_numpy() for name in table.column_names}
    turnover = c["bought_wh"] + c["sold_wh"] + c["rejected_bought_wh"] + c["rejected_sold_wh"]
    kept = np.sort(np.argsort(-turnover, kind="stable")[:MAX_STATEMENTS])
    rows = []
    for k in kept.tolist():
        who = int(c["prosumer_id"][k])
        energies = [
            c["bought_wh"][k], c["sold_wh"][k],
            c["rejected_bought_wh"][k] + c["rejected_sold_wh"][k],
            c["unsettled_bought_wh"][k] + c["unsettled_sold_wh"][k],
        ]  # fmt: skip
        moneys = [c[f"{name}_micro"][k] for name in ("paid", "earned", "closing")]
        rows.append(
            [
                "grid" if who == GRID_ID else str(who),
                *(f"{wh / 1e3:,.3f}".replace(",", "\u2009") for wh in energies),
                *(_money(int(micro)) for micro in moneys),
            ]
        )
    money = data.currency
    columns = (
        ("Participant", ""), ("Bought", "kWh"), ("Sold", "kWh"), ("Rejected", "kWh"),
        ("Unsettled", "kWh"), ("Paid", money), ("Earned", money), ("Balance", money),
    )  # fmt: skip
    title = "Participants' statements"
    if table.num_rows > len(rows):
        title += f" ({len(rows)} of {count(table.num_rows)}, those that trade most)"
    return ReportTable("statements", title, columns, rows, shown=len(rows) <= 30)


def _findings(data: RunData) -> ReportTable | None:
    """Who, when, how much and why: the readings that voided trades."""
    f = data.accounts.findings
    if f is None or not f.count:
        return None

    def wh(value: object) -> str:
        return "–" if value is None else count(float(str(value)))

    rows = []
    for row in f.rows:
        accepted, traded = row["accepted_wh"], row["traded_wh"]
        known = isinstance(accepted, int) and isinstance(traded, int)
        off = accepted - traded if known else None  # type: ignore[operator]
        who = "grid" if row["prosumer_id"] == GRID_ID else str(row["prosumer_id"])
        cells = (row["reported_wh"], accepted, traded, off)
        rows.append([who, str(row["period"]), *(wh(cell) for cell in cells), str(row["reason"])])
    columns = (
        ("Participant", ""), ("Period", ""), ("Reported", "Wh"), ("Accepted", "Wh"),
        ("Traded", "Wh"), ("Difference", "Wh"), ("Reason", ""),
    )  # fmt: skip
    words = ", ".join(f"{count(n)} {reason}" for reason, n in sorted(f.reasons.items()))
    title = f"Readings that void trades: {count(f.count)} of {f.participants} meters ({words})"
    if f.count > len(rows):
        title += f"; the first {len(rows)}"
    return ReportTable("findings", title, columns, rows, shown=len(rows) <= 30)


def _batches(data: RunData, table: pa.Table) -> ReportTable | None:
    if not table.num_rows:
        return None
    rows = []
    for b in table.slice(0, MAX_BATCHES).to_pylist():
        gas, block = b["gas"], b["block"]
        rows.append(
            [
                str(b["sequence"]), str(b["group"]), str(b["period"]), count(b["trades"]),
                count(b["settled"]), count(b["rejected"]), f"{b['energy_wh'] / 1e3:,.3f}",
                _money(b["value_micro"]), "–" if gas is None else count(gas),
                "–" if block is None else str(block), b["status"],
            ]
        )  # fmt: skip
    columns = (
        ("Batch", ""), ("Group", ""), ("Period", ""), ("Trades", ""), ("Settled", ""),
        ("Rejected", ""), ("Energy", "kWh"), ("Value", data.currency), ("Gas", ""),
        ("Block", ""), ("Status", ""),
    )  # fmt: skip
    title = "Batches"
    if table.num_rows > len(rows):
        title += f" (the first {len(rows)} of {count(table.num_rows)})"
    return ReportTable("batches", title, columns, rows, shown=False)
