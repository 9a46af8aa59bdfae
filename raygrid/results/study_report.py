"""The report of a study: one self-contained page of its scaling, tables and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raygrid.results.figure import percent
from raygrid.results.page import Tile, render_page
from raygrid.results.settlement_tables import ReportTable
from raygrid.results.study import (
    MARKET_COLUMNS,
    Group,
    StudyRecord,
    fit_power_law,
    group_runs,
    size_series,
    strong_scaling,
    weak_scaling,
)
from raygrid.results.study_figures import study_figures
from raygrid.results.svg import count, number, plural

GIB = 1024.0**3


def render_study(manifest: Mapping[str, Any], records: Sequence[StudyRecord], planned: int) -> str:
    """The page as HTML; every text is escaped.

    Parameters
    ----------
    manifest : mapping
        The study's manifest.
    records : sequence of StudyRecord
        What is known so far.
    planned : int
        Runs of the whole study.
    """
    groups = group_runs(records)
    failed = [record for record in records if not record.finished]
    missing = planned - len(records)
    ok = not failed and not missing and all(record.status == "ok" for record in records)
    facts = [
        ("Command", str(manifest["command"])),
        ("Started", str(manifest["created"])),
        ("Last change", str(manifest["finished"] or "")),
        ("Machine", _listed(manifest["machine"])),
        ("Cluster", _listed(manifest["cluster"])),
        ("Versions", _listed(manifest["versions"])),
        ("Commit", str(manifest["git_commit"] or "")),
    ]
    return render_page(
        title=f"{manifest['study']} · raygrid",
        heading=str(manifest["study"]),
        status="complete" if ok else str(manifest["status"]).replace("_", " "),
        ok=ok,
        lead=_lead(manifest, records, groups),
        reason=_reason(failed, missing),
        created=str(manifest["created"]).replace("T", " ")[:16] + " UTC",
        run_id=str(manifest["run_id"]),
        notes=[],
        tiles=_tiles(records, groups, planned),
        figures=study_figures(groups),
        tables=[
            table
            for table in (
                _group_table(groups), _market_table(records), _fit_table(groups),
                _scaling_table(groups), _failure_table(failed), _run_table(records),
            )
            if table.rows
        ],
        facts=[(name, value) for name, value in facts if value],
        files=list(manifest["files"].items()),
    )  # fmt: skip


def _lead(
    manifest: Mapping[str, Any], records: Sequence[StudyRecord], groups: Sequence[Group]
) -> str:
    names = ", ".join(dict.fromkeys(record.scenario for record in records))
    text = f"{plural(len(records), 'run')} of {names or 'no scenario'}"
    if groups:
        low, high = min(g.prosumers for g in groups), max(g.prosumers for g in groups)
        sizes = [count(low)] if low == high else [count(low), count(high)]
        text += f", {' to '.join(sizes)} prosumers"
    described = str(manifest["description"]).strip()
    return f"{described} {text}." if described else f"{text}."


def _reason(failed: Sequence[StudyRecord], missing: int) -> str:
    words = []
    if failed:
        words.append(f"{plural(len(failed), 'run')} failed; the others stand")
    if missing:
        words.append(f"{plural(missing, 'run')} to go: the same command goes on from here")
    return "; ".join(words)


def _tiles(records: Sequence[StudyRecord], groups: Sequence[Group], planned: int) -> list[Tile]:
    finished = [record for record in records if record.finished]
    tiles = [
        Tile("Runs", f"{len(finished)} of {planned}", "finished"),
        Tile("Converged", str(sum(group.converged for group in groups)), f"of {len(finished)}"),
    ]
    for (name, cpus), members in size_series(groups).items():
        law = fit_power_law([g.prosumers for g in members], [g.clear_seconds for g in members])
        if law is not None and len(tiles) < 6:
            tiles.append(
                Tile("Exponent of time", number(law.exponent), f"{name}, {plural(cpus, 'CPU')}")
            )
    gaps = [group.gap for group in groups if group.gap is not None]
    if gaps:
        tiles.append(Tile("Largest gap", percent(max(gaps), 2), "to the central optimum"))
    memory = [group.memory_bytes for group in groups if group.memory_bytes is not None]
    if memory:
        tiles.append(Tile("Most memory", f"{number(max(memory) / GIB)} GiB", "of all processes"))
    if finished:
        total = sum(record.seconds for record in records)
        tiles.append(Tile("Time of all runs", f"{number(total)} s", "one after another"))
    return tiles


def _group_table(groups: Sequence[Group]) -> ReportTable:
    columns = (
        ("Scenario", ""), ("CPUs", ""), ("Prosumers", ""), ("Runs", ""), ("Converged", ""),
        ("Iterations, median", ""), ("Worst", ""), ("Time to clear, median", "s"), ("Least", "s"),
        ("Most", "s"), ("Whole run", "s"), ("Memory", "GiB"), ("Gap", ""),
    )  # fmt: skip
    rows = [
        [
            group.name, str(group.cpus), count(group.prosumers), str(group.runs),
            str(group.converged), f"{group.iterations:g}", str(group.most_iterations),
            number(group.clear_seconds), number(group.least_seconds), number(group.most_seconds),
            number(group.total_seconds),
            "–" if group.memory_bytes is None else number(group.memory_bytes / GIB),
            "–" if group.gap is None else percent(group.gap, 2),
        ]
        for group in groups
    ]  # fmt: skip
    return ReportTable("groups", "Medians over seeds and repeats", columns, rows)


def _market_table(records: Sequence[StudyRecord]) -> ReportTable:
    columns = (
        ("Run", ""), ("Cost to all", ""), ("From the grid", "kWh"),
        ("Into the grid", "kWh"), ("Curtailed", "kWh"), ("Traded day ahead", "kWh"),
        ("Traded intraday", "kWh"), ("Sold, not delivered", "kWh"), ("Overloads in AC", ""),
        ("Voltages out of band", ""), ("Trades settled", ""),
    )  # fmt: skip
    rows = [
        [
            ", ".join(text for text in (record.scenario, _listed(record.values)) if text),
            *("–" if value is None else count(value) if isinstance(value, int) else number(value, 5)
              for value in (of(record.summary) for _, _, of in MARKET_COLUMNS)),
        ]
        for record in records
        if record.summary is not None and record.summary.get("intraday") is not None
    ]  # fmt: skip
    return ReportTable("markets", "What the markets came to", columns, rows)


def _fit_table(groups: Sequence[Group]) -> ReportTable:
    columns = (
        ("Scenario", ""), ("CPUs", ""), ("Sizes", ""), ("Exponent", ""), ("Standard error", ""),
        ("R²", ""), ("Time of 1,000 prosumers by the fit", "s"),
    )  # fmt: skip
    rows = []
    for (name, cpus), members in size_series(groups).items():
        law = fit_power_law([g.prosumers for g in members], [g.clear_seconds for g in members])
        if law is not None:
            rows.append(
                [name, str(cpus), str(len(members)), f"{law.exponent:.3f}", number(law.error),
                 f"{law.r_squared:.4f}", number(law.factor * 1000**law.exponent)]
            )  # fmt: skip
    return ReportTable("fits", "Time against prosumers: c · prosumers^exponent", columns, rows)


def _scaling_table(groups: Sequence[Group]) -> ReportTable:
    columns = (
        ("Series", ""), ("Kind", ""), ("CPUs", ""), ("Prosumers", ""), ("Time to clear", "s"),
        ("Speed-up", ""), ("Efficiency", ""),
    )  # fmt: skip
    rows = [
        [series.name, series.kind, str(point.cpus), count(point.prosumers), number(point.seconds),
         number(point.speedup), percent(point.efficiency)]
        for series in [*strong_scaling(groups), *weak_scaling(groups)]
        for point in series.points
    ]  # fmt: skip
    return ReportTable("scaling", "Strong and weak scaling", columns, rows)


def _failure_table(failed: Sequence[StudyRecord]) -> ReportTable:
    columns = (("Scenario", ""), ("Axes", ""), ("Why", ""))
    rows = [[record.scenario, _listed(record.values), record.reason] for record in failed]
    return ReportTable("failures", "Runs that failed", columns, rows)


def _run_table(records: Sequence[StudyRecord]) -> ReportTable:
    columns = (
        ("Scenario", ""), ("Axes", ""), ("Repeat", ""), ("Status", ""), ("Iterations", ""),
        ("Time to clear", "s"), ("Folder", ""),
    )  # fmt: skip
    rows = [
        [
            record.scenario, _listed(record.values), str(record.repeat + 1),
            record.status.replace("_", " "), str(record.summary["clearing"]["iterations"]),
            number(record.summary["seconds"]["clear"]), record.run or "",
        ]
        for record in records
        if record.summary is not None
    ]  # fmt: skip
    return ReportTable("runs", "Run by run", columns, rows, shown=False)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
