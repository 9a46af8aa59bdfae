"""What Ray adds to an iteration: rounds on Ray against the same rounds in this process.

All sides are measured in one run, on the same case, and must agree bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import Clock, SuiteSettings, load, private_bytes
from actors.carriers import Transport
from actors.cluster import ClusterOptions, connect
from actors.crew import Crew
from actors.driver import place
from actors.exchange import RayExchange
from actors.placement import PlacementKind, PlacementPolicy
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.session import clear, local_exchange
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.case import Case

OVERHEAD_TO_REACH_MS = {2: 3.0, 25: 10.0}
"""What Ray may add to a round, by the number of hosts [ms]."""


@dataclass(frozen=True)
class Row:
    """One way to carry the rounds of one clearing.

    Attributes
    ----------
    hosts : int
        Prosumer actors.
    transport : str
        'links', 'plain' or 'graph'.
    masked : bool
        Whether hosts masked their sums.
    start_actors_s : float
        Until the actors were ready [s].
    prepare_s : float
        Start of the clearing and, for the graph, its compilation [s].
    clear_s : float
        The clearing: rounds, final schedule, bound [s].
    rounds : int
        Iterations.
    round_ms : Spread
        Time of a round after the first two [ms].
    local_round_ms : Spread
        The same in this process [ms].
    overhead_ms : float
        What Ray adds to a round, by the medians [ms].
    resident_mib, private_mib : float
        Memory of a host, with and without shared pages [MiB].
    same_bits : bool
        Whether the market equals the one cleared in this process.
    """

    hosts: int
    transport: str
    masked: bool
    start_actors_s: float
    prepare_s: float
    clear_s: float
    rounds: int
    round_ms: Spread
    local_round_ms: Spread
    overhead_ms: float
    resident_mib: float
    private_mib: float
    same_bits: bool


def same_bits(one: ClearingResult, other: ClearingResult) -> bool:
    """Whether two clearings agree in residuals, prices, injections and welfare."""
    return (
        [r.primal_residual for r in one.records] == [r.primal_residual for r in other.records]
        and np.array_equal(one.lmp_per_kwh, other.lmp_per_kwh)
        and np.array_equal(one.p_bus_kw, other.p_bus_kw)
        and one.welfare == other.welfare
    )


def measure_hosts(
    hosts: int, case: Case, options: ClearingOptions, reference: ClearingResult, local_ms: Spread
) -> list[Row]:
    """All transports with this many hosts, each with warm actors."""
    rows = []
    with connect(ClusterOptions("local")) as cluster:
        resources = cluster.resources()
        policy = PlacementPolicy(PlacementKind.COUNT, hosts)
        started = perf_counter()
        crew = Crew(case, place(case, policy, resources), resources)
        start_s = perf_counter() - started
        for transport, masked in (*((t, False) for t in Transport), (Transport.LINKS, True)):
            settings = replace(options, masked_sums=masked)
            for _ in range(2):  # the second time shows warm actors
                with RayExchange(crew, case, settings, transport) as exchange:
                    started = perf_counter()
                    exchange.prepare()
                    prepare_s = perf_counter() - started
                    clock = Clock()
                    result = clear(case, settings, exchange, clock)
            rows.append(
                Row(
                    hosts=hosts,
                    transport=str(transport),
                    masked=masked,
                    start_actors_s=start_s,
                    prepare_s=prepare_s,
                    clear_s=result.seconds,
                    rounds=result.iterations,
                    round_ms=clock.round_ms,
                    local_round_ms=local_ms,
                    overhead_ms=clock.round_ms.median - local_ms.median,
                    resident_mib=crew.pulses[0].resident_bytes / 1024**2,
                    private_mib=private_bytes(crew.pulses[0].pid) / 1024**2,
                    same_bits=same_bits(result, reference),
                )
            )
    return rows


class Settings(SuiteSettings):
    """What can be set."""

    scenario: str = "ieee14"
    hosts: tuple[PositiveInt, ...] = (2, 25)


QUICK = Settings(scenario="tiny", hosts=(2,))


def run(report: Report, settings: Settings) -> None:
    """Measure what Ray adds to an iteration."""
    case, options = load(settings.scenario)
    for _ in range(2):
        clock = Clock()
        reference = clear(case, options, local_exchange(case, options), clock)
    table = report.table(
        f"{settings.scenario}: {len(case.community)} prosumers, {case.n_periods} periods",
        ("hosts", "transport", "masked"),
    )
    for hosts in settings.hosts:
        for row in measure_hosts(hosts, case, options, reference, clock.round_ms):
            table.add(row)
    report.targets(
        Target(f"{row['hosts']} hosts, links: overhead [ms]", row["overhead_ms"], at_most=at_most)
        for row in table.rows
        for hosts, at_most in OVERHEAD_TO_REACH_MS.items()
        if (row["hosts"], row["transport"], row["masked"]) == (hosts, Transport.LINKS, False)
    )
