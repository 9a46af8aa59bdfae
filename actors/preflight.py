"""Which versions the nodes of a cluster run, asked before anything else runs there."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import raygrid
from actors.parts import PART_ROWS
from raygrid.errors import EndedShortError, InputError

if TYPE_CHECKING:
    from actors.cluster import ClusterResources

PREFLIGHT_TIMEOUT_S = 60.0
"""Longest wait for the version report of every node: a worker process starts for it."""


@dataclass(frozen=True)
class NodeVersions:
    """Versions that a worker process on a node runs; None where a package is missing."""

    node: str
    python: str
    ray: str
    raygrid: str | None
    actors: str | None


def node_versions(
    resources: ClusterResources, timeout_s: float = PREFLIGHT_TIMEOUT_S
) -> tuple[NodeVersions, ...]:
    """Ask a worker process on every node which versions it runs.

    Parameters
    ----------
    resources : ClusterResources
        The nodes to ask.
    timeout_s : float
        Longest wait for all answers [s].

    Returns
    -------
    tuple of NodeVersions
        One per node.

    Raises
    ------
    EndedShortError
        A node gave no answer in time.
    """

    # A function from inside a function travels by value, so that it also runs on a node that
    # lacks the very packages it asks for.
    def report(node: str) -> tuple[str, str, str, str | None, str | None]:
        import importlib
        import platform

        import ray

        def version(package: str) -> str | None:
            try:
                module = importlib.import_module(package)
            except ImportError:
                return None
            return str(getattr(module, "__version__", ""))

        return (
            node,
            platform.python_version(),
            ray.__version__,
            version("raygrid"),
            version("actors"),
        )

    answers = _ask_every_node(report, resources, timeout_s)
    return tuple(NodeVersions(*answer) for answer in answers)


def check_versions(nodes: tuple[NodeVersions, ...]) -> None:
    """Refuse a cluster that mixes versions: pickles and results would differ silently.

    Parameters
    ----------
    nodes : tuple of NodeVersions
        What each node runs.

    Raises
    ------
    InputError
        A node differs from this process in Python (minor), Ray or raygrid.
    """
    import ray

    def minor(version: str) -> str:
        return ".".join(version.split(".")[:2])

    for node in nodes:
        if node.raygrid is None or node.actors is None:
            raise InputError(
                "raygrid is not installed there",
                f"node {node.node}",
                "install the same wheel in the cluster's image, or submit the run as a job "
                "with the wheel in py_modules",
            )
        ours = {
            "Python": (minor(node.python), minor(platform.python_version())),
            "Ray": (node.ray, ray.__version__),
            "raygrid": (node.raygrid, raygrid.__version__),
        }
        for package, (theirs, here) in ours.items():
            if theirs != here:
                raise InputError(
                    f"runs {package} {theirs}, this process {here}",
                    f"node {node.node}",
                    "use one image for all nodes and for this command",
                )


def check_shared(out: Path, rows: int, resources: ClusterResources) -> None:
    """Refuse a results folder that not every node of the cluster sees, before any work is done.

    Small schedules are written by the driver alone, for which any folder will do.

    Parameters
    ----------
    out : Path
        Folder of all results; the nearest folder above it that exists is looked at.
    rows : int
        Rows of the schedule.
    resources : ClusterResources
        The nodes to ask.

    Raises
    ------
    InputError
        Names a node that does not see it.
    EndedShortError
        A node gave no answer in time.
    """
    if len(resources.nodes) < 2 or rows <= PART_ROWS:
        return
    folder = out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".raygrid-") as mark:
        path = mark.name

        def sees(node: str) -> tuple[str, bool]:
            import os

            return node, os.path.exists(path)

        answers: list[tuple[str, bool]] = _ask_every_node(sees, resources, PREFLIGHT_TIMEOUT_S)
    for node, seen in answers:
        if not seen:
            raise InputError(
                "the prosumer hosts write a run of this size, and the folder is not seen there",
                f"--out {out}: node {node}",
                "name a folder that all nodes mount at the same place, or start with fewer "
                "prosumers",
            )


def _ask_every_node(
    function: Callable[[str], Any], resources: ClusterResources, timeout_s: float
) -> list[Any]:
    """Call a function, which travels by value, once on every node with that node's address."""
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(function)
    asked = {
        task.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        ).remote(node.address): node
        for node in resources.nodes
    }
    done, missing = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
    if missing:
        silent = ", ".join(asked[ref].address for ref in missing)
        raise EndedShortError(
            f"node {silent} started no worker process within {timeout_s:.0f} s; "
            "look at that node's raylet log"
        )
    answers = []
    for ref in done:
        # A node that went away meanwhile has nothing to say, and nothing to do.
        with suppress(TaskUnschedulableError, NodeDiedError):
            answers.append(ray.get(ref))
    return answers
