"""Starting the processes of a market, and waiting for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.cluster import ClusterResources
from actors.operator import NetworkOperatorActor
from actors.placement import Placement
from actors.prosumer import ProsumerActor
from raygrid.errors import EndedShortError

SPREAD = "SPREAD"
"""Ray's strategy that fills all machines evenly."""
MAX_RESTARTS = 4
"""How often Ray starts a dead actor's process anew."""

Handle = Any
"""A Ray actor handle; Ray gives them no static type."""


def hire_host(threads: int, num_cpus: int, where: Any = SPREAD) -> Handle:
    """A prosumer actor.

    Parameters
    ----------
    threads : int
        Threads of its block.
    num_cpus : int
        CPUs that it reserves.
    where : object
        Ray's scheduling strategy.
    """
    import ray

    host_class: Any = ray.remote(ProsumerActor)
    options = {"scheduling_strategy": where, "max_restarts": MAX_RESTARTS}
    return host_class.options(num_cpus=num_cpus, **options).remote(threads)


def hire_operator(where: Any = SPREAD) -> Handle:
    """The network operator, which reserves no CPU; `where` is Ray's scheduling strategy."""
    import ray

    operator_class: Any = ray.remote(NetworkOperatorActor)
    options = {"scheduling_strategy": where, "max_restarts": MAX_RESTARTS}
    return operator_class.options(num_cpus=0, **options).remote()


def await_ready(
    members: Sequence[Handle], placement: Placement, resources: ClusterResources, timeout_s: float
) -> None:
    """Wait for processes, as long as some become ready.

    Raises
    ------
    EndedShortError
        None did for so long.
    """
    import ray

    waiting: list[Any] = [member.ping.remote() for member in members]
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=timeout_s)
        ray.get(ready)
        if not ready:
            free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
            raise EndedShortError(
                f"{len(waiting)} of {len(members)} actors were not scheduled within "
                f"{timeout_s:.0f} s: {placement.describe()}; the cluster has "
                f"{resources.cpus} CPUs on {len(resources.nodes)} node(s), "
                f"{free.get('CPU', 0):g} of them free; wait, ask for fewer --actors, "
                "or use a larger cluster"
            )
