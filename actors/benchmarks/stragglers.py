"""Rounds and time with hosts that are really late, by how many, how often and how long.

Eight host processes on Ray; some of them sleep before they answer, always or in a part of their
steps. Rounds wait for everybody (over the same plain calls), or go on without late hosts within
bounds. Gaps are to the central solve of the same case. The last table stops a process (SIGSTOP) in
the fifth round and lets it go on (SIGCONT) later.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Timer
from time import sleep
from unittest.mock import patch

import numpy as np
from pydantic import Field

from actors.benchmarks.common import SuiteSettings, load
from actors.carriers import Transport
from actors.cluster import ClusterOptions, connect
from actors.crew import Crew
from actors.driver import place
from actors.exchange import RayExchange
from actors.placement import PlacementKind, PlacementPolicy
from actors.prosumer import ProsumerActor
from raygrid.market.central import solve_central
from raygrid.market.clearing import ClearingOptions
from raygrid.market.messages import Aggregate, PriceMessage, RoundOutcome
from raygrid.market.patience import Patience
from raygrid.market.session import RoundCallback, clear
from raygrid.results.benchmark import Report
from raygrid.scenario.case import Case

HOSTS = 8
PATIENCE_S = 0.03
WAYS: dict[str, Patience | None] = {
    "all are waited for": None,
    "5 rounds may be missed": Patience(PATIENCE_S, 5),
    "20 rounds may be missed": Patience(PATIENCE_S, 20),
}
STOP_AT_ROUND = 5


class LateActor(ProsumerActor):
    """A host that sleeps before some of its answers."""

    def be_late(self, delay_s: float, share: float, seed: int) -> None:
        """Sleep so long before this share of the answers, drawn from a seed."""
        self._late = delay_s, share, np.random.default_rng(seed)

    def step(self, message: PriceMessage) -> Aggregate:
        """As any host, but later."""
        answer = super().step(message)
        delay_s, share, draw = self._late
        if draw.random() < share:
            sleep(delay_s)
        return answer


@dataclass(frozen=True)
class Row:
    """One clearing.

    Attributes
    ----------
    stragglers : int
        Hosts that are late.
    late_s : float
        By how much [s].
    late_share : float
        In which share of their steps.
    rounds_wait : str
        How rounds wait.
    rounds : int
        Iterations.
    seconds : float
        Time of the clearing [s].
    short_rounds, late_answers : int
        Rounds that went on without somebody, and answers that came too late to be used.
    gap_percent : float
        To the central optimum [%].
    """

    stragglers: int
    late_s: float
    late_share: float
    rounds_wait: str
    rounds: int
    seconds: float
    short_rounds: int
    late_answers: int
    gap_percent: float


@dataclass(frozen=True)
class Bench:
    """Warm actors of a case and its central optimum."""

    crew: Crew
    case: Case
    options: ClearingOptions
    central: float

    def clear(
        self, late: tuple[int, float, float], way: str, on_round: RoundCallback | None = None
    ) -> Row:
        """Clear once, with so many late hosts."""
        stragglers, late_s, share = late
        for k in range(HOSTS):
            delay = (late_s, share, k) if k < stragglers else (0.0, 0.0, k)
            self.crew.hosts[k].be_late.remote(*delay)
        settings = replace(self.options, patience=WAYS[way])
        with RayExchange(self.crew, self.case, settings, Transport.PLAIN) as exchange:
            result = clear(self.case, settings, exchange, on_round)
            waits = exchange.waits
        gap = 100 * abs(result.welfare - self.central) / abs(self.central)
        short, too_late = (0, 0) if waits is None else (waits.short_rounds, waits.late)
        return Row(
            stragglers, late_s, share, way, result.iterations, result.seconds, short, too_late, gap
        )

    def clear_stopped(self, stop_s: float, way: str) -> dict[str, object]:
        """Clear with one host stopped for some time."""
        stop = stop_at(self.crew.pulses[0].pid, stop_s, STOP_AT_ROUND)
        row = self.clear((0, 0.0, 0.0), way, stop)
        # It must run again before the next one begins.
        self.crew.take_pulses()
        names = ("rounds_wait", "rounds", "seconds", "short_rounds", "gap_percent")
        return {"stopped_s": stop_s, **{name: getattr(row, name) for name in names}}


def stop_at(pid: int, seconds: float, at: int) -> Callable[[RoundOutcome], None]:
    """A round callback that stops a process for so long after a given round."""
    seen: list[RoundOutcome] = []

    def stop(outcome: RoundOutcome) -> None:
        seen.append(outcome)
        if len(seen) == at:
            os.kill(pid, signal.SIGSTOP)
            Timer(seconds, os.kill, (pid, signal.SIGCONT)).start()

    return stop


class Settings(SuiteSettings):
    """What can be set."""

    agents: int = Field(80, ge=HOSTS)
    late: tuple[tuple[int, float, float], ...] = (
        (0, 0.0, 0.0), (1, 0.3, 0.1), (4, 0.3, 0.1), (8, 0.3, 0.05), (1, 0.1, 1.0), (4, 0.1, 1.0),
    )  # fmt: skip
    stops_s: tuple[float, ...] = (0.5, 2.0)


QUICK = Settings(agents=16, late=((2, 0.1, 0.2),), stops_s=(0.2,))


def run(report: Report, settings: Settings) -> None:
    """Measure clearings with late hosts."""
    rows = report.table(
        f"Late hosts of {HOSTS}, patience {PATIENCE_S} s",
        ("stragglers", "late_s", "late_share", "rounds_wait"),
    )
    stopped = report.table("One host stopped in the fifth round", ("stopped_s", "rounds_wait"))
    case, options = load("community", settings.agents)
    options = replace(options, max_iterations=2000)
    central = solve_central(case, network_constrained=options.network_constrained).welfare
    with (
        connect(ClusterOptions("local")) as cluster,
        patch("actors.hiring.ProsumerActor", LateActor),
    ):
        resources = cluster.resources()
        placement = place(case, PlacementPolicy(PlacementKind.COUNT, HOSTS), resources)
        # Sleeping hosts need no CPU of their own.
        crew = Crew(case, replace(placement, num_cpus=0, threads=1), resources)
        bench = Bench(crew, case, options, central)
        bench.clear((0, 0.0, 0.0), "all are waited for")
        for late in settings.late:
            for way in WAYS:
                rows.add(bench.clear(late, way))
        for stop_s in settings.stops_s:
            for way in WAYS:
                stopped.add(bench.clear_stopped(stop_s, way))
        crew.dismiss()
