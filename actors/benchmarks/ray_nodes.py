"""Ray nodes on this machine: real ones, on ports of their own, ended by their process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raygrid.errors import EndedShortError

START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Head:
    """A head node.

    Attributes
    ----------
    address : str
        `host:port` for `ray start --address` and `ray.init`.
    dashboard : str
        `http://host:port` for the Jobs API.
    process : subprocess.Popen
        `ray start --block`; terminating it ends the processes that it started, and only those.
    """

    address: str
    dashboard: str
    process: subprocess.Popen[bytes]


def clean_environment(python: Path | str) -> dict[str, str]:
    """The environment without what points to this checkout or to a running Ray."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RAY_", "PYTEST"))}
    programs = [str(Path(p).parent) for p in (python, sys.executable)]
    return clean | {"PATH": os.pathsep.join([*programs, clean["PATH"]])}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def started(
    arguments: Sequence[str],
    python: Path | str,
    log: Path,
    prefix: Sequence[str] = (),
    **variables: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start --block` with these arguments, until it says that it runs; ended with the block.

    Parameters
    ----------
    arguments : sequence of str
        Options of `ray start`.
    python : Path or str
        Interpreter of the node.
    log : Path
        File for what it says.
    prefix : sequence of str
        What stands before the command, such as `ip netns exec NAME`.
    **variables : str
        Environment of the node.
    """
    command = [
        *prefix, str(python), "-m", "ray.scripts.scripts", "start", "--block",
        "--disable-usage-stats", *arguments,
    ]  # fmt: skip
    environment = clean_environment(python) | variables
    with (
        log.open("w") as stream,
        subprocess.Popen(command, env=environment, stdout=stream, stderr=stream) as process,
    ):
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while "Ray runtime started" not in (told := log.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise EndedShortError(f"a Ray node did not start: {told[-1000:]}")
                time.sleep(0.2)
            yield process
        finally:
            # It ends the processes that it started, and only those.
            process.terminate()


@contextlib.contextmanager
def ray_head(
    python: Path | str,
    folder: Path,
    host: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    cpus: int = 2,
    **variables: str,
) -> Iterator[Head]:
    """A head node on ports of its own: `ray.init` always takes one port for its job agent.

    Parameters
    ----------
    python : Path or str
        Interpreter of the node.
    folder : Path
        For Ray's session; short, since sockets lie in it whose paths are limited to 107 letters.
    host : str
        Address of the node.
    prefix : sequence of str
        What stands before the command.
    cpus : int
        CPUs that it offers.
    **variables : str
        Environment of the node.
    """
    port, dashboard, client = free_ports(3)
    arguments = [
        "--head", f"--node-ip-address={host}", f"--port={port}", f"--dashboard-host={host}",
        f"--dashboard-port={dashboard}", "--dashboard-agent-listen-port=0",
        f"--ray-client-server-port={client}", f"--num-cpus={cpus}",
        "--object-store-memory=100000000", f"--temp-dir={folder}",
    ]  # fmt: skip
    with started(arguments, python, folder / "head.log", prefix, **variables) as process:
        yield Head(f"{host}:{port}", f"http://{host}:{dashboard}", process)


@contextlib.contextmanager
def ray_worker(
    head: Head,
    python: Path | str,
    folder: Path,
    name: str,
    host: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    cpus: int = 1,
    **variables: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """One more node of a cluster, on this machine; parameters as of `ray_head`."""
    arguments = [
        f"--address={head.address}", f"--node-ip-address={host}", f"--num-cpus={cpus}",
        "--dashboard-agent-listen-port=0", "--object-store-memory=100000000",
    ]  # fmt: skip
    with started(arguments, python, folder / f"{name}.log", prefix, **variables) as process:
        yield process


def raylet_of(node: subprocess.Popen[bytes]) -> int:
    """Process id of the raylet that a node's `ray start` has started.

    Parameters
    ----------
    node : subprocess.Popen
        From `ray_worker`.
    """
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    found = [
        int(child)
        for child in children
        if Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/raylet")
    ]
    (raylet,) = found
    return raylet
