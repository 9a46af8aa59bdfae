"""Forecasts and the intraday auction in the report: figures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.results.figure import Figure, percent
from raygrid.results.learning_data import FORECASTS, LearningData
from raygrid.results.run_data import RunData
from raygrid.results.settlement_tables import ReportTable
from raygrid.results.svg import Axes, Canvas, count, hour_ticks, number, padded, steps

COLOURS = {"measured": "ink", "day ahead": "blue", "step ahead": "orange"}
SESSIONS = {
    "day_ahead": ("day ahead", "blue"), "intraday": ("intraday", "orange"),
    "import": ("import", "grey"), "export": ("export", "green"),
}  # fmt: skip
HORIZONS = (("day_ahead", "A day ahead"), ("step", "When orders were due"))


def learning_figures(data: RunData) -> list[Figure]:
    """Figures of the stages that the run has; none where it has none."""
    if data.learning is None or not len(data.period):
        return []
    return [_forecasts(data, data.learning), _sessions(data, data.learning)]


def learning_tables(data: RunData) -> list[ReportTable]:
    """Tables of the stages that the run has."""
    forecast, intraday = data.summary.get("forecast"), data.summary.get("intraday")
    tables = []
    if forecast is not None:
        tables.append(_errors(forecast))
    if intraday is not None:
        tables.append(_intraday(data, intraday))
    return tables


def _hours(
    canvas: Canvas, top: float, bottom: float, edges: FloatArray, values: Any, what: str, last: bool
) -> Axes:
    ticks, labels = hour_ticks(edges)
    return Axes(
        canvas, top, bottom, (float(edges[0]), float(edges[-1])), (0.0, padded(values, True)[1]),
        "Hour" if last else "", what, x_ticks=ticks, x_labels=labels,
    )  # fmt: skip


def _forecasts(data: RunData, found: LearningData) -> Figure:
    """Load and PV of all prosumers, forecast and measured."""
    canvas = Canvas("Load and PV of all prosumers: measured, and forecast twice", 400)
    entries = [(name, COLOURS[name]) for name in FORECASTS]
    top = canvas.legend(entries, 2)
    edges = data.edges_h
    for kw, what, start, end in (
        (found.load_kw, "Load of all [kW]", top, 230.0),
        (found.pv_kw, "PV of all [kW]", 235.0, 400.0),
    ):
        axes = _hours(canvas, start, end, edges, np.array(list(kw.values())), what, end == 400.0)
        for name in reversed(FORECASTS):
            style = "line" if name == "measured" else "line dash"
            axes.plot(*steps(edges, kw[name]), COLOURS[name], style)
    off = [
        f"{number(float(np.sqrt(np.mean((kw[name] - kw['measured']) ** 2))))} kW {name}"
        for kw in (found.load_kw, found.pv_kw)
        for name in FORECASTS[1:]
    ]
    caption = (
        f"RMSE of the sum over all prosumers: of load {off[0]} and {off[1]}, of PV {off[2]} and "
        f"{off[3]}. Single prosumers err by more; see the table."
    )
    return Figure("forecasts", "Forecast and measured", canvas.render(), caption)


def _sessions(data: RunData, found: LearningData) -> Figure:
    """Energy of the sessions of each period, and the price of the intraday auction."""
    canvas = Canvas("Energy by session and period, and the price of the intraday auction", 400)
    top = canvas.legend([*SESSIONS.values(), ("tariff", "grey-")], 2)
    edges, base = data.edges_h, np.zeros(len(data.period))
    total = sum(found.traded_kwh.values(), base)
    axes = _hours(canvas, top, 250.0, edges, total, "Energy in a period [kWh]", False)
    for name, (_, colour) in SESSIONS.items():
        x, low = steps(edges, base)
        base = base + found.traded_kwh[name]
        axes.band(x, low, steps(edges, base)[1], colour, 0.9)
    known = [found.price_per_kwh]
    tariffs = data.tariffs
    if tariffs is not None:
        known += [tariffs["import_price_per_kwh"], tariffs["export_price_per_kwh"]]
    values = np.concatenate(known)
    money = f"Intraday price [{data.currency}/kWh]"
    below = _hours(canvas, 255.0, 400.0, edges, values[np.isfinite(values)], money, True)
    for tariff in known[1:]:
        below.plot(*steps(edges, tariff), "grey", "line dash")
    known_at = np.flatnonzero(np.isfinite(found.price_per_kwh))
    for run in np.split(known_at, np.flatnonzero(np.diff(known_at) > 1) + 1):
        if len(run):
            across = edges[run[0] : run[-1] + 2]
            below.plot(*steps(across, found.price_per_kwh[run]), "orange")
    sums = {name: float(kwh.sum()) for name, kwh in found.traded_kwh.items()}
    caption = (
        f"Peers agreed on {number(sums['day_ahead'], 4)} kWh a day ahead and on "
        f"{number(sums['intraday'], 4)} kWh intraday; the grid delivered "
        f"{number(sums['import'], 4)} kWh and took {number(sums['export'], 4)} kWh at tariff. "
        f"{number(float(found.curtailed_kwh.sum()))} kWh of PV were curtailed."
    )
    return Figure("sessions", "Sessions of the day", canvas.render(), caption)


def _errors(forecast: Mapping[str, Any]) -> ReportTable:
    rows = []
    for key, name in HORIZONS:
        for what, word in (("load", "load"), ("pv", "PV")):
            held = forecast.get(f"{key}_{what}_coverage")
            rows.append(
                [
                    f"{name}, {word}",
                    number(forecast[f"{key}_{what}_rmse_kw"]),
                    number(forecast[f"{key}_{what}_bias_kw"]),
                    "–" if held is None else percent(held),
                ]
            )
    title = f"Errors of the forecasts ({forecast['rule']}), by prosumer and period"
    columns = (("Forecast", ""), ("RMSE", "kW"), ("Bias", "kW"), ("Within the 80 % interval", ""))
    return ReportTable("forecast-errors", title, columns, rows)


def _intraday(data: RunData, found: Mapping[str, Any]) -> ReportTable:
    check, money = data.summary.get("powerflow"), data.currency
    rows = [
        ["Who bids", str(found["bidders"])],
        ["Decisions that fell back on the rule", count(found["fallbacks"])],
        ["Agreed on a day ahead", f"{number(found['day_ahead_kwh'], 4)} kWh"],
        ["Traded intraday", f"{number(found['traded_kwh'], 4)} kWh"],
        ["Matched, but not borne out by meters", f"{number(found['failed_kwh'])} kWh"],
        ["From the grid at tariff", f"{number(found['billed_import_kwh'], 4)} kWh"],
        ["Into the grid at tariff", f"{number(found['billed_export_kwh'], 4)} kWh"],
        ["PV curtailed", f"{number(found['curtailed_kwh'])} kWh"],
        ["Periods in which no re-dispatch kept a limit", count(found["limited_periods"])],
        ["Needs that stores did not meet", f"{number(found['unmet_kwh'])} kWh"],
        ["Network account takes", f"{number(found['network_value'])} {money}"],
        ["Balance at tariff", f"{number(found['grid_cost'], 4)} {money}"],
        ["Wear of batteries and EVs", f"{number(found['wear'])} {money}"],
        ["Cost of all prosumers together", f"{number(found['cost'], 4)} {money}"],
    ]
    for key, name in (("voltage_violations", "Voltages"), ("overloads", "Currents")):
        if check is not None and check[key] is not None:
            rows.append([f"{name} beyond their limits in the AC load flow", count(check[key])])
    return ReportTable("intraday", "What was measured and traded", (("", ""), ("", "")), rows)
