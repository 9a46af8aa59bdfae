"""Where Ray runs: start a local one or join a cluster, and leave it as it was found."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock, Thread, current_thread, main_thread
from time import monotonic
from typing import Any, Self
from uuid import uuid4

from actors.preflight import check_versions, node_versions
from raygrid.errors import EndedShortError, InputError

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Environment variable that Ray sets inside a job and users set in a shell."""
LOCAL = "local"
"""Address that always starts a Ray of our own."""
AUTO = "auto"
"""Address that leaves the choice to the environment: `RAY_ADDRESS`, else `LOCAL`."""
PROBE_TIMEOUT_S = 5.0
"""Longest wait for a TCP answer; `ray.init` itself would wait minutes on a dead address."""
OBJECT_STORE_BYTES = 256 * 1024**2
"""Object store of a local Ray: messages are small, profiles go through it once."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # By default workers are nicer than all other work, and a busy desktop starves a clearing.
    "RAY_worker_niceness": "0",
    # A warning that many processes start is no news where every prosumer asked for one.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started on node",
}
"""What we ask of Ray by environment variable, where the user does not ask otherwise."""

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_HOST_PORT = re.compile(r"^(?:\[(?P<v6>[0-9a-fA-F:]+)\]|(?P<host>[^:/\s\[\]]+)):(?P<port>\d+)$")


class ClusterOrigin(StrEnum):
    """How we came to the Ray we use, which decides what we may shut down."""

    STARTED = "started"
    JOINED = "joined"
    FOUND = "found"


@dataclass(frozen=True)
class ClusterOptions:
    """Which Ray to use, and how to start one where none is named.

    Attributes
    ----------
    address : str or None
        `host:port` of a running cluster, 'local' for one of our own, None or 'auto' for
        `RAY_ADDRESS` and else 'local'.
    num_cpus : int or None
        CPUs of a local Ray, and the most that are used of any other; None takes what is there.
    object_store_bytes : int
        Object store of a local Ray [B].
    dashboard : bool
        Whether a local Ray serves its dashboard.
    """

    address: str | None = None
    num_cpus: int | None = None
    object_store_bytes: int = OBJECT_STORE_BYTES
    dashboard: bool = False


@dataclass(frozen=True)
class NodeResources:
    """What one machine of the cluster offers.

    Attributes
    ----------
    node_id : str
        Ray's identifier.
    address : str
        Its address.
    cpus : int
        Whole CPUs.
    memory_bytes : int
        Memory for worker processes [B].
    """

    node_id: str
    address: str
    cpus: int
    memory_bytes: int


@dataclass(frozen=True)
class ClusterResources:
    """What the cluster offers at the time of the run, for placement and for the manifest.

    Attributes
    ----------
    origin : ClusterOrigin
        Whether we started it.
    ray_version : str
        Version of Ray.
    nodes : tuple of NodeResources
        Machines that are alive.
    """

    origin: ClusterOrigin
    ray_version: str
    nodes: tuple[NodeResources, ...]

    @property
    def cpus(self) -> int:
        """Whole CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def memory_bytes(self) -> int:
        """Memory for worker processes of all nodes [B]."""
        return sum(node.memory_bytes for node in self.nodes)

    def at_most(self, cpus: int | None) -> Self:
        """The same machines with no more CPUs in all than these; None leaves them as they are.

        Raises
        ------
        InputError
            The cluster has fewer.
        """
        if cpus is None:
            return self
        if cpus > self.cpus:
            raise InputError(
                f"the cluster has {self.cpus} CPUs on {len(self.nodes)} node(s)",
                f"{cpus} CPUs",
                "ask for fewer, or use a larger cluster",
            )
        nodes, left = [], cpus
        for node in self.nodes:
            nodes.append(replace(node, cpus=min(node.cpus, left)))
            left -= nodes[-1].cpus
        return replace(self, nodes=tuple(nodes))

    def manifest(self) -> dict[str, Any]:
        """The entry of `manifest.json`."""
        return {
            "origin": str(self.origin),
            "nodes": len(self.nodes),
            "cpus": self.cpus,
            "memory_bytes": self.memory_bytes,
        }


def resolve_address(address: str | None) -> str:
    """The address in force: the given one, else `RAY_ADDRESS`, else 'local'.

    Parameters
    ----------
    address : str or None
        What the user gave.

    Returns
    -------
    str
        'local' or `host:port`.

    Raises
    ------
    InputError
        The address has another form.
    """
    where = "--address"
    if address in (None, AUTO):
        address = os.environ.get(ADDRESS_VARIABLE) or LOCAL
        where = ADDRESS_VARIABLE
        if address == AUTO:
            address = LOCAL
    assert address is not None
    if address == LOCAL:
        return LOCAL
    match = _HOST_PORT.match(address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise InputError(
            f"{address!r} is not an address of a Ray cluster",
            where,
            "give host:port of its head node (port 6379 unless set otherwise), or 'local'; "
            "ray:// and http:// addresses serve 'ray job submit', not this command",
        )
    return address


_CLUSTER_NAME = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""A call that every Ray answers."""


def probe(address: str, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Refuse an address where no Ray can be, before Ray waits minutes for it.

    Looks for a TCP answer, then for a gRPC server, which a head node is, and asks it for the
    cluster's name, which needs a token where the cluster has one.

    Parameters
    ----------
    address : str
        `host:port`.
    timeout_s : float
        Longest wait [s].

    Raises
    ------
    InputError
        No TCP answer in time, none of a head node, or none without a token.
    """
    match = _HOST_PORT.match(address)
    assert match is not None
    host, port = match["v6"] or match["host"], int(match["port"])
    cure = (
        "check that its head node runs and that its port is open, "
        "or leave --address away to use a local Ray"
    )
    deadline = monotonic() + timeout_s
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            pass
    except OSError as error:
        raise InputError(f"no Ray cluster answers ({error})", address, cure) from error
    if os.environ.get("RAY_USE_TLS", "0") in ("1", "true"):
        return
    import grpc  # type: ignore[import-untyped]

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=max(deadline - monotonic(), 1.0))
        except grpc.FutureTimeoutError as error:
            raise InputError("what listens there is not Ray", address, cure) from error
        ask = channel.unary_unary(_CLUSTER_NAME)
        try:
            ask(b"", timeout=max(deadline - monotonic(), 1.0))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise InputError("what listens there is not Ray", address, cure) from error
            token_mode = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
            if error.code() is grpc.StatusCode.UNAUTHENTICATED and not token_mode:
                raise InputError(
                    "the cluster asks for a token",
                    address,
                    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its "
                    "token (cluster/README.md)",
                ) from error


def check_address(address: str | None) -> None:
    """Refuse an address, given or from the environment, that is none or where no Ray can be.

    Raises
    ------
    InputError
        Says which of it.
    """
    resolved = resolve_address(address)
    if resolved != LOCAL:
        probe(resolved)


class Cluster:
    """A connection to Ray; a context manager that undoes what `connect` did.

    Parameters
    ----------
    origin : ClusterOrigin
        How we came to it: a Ray that we started is shut down, one that we joined is left
        running, one that this process had already is not even disconnected from.
    """

    def __init__(self, origin: ClusterOrigin) -> None:
        self.origin = origin
        self._open = True
        self._closing = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Shut down a Ray that we started, disconnect from one that we joined; idempotent."""
        with self._closing:
            if self._open and self.origin is not ClusterOrigin.FOUND:
                import ray

                ray.shutdown()
            self._open = False

    def close_beside(self) -> None:
        """`close` in a thread beside the caller, who has no more use for Ray.

        Ray's own processes take a second to end; the interpreter waits for the thread.
        """
        if self._open and self.origin is not ClusterOrigin.FOUND:
            Thread(target=self.close, name="ray-shutdown").start()

    def resources(self) -> ClusterResources:
        """Snapshot of the machines that are alive."""
        import ray

        nodes = tuple(
            NodeResources(
                node_id=node["NodeID"],
                address=node["NodeManagerAddress"],
                cpus=int(node["Resources"].get("CPU", 0)),
                memory_bytes=int(node["Resources"].get("memory", 0)),
            )
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
        )
        return ClusterResources(self.origin, ray.__version__, nodes)


def connect(options: ClusterOptions | None = None) -> Cluster:
    """Start a local Ray or join a running cluster, by the rule of `resolve_address`.

    Never a plain `ray.init()`, which would join whatever cluster happens to run here. Ray
    listens on all interfaces: its token authentication stays as the environment sets it, and
    on for a Ray of our own.

    Parameters
    ----------
    options : ClusterOptions, optional
        Address and start-up options.

    Returns
    -------
    Cluster
        To be used as a context manager.

    Raises
    ------
    InputError
        The address does not answer, is no Ray, refuses our token, or a node of the cluster
        runs other versions than ours.
    """
    options = options or ClusterOptions()
    address = resolve_address(options.address)
    if address != LOCAL:
        probe(address)
    with _environment(ENVIRONMENT):
        import ray

        if ray.is_initialized():
            return Cluster(ClusterOrigin.FOUND)
        if address == LOCAL:
            _start_local(options)
            return Cluster(ClusterOrigin.STARTED)
        _join(address)
    cluster = Cluster(ClusterOrigin.JOINED)
    try:
        check_versions(node_versions(cluster.resources()))
    except BaseException:
        cluster.close()
        raise
    return cluster


def _start_local(options: ClusterOptions) -> None:
    """Start a Ray of our own, quiet and small."""
    import ray

    _init(
        lambda: ray.init(
            address=LOCAL,
            num_cpus=options.num_cpus,
            include_dashboard=options.dashboard,
            object_store_memory=options.object_store_bytes,
            namespace=_namespace(),
            **_QUIET,
        ),
        "a local Ray",
    )


def _join(address: str) -> None:
    import ray

    _init(lambda: ray.init(address=address, namespace=_namespace(), **_QUIET), address)


def _init(start: Callable[[], object], where: str) -> None:
    """Run `ray.init` and turn its many errors into ours."""
    import ray

    try:
        with _signals_kept():
            start()
    except ray.exceptions.AuthenticationError as error:
        raise InputError(
            _first_line(error), where, "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its token"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        told = " ".join(str(error).split())
        if told.startswith("Version mismatch: "):
            raise InputError(
                told, where, "use one image for all nodes and for this command"
            ) from error
        raise InputError(
            f"Ray does not start or connect: {_first_line(error)}",
            where,
            "check the address, its token (RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH), the versions "
            "on both sides and that this machine runs a node of the cluster; a local Ray needs "
            "a writable temporary folder",
        ) from error
    except Exception as error:
        # Ray raises a bare Exception where its processes do not come up in time.
        raise EndedShortError(
            f"{where}: Ray did not start: {_first_line(error)} Try again when the machine has "
            "less to do."
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo that `ray.init` lets SIGTERM end the process with nothing said."""
    ours = current_thread() is main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if ours and before is not None:
            signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _namespace() -> str:
    """A namespace of our own, so that runs that share a cluster do not meet."""
    return f"raygrid-{uuid4().hex[:12]}"


class _environment:
    """Set variables that are not set yet, for the length of a `with` block."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._added = {k: v for k, v in variables.items() if k not in os.environ}

    def __enter__(self) -> None:
        os.environ.update(self._added)

    def __exit__(self, *_: object) -> None:
        for name in self._added:
            os.environ.pop(name, None)
