"""What a user sees while and after a market is cleared."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Self, TextIO

from raygrid.market.clearing import IterationRecord
from raygrid.results.stage_lines import stage_lines
from raygrid.results.summary import SettlementSummary, Summary

_INTERVAL_S = 0.1


class ProgressLine:
    """One line on standard error that follows ADMM; silent where nobody looks at a terminal.

    Parameters
    ----------
    stream : text stream or None
        Where to; None is standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = False
        self._last = -_INTERVAL_S
        self.active = self._stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def update(self, record: IterationRecord, mean_price_per_kwh: float, before: str = "") -> None:
        """Show a round: residuals against their tolerances and the mean price.

        Parameters
        ----------
        record : IterationRecord
            The round.
        mean_price_per_kwh : float
            Mean locational price [currency/kWh].
        before : str
            What stands before it, such as the day.
        """
        self.show(
            f"{before}iteration {record.iteration:4d}  "
            f"primal {record.primal_residual:.1e}/{record.primal_tolerance:.1e}  "
            f"dual {record.dual_residual:.1e}/{record.dual_tolerance:.1e}  "
            f"price {mean_price_per_kwh:.4f}"
        )

    def show(self, text: str) -> None:
        """Show a line in place of the last one, at most ten times a second."""
        if not self.active or monotonic() - self._last < _INTERVAL_S:
            return
        self._last = monotonic()
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + text[:width])
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away, so that what follows stands alone."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def summary_text(
    summary: Summary,
    path: Path,
    currency: str,
    reason: str = "",
    notes: Iterable[str] = (),
    trades: int | None = None,
    mean_price_per_kwh: float | None = None,
    welfare_bound: float | None = None,
) -> str:
    """The end of `raygrid simulate`: what came out, where it lies, what to do next.

    Parameters
    ----------
    summary : Summary
        The run's figures.
    path : Path
        The run's folder.
    currency : str
        Name of the money unit.
    reason : str
        Why it ended short and what to do about it.
    notes : iterable of str
        What a reader must know.
    trades : int or None
        Number of trades.
    mean_price_per_kwh : float or None
        Mean settlement price [currency/kWh].
    welfare_bound : float or None
        Upper bound on the optimal welfare [currency].

    Returns
    -------
    str
        Lines of at most 80 columns, but for the path and the reason.
    """
    rows = [("community", _community(summary))]
    c = summary.clearing
    if c is not None:
        rounds = f"{c.iterations} iteration{'' if c.iterations == 1 else 's'}, {c.seconds:.3g} s"
        rows.append(("clearing", f"{c.status.replace('_', ' ')} ({rounds})"))
        if math.isfinite(c.welfare):
            gap = _gap(summary, welfare_bound)
            rows.append(("welfare", f"{c.welfare:.6g} {currency}{gap}"))
        if c.energy_traded_kwh is not None:
            traded = f"{c.energy_traded_kwh:.6g} kWh"
            if summary.intraday is not None:
                trades = summary.intraday["day_ahead_trades"]
            rows.append(("traded", traded + ("" if trades is None else f" in {trades:,} trades")))
        elif math.isfinite(c.welfare):
            rows.append(("traded", "no trades were matched, see the note"))
        if c.grid_import_kwh is not None:
            rows.append(("grid import", f"{c.grid_import_kwh:.6g} kWh"))
        if c.max_line_utilisation is not None:
            limits = "limits enforced" if c.network_constrained else "limits not enforced"
            over = f", {c.line_violations} line-periods above" if c.line_violations else ""
            fullest = f"{_percent(c.max_line_utilisation)} of its limit ({limits}{over})"
            rows.append(("fullest line", fullest))
    if mean_price_per_kwh is not None:
        rows.append(("mean price", f"{mean_price_per_kwh:.4g} {currency}/kWh"))
    rows += stage_lines(summary.forecast, summary.intraday, summary.powerflow, currency)
    if summary.settlement is not None:
        rows.append(("settled", _settlement(summary.settlement)))
    s = summary.seconds
    rows.append(
        (
            "time",
            f"{s.total:.3g} s (Ray {s.ray_start:.3g}, build {s.build:.3g}, clear {s.clear:.3g})",
        )
    )
    rows += [("note", note) for note in notes]
    if reason:
        rows.append(("ended short", reason))
    rows.append(("results", str(path)))
    rows.append(("next", f"raygrid report {path}"))
    title = f"{summary.scenario}: {summary.status.replace('_', ' ')}"
    return "\n".join([title, *(f"  {name:<13}{value}" for name, value in rows)])


def _community(summary: Summary) -> str:
    counts = (
        (summary.prosumers, "prosumer", "prosumers"), (summary.buses, "bus", "buses"),
        (summary.lines, "line", "lines"), (summary.periods, "period", "periods"),
        (summary.actors, "actor", "actors"),
    )  # fmt: skip
    said = ", ".join(f"{n:,} {one if n == 1 else many}" for n, one, many in counts)
    return f"{said}, {len(summary.days)} days" if len(summary.days) > 1 else said


def _settlement(s: SettlementSummary) -> str:
    gas = "" if s.gas_per_trade is None else f", {s.gas_per_trade:,.0f} gas a trade"
    rejected = f"; {s.rejected:,} rejected" if s.rejected else ""
    failed = f"; {s.failed:,} unsettled" if s.failed else ""
    return f"{s.settled:,} of {s.trades:,} trades on {s.chain}{gas}{rejected}{failed}"


def _gap(summary: Summary, bound: float | None) -> str:
    if summary.central is not None and summary.central.gap is not None:
        return f" (gap to the central optimum {summary.central.gap * 100:.2g} %)"
    if bound and summary.clearing is not None:
        share = abs(bound - summary.clearing.welfare) / abs(bound) * 100
        return f" (at most {share:.2g} % below the optimum)"
    return ""


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"
