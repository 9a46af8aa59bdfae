"""Fits confirmed by the central benchmark, and the comparison with the thesis as a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from raygrid.grid.limits import line_rows
from raygrid.grid.ptdf import PtdfFactor, ptdf
from raygrid.market.central import CentralStatus, solve_central
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.population import GridConnection
from raygrid.scenario.case import Case
from scripts.thesis_fit.community import N_PERIODS, SCALARS, build_population
from scripts.thesis_fit.fast import Solution
from scripts.thesis_fit.figures import Outcome, figures, utilisation
from scripts.thesis_fit.printed import Setup, network_of
from scripts.thesis_fit.write import parse_fit

IMPORT_PRICE = 1.0
"""C^imp of (3-20) [$/kWh], far above any marginal utility here; the same as in scenario.yaml."""
LABELS = {
    "welfare_free": ("welfare without limits [$]", 2),
    "welfare_limited": ("welfare with limits [$]", 2),
    "energy_free_kwh": ("energy traded without limits [kWh]", 2),
    "energy_limited_kwh": ("energy traded with limits [kWh]", 2),
    "value_limited": ("value of trades with limits [$]", 2),
    "utilisation_free": ("highest line use without limits", 3),
    "lines_above_80_free": ("lines above 80 % without limits", 0),
    "lines_above_80_limited": ("lines above 80 % with limits", 0),
    "pairs_free": ("active pairs without limits", 0),
    "pairs_limited": ("active pairs with limits", 0),
    "line_of_highest_use": ("line of highest use", 0),
    "mean_price_free": ("mean settlement price without limits [$/kWh]", 4),
    "mean_price_limited": ("mean settlement price with limits [$/kWh]", 4),
    "value_free": ("value of trades without limits [$]", 2),
    "seller_hours_free": ("active seller-hours without limits", 0),
    "seller_hours_limited": ("active seller-hours with limits", 0),
    "utilisation_limited": ("highest line use with limits", 3),
    "battery_kwh_limited": ("energy discharged by batteries with limits [kWh]", 2),
    "night_price": ("mean locational price 18-22 h with limits [$/kWh]", 4),
    "noon_price": ("mean locational price 11-14 h with limits [$/kWh]", 4),
    "grid_kwh": ("grid import with limits [kWh]", 2),
}


def case_of(setup: Setup, record: dict[str, Any]) -> Case:
    """The case of a fit, as its tables describe it."""
    population = build_population(setup, *parse_fit(record))
    network = network_of(setup)
    rows = line_rows(network, PtdfFactor(network), N_PERIODS)
    constant = np.ones(N_PERIODS)
    grid = GridConnection(
        import_price_per_kwh=IMPORT_PRICE * constant,
        export_price_per_kwh=0.0 * constant,
        import_limit_kw=100.0 * constant,
        export_limit_kw=0.0 * constant,
        size_weight=3.0 * len(population),
        import_is_penalty=True,
    )
    reactive = np.zeros((network.n_buses, N_PERIODS))
    return Case(setup.name, network, rows, GivenCommunity(population), grid, 1.0, "USD", reactive)


def confirm(case: Case) -> dict[str, float]:
    """All figures of a case by the central benchmark, those that are no target included."""
    solved = [solve_central(case, network_constrained=on) for on in (False, True)]
    for result in solved:
        if result.status is not CentralStatus.OPTIMAL:
            raise RuntimeError(f"{case.name}: {result.reason}")
    free, limited = (
        Solution(r.welfare, r.dispatch.generation_kw, r.dispatch.demand_kw, r.dispatch.p_kw)
        for r in solved
    )
    rows, limit = ptdf(case.network), case.network.limit_kw
    uses = [utilisation(case.population, s, rows, limit) for s in (free, limited)]
    found = figures(case.population, Outcome(free, limited, *uses))
    dispatch, lmp = solved[1].dispatch, solved[1].lmp_per_kwh
    return found | {
        "seller_hours_free": int((free.generation_kw > 1e-3).sum()),
        "seller_hours_limited": int((limited.generation_kw > 1e-3).sum()),
        "utilisation_limited": float(uses[1].max()),
        "battery_kwh_limited": float(dispatch.discharge_kw.sum()),
        "night_price": float(lmp[:, 18:22].mean()),
        "noon_price": float(lmp[:, 11:14].mean()),
        "grid_kwh": float(np.abs(solved[1].grid_kw).sum()),
    }


def report(setup: Setup, records: list[dict[str, Any]]) -> str:
    """Two markdown tables: the scalars, and printed figures beside ours, with all fits' range."""
    lines = ["| scalar | bounds | ours | range of the fits |", "|---" * 4 + "|"]
    for scalar in SCALARS:
        values = [record["scalars"][scalar.name] for record in records]
        lines.append(
            f"| {scalar.name}: {scalar.meaning} | {scalar.low:g} to {scalar.high:g} | "
            f"{values[0]:.4g} | {min(values):.4g} to {max(values):.4g} |"
        )
    lines += ["", "| figure | printed | ours | difference | range of the fits |", "|---" * 5 + "|"]
    fits = [confirm(case_of(setup, record)) for record in records]
    for name, (label, digits) in LABELS.items():
        values = [fit[name] for fit in fits]
        printed = setup.targets.get(name)
        shown = "" if printed is None else f"{printed:.{digits}f}"
        apart = "" if printed is None else f"{100 * (values[0] / printed - 1):+.2f} %"
        low, high = min(values), max(values)
        lines.append(
            f"| {label} | {shown} | {values[0]:.{digits}f} | {apart} | "
            f"{low:.{digits}f} to {high:.{digits}f} |"
        )
    return "\n".join(lines)
