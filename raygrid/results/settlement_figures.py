"""Figures 6.14 to 6.16 of the thesis: trades, volume and value over time, sellers over time."""

from __future__ import annotations

import numpy as np

from raygrid.prosumer.population import GRID_ID
from raygrid.results.figure import Figure
from raygrid.results.run_data import RunData
from raygrid.results.settlement_data import Activity
from raygrid.results.svg import (
    WIDTH,
    Axes,
    Canvas,
    count,
    hour_ticks,
    number,
    padded,
    plural,
    steps,
)

COLOURS = {"settled": "green", "rejected": "red", "unsettled": "grey"}
MAX_SELLERS = 50
NO_TRADES = "There are no trades."


def settlement_figures(data: RunData) -> list[Figure]:
    """The three figures, in the thesis' order."""
    return [activity(data), volume(data), sellers(data)]


def _trades_of(data: RunData) -> Activity | None:
    a = data.activity
    if a is None or not len(data.period) or not sum(int(n.sum()) for n in a.trades.values()):
        return None
    return a


def _names(data: RunData, a: Activity) -> list[tuple[str, str, str]]:
    """Status, its name in this run and its colour, of those that occur."""
    settled = data.summary.get("settlement") is not None
    return [
        (status, status if settled else "cleared, not settled", COLOURS[status])
        for status, n in a.trades.items()
        if n.any()
    ]


def activity(data: RunData) -> Figure:
    """Number of trades, and energy settled, by period (figure 6.14)."""
    title = "Settlement through the day"
    a = _trades_of(data)
    if a is None:
        return Figure("activity", title, "", NO_TRADES)
    names = _names(data, a)
    canvas = Canvas("Number of trades by status, and energy traded, by period", 400)
    top = canvas.legend([(name, colour) for _, name, colour in names], 2)
    edges = data.edges_h
    total = sum((a.trades[status] for status, _, _ in names), np.zeros(len(data.period)))
    ticks, labels = hour_ticks(edges)
    across = (float(edges[0]), float(edges[-1]))
    axes = Axes(
        canvas, top, 250, across, (0.0, padded(total, True)[1]), "", "Trades in a period",
        x_ticks=ticks, x_labels=labels,
    )  # fmt: skip
    base = np.zeros(len(data.period))
    for status, _, colour in names:
        x, low = steps(edges, base)
        base = base + a.trades[status]
        axes.band(x, low, steps(edges, base)[1], colour, 0.9)
    energy = sum((kwh for kwh in a.energy_kwh.values()), np.zeros(len(data.period)))
    below = Axes(
        canvas, 255, 400, across, (0.0, padded(energy, True)[1]), "Hour",
        "Energy of these trades [kWh]", x_ticks=ticks, x_labels=labels,
    )  # fmt: skip
    below.plot(*steps(edges, energy), "blue")
    busiest = int(np.argmax(total))
    words = ", ".join(f"{count(int(a.trades[status].sum()))} {name}" for status, name, _ in names)
    caption = (
        f"{plural(int(total.sum()), 'trade')}: {words}. Most of them, "
        f"{count(int(total[busiest]))}, are of period {data.period[busiest]}."
    )
    return Figure("activity", title, canvas.render(), caption)


def volume(data: RunData) -> Figure:
    """Energy and value of settled trades, by period (figure 6.15)."""
    title = "Energy and money by period"
    a = _trades_of(data)
    if a is None:
        return Figure("volume", title, "", NO_TRADES)
    settled = data.summary.get("settlement") is not None
    status = "settled" if settled else "unsettled"
    energy, value = a.energy_kwh[status], a.value[status]
    what = "settled trades" if settled else "trades"
    canvas = Canvas(f"Energy and value of {what} by period", 400)
    edges = data.edges_h
    ticks, labels = hour_ticks(edges)
    across = (float(edges[0]), float(edges[-1]))
    for values, top, bottom, name, colour, last in (
        (energy, 2.0, 195.0, "Energy [kWh]", "blue", False),
        (value, 200.0, 400.0, f"Value [{data.currency}]", "orange", True),
    ):
        axes = Axes(
            canvas, top, bottom, across, padded(values, True), "Hour" if last else "", name,
            x_ticks=ticks, x_labels=labels,
        )  # fmt: skip
        x, y = steps(edges, values)
        axes.band(x, np.zeros(len(x)), y, colour, 0.85)
    mean = ""
    if energy.sum():
        mean = f", {number(value.sum() / energy.sum())} {data.currency}/kWh on average"
    caption = (
        f"The {what} move {number(float(energy.sum()), 5)} kWh for "
        f"{number(float(value.sum()), 4)} {data.currency}{mean}."
    )
    return Figure("volume", title, canvas.render(), caption)


def sellers(data: RunData) -> Figure:
    """Energy by seller and period (figure 6.16)."""
    title = "Who sells when"
    a = _trades_of(data)
    if a is None or not a.seller_kwh.any():
        return Figure("sellers", title, "", NO_TRADES if a is None else "Every trade was rejected.")
    kept = np.sort(np.argsort(-a.seller_kwh.sum(axis=1), kind="stable")[:MAX_SELLERS])
    ids, cell = a.seller[kept], a.seller_kwh[kept]
    left, top = 46.0, 18.0
    wide = (WIDTH - 8 - left) / len(data.period)
    tall = min(22.0, 400.0 / len(ids))
    bottom = top + tall * len(ids)
    canvas = Canvas("Energy sold by seller and period", bottom + 84)
    canvas.text(2, 11, "Seller", style="muted")
    most = float(cell.max())
    gap = 0.7 if wide > 4 else 0.0
    for i, t in zip(*np.nonzero(cell), strict=True):
        name = "grid" if ids[i] == GRID_ID else str(ids[i])
        told = f"{name}, period {data.period[t]}: {number(float(cell[i, t]))} kWh"
        canvas.rect(
            left + t * wide, top + i * tall, wide - gap, max(tall - 0.7, 0.5), "blue",
            opacity=0.1 + 0.9 * float(cell[i, t]) / most, title=told if cell.size <= 2500 else "",
        )  # fmt: skip
    for i in range(0, len(ids), max(1, int(np.ceil(13 / tall)))):
        name = "grid" if ids[i] == GRID_ID else str(ids[i])
        canvas.text(left - 5, top + (i + 0.5) * tall + 4, name, "end", size=11)
    edges = data.edges_h
    ticks, labels = hour_ticks(edges)
    hour = (WIDTH - 8 - left) / float(edges[-1] - edges[0])
    for tick, label in zip(ticks, labels, strict=True):
        canvas.text(left + (tick - float(edges[0])) * hour, bottom + 13, label, "middle", size=11)
    canvas.rule(left, bottom + 0.5, WIDTH - 8, bottom + 0.5, "axis")
    canvas.rule(left - 0.5, top, left - 0.5, bottom, "axis")
    canvas.text(left, bottom + 30, "Hour", style="muted")
    canvas.ramp(left, bottom + 44, number(most), "kWh in a period")
    active = (a.seller_kwh > 0).sum(axis=1)
    steady = int(np.argmax(active))
    name = "the grid" if a.seller[steady] == GRID_ID else f"prosumer {a.seller[steady]}"
    caption = (
        f"{plural(len(a.seller), 'participant')} sell; {name} in most periods, "
        f"{active[steady]} of {len(data.period)}."
    )
    if len(a.seller) > len(ids):
        caption += f" Shown are the {MAX_SELLERS} that sell most."
    return Figure("sellers", title, canvas.render(), caption)
