"""Anvil and Hardhat, where they are installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from raygrid.errors import InputError
from raygrid.settlement.chain import nodes
from raygrid.settlement.chain.base import (
    Chain,
    ChainDownError,
    ChainError,
    ChainKind,
    ChainSlowError,
    Receipt,
    Reverted,
    SendStatus,
)
from raygrid.settlement.chain.keys import Key, SignedTransaction, sign_transaction
from raygrid.settlement.chain.nodes import Node, NodeProgram, free_port
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.chain.rpc import RpcChain
from tests.settlement.chain.programs import COUNTER, deployment, word

KEY = Key(b"\x55" * 32)
"""No account of the nodes' own: it acts without money."""

FIND = {"anvil": nodes.find_anvil, "hardhat": nodes.find_hardhat}


def need(kind: str) -> None:
    try:
        FIND[kind]()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["anvil", "hardhat"])
def chain(request: pytest.FixtureRequest) -> Iterator[RpcChain]:
    need(request.param)
    opened = open_chain(request.param)
    assert isinstance(opened, RpcChain)
    yield opened
    opened.close()


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[RpcChain]:
    need("anvil")
    opened = open_chain("anvil", tmp_path)
    assert isinstance(opened, RpcChain)
    yield opened
    opened.close()


def sign(chain: Chain, nonce: int, to: bytes | None, data: bytes = b"") -> SignedTransaction:
    return sign_transaction(
        KEY, chain_id=chain.chain_id, nonce=nonce, gas=1_000_000, to=to, data=data, max_fee_wei=0
    )


def settled(chain: Chain, tx_hashes: Sequence[bytes]) -> list[Receipt]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        receipts = [r for r in chain.receipts(tx_hashes) if r is not None]
        if len(receipts) == len(tx_hashes):
            return receipts
        time.sleep(0.01)
    raise AssertionError("no receipts")


def deploy(chain: Chain) -> bytes:
    signed = sign(chain, chain.nonce(KEY.address), None, deployment(COUNTER))
    chain.send_raw([signed.raw])
    (receipt,) = settled(chain, [signed.tx_hash])
    assert receipt.contract_address is not None
    return receipt.contract_address


@pytest.mark.optional
@pytest.mark.slow
def test_a_node_does_what_the_embedded_chain_does(chain: RpcChain) -> None:
    assert isinstance(chain, Chain)
    assert chain.is_local
    assert chain.chain_id == 31337
    assert chain.kind in (ChainKind.ANVIL, ChainKind.HARDHAT)
    assert chain.fees().max_fee_wei == 0
    counter = deploy(chain)
    assert chain.code(counter) == COUNTER

    signed = [sign(chain, 1 + k, counter, word(k + 1)) for k in range(20)]
    outcomes = chain.send_raw([s.raw for s in signed])
    assert {o.status for o in outcomes} == {SendStatus.ACCEPTED}
    receipts = settled(chain, [s.tx_hash for s in signed])
    assert all(r.succeeded for r in receipts)
    assert chain.call(counter, b"") == word(210)
    assert chain.nonce(KEY.address) == 21
    logs = chain.logs(counter, 0, chain.block_number(), [word(7)])
    assert [log.data for log in logs] == [word(sum(range(k + 2))) for k in range(20)]
    kept = chain.transaction(signed[3].tx_hash)
    assert kept is not None
    assert (kept.sender, kept.nonce, kept.data) == (KEY.address, 4, word(4))

    fresh = sign(chain, 0, counter, b"another")
    again = chain.send_raw([signed[0].raw, fresh.raw])
    assert [o.status for o in again] == [SendStatus.KNOWN, SendStatus.NONCE_TOO_LOW]
    reverting = sign(chain, 21, counter, word(0xDEAD))
    assert chain.send_raw([reverting.raw])[0].status is SendStatus.ACCEPTED
    assert not settled(chain, [reverting.tx_hash])[0].succeeded
    with pytest.raises(Reverted, match="nope"):
        chain.call(counter, word(0xDEAD))
    with pytest.raises(Reverted):
        chain.estimate_gas(KEY.address, counter, word(0xDEAD))
    assert 21_000 < chain.estimate_gas(KEY.address, counter, word(1)) < 60_000

    chain.endow([KEY.address])
    assert chain.balance(KEY.address) > 0
    block = chain.block_number()
    chain.mine(3)
    assert chain.block_number() == block + 3


@pytest.mark.optional
@pytest.mark.slow
def test_two_chains_of_one_second_are_told_apart() -> None:
    need("anvil")
    first, second = open_chain("anvil"), open_chain("anvil")
    assert first.genesis_hash() != second.genesis_hash()
    first.close()
    second.close()


@pytest.mark.optional
@pytest.mark.slow
def test_gas_is_the_same_on_all_chains(chain: RpcChain) -> None:
    from raygrid.settlement.chain.embedded import EmbeddedChain

    embedded = EmbeddedChain()
    used = []
    for each in (chain, embedded):
        counter = deploy(each)
        data = [word(k) for k in (0, 1, 0xDEAD, 2)]
        signed = [sign(each, 1 + k, counter, item) for k, item in enumerate(data)]
        each.send_raw([s.raw for s in signed])
        used.append([r.gas_used for r in settled(each, [s.tx_hash for s in signed])])
    assert used[0] == used[1]


def is_gone(pid: int) -> bool:
    """Whether a process of that id has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.optional
@pytest.mark.slow
def test_closing_ends_the_node(chain: RpcChain) -> None:
    assert chain.node is not None
    pid = chain.node.pid
    assert not is_gone(pid)
    chain.close()
    chain.close()
    assert is_gone(pid)


@pytest.mark.optional
@pytest.mark.slow
def test_anvil_listens_on_loopback_only(anvil: RpcChain) -> None:
    assert anvil.node is not None
    port = f":{anvil.node.port:04X}"
    lines = Path(f"/proc/{anvil.node.pid}/net/tcp").read_text().splitlines()[1:]
    listening = [
        x.split()[1] for x in lines if x.split()[1].endswith(port) and x.split()[3] == "0A"
    ]
    assert listening == [f"0100007F{port}"]
    assert port not in Path(f"/proc/{anvil.node.pid}/net/tcp6").read_text()


@pytest.mark.optional
@pytest.mark.slow
def test_a_stopped_anvil_goes_on_from_its_file(tmp_path: Path) -> None:
    need("anvil")
    first = open_chain("anvil", tmp_path)
    counter = deploy(first)
    signed = sign(first, 1, counter, word(5))
    first.send_raw([signed.raw])
    settled(first, [signed.tx_hash])
    genesis = first.genesis_hash()
    first.close()
    for read_only in (True, False):
        again = open_chain("anvil", tmp_path, read_only=read_only)
        assert again.genesis_hash() == genesis
        assert again.call(counter, b"") == word(5)
        kept = again.transaction(signed.tx_hash)
        assert kept is not None
        assert kept.data == word(5)
        assert again.receipts([signed.tx_hash])[0] is not None
        again.close()


@pytest.mark.optional
@pytest.mark.slow
def test_a_killed_anvil_is_started_again_and_goes_on(anvil: RpcChain, tmp_path: Path) -> None:
    counter = deploy(anvil)
    genesis = anvil.genesis_hash()
    state = tmp_path / nodes.ANVIL_STATE_FILE
    saved_before = state.stat().st_mtime if state.exists() else 0.0
    assert eventually(lambda: state.exists() and state.stat().st_mtime > saved_before)
    time.sleep(1.1 * nodes.STATE_INTERVAL_S)  # one interval that began after the deployment
    assert anvil.node is not None
    assert not anvil.revive()
    os.kill(anvil.node.pid, signal.SIGKILL)
    assert eventually(lambda: anvil.node is not None and not anvil.node.is_running())
    with pytest.raises((ChainDownError, ChainSlowError)):
        anvil.send_raw([sign(anvil, 1, counter).raw])
    assert anvil.revive()
    assert anvil.genesis_hash() == genesis
    assert anvil.code(counter) == COUNTER


@pytest.mark.optional
@pytest.mark.slow
def test_a_state_cut_off_by_a_kill_is_set_aside(tmp_path: Path) -> None:
    need("anvil")
    chain = open_chain("anvil", tmp_path)
    counter = deploy(chain)
    chain.close()
    state = tmp_path / nodes.ANVIL_STATE_FILE
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole state of Anvil"):
        open_chain("anvil", tmp_path, read_only=True)
    anew = open_chain("anvil", tmp_path)
    assert anew.code(counter) == b""
    anew.close()
    assert state.with_suffix(".damaged").exists()


@pytest.mark.optional
@pytest.mark.slow
def test_anvil_keeps_every_transaction(tmp_path: Path) -> None:
    """What an audit reads is there after many blocks, whose states are not."""
    need("anvil")
    chain = open_chain("anvil", tmp_path)
    counter = deploy(chain)
    signed = [sign(chain, 1 + k, counter, word(k)) for k in range(3 * nodes.STATES_IN_MEMORY)]
    for each in signed:
        chain.send_raw([each.raw])
        settled(chain, [each.tx_hash])
    for _ in range(2):
        assert chain.block_number() > 2 * nodes.STATES_IN_MEMORY
        kept = chain.transactions([each.tx_hash for each in signed])
        assert [t.data for t in kept if t is not None] == [word(k) for k in range(len(signed))]
        assert all(chain.receipts([each.tx_hash for each in signed]))
        assert len(chain.logs(counter, 0, chain.block_number())) == len(signed)
        chain.close()
        chain = open_chain("anvil", tmp_path, read_only=True)
    chain.close()


@pytest.mark.optional
@pytest.mark.slow
def test_anvil_can_lose_its_latest_blocks(anvil: RpcChain) -> None:
    counter = deploy(anvil)
    signed = sign(anvil, 1, counter, word(5))
    anvil.send_raw([signed.raw])
    (before,) = settled(anvil, [signed.tx_hash])
    anvil.transport.call("anvil_rollback", 1)
    assert anvil.receipts([signed.tx_hash]) == [None]
    assert anvil.call(counter, b"") == word(0)
    assert anvil.send_raw([signed.raw])[0].status is SendStatus.ACCEPTED
    (after,) = settled(anvil, [signed.tx_hash])
    assert after.block_number == before.block_number


@pytest.mark.optional
@pytest.mark.slow
def test_two_cannot_work_on_one_anvil_state(anvil: RpcChain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another process settles this run"):
        open_chain("anvil", tmp_path)
    anvil.close()
    open_chain("anvil", tmp_path).close()


KILLED = """
import os, signal
from raygrid.settlement.chain.nodes import Node, NodeProgram
node = Node(NodeProgram("sleeper", lambda port: [{python!r}, "-c", {sleeper!r}, str(port)], {{}}))
print(node.pid, flush=True)
os.kill(os.getpid(), signal.{signal})
"""

SLEEPER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(60)
"""
"""In a real node's place: listens, and stays."""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_node_ends_with_the_process_that_started_it(name: str) -> None:
    code = KILLED.format(python=sys.executable, sleeper=SLEEPER, signal=name)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.returncode != 0
    pid = int(done.stdout)
    assert eventually(lambda: is_gone(pid))


def sleeper(*lines: str) -> NodeProgram:
    code = "\n".join(lines)
    return NodeProgram("The node", lambda port: [sys.executable, "-c", code, str(port)], {})


def test_a_node_that_does_not_start_says_why() -> None:
    with pytest.raises(ChainError, match="The node ended at once: no licence"):
        Node(sleeper("import sys", "print('no licence', file=sys.stderr)", "sys.exit(3)"))


def test_a_node_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "START_S", 0.3)
    with pytest.raises(ChainDownError, match=r"did not listen within 0\.3 s"):
        Node(sleeper("import time", "time.sleep(60)"))


def test_a_node_is_stopped_and_started_again() -> None:
    node = Node(sleeper(SLEEPER))
    first = node.pid
    assert node.is_running()
    node.start()
    assert is_gone(first)
    assert node.is_running()
    node.close()
    node.close()
    assert not node.is_running()
    assert is_gone(node.pid)


def test_a_missing_node_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nodes, "node_modules", lambda: [tmp_path])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="Anvil is not installed; run `make anvil`"):
        open_chain("anvil")
    with pytest.raises(InputError, match="not installed; run `make hardhat`"):
        open_chain("hardhat")


def test_nothing_to_look_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nodes, "find_anvil", lambda: tmp_path / "anvil")
    with pytest.raises(InputError, match="no Anvil chain is stored here"):
        open_chain("anvil", tmp_path, read_only=True)


def test_ports_are_free() -> None:
    assert free_port() > 1023
