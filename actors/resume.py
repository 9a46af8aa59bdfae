"""Bringing a new crew to where the rounds of another one had come to, by a checkpoint."""

from __future__ import annotations

from typing import Any

from actors.checkpoint import PastRounds, for_hosts
from actors.crew import Crew
from actors.log import RoundLog
from raygrid.market.messages import RoundDecision
from raygrid.market.operator import MEAN_ROUNDS


def catch_up(crew: Crew, past: PastRounds, log: RoundLog, tightening: float) -> None:
    """Bring everybody, freshly started, to the round that the last outcome opens.

    Hosts do all rounds once more. Operators do only the last ones, which leave behind all that
    they know.

    Parameters
    ----------
    crew : Crew
        Whom to bring there.
    past : PastRounds
        The rounds; the last outcome opens the one to be done.
    log : RoundLog
        Gets them, with messages for the hosts of this crew.
    tightening : float
        Product of the factors by which tolerances were tightened.
    """
    import ray

    last, waiting = len(past) - 1, list[Any]()
    for k, whole in enumerate(past):
        outcome = for_hosts(whole, crew.host_buses)
        log.add(outcome)
        if k == last or not crew.replays:
            continue
        asked = zip(crew.hosts, outcome.messages, strict=True)
        sums = [host.step.remote(message) for host, message in asked]
        ray.get(waiting)  # not more than two rounds of messages are under way
        waiting = sums
        if k < last - MEAN_ROUNDS - 1:
            continue
        if crew.divided is None:
            waiting = [crew.operator.redo.remote(outcome, tightening, *sums)]
        else:
            waiting = crew.divided.redo(crew.operator, outcome, sums, tightening)
    if not crew.replays:
        asked = zip(crew.hosts, log.opening.messages, strict=True)
        waiting = [host.resume.remote(message) for host, message in asked]
    ray.get(waiting)
    ray.get(crew.operator.go_on.remote(log.opening, tightening))
    if crew.divided is not None and log.opening.decision is not RoundDecision.CONTINUE:
        states = [feeder.state.remote() for feeder in crew.feeders]
        ray.get(crew.operator.take_over.remote(*states))
