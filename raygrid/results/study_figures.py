"""Figures of a study as inline SVG: time against size, scaling, iterations, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raygrid.results.figure import Figure
from raygrid.results.figures import CYCLE
from raygrid.results.study import (
    Group,
    Scaling,
    fit_power_law,
    size_series,
    strong_scaling,
    weak_scaling,
)
from raygrid.results.svg import Axes, Canvas, number, padded, plural

HEIGHT = 300.0
MAX_SERIES = len(CYCLE)


def study_figures(groups: Sequence[Group]) -> list[Figure]:
    """All figures of a study, in reading order; what a study does not vary is said.

    Parameters
    ----------
    groups : sequence of Group
        From `group_runs`.
    """
    return [
        time_by_size(groups),
        _scaling("strong", "Strong scaling", strong_scaling(groups)),
        _scaling("weak", "Weak scaling", weak_scaling(groups)),
        iterations_by_size(groups),
        memory_by_size(groups),
    ]


def time_by_size(groups: Sequence[Group]) -> Figure:
    """Median time to clear against prosumers with the fitted power laws."""
    title = "Time against prosumers"
    series = _series_of(groups, lambda group: group.clear_seconds)
    if not series:
        return Figure("time", title, "", "No two sizes of the same community to compare.")
    canvas = Canvas("Time to clear against prosumers, logarithmic, with fitted power laws", HEIGHT)
    axes = _log_axes(canvas, series, "Time to clear [s]")
    told = []
    for colour, (name, x, y) in zip(CYCLE, series, strict=False):
        law = fit_power_law(x, y)
        assert law is not None
        ends = np.array([x[0], x[-1]])
        axes.plot(ends, law.factor * ends**law.exponent, colour, "line dash")
        _dots(canvas, axes, name, x, y, colour, "s")
        error = f" ± {law.error:.2f}" if np.isfinite(law.error) else ""
        told.append(f"{name}: exponent {law.exponent:.2f}{error}, R² {law.r_squared:.3f}")
    caption = (
        "Medians over seeds and repeats; dashed: time = c · prosumers^exponent by least squares "
        "of the logarithms (1 is linear; ± one standard error). " + "; ".join(told) + "."
    )
    return Figure("time", title, canvas.render(), caption + _left_out(groups))


def iterations_by_size(groups: Sequence[Group]) -> Figure:
    """Median and worst iterations against prosumers."""
    title = "Iterations against prosumers"
    series = _series_of(groups, lambda group: group.iterations)
    if not series:
        return Figure("iterations", title, "", "No two sizes of the same community to compare.")
    canvas = Canvas("Iterations against prosumers", HEIGHT)
    top = canvas.legend(_legend(series), 2)
    worst = [group.most_iterations for group in groups]
    axes = Axes(
        canvas, top, HEIGHT, _log_range([x for _, xs, _ in series for x in xs]),
        (0.0, padded(worst, include_zero=True)[1]), "Prosumers", "Iterations of ADMM", log_x=True,
    )  # fmt: skip
    for colour, (name, x, y) in zip(CYCLE, series, strict=False):
        axes.plot(x, y, colour)
        _dots(canvas, axes, name, x, y, colour, "iterations")
    for members in size_series(groups).values():
        for group in members:
            at, level = float(axes.x(group.prosumers)), float(axes.y(group.most_iterations))
            canvas.rule(at - 4, level, at + 4, level, "axis")
    caption = "Lines: medians over seeds and repeats; short bars: the worst run of each."
    return Figure("iterations", title, canvas.render(), caption + _left_out(groups))


def memory_by_size(groups: Sequence[Group]) -> Figure:
    """Peak memory of all processes against prosumers."""
    title = "Memory against prosumers"
    known = [group for group in groups if group.memory_bytes is not None]
    series = _series_of(known, lambda group: (group.memory_bytes or 0) / 1024**3)
    if not series:
        return Figure("memory", title, "", "No two sizes whose memory was measured.")
    canvas = Canvas("Memory against prosumers, logarithmic", HEIGHT)
    axes = _log_axes(canvas, series, "Peak memory of all processes [GiB]")
    told = []
    for colour, (name, x, y) in zip(CYCLE, series, strict=False):
        axes.plot(x, y, colour)
        _dots(canvas, axes, name, x, y, colour, "GiB")
        each = (y[-1] - y[0]) * 1024**2 / (x[-1] - x[0])
        told.append(f"{name}: {number(each)} KiB per further prosumer")
    caption = (
        "Sum of the peak resident memory of driver, hosts and operator, shared pages counted in "
        "each. " + "; ".join(told) + "."
    )
    return Figure("memory", title, canvas.render(), caption + _left_out(groups))


def _scaling(kind: str, title: str, found: Sequence[Scaling]) -> Figure:
    """Speed-up and parallel efficiency against CPUs."""
    if not found:
        missing = "problem" if kind == "strong" else "number of prosumers per CPU"
        return Figure(kind, title, "", f"No {missing} was run on several numbers of CPUs.")
    canvas = Canvas(f"{title}: speed-up and parallel efficiency by CPUs", 480.0)
    shown = found[:MAX_SERIES]
    top = canvas.legend([*((s.name, c) for s, c in zip(shown, CYCLE, strict=False)),
                         ("ideal", "grey-")], 2)  # fmt: skip
    cpus = sorted({point.cpus for series in shown for point in series.points})
    x_range = (cpus[0] / 1.15, cpus[-1] * 1.15)
    ticks = [float(value) for value in cpus]
    labels = [str(value) for value in cpus]
    speed = [point.speedup for series in shown for point in series.points]
    share = [point.efficiency * 100 for series in shown for point in series.points]
    middle = top + (480.0 - top) / 2
    above = Axes(
        canvas, top, middle, x_range, (0.0, padded([*speed, cpus[-1] / cpus[0]], True)[1]), "",
        "(a) Speed-up", x_ticks=ticks, x_labels=labels, log_x=True,
    )  # fmt: skip
    below = Axes(
        canvas, middle + 6, 480.0, x_range, (0.0, padded([*share, 100.0], True)[1]), "CPUs",
        "(b) Parallel efficiency [%]", x_ticks=ticks, x_labels=labels, log_x=True,
    )  # fmt: skip
    ideal = np.geomspace(cpus[0], cpus[-1], 30)
    above.plot(ideal, ideal / cpus[0], "grey", "line dash")
    below.plot(ideal, np.full_like(ideal, 100.0), "grey", "line dash")
    for colour, series in zip(CYCLE, shown, strict=False):
        x = np.array([point.cpus for point in series.points], dtype=np.float64)
        above.plot(x, [point.speedup for point in series.points], colour)
        below.plot(x, [point.efficiency * 100 for point in series.points], colour)
        for point in series.points:
            told = f"{series.name}, {plural(point.cpus, 'CPU')}: {number(point.seconds)} s"
            for axes, value in ((above, point.speedup), (below, point.efficiency * 100)):
                at, y = float(axes.x(point.cpus)), float(axes.y(value))
                canvas.circle(at, y, 4.0, colour, told)
    caption = (
        "The same problem on ever more CPUs: speed-up t₁ / t, efficiency t₁ c₁ / (t c)."
        if kind == "strong"
        else "Problems that grow with the CPUs: speed-up of prosumers per time, efficiency t₁ / t."
    )
    if len(found) > MAX_SERIES:
        caption += f" {len(found) - MAX_SERIES} more series are in the table only."
    return Figure(kind, title, canvas.render(), caption)


_Series = tuple[str, list[float], list[float]]


def _series_of(groups: Sequence[Group], value: Callable[[Group], float]) -> list[_Series]:
    """Name, sizes and values of each series, as many as there are colours."""
    found = size_series(groups)
    several = len({cpus for _, cpus in found}) > 1
    return [
        (
            f"{name}, {plural(cpus, 'CPU')}" if several else name,
            [float(group.prosumers) for group in members],
            [float(value(group)) for group in members],
        )
        for (name, cpus), members in list(found.items())[:MAX_SERIES]
    ]


def _left_out(groups: Sequence[Group]) -> str:
    more = len(size_series(groups)) - MAX_SERIES
    return f" {more} more series are in the table only." if more > 0 else ""


def _log_axes(canvas: Canvas, series: Sequence[_Series], y_title: str) -> Axes:
    top = canvas.legend(_legend(series), 2)
    x = [value for _, xs, _ in series for value in xs]
    y = [value for _, _, ys in series for value in ys]
    return Axes(
        canvas, top, HEIGHT, _log_range(x), _log_range(y), "Prosumers", y_title, log_x=True,
        log_y=True,
    )  # fmt: skip


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    """The values with a margin and at least one power of ten to label on either side."""
    low, high = min(values) / 1.3, max(values) * 1.3
    low = min(low, 10.0 ** np.floor(np.log10(high)))
    high = max(high, 10.0 ** np.ceil(np.log10(low)))
    return float(low), float(high)


def _legend(series: Sequence[_Series]) -> list[tuple[str, str]]:
    return [(name, colour) for (name, _, _), colour in zip(series, CYCLE, strict=False)]


def _dots(
    canvas: Canvas, axes: Axes, name: str, x: Sequence[float], y: Sequence[float], colour: str,
    unit: str,
) -> None:  # fmt: skip
    for size, value, at, level in zip(x, y, axes.x(x), axes.y(y), strict=True):
        told = f"{name}, {number(size, 7)} prosumers: {number(value)} {unit}"
        canvas.circle(float(at), float(level), 4.0, colour, told)
