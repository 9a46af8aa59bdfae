"""How a round's messages travel: over links, by plain calls, or by a compiled graph.

All carry the same messages between the same methods, hence the same bits.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from actors.crew import Crew
from actors.link import DRIVER, Link, LinkError
from actors.wire import decode_outcome
from raygrid.market.channel import Staleness
from raygrid.market.messages import (
    Aggregate,
    OperatorMemory,
    PriceMessage,
    RoundDecision,
    RoundOutcome,
)
from raygrid.market.patience import Patience
from raygrid.market.staleness import StaleRounds, Traffic
from raygrid.market.stragglers import PatientRounds, Waits

FIRST_STEP_TIMEOUT_S = 300.0
"""Patience with the first round of a graph, before we know how long a round takes."""
MIN_STEP_TIMEOUT_S = 20.0
"""Least patience with a later round; a loaded machine is slow, not dead."""
STEP_TIMEOUT_FACTOR = 50.0
"""Patience with a later round, in times of the longest round so far."""
MIN_BUFFER_BYTES = 64 * 1024
"""Least size of a graph channel's buffer: a small case's message with its pickle around it."""
BLAME_TIMEOUT_S = 2.0
"""How long the actors have to say what broke a link."""


class Transport(StrEnum):
    """How a round's messages travel."""

    LINKS = "links"
    PLAIN = "plain"
    GRAPH = "graph"


class Carrier(Protocol):
    """One way to carry rounds; no plain calls may run beside it between `open` and `close`."""

    def open(self, opening: RoundOutcome) -> None:
        """Make ready for the round that `opening` opens."""
        ...

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Do the round that `outcome` opens."""
        ...

    def close(self) -> None:
        """End it; the actors stay. Idempotent."""
        ...


def carrier_for(transport: Transport, crew: Crew) -> Carrier:
    """A new carrier.

    Parameters
    ----------
    transport : Transport
        Which way.
    crew : Crew
        The actors.
    """
    if transport is Transport.LINKS:
        return LinkCarrier(crew) if crew.divided is None else FeederCarrier(crew)
    return PlainCarrier(crew) if transport is Transport.PLAIN else GraphCarrier(crew)


class PlainCarrier:
    """Two actor calls a round and host; nothing to open, nothing to break."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def open(self, opening: RoundOutcome) -> None:
        """Nothing to do."""

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Do the round that `outcome` opens."""
        import ray

        sums = [
            host.step.remote(message)
            for host, message in zip(self._crew.hosts, outcome.messages, strict=True)
        ]
        following: RoundOutcome = ray.get(self._crew.operator.handle.remote(*sums))
        return following

    def close(self) -> None:
        """Nothing to do."""


class LinkCarrier:
    """The operator leads the rounds over links to the hosts and tells the driver of each.

    A link is closed by the kernel when its process ends, whatever ended it.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._link: Link | None = None
        self._calls: list[Any] = []

    def open(self, opening: RoundOutcome) -> None:
        """Let hosts and driver call the operator, and let it lead."""
        import ray

        hosts, operator = self._crew.hosts, self._crew.operator
        key = secrets.token_bytes(32)
        door = ray.get(operator.open_door.remote(self._crew.on_one_node))
        self._calls = [operator.lead.remote(len(hosts), key, opening.messages)]
        self._calls += [host.follow.remote(door, key) for host in hosts]
        try:
            self._link = Link.call(door, key, DRIVER)
        except LinkError as error:
            raise self._blame(error) from error

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Hear of the round that `outcome` opened."""
        if self._link is None:
            self.open(outcome)
        assert self._link is not None
        try:
            following: RoundOutcome = decode_outcome(self._link.recv_bytes())
        except LinkError as error:
            raise self._blame(error) from error
        if following.decision is not RoundDecision.CONTINUE:
            self.close()
            return following
        # What the operator had sent before it went can still be read.
        with suppress(LinkError):
            self._link.send_bytes(b"")
        return following

    def close(self) -> None:
        """Hang up; the operator and with it the hosts end their calls."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _blame(self, error: LinkError) -> Exception:
        """What an actor's call says of a broken link tells more than the link does."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError, RayTaskError

        self.close()
        told: list[Exception] = []
        for call in self._calls:
            try:
                ray.get(call, timeout=BLAME_TIMEOUT_S)
            except GetTimeoutError:
                continue
            except RayError as raised:
                told.append(raised)
        own = [
            e for e in told if isinstance(e, RayTaskError) and not isinstance(e.cause, LinkError)
        ]
        return next(iter([*own, *told]), error)


class FeederCarrier(LinkCarrier):
    """Feeder operators lead their hosts over links, and the operator leads the feeder operators.

    The outcomes of its rounds carry no messages: prices stay with the feeder operators and hosts.
    """

    def open(self, opening: RoundOutcome) -> None:
        """Let everybody call who leads him, and let them lead."""
        import ray

        crew, operator = self._crew, self._crew.operator
        assert crew.divided is not None
        division = crew.divided.division
        key = secrets.token_bytes(32)
        above, *doors = ray.get(
            [member.open_door.remote(crew.on_one_node) for member in (operator, *crew.feeders)]
        )
        self._calls = [operator.lead_feeders.remote(division.n_feeders, key)]
        for feeder, door, own in zip(crew.feeders, doors, division.hosts, strict=True):
            messages = [opening.messages[k] for k in own]
            self._calls.append(feeder.lead.remote(above, key, messages))
            self._calls += [crew.hosts[k].follow.remote(door, key) for k in own]
        try:
            self._link = Link.call(above, key, DRIVER)
        except LinkError as error:
            raise self._blame(error) from error

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Hear of the round that `outcome` opened; the operator goes on alone after the last."""
        import ray

        following = super().carry(outcome)
        if following.decision is not RoundDecision.CONTINUE:
            states = [feeder.state.remote() for feeder in self._crew.feeders]
            ray.get(self._crew.operator.take_over.remote(*states))
        return following


class StaleCarrier:
    """Plain calls to the hosts that a modelled channel reaches in time.

    After a failure everybody is waited for once, and the hosts' last steps stand.
    """

    def __init__(self, crew: Crew, staleness: Staleness, traffic: Traffic) -> None:
        self._crew = crew
        self._rounds = StaleRounds(len(crew.hosts), staleness, self._step, self._handle, traffic)

    def open(self, opening: RoundOutcome) -> None:
        """Nothing to do."""

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Do the round that `outcome` opens."""
        return self._rounds.round(outcome)

    def close(self) -> None:
        """Nothing to do."""

    def _step(self, who: Sequence[int], messages: Sequence[PriceMessage]) -> Sequence[Aggregate]:
        import ray

        hosts = self._crew.hosts
        answers: list[Aggregate] = ray.get(
            [hosts[k].step.remote(message) for k, message in zip(who, messages, strict=True)]
        )
        return answers

    def _handle(self, aggregates: Sequence[Aggregate], all_fresh: bool) -> RoundOutcome:
        return _handle_stale(self._crew, aggregates, all_fresh)


class PatientCarrier:
    """Plain calls to the hosts, of whom late ones are waited for with bounds.

    After a failure everybody is waited for once, and the hosts' last steps stand. With masked
    sums nobody can be left out: a round waits for all, and is void where a host counts as dead.
    """

    def __init__(self, crew: Crew, patience: Patience, masked: bool, waits: Waits) -> None:
        self._crew = crew
        bounds = replace(patience, max_staleness=0) if masked else patience
        self._rounds = PatientRounds(len(crew.hosts), bounds, self, self._handle, waits)
        self._asked: dict[Any, int] = {}

    def open(self, opening: RoundOutcome) -> None:
        """Nothing to do."""

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Do the round that `outcome` opens."""
        return self._rounds.round(outcome)

    def close(self) -> None:
        """Nothing to do."""

    def send(self, host: int, message: PriceMessage) -> None:
        """Call a host's step."""
        self._asked[self._crew.hosts[host].step.remote(message)] = host

    def collect(self, timeout_s: float) -> Sequence[tuple[int, Aggregate]]:
        """Answers that have come; waits so long for the first of them."""
        import ray

        asked = list(self._asked)
        ray.wait(asked, timeout=timeout_s)
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
        answers: list[Aggregate] = ray.get(ready)
        return [(self._asked.pop(ref), one) for ref, one in zip(ready, answers, strict=True)]

    def _handle(self, aggregates: Sequence[Aggregate], all_fresh: bool) -> RoundOutcome:
        return _handle_stale(self._crew, aggregates, all_fresh)


def _handle_stale(crew: Crew, aggregates: Sequence[Aggregate], all_fresh: bool) -> RoundOutcome:
    import ray

    following: RoundOutcome = ray.get(
        crew.operator.handle_stale.remote(list(aggregates), all_fresh)
    )
    return following


class GraphCarrier:
    """A Ray Compiled Graph of driver, hosts, operator and driver.

    Its channels spin while they wait: with more processes than CPUs it is no faster than plain
    calls, and an idle graph keeps the CPUs busy.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._graph: Any = None
        self._step_timeout_s = FIRST_STEP_TIMEOUT_S

    def open(self, opening: RoundOutcome) -> None:
        """Compile the graph, which takes as long as some twenty rounds."""
        from ray.dag import InputNode

        # Both int64 sums of a host are twice its message; the operator sends all messages, and
        # what its successor would have to know.
        size = sum(message.pi_kw.nbytes for message in opening.messages)
        case = self._crew.case
        size += 9 * case.rows.n_rows * case.n_periods
        with InputNode() as inputs:
            sums = [host.step.bind(inputs[f"host_{k}"]) for k, host in enumerate(self._crew.hosts)]
            graph = self._crew.operator.handle.bind(*sums)
        self._graph = graph.experimental_compile(
            _submit_timeout=self._step_timeout_s,
            _buffer_size_bytes=max(MIN_BUFFER_BYTES, 2 * size),
            _max_inflight_executions=1,
        )

    def carry(self, outcome: RoundOutcome) -> RoundOutcome:
        """Do the round that `outcome` opens; the longest so far sets the patience with the next."""
        if self._graph is None:
            self.open(outcome)
        started = perf_counter()
        inputs = {f"host_{k}": message for k, message in enumerate(outcome.messages)}
        following: RoundOutcome = self._graph.execute(**inputs).get(self._step_timeout_s)
        longest = STEP_TIMEOUT_FACTOR * (perf_counter() - started)
        if self._step_timeout_s == FIRST_STEP_TIMEOUT_S:
            self._step_timeout_s = MIN_STEP_TIMEOUT_S
        self._step_timeout_s = max(self._step_timeout_s, longest)
        # The arrays lie in the channel's buffer, which the operator cannot write to again
        # before we let go of them.
        messages = tuple(replace(m, pi_kw=np.array(m.pi_kw)) for m in following.messages)
        memory = following.memory
        if memory is not None:
            copies = (memory.active, memory.balance_price_per_kwh, memory.row_price)
            memory = OperatorMemory(*map(np.array, copies))
        return replace(following, messages=messages, memory=memory)

    def close(self) -> None:
        """Tear the graph down."""
        if self._graph is not None:
            graph, self._graph = self._graph, None
            graph.teardown()
