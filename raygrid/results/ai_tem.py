"""`raygrid reproduce ai-tem`: Tables III to VI of AI-TEM, printed and ours side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raygrid.arrays import FloatArray
from raygrid.results.ai_tem_printed import (
    FORECAST,
    QUANTITIES,
    CaseName,
    Quantity,
    cells,
    printed,
)
from raygrid.results.case_days import CaseDay, by_case, column, quantities, saving_share
from raygrid.results.paired import PairedDifference, Spread, holm, paired_difference
from raygrid.results.tables import markdown_table, text_table

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Columns and rows of a table for people."""

NAMES = {
    CaseName.GRID_ONLY: "Grid-only, batteries idle",
    CaseName.SELF_CONSUMPTION: "Grid-only, own batteries",
    CaseName.RULE: "Rule-based P2P",
    CaseName.OPTIMISATION: "Optimisation-only P2P",
    CaseName.BLOCKCHAIN: "Blockchain-only P2P",
    CaseName.FULL: "AI-TEM in full",
    CaseName.NO_FORECAST: "without hybrid forecast",
    CaseName.NO_RL: "without RL",
    CaseName.PLAN_ALONE: "without RL and sharing",
    CaseName.NO_GRID: "without grid-aware penalty",
    CaseName.NO_CHAIN: "without chain",
    CaseName.PERFECT: "without RL, perfect forecast",
    CaseName.FORESIGHT: "Perfect foresight (bound)",
}
"""How tables call the cases."""

COMPARED = (
    CaseName.GRID_ONLY, CaseName.SELF_CONSUMPTION, CaseName.RULE, CaseName.OPTIMISATION,
    CaseName.BLOCKCHAIN, CaseName.FULL, CaseName.FORESIGHT,
)  # fmt: skip
ABLATED = (
    CaseName.FULL, CaseName.NO_FORECAST, CaseName.NO_RL, CaseName.PLAN_ALONE, CaseName.NO_GRID,
    CaseName.NO_CHAIN, CaseName.PERFECT,
)  # fmt: skip
SETTLED = tuple(case for case in CaseName if case is not CaseName.FORESIGHT)

_HEADS = {
    Quantity.COST: ("cost [%]", 1),
    Quantity.UTILISATION: ("PV used [%]", 1),
    Quantity.IMPORT: ("import [%]", 1),
    Quantity.PEAK: ("peak [%]", 1),
    Quantity.CLEARING: ("clearing [s]", 4),
    Quantity.LATENCY: ("settlement [s]", 4),
    Quantity.SUCCESS: ("delivered [%]", 2),
}

PAIRED = (("cost", "cost", 2), ("import_kwh", "import [kWh]", 1), ("utilisation", "PV used [%]", 2))
"""What the judged case is compared by with every other, day by day."""


@dataclass(frozen=True)
class Bound:
    """What perfect foresight says of these days, all in a row.

    Attributes
    ----------
    cost : float
        No case can cost less, by weak duality [currency].
    gap : float
        What the solver's schedule costs beyond that [currency].
    """

    cost: float
    gap: float


@dataclass(frozen=True)
class ForecastScore:
    """Table III's row of one forecaster: RMSE by test day [%], over all of its seeds."""

    model: str
    seeds: int
    load_percent: FloatArray
    pv_percent: FloatArray


@dataclass(frozen=True)
class Reproduction:
    """What is compared: cases by day, the bound, and forecasters.

    Attributes
    ----------
    days : tuple of CaseDay
        All days of all cases.
    bound : Bound or None
        None where perfect foresight was not asked for.
    forecasters : tuple of ForecastScore
        For Table III.
    stages : Table
        What each case runs.
    currency : str
        Name of the money unit.
    """

    days: tuple[CaseDay, ...]
    bound: Bound | None
    forecasters: tuple[ForecastScore, ...]
    stages: Table
    currency: str

    @property
    def cases(self) -> dict[CaseName, list[CaseDay]]:
        """Days of each case."""
        return by_case(self.days)


def comparison_table(done: Reproduction) -> pa.Table:
    """Every cell of Tables III to VI: printed and ours, mean and deviation over days."""
    rows = []
    for score in done.forecasters:
        for name, values, cell in zip(
            ("load_rmse_percent", "pv_rmse_percent"),
            (score.load_percent, score.pv_percent),
            cells(FORECAST.get(score.model, "-|-")),
            strict=True,
        ):
            rows.append(_row("III", score.model, name, Spread.of(values), cell))
    ours = {key: Spread.of(values) for key, values in quantities(done.cases).items()}
    for table in QUANTITIES:
        theirs = printed(table)
        for case in SETTLED if table == "V" else COMPARED if table == "IV" else ABLATED:
            for quantity in QUANTITIES[table]:
                key = case, quantity
                if key in ours or key in theirs:
                    rows.append(_row(table, case, quantity, ours.get(key), theirs.get(key)))
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [("table", pa.string()), ("row", pa.string()), ("quantity", pa.string())]
    + [(name, pa.float64()) for name in ("printed", "printed_deviation", "ours", "our_deviation")]
)


def _row(
    table: str, row: str, quantity: str, ours: Spread | None, theirs: Spread | None
) -> dict[str, object]:
    return {
        "table": table,
        "row": str(row),
        "quantity": str(quantity),
        "printed": theirs and theirs.mean,
        "printed_deviation": theirs and theirs.deviation,
        "ours": ours and ours.mean,
        "our_deviation": ours and ours.deviation,
    }


@dataclass(frozen=True)
class Pairing:
    """The judged case less another, by one quantity."""

    quantity: str
    other: CaseName
    difference: PairedDifference
    corrected_p: float


def judged(cases: Mapping[CaseName, Sequence[CaseDay]]) -> CaseName | None:
    """The case that others are compared with: the full one, or without bidders that without RL."""
    return next((c for c in (CaseName.FULL, CaseName.NO_RL) if c in cases), None)


def pairings(done: Reproduction) -> list[Pairing]:
    """`judged` against every other case; p-values corrected over the cases of each quantity."""
    cases = done.cases
    full = judged(cases)
    if full is None:
        return []
    others = [c for c in cases if c not in (full, CaseName.FORESIGHT)]
    use = quantities(cases)

    def values(case: CaseName, name: str) -> FloatArray:
        if name == "utilisation":
            return use[case, Quantity.UTILISATION]
        return column(cases[case], name)

    found = []
    for name, _, _ in PAIRED:
        differences = [
            paired_difference(values(full, name), values(other, name)) for other in others
        ]
        corrected = holm([d.p_value for d in differences])
        found += [Pairing(name, *row) for row in zip(others, differences, corrected, strict=True)]
    return found


def pairings_table(found: Iterable[Pairing]) -> pa.Table:
    """The same as columns."""
    names = ("quantity", "other", "mean", "low", "high", "p_value", "holm_p", "days")
    rows = [
        (p.quantity, str(p.other), p.difference.mean, p.difference.low, p.difference.high,
         p.difference.p_value, p.corrected_p, p.difference.days)
        for p in found
    ]  # fmt: skip
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    kinds = [pa.string(), pa.string(), *[pa.float64()] * 5, pa.int64()]
    return pa.table(
        {n: pa.array(c, kind) for n, c, kind in zip(names, columns, kinds, strict=True)}
    )


def sections(done: Reproduction) -> list[tuple[str, Table]]:
    """All tables with their titles."""
    cases = done.cases
    days = max((len(rows) for rows in cases.values()), default=0)
    full = judged(cases) or CaseName.FULL
    found = [("What each case runs", done.stages)]
    if done.forecasters:
        found.append(("Table III: forecasts one step ahead, RMSE", _forecast_rows(done)))
    found += [
        (f"Table IV: cases compared over {days} days", _cells_of("IV", COMPARED, cases)),
        ("What that is in money and energy, a day", _amounts(done)),
        (f"{NAMES[full]} less each other, day by day", _pairing_rows(done)),
        ("Table V: market and settlement", _cells_of("V", SETTLED, cases)),
        ("Settled on the chain, trades with peers and grid", _settled_rows(cases)),
        ("The feeder in the AC load flow of every period", _network_rows(cases)),
        ("Table VI: what each part is worth", _cells_of("VI", ABLATED, cases)),
    ]
    return [(title, table) for title, table in found if table[1]]


def markdown(done: Reproduction, command: str, note: str = "") -> str:
    """All tables in one Markdown page; the note is what a reader must know first."""
    parts = [
        "# AI-TEM's tables, printed and ours",
        f"Made by `{command}`. Each cell is the mean ± deviation over days; `printed` is the "
        "paper's. Cost, import and peak are in percent of grid-only with idle batteries on the "
        "same day. What the columns mean, and why ours differ: docs/ai-tem.md.",
    ]
    parts += [f"**{note}**"] if note else []
    for title, table in sections(done):
        parts += [f"## {title}", markdown_table(*table)]
    if done.bound is not None:
        parts.append(_bound_text(done))
    parts.append("![Cost and use of PV by case](figure7.svg)")
    return "\n\n".join(parts) + "\n"


def text(done: Reproduction) -> str:
    """The same for a terminal."""
    parts = [f"{title}\n{text_table(*table)}" for title, table in sections(done)]
    if done.bound is not None:
        parts.append(_bound_text(done))
    return "\n\n".join(parts)


def _cell(value: Spread | None, digits: int) -> str:
    if value is None:
        return "–"
    if np.isnan(value.deviation):
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} ± {value.deviation:.{digits}f}"


def _cells_of(
    table: str, order: Iterable[CaseName], cases: Mapping[CaseName, Sequence[CaseDay]]
) -> Table:
    ours = {key: Spread.of(values) for key, values in quantities(cases).items()}
    theirs = printed(table)
    columns = ["Case"]
    for quantity in QUANTITIES[table]:
        columns += [_HEADS[quantity][0], "printed"]
    rows = []
    for case in order:
        if case in cases:
            row = [NAMES[case]]
            for quantity in QUANTITIES[table]:
                digits = _HEADS[quantity][1]
                row.append(_cell(ours.get((case, quantity)), digits))
                row.append(_cell(theirs.get((case, quantity)), min(digits, 2)))
            rows.append(row)
    return columns, rows


def _forecast_rows(done: Reproduction) -> Table:
    rows = []
    for score in done.forecasters:
        load, pv = cells(FORECAST.get(score.model, "-|-"))
        rows.append(
            [
                score.model.replace("_", " "),
                str(score.seeds),
                _cell(Spread.of(score.load_percent), 2),
                _cell(load, 2),
                _cell(Spread.of(score.pv_percent), 2),
                _cell(pv, 2),
            ]
        )
    return ("Forecaster", "seeds", "load [%]", "printed", "PV [%]", "printed"), rows


def _amounts(done: Reproduction) -> Table:
    cases = done.cases
    share = saving_share(cases, None if done.bound is None else done.bound.cost)
    money = done.currency
    columns = (
        "Case", f"cost [{money}]", f"wear [{money}]", f"fees [{money}]", "import [kWh]",
        "export [kWh]", "between peers [kWh]", "of the possible saving [%]",
    )  # fmt: skip
    rows = []
    for case, days in cases.items():
        row = [NAMES[case]]
        for name, digits in (
            ("cost", 2), ("wear", 2), ("fees", 2), ("import_kwh", 1), ("export_kwh", 1),
            ("delivered_kwh", 1),
        ):  # fmt: skip
            row.append(f"{column(days, name).mean():.{digits}f}")
        row.append(f"{100 * share[case]:.1f}" if case in share else "–")
        rows.append(row)
    return columns, rows


def _pairing_rows(done: Reproduction) -> Table:
    digits = {name: places for name, _, places in PAIRED}
    title = {name: words for name, words, _ in PAIRED} | {"cost": f"cost [{done.currency}]"}
    rows, last = [], ""
    for p in pairings(done):
        places, d = digits[p.quantity], p.difference
        rows.append(
            [
                title[p.quantity] if p.quantity != last else "",
                NAMES[p.other],
                f"{d.mean:+.{places}f}",
                "–" if np.isnan(d.low) else f"{d.low:+.{places}f} to {d.high:+.{places}f}",
                _p(d.p_value),
                _p(p.corrected_p),
            ]
        )
        last = p.quantity
    return ("Of a day", "less", "mean", "95 % interval", "p", "Holm's p"), rows


def _p(value: float) -> str:
    if np.isnan(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _settled_rows(cases: Mapping[CaseName, Sequence[CaseDay]]) -> Table:
    rows = []
    for case, days in cases.items():
        submitted = int(column(days, "submitted").sum())
        if submitted:
            settled = int(column(days, "settled").sum())
            row = [
                NAMES[case],
                f"{submitted:,}",
                f"{settled:,}",
                f"{100 * settled / submitted:.2f}",
            ]
            rows.append(row)
    return ("Case", "submitted", "settled", "[%]"), rows


def _network_rows(cases: Mapping[CaseName, Sequence[CaseDay]]) -> Table:
    columns = (
        "Case", "lowest voltage [p.u.]", "highest [p.u.]", "highest loading [%]",
        "voltage violations", "current violations", "curtailed [kWh]", "unmet [kWh]",
    )  # fmt: skip
    rows = []
    for case, days in cases.items():
        if case is CaseName.FORESIGHT:
            continue
        rows.append(
            [
                NAMES[case],
                f"{column(days, 'lowest_voltage_pu').min():.4f}",
                f"{column(days, 'highest_voltage_pu').max():.4f}",
                f"{100 * column(days, 'highest_loading').max():.1f}",
                f"{column(days, 'voltage_violations').sum():.0f}",
                f"{column(days, 'current_violations').sum():.0f}",
                f"{column(days, 'curtailed_kwh').sum():.2f}",
                f"{column(days, 'unmet_kwh').sum():.2f}",
            ]
        )
    return columns, rows


def _bound_text(done: Reproduction) -> str:
    bound, cases = done.bound, done.cases
    assert bound is not None  # asked before
    n = len(next(iter(cases.values())))
    words = (
        f"Perfect foresight: no case can cost less than {bound.cost / n:.2f} {done.currency} a day "
        f"(by weak duality; the solver's schedule costs {bound.gap:.2g} {done.currency} more over "
        "all days)"
    )
    if CaseName.GRID_ONLY in cases:
        cost = 100 * bound.cost / column(cases[CaseName.GRID_ONLY], "cost").sum()
        words += f", {cost:.1f} % of what grid-only costs"
    return words + "."
