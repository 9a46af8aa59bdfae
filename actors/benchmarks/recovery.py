"""Recovery from deaths: what a killed process, node or driver costs in seconds and rounds.

A community is cleared by two hosts on a cluster of two nodes on this machine, whose health checks
are those of cluster/. Somebody is killed by process id: the process of a host or of the network
operator, or the raylet under them, with which its node goes (the operator's raylet takes a host
with it too). Seconds are those of the clearing and of fetching all schedules, less those of an
undisturbed one on the same actors just before; extra rounds likewise. The same bits are those of
all prices, schedules, welfare and bound. The last table kills a driver with its machine, a Ray of
its own, and times `raygrid simulate --resume` beside the whole command undisturbed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any
from unittest.mock import patch

from pyarrow.parquet import read_table
from pydantic import Field, PositiveInt

from actors.benchmarks.common import BARE, SuiteSettings, load
from actors.benchmarks.deaths import (
    Moment,
    Victim,
    clear_with_a_death,
    digest,
    doomed,
    dying_driver,
    fatal_crew,
)
from actors.benchmarks.ray_nodes import Head, ray_head, ray_worker
from actors.cluster import ClusterOptions, connect
from actors.driver import RayMarket, place
from actors.placement import PlacementPolicy
from raygrid.errors import EndedShortError
from raygrid.results.benchmark import Report, Spread, Target

HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
"""As in cluster/."""
WORKER_HOST = "127.0.0.2"
HOSTS = 2
FLAGS = ("--chain=none", "--no-central")
MARKET = tuple(word for setting in BARE for word in ("--set", setting))
SECONDS_TO_REACH = {False: 10.0, True: 30.0}
"""Of a killed process, and of a killed raylet."""
ROUNDS_TO_REACH = 10
PLACED_AFTER_S = 30.0
"""Longest wait for a new node to take work."""


class Settings(SuiteSettings):
    """What can be set.

    Attributes
    ----------
    agents : int
        Prosumers of the community.
    cases : dict of Victim to tuple of Moment
        Who is killed, and when.
    drivers : tuple of Moment
        When drivers are killed.
    repeats : int
        Deaths of each.
    """

    agents: PositiveInt = 200
    cases: dict[Victim, tuple[Moment, ...]] = Field(
        default={
            Victim.HOST: tuple(Moment),
            Victim.OPERATOR: tuple(Moment),
            Victim.WORKER_RAYLET: (Moment.WITHIN, Moment.FINAL),
            Victim.OPERATOR_RAYLET: (Moment.WITHIN, Moment.FINAL),
        }
    )
    drivers: tuple[Moment, ...] = tuple(Moment)
    repeats: PositiveInt = 3


QUICK = Settings(
    agents=24,
    cases={Victim.HOST: (Moment.WITHIN,), Victim.WORKER_RAYLET: (Moment.WITHIN,)},
    drivers=(Moment.WITHIN,),
    repeats=1,
)


class Nodes:
    """A head node that stays, and a worker node that is started anew after each death."""

    def __init__(self, head: Head, folder: Path, variables: dict[str, str]) -> None:
        self._head, self._folder, self._variables = head, folder, variables
        self._stack = ExitStack()
        self._started = 0

    def renew(self) -> None:
        """End the worker node, if it is there, and start another."""
        self.close()
        self._started += 1
        self._stack.enter_context(
            ray_worker(
                self._head, sys.executable, self._folder, f"worker{self._started}",
                host=WORKER_HOST, cpus=2, **self._variables,
            )
        )  # fmt: skip

    def close(self) -> None:
        """End the worker node."""
        self._stack.close()


@dataclass(frozen=True)
class Death:
    """What one death cost.

    Attributes
    ----------
    recovery_s : float
        Time that the clearing took longer [s].
    extra_rounds : int
        Rounds more.
    mended : int
        Failures that were noted.
    same_bits : bool
        Whether the market is the same, bit for bit.
    """

    recovery_s: float
    extra_rounds: int
    mended: int
    same_bits: bool


class Bench:
    """A cluster of two nodes and a market to be cleared on it.

    Parameters
    ----------
    nodes : Nodes
        The cluster.
    agents : int
        Prosumers.
    """

    def __init__(self, nodes: Nodes, agents: int) -> None:

        self._nodes = nodes
        self._case, self._options = load("community", agents)
        self._home = _node_id()

    def die(self, victim: Victim, moment: Moment) -> Death:
        """Clear undisturbed, then with a death."""
        worker = self._worker()
        at_home = victim is not Victim.OPERATOR_RAYLET
        with fatal_crew(self._home if at_home else worker), connect(ClusterOptions()) as cluster:
            resources = cluster.resources()
            planned = place(self._case, PlacementPolicy.parse(str(HOSTS)), resources)
            with RayMarket(self._case, planned, resources) as market:
                started = perf_counter()
                whole = market.clear(self._options)
                bits = digest(whole, market)
                undisturbed_s = perf_counter() - started
                doom = doomed(victim, market.pulses, self._home)
                started = perf_counter()
                result, got = clear_with_a_death(market, self._options, moment, doom)
                recovery_s = perf_counter() - started - undisturbed_s
                more = result.iterations - whole.iterations
                return Death(recovery_s, more, len(market.failures), got == bits)

    def _worker(self) -> str:
        """The worker node, a new one where the last was killed."""
        workers = _workers(self._home)
        if not workers:
            self._nodes.renew()
            workers = _workers(self._home)
            _wait_for(workers[-1])
        return workers[-1]


def _head(folder: Path, variables: dict[str, str]) -> AbstractContextManager[Head]:
    return ray_head(sys.executable, folder, "127.0.0.1", (), 2, **variables)


def _workers(home: str) -> list[str]:
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["NodeID"] for node in nodes if node["Alive"] and node["NodeID"] != home]


def _wait_for(node: str) -> None:
    """Wait until work can be placed on a node: raylets learn of a new one a moment later."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=True)
    where = ray.remote(_node_id).options(scheduling_strategy=there, num_cpus=1)
    deadline = monotonic() + PLACED_AFTER_S
    while ray.get(where.remote()) != node:
        if monotonic() > deadline:
            raise EndedShortError(f"node {node} took no work within {PLACED_AFTER_S:g} s")
        sleep(0.2)


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def driver_row(folder: Path, moment: Moment, agents: int, whole: Path) -> dict[str, Any]:
    """Kill a driver with its machine, and resume its run on a new one."""
    out = folder / f"killed-{moment.name.lower()}"
    program = (
        "from pathlib import Path; import sys; from actors.benchmarks import recovery; "
        "recovery.simulate_and_die(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(out), str(moment), str(agents)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != -signal.SIGKILL:
        raise EndedShortError(f"the driver did not die: {done.stderr[-1000:]}")
    (run,) = (out / "community").iterdir()
    started = perf_counter()
    raygrid("simulate", "--resume", run, "--actors=1", *FLAGS, "--out", out / "resumed")
    resume_s = perf_counter() - started
    (resumed,) = (out / "resumed" / "community").iterdir()
    notes = json.loads((resumed / "manifest.json").read_text())["notes"]
    return {
        "moment": str(moment),
        "rounds_kept": next(int(n.split()[3]) for n in notes if n.startswith("resumed after")),
        "resume_s": resume_s,
        "extra_rounds": _rounds(resumed) - _rounds(whole),
        "same_bits": all(
            read_table(resumed / f"{name}.parquet").equals(read_table(whole / f"{name}.parquet"))
            for name in ("schedule", "prices", "flows", "trades")
        ),
    }


def raygrid(*arguments: str | Path) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "raygrid", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise EndedShortError(f"raygrid {arguments[0]} failed: {done.stderr[-1000:]}")


def _rounds(run: Path) -> int:
    found: int = json.loads((run / "summary.json").read_text())["clearing"]["iterations"]
    return found


def simulate_and_die(out: Path, moment: str, agents: int) -> None:
    """A run whose machine is gone at a moment."""
    from actors.simulate import SimulateOptions, simulate

    options = SimulateOptions(
        "community", out, "raygrid benchmark recovery", settings=BARE, agents=agents, chain="none",
        central=False, actors=PlacementPolicy.parse(str(HOSTS)),
    )  # fmt: skip
    with dying_driver(Moment(moment)):
        simulate(options)


def targets_of(rows: list[dict[str, Any]]) -> Iterator[Target]:
    """The figures to reach."""
    for row in rows:
        what = f"{row['victim']}, {row['moment']}"
        bound = SECONDS_TO_REACH[Victim(row["victim"]).is_node]
        yield Target(f"{what}: recovery [s]", row["recovery_s"].highest, at_most=bound)
        yield Target(f"{what}: extra rounds", row["extra_rounds"].highest, at_most=ROUNDS_TO_REACH)


def run(report: Report, settings: Settings) -> None:
    """Kill everybody at every moment."""
    table = report.table("Deaths during a clearing", ("victim", "moment"))
    # Sockets lie in Ray's folder, whose paths are limited to 107 letters.
    with tempfile.TemporaryDirectory(prefix="ray") as name, ExitStack() as stack:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        variables = token | {"PYTHONPATH": os.pathsep.join(sys.path)}
        stack.enter_context(patch.dict(os.environ, token))
        head = stack.enter_context(_head(Path(name), variables | HEALTH))
        nodes = Nodes(head, Path(name), variables)
        stack.callback(nodes.close)
        stack.enter_context(connect(ClusterOptions(head.address)))
        bench = Bench(nodes, settings.agents)
        for victim, moments in settings.cases.items():
            for moment in moments:
                found = [bench.die(victim, moment) for _ in range(settings.repeats)]
                table.add(
                    {
                        "victim": str(victim),
                        "moment": str(moment),
                        "recovery_s": Spread.of(death.recovery_s for death in found),
                        "extra_rounds": Spread.of(death.extra_rounds for death in found),
                        "mended": Spread.of(death.mended for death in found),
                        "same_bits": all(death.same_bits for death in found),
                    }
                )
    if settings.drivers:
        kill_drivers(report, settings)
    report.targets(list(targets_of(table.rows)))


def kill_drivers(report: Report, settings: Settings) -> None:
    """The whole run, and those of killed drivers."""
    table = report.table("Drivers killed with their machines, and resumed", ("moment",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        agents = f"--agents={settings.agents}"
        started = perf_counter()
        words = ("simulate", "community", agents, "--actors=2", *MARKET, *FLAGS)
        raygrid(*words, "--out", folder / "whole")
        whole_s = perf_counter() - started
        (whole,) = (folder / "whole" / "community").iterdir()
        for moment in settings.drivers:
            row = driver_row(folder, moment, settings.agents, whole)
            table.add(row | {"whole_run_s": whole_s})
