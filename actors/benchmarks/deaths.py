"""Killing what a market runs on, by process id, at a chosen moment of its clearing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from unittest.mock import patch

from actors.benchmarks.common import process_tree
from actors.driver import RayMarket
from actors.hiring import hire_operator
from actors.prosumer import ProsumerActor, Pulse
from raygrid.errors import EndedShortError
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.messages import Aggregate, PriceMessage, RoundDecision, RoundOutcome

AT_ROUND = 5
"""Round in which, or after which, somebody dies."""
HIRED_AT_MOST = 20
"""Operators that are hired until one stands on the wanted node."""
GONE_AFTER_S = 20.0
"""Longest wait for a process to end that stands on a killed raylet."""


class Victim(StrEnum):
    """Who is killed: a process, or the raylet of a node with all that stands on it."""

    HOST = "host"
    OPERATOR = "operator"
    WORKER_RAYLET = "worker_raylet"
    OPERATOR_RAYLET = "operator_raylet"

    @property
    def is_node(self) -> bool:
        """Whether a whole node goes, with all that stands on it."""
        return self in (Victim.WORKER_RAYLET, Victim.OPERATOR_RAYLET)


class Moment(StrEnum):
    """When: before the first round, in the midst of one, after one, before the final schedule,
    before all schedules are fetched or written."""

    START = "start"
    WITHIN = "within"
    BETWEEN = "between"
    FINAL = "final"
    WRITING = "writing"


class FatalHost(ProsumerActor):
    """A host that kills somebody in the middle of a step."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        self._fatal: tuple[int, int] | None = None

    def kill_within(self, pid: int, gone: int) -> None:
        """Kill a process in the step of round `AT_ROUND`; another one ends by it."""
        self._fatal = pid, gone

    def step(self, message: PriceMessage) -> Aggregate:
        """As any host, but for that one."""
        if self._fatal is not None and message.iteration == AT_ROUND:
            fatal, self._fatal = self._fatal, None
            kill(*fatal)
        return super().step(message)


def kill(pid: int, gone: int) -> None:
    """Kill a process by its id, and wait until one that stands on it has ended too."""
    os.kill(pid, signal.SIGKILL)
    deadline = monotonic() + GONE_AFTER_S
    while is_there(gone) and monotonic() < deadline:
        sleep(0.05)


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def raylet_of(pulse: Pulse) -> int:
    """Process id of the raylet that an actor on this machine stands on."""
    stat = Path(f"/proc/{pulse.pid}/stat").read_text(encoding="ascii", errors="replace")
    return int(stat.rpartition(")")[2].split()[1])


@contextmanager
def fatal_crew(operator_node: str) -> Iterator[None]:
    """Let hosts be `FatalHost` and the operator stand on a node of our choice."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(operator_node, soft=True)

    def hired(where: Any = there) -> Any:
        # Ray heeds a soft wish of an actor without CPUs only now and then.
        for _ in range(HIRED_AT_MOST):
            operator = hire_operator(where)
            if where is not there or ray.get(operator.ping.remote()).node_id == operator_node:
                return operator
            ray.kill(operator)
        raise EndedShortError(f"Ray put no operator on node {operator_node}")

    with (
        patch("actors.hiring.ProsumerActor", FatalHost),
        patch("actors.crew.hire_operator", hired),
    ):
        yield


def doomed(victim: Victim, pulses: Sequence[Pulse], home: str) -> tuple[int, int]:
    """Whom to kill, and an actor's process that ends by it.

    Parameters
    ----------
    victim : Victim
        Who is meant.
    pulses : sequence of Pulse
        Of the hosts and, last, the operator.
    home : str
        Node of the driver, whose raylet stays.
    """
    *hosts, operator = pulses
    away = next((host for host in hosts if host.node_id != home), hosts[0])
    actor = operator if victim in (Victim.OPERATOR, Victim.OPERATOR_RAYLET) else away
    if victim.is_node and actor.node_id == home:
        raise EndedShortError(f"{victim}: it stands on the driver's own node")
    return (raylet_of(actor) if victim.is_node else actor.pid), actor.pid


def clear_with_a_death(
    market: RayMarket, options: ClearingOptions, moment: Moment, doom: tuple[int, int]
) -> tuple[ClearingResult, str]:
    """Clear once while somebody is killed; the result, and a digest of every bit of it.

    Parameters
    ----------
    market : RayMarket
        Opened within `fatal_crew`.
    options : ClearingOptions
        Settings.
    moment : Moment
        When.
    doom : tuple of int
        From `doomed`.
    """
    seen = 0

    def on_round(outcome: RoundOutcome) -> None:
        nonlocal seen
        seen += 1
        last = outcome.decision is not RoundDecision.CONTINUE
        if (moment is Moment.BETWEEN and seen == AT_ROUND) or (moment is Moment.FINAL and last):
            kill(*doom)

    if moment is Moment.START:
        kill(*doom)
    elif moment is Moment.WITHIN:
        # A host on the node that goes does it, else the first one.
        for host, pulse in zip(market._crew.hosts, market.pulses, strict=False):
            if pulse.pid == doom[1] or host is market._crew.hosts[-1]:
                host.kill_within.remote(*doom)
                break
    result = market.clear(options, on_round)
    if moment is Moment.WRITING:
        kill(*doom)
    return result, digest(result, market)


def digest(result: ClearingResult, market: RayMarket) -> str:
    """SHA-256 of prices, injections, bound and all schedules."""
    found = sha256(repr((result.welfare, result.bound)).encode())
    for array in (result.lmp_per_kwh, result.p_bus_kw, market.dispatch().p_kw):
        found.update(array.tobytes())
    return found.hexdigest()


class _Die:
    """Ends this process and all that it has started, as if its machine were gone."""

    def __call__(self, *_: object, **__: object) -> None:
        for pid in reversed(process_tree(os.getpid())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def dying_driver(moment: Moment) -> Iterator[None]:
    """Let a run in this process die with its machine, its own Ray and all, at a moment."""
    die: Callable[..., None] = _Die()
    rounds = 0

    def observe(_: object, outcome: RoundOutcome) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == AT_ROUND:
            die()

    with ExitStack() as stack:
        if moment is Moment.START:
            stack.enter_context(patch("actors.driver.clear", die))
        elif moment is Moment.FINAL:
            stack.enter_context(patch("actors.exchange.RayExchange.finish", die))
        elif moment is Moment.WRITING:
            stack.enter_context(patch("actors.driver.RayMarket.write_schedule", die))
        else:
            stack.enter_context(patch("actors.metrics.ClearingMetrics.observe", observe))
        yield
