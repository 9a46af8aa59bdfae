"""Who of a crew answers: everybody is pinged at once, and those who stay silent are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

from actors.prosumer import Pulse

_LOOK_S = 0.5
"""Time between two looks at who is missing."""
_AGAIN_S = 0.1
"""Wait before an actor that is just being restarted is asked again."""


def call_roll(
    members: Sequence[Any], patience_s: Callable[[frozenset[str]], Sequence[float]]
) -> list[Pulse | None]:
    """The pulse of every member; None for one that died for good or stayed silent too long.

    Parameters
    ----------
    members : sequence of actor handles
        Whom to ask.
    patience_s : callable
        Gets the nodes that Ray holds for alive and gives the longest wait for each member [s].

    Returns
    -------
    list of Pulse or None
        In the order of the members.
    """
    import ray
    from ray.exceptions import ActorUnavailableError, RayActorError

    started = monotonic()
    pulses: list[Pulse | None] = [None] * len(members)
    asked = {member.ping.remote(): k for k, member in enumerate(members)}
    while asked:
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_LOOK_S)
        again = []
        for ref in ready:
            k = asked.pop(ref)
            try:
                pulses[k] = ray.get(ref)
            except ActorUnavailableError:
                again.append(k)
            except RayActorError:
                pass
        if not asked and not again:
            break
        patience = patience_s(_alive())
        waited = monotonic() - started
        asked = {ref: k for ref, k in asked.items() if waited < patience[k]}
        again = [k for k in again if waited < patience[k]]
        if again:
            sleep(_AGAIN_S)
            asked |= {members[k].ping.remote(): k for k in again}
    return pulses


def _alive() -> frozenset[str]:
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return frozenset(node["NodeID"] for node in nodes if node["Alive"])
