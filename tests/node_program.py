"""Clears a market on a cluster and disturbs it meanwhile; a program of its own for tests.

`python node_program.py ADDRESS HOSTS [EVENT [VALUE]]` prints what came out as JSON. Events happen
after the fifth round: `host` kills the first prosumer host's process, `kill PID` any other,
`run COMMAND` runs a command (that pulls a cable, say).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

AT_ROUND = 5


def main(address: str, hosts: int, event: str = "", value: str = "") -> None:
    import ray

    from actors.cluster import ClusterOptions, connect
    from actors.driver import RayMarket, place
    from actors.placement import PlacementPolicy
    from raygrid.market.clearing import ClearingOptions
    from raygrid.market.messages import RoundOutcome
    from tests.cases import small_case

    # Tolerances so tight that rounds are still to come after the event.
    case = small_case(n=60, n_periods=24, seed=3, limit_kw=20.0)
    options = ClearingOptions(absolute_tolerance=1e-7, relative_tolerance=1e-6)
    with connect(ClusterOptions(address=address)) as cluster:
        resources = cluster.resources()
        placement = place(case, PlacementPolicy.parse(str(hosts)), resources)
        with RayMarket(case, placement, resources) as market:
            where = {actor.actor_id: actor.node_id for actor in _actors(address)}
            rounds: list[float] = []

            def on_round(_: RoundOutcome) -> None:
                rounds.append(perf_counter())
                if len(rounds) == AT_ROUND:
                    disturb(market)

            def disturb(market: RayMarket) -> None:
                if event == "host":
                    os.kill(market.pulses[0].pid, signal.SIGKILL)
                elif event == "kill":
                    os.kill(int(value), signal.SIGKILL)
                    # What stands on a raylet goes some time after it.
                    sleep(3.0)
                elif event == "run":
                    subprocess.run(shlex.split(value), check=True)

            started = perf_counter()
            result = market.clear(options, on_round)
            told: dict[str, Any] = {
                "nodes": len(resources.nodes),
                "nodes_used": len(set(where.values())),
                "status": str(result.status),
                "welfare": result.welfare,
                "iterations": result.iterations,
                "failures": list(market.failures),
                "seconds": perf_counter() - started,
                "longest_round_s": max(after - before for before, after in pairwise(rounds)),
                "transport": str(market._exchange.transport) if market._exchange else "",
                "ray": ray.__version__,
            }
    print(json.dumps(told))


def _actors(address: str) -> list[Any]:
    from ray.util.state import list_actors

    return [actor for actor in list_actors(address=address) if actor.state == "ALIVE"]


if __name__ == "__main__":
    address, count, *rest = sys.argv[1:]
    main(address, int(count), *rest)
