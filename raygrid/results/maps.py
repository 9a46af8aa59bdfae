"""Figures in space: who trades with whom, and where the grid is full."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.population import GRID_ID
from raygrid.results.figure import LOAD_LEGEND, Figure, percent, use_colour
from raygrid.results.run_data import RunData
from raygrid.results.svg import WIDTH, Canvas, count, number, plural

MAX_CELLS = 50
MAX_MAP_BUSES = 3000


def trade_map(data: RunData) -> Figure:
    """Energy between sellers and buyers (figure 6.11)."""
    title = "Who trades with whom"
    pairs = data.pairs
    if pairs is None:
        return Figure("trades", title, "", "There are no trades.")
    if not len(pairs.energy_kwh):
        none = "Nobody traded: no pair exchanges any energy."
        many = f"{count(pairs.trades)} trades are too many for a picture of their pairs."
        return Figure("trades", title, "", many if pairs.trades else none)
    seller, buyer, who = pairs.seller, pairs.buyer, "prosumer"
    if max(len(np.unique(seller)), len(np.unique(buyer))) > MAX_CELLS:
        seller, buyer, who = _buses(data, seller), _buses(data, buyer), "bus"
    rows, r, left_out_rows = _largest(seller, pairs.energy_kwh)
    columns, c, left_out_columns = _largest(buyer, pairs.energy_kwh)
    cell = np.zeros((len(rows) + 1, len(columns) + 1))
    np.add.at(cell, (r, c), pairs.energy_kwh)
    cell = cell[:-1, :-1]
    left, right = 46.0, WIDTH - 8
    side = min((right - left) / len(columns), 30.0)
    tall = min(side, 400.0 / len(rows))
    top, bottom = 18.0, 18.0 + tall * len(rows)
    canvas = Canvas("Energy traded between sellers and buyers", bottom + 84)
    canvas.text(2, 11, "Seller" if who == "prosumer" else "Seller's bus", style="muted")
    most = float(cell.max()) or 1.0
    for i, j in zip(*np.nonzero(cell), strict=True):
        canvas.rect(
            left + j * side, top + i * tall, max(side - 0.7, 0.5), max(tall - 0.7, 0.5), "blue",
            opacity=0.1 + 0.9 * float(cell[i, j]) / most,
            title=f"{rows[i]} → {columns[j]}: {number(float(cell[i, j]))} kWh",
        )  # fmt: skip
    every = max(1, int(np.ceil(13 / tall)))
    for i in range(0, len(rows), every):
        name = _name(int(rows[i]), who)
        canvas.text(left - 5, top + (i + 0.5) * tall + 4, name, "end", size=11)
    every = max(1, int(np.ceil((6.5 * max(len(_name(int(b), who)) for b in columns) + 4) / side)))
    for j in range(0, len(columns), every):
        name = _name(int(columns[j]), who)
        canvas.text(left + (j + 0.5) * side, bottom + 13, name, "middle", size=11)
    canvas.rule(left, bottom + 0.5, left + side * len(columns), bottom + 0.5, "axis")
    canvas.rule(left - 0.5, top, left - 0.5, bottom, "axis")
    canvas.text(left, bottom + 30, "Buyer" if who == "prosumer" else "Buyer's bus", style="muted")
    canvas.ramp(left, bottom + 44, number(most), "kWh over the horizon")
    active = len(pairs.energy_kwh)
    caption = (
        f"{count(pairs.trades)} trades between {count(active)} pairs of seller and buyer, "
        f"{number(float(pairs.energy_kwh.sum()), 5)} kWh worth "
        f"{number(pairs.value, 4)} {data.currency}."
    )
    if left_out_rows or left_out_columns:
        caption += f" Shown are the {MAX_CELLS} largest of each side."
    return Figure("trades", title, canvas.render(), caption)


def grid_map(data: RunData) -> Figure:
    """The grid, its lines by their largest utilisation."""
    title = "The grid and its loaded lines"
    n = len(data.bus)
    if n > MAX_MAP_BUSES:
        return Figure("map", title, "", f"{n} buses are too many for a map on a page.")
    xy = data.bus_xy
    rows = len(np.unique(np.round(xy[:, 1], 6)))
    height = float(np.clip(30 * rows + 40, 110, 380))
    canvas = Canvas("Map of the grid with its lines by utilisation", height + 58)
    top = canvas.legend(LOAD_LEGEND, 2)
    x, y = _fit(xy, top + 20, height + 32)
    lines = data.lines
    use = lines.busiest
    a, b = np.searchsorted(data.bus, lines.from_bus), np.searchsorted(data.bus, lines.to_bus)
    small = n > 200
    for k in np.argsort(use):
        known = lines.utilisation is not None
        canvas.line(
            [x[a[k]], x[b[k]]], [y[a[k]], y[b[k]]], use_colour(use[k]) if known else "grey",
            width=(1.0 if small else 1.8) + (1.5 if small else 3.2) * min(float(use[k]), 1.2),
            title=f"line {lines.line[k]} ({lines.from_bus[k]}–{lines.to_bus[k]}): "
            f"{percent(use[k])}",
        )  # fmt: skip
    most = max(int(data.prosumers_at_bus.max(initial=0)), 1)
    share = np.sqrt(data.prosumers_at_bus / most)
    sizes = (1.2 + 2.2 * share if small else 2.6 + 4.0 * share).tolist()
    sizes[data.slack] = 6.0
    for k in range(n):
        homes = int(data.prosumers_at_bus[k])
        if k == data.slack:
            canvas.rect(x[k] - 6, y[k] - 6, 12, 12, "ink", title=f"bus {data.bus[k]}: slack")
        else:
            canvas.circle(
                x[k], y[k], sizes[k], "green" if homes else "grey",
                title=f"bus {data.bus[k]}: {plural(homes, 'prosumer')}",
            )  # fmt: skip
    if n <= 60:
        for k in range(n):
            canvas.text(x[k], y[k] - sizes[k] - 4, str(data.bus[k]), "middle", "halo", 11)
    canvas.text(2, height + 54, "■ slack bus   ● bus, larger with more prosumers", style="muted")
    caption = "Lines are thicker the fuller they get." if lines.utilisation is not None else ""
    if data.schematic:
        caption += " Drawn by the network's structure, not by geography."
    return Figure("map", title, canvas.render(), caption.strip())


def _name(number_: int, who: str) -> str:
    return "grid" if who == "prosumer" and number_ == GRID_ID else str(number_)


def _buses(data: RunData, prosumers: IntArray) -> IntArray:
    return data.prosumer_bus[np.searchsorted(data.prosumer_id, prosumers)]


def _largest(who: IntArray, energy: FloatArray) -> tuple[IntArray, IntArray, bool]:
    """The `MAX_CELLS` with most energy, each entry's position among them (last: others)."""
    ids, at = np.unique(who, return_inverse=True)
    total = np.bincount(at, weights=energy)
    kept = np.sort(np.argsort(-total)[:MAX_CELLS])
    position = np.full(len(ids), len(kept))
    position[kept] = np.arange(len(kept))
    return ids[kept], position[at], len(ids) > len(kept)


def _fit(xy: FloatArray, top: float, bottom: float) -> tuple[list[float], list[float]]:
    low, span = xy.min(axis=0), np.ptp(xy, axis=0)
    width, tall = WIDTH - 36, bottom - top
    share = (xy - low) / np.where(span > 0, span, 1.0)
    share[:, span == 0] = 0.5
    return (18 + share[:, 0] * width).tolist(), (top + share[:, 1] * tall).tolist()
