"""What suites share: their settings, repeated measurements, the clock of rounds, memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from actors.session import clearing_options
from raygrid.arrays import FloatArray
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.messages import RoundOutcome
from raygrid.results.benchmark import Spread
from raygrid.results.summary import line_utilisation
from raygrid.scenario.build import build_case
from raygrid.scenario.case import Case
from raygrid.scenario.load import load_scenario

T = TypeVar("T")

BARE = ("stages.forecast=perfect", "stages.intraday=none")
"""Settings of a market day that is cleared on what will be measured, and of no other stage."""

GIB = 1024.0**3
SAMPLE_S = 0.25
REPEATED_UP_TO = 2_400_000
"""Prosumers times periods up to which a clearing is measured several times."""


class SuiteSettings(BaseModel):
    """What can be set of a suite, with the values of the committed results as defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load(
    name: str,
    agents: int | None = None,
    settings: tuple[str, ...] = (),
    periods: int | None = None,
) -> tuple[Case, ClearingOptions]:
    """A scenario's case and solver settings."""
    scenario, base_dir = load_scenario(name, settings=settings, agents=agents, periods=periods)
    return build_case(scenario, base_dir=base_dir), clearing_options(scenario)


def repeat(n: int, measure: Callable[[], T], unmeasured: int = 1) -> list[T]:
    """What `measure` gives, n times, after some that are thrown away."""
    return [measure() for _ in range(n + unmeasured)][unmeasured:]


def fullest_line(case: Case, flow_kw: FloatArray) -> float:
    """Largest |flow| / limit."""
    return float(line_utilisation(flow_kw, case.network.limit_kw[:, None]).max(initial=0.0))


def gap_percent(result: ClearingResult) -> float:
    """Gap to the duality bound [%]; nan where there is none."""
    if result.bound is None:
        return float("nan")
    return 100 * (result.bound - result.welfare) / abs(result.bound)


class Clock:
    """A round callback that notes when rounds end."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def __call__(self, outcome: RoundOutcome) -> None:
        self._ends.append(perf_counter())

    @property
    def rounds_ms(self) -> list[float]:
        """Times of the rounds after the first two [ms]."""
        return [1e3 * (end - start) for start, end in pairwise(self._ends[1:])]

    @property
    def round_ms(self) -> Spread:
        """Time of a round after the first two [ms]."""
        return Spread.of(self.rounds_ms)


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
    """PSS of a process [B]: what it shares with others counts in parts; 0 where it is gone."""
    return sum(bytes_ for name, bytes_ in _memory_map(pid) if name == "Pss")


def private_bytes(pid: int) -> int:
    """Memory that a process shares with nobody [B]; 0 where it is gone."""
    return sum(bytes_ for name, bytes_ in _memory_map(pid) if name.startswith("Private_"))


def _memory_map(pid: int) -> Iterator[tuple[str, int]]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        yield name, 1024 * int(rest.split()[0])


def available_bytes() -> float:
    """Memory of this machine that is free or can be freed [B]; inf where it does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvail"))


def row_of(table_rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The one row that has these values."""
    (row,) = (r for r in table_rows if all(r[name] == value for name, value in wanted.items()))
    return row
