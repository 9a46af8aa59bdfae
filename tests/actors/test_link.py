"""Links: who gets in, what arrives, and what a broken one says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors import link as link_module
from actors.link import DRIVER, Door, Link, LinkError

KEY = b"k" * 32


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(autouse=True)
def hang_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test opened."""
    links: list[Link] = []
    begin = Link.__init__

    def noted(link: Link, stream: socket.socket) -> None:
        begin(link, stream)
        links.append(link)

    monkeypatch.setattr(Link, "__init__", noted)
    yield
    for link in links:
        link.close()


def pair(pool: ThreadPoolExecutor) -> tuple[Link, Link]:
    """Both ends of the driver's link."""
    door = Door("127.0.0.1")
    admitted = pool.submit(door.admit, 0, KEY)
    mine = Link.call(door.address, KEY, DRIVER)
    return admitted.result(timeout=10)[0], mine


def test_messages_arrive_whole_and_in_order(pool: ThreadPoolExecutor) -> None:
    one, other = pair(pool)
    sent = [bytes(range(256)) * n for n in (0, 1, 10_000)]

    def send() -> None:
        for message in sent:
            one.send_bytes(message)

    done = pool.submit(send)
    for message in sent:
        assert other.recv_bytes() == message
    done.result(timeout=10)
    other.send_bytes(b"")
    assert one.recv_bytes() == b""


def test_hosts_are_admitted_in_order_whoever_calls_first(pool: ThreadPoolExecutor) -> None:
    door = Door("127.0.0.1")
    admitted = pool.submit(door.admit, 2, KEY)
    calls = {name: Link.call(door.address, KEY, name) for name in (1, DRIVER, 0)}
    driver, hosts = admitted.result(timeout=10)
    for name, link in [(DRIVER, driver), *enumerate(hosts)]:
        link.send_bytes(b"%d" % name)
        assert calls[name].recv_bytes() == b"%d" % name


def test_who_does_not_know_the_key_is_sent_away(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door("127.0.0.1")
    admitted = pool.submit(door.admit, 0, KEY)
    with pytest.raises(LinkError, match=r"digest|closed"):
        Link.call(door.address, b"x" * 32, DRIVER)
    with socket.create_connection((door.address.host, door.address.port)) as stranger:
        stranger.sendall((2**40).to_bytes(8, "big") + b"x" * 100)
        assert stranger.recv(8)
    mine = Link.call(door.address, KEY, DRIVER)
    admitted.result(timeout=10)[0].send_bytes(b"in")
    assert mine.recv_bytes() == b"in"


def test_the_same_name_twice_is_sent_away(pool: ThreadPoolExecutor) -> None:
    door = Door("127.0.0.1")
    admitted = pool.submit(door.admit, 1, KEY)
    first = Link.call(door.address, KEY, 0)
    again = Link.call(door.address, KEY, 0)
    with pytest.raises(LinkError):
        again.recv_bytes()
    Link.call(door.address, KEY, DRIVER)
    admitted.result(timeout=10)[1][0].send_bytes(b"first")
    assert first.recv_bytes() == b"first"


def test_a_missing_caller_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "GREETING_TIMEOUT_S", 0.05)
    with pytest.raises(LinkError, match=r"\[-1, 0\] did not call"):
        Door("127.0.0.1").admit(1, KEY)


def test_nobody_listens() -> None:
    door = Door("127.0.0.1")
    door.close()
    with pytest.raises(LinkError, match=r"no operator at 127\.0\.0\.1"):
        Link.call(door.address, KEY, DRIVER)


def test_a_closed_link_says_so_at_once(pool: ThreadPoolExecutor) -> None:
    one, other = pair(pool)
    one.send_bytes(b"last")
    one.close()
    assert other.recv_bytes() == b"last"
    with pytest.raises(LinkError, match="closed by its peer"):
        other.recv_bytes()
    other.wait_at_most(10.0)
    with pytest.raises(LinkError):
        other.send_bytes(b"x" * 10**8)
