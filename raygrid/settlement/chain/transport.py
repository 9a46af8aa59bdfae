"""JSON-RPC over HTTP: time-outs, batches that nodes take, retries of what may be repeated."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from raygrid.errors import InputError
from raygrid.settlement.chain.base import ChainDownError, ChainRefusedError, ChainSlowError

MAX_BODY_BYTES = 1_900_000
"""Anvil refuses bodies above 2 MB."""

MAX_BATCH = 500
IDLE_S = 4.0
"""After so long unused a connection is opened anew: nodes close idle ones without a word."""

BUSY = {429, 502, 503, 504}
"""HTTP answers that mean 'later'."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a read is tried, and how long to wait before each further attempt."""

    attempts: int = 4
    first_delay_s: float = 0.1
    growth: float = 4.0

    def delays_s(self) -> Iterator[float]:
        """Pauses between the attempts [s]."""
        delay_s = self.first_delay_s
        for _ in range(self.attempts - 1):
            yield delay_s
            delay_s *= self.growth


@dataclass(frozen=True)
class Request:
    """One JSON-RPC call."""

    method: str
    params: Sequence[Any] = ()


@dataclass(frozen=True)
class Fault:
    """The error with which a node answered one call of a batch."""

    code: int
    message: str
    data: Any = None

    def error(self) -> ChainRefusedError:
        """As an exception."""
        return ChainRefusedError(self.message, self.code, fault_bytes(self.data))


def fault_bytes(data: Any) -> bytes:
    """Revert data from an error's `data`, which nodes put there in different ways."""
    if isinstance(data, dict):
        data = data.get("data", data.get("result"))
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return bytes.fromhex(data[2:])
        except ValueError:
            return b""
    return b""


class Transport:
    """A connection to one node; safe to share between threads.

    Parameters
    ----------
    url : str
        http://host:port/path or https://...; a name and password in it are sent as basic
        authentication. Only scheme, host and port appear in messages, since a path may hold a key.
    timeout_s : float
        Longest wait for a connection, and for an answer [s].
    retry : RetryPolicy
        For calls that may be repeated.
    sleep : callable
        Waits between attempts.

    Raises
    ------
    InputError
        If `url` is none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = parse_url(url)
        self.where = f"{parts.scheme}://{parts.hostname}:{parts.port or default_port(parts)}"
        """The node, as it may be shown."""
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(str(parts.hostname), parts.port, timeout=timeout_s)
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._lock = threading.Lock()
        self._used_at = 0.0

    def _post(self, body: bytes) -> bytes:
        """One exchange; the connection is kept open after a good one only."""
        if time.monotonic() - self._used_at > IDLE_S:
            self._connection.close()
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except TimeoutError as error:
            self._connection.close()
            raise ChainSlowError(f"{self.where}: no answer within {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ChainDownError(f"{self.where}: {_reason(error)}") from error
        self._used_at = time.monotonic()
        if response.status in BUSY:
            raise ChainSlowError(f"{self.where}: busy (HTTP {response.status})")
        if response.status != http.client.OK and not answer.lstrip().startswith((b"{", b"[")):
            raise ChainRefusedError(f"{self.where}: HTTP {response.status} {response.reason}")
        return answer

    def _exchange(self, body: bytes, repeatable: bool) -> Any:
        delays_s = self._retry.delays_s() if repeatable else iter(())
        while True:
            try:
                with self._lock:
                    answer = self._post(body)
                break
            except (ChainDownError, ChainSlowError):
                delay_s = next(delays_s, None)
                if delay_s is None:
                    raise
                self._sleep(delay_s)
        try:
            return json.loads(answer)
        except ValueError:
            raise ChainRefusedError(f"{self.where}: this is no JSON-RPC node") from None

    def batch(
        self, requests: Sequence[Request], *, repeatable: bool = True, size: int = MAX_BATCH
    ) -> list[Any]:
        """Make many calls in as few requests as fit.

        Parameters
        ----------
        requests : sequence of Request
            The calls.
        repeatable : bool
            Whether they may be tried again when it is not known whether they arrived.
        size : int
            Most calls in one request.

        Returns
        -------
        list
            Results in the order of the calls; a `Fault` where the node answered with an error.

        Raises
        ------
        ChainDownError, ChainSlowError
            If nobody answers, or not in time.
        ChainRefusedError
            If the node refuses the whole request.
        """
        results: list[Any] = []
        for body, ids in _bodies(requests, size):
            answer = self._exchange(body, repeatable)
            if isinstance(answer, dict):
                fault = _fault(answer)
                raise fault.error() if fault else ChainRefusedError(f"{self.where}: odd answer")
            found = {item.get("id"): item for item in answer if isinstance(item, dict)}
            if not all(k in found for k in ids):
                raise ChainRefusedError(f"{self.where}: answered only part of a batch")
            results += (_fault(found[k]) or found[k].get("result") for k in ids)
        return results

    def call(self, method: str, *params: Any, repeatable: bool = True) -> Any:
        """Make one call.

        Raises
        ------
        ChainDownError, ChainSlowError, ChainRefusedError
            As `batch`, and if the node answers with an error.
        """
        (result,) = self.batch([Request(method, params)], repeatable=repeatable)
        if isinstance(result, Fault):
            raise result.error()
        return result

    def close(self) -> None:
        """Close the connection; another call opens it again."""
        with self._lock:
            self._connection.close()


def parse_url(url: str) -> SplitResult:
    """Check the URL of a node.

    Raises
    ------
    InputError
        If it is not an HTTP address.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InputError(
            f"{url!r} is not the address of a node",
            "chain",
            "give embedded, anvil, hardhat, none, or a URL such as http://127.0.0.1:8545",
        )
    return parts


def default_port(parts: SplitResult) -> int:
    """Port of a URL that names none."""
    return http.client.HTTPS_PORT if parts.scheme == "https" else http.client.HTTP_PORT


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _fault(answer: dict[str, Any]) -> Fault | None:
    error = answer.get("error")
    if not isinstance(error, dict):
        return Fault(0, str(error)) if error else None
    return Fault(int(error.get("code", 0)), str(error.get("message", "")), error.get("data"))


def _bodies(requests: Sequence[Request], batch: int) -> Iterator[tuple[bytes, list[int]]]:
    """JSON-RPC batches below the limits, with the ids in each."""
    items: list[str] = []
    ids: list[int] = []
    size = 0
    for k, request in enumerate(requests):
        call = {"jsonrpc": "2.0", "id": k, "method": request.method, "params": request.params}
        item = json.dumps(call, separators=(",", ":"))
        if items and (size + len(item) > MAX_BODY_BYTES or len(items) == batch):
            yield f"[{','.join(items)}]".encode(), ids
            items, ids, size = [], [], 0
        items.append(item)
        ids.append(k)
        size += len(item) + 1
    if items:
        yield f"[{','.join(items)}]".encode(), ids
