"""Compared cases as Ray tasks: each plays its days and gives them one by one as they are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import ray

from actors.cluster import ClusterOptions, connect
from actors.errors import own_errors
from raygrid.learning.compare_cases import Errand, Played, play
from raygrid.results.ai_tem_printed import CaseName


class RayPlayers:
    """Plays errands as tasks of one CPU each, so many at a time; a context manager.

    Fits `raygrid.learning.compare_cases.Players`. A task whose process dies plays the days again
    that it has not given yet.

    Parameters
    ----------
    options : ClusterOptions
        Which Ray to use.
    at_a_time : int
        Tasks that run at a time.
    """

    def __init__(self, options: ClusterOptions, at_a_time: int) -> None:
        self._cluster, self._at_a_time = connect(options), at_a_time

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster.close()

    def __call__(self, errands: Sequence[Errand]) -> Iterator[tuple[CaseName, Played]]:
        """Play errands; days come as they are done, those of a case in order."""
        waiting = deque(errands)
        # Streams of results, which Ray gives no type that can be told from a single one's.
        running: dict[Any, Errand] = {}
        while waiting or running:
            while waiting and len(running) < self._at_a_time:
                errand = waiting.popleft()
                running[_start(errand)] = errand
            ready, _ = ray.wait(list(running), num_returns=1)
            days: Any = ready[0]
            errand = running[days]
            try:
                with own_errors():
                    played: Played = ray.get(next(days))
            except StopIteration:
                del running[days]
                continue
            running[days] = replace(errand, begin=errand.begin + 1, energy_kwh=played[1])
            yield errand.case, played


def _start(errand: Errand) -> Any:
    task = ray.remote(play)
    return task.options(num_cpus=1, num_returns="streaming", max_retries=1).remote(errand)
