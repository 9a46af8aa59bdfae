"""Links between actors: authenticated byte streams that carry a clearing's rounds.

Ray places, finds, restarts and ends the actors; the rounds themselves travel over TCP between
them. A hop costs some 0.05 ms against 1.5 ms of an actor call, waiting costs no CPU (a compiled
graph's channels spin), and a dead process shows at once as a closed link.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge, deliver_challenge
from struct import Struct
from struct import error as StructError
from time import monotonic
from typing import Self

GREETING_TIMEOUT_S = 60.0
"""Longest wait for a peer to call and to show that it knows the key."""
KEEPALIVE_S = 5
"""Idle time after which a peer's machine is asked whether it lives, and between two askings."""
KEEPALIVE_COUNT = 3
"""Askings without an answer after which the link counts as broken: 20 s in all."""
DRIVER = -1
"""Name of the driver among the callers of a door."""

_LENGTH = Struct("!Q")
_NAME = Struct("!q")


class LinkError(RuntimeError):
    """A link broke or stayed silent: its peer, or the way to it, is gone."""


@dataclass(frozen=True)
class DoorAddress:
    """Where the operator waits for calls.

    Attributes
    ----------
    host : str
        Address that it listens on.
    port : int
        Free port that it was given.
    """

    host: str
    port: int


class Link:
    """One end of an authenticated stream of messages, each a string of bytes.

    Parameters
    ----------
    stream : socket
        Connected socket, owned from now on.
    """

    def __init__(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A long step is silent and well; a machine that is gone does not answer the kernel.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_S),
            ("TCP_KEEPINTVL", KEEPALIVE_S),
            ("TCP_KEEPCNT", KEEPALIVE_COUNT),
            ("TCP_USER_TIMEOUT", 1000 * KEEPALIVE_S * (KEEPALIVE_COUNT + 1)),
        ):
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._stream = stream

    @classmethod
    def call(cls, address: DoorAddress, key: bytes, name: int) -> Self:
        """Connect to a door and say who calls.

        Parameters
        ----------
        address : DoorAddress
            Where it is.
        key : bytes
            The clearing's key.
        name : int
            Number of the host, or `DRIVER`.

        Raises
        ------
        LinkError
            Nobody answers there, or not with the key.
        """
        try:
            stream = socket.create_connection((address.host, address.port), GREETING_TIMEOUT_S)
        except OSError as error:
            raise LinkError(f"no operator at {address.host}:{address.port}: {error}") from error
        link = cls(stream)
        try:
            answer_challenge(link, key)  # type: ignore[arg-type]
            deliver_challenge(link, key)  # type: ignore[arg-type]
            link.send_bytes(_NAME.pack(name))
            link.wait_at_most(None)
        except (AuthenticationError, LinkError) as error:
            link.close()
            raise LinkError(f"{address.host}:{address.port}: {error}") from error
        return link

    def send_bytes(self, data: bytes) -> None:
        """Send a message; blocks while the peer's buffer is full.

        Named, like its counterpart, as `multiprocessing` asks for its challenge.
        """
        try:
            self._stream.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise LinkError(f"a link broke: {error}") from error

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next message, of at most so many bytes; blocks until it is there."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if maxlength is not None and length > maxlength:
            raise LinkError(f"{length} bytes where at most {maxlength} were due")
        return self._read(length)

    def wait_at_most(self, timeout_s: float | None) -> None:
        """Bound the wait of later calls [s]; None waits as long as the peer lives."""
        self._stream.settimeout(timeout_s)

    def close(self) -> None:
        """Hang up; the peer's next call fails."""
        self._stream.close()

    def _read(self, length: int) -> bytes:
        data = bytearray(length)
        view, got = memoryview(data), 0
        try:
            while got < length:
                read = self._stream.recv_into(view[got:])
                if not read:
                    raise LinkError("a link was closed by its peer")
                got += read
        except OSError as error:
            raise LinkError(f"a link broke: {error}") from error
        return bytes(data)


class Door:
    """Where an operator waits for the calls of its hosts and of the driver.

    Parameters
    ----------
    host : str
        Address to listen on: loopback where everybody is on this machine.
    """

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self.address = DoorAddress(host, self._listener.getsockname()[1])

    def admit(self, n_hosts: int, key: bytes) -> tuple[Link, list[Link]]:
        """Wait for the driver and all hosts; strangers are sent away.

        Parameters
        ----------
        n_hosts : int
            Hosts to wait for.
        key : bytes
            The clearing's key.

        Returns
        -------
        driver : Link
        hosts : list of Link
            In host order.

        Raises
        ------
        LinkError
            Somebody did not call in time.
        """
        driver, *hosts = self.admit_all((DRIVER, *range(n_hosts)), key)
        return driver, hosts

    def admit_all(self, names: Sequence[int], key: bytes) -> list[Link]:
        """Wait for callers of some names; their links in the same order. See `admit`."""
        missing = set(names)
        links: dict[int, Link] = {}
        deadline = monotonic() + GREETING_TIMEOUT_S
        try:
            while missing:
                self._listener.settimeout(max(deadline - monotonic(), 0.001))
                try:
                    stream, _ = self._listener.accept()
                except OSError as error:
                    raise LinkError(f"{sorted(missing)} did not call the operator") from error
                link = Link(stream)
                name = _greet(link, key)
                if name is not None and name in missing:
                    missing.remove(name)
                    links[name] = link
                else:
                    link.close()
        except BaseException:
            for link in links.values():
                link.close()
            raise
        finally:
            self.close()
        return [links[name] for name in names]

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _greet(link: Link, key: bytes) -> int | None:
    """The caller's name, once it has shown that it knows the key."""
    link.wait_at_most(GREETING_TIMEOUT_S)
    try:
        deliver_challenge(link, key)  # type: ignore[arg-type]
        answer_challenge(link, key)  # type: ignore[arg-type]
        (name,) = _NAME.unpack(link.recv_bytes(_NAME.size))
        link.wait_at_most(None)
    except (AuthenticationError, LinkError, StructError):
        return None
    return int(name)
