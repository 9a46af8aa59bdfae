"""Figures of a run, each after one of the thesis' chapter 6, as inline SVG."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.results.figure import HEAVY, LOAD_LEGEND, RECONSTRUCTED, Figure, percent, use_colour
from raygrid.results.learning_figures import learning_figures
from raygrid.results.maps import grid_map, trade_map
from raygrid.results.run_data import Lines, RunData, Storage
from raygrid.results.settlement_figures import settlement_figures
from raygrid.results.summary import LIMIT_TOLERANCE
from raygrid.results.svg import WIDTH, Axes, Canvas, hour_ticks, number, padded, plural, steps

COLOURS = {
    "generation": "orange",
    "import": "grey",
    "discharge": "green",
    "elastic demand": "blue",
    "fixed load": "sky",
    "charge": "pink",
    "EV": "red",
    "shifted load": "yellow",
    "export": "grey",
}
CYCLE = ("blue", "orange", "green", "pink", "red", "sky", "yellow", "grey")
MAX_BARS = 40
MAX_LINES_SHOWN = 1000
"""Of more lines only the fullest are drawn: a page holds no hundred thousand bars."""


def figures(data: RunData, other: RunData | None = None) -> list[Figure]:
    """All figures of a run, in reading order.

    Parameters
    ----------
    data : RunData
        The run.
    other : RunData or None
        A run on the same network, whose line use is shown beside.
    """
    return [
        dispatch(data),
        prices(data),
        line_use(data, other),
        grid_map(data),
        storage(data),
        trade_map(data),
        *learning_figures(data),
        *settlement_figures(data),
        convergence(data),
        welfare(data),
    ]


def _longest_day(c: dict[str, FloatArray]) -> tuple[dict[str, FloatArray], str]:
    """The rounds of the day that took most of them, and which it is where there are several."""
    day = c.get("day")
    if day is None or day.min() == day.max():
        return c, ""
    days, counts = np.unique(day, return_counts=True)
    longest = days[np.argmax(counts)]
    said = f"Day {longest}, which took most of the {len(days)} days. "
    return {name: values[day == longest] for name, values in c.items()}, said


def convergence(data: RunData) -> Figure:
    """Residuals by iteration (figure 6.3)."""
    title = "Convergence of ADMM"
    c = data.convergence
    if c is None or not len(c["iteration"]):
        return Figure("convergence", title, "", "The market was not cleared by ADMM.")
    c, day = _longest_day(c)
    entries = [
        ("primal residual", "blue"),
        ("its tolerance", "blue-"),
        ("dual residual", "red"),
        ("its tolerance", "red-"),
    ]
    canvas = Canvas("Primal and dual residual by iteration, logarithmic", 290)
    top = canvas.legend(entries, 2)
    names = ("primal_residual", "dual_residual", "primal_tolerance", "dual_tolerance")
    values = np.concatenate([c[name] for name in names])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min() / 1.5, values.max() * 1.5) if len(values) else (1e-3, 1.0)
    # At least one labelled power of ten on either side.
    low, high = min(low, 10 ** np.floor(np.log10(high))), max(high, 10 ** np.ceil(np.log10(low)))
    k = c["iteration"]
    last = float(k[-1])
    axes = Axes(
        canvas, top, 290, (float(k[0]), max(last, float(k[0]) + 1)), (float(low), float(high)),
        "Iteration", "Residual [kW]", log_y=True, x_ticks=_iteration_ticks(float(k[0]), last),
    )  # fmt: skip
    axes.plot(k, c["primal_tolerance"], "blue", "line dash")
    axes.plot(k, c["dual_tolerance"], "red", "line dash")
    axes.plot(k, c["primal_residual"], "blue")
    axes.plot(k, c["dual_residual"], "red")
    clearing = data.summary["clearing"] or {}
    status = str(clearing.get("status", "unfinished")).replace("_", " ")
    caption = day + (
        f"{plural(len(k), 'iteration')}, {status}. ADMM stops when both residuals are below their "
        f"tolerances (size-weighted norms over all prosumers and periods)."
    )
    if data.reconstructed:
        caption += f" Iterations: {RECONSTRUCTED}."
    return Figure("convergence", title, canvas.render(), caption)


def welfare(data: RunData) -> Figure:
    """Welfare beside the central benchmark, and the gap (figure 6.4)."""
    title = "Welfare beside the benchmark"
    clearing, central = data.summary["clearing"], data.summary["central"]
    bound = data.manifest["welfare_bound"]
    if clearing is None or clearing["welfare"] is None:
        return Figure("welfare", title, "", "The market was not cleared.")
    ours = float(clearing["welfare"])
    bars = [("peer-to-peer", ours, "blue")]
    if central is not None and central["welfare"] is not None:
        bars.append(("central optimum", float(central["welfare"]), "grey"))
    if bound is not None:
        bars.append(("upper bound", float(bound), "yellow"))
    canvas = Canvas("Welfare of the final schedule and of the benchmark", 44 + 34 * len(bars))
    values = np.array([value for _, value, _ in bars])
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    left, right = 112.0, WIDTH - 84
    scale = (right - left) / ((high - low) or 1.0)
    zero = left - low * scale
    for row, (name, value, colour) in enumerate(bars):
        y = 8 + 34 * row
        canvas.text(left - 8, y + 17, name, "end")
        start, end = sorted((zero, zero + value * scale))
        canvas.rect(start, y, max(end - start, 1), 24, colour)
        canvas.text(end + 6, y + 17, number(value, 6))
    bottom = 8 + 34 * len(bars)
    canvas.rule(zero, 4, zero, bottom, "axis")
    canvas.text(left, bottom + 22, f"Welfare over the horizon [{data.currency}]", style="muted")
    if central is not None and central["gap"] is not None:
        caption = f"The gap to the central optimum is {percent(central['gap'], 2)}."
    elif bound is not None and bound:
        share = percent(abs(bound - ours) / abs(bound), 2)
        caption = f"No central solve; the optimum is at most {share} above (duality bound)."
    else:
        caption = "The central benchmark did not run, so there is no gap to show."
    return Figure("welfare", title, canvas.render(), caption)


def line_use(data: RunData, other: RunData | None = None) -> Figure:
    """Largest utilisation of each line (figure 6.7), beside another run's where given."""
    title = "How full the lines get"
    lines = data.lines
    if lines.utilisation is None or not len(lines.line):
        return Figure("line-use", title, "", "There are no line flows.")
    use = lines.busiest
    beside = _beside(lines, other)
    known = use if beside is None else np.concatenate([use, beside])
    most = float(known[np.isfinite(known)].max(initial=1.0))
    finite = np.minimum(use, most)
    canvas = Canvas("Largest utilisation of each line", 290)
    entries = list(LOAD_LEGEND)
    if other is not None and beside is not None:
        entries.append((f"{_limits(other)} limits", "ink-"))
    top = canvas.legend(entries, 2)
    few = len(use) <= MAX_BARS
    order = np.arange(len(use)) if few else np.argsort(-finite)[:MAX_LINES_SHOWN]
    shown = len(order)
    every = max(1, -(-shown // 10))
    ticks = list(range(0, shown, every))
    names = [str(lines.line[order[k]]) if few else str(k + 1) for k in ticks]
    axes = Axes(
        canvas, top, 290, (-0.6, shown - 0.4), (0.0, most * 106),
        "Line" if few else "Lines, fullest first", "Largest use over the day [% of limit]",
        x_ticks=ticks, x_labels=names,
    )  # fmt: skip
    width = float(axes.x(1) - axes.x(0)) * (0.72 if few else 1.0)
    zero = float(axes.y(0.0))
    for k, line in enumerate(order):
        x, y = float(axes.x(k)), float(axes.y(finite[line] * 100))
        name = f"line {lines.line[line]} ({lines.from_bus[line]}–{lines.to_bus[line]})"
        canvas.rect(
            x - width / 2, y, max(width, 0.3), zero - y, use_colour(use[line]),
            title=f"{name}: {percent(use[line])}" if shown <= 300 else "",
        )  # fmt: skip
        if beside is not None:
            at = float(axes.y(min(beside[line], most) * 100))
            canvas.line([x - width / 2, x + width / 2], [at, at], "ink", width=2.0)
    axes.level(100.0, "red")
    worst = int(np.argmax(finite))
    heavy = int((use >= HEAVY).sum())
    over = int((use > 1 + LIMIT_TOLERANCE).sum())
    limits = "enforced" if data.manifest["network_constrained"] else "not enforced"
    caption = (
        f"Line {lines.line[worst]} ({lines.from_bus[worst]}–{lines.to_bus[worst]}) is the fullest "
        f"at {percent(use[worst])}; {heavy} of {len(use)} lines reach 80 %, {over} exceed "
        f"their limit. Limits were {limits}."
    )
    if lines.kept_free:
        caption += f" Markets kept {percent(lines.kept_free, 2)} of each free."
    if shown < len(use):
        caption += f" Shown are the {shown} fullest lines."
    if other is not None and beside is not None:
        worst = int(np.argmax(beside))
        caption += (
            f" Run {other.manifest['run_id']} ({_limits(other)} limits, dashes) fills line "
            f"{lines.line[worst]} to {percent(beside[worst])}."
        )
    return Figure("line-use", title, canvas.render(), caption)


def dispatch(data: RunData) -> Figure:
    """Who feeds and who uses power, by period (figure 6.8)."""
    title = "Supply and use of power"
    if data.supply_kw is None or data.use_kw is None or not len(data.period):
        return Figure("dispatch", title, "", "There is no schedule.")
    up = {name: kw for name, kw in data.supply_kw.items() if np.abs(kw).max() > 1e-9}
    down = {name: kw for name, kw in data.use_kw.items() if np.abs(kw).max() > 1e-9}
    entries = {name: COLOURS[name] for name in [*up, *down]}
    # One colour for the grid, which never takes and gives at once.
    if "import" in entries and "export" in entries:
        del entries["export"]
        entries = {("grid" if n == "import" else n): colour for n, colour in entries.items()}
    canvas = Canvas("Stacked supply (up) and use (down) of power by period", 320)
    top = canvas.legend(list(entries.items()), 2)
    total_up = sum(up.values(), np.zeros(len(data.period)))
    total_down = sum(down.values(), np.zeros(len(data.period)))
    span = padded(np.concatenate([total_up, -total_down]), include_zero=True)
    edges = data.edges_h
    axes = _hour_axes(canvas, top, 320, edges, span, "Supply (up) and use (down) [kW]")
    for stack, sign in ((up, 1.0), (down, -1.0)):
        base = np.zeros(len(data.period))
        for name, kw in stack.items():
            x, low = steps(edges, base)
            base = base + sign * kw
            axes.band(x, low, steps(edges, base)[1], COLOURS[name], 0.92)
    axes.canvas.rule(axes.x.start, float(axes.y(0)), axes.x.end, float(axes.y(0)), "axis")
    dt = float(data.manifest["period_hours"])
    imported = float(data.supply_kw["import"].sum() * dt)
    caption = (
        f"Generation {number(data.supply_kw['generation'].sum() * dt, 4)} kWh, import "
        f"{number(imported, 4)} kWh, elastic demand "
        f"{number(data.use_kw['elastic demand'].sum() * dt, 4)} kWh, fixed load "
        f"{number(data.use_kw['fixed load'].sum() * dt, 4)} kWh over the horizon."
    )
    return Figure("dispatch", title, canvas.render(), caption)


def storage(data: RunData) -> Figure:
    """State of charge, and charging and discharging (figure 6.9)."""
    title = "Batteries"
    s = data.storage
    if s is None:
        return Figure("storage", title, "", "No battery held or moved energy.")
    few = s.count <= len(CYCLE)
    canvas = Canvas("State of charge, and charging and discharging power", 400)
    x = data.edges_h
    if few:
        soc = np.column_stack([s.initial_kwh, s.soc_kwh])
        names = [f"prosumer {who}" for who in s.prosumer_id]
        top = canvas.legend(list(zip(names, CYCLE, strict=False)), 2)
        axes = _hour_axes(
            canvas, top, 245, x, (0.0, padded(soc, True)[1]), "State of charge [kWh]", False
        )
        for row, colour in zip(soc, CYCLE, strict=False):
            axes.plot(x, row, colour)
    else:
        share = _charge_shares(s) * 100
        entries = [("10th to 90th percentile", "sky"), ("median", "blue"), ("mean", "orange-")]
        top = canvas.legend(entries, 2)
        axes = _hour_axes(
            canvas, top, 245, x, (0.0, 104.0), "State of charge [% of capacity]", False
        )
        low, middle, high = np.percentile(share, [10, 50, 90], axis=0)
        axes.band(x, low, high, "sky", 0.35)
        axes.plot(x, middle, "blue")
        axes.plot(x, share.mean(axis=0), "orange", "line dash")
    net = s.charge_kw - s.discharge_kw
    power = _hour_axes(
        canvas, 250, 400, x, padded(net, True), "All batteries: charging (+), discharging (−) [kW]"
    )
    sx, sy = steps(x, net)
    zeros = np.zeros(len(sx))
    power.band(sx, zeros, np.maximum(sy, 0), "pink", 0.85)
    power.band(sx, np.minimum(sy, 0), zeros, "green", 0.85)
    canvas.rule(power.x.start, float(power.y(0)), power.x.end, float(power.y(0)), "axis")
    dt = float(data.manifest["period_hours"])
    caption = (
        f"{plural(s.count, 'battery', 'batteries')} with "
        f"{number(s.total_kwh, 4)} kWh took "
        f"{number(s.charge_kw.sum() * dt, 4)} kWh and gave "
        f"{number(s.discharge_kw.sum() * dt, 4)} kWh."
    )
    if len(s.prosumer_id) < s.count:
        caption += f" States of charge are those of {len(s.prosumer_id)} of them."
    return Figure("storage", title, canvas.render(), caption)


def prices(data: RunData) -> Figure:
    """Locational and settlement prices (figure 6.13)."""
    title = "Prices"
    p = data.prices
    if p is None or not len(data.period):
        return Figure("prices", title, "", "There are no prices.")
    low, high, mean = p.lmp.min(axis=0), p.lmp.max(axis=0), p.lmp.mean(axis=0)
    shown = np.concatenate([low, high, p.settlement])
    entries = [
        ("local price, lowest to highest", "sky"),
        ("its mean", "blue"),
        ("settlement price", "orange"),
    ]
    tariffs = []
    for name, label in (("import_price_per_kwh", "import"), ("export_price_per_kwh", "export")):
        tariff = data.tariffs[name] if data.tariffs else np.zeros(0)
        # A price that only penalises imports would squash all others.
        if len(tariff) == len(data.period) and tariff.any() and tariff.max() <= 3 * shown.max():
            colour = "grey" if label == "import" else "green"
            tariffs.append((tariff, colour))
            entries.append((f"{label} tariff", f"{colour}-"))
    canvas = Canvas("Locational and settlement prices by period", 300)
    top = canvas.legend(entries, 2)
    span = padded(np.concatenate([shown, *[tariff for tariff, _ in tariffs]]))
    edges = data.edges_h
    axes = _hour_axes(canvas, top, 300, edges, span, f"Price [{data.currency}/kWh]")
    x, band_low = steps(edges, low)
    axes.band(x, band_low, steps(edges, high)[1], "sky", 0.4)
    for tariff, colour in tariffs:
        axes.plot(*steps(edges, tariff), colour, "line dash")
    axes.plot(*steps(edges, mean), "blue")
    axes.plot(*steps(edges, p.settlement), "orange")
    spread = high - low
    widest = int(np.argmax(spread))
    caption = (
        f"Local prices lie between {number(float(low.min()))} and {number(float(high.max()))} "
        f"{data.currency}/kWh; they differ most between buses in period "
        f"{data.period[widest]}, by {number(float(spread[widest]))}."
        if spread.max() > 1e-6
        else f"Prices lie between {number(float(low.min()))} and {number(float(high.max()))} "
        f"{data.currency}/kWh and are the same at every bus."
    )
    return Figure("prices", title, canvas.render(), caption)


def _beside(lines: Lines, other: RunData | None) -> FloatArray | None:
    if other is None or other.lines.utilisation is None:
        return None
    if not np.array_equal(lines.line, other.lines.line):
        raise InputError(
            "its network has other lines",
            f"run {other.manifest['run_id']}",
            "compare with a run on the same network",
        )
    return other.lines.busiest


def _limits(data: RunData) -> str:
    return "with" if data.manifest["network_constrained"] else "without"


def _charge_shares(s: Storage) -> FloatArray:
    soc = np.column_stack([s.initial_kwh, s.soc_kwh])
    capacity = np.where(s.capacity_kwh > 0, s.capacity_kwh, np.inf)
    return np.asarray(soc / capacity[:, None])


def _iteration_ticks(first: float, last: float) -> list[float]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if (last - first) / s <= 7)
    return [float(k) for k in range(int(first), int(last) + 1) if k % step == 0] or [first]


def _hour_axes(
    canvas: Canvas,
    top: float,
    bottom: float,
    edges: FloatArray,
    y_range: tuple[float, float],
    y_title: str,
    titled: bool = True,
) -> Axes:
    ticks, labels = hour_ticks(edges)
    return Axes(
        canvas, top, bottom, (float(edges[0]), float(edges[-1])), y_range,
        "Hour" if titled else "", y_title,
        x_ticks=ticks, x_labels=labels,
    )  # fmt: skip
