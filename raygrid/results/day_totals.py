"""The days of a run in figures, one by one and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raygrid.results.summary import CentralSummary, ClearingSummary, central_summary

_ADDED = (
    "iterations", "welfare", "energy_traded_kwh", "grid_import_kwh", "line_violations",
    "settlement_price_surplus", "settlement_price_tariff_difference",
    "locational_price_surplus", "locational_price_tariff_difference", "seconds",
)  # fmt: skip
_LARGEST = ("max_line_utilisation", "max_balance_error_kw")
_OF_LINKS = {"rate_bits_per_s", "utilisation"}
"""What links are like, which no day adds to."""
_RESIDUALS = ("primal_residual", "dual_residual", "primal_tolerance", "dual_tolerance")


@dataclass(frozen=True)
class DaySummary:
    """One market day of a run in figures.

    Attributes
    ----------
    day : int
        Which of the days in a row, from 0.
    date : str
        When its first period begins.
    clearing : ClearingSummary
        How its market cleared.
    central : CentralSummary or None
        The benchmark of this day, which begins with the charge that the day before left.
    powerflow : mapping or None
        Its AC check.
    trades : int or None
        Number of its trades; None where none were matched.
    stored_kwh : float or None
        Energy in batteries and EVs at its end, where all schedules were at hand [kWh].
    communication : mapping or None
        What went over modelled links.
    forecast, intraday : mapping or None
        How far forecasts were off, and what was traded on top of the day ahead.
    """

    day: int
    date: str
    clearing: ClearingSummary
    central: CentralSummary | None = None
    powerflow: Mapping[str, Any] | None = None
    trades: int | None = None
    stored_kwh: float | None = None
    communication: Mapping[str, Any] | None = None
    forecast: Mapping[str, Any] | None = None
    intraday: Mapping[str, Any] | None = None


def total_clearing(days: Sequence[DaySummary]) -> ClearingSummary:
    """All days together: sums and largest values, the first status that is not 'converged'.

    The residuals are those of the day whose primal one is the largest part of its tolerance. A
    figure that some day lacks is None, as the sum would not be that of the run.
    """
    every = [day.clearing for day in days]
    if len(every) == 1:
        return every[0]
    worst = max(every, key=_strain)
    found: dict[str, Any] = {name: getattr(worst, name) for name in _RESIDUALS}
    for names, together in ((_ADDED, sum), (_LARGEST, max)):
        for name in names:
            values = [getattr(one, name) for one in every]
            found[name] = None if None in values else together(values)
    failed = [one.status for one in every if one.status != "converged"]
    return replace(every[0], status=failed[0] if failed else "converged", **found)


def _strain(clearing: ClearingSummary) -> float:
    if clearing.primal_residual is None or not clearing.primal_tolerance:
        return -1.0
    return clearing.primal_residual / clearing.primal_tolerance


def total_central(days: Sequence[DaySummary]) -> CentralSummary | None:
    """The benchmarks of all days together; None where a day has none."""
    every = [day.central for day in days]
    known = [one for one in every if one is not None]
    if len(known) < len(every) or not known:
        return None
    return central_summary(
        sum(day.clearing.welfare for day in days),
        sum(one.welfare for one in known),
        sum(one.seconds for one in known),
    )


def total_powerflow(days: Sequence[DaySummary]) -> Mapping[str, Any] | None:
    """The AC checks of all days together; None where a day has none."""
    known = [day.powerflow for day in days if day.powerflow is not None]
    if len(known) < len(days) or not known:
        return None
    if len(known) == 1:
        return known[0]

    def together(name: str, how: Any) -> Any:
        values = [one[name] for one in known if one[name] is not None]
        return how(values) if values else None

    return {
        "not_converged": together("not_converged", sum),
        "min_voltage_pu": together("min_voltage_pu", min),
        "max_voltage_pu": together("max_voltage_pu", max),
        "voltage_violations": together("voltage_violations", sum),
        "voltage_limits_pu": known[0]["voltage_limits_pu"],
        "max_loading": together("max_loading", max),
        "overloads": together("overloads", sum),
        "losses_kwh": together("losses_kwh", sum),
    }


def total_communication(days: Sequence[DaySummary]) -> Mapping[str, Any] | None:
    """What went over modelled links on all days; None where there are none."""
    known = [day.communication for day in days if day.communication is not None]
    if not known:
        return None
    totals = dict(known[0])
    for name in totals.keys() - _OF_LINKS:
        values = [one[name] for one in known]
        totals[name] = None if None in values else sum(values)
    return totals


def total_intraday(days: Sequence[DaySummary]) -> Mapping[str, Any] | None:
    """The intraday stages of all days together; None where a day has none."""
    known = [day.intraday for day in days if day.intraday is not None]
    if len(known) < len(days) or not known:
        return None
    return {
        name: value if isinstance(value, str) else sum(one[name] for one in known)
        for name, value in known[0].items()
    }


def total_forecast(days: Sequence[DaySummary]) -> Mapping[str, Any] | None:
    """The forecasts of all days together; None where a day has none.

    Days are equally long: root mean squares and means of all are those of the days' values.
    """
    known = [day.forecast for day in days if day.forecast is not None]
    if len(known) < len(days) or not known:
        return None

    def together(name: str, value: Any) -> Any:
        if isinstance(value, str):
            return value
        values = [one[name] for one in known]
        if None in values:
            return None
        if "_rmse_" in name:
            return math.sqrt(sum(one**2 for one in values) / len(values))
        return sum(values) / len(values)

    return {name: together(name, value) for name, value in known[0].items()}
