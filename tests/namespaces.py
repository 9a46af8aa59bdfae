"""Machines in miniature: network namespaces with addresses of their own on one switch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self


def available() -> bool:
    """Whether this process may make network namespaces."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"rgtest-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


class Switch:
    """A switch with a cable to each of so many machines; a context manager that removes all.

    The switch is in a namespace too, so that nothing of this machine's own network changes.

    Parameters
    ----------
    machines : int
        How many.
    """

    def __init__(self, machines: int) -> None:
        self._id = os.getpid() % 100_000
        self._switch = f"rg{self._id}sw"
        self.names = [f"rg{self._id}n{k}" for k in range(machines)]
        self.addresses = [f"10.213.7.{k + 1}" for k in range(machines)]

    def __enter__(self) -> Self:
        try:
            self._ip("netns", "add", self._switch)
            self._ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            self._ip("-n", self._switch, "link", "set", "br0", "up")
            for k, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
                self._ip("netns", "add", name)
                self._ip(
                    "-n", self._switch, "link", "add", f"port{k}", "type", "veth",
                    "peer", "name", "eth0", "netns", name,
                )  # fmt: skip
                self._ip("-n", self._switch, "link", "set", f"port{k}", "master", "br0")
                self._ip("-n", self._switch, "link", "set", f"port{k}", "up")
                self._ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                self._ip("-n", name, "link", "set", "eth0", "up")
                self._ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def on(self, machine: int) -> list[str]:
        """What stands before a command that runs on a machine."""
        return ["ip", "netns", "exec", self.names[machine]]

    def cut(self, machine: int) -> list[str]:
        """The command that pulls a machine's cable."""
        return ["ip", "-n", self._switch, "link", "set", f"port{machine}", "down"]

    def mend(self, machine: int) -> None:
        """Plug a machine's cable in again."""
        self._ip("-n", self._switch, "link", "set", f"port{machine}", "up")

    def close(self) -> None:
        """Remove the namespaces, and with them cables and switch."""
        for name in [*self.names, self._switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    @staticmethod
    def _ip(*arguments: str) -> None:
        command: Sequence[str] = ["ip", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
