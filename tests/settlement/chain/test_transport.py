"""JSON-RPC over HTTP against a server that misbehaves on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from raygrid.errors import InputError
from raygrid.settlement.chain.base import ChainDownError, ChainRefusedError, ChainSlowError
from raygrid.settlement.chain.nodes import free_port
from raygrid.settlement.chain.transport import (
    MAX_BATCH,
    MAX_BODY_BYTES,
    Fault,
    Request,
    RetryPolicy,
    Transport,
    fault_bytes,
)

Answer = Callable[[BaseHTTPRequestHandler, Any], Any]
"""What the server makes of a request: JSON, or None where it has answered or not by itself."""


def echo(handler: BaseHTTPRequestHandler, calls: Any) -> Any:
    """Each call's first parameter is its result."""
    return [{"id": c["id"], "result": c["params"][0] if c["params"] else None} for c in calls]


class Server(ThreadingHTTPServer):
    """Answers with the scripted answers in turn, then with the last one for good."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[Any] = []
        self.bodies: list[int] = []
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(len(body))
        self.server.seen.append(json.loads(body))
        self.server.headers.append(dict(self.headers))
        answers = self.server.answers
        answer = (answers.pop(0) if len(answers) > 1 else answers[0])(self, json.loads(body))
        if answer is not None:
            reply(self, 200, json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def reply(handler: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int, content: bytes = b"") -> Answer:
    return lambda handler, calls: reply(handler, code, content)


def hang_up(handler: BaseHTTPRequestHandler, calls: Any) -> None:
    handler.close_connection = True


class Silence:
    """Does not answer until told."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler, calls: Any) -> None:
        self.over.wait(20)
        handler.close_connection = True


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    server = Server(*answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def connected(
    server: Server, *, timeout_s: float = 5.0, attempts: int = 3
) -> Iterator[tuple[Transport, list[float]]]:
    waits: list[float] = []
    transport = Transport(
        server.url, timeout_s=timeout_s, retry=RetryPolicy(attempts, 0.1, 2.0), sleep=waits.append
    )
    try:
        yield transport, waits
    finally:
        transport.close()


def test_results_come_in_the_order_of_the_calls() -> None:
    def shuffled(handler: BaseHTTPRequestHandler, calls: Any) -> Any:
        return echo(handler, calls)[::-1]

    with serving(shuffled) as server, connected(server) as (transport, _):
        assert transport.batch([Request("m", (k,)) for k in range(7)]) == list(range(7))
        assert transport.batch([]) == []


def test_a_large_batch_is_split_by_bytes_and_by_number() -> None:
    with serving(echo) as server, connected(server) as (transport, _):
        long = [Request("m", ("x" * 700_000,)) for _ in range(5)]
        assert len(transport.batch(long)) == 5
        assert len(server.bodies) == 3
        assert max(server.bodies) <= MAX_BODY_BYTES + 1_000
        server.bodies.clear()
        assert len(transport.batch([Request("m", (1,))] * (MAX_BATCH + 1))) == MAX_BATCH + 1
        assert len(server.bodies) == 2
        server.bodies.clear()
        transport.batch([Request("m", (1,))] * 3, size=1)
        assert len(server.bodies) == 3


def test_an_error_of_one_call_leaves_the_others() -> None:
    def one_fails(handler: BaseHTTPRequestHandler, calls: Any) -> Any:
        answer = echo(handler, calls)
        answer[0] = {"id": calls[0]["id"], "error": {"code": 3, "message": "no", "data": "0xab"}}
        return answer

    with serving(one_fails) as server, connected(server) as (transport, _):
        fault, result = transport.batch([Request("m", (1,)), Request("m", (2,))])
        assert isinstance(fault, Fault)
        assert result == 2
        with pytest.raises(ChainRefusedError, match="no") as caught:
            transport.call("m", 1)
        assert (caught.value.code, caught.value.data) == (3, b"\xab")


@pytest.mark.parametrize("failure", [hang_up, status(503), status(429), status(504)])
def test_a_read_is_tried_again(failure: Answer) -> None:
    with serving(failure, failure, echo) as server, connected(server) as (transport, waits):
        assert transport.call("m", 5) == 5
        assert waits == [0.1, 0.2]


def test_a_read_is_given_up_after_the_last_attempt() -> None:
    with serving(hang_up) as server, connected(server) as (transport, waits):
        with pytest.raises(ChainDownError):
            transport.call("m", 5)
        assert len(server.seen) == 3
        assert waits == [0.1, 0.2]


@pytest.mark.parametrize(
    ("failure", "error"), [(hang_up, ChainDownError), (status(503), ChainSlowError)]
)
def test_what_must_not_be_repeated_is_not(failure: Answer, error: type[Exception]) -> None:
    with serving(failure) as server, connected(server) as (transport, waits):
        with pytest.raises(error):
            transport.batch([Request("m")], repeatable=False)
        assert len(server.seen) == 1
        assert waits == []


def test_a_slow_node_is_not_a_dead_one() -> None:
    silence = Silence()
    with serving(silence) as server:
        with (
            connected(server, timeout_s=0.05, attempts=1) as (transport, _),
            pytest.raises(ChainSlowError, match=r"no answer within 0\.05 s"),
        ):
            transport.call("m", 1)
        silence.over.set()


def test_nobody_listens() -> None:
    transport = Transport(f"http://127.0.0.1:{free_port()}", retry=RetryPolicy(attempts=1))
    with pytest.raises(ChainDownError, match="nobody listens there"):
        transport.call("m")


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (status(200, b"<html>"), "no JSON-RPC node"),
        (status(404, b"lost"), "HTTP 404"),
        (lambda h, c: {"error": {"code": -32600, "message": "too large"}}, "too large"),
        (lambda h, c: {"jsonrpc": "2.0"}, "odd answer"),
        (lambda h, c: [], "only part"),
        (lambda h, c: [{"id": 99, "result": 1}], "only part"),
    ],
)
def test_what_is_no_answer_is_refused_at_once(answer: Answer, match: str) -> None:
    with serving(answer) as server, connected(server) as (transport, waits):
        with pytest.raises(ChainRefusedError, match=match):
            transport.call("m")
        assert waits == []


def test_an_error_with_a_bad_status_is_read_too() -> None:
    content = json.dumps({"error": {"code": 7, "message": "unauthorised"}}).encode()
    with (
        serving(status(401, content)) as server,
        connected(server) as (transport, _),
        pytest.raises(ChainRefusedError, match="unauthorised"),
    ):
        transport.call("m")


def test_secrets_of_a_url_are_used_and_not_shown() -> None:
    with serving(echo) as server:
        port = server.server_address[1]
        transport = Transport(f"http://me:p%40ss@127.0.0.1:{port}/secret/path?key=1")
        assert transport.call("m", 1) == 1
        transport.close()
        assert server.headers[0]["Authorization"] == "Basic bWU6cEBzcw=="
        assert transport.where == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "127.0.0.1:8545", "http://", "ws://x", "http://h:x", "http://[", "anvl"]
)
def test_what_is_no_address_of_a_node(url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a node"):
        Transport(url)


@pytest.mark.parametrize(
    ("data", "expected"),
    [("0xab", b"\xab"), ({"data": "0xab"}, b"\xab"), ({"result": "0xab"}, b"\xab"),
     (None, b""), ("x", b""), ("0xzz", b""), ({"data": None}, b""), (7, b"")],
)  # fmt: skip
def test_revert_data_wherever_a_node_puts_it(data: Any, expected: bytes) -> None:
    assert fault_bytes(data) == expected
