"""Bidders trained with several seeds at a time, as Ray tasks that tell of their progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import ray

from actors.cluster import ClusterOptions, connect
from actors.errors import own_errors
from actors.failure import FailureDecision, FailurePolicy
from raygrid.errors import EndedShortError, InputError

if TYPE_CHECKING:
    from raygrid.learning.bidders_market import BiddersMarket, TrainBiddersOptions
    from raygrid.learning.train_seeds import Tell


class RaySeeds:
    """Trains each seed as a task of one CPU; fits `raygrid.learning.train_seeds.SeedRunner`.

    Tasks write their trainings themselves, so that their checkpoints outlive them: a seed whose
    process dies goes on from its last one, and so does what Ctrl-C has left when it is resumed.

    Parameters
    ----------
    cluster : ClusterOptions
        Which Ray to use.
    at_a_time : int
        Tasks that run at a time.
    """

    def __init__(self, cluster: ClusterOptions, at_a_time: int) -> None:
        self._cluster, self._at_a_time = cluster, at_a_time

    def __call__(
        self, jobs: Sequence[TrainBiddersOptions], market: BiddersMarket, tell: Tell
    ) -> None:
        """Train them all.

        Raises
        ------
        InputError
            If a machine does not see the folder of the trainings.
        EndedShortError
            If training processes died too often.
        """
        if not jobs:
            return
        with connect(self._cluster):
            self._run(deque(jobs), ray.put(market), tell)

    def _run(self, waiting: deque[TrainBiddersOptions], market: Any, tell: Tell) -> None:
        # Streams of results, which Ray gives no type that can be told from a single one's.
        running: dict[Any, TrainBiddersOptions] = {}
        policy, failures = FailurePolicy(), 0
        try:
            while waiting or running:
                while waiting and len(running) < self._at_a_time:
                    job = waiting.popleft()
                    running[_start(job, market, self._at_a_time)] = job
                ready, _ = ray.wait(list(running), num_returns=1)
                lines: Any = ready[0]
                try:
                    with own_errors():
                        tell(ray.get(next(lines)))
                except StopIteration:
                    del running[lines]
                except Exception as error:
                    failures += 1
                    if policy.decide(error, failures) is FailureDecision.GIVE_UP:
                        if isinstance(error, ray.exceptions.RayError):
                            raise EndedShortError(
                                f"training processes died {failures} times"
                            ) from error
                        raise
                    job = running.pop(lines)
                    tell(f"seed {job.seed}: its process died and is started anew")
                    waiting.append(_left_off(job, market))
        finally:
            for lines in running:
                ray.cancel(lines, force=True)


def _left_off(job: TrainBiddersOptions, market: Any) -> TrainBiddersOptions:
    """The job again, from its checkpoint where there is one."""
    from raygrid.learning.dqn_training import CHECKPOINT
    from raygrid.learning.train_bidders import training_folder

    kept: BiddersMarket = ray.get(market)
    return replace(job, resume=(training_folder(kept, job) / CHECKPOINT).exists())


def _start(job: TrainBiddersOptions, market: Any, at_a_time: int) -> Any:
    gpus = 0.0
    if job.device != "cpu":
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = min(1.0, total.get("GPU", 0.0) / at_a_time)
    task = ray.remote(train_one)
    options = {"num_cpus": 1, "num_gpus": gpus, "num_returns": "streaming", "max_retries": 0}
    return task.options(**options).remote(job, market)


def train_one(job: TrainBiddersOptions, market: BiddersMarket) -> Iterator[str]:
    """Train one seed; yields its lines of progress as they come."""
    from raygrid.learning.train_bidders import train_bidders

    _check_seen(job.out / market.name)
    lines: SimpleQueue[str | BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            train_bidders(job, lines.put, market)
        except BaseException as error:
            lines.put(error)
        else:
            lines.put(None)

    Thread(target=work, daemon=True).start()
    while (line := lines.get()) is not None:
        if isinstance(line, BaseException):
            raise line
        yield line


def _check_seen(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            "is not seen by all machines of the cluster",
            str(folder),
            "choose an --out that they share, or train on one machine",
        )
