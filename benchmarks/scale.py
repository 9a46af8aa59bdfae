"""One machine from a thousand prosumers to a million: time, rounds, gap and memory.

Run as ``python -m benchmarks.scale``. The hosts build their prosumers from the seed and clear on
warm actors; a clearing counts its final schedule, and the duality bound is found after it. Memory
is the proportional set size (PSS) of this process and everything below it, Ray's own processes
included: pages that several processes share count once. The gap is that to the duality bound,
which holds at every size; for one size per scenario it stands beside the central optimum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import click
import numpy as np

from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.simulate import Session, clearing_options
from benchmarks.common import OUT, Clock, Report, Spread, Target, fullest_line, repeat
from raygrid.market.central import CentralStatus, solve_central
from raygrid.market.clearing import ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.build import build_case, draft_case
from raygrid.scenario.load import load_scenario

SECONDS_TO_REACH = {
    ("community", 10_000): 1.0,
    ("community", 100_000): 6.0,
    ("community", 1_000_000): 60.0,
    ("thesis14", 1_000_000): 20.0,
}
GIB = 1024.0**3
SAMPLE_S = 0.25
REPEATED_UP_TO = 100_000
"""Prosumers up to which a clearing is measured several times."""


class Memory:
    """Largest PSS of this process and all below it, sampled in a thread."""

    def __init__(self) -> None:
        self.largest_bytes = 0
        self._done = Event()

    @contextmanager
    def watched(self) -> Iterator[Memory]:
        """Sample for the length of a `with` block."""
        thread = Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()

    def _sample(self) -> None:
        while True:
            total = sum(map(proportional_bytes, process_tree(os.getpid())))
            self.largest_bytes = max(self.largest_bytes, total)
            if self._done.wait(SAMPLE_S):
                return


def process_tree(root: int) -> list[int]:
    """A process and everything that it started, directly or not."""
    parent: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            parent[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    below, found = [root], [root]
    while below:
        below = [pid for pid, above in parent.items() if above in below]
        found += below
    return found


def proportional_bytes(pid: int) -> int:
    """PSS of a process [B]; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in text.splitlines() if "Pss:" in line)


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log time over log prosumers; nan for a single size."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(session: Session, name: str, agents: int, actors: str, repeats: int) -> dict[str, Any]:
    """Build and clear one size on actors of its own."""
    scenario, base_dir = load_scenario(name, agents=agents)
    draft = draft_case(scenario, base_dir=base_dir)
    options = clearing_options(scenario)
    placement = session.plan(draft, PlacementPolicy.parse(actors))
    often = agents <= REPEATED_UP_TO
    rounds = Clock()
    with Memory().watched() as memory, session.market(draft, placement) as market:
        results = repeat(
            repeats if often else 1, lambda: market.clear(options, rounds), unmeasured=int(often)
        )
        hosts = sum(proportional_bytes(pulse.pid) for pulse in market.pulses[:-1])
        last, seconds = results[-1], Spread.of(result.seconds for result in results)
        return {
            "scenario": name,
            "prosumers": agents,
            "actors": placement.n_hosts,
            "start_and_build_s": market.start_s,
            "status": str(last.status),
            "rounds": last.iterations,
            "clearing_s": seconds,
            "round_ms": 1e3 * seconds.median / max(last.iterations, 1),
            "fullest_line_percent": 100 * fullest_line(market.case, last.flow_kw),
            "gap_to_bound_percent": None
            if last.bound is None
            else 100 * (last.bound - last.welfare) / abs(last.bound),
            "hosts_gib": hosts / GIB,
            "planned_hosts_gib": placement.memory_bytes / GIB,
            "all_processes_gib": memory.largest_bytes / GIB,
        }


def central_row(name: str, agents: int) -> dict[str, Any]:
    """Gap to the central optimum, and what the bound says of it."""
    scenario, base_dir = load_scenario(name, agents=agents)
    case, options = build_case(scenario, base_dir=base_dir), clearing_options(scenario)
    result = clear(case, options, local_exchange(case, options))
    central = solve_central(case, network_constrained=options.network_constrained)
    known = central.status is CentralStatus.OPTIMAL
    above = math.nan if result.bound is None else result.bound - central.welfare
    return {
        "scenario": name,
        "prosumers": agents,
        "central_status": str(central.status),
        "central_s": central.seconds,
        "gap_percent": 100 * (central.welfare - result.welfare) / abs(central.welfare)
        if known
        else math.nan,
        "bound_above_optimum_percent": 100 * above / abs(central.welfare),
    }


def targets_of(rows: list[dict[str, Any]]) -> Iterator[Target]:
    """The figures to reach of one scenario, its rows by size."""
    name = rows[0]["scenario"]
    for row in rows:
        what = f"{name}, {row['prosumers']} prosumers"
        converged = row["status"] == ClearingStatus.CONVERGED
        seconds = row["clearing_s"].median if converged else math.nan
        bound = SECONDS_TO_REACH.get((name, row["prosumers"]))
        if bound is not None:
            yield Target(f"{what}: clearing [s]", seconds, at_most=bound)
        gap = row["gap_to_bound_percent"]
        yield Target(f"{what}: gap [%]", math.nan if gap is None else gap, at_most=0.01)
        yield Target(f"{what}: all processes [GiB]", row["all_processes_gib"], at_most=4.0)
    sizes = [row["prosumers"] for row in rows]
    seconds_of_all = [row["clearing_s"].median for row in rows]
    yield Target(
        f"{name}: exponent of time against prosumers", exponent(sizes, seconds_of_all), at_most=1.05
    )
    counts = [row["rounds"] for row in rows]
    yield Target(f"{name}: spread of rounds", max(counts) - min(counts), at_most=3)


@click.command()
@click.option("--scenario", "names", multiple=True, default=("thesis14", "community"))
@click.option(
    "--agents", "sizes", multiple=True, type=click.IntRange(1), default=(10**3, 10**4, 10**5, 10**6)
)
@click.option("--actors", default="auto", show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--central",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="Prosumers of the central solve; 0 leaves it out.",
)
@OUT
def main(
    names: tuple[str, ...],
    sizes: tuple[int, ...],
    actors: str,
    repeats: int,
    central: int,
    out: Path,
) -> None:
    """Clear each scenario at each size."""
    report = Report("scale", __doc__ or "")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with Session(ClusterOptions()) as session:
        for name in names:
            for agents in sorted(sizes):
                rows[name].append(measure(session, name, agents, actors, repeats))
                click.echo(rows[name][-1], err=True)
    flat = [row for some in rows.values() for row in some]
    report.table("By number of prosumers", flat)
    fits = []
    for name, some in rows.items():
        least, most = some[0], some[-1]
        more = most["prosumers"] - least["prosumers"]
        seconds = [row["clearing_s"].median for row in some]
        fits.append(
            {
                "scenario": name,
                "exponent": exponent([row["prosumers"] for row in some], seconds),
                "exponent_of_last_two": exponent(
                    [row["prosumers"] for row in some[-2:]], seconds[-2:]
                ),
                "host_bytes_per_prosumer": GIB * (most["hosts_gib"] - least["hosts_gib"]) / more
                if more
                else math.nan,
            }
        )
    report.table("Fits", fits)
    targets = [target for some in rows.values() for target in targets_of(some)]
    if central:
        solves = [central_row(name, central) for name in names]
        report.table("Beside the central optimum", solves)
        targets += [
            Target(
                f"{row['scenario']}, {central} prosumers: gap to the central optimum [%]",
                row["gap_percent"],
                at_most=0.01,
            )
            for row in solves
        ]
    report.targets(targets)
    report.write(out)


if __name__ == "__main__":
    main()
