"""Anvil and Hardhat nodes that raygrid starts on loopback, and ends with itself."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from raygrid.errors import InputError
from raygrid.files import data_root
from raygrid.settlement.chain.base import LOCAL_GAS_LIMIT, ChainDownError, ChainError
from raygrid.settlement.chain.locking import FolderLock

LOOPBACK = "127.0.0.1"
HARDFORK = "prague"
START_S = 30.0
"""Longest wait for a node to answer."""

STOP_S = 10.0
"""How long a node may take to write its state when it is asked to end."""

STATE_INTERVAL_S = 1
ANVIL_STATE_FILE = "anvil_state.json"
DAMAGED_CURE = "restore it, or start anew with settle --redeploy"
STATES_IN_MEMORY = 16
"""Old states that Anvil keeps for calls on past blocks; blocks and transactions it keeps all."""

GUARD = """
exec 3<&0
"$@" </dev/null >/dev/null 3<&- &
node=$!
echo "$node"
{ read -r _ <&3; kill -TERM "$node"; sleep 10; kill -KILL "$node"; } >/dev/null 2>&1 &
guard=$!
exec 3<&- >/dev/null 2>&1
wait "$node"
code=$?
kill -KILL "$guard"
exit "$code"
"""
"""Runs a node, and ends it as soon as the pipe on standard input closes, which it does however the
process that holds the other end comes to its end, kill -9 included."""


@dataclass(frozen=True)
class NodeProgram:
    """How to start one kind of node."""

    name: str
    command: Callable[[int], list[str]]
    """Command line for a port."""
    environment: Mapping[str, str]
    folder: Path | None = None
    """Where it runs."""


class Node:
    """A node process on loopback, listening on a free port.

    Parameters
    ----------
    program : NodeProgram
        What to start.
    lock : FolderLock, optional
        On the folder that keeps its state; given back by `close`.

    Raises
    ------
    ChainError
        If it does not come up.
    """

    def __init__(self, program: NodeProgram, lock: FolderLock | None = None) -> None:
        self._program = program
        self._lock = lock
        self._guard: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self.port = free_port()
        self.pid = 0
        """Process id of the node itself."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it on its port, and wait until it listens."""
        self.stop()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "raygrid-node", *self._program.command(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **self._program.environment},
            cwd=self._program.folder,
            # A Ctrl-C is ours to handle: the node is needed until the end.
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as stream:
            self.pid = int(stream.readline() or 0)
        self._await()

    def _await(self) -> None:
        deadline = time.monotonic() + START_S
        while self.is_running():
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1.0):
                return
            if time.monotonic() > deadline:
                raise ChainDownError(f"{self._program.name} did not listen within {START_S:g} s")
            time.sleep(0.01)
        raise ChainError(f"{self._program.name} ended at once: {self._last_words()}")

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return " ".join(lines[-3:]) or "it did not say why"

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._guard is not None and self._guard.poll() is None

    def stop(self) -> None:
        """End the process, giving it time to write its state. May be called twice."""
        guard, self._guard = self._guard, None
        if guard is not None:
            assert guard.stdin is not None
            guard.stdin.close()
            try:
                guard.wait(STOP_S + 2.0)
            finally:
                guard.kill()
                guard.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def close(self) -> None:
        """End the process for good. May be called twice."""
        self.stop()
        if self._lock is not None:
            self._lock.release()


def free_port() -> int:
    """A port of loopback on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def genesis_gas_limit() -> int:
    """A block gas limit that makes the genesis hash of a local chain its own.

    A node's block 0 holds nothing else that can be chosen, and two started in one second would
    share its hash.
    """
    return LOCAL_GAS_LIMIT + secrets.randbelow(2**20)


def node_modules() -> list[Path]:
    """Folders in which npm may have installed the nodes, the contracts' own first."""
    with contextlib.suppress(InputError):
        return [data_root("contracts") / "node_modules", Path("contracts/node_modules").resolve()]
    return [Path("contracts/node_modules").resolve()]


def find_anvil() -> Path:
    """Anvil's program.

    npm's `anvil` is a script that starts the program in its package for this machine; that
    program itself is wanted, so that its process id is the node's.

    Raises
    ------
    InputError
        If it is not installed.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@foundry-rs/anvil-{platform.system().lower()}-{machine}/bin/anvil"
    found = [modules / package for modules in node_modules()]
    if on_path := shutil.which("anvil"):
        real = Path(on_path).resolve()
        found += [parent / package for parent in real.parents if parent.name == "node_modules"]
        found.append(real)
    for candidate in found:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise InputError(
        "Anvil is not installed", "chain anvil", "run `make anvil`, or put anvil on the PATH"
    )


def find_hardhat() -> Path:
    """The folder of Hardhat's npm package.

    Raises
    ------
    InputError
        If it or Node.js is not installed.
    """
    found = [modules / "hardhat" for modules in node_modules()]
    if on_path := shutil.which("hardhat"):
        found += [p for p in Path(on_path).resolve().parents if p.name == "hardhat"]
    for candidate in found:
        if (candidate / "internal/cli/bootstrap.js").is_file() and shutil.which("node"):
            return candidate
    raise InputError(
        "Hardhat 2 or Node.js is not installed",
        "chain hardhat",
        "run `make hardhat`, or put hardhat and node on the PATH",
    )


def is_whole(state: Path) -> bool:
    """Whether Anvil wrote a state to its end; it writes in place."""
    try:
        json.loads(state.read_bytes())
    except ValueError:
        return False
    return True


def genesis_arguments(state: Path | None) -> list[str]:
    """Options with which Anvil makes the block 0 that its state has.

    Each start makes a block 0, which stays beside the one that is loaded; both are written, and
    the next start would take either. So they have to be the same.
    """
    if state is None or not state.exists():
        return []
    blocks = json.loads(state.read_bytes()).get("blocks", [])
    headers = [block["header"] for block in blocks if int(block["header"]["number"], 16) == 0]
    if not headers:
        return []
    gas_limit, timestamp = (int(headers[0][name], 16) for name in ("gasLimit", "timestamp"))
    return ["--gas-limit", str(gas_limit), "--timestamp", str(timestamp)]


def start_anvil(
    folder: Path | None, *, read_only: bool = False, state_interval_s: int = STATE_INTERVAL_S
) -> Node:
    """Start an Anvil node.

    Parameters
    ----------
    folder : Path or None
        Where its state is kept (`ANVIL_STATE_FILE`), from which it goes on if it is there; None
        keeps nothing.
    read_only : bool
        Go on from the stored state without changing it.
    state_interval_s : int
        How often the state is written [s]; what came later is lost when the node is killed.

    Returns
    -------
    Node
        Listening.

    Raises
    ------
    InputError
        If Anvil is not installed, another process works on the folder's chain, or there is none
        to look at.
    """
    program = str(find_anvil())
    gas_limit = genesis_gas_limit()
    state = None if folder is None else folder.resolve() / ANVIL_STATE_FILE
    if read_only and (state is None or not state.is_file()):
        raise InputError(
            "no Anvil chain is stored here", str(state), "name a run that was settled on Anvil"
        )

    def command(port: int) -> list[str]:
        arguments = [
            program, "--host", LOOPBACK, "--port", str(port), "--quiet", "--no-cors",
            "--hardfork", HARDFORK, "--order", "fifo",
            "--gas-price", "0", "--base-fee", "0", "--disable-min-priority-fee",
            "--prune-history", str(STATES_IN_MEMORY),
        ]  # fmt: skip
        if state is not None and state.exists() and not is_whole(state):
            if read_only:
                raise InputError("not a whole state of Anvil", str(state), DAMAGED_CURE)
            # Anvil was killed while it wrote. What it had is lost: it starts anew, and the
            # missing contract then says so.
            state.replace(state.with_suffix(".damaged"))
        arguments += genesis_arguments(state) or ["--gas-limit", str(gas_limit)]
        if read_only:
            arguments += ["--load-state", str(state)]
        elif state is not None:
            arguments += ["--state", str(state), "--state-interval", str(state_interval_s)]
        return arguments

    lock = None if folder is None or read_only else FolderLock(folder)
    return Node(NodeProgram("Anvil", command, {}), lock)


def start_hardhat() -> Node:
    """Start a Hardhat node, which keeps no state: it ends with its process.

    Returns
    -------
    Node
        Listening.
    """
    package = find_hardhat()
    folder = Path(__file__).parent / "hardhat"
    environment = {
        "RAYGRID_GAS_LIMIT": str(genesis_gas_limit()),
        # Hardhat wants to be found from the folder of its project file, which is ours.
        "NODE_PATH": str(package.parent),
        "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true",
    }

    def command(port: int) -> list[str]:
        return [
            "node", str(package / "internal/cli/bootstrap.js"), "node",
            "--hostname", LOOPBACK, "--port", str(port),
        ]  # fmt: skip

    return Node(NodeProgram("Hardhat", command, environment, folder))
