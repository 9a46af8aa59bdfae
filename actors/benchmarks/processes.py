"""One process per prosumer: memory and start-up of an actor, and what an iteration costs.

`community` with every prosumer in a Ray actor of its own (placement 'each'), which is a process. A
size at which the machine would keep less than `keep_gib` is left out, and says so; the most that it
can hold is measured in its place. 'Each' is what all actors take over their number: the
proportional set size (PSS) counts pages that several processes share in parts, private memory
counts none of them. Start-up is the time until all actors have loaded their prosumers and kernels.
Rounds after the first two, on warm actors.
"""

from __future__ import annotations

from statistics import fmean
from time import monotonic, sleep
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from actors.benchmarks.common import (
    GIB,
    Clock,
    SuiteSettings,
    available_bytes,
    private_bytes,
    proportional_bytes,
    repeat,
)
from actors.cluster import ClusterOptions
from actors.placement import PROCESS_BYTES, PlacementKind, PlacementPolicy
from actors.session import Session, clearing_options
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario

MIB = 1024.0**2
FIGURES = (
    "status", "rounds", "start_s", "start_each_s", "pss_each_mib", "private_each_mib",
    "taken_from_the_machine_gib", "clearing_s", "round_ms", "us_per_actor_and_round",
)  # fmt: skip
SLACK_GIB = 0.5
"""What the machine may have less by the time that the last size has its turn."""
GIVEN_BACK_AFTER_S = 60.0
"""Longest wait for memory that ended processes give back."""
EACH = PlacementPolicy(PlacementKind.EACH)


class Settings(SuiteSettings):
    """What can be set; `keep_gib` is what the machine must keep free."""

    scenario: str = "community"
    sizes: tuple[PositiveInt, ...] = (25, 50, 100, 200, 300)
    repeats: PositiveInt = 3
    keep_gib: PositiveFloat = 2.5


QUICK = Settings(sizes=(2,), repeats=1)


def left_out(agents: int, settings: Settings) -> str:
    """Why a size is not measured; empty where it is."""
    left = (available_bytes() - agents * PROCESS_BYTES) / GIB
    if left >= settings.keep_gib:
        return ""
    return f"left out: {left:.1f} GiB would stay free, {settings.keep_gib:g} GiB have to"


def sizes_to_try(settings: Settings) -> list[int]:
    """The sizes in order, with the most that memory holds where some do not fit."""
    room = available_bytes() - (settings.keep_gib + SLACK_GIB) * GIB
    most = int(room / PROCESS_BYTES)
    fit = [size for size in settings.sizes if size <= most]
    at_most = {most} if 0 < most < max(settings.sizes) and most > max(fit, default=0) else set()
    return sorted({*settings.sizes, *at_most})


def wait_for_memory() -> None:
    """Wait until the processes of the size before have given their memory back."""
    last, deadline = 0.0, monotonic() + GIVEN_BACK_AFTER_S
    while (now := available_bytes()) > last + MIB and monotonic() < deadline:
        last = now
        sleep(2.0)


def measure(session: Session, agents: int, settings: Settings) -> dict[str, Any]:
    """Start so many actors, and clear on them."""
    scenario, base_dir = load_scenario(settings.scenario, agents=agents)
    draft, options = draft_case(scenario, base_dir=base_dir), clearing_options(scenario)
    before = available_bytes()
    with session.market(draft, session.plan(draft, EACH)) as market:
        rounds_ms: list[float] = []

        def clearing() -> Any:
            clock = Clock()
            result = market.clear(options, clock)
            rounds_ms.extend(clock.rounds_ms)
            return result

        results = repeat(settings.repeats, clearing)
        pids = [pulse.pid for pulse in market.pulses[:-1]]
        return {
            "status": str(results[-1].status),
            "rounds": results[-1].iterations,
            "start_s": market.start_s,
            "start_each_s": market.start_s / agents,
            "pss_each_mib": fmean(map(proportional_bytes, pids)) / MIB,
            "private_each_mib": fmean(map(private_bytes, pids)) / MIB,
            "taken_from_the_machine_gib": (before - available_bytes()) / GIB,
            "clearing_s": Spread.of(result.seconds for result in results),
            "round_ms": Spread.of(rounds_ms),
            "us_per_actor_and_round": 1e3 * Spread.of(rounds_ms).median / agents,
        }


def run(report: Report, settings: Settings) -> None:
    """One process per prosumer, at more and more prosumers."""
    table = report.table(f"{settings.scenario}, a process each", ("prosumers",))
    for agents in sizes_to_try(settings):
        wait_for_memory()
        reason = left_out(agents, settings)
        if reason:
            table.add({"prosumers": agents, **dict.fromkeys(FIGURES), "status": reason})
            continue
        # Ray keeps ended workers for a while: each size has a Ray of its own.
        with Session(ClusterOptions("local")) as session:
            row = measure(session, agents, settings)
        table.add({"prosumers": agents, **row})
    done = [row for row in table.rows if row["rounds"] is not None]
    report.targets(
        [
            Target("most processes measured", max((r["prosumers"] for r in done), default=0),
                   at_least=300),
            *(
                Target(f"{row['prosumers']} processes: a round [ms]", row["round_ms"].median,
                       at_most=10.0)
                for row in done
                if row["prosumers"] == 25
            ),
        ]
    )  # fmt: skip
