"""Small charts as inline SVG: text stays text, colours follow the page's light or dark theme.

Drawn by hand rather than by a plotting library: a report of ten figures takes milliseconds, a
few kilobytes each, and stays readable at a phone's width. One unit of length is one CSS pixel
at the width of a phone's screen (`WIDTH`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from raygrid.arrays import FloatArray

WIDTH = 400.0
_LETTER = 6.4
"""Width of a letter of the labels, on the safe side."""

STYLE = """
svg.chart{--ink:#1c2430;--muted:#667085;--rule:#dfe3ea;--paper:#ffffff;
--blue:#0072b2;--orange:#e69f00;--green:#009e73;--red:#d55e00;--pink:#cc79a7;--sky:#56b4e9;
--yellow:#d9c400;--grey:#8a93a1;font:12px system-ui,-apple-system,"Segoe UI",sans-serif}
@media (prefers-color-scheme:dark){svg.chart{--ink:#e8ebf0;--muted:#a4adba;--rule:#343c48;
--paper:#1b212a;--blue:#4aa8e0;--orange:#f0b429;--green:#2fc79b;--red:#ff8742;--pink:#e29bc4;
--sky:#8fd0f5;--yellow:#f0e442;--grey:#8a93a1}}
@media print{svg.chart{--ink:#1c2430;--muted:#555f6e;--rule:#d5d9e0;--paper:#ffffff;
--blue:#0072b2;--orange:#e69f00;--green:#009e73;--red:#d55e00;--pink:#cc79a7;--sky:#56b4e9;
--yellow:#d9c400;--grey:#8a93a1}}
svg.chart text{fill:var(--ink)}svg.chart .muted{fill:var(--muted)}
svg.chart .rule{stroke:var(--rule);fill:none}svg.chart .axis{stroke:var(--muted);fill:none}
svg.chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg.chart .dash{stroke-dasharray:5 4;stroke-width:1.5}
svg.chart .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
"""
"""Style sheet of all charts; the eight colours are Okabe and Ito's, told apart by everyone."""


def number(value: float, digits: int = 3) -> str:
    """A number for people: few digits, a thin space between thousands."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 15 or magnitude < -5:
        return f"{value:.{digits - 1}e}"
    text = f"{value:,.{max(0, digits - 1 - magnitude)}f}".replace(",", "\u2009")
    return text.replace("-", "\u2212")


def count(value: float) -> str:
    """A whole number for people, with a thin space between thousands."""
    return f"{value:,.0f}".replace(",", "\u2009").replace("-", "\u2212")


def plural(value: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About so many round values from `low` to `high`."""
    raw = (high - low) / about
    # A range below the resolution of its numbers has nothing to tick.
    if not raw > 1e-12 * max(abs(low), abs(high)):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, at most about six of them."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / 6))
    return [10.0**k for k in range(first, last + 1) if (k - first) % every == 0]


def _power(value: float) -> str:
    exponent = round(math.log10(value))
    if -3 <= exponent <= 3:
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _tick_label(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    digits += step * 10.0**digits % 1 > 1e-9
    return f"{value:,.{digits}f}".replace(",", "\u2009").replace("-", "\u2212")


@dataclass(frozen=True)
class Scale:
    """Maps values from [low, high] to [start, end] in pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: ArrayLike) -> FloatArray:
        """Pixels of the values; on a log scale what is not positive lies at the low end."""
        v = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.log:
            v = np.log10(np.maximum(v, low))
            low, high = math.log10(low), math.log10(high)
        share = (v - low) / ((high - low) or 1.0)
        return np.asarray(self.start + share * (self.end - self.start))

    def ticks(self, about: int = 5) -> list[float]:
        """Round values on this scale."""
        return (
            log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, about)
        )


def padded(
    values: ArrayLike, include_zero: bool = False, share: float = 0.06
) -> tuple[float, float]:
    """Range of the finite values with a margin, never empty."""
    v = np.asarray(values, dtype=np.float64).ravel()
    v = v[np.isfinite(v)]
    if include_zero or not len(v):
        v = np.append(v, 0.0)
    low, high = float(v.min()), float(v.max())
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    below = 0.0 if include_zero and low == 0 else margin
    above = 0.0 if include_zero and high == 0 and low < 0 else margin
    return low - below, high + above


class Canvas:
    """An SVG picture of the common width; collects elements, escapes every text.

    Parameters
    ----------
    label : str
        What is seen, for those who cannot see it.
    height : float
        Height [px].
    """

    def __init__(self, label: str, height: float) -> None:
        self.label = label
        self.height = height
        self._elements: list[str] = []

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", style: str = "", size: int = 0
    ) -> None:
        """Text with its baseline at y."""
        font = f' font-size="{size}"' if size else ""
        name = f' class="{style}"' if style else ""
        self._elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}{font}>'
            f"{escape(text)}</text>"
        )

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """Filled rectangle; `title` shows when pointed at."""
        see_through = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        self._shape(
            f'rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' style="fill:var(--{colour})"{see_through}',
            title,
        )

    def circle(
        self, x: float, y: float, radius: float, colour: str, title: str = "", ring: bool = True
    ) -> None:
        """Filled dot."""
        edge = ";stroke:var(--paper);stroke-width:1.2" if ring else ""
        self._shape(
            f'circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" style="fill:var(--{colour}){edge}"',
            title,
        )

    def line(
        self,
        x: ArrayLike,
        y: ArrayLike,
        colour: str,
        style: str = "line",
        width: float = 0.0,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """Line through the points."""
        thick = f";stroke-width:{width:.1f}" if width else ""
        see_through = f";stroke-opacity:{opacity:.2f}" if opacity < 1 else ""
        self._shape(
            f'path class="{style}" d="{_path(x, y)}"'
            f' style="stroke:var(--{colour}){thick}{see_through}"',
            title,
        )

    def area(
        self, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str, opacity: float
    ) -> None:
        """Area between two lines."""
        across = np.concatenate([np.asarray(x), np.asarray(x)[::-1]])
        around = np.concatenate([np.asarray(high), np.asarray(low)[::-1]])
        self._elements.append(
            f'<path d="{_path(across, around)}Z" style="fill:var(--{colour})"'
            f' fill-opacity="{opacity:.2f}"/>'
        )

    def rule(self, x1: float, y1: float, x2: float, y2: float, style: str = "rule") -> None:
        """Thin straight line of an axis or a grid."""
        self._elements.append(
            f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )

    def legend(self, entries: Sequence[tuple[str, str]], y: float) -> float:
        """Names beside their colours, in as many rows as they need; returns the y below.

        Parameters
        ----------
        entries : sequence of (str, str)
            Name and colour; a colour that ends in '-' is drawn dashed.
        y : float
            Top [px].
        """
        x = 4.0
        for name, colour in entries:
            needed = 22 + _LETTER * len(name) + 12
            if x > 4 and x + needed > WIDTH:
                x, y = 4.0, y + 17
            if colour.endswith("-"):
                self.line([x, x + 16], [y + 8, y + 8], colour[:-1], "line dash")
            else:
                self.rect(x + 1, y + 3, 14, 9, colour)
            self.text(x + 21, y + 12, name)
            x += needed
        return y + 20 if entries else y

    def ramp(self, x: float, y: float, most: str, unit: str) -> None:
        """Scale of a heat map in blue, from 0 to `most`."""
        for k in range(40):
            self.rect(x + 3 * k, y, 3.2, 10, "blue", opacity=0.1 + 0.9 * k / 39)
        self.text(x, y + 26, "0", "middle")
        self.text(x + 120, y + 26, most, "middle")
        self.text(x + 132, y + 10, unit, style="muted")

    def render(self, standalone: bool = False) -> str:
        """The SVG element; `standalone` makes a file of its own that carries the style sheet."""
        space = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
        style = f"<style>{STYLE}</style>" if standalone else ""
        paper = '<rect width="100%" height="100%" style="fill:var(--paper)"/>' if standalone else ""
        return (
            f'<svg class="chart"{space} viewBox="0 0 {WIDTH:.0f} {self.height:.0f}" role="img"'
            f' aria-label="{escape(self.label)}">{style}{paper}{"".join(self._elements)}</svg>'
        )

    def _shape(self, element: str, title: str) -> None:
        name = element.split(" ", 1)[0]
        inner = f"<title>{escape(title)}</title>" if title else ""
        self._elements.append(f"<{element}>{inner}</{name}>" if inner else f"<{element}/>")


def _path(x: ArrayLike, y: ArrayLike) -> str:
    points = zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


class Axes:
    """A pair of axes on a canvas: grid, ticks, units; `x` and `y` map values to pixels.

    Parameters
    ----------
    canvas : Canvas
        Where they are drawn.
    top, bottom : float
        Vertical space that they fill, labels included [px].
    x_range, y_range : (float, float)
        Ranges of the values.
    x_title, y_title : str
        Names with units; the y title stands above, where it needs no width.
    log_y : bool
        Logarithmic y axis.
    x_ticks : sequence of float or None
        Where to tick; None chooses.
    x_labels : sequence of str or None
        Labels of `x_ticks`; None writes the values.
    log_x : bool
        Logarithmic x axis.
    """

    def __init__(
        self,
        canvas: Canvas,
        top: float,
        bottom: float,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_title: str,
        y_title: str,
        log_y: bool = False,
        x_ticks: Sequence[float] | None = None,
        x_labels: Sequence[str] | None = None,
        log_x: bool = False,
    ) -> None:
        self.canvas = canvas
        down = bottom - (36 if x_title else 20)
        self.y = Scale(*y_range, down, top + 20, log_y)
        ticks = self.y.ticks()
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
        labels = [_power(t) if log_y else _tick_label(t, step) for t in ticks]
        left = 10 + _LETTER * max(map(len, labels), default=0)
        self.x = Scale(*x_range, left, WIDTH - 10, log_x)
        if y_title:
            canvas.text(2, top + 11, y_title, style="muted")
        for value, label in zip(ticks, labels, strict=True):
            at = float(self.y(value))
            canvas.rule(left, at, WIDTH - 10, at)
            canvas.text(left - 5, at + 4, label, "end")
        if x_ticks is None:
            x_ticks = self.x.ticks(6)
        if x_labels is None:
            gap = x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else 0.0
            x_labels = [_power(t) if log_x else _tick_label(t, gap) for t in x_ticks]
        for value, label in zip(x_ticks, x_labels, strict=True):
            at = float(self.x(value))
            canvas.rule(at, down, at, down + 4, "axis")
            canvas.text(at, down + 16, label, "middle")
        canvas.rule(left, down, WIDTH - 10, down, "axis")
        if x_title:
            canvas.text((left + WIDTH - 10) / 2, down + 32, x_title, "middle", "muted")

    def plot(self, x: ArrayLike, y: ArrayLike, colour: str, style: str = "line") -> None:
        """Line through values; gaps where they are not finite."""
        xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        known = np.isfinite(ys)
        if known.any():
            self.canvas.line(self.x(xs[known]), self.y(ys[known]), colour, style)

    def band(
        self, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str, opacity: float
    ) -> None:
        """Area between two lines of values."""
        self.canvas.area(self.x(x), self.y(low), self.y(high), colour, opacity)

    def level(self, y: float, colour: str, style: str = "line dash") -> None:
        """Horizontal line at a value."""
        at = float(self.y(y))
        self.canvas.line([self.x.start, self.x.end], [at, at], colour, style)


def steps(edges: ArrayLike, values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Points of a staircase: T values between T + 1 edges."""
    e = np.asarray(edges, dtype=np.float64)
    return np.repeat(e, 2)[1:-1], np.repeat(np.asarray(values, dtype=np.float64), 2)


def hour_ticks(edges_h: FloatArray) -> tuple[list[float], list[str]]:
    """Round hours between the edges of periods, about eight of them, and their labels."""
    span = float(edges_h[-1] - edges_h[0])
    choices = (0.25, 0.5, 1, 2, 3, 4, 6, 12, 24, 48, 96, 168, 336, 720, 1e9)
    step = next(s for s in choices if span / s <= 8)
    ticks = np.arange(np.ceil(edges_h[0] / step), np.floor(edges_h[-1] / step) + 1) * step
    return ticks.tolist(), [f"{tick:g}" for tick in ticks]
