"""One machine from a thousand prosumers to a million: time, rounds, gap and memory.

The hosts build their prosumers from the seed and clear on warm actors; a clearing counts its final
schedule, and the duality bound is found after it. Memory is the proportional set size (PSS) of
this process and everything below it, Ray's own processes included: pages that several processes
share count once. The gap is that to the duality bound, which holds at every size; for one size per
scenario it stands beside the central optimum. A line is full where it carries its limit within
0.01 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt, StringConstraints

from actors.benchmarks.common import (
    GIB,
    REPEATED_UP_TO,
    Clock,
    Memory,
    SuiteSettings,
    gap_percent,
    load,
    proportional_bytes,
    repeat,
)
from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from raygrid.market.central import CentralStatus, solve_central
from raygrid.market.clearing import ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario

SECONDS_TO_REACH = {
    ("community", 24, 10_000): 1.0,
    ("community", 24, 100_000): 6.0,
    ("community", 24, 1_000_000): 60.0,
    ("thesis14", 24, 1_000_000): 20.0,
}
FULL = 1 - 1e-4
"""Utilisation from which a line counts as full."""
LARGE = 10_000
"""Prosumers from which rounds should not depend on their number."""


def horizon(periods: int) -> tuple[str, ...]:
    """Settings of a day in so many periods."""
    return (f"horizon.periods={periods}", f"horizon.period_hours={24 / periods}")


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log time over log prosumers; nan for a single size."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(
    session: Session, name: str, agents: int, periods: int, settings: Settings
) -> dict[str, Any]:
    """Build and clear one size on actors of its own."""
    scenario, base_dir = load_scenario(name, agents=agents, settings=horizon(periods))
    draft = draft_case(scenario, base_dir=base_dir)
    options = clearing_options(scenario)
    placement = session.plan(draft, PlacementPolicy.parse(settings.actors))
    often = agents * periods <= REPEATED_UP_TO
    rounds = Clock()
    with Memory().watched() as memory, session.market(draft, placement) as market:
        results = repeat(
            settings.repeats if often else 1,
            lambda: market.clear(options, rounds),
            unmeasured=int(often),
        )
        hosts = sum(proportional_bytes(pulse.pid) for pulse in market.pulses[:-1])
        last, seconds = results[-1], Spread.of(result.seconds for result in results)
        use = np.abs(last.flow_kw) / market.case.network.limit_kw[:, None]
        return {
            "scenario": name,
            "prosumers": agents,
            "periods": periods,
            "actors": placement.n_hosts,
            "start_and_build_s": market.start_s,
            "status": str(last.status),
            "rounds": last.iterations,
            "clearing_s": seconds,
            "round_ms": 1e3 * seconds.median / max(last.iterations, 1),
            "us_per_prosumer_and_round": 1e6 * seconds.median / max(last.iterations, 1) / agents,
            "full_line_periods": int(np.count_nonzero(use > FULL)),
            "gap_to_bound_percent": gap_percent(last),
            "hosts_gib": hosts / GIB,
            "planned_hosts_gib": placement.memory_bytes / GIB,
            "all_processes_gib": memory.largest_bytes / GIB,
        }


def central_row(name: str, agents: int) -> dict[str, Any]:
    """Gap to the central optimum, and what the bound says of it."""
    case, options = load(name, agents)
    result = clear(case, options, local_exchange(case, options))
    central = solve_central(case, network_constrained=options.network_constrained)
    known = central.status is CentralStatus.OPTIMAL
    above = math.nan if result.bound is None else result.bound - central.welfare
    return {
        "scenario": name,
        "prosumers": agents,
        "central_status": str(central.status),
        "central_s": central.seconds,
        "gap_percent": 100 * (central.welfare - result.welfare) / abs(central.welfare)
        if known
        else math.nan,
        "bound_above_optimum_percent": 100 * above / abs(central.welfare),
    }


def targets_of(rows: list[dict[str, Any]]) -> Iterator[Target]:
    """The figures to reach of one scenario and horizon, its rows by size."""
    name, periods = rows[0]["scenario"], rows[0]["periods"]
    for row in rows:
        what = f"{name}, {periods} periods, {row['prosumers']} prosumers"
        converged = row["status"] == ClearingStatus.CONVERGED
        seconds = row["clearing_s"].median if converged else math.nan
        bound = SECONDS_TO_REACH.get((name, periods, row["prosumers"]))
        if bound is not None:
            yield Target(f"{what}: clearing [s]", seconds, at_most=bound)
        yield Target(f"{what}: gap [%]", row["gap_to_bound_percent"], at_most=0.01)
        yield Target(f"{what}: line-periods at their limit", row["full_line_periods"], at_least=1)
        yield Target(f"{what}: all processes [GiB]", row["all_processes_gib"], at_most=4.0)
    if len(rows) < 3:
        return
    sizes = [row["prosumers"] for row in rows]
    seconds_of_all = [row["clearing_s"].median for row in rows]
    yield Target(
        f"{name}: exponent of time against prosumers", exponent(sizes, seconds_of_all), at_most=1.05
    )
    counts = [row["rounds"] for row in rows]
    yield Target(f"{name}: spread of rounds", max(counts) - min(counts), at_most=3)
    large = [row["rounds"] for row in rows if row["prosumers"] >= LARGE]
    if len(large) > 1:
        spread = max(large) - min(large)
        yield Target(f"{name}: spread of rounds from {LARGE:,} prosumers on", spread, at_most=3)


def fit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How time and memory of one scenario and horizon grow with its prosumers."""
    least, most = rows[0], rows[-1]
    more = most["prosumers"] - least["prosumers"]
    sizes = [row["prosumers"] for row in rows]
    seconds = [row["clearing_s"].median for row in rows]
    return {
        "scenario": least["scenario"],
        "periods": least["periods"],
        "exponent": exponent(sizes, seconds),
        "exponent_of_last_two": exponent(sizes[-2:], seconds[-2:]),
        "host_bytes_per_prosumer": GIB * (most["hosts_gib"] - least["hosts_gib"]) / more
        if more
        else math.nan,
    }


CaseText = Annotated[str, StringConstraints(pattern=r"^[^/]+/[1-9]\d*$")]


class Settings(SuiteSettings):
    """What can be set.

    Attributes
    ----------
    cases : dict
        Numbers of prosumers by scenario and periods a day: 'community/96'.
    actors : str
        Placement.
    repeats : int
        Clearings of each case of at most 2,400,000 prosumers times periods.
    central : dict
        Prosumers of the central solves by scenario; none where it is empty.
    """

    cases: dict[CaseText, tuple[PositiveInt, ...]] = Field(
        default={
            "thesis14/24": (10**3, 10**4, 10**5, 10**6),
            "community/24": (10**3, 10**4, 10**5, 10**6),
            "community/96": (10**4, 10**5),
            "ieee118/24": (10**4, 10**5),
        }
    )
    actors: str = "auto"
    repeats: PositiveInt = 3
    central: dict[str, PositiveInt] = Field(default={"thesis14": 2000, "community": 2000})


QUICK = Settings(cases={"thesis14/24": (100, 1000), "community/96": (100,)}, repeats=1, central={})


def run(report: Report, settings: Settings) -> None:
    """Clear each scenario at each size."""
    table = report.table("By number of prosumers", ("scenario", "periods", "prosumers"))
    groups: list[list[dict[str, Any]]] = []
    with Session(ClusterOptions()) as session:
        for case, sizes in settings.cases.items():
            name, _, periods = case.partition("/")
            first = len(table.rows)
            for agents in sorted(sizes):
                table.add(measure(session, name, agents, int(periods), settings))
            groups.append(table.rows[first:])
    report.table("Fits", ("scenario", "periods"), [fit(rows) for rows in groups if len(rows) > 1])
    targets = [target for rows in groups for target in targets_of(rows)]
    if settings.central:
        solves = report.table("Beside the central optimum", ("scenario", "prosumers"))
        for name, agents in settings.central.items():
            solves.add(central_row(name, agents))
        targets += [
            Target(
                f"{row['scenario']}, {row['prosumers']} prosumers: gap to the central optimum [%]",
                row["gap_percent"],
                at_most=0.01,
            )
            for row in solves.rows
        ]
    report.targets(targets)
