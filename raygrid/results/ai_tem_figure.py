"""Figure 7 of AI-TEM: normalised cost and use of PV by case, with what is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from raygrid.results.ai_tem import NAMES, Reproduction
from raygrid.results.ai_tem_printed import CaseName, Quantity, printed
from raygrid.results.case_days import quantities
from raygrid.results.paired import Spread
from raygrid.results.svg import WIDTH, Canvas, Scale, nice_ticks

_ROW, _LEFT = 30.0, 172.0


def figure7(done: Reproduction) -> str:
    """Bars of our means with their deviations over days; rings where the paper's lie.

    Parameters
    ----------
    done : Reproduction
        The compared cases.

    Returns
    -------
    str
        A file of SVG.
    """
    ours = {key: Spread.of(values) for key, values in quantities(done.cases).items()}
    theirs = printed("IV") | {
        k: v for k, v in printed("VI").items() if k[1] is not Quantity.CLEARING
    }
    cases = list(done.cases)
    canvas = Canvas("Normalised cost and use of PV by case, ours and printed", 0)
    canvas.text(2, 14, "Figure 7: cost and use of PV, mean ± deviation over days")
    top = canvas.legend([("ours", "blue"), ("printed in the paper", "red")], 22)
    for quantity, title in (
        (Quantity.COST, "Cost [% of grid-only]"),
        (Quantity.UTILISATION, "PV used locally [%]"),
    ):
        top = _panel(canvas, top, title, cases, _only(ours, quantity), _only(theirs, quantity))
    canvas.height = top
    return canvas.render(standalone=True)


def _only(
    values: Mapping[tuple[CaseName, Quantity], Spread], quantity: Quantity
) -> dict[CaseName, Spread]:
    return {case: value for (case, what), value in values.items() if what is quantity}


def _panel(
    canvas: Canvas,
    top: float,
    title: str,
    cases: Sequence[CaseName],
    ours: Mapping[CaseName, Spread],
    theirs: Mapping[CaseName, Spread],
) -> float:
    """One panel of horizontal bars; returns the y below it."""
    shown = [case for case in cases if case in ours]
    if not shown:
        return top
    reach = [ours[c].mean + np.nan_to_num(ours[c].deviation) for c in shown]
    high = max(100.0, *reach)
    x = Scale(0.0, high, _LEFT, WIDTH - 16)
    canvas.text(2, top + 16, title, style="muted")
    bottom = top + 24 + _ROW * len(shown)
    for tick in nice_ticks(0.0, high):
        at = float(x(tick))
        canvas.rule(at, top + 24, at, bottom)
        canvas.text(at, bottom + 14, f"{tick:g}", "middle")
    for row, case in enumerate(shown):
        y, mean = top + 24 + _ROW * row, ours[case].mean
        canvas.text(_LEFT - 6, y + 19, NAMES[case], "end", size=11)
        end = float(x(max(mean, 0.0)))
        words = f"{NAMES[case]}: {mean:.1f}"
        canvas.rect(_LEFT, y + 7, end - _LEFT, 16, "blue", 0.85, words)
        if np.isfinite(ours[case].deviation):
            ends = x([max(mean - ours[case].deviation, 0.0), mean + ours[case].deviation])
            canvas.line(ends, [y + 15, y + 15], "ink", width=1.5)
        if case in theirs:
            canvas.circle(
                float(x(theirs[case].mean)), y + 15, 4.5, "red", f"printed: {theirs[case].mean:.1f}"
            )
    return bottom + 24
