"""`raygrid reproduce thesis`: its tables and its rho sweep again, printed and ours side by side.

Pure logic: who clears a market is a function that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raygrid.arrays import FloatArray
from raygrid.results.figure import RECONSTRUCTED
from raygrid.results.files import RunStatus
from raygrid.results.folder import FolderWriter
from raygrid.results.printed import RHO, RHO_SWEEP, TITLES, Method, Quantity
from raygrid.results.svg import Axes, Canvas, padded
from raygrid.results.tables import (
    COLUMNS,
    Comparison,
    Key,
    compare,
    comparison_rows,
    comparison_table,
    markdown_table,
    text_table,
)

SCENARIOS = ("ieee33", "ieee14")
"""The one of the sweep last, so that whoever keeps its actors can go on with them."""


@dataclass(frozen=True)
class MethodRecord:
    """What one method measured on one case.

    Attributes
    ----------
    status : str
        'converged', 'iteration_limit', 'infeasible'; 'optimal' for the central solve.
    welfare : float
        Welfare of the final schedule [currency].
    seconds : float
        Wall time of the clearing or the solve [s].
    max_line_utilisation : float
        Largest |flow| / limit; 1 is full.
    lines_above_80 : int
        Lines whose largest utilisation is above 80 %.
    lines : int
        Lines of the network.
    line_violations : int
        Pairs of line and period above the limit.
    iterations : int or None
        Rounds of ADMM; None for the central solve.
    primal_residual, dual_residual : float or None
        Last residuals (4-10), (4-11) [kW].
    """

    status: str
    welfare: float
    seconds: float
    max_line_utilisation: float
    lines_above_80: int
    lines: int
    line_violations: int
    iterations: int | None = None
    primal_residual: float | None = None
    dual_residual: float | None = None


@dataclass(frozen=True)
class MeasuredCase:
    """ADMM and, where asked for, the central benchmark on the same case."""

    admm: MethodRecord
    central: MethodRecord | None


class RunCase(Protocol):
    """Clears a scenario once; gives the central benchmark too if `central`."""

    def __call__(
        self, scenario: str, *, network_constrained: bool, rho: float, central: bool
    ) -> MeasuredCase:
        """Clear and measure."""
        ...


@dataclass(frozen=True)
class SweepRow:
    """One penalty parameter of figure 6.5; the gap is a fraction."""

    rho: float
    status: str
    iterations: int
    gap: float | None
    primal_residual: float | None
    dual_residual: float | None
    seconds: float


@dataclass(frozen=True)
class Reproduction:
    """The thesis' tables beside ours, and the sweep."""

    comparisons: tuple[Comparison, ...]
    sweep: tuple[SweepRow, ...]
    path: Path
    converged: bool


def reproduce_thesis(
    run_case: RunCase,
    out: Path,
    command: str,
    notes: Iterable[str] = (),
    rhos: Iterable[float] = RHO_SWEEP,
    progress: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """Rerun both cases with and without limits and the rho sweep; store and compare.

    Writes ``<out>/thesis/<run_id>/`` with tables.md, comparison.csv and .parquet, rho_sweep.csv,
    .parquet and .svg, and the manifest, last.

    Parameters
    ----------
    run_case : RunCase
        Clears a scenario.
    out : Path
        Folder of all results.
    command : str
        The command line, for the manifest.
    notes : iterable of str
        Notes of the scenarios, for the manifest.
    rhos : iterable of float
        Penalty parameters of the sweep.
    progress : callable
        Gets one line before each clearing.

    Returns
    -------
    Reproduction
        Comparisons, sweep, where they lie, and whether every clearing converged.
    """
    start = perf_counter()
    facts = {"reproduction": "thesis", "command": command, "notes": [RECONSTRUCTED, *notes]}
    with FolderWriter(out, "thesis", facts) as folder:
        cases: dict[tuple[str, bool], MeasuredCase] = {}
        for scenario in SCENARIOS:
            for limited in (False, True):
                progress(f"{scenario}, {'with' if limited else 'no'} limits")
                cases[scenario, limited] = run_case(
                    scenario, network_constrained=limited, rho=RHO, central=True
                )
        comparisons = tuple(compare(measured_values(cases)))
        _write_table(folder, "comparison", comparison_table(comparisons))
        benchmark = cases["ieee14", True].central
        sweep = []
        for rho in rhos:
            progress(f"ieee14, with limits, rho = {rho:g}")
            case = run_case("ieee14", network_constrained=True, rho=rho, central=False)
            sweep.append(_sweep_row(rho, case.admm, benchmark))
        _write_table(folder, "rho_sweep", sweep_table(sweep))
        folder.write_text("rho_sweep.svg", sweep_figure(sweep))
        folder.write_text("tables.md", markdown(comparisons, sweep, command))
        records = [case.admm for case in cases.values()]
        converged = all(
            status == "converged"
            for status in [record.status for record in records] + [row.status for row in sweep]
        )
        folder.finish(
            RunStatus.OK if converged else RunStatus.ENDED_SHORT,
            {"total": perf_counter() - start},
            "" if converged else "not every clearing converged",
        )
    return Reproduction(comparisons, tuple(sweep), folder.path, converged)


def measured_values(cases: Mapping[tuple[str, bool], MeasuredCase]) -> dict[Key, float | str]:
    """Measured cells by the key of the printed ones.

    Parameters
    ----------
    cases : mapping
        Measured cases by (scenario, network_constrained).
    """
    values: dict[Key, float | str] = {}
    for (scenario, limited), case in cases.items():
        for method, record in ((Method.ADMM, case.admm), (Method.CENTRAL, case.central)):
            if record is None:
                continue
            cells: dict[Quantity, float | str | None] = {
                Quantity.STATUS: record.status.replace("_", " "),
                Quantity.WELFARE: record.welfare,
                Quantity.SECONDS: record.seconds,
                Quantity.ITERATIONS: record.iterations,
                Quantity.MAX_UTILISATION: record.max_line_utilisation * 100,
                Quantity.HEAVY_LINES: record.lines_above_80,
                Quantity.LINES: record.lines,
                Quantity.VIOLATIONS: f"{record.line_violations} line-hours"
                if record.line_violations
                else "none",
            }
            if case.central is not None and method is Method.ADMM:
                gap = abs(record.welfare - case.central.welfare)
                cells[Quantity.ABSOLUTE_GAP] = gap
                if case.central.welfare:
                    cells[Quantity.RELATIVE_GAP] = gap / abs(case.central.welfare) * 100
            for quantity, reference in (
                (Quantity.TIMES_CENTRAL_FREE, cases.get((scenario, False))),
                (Quantity.TIMES_CENTRAL_LIMITED, cases.get((scenario, True))),
            ):
                if reference is not None and reference.central and reference.central.seconds > 0:
                    cells[quantity] = record.seconds / reference.central.seconds
            for quantity, value in cells.items():
                if value is not None:
                    values[scenario, method, limited, quantity] = value
    return values


def _sweep_row(rho: float, admm: MethodRecord, benchmark: MethodRecord | None) -> SweepRow:
    gap = None
    if benchmark is not None and benchmark.welfare:
        gap = abs(admm.welfare - benchmark.welfare) / abs(benchmark.welfare)
    return SweepRow(
        rho, admm.status, admm.iterations or 0, gap, admm.primal_residual, admm.dual_residual,
        admm.seconds,
    )  # fmt: skip


def sweep_table(sweep: Iterable[SweepRow]) -> pa.Table:
    """The sweep as columns."""
    rows = list(sweep)
    types = {"status": pa.string(), "iterations": pa.int64()}
    return pa.table(
        {
            f.name: pa.array(
                [getattr(row, f.name) for row in rows], types.get(f.name, pa.float64())
            )
            for f in fields(SweepRow)
        }
    )


def sweep_figure(sweep: Iterable[SweepRow]) -> str:
    """Figure 6.5 as a standalone SVG: iterations, gap, residuals, success by rho."""
    rows = list(sweep)
    rho = np.array([row.rho for row in rows])
    canvas = Canvas("Iterations, welfare gap and final residuals by penalty parameter", 690)
    canvas.text(4, 16, "ADMM by penalty parameter ρ", size=14)
    canvas.text(4, 33, f"IEEE 14-bus with limits; iterations: {RECONSTRUCTED}", style="muted")
    top = canvas.legend([("converged", "green"), ("not converged", "red")], 40)
    x_range = (float(rho.min()) / 1.25, float(rho.max()) * 1.25)
    ticks = [value for value in (0.1, 0.3, 1.0, 3.0, 10.0) if x_range[0] <= value <= x_range[1]]
    labels = [f"{value:g}" for value in ticks]

    def panel(
        at: float, title: str, values: list[FloatArray],
        log: bool, x_title: str = "",
    ) -> Axes:  # fmt: skip
        known = np.concatenate(values)
        known = known[np.isfinite(known) & ((known > 0) if log else True)]
        if log:
            low, high = (known.min() / 2, known.max() * 2) if len(known) else (1e-6, 1.0)
            low = min(low, 10 ** np.floor(np.log10(high)))
            y_range = (float(low), float(max(high, 10 ** np.ceil(np.log10(low)))))
        else:
            y_range = (0.0, padded(known, include_zero=True)[1])
        return Axes(
            canvas, at, at + 200, x_range, y_range, x_title, title, log_y=log, x_ticks=ticks,
            x_labels=labels, log_x=True,
        )  # fmt: skip

    def column(name: str, factor: float = 1.0) -> FloatArray:
        return (
            np.array([np.nan if getattr(r, name) is None else getattr(r, name) for r in rows])
            * factor
        )

    iterations = column("iterations")
    axes = panel(top, "(a) Iterations", [iterations], log=False)
    axes.plot(rho, iterations, "blue")
    for row, x, y in zip(rows, axes.x(rho), axes.y(iterations), strict=True):
        canvas.circle(float(x), float(y), 4.5, "green" if row.status == "converged" else "red")
    gap = column("gap", 100.0)
    axes = panel(top + 205, "(b) Welfare gap to the central optimum [%]", [gap], log=True)
    axes.plot(rho, gap, "blue")
    primal, dual = column("primal_residual"), column("dual_residual")
    below = canvas.legend([("primal", "blue"), ("dual", "red")], top + 412)
    axes = panel(below, "(c) Final residuals [kW]", [primal, dual], True, "Penalty parameter ρ")
    axes.plot(rho, primal, "blue")
    axes.plot(rho, dual, "red")
    canvas.height = below + 206
    return canvas.render(standalone=True)


def markdown(comparisons: Iterable[Comparison], sweep: Iterable[SweepRow], command: str) -> str:
    """All tables in one Markdown page."""
    parts = [
        "# The thesis' tables, printed and ours",
        f"Made by `{command}`. The cases are rebuilt from what the thesis prints: iterations and "
        f"times are therefore labelled '{RECONSTRUCTED}' and no target was fitted to them. "
        "Differences are ours minus printed.",
    ]
    for title, rows in _by_table(comparisons):
        parts += [f"## {title}", markdown_table(COLUMNS, rows)]
    parts += [
        f"## Figure 6.5: penalty parameter, IEEE 14-bus with limits ({RECONSTRUCTED})",
        markdown_table(*_sweep_cells(sweep)),
        "![ADMM by penalty parameter](rho_sweep.svg)",
    ]
    return "\n\n".join(parts) + "\n"


def text(comparisons: Iterable[Comparison], sweep: Iterable[SweepRow]) -> str:
    """All tables as plain text for a terminal."""
    parts = [f"{title}\n{text_table(COLUMNS, rows)}" for title, rows in _by_table(comparisons)]
    title = f"Figure 6.5: penalty parameter, IEEE 14-bus with limits ({RECONSTRUCTED})"
    parts.append(f"{title}\n{text_table(*_sweep_cells(sweep))}")
    return "\n\n".join(parts)


def _by_table(comparisons: Iterable[Comparison]) -> list[tuple[str, list[tuple[str, ...]]]]:
    all_of_them = list(comparisons)
    return [
        (
            f"Table {number}: {title}",
            comparison_rows([c for c in all_of_them if c.printed.table == number]),
        )
        for number, title in TITLES.items()
    ]


def _sweep_cells(sweep: Iterable[SweepRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    columns: tuple[str, ...] = (
        "rho",
        "Status",
        "Iterations",
        "Gap [%]",
        "Primal [kW]",
        "Dual [kW]",
        "Seconds",
    )
    rows: list[tuple[str, ...]] = [
        (
            f"{row.rho:g}",
            row.status.replace("_", " "),
            str(row.iterations),
            "–" if row.gap is None else f"{row.gap * 100:.2g}",
            "–" if row.primal_residual is None else f"{row.primal_residual:.2e}",
            "–" if row.dual_residual is None else f"{row.dual_residual:.2e}",
            f"{row.seconds:.3f}",
        )
        for row in sweep
    ]
    return columns, rows


def _write_table(folder: FolderWriter, name: str, table: pa.Table) -> None:
    folder.write_file(f"{name}.parquet", lambda stream: pq.write_table(table, stream))
    folder.write_file(f"{name}.csv", lambda stream: pyarrow.csv.write_csv(table, stream))
