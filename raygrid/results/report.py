"""`raygrid report`: one self-contained page of a run's figures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raygrid.errors import InputError
from raygrid.results.figure import RECONSTRUCTED, percent
from raygrid.results.figures import figures
from raygrid.results.files import REPORT, write_atomically
from raygrid.results.learning_figures import learning_tables
from raygrid.results.page import Tile, render_page
from raygrid.results.reader import RunReader
from raygrid.results.run_data import RunData, load_run
from raygrid.results.settlement_tables import ReportTable, settlement_tables
from raygrid.results.svg import count, number, plural

MAX_FILES = 30
MAX_PERIODS = 200
MAX_LINES = 10


def write_report(run: RunReader, out: Path | None = None, compare: RunReader | None = None) -> Path:
    """Write the report page of a run.

    Parameters
    ----------
    run : RunReader
        The run; an unfinished one gives what it has.
    out : Path or None
        The file; None means report.html in the run's folder.
    compare : RunReader or None
        A run on the same network (say without limits) whose line use is shown beside.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If a file of the run was changed or the page cannot be written.
    """
    path = out or run.path / REPORT
    page = render_report(load_run(run), None if compare is None else load_run(compare))
    try:
        write_atomically(path, lambda stream: stream.write(page.encode("utf-8")))
    except OSError as error:
        raise InputError(
            f"the report cannot be written there ({error.strerror or error})",
            f"--out {path}",
            "name a file in a folder that can be written",
        ) from error
    return path


def render_report(data: RunData, other: RunData | None = None) -> str:
    """The page as HTML; every text of the run is escaped."""
    manifest = data.manifest
    status = str(manifest["status"])
    return render_page(
        title=f"{manifest['scenario']} · raygrid",
        heading=manifest["scenario"],
        status=status.replace("_", " "),
        ok=status == "ok",
        lead=_lead(data),
        reason=manifest["reason"],
        created=str(manifest["created"]).replace("T", " ")[:16] + " UTC",
        run_id=manifest["run_id"],
        notes=manifest["notes"],
        tiles=_tiles(data),
        figures=figures(data, other),
        tables=_tables(data),
        facts=_facts(data),
        files=list(manifest["files"].items())[:MAX_FILES],
    )


def _tables(data: RunData) -> list[ReportTable]:
    """All tables that the run has, in reading order."""
    tables = (
        _day_table(data), *learning_tables(data), _money_table(data), *settlement_tables(data),
        _line_table(data),
        _period_table(data),
    )  # fmt: skip
    return [table for table in tables if table is not None]


def _lead(data: RunData) -> str:
    """The run in a sentence."""
    s = data.summary
    if "prosumers" not in s:
        return "This run did not get far enough to have a summary."
    dt = float(data.manifest["period_hours"])
    length = f"{dt:g} h" if dt >= 1 else f"{dt * 60:g} min"
    who = (
        f"{plural(s['prosumers'], 'prosumer')} in {plural(s['actors'], 'Ray actor')} on a grid "
        f"of {plural(s['buses'], 'bus', 'buses')} and {plural(s['lines'], 'line')}, "
        f"{plural(s['periods'], 'period')} of {length}."
    )
    clearing = s["clearing"]
    if clearing is None:
        return f"{who} The market was not cleared."
    how = {
        "converged": f"The market converged in {plural(clearing['iterations'], 'iteration')}",
        "iteration_limit": "The market had not converged after "
        f"{clearing['iterations']} iterations",
        "infeasible": "The market is infeasible",
    }.get(clearing["status"], f"The market ended '{clearing['status']}'")
    limits = "with" if clearing["network_constrained"] else "without"
    return f"{who} {how}, {limits} network limits."


def _tiles(data: RunData) -> list[Tile]:
    s, money = data.summary, data.currency
    clearing, settlement = s["clearing"], s.get("settlement")
    label = RECONSTRUCTED if data.reconstructed else ""
    tiles = []
    if clearing is not None:
        tiles += [
            Tile("Welfare", f"{_digits(clearing['welfare'], 5)} {money}", "over the horizon"),
            _gap_tile(data),
            _traded_tile(clearing["energy_traded_kwh"]),
            Tile("Import from the grid", f"{_digits(clearing['grid_import_kwh'], 5)} kWh"),
            Tile(
                "Fullest line",
                percent(clearing["max_line_utilisation"])
                if clearing["max_line_utilisation"] is not None
                else "–",
                f"{clearing['line_violations']} line-periods above the limit"
                if clearing["line_violations"] is not None
                else "",
            ),
            Tile("Iterations", str(clearing["iterations"]), label or "of ADMM"),
            Tile("Time to clear", f"{_digits(clearing['seconds'])} s", label),
        ]
    if data.prices is not None:
        mean = float(np.mean(data.prices.settlement))
        tiles.append(Tile("Settlement price", number(mean), f"{money}/kWh, mean over periods"))
    if data.pairs is not None:
        tiles.append(
            Tile("Trades", count(data.pairs.trades), f"{number(data.pairs.value, 4)} {money}")
        )
    if settlement is not None:
        tiles.append(
            Tile(
                "Settled",
                f"{count(settlement['settled'])} of {count(settlement['trades'])}",
                f"trades, on {settlement['chain']}",
            )
        )
    seconds = s["seconds"].get("total")
    if seconds is not None:
        tiles.append(Tile("Whole run", f"{_digits(seconds)} s", label or "wall time"))
    return tiles


def _gap_tile(data: RunData) -> Tile:
    """How far from the optimum: by the central benchmark, else at most by the dual value."""
    title = "Gap to the optimum"
    clearing, central = data.summary["clearing"], data.summary["central"]
    bound = data.manifest["welfare_bound"]
    if central:
        gap = central["gap"]
        return Tile(title, "–" if gap is None else percent(gap, 2), "central benchmark")
    if bound and clearing["welfare"] is not None:
        share = percent(abs(bound - clearing["welfare"]) / abs(bound), 2)
        return Tile(title, f"≤ {share}", "by the duality bound")
    return Tile(title, "–", "no central solve")


def _traded_tile(energy_kwh: float | None) -> Tile:
    if energy_kwh is None:
        return Tile("Energy traded", "–", "no trades were matched")
    return Tile("Energy traded", f"{_digits(energy_kwh, 5)} kWh")


def _digits(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else number(float(value), digits)


def _line_table(data: RunData) -> ReportTable | None:
    lines = data.lines
    if lines.utilisation is None or lines.flow_kw is None or not len(lines.line):
        return None
    use = lines.busiest
    rows = []
    for k in np.argsort(-use, kind="stable")[:MAX_LINES]:
        when = int(np.argmax(lines.utilisation[k]))
        rows.append(
            [
                str(lines.line[k]),
                f"{lines.from_bus[k]}–{lines.to_bus[k]}",
                number(float(lines.limit_kw[k]), 4),
                number(float(lines.flow_kw[k, when]), 4),
                percent(float(use[k])),
                str(data.period[when]),
            ]
        )
    columns = (
        ("Line", ""), ("Buses", ""), ("Limit", "kW"), ("Flow", "kW"), ("Use", ""), ("Period", ""),
    )  # fmt: skip
    return ReportTable("lines", "The fullest lines", columns, rows)


def _day_table(data: RunData) -> ReportTable | None:
    """The days of a run that has several."""
    days = data.summary.get("days") or []
    if len(days) < 2:
        return None
    money = data.currency
    columns = (
        ("Day", ""), ("Begins", ""), ("Clearing", ""), ("Iterations", ""), ("Welfare", money),
        ("Gap", ""), ("Traded", "kWh"), ("Grid import", "kWh"), ("Fullest line", ""),
        ("Stored at the end", "kWh"), ("Lowest voltage", "p.u."),
    )  # fmt: skip
    rows = []
    for day in days[:MAX_PERIODS]:
        c, central, check = day["clearing"], day["central"], day["powerflow"]
        use, gap = c["max_line_utilisation"], None if central is None else central["gap"]
        rows.append(
            [
                str(day["day"]),
                day["date"].replace("T", " ")[:16],
                c["status"].replace("_", " "),
                str(c["iterations"]),
                _digits(c["welfare"], 5),
                "–" if gap is None else percent(gap, 2),
                _digits(c["energy_traded_kwh"], 5),
                _digits(c["grid_import_kwh"], 5),
                "–" if use is None else percent(use),
                _digits(day["stored_kwh"], 4),
                _digits(None if check is None else check["min_voltage_pu"], 4),
            ]
        )
    return ReportTable("days", "Day by day", columns, rows)


def _money_table(data: RunData) -> ReportTable | None:
    """What buyers, sellers and the grid connection leave over or lack at either price."""
    clearing = data.summary["clearing"] or {}
    if clearing.get("settlement_price_surplus") is None:
        return None
    rows = []
    for key, name in (
        ("settlement_price", "Settlement price, one for all"),
        ("locational_price", "Local prices"),
    ):
        surplus = float(clearing[f"{key}_surplus"])
        # Injections sum to zero but for rounding, and so does what one price leaves.
        surplus = surplus if abs(surplus) >= 5e-7 else 0.0
        difference = clearing[f"{key}_tariff_difference"]
        together = surplus if difference is None else surplus + float(difference)
        cells = (surplus, difference, together)
        rows.append([name, *(_digits(cell, 4) for cell in cells)])
    money = data.currency
    columns = (
        ("Price", ""), ("Buyers pay beyond what sellers get", money),
        ("Grid connection gets beyond its tariff", money), ("Together", money),
    )  # fmt: skip
    return ReportTable("money", "Money left over (or lacking, below zero)", columns, rows)


def _period_table(data: RunData) -> ReportTable | None:
    if data.supply_kw is None or data.use_kw is None:
        return None
    money = f"{data.currency}/kWh"
    columns = [("Period", "")]
    values: list[Any] = []
    for kind in (data.supply_kw, data.use_kw):
        for name, kw in kind.items():
            if np.abs(kw).max(initial=0) > 1e-9:
                columns.append((name[0].upper() + name[1:], "kW"))
                values.append(kw)
    if data.prices is not None:
        columns += [("Local price, mean", money), ("Settlement price", money)]
        values += [data.prices.lmp.mean(axis=0), data.prices.settlement]
    rows = [
        [str(period), *(number(float(column[k]), 4) for column in values)]
        for k, period in enumerate(data.period[:MAX_PERIODS])
    ]
    return ReportTable("periods", "Period by period", tuple(columns), rows, shown=False)


def _facts(data: RunData) -> list[tuple[str, str]]:
    m = data.manifest
    versions = ", ".join(f"{name} {found}" for name, found in m["versions"].items() if found)
    machine = ", ".join(f"{name} {value}" for name, value in m["machine"].items())
    cluster = ", ".join(f"{name} {value}" for name, value in m["cluster"].items())
    seeds = ", ".join(f"{name} {value}" for name, value in m["seeds"].items())
    seconds = ", ".join(f"{name} {_digits(value)}" for name, value in m["seconds"].items())
    facts = [
        ("Command", m["command"]),
        ("Started", m["created"]),
        ("Finished", m["finished"] or "not finished"),
        ("Wall times [s]", seconds),
        ("Seeds", seeds),
        ("Cluster", cluster),
        ("Machine", machine),
        ("Versions", versions),
        ("Commit", m["git_commit"]),
        ("Layout", f"version {m['schema_version']}"),
    ]
    return [(name, str(value)) for name, value in facts if value]
