"""Prosumers and buses that grow together: the town from a hundred grids to a thousand.

The hosts build their prosumers from the seed; operators of feeders stand between them and the
network operator, or one operator has the whole network. A clearing counts its final schedule; the
duality bound is found after it. CPU time is that of all processes, Ray's own included; memory is
their proportional set size (PSS). The last table holds small towns, with their limits as trees and
as matrices, against the central optimum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from actors.benchmarks.common import (
    GIB,
    REPEATED_UP_TO,
    Clock,
    Memory,
    SuiteSettings,
    gap_percent,
    load,
    process_tree,
    proportional_bytes,
)
from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from raygrid.arrays import FloatArray
from raygrid.grid.limits import line_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.market.central import solve_central
from raygrid.market.clearing import ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.limits import bus_ranges
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.build import draft_case
from raygrid.scenario.case import Case
from raygrid.scenario.load import load_scenario

SECONDS_TO_REACH = {1000: 60.0}
FULL = 1 - 1e-4
"""Use from which on a line counts as full."""


class Settings(SuiteSettings):
    """What can be set.

    Attributes
    ----------
    grids : tuple of int
        Numbers of low-voltage grids.
    feeders : tuple of int or None
        Numbers of feeder operators for each; None takes the plan's, 0 is one operator alone.
    actors : str
        Placement.
    repeats : int
        Clearings of each town of at most 2,400,000 prosumers times periods (800 grids); one of
        larger ones.
    central : tuple of int
        Numbers of grids of the central solves.
    """

    grids: tuple[PositiveInt, ...] = (100, 300, 1000)
    feeders: tuple[NonNegativeInt | None, ...] = (0, None)
    actors: str = "auto"
    repeats: PositiveInt = 3
    central: tuple[PositiveInt, ...] = Field(default=(2, 3, 4, 5))


QUICK = Settings(grids=(10,), feeders=(0, 1), repeats=1, central=(2,))


def cpu_s() -> float:
    """CPU time so far of this process and all below it that live [s]."""
    ticks = 0
    for pid in process_tree(os.getpid()):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(
    session: Session, grids: int, feeders: int | None, settings: Settings
) -> dict[str, Any]:
    """Build and clear one town on actors of its own."""
    scenario, base_dir = load_scenario("town", settings=[f"network.grids={grids}"])
    draft, options = draft_case(scenario, base_dir=base_dir), clearing_options(scenario)
    policy = PlacementPolicy.parse(settings.actors)
    placement = session.plan(draft, policy, feeders=feeders)
    often = len(draft.community) * draft.n_periods <= REPEATED_UP_TO
    rounds, results, cpu = Clock(), [], []
    with Memory().watched() as memory, session.market(draft, placement) as market:
        for _ in range(settings.repeats if often else 1):
            before = cpu_s()
            results.append(market.clear(options, rounds))
            cpu.append(cpu_s() - before)
        actors = sum(proportional_bytes(pulse.pid) for pulse in market.pulses)
        last, network = results[-1], market.case.network
        seconds = Spread.of(result.seconds for result in results)
        full = np.abs(last.flow_kw) > FULL * network.limit_kw[:, None]
        number = network.line_id % 1000
        return {
            "grids": grids,
            "prosumers": len(market.case.community),
            "buses": network.n_buses,
            "limits": market.case.rows.n_rows,
            "actors": placement.n_hosts,
            "feeder_operators": placement.feeders,
            "start_and_build_s": market.start_s,
            "status": str(last.status),
            "rounds": last.iterations,
            "clearing_s": seconds,
            "round_ms": rounds.round_ms,
            "cpu_s_with_bound": Spread.of(cpu),
            "full_transformers": int(full[number == 127].any(axis=1).sum()),
            "full_cables": int(full[number == 999].any(axis=1).sum()),
            "full_line_periods": int(full.sum()),
            "gap_to_bound_percent": gap_percent(last),
            "actors_gib": actors / GIB,
            "all_processes_gib": memory.largest_bytes / GIB,
        }


def central_row(grids: int) -> dict[str, Any]:
    """Welfare of one small town with limits as trees and as matrices, and the optimum."""
    case, options = load("town", settings=(f"network.grids={grids}",))
    factor = PtdfFactor(case.network)
    welfare, rounds = [], []
    for as_tree in (True, False):
        rows = line_rows(case.network, factor, case.n_periods, *_ranges(case), as_tree=as_tree)
        same = replace(case, rows=rows)
        result = clear(same, options, local_exchange(same, options))
        welfare.append(result.welfare)
        rounds.append(result.iterations)
    central = solve_central(case, network_constrained=options.network_constrained)
    return {
        "grids": grids,
        "prosumers": len(case.community),
        "rounds_as_tree": rounds[0],
        "rounds_as_matrix": rounds[1],
        "gap_percent_as_tree": 100 * (central.welfare - welfare[0]) / abs(central.welfare),
        "gap_percent_as_matrix": 100 * (central.welfare - welfare[1]) / abs(central.welfare),
        "central_s": central.seconds,
    }


def _ranges(case: Case) -> tuple[FloatArray, FloatArray]:
    """Ranges of the buses' injections (B, T), by which limits that cannot bind are left out."""
    network = case.network
    return bus_ranges(
        case.population, case.grid, network.n_buses, network.slack, idle_batteries=False
    )


def targets_of(rows: list[dict[str, Any]]) -> Iterator[Target]:
    """The figures to reach."""
    for row in rows:
        what = f"{row['grids']} grids, {row['feeder_operators']} feeder operators"
        converged = row["status"] == ClearingStatus.CONVERGED
        bound = SECONDS_TO_REACH.get(row["grids"])
        if bound is not None:
            seconds = row["clearing_s"].median if converged else math.nan
            yield Target(f"{what}: clearing [s]", seconds, at_most=bound)
        yield Target(f"{what}: gap [%]", row["gap_to_bound_percent"], at_most=0.01)
        yield Target(f"{what}: lines full", row["full_line_periods"], at_least=1)
        yield Target(f"{what}: all processes [GiB]", row["all_processes_gib"], at_most=4.0)


def run(report: Report, settings: Settings) -> None:
    """Clear towns of all sizes with and without feeder operators."""
    table = report.table("By number of grids", ("grids", "feeder_operators"))
    with Session(ClusterOptions()) as session:
        for grids in settings.grids:
            for feeders in settings.feeders:
                table.add(measure(session, grids, feeders, settings))
    solves = report.table("Beside the central optimum", ("grids",))
    for grids in settings.central:
        solves.add(central_row(grids))
    report.targets(list(targets_of(table.rows)))
