"""Clearing on warm Ray actors: the thesis' cases, and a community of a thousand prosumers.

Run as ``python -m benchmarks.clearing``. The central solve of the same case (CVXPY, Clarabel)
is measured in the same run; each side runs unmeasured first, so that nothing is loaded or
compiled on anybody's time. A central solve counts the building of its model, a clearing its
final schedule. Where the central solver misses its tolerances ('inaccurate'), the gap to it is
shown but counts as unknown; the gap to the duality bound says how far the optimum can be. Where
it had to begin again with other settings, the ratio takes the mean of its attempts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from benchmarks.common import OUT, Report, Spread, Target, fullest_line, printed, repeat
from raygrid.market.central import CentralResult, CentralStatus, solve_central
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.results.printed import Quantity
from raygrid.scenario.build import build_case
from raygrid.scenario.case import Case
from raygrid.scenario.load import load_scenario

SECONDS_TO_REACH = {"ieee14": 0.2, "ieee33": 0.3}
LOOSE_TOLERANCE = 5e-4
"""Relative tolerance at which the community's gap is still below 0.01 %."""
FULL = 1 - 1e-4
"""Utilisation from which a line counts as full."""


def load(name: str, agents: int | None = None) -> tuple[Case, ClearingOptions]:
    """A scenario's case and solver settings."""
    scenario, base_dir = load_scenario(name, agents=agents)
    return build_case(scenario, base_dir=base_dir), clearing_options(scenario)


def solve_repeatedly(case: Case, limited: bool, n: int, unmeasured: int = 1) -> list[CentralResult]:
    """The central benchmark, several times."""
    solves: list[CentralResult] = repeat(
        n, lambda: solve_central(case, network_constrained=limited), unmeasured
    )
    if any(np.isnan(solve.welfare) for solve in solves):
        raise RuntimeError(f"{case.name}: the central benchmark ended as {solves[-1].status}")
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
    session: Session, placements: tuple[str, ...], n: int
) -> tuple[list[dict[str, Any]], list[Target]]:
    """Both cases, with and without limits, for every placement."""
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for name, seconds_to_reach in SECONDS_TO_REACH.items():
        case, options = load(name)
        solves = {limited: solve_repeatedly(case, limited, n) for limited in (False, True)}
        for placement in placements:
            with session.market(case, PlacementPolicy.parse(placement)) as market:
                for limited in (False, True):
                    settings = ClearingOptions(**{**vars(options), "network_constrained": limited})
                    row = facts(
                        case, repeat(n, lambda s=settings: market.clear(s)), solves[limited]
                    )
                    hosts = market.placement.n_hosts
                    what = f"{name}, {'with' if limited else 'no'} limits, {hosts} actors"
                    rows.append(
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
    return rows, targets


def community_rows(
    session: Session, agents: int, actors: str, n: int, central_n: int
) -> tuple[list[dict[str, Any]], list[Target]]:
    """The default community, which has a grid connection and fixed loads.

    At the scenario's tolerance, and at the loosest that still keeps the gap to reach.
    """
    case, options = load("community", agents)
    tolerances = (options.relative_tolerance, LOOSE_TOLERANCE)
    with session.market(case, PlacementPolicy.parse(actors)) as market:
        cleared: list[list[ClearingResult]] = [
            repeat(n, partial(market.clear, replace(options, relative_tolerance=eps)))
            for eps in tolerances
        ]
        hosts = market.placement.n_hosts
    # CVXPY and Clarabel are loaded by now; another unmeasured solve would only take time.
    solves = solve_repeatedly(case, True, central_n, unmeasured=0)
    rows, targets = [], []
    for eps, results in zip(tolerances, cleared, strict=True):
        what = f"community of {agents}, {hosts} actors, relative tolerance {eps:g}"
        row, more = _community_row(what, case, results, solves)
        rows.append(row)
        targets += more
    return rows, targets


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


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--central-repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--agents", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--actors", default="2", show_default=True, help="Actors of the community.")
@click.option(
    "--placement", "placements", multiple=True, default=("each", "2"), show_default=True,
    help="Placements of the thesis' cases.",
)  # fmt: skip
@OUT
def main(
    repeats: int,
    central_repeats: int,
    agents: int,
    actors: str,
    placements: tuple[str, ...],
    out: Path,
) -> None:
    """Time clearings on warm actors against the central solve and the thesis."""
    report = Report("clearing", __doc__ or "")
    with Session(ClusterOptions()) as session:
        rows, targets = thesis_rows(session, placements, repeats)
        more, more_targets = community_rows(session, agents, actors, repeats, central_repeats)
    report.table("The thesis' cases (reconstructed data)", rows)
    report.table("Community", more)
    report.targets([*targets, *more_targets])
    report.write(out)


if __name__ == "__main__":
    main()
