"""What a run prints of its forecasts and its intraday auction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def stage_lines(
    forecast: Mapping[str, Any] | None,
    intraday: Mapping[str, Any] | None,
    powerflow: Mapping[str, Any] | None,
    currency: str,
) -> list[tuple[str, str]]:
    """Name and words of each line; none where a stage did not run.

    Parameters
    ----------
    forecast, intraday, powerflow : mapping or None
        Of `summary.json`.
    currency : str
        Name of the money unit.
    """
    rows = []
    if forecast is not None:
        rows.append(("forecast", str(forecast["rule"])))
        for key, name in (("load", "load"), ("pv", "PV")):
            ahead, due = (forecast[f"{horizon}_{key}_rmse_kw"] for horizon in ("day_ahead", "step"))
            held = forecast[f"day_ahead_{key}_coverage"]
            within = "" if held is None else f" ({100 * held:.0f} % within)"
            words = f"{name} off by {ahead:.3g} kW a day ahead{within}, {due:.3g} when due"
            rows.append(("", words))
    if intraday is not None:
        rows += [
            ("intraday", f"{intraday['traded_kwh']:.5g} kWh in {intraday['trades']:,} trades"
             f" (bidders: {intraday['bidders']})"),
            ("balance", f"{intraday['billed_import_kwh']:.5g} kWh in, "
             f"{intraday['billed_export_kwh']:.5g} out, {intraday['curtailed_kwh']:.5g} curtailed"),
            ("cost", f"{intraday['cost']:.5g} {currency}, all prosumers and wear"),
        ]  # fmt: skip
        if powerflow is not None:
            found = (("voltages", "voltage_violations"), ("currents", "overloads"))
            said = [f"{powerflow[key]} {name}" for name, key in found if powerflow[key] is not None]
            rows.append(("AC check", f"{', '.join(said)} beyond their limits, as measured"))
    return rows
