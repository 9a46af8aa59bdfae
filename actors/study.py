"""Runs a study on Ray: every run a task in a process of its own, some of them at once."""

from __future__ import annotations

import json
import shlex
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from actors.cluster import ClusterOptions, ClusterResources, connect, resolve_address
from raygrid.errors import InputError, RaygridError
from raygrid.results.files import SUMMARY, RunStatus, going_on
from raygrid.results.folder import check_writable
from raygrid.results.study import StudyRecord
from raygrid.results.study_folder import StudyFolder
from raygrid.scenario.study import Study, StudyRun, load_study, plan_study

WAIT_S = 1.0
"""Longest wait for the end of a run before Ctrl-C is looked for."""
CANCEL_TIMEOUT_S = 15.0
"""Time that interrupted runs have to mark their folders."""


@dataclass(frozen=True)
class StudyOptions:
    """What `raygrid study` was asked for.

    Attributes
    ----------
    file : Path
        The study file.
    out : Path
        Folder of all results.
    command : str
        The command line, for the manifest.
    cluster : ClusterOptions
        Which Ray to use.
    concurrency : int or None
        Runs at once; None leaves it to the study.
    """

    file: Path
    out: Path
    command: str
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    concurrency: int | None = None


@dataclass(frozen=True)
class StudyResult:
    """How a study stands.

    Attributes
    ----------
    path : Path
        Its folder.
    records : tuple of StudyRecord
        How its runs ended, in its order.
    planned : int
        How many there are.
    kept : int
        Runs that an earlier start had finished.
    """

    path: Path
    records: tuple[StudyRecord, ...]
    planned: int
    kept: int

    @property
    def failed(self) -> tuple[StudyRecord, ...]:
        """Runs without a result."""
        return tuple(record for record in self.records if not record.finished)

    @property
    def ok(self) -> bool:
        """Whether every run came to its end and converged."""
        return len(self.records) == self.planned and all(r.status == "ok" for r in self.records)


def run_study(options: StudyOptions, tell: Callable[[str], None] = lambda _: None) -> StudyResult:
    """Do the runs of a study that no earlier start has finished.

    Ctrl-C ends the runs under way and keeps what there is, table and report included.

    Parameters
    ----------
    options : StudyOptions
        What to run and where.
    tell : callable
        Gets a line when a run ends.

    Returns
    -------
    StudyResult

    Raises
    ------
    InputError
        If the study, an address or the results folder is wrong; nothing is run then.
    """
    study = load_study(options.file)
    runs = plan_study(study, options.file)
    text = options.file.read_text(encoding="utf-8")
    at_once = options.concurrency or study.concurrency
    resolve_address(options.cluster.address)
    check_writable(options.out / study.name)
    facts: dict[str, Any] = {"description": study.description, "command": options.command}
    with (
        going_on("give the same command again: finished runs stay"),
        StudyFolder(options.out, study.name, facts | {"cluster": {}}) as folder,
    ):
        records = folder.records(run.key for run in runs)
        kept = len(records)
        todo = [run for run in runs if run.key not in records]
        if kept:
            tell(f"{kept} of {len(runs)} runs were done before")
        status = RunStatus.INTERRUPTED
        try:
            if todo:
                with connect(options.cluster) as cluster:
                    resources = cluster.resources()
                    folder.describe_cluster(resources.manifest())
                    named = {run.key: run for run in todo}
                    with closing(_Pool(study, folder, resources, at_once).run(todo)) as ended:
                        for record in ended:
                            folder.add(record)
                            records[record.key] = record
                            count = f"[{len(records)}/{len(runs)}]"
                            tell(f"{count} {_told(record, named[record.key])}")
            done = all(record.status == "ok" for record in records.values())
            status = RunStatus.OK if done else RunStatus.ENDED_SHORT
        finally:
            in_order = [records[run.key] for run in runs if run.key in records]
            folder.finish(status, in_order, len(runs), text)
    return StudyResult(folder.path, tuple(in_order), len(runs), kept)


class _Pool:
    """Runs as Ray tasks, at most so many at once, on CPUs that are each run's own."""

    def __init__(
        self, study: Study, folder: StudyFolder, resources: ClusterResources, at_once: int
    ) -> None:
        self._study = study
        self._folder = folder
        self._resources = resources
        self._at_once = at_once
        self._under_way: dict[Any, tuple[StudyRun, float]] = {}

    def run(self, runs: Sequence[StudyRun]) -> Generator[StudyRecord]:
        """Do the runs; yields how each ended, in the order of their ends.

        Parameters
        ----------
        runs : sequence of StudyRun
            What to do.

        Raises
        ------
        InputError
            A run asks for more CPUs than there are; nothing is started then.
        """
        import ray

        for run in runs:
            if self._cpus(run) > self._resources.cpus:
                raise InputError(
                    f"the cluster has {self._resources.cpus} CPUs",
                    f"{self._study.name}: {run.describe()}",
                    "ask for fewer cpus, or use a larger cluster",
                )
        waiting = deque(runs)
        try:
            while waiting or self._under_way:
                while waiting and self._fits(waiting[0]):
                    self._start(waiting.popleft())
                ended, _ = ray.wait(list(self._under_way), timeout=WAIT_S)
                for ref in ended:
                    run, started = self._under_way.pop(ref)
                    yield self._record(run, _outcome(ref), monotonic() - started)
        finally:
            self._cancel()

    def _cpus(self, run: StudyRun) -> int:
        return run.cpus or max(1, self._resources.cpus // self._at_once)

    def _fits(self, run: StudyRun) -> bool:
        used = sum(self._cpus(other) for other, _ in self._under_way.values())
        free = self._resources.cpus - used
        return len(self._under_way) < self._at_once and self._cpus(run) <= free

    def _start(self, run: StudyRun) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On this node, so that results lie where the study's folder is; in a process of its own,
        # so that a crash takes nobody along and its memory is this run's.
        here = ray.get_runtime_context().get_node_id()
        task: Any = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_run_one)
        arguments = (run, self._folder.runs, self._cpus(run), self._study.central)
        strategy = NodeAffinitySchedulingStrategy(here, soft=False)
        ref = task.options(scheduling_strategy=strategy).remote(*arguments)
        self._under_way[ref] = (run, monotonic())

    def _record(self, run: StudyRun, outcome: Mapping[str, Any], seconds: float) -> StudyRecord:
        folder = outcome.get("path")
        summary = outcome.get("summary")
        return StudyRecord(
            key=run.key,
            scenario=run.scenario,
            values=run.values,
            repeat=run.repeat,
            status=summary["status"] if summary else "failed",
            reason=" ".join(outcome["reason"].split()),
            cpus=self._cpus(run),
            nodes=len(self._resources.nodes),
            run=None if folder is None else str(Path(folder).relative_to(self._folder.path)),
            seconds=seconds,
            summary=summary,
        )

    def _cancel(self) -> None:
        """End the runs under way, which mark their folders as interrupted."""
        import ray

        refs = list(self._under_way)
        if not refs:
            return
        for ref in refs:
            ray.cancel(ref, force=False)
        _, stubborn = ray.wait(refs, num_returns=len(refs), timeout=CANCEL_TIMEOUT_S)
        for ref in stubborn:
            ray.cancel(ref, force=True)
        self._under_way.clear()


def _run_one(run: StudyRun, out: Path, cpus: int, central: bool | None) -> dict[str, Any]:
    """One run, in a process of its own: its folder and summary, or why there is none."""
    from actors.placement import PlacementPolicy
    from actors.simulate import SimulateOptions, simulate

    words = ["raygrid", "simulate", run.source, "--actors", run.actors]
    for name in ("agents", "periods", "seed"):
        if getattr(run, name) is not None:
            words += [f"--{name}", str(getattr(run, name))]
    if central is not None:
        words.append("--central" if central else "--no-central")
    for setting in run.settings:
        words += ["--set", setting]
    try:
        result = simulate(
            SimulateOptions(
                scenario=run.source,
                out=out,
                command=shlex.join(words),
                settings=run.settings,
                agents=run.agents,
                periods=run.periods,
                seed=run.seed,
                actors=PlacementPolicy.parse(run.actors, "actors"),
                cluster=ClusterOptions(num_cpus=cpus),
                central=central,
            )
        )
    except RaygridError as error:
        return {"reason": str(error)}
    except Exception as error:
        # Whatever it is, the other runs go on; the last place in our code says where to look.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {"reason": f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"}
    summary = json.loads((result.path / SUMMARY).read_text(encoding="utf-8"))
    return {"path": str(result.path), "summary": summary, "reason": result.reason}


def _outcome(ref: Any) -> Mapping[str, Any]:
    """What a task gives, or what ended its process."""
    import ray
    from ray.exceptions import RayError

    try:
        outcome: Mapping[str, Any] = ray.get(ref)
    except RayError as error:
        first = next(iter(str(error).splitlines()), "")
        return {"reason": f"the run's process died ({type(error).__name__}: {first})"}
    return outcome


def _told(record: StudyRecord, run: StudyRun) -> str:
    if record.summary is None:
        return f"{run.describe()}: failed: {record.reason}"
    clearing = record.summary["clearing"]
    status = clearing["status"].replace("_", " ")
    return (
        f"{run.describe()}: {status}, {clearing['iterations']} iterations, "
        f"{clearing['seconds']:.3g} s of {record.seconds:.3g} s"
    )
