"""Clearing on warm Ray actors: the thesis' cases, and a community of a thousand prosumers.

The central solve of the same case (CVXPY, Clarabel)
is measured in the same run; each side runs unmeasured first, so that nothing is loaded or
compiled on anybody's time. A central solve counts the building of its model, a clearing its
final schedule. Where the central solver misses its tolerances ('inaccurate'), the gap to it is
shown but counts as unknown; the gap to the duality bound says how far the optimum can be. Where
it had to begin again with other settings, the ratio takes the mean of its attempts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings, fullest_line, load, repeat
from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.session import Session
from raygrid.errors import EndedShortError
from raygrid.market.central import CentralResult, CentralStatus, solve_central
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.results.benchmark import Report, Spread, Table, Target
from raygrid.results.printed import PRINTED, Method, Quantity
from raygrid.scenario.case import Case

SECONDS_TO_REACH = {"ieee14": 0.2, "ieee33": 0.3}
LOOSE_TOLERANCE = 5e-4
"""Relative tolerance at which the community's gap is still below 0.01 %."""
FULL = 1 - 1e-4
"""Utilisation from which a line counts as full."""


def printed(scenario: str, network_constrained: bool, quantity: Quantity) -> float | None:
    """The thesis' figure for ADMM."""
    for c in PRINTED:
        key = (c.scenario, c.method, c.network_constrained, c.quantity)
        if key == (scenario, Method.ADMM, network_constrained, quantity):
            return c.value
    return None


def solve_repeatedly(case: Case, limited: bool, n: int, unmeasured: int = 1) -> list[CentralResult]:
    """The central benchmark, several times."""
    solves: list[CentralResult] = repeat(
        n, lambda: solve_central(case, network_constrained=limited), unmeasured
    )
    if any(np.isnan(solve.welfare) for solve in solves):
        raise EndedShortError(f"{case.name}: the central benchmark ended as {solves[-1].status}")
    return solves


def facts(case: Case, results: list[ClearingResult], solves: list[CentralResult]) -> dict[str, Any]:
    """What was measured of one case; a clearing gives the same numbers each time."""
    last, welfare = results[-1], solves[-1].welfare
    seconds = Spread.of(result.seconds for result in results)
    central = Spread.of(solve.seconds for solve in solves)
    return {
        "status": str(last.status),
        "iterations": last.iterations,
        "gap_percent": 100 * abs(last.welfare - welfare) / abs(welfare),
        "fullest_line_percent": 100 * fullest_line(case, last.flow_kw),
        "clearing_s": seconds,
        "central_s": central,
        "central_attempts": solves[-1].attempts,
        "central_status": str(solves[-1].status),
        "central_over_clearing": central.median / solves[-1].attempts / seconds.median,
        "bound_gap_percent": None
        if last.bound is None
        else 100 * abs(last.bound - last.welfare) / abs(last.bound),
    }


def known_gap(row: dict[str, Any]) -> float:
    """The gap [%] where the central solve ended optimal, else nan."""
    optimal = row["central_status"] == CentralStatus.OPTIMAL
    return float(row["gap_percent"]) if optimal else float("nan")


def thesis_rows(
    table: Table, session: Session, placements: tuple[str, ...], n: int
) -> list[Target]:
    """Both cases, with and without limits, for every placement."""
    targets: list[Target] = []
    for name, seconds_to_reach in SECONDS_TO_REACH.items():
        case, options = load(name)
        solves = {limited: solve_repeatedly(case, limited, n) for limited in (False, True)}
        for placement in placements:
            with session.market(case, PlacementPolicy.parse(placement)) as market:
                for limited in (False, True):
                    settings = ClearingOptions(**{**vars(options), "network_constrained": limited})
                    results = repeat(n, partial(market.clear, settings))
                    row = facts(case, results, solves[limited])
                    hosts = market.placement.n_hosts
                    what = f"{name}, {'with' if limited else 'no'} limits, {hosts} actors"
                    table.add(
                        {
                            "case": what,
                            **row,
                            "printed_iterations": printed(name, limited, Quantity.ITERATIONS),
                            "printed_s": printed(name, limited, Quantity.SECONDS),
                            "printed_gap_percent": printed(name, limited, Quantity.RELATIVE_GAP),
                            "printed_fullest_line_percent": printed(
                                name, limited, Quantity.MAX_UTILISATION
                            ),
                        }
                    )
                    converged = row["status"] == ClearingStatus.CONVERGED
                    targets += [
                        Target(
                            f"{what}: iterations",
                            row["iterations"] if converged else float("nan"),
                            at_most=20,
                        ),
                        Target(f"{what}: gap [%]", known_gap(row), at_most=0.01),
                        Target(
                            f"{what}: clearing [s]",
                            row["clearing_s"].median,
                            at_most=seconds_to_reach,
                        ),
                    ]
                    if limited:
                        targets.append(
                            Target(
                                f"{what}: fullest line [%]",
                                row["fullest_line_percent"],
                                at_most=100 * (1 + 1e-6),
                            )
                        )
    return targets


def community_rows(table: Table, session: Session, settings: Settings) -> list[Target]:
    """The default community, which has a grid connection and fixed loads.

    At the scenario's tolerance, and at the loosest that still keeps the gap to reach.
    """
    case, options = load("community", settings.agents)
    tolerances = (options.relative_tolerance, LOOSE_TOLERANCE)
    with session.market(case, PlacementPolicy.parse(settings.actors)) as market:
        cleared: list[list[ClearingResult]] = [
            repeat(
                settings.repeats,
                partial(market.clear, replace(options, relative_tolerance=eps)),
            )
            for eps in tolerances
        ]
        hosts = market.placement.n_hosts
    # CVXPY and Clarabel are loaded by now; another unmeasured solve would only take time.
    solves = solve_repeatedly(case, True, settings.central_repeats, unmeasured=0)
    targets = []
    for eps, results in zip(tolerances, cleared, strict=True):
        what = f"community of {settings.agents}, {hosts} actors, relative tolerance {eps:g}"
        row, more = _community_row(what, case, results, solves)
        table.add(row)
        targets += more
    return targets


def _community_row(
    what: str, case: Case, results: list[ClearingResult], solves: list[CentralResult]
) -> tuple[dict[str, Any], list[Target]]:
    row = facts(case, results, solves)
    last = results[-1]
    use = np.abs(last.flow_kw) / case.network.limit_kw[:, None]
    row |= {
        "line_periods_full": int(np.count_nonzero(use > FULL)),
        "locational_spread_per_kwh": float(np.ptp(last.lmp_per_kwh, axis=0).max()),
    }
    converged = row["status"] == ClearingStatus.CONVERGED
    targets = [
        Target(f"{what}: line-periods at their limit", row["line_periods_full"], at_least=1),
        Target(
            f"{what}: clearing [s]",
            row["clearing_s"].median if converged else float("nan"),
            at_most=0.3,
        ),
        Target(f"{what}: gap [%]", known_gap(row), at_most=0.01),
        Target(f"{what}: central / clearing", row["central_over_clearing"], at_least=50),
    ]
    return {"case": what, **row}, targets


class Settings(SuiteSettings):
    """What can be set; `placements` are of the thesis' cases, `actors` of the community."""

    repeats: PositiveInt = 5
    central_repeats: PositiveInt = 3
    agents: PositiveInt = 1000
    actors: str = "2"
    placements: tuple[str, ...] = ("each", "2")


QUICK = Settings(repeats=1, central_repeats=1, agents=30, placements=("2",))


def run(report: Report, settings: Settings) -> None:
    """Time clearings on warm actors against the central solve and the thesis."""
    thesis = report.table("The thesis' cases (reconstructed data)", ("case",))
    community = report.table("Community", ("case",))
    with Session(ClusterOptions()) as session:
        targets = thesis_rows(thesis, session, settings.placements, settings.repeats)
        targets += community_rows(community, session, settings)
    report.targets(targets)
