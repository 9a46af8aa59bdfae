"""The embedded chain against py-evm's own full chain, and its file."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eth import constants
from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth_hash.auto import keccak

from raygrid.errors import InputError
from raygrid.settlement.chain import embedded
from raygrid.settlement.chain.base import (
    LOCAL_GAS_LIMIT,
    Chain,
    ChainRefusedError,
    Reverted,
    SendStatus,
)
from raygrid.settlement.chain.embedded import STATE_FILE, EmbeddedChain
from raygrid.settlement.chain.evm import (
    DecodedTransaction,
    LocalState,
    Outcome,
    apply_transaction,
)
from raygrid.settlement.chain.keys import (
    Key,
    Role,
    SignedTransaction,
    development_key,
    sign_transaction,
)
from tests.settlement.chain.programs import COUNTER, assemble, deployment, word

KEY = development_key(Role.OPERATOR)
OTHER = development_key(Role.REGISTRAR)


def sign(
    chain: EmbeddedChain,
    nonce: int,
    to: bytes | None,
    data: bytes = b"",
    *,
    key: Key = KEY,
    gas: int = 300_000,
    chain_id: int | None = None,
    value_wei: int = 0,
) -> SignedTransaction:
    return sign_transaction(
        key, chain_id=chain_id or chain.chain_id, nonce=nonce, gas=gas, to=to, data=data,
        value_wei=value_wei, max_fee_wei=0,
    )  # fmt: skip


def deploy(chain: EmbeddedChain, runtime: bytes = COUNTER) -> bytes:
    signed = sign(chain, chain.nonce(KEY.address), None, deployment(runtime), gas=10**7)
    assert chain.send_raw([signed.raw])[0].status is SendStatus.ACCEPTED
    receipt = chain.receipts([signed.tx_hash])[0]
    assert receipt is not None
    assert receipt.contract_address is not None
    return receipt.contract_address


@pytest.fixture
def chain() -> EmbeddedChain:
    return EmbeddedChain()


def test_it_is_a_chain(chain: EmbeddedChain) -> None:
    assert isinstance(chain, Chain)
    assert chain.is_local
    assert chain.block_number() == 0
    assert chain.block_hash(0) == chain.genesis_hash()
    assert chain.block_hash(1) is None
    assert chain.gas_limit() == LOCAL_GAS_LIMIT
    assert chain.fees().max_fee_wei == 0


def test_no_two_chains_share_a_genesis() -> None:
    assert EmbeddedChain().genesis_hash() != EmbeddedChain().genesis_hash()


def test_a_contract_is_deployed_and_called(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    assert chain.code(counter) == COUNTER
    assert chain.code(KEY.address) == b""
    signed = sign(chain, 1, counter, word(5))
    assert [o.status for o in chain.send_raw([signed.raw])] == [SendStatus.ACCEPTED]
    receipt = chain.receipts([signed.tx_hash])[0]
    assert receipt is not None
    assert receipt.succeeded
    assert receipt.block_number == 2
    assert receipt.block_hash == chain.block_hash(2)
    (log,) = receipt.logs
    assert (log.address, log.topics, log.data) == (counter, (word(7),), word(5))
    assert chain.call(counter, b"") == word(5)
    assert chain.nonce(KEY.address) == 2


def test_a_call_changes_nothing(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    chain.call(counter, word(3))
    assert chain.call(counter, b"") == word(0)
    assert chain.block_number() == 1


def test_a_call_says_why_it_was_refused(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    with pytest.raises(Reverted, match="reverted with 'nope'") as caught:
        chain.call(counter, word(0xDEAD))
    assert caught.value.selector.hex() == "08c379a0"
    answers = chain.calls([(counter, b""), (counter, word(0xDEAD))])
    assert answers[0] == word(0)
    assert isinstance(answers[1], Reverted)


def test_only_the_latest_state_can_be_asked(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    assert chain.call(counter, b"", block=1) == word(0)
    with pytest.raises(ChainRefusedError, match="latest block only"):
        chain.call(counter, b"", block=0)


def test_one_request_is_one_block(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    signed = [sign(chain, 1 + k, counter, word(k + 1)) for k in range(20)]
    outcomes = chain.send_raw([s.raw for s in signed])
    assert all(o.is_on_chain_or_waiting for o in outcomes)
    receipts = [r for r in chain.receipts([s.tx_hash for s in signed]) if r is not None]
    assert {r.block_number for r in receipts} == {2}
    assert [r.tx_index for r in receipts] == list(range(20))
    assert [log.log_index for r in receipts for log in r.logs] == list(range(20))
    assert chain.call(counter, b"") == word(210)


def test_a_full_block_is_followed_by_another(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    signed = [sign(chain, 1 + k, counter, word(1), gas=LOCAL_GAS_LIMIT) for k in range(3)]
    chain.send_raw([s.raw for s in signed])
    receipts = chain.receipts([s.tx_hash for s in signed])
    assert [r.block_number for r in receipts if r] == [2, 3, 4]


def test_a_reverted_transaction_is_kept_and_changes_nothing(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    signed = sign(chain, 1, counter, word(0xDEAD))
    assert chain.send_raw([signed.raw])[0].status is SendStatus.ACCEPTED
    receipt = chain.receipts([signed.tx_hash])[0]
    assert receipt is not None
    assert not receipt.succeeded
    assert receipt.logs == ()
    assert chain.call(counter, b"") == word(0)
    assert chain.nonce(KEY.address) == 2


def test_a_reverted_deployment_makes_no_contract(chain: EmbeddedChain) -> None:
    signed = sign(chain, 0, None, assemble("0 0 REVERT"))
    chain.send_raw([signed.raw])
    receipt = chain.receipts([signed.tx_hash])[0]
    assert receipt is not None
    assert not receipt.succeeded
    assert receipt.contract_address is None


def test_the_same_bytes_twice_run_once(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    raw = sign(chain, 1, counter, word(5)).raw
    assert [o.status for o in chain.send_raw([raw, raw])] == [
        SendStatus.ACCEPTED,
        SendStatus.KNOWN,
    ]
    assert chain.send_raw([raw])[0].status is SendStatus.KNOWN
    assert chain.call(counter, b"") == word(5)


def test_an_interrupt_leaves_no_half_block(
    chain: EmbeddedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = deploy(chain)
    signed = [sign(chain, 1 + k, counter, word(1)) for k in range(3)]
    runs = iter([False, False, True])

    def interrupted(state: LocalState, transaction: DecodedTransaction) -> Outcome:
        outcome = apply_transaction(state, transaction)
        if next(runs):
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(embedded, "apply_transaction", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chain.send_raw([s.raw for s in signed])
    monkeypatch.undo()
    assert chain.block_number() == 1
    assert chain.nonce(KEY.address) == 1
    assert chain.call(counter, b"") == word(0)
    outcomes = chain.send_raw([s.raw for s in signed])
    assert {o.status for o in outcomes} == {SendStatus.ACCEPTED}
    assert chain.call(counter, b"") == word(3)


Refused = tuple[Callable[[EmbeddedChain], bytes], SendStatus, str]
REFUSALS: dict[str, Refused] = {
    "used nonce": (
        lambda c: sign(c, 0, None, b"other").raw, SendStatus.NONCE_TOO_LOW, "next is 1"),
    "later nonce": (lambda c: sign(c, 5, None).raw, SendStatus.REFUSED, "nonce too high"),
    "other chain": (
        lambda c: sign(c, 1, None, chain_id=1).raw, SendStatus.REFUSED, "signed for chain id 1"),
    "little gas": (
        lambda c: sign(c, 1, KEY.address, gas=20_999).raw, SendStatus.REFUSED, "needs 21000"),
    "gas below the calldata floor": (
        lambda c: sign(c, 1, KEY.address, b"\1" * 1000, gas=60_999).raw, SendStatus.REFUSED,
        "needs 61000"),
    "much gas": (
        lambda c: sign(c, 1, None, gas=LOCAL_GAS_LIMIT + 1).raw, SendStatus.REFUSED,
        "block's limit"),
    "long deployment": (
        lambda c: sign(c, 1, None, bytes(49_153), gas=10**8).raw, SendStatus.REFUSED, "49152"),
    "no money": (
        lambda c: sign(c, 1, OTHER.address, value_wei=1).raw, SendStatus.REFUSED, "funds"),
    "no transaction": (lambda c: b"\x02\xc0", SendStatus.REFUSED, "12 fields"),
    "cut off": (lambda c: sign(c, 1, None).raw[:-1], SendStatus.REFUSED, ""),
    "legacy": (lambda c: b"\xf8\x01", SendStatus.REFUSED, "type 2"),
    "nothing": (lambda c: b"", SendStatus.REFUSED, "type 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_leaves_no_trace(chain: EmbeddedChain, name: str) -> None:
    deploy(chain)
    make, status, message = REFUSALS[name]
    (outcome,) = chain.send_raw([make(chain)])
    assert outcome.status is status
    assert message in outcome.message
    assert chain.block_number() == 1
    assert chain.nonce(KEY.address) == 1
    assert chain.receipts([outcome.tx_hash]) == [None]


def test_a_changed_byte_is_not_the_signers(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    raw = bytearray(sign(chain, 1, counter, word(5)).raw)
    raw[raw.index(word(5)) + 31] ^= 1
    chain.send_raw([bytes(raw)])
    assert chain.nonce(KEY.address) == 1


def test_an_unknown_hash_has_nothing(chain: EmbeddedChain) -> None:
    assert chain.receipts([bytes(32)]) == [None]
    assert chain.transactions([bytes(32)]) == [None]


def test_a_transaction_can_be_read_back(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    signed = sign(chain, 1, counter, word(5))
    chain.send_raw([signed.raw])
    kept = chain.transaction(signed.tx_hash)
    assert kept is not None
    assert (kept.tx_hash, kept.sender, kept.to) == (signed.tx_hash, KEY.address, counter)
    assert (kept.nonce, kept.data, kept.block_number) == (1, word(5), 2)


def test_logs_are_filtered_by_range_and_topic(chain: EmbeddedChain) -> None:
    first, second = deploy(chain), deploy(chain)
    for k, to in enumerate((first, second, first)):
        chain.send_raw([sign(chain, 2 + k, to, word(k + 1)).raw])
    assert [log.data for log in chain.logs(first, 0, 9)] == [word(1), word(4)]
    assert [log.data for log in chain.logs(first, 4, 5)] == [word(4)]
    assert chain.logs(first, 0, 9, [word(8)]) == []
    assert len(chain.logs(first, 0, 9, [word(7)])) == 2
    assert len(chain.logs(first, 0, 9, [None])) == 2
    assert chain.logs(first, 0, 9, [None, word(1)]) == []


def test_an_estimate_suffices(chain: EmbeddedChain) -> None:
    counter = deploy(chain)
    gas = chain.estimate_gas(KEY.address, counter, word(5))
    assert chain.call(counter, b"") == word(0)
    signed = sign(chain, 1, counter, word(5), gas=gas)
    chain.send_raw([signed.raw])
    receipt = chain.receipts([signed.tx_hash])[0]
    assert receipt is not None
    assert receipt.succeeded
    with pytest.raises(Reverted):
        chain.estimate_gas(KEY.address, counter, word(0xDEAD))


def test_money_can_be_given_and_blocks_added(chain: EmbeddedChain) -> None:
    chain.endow([KEY.address])
    wealth = chain.balance(KEY.address)
    chain.send_raw([sign(chain, 0, OTHER.address, value_wei=9).raw])
    assert chain.balance(OTHER.address) == 9
    assert chain.balance(KEY.address) == wealth - 9
    chain.mine(3)
    assert chain.block_number() == 4


def test_a_contract_sees_the_block(chain: EmbeddedChain) -> None:
    probe = deploy(
        chain,
        assemble(
            "NUMBER 0 MSTORE CHAINID 32 MSTORE 0 BLOCKHASH 64 MSTORE CALLER 96 MSTORE 128 0 RETURN"
        ),
    )
    answer = chain.call(probe, b"", sender=OTHER.address)
    assert answer[:64] == word(2) + word(chain.chain_id)
    assert answer[64:96] == chain.genesis_hash()
    assert answer[108:128] == OTHER.address


def full_chain(addresses: list[bytes]) -> MiningChain:
    """py-evm's own chain with tries, headers and all its checks."""
    kind = MiningChain.configure(
        __name__="Full",
        vm_configuration=((0, PragueVM.configure(consensus_class=NoProofConsensus)),),
        chain_id=1337,
    )
    genesis = {
        "coinbase": constants.ZERO_ADDRESS, "difficulty": 0, "gas_limit": 10**9, "timestamp": 1,
        "extra_data": b"", "nonce": bytes(8), "mix_hash": constants.ZERO_HASH32,
        "base_fee_per_gas": 0,
    }  # fmt: skip
    account = {"balance": 10**20, "nonce": 0, "code": b"", "storage": {}}
    return kind.from_genesis(AtomicDB(), genesis, dict.fromkeys(addresses, account))


STORAGE_PLAY = assemble(
    """
    0 CALLDATALOAD 32 CALLDATALOAD SSTORE
    64 CALLDATALOAD 32 CALLDATALOAD SSTORE
    32 CALLDATALOAD SLOAD 1 TSTORE 1 TLOAD 0 MSTORE
    32 0 KECCAK256 1 MSTORE8 MSIZE 0 LOG0
    """
)
"""Writes one slot twice (set, reset, cleared, refunded), uses transient storage and memory."""

CALLER = assemble(
    """
    CALLDATASIZE 0 0 CALLDATACOPY
    0 0 CALLDATASIZE 0 0 0x20 CALLDATALOAD GAS CALL
    RETURNDATASIZE 0 0 RETURNDATACOPY 0 MSTORE 32 0 LOG0
    """
)
"""Calls the address in its second calldata word with all of its calldata, and logs the result."""


def test_it_agrees_with_py_evms_full_chain(chain: EmbeddedChain) -> None:
    """Gas, refunds, status, logs and nonces of a mixed lot of transactions are the same."""
    full = full_chain([KEY.address])
    counter = keccak(b"\xd6\x94" + KEY.address + b"\x80")[-20:]
    play = keccak(b"\xd6\x94" + KEY.address + b"\x01")[-20:]
    caller = keccak(b"\xd6\x94" + KEY.address + b"\x02")[-20:]
    script: list[tuple[bytes | None, bytes, int]] = [
        (None, deployment(COUNTER), 10**6),
        (None, deployment(STORAGE_PLAY), 10**6),
        (None, deployment(CALLER), 10**6),
        *((counter, word(k), 10**5) for k in (1, 2, 0xDEAD)),
        *(
            (play, word(a) + word(slot) + word(b), 10**5)
            for slot in (0, 9)
            for a, b in [(0, 0), (5, 0), (5, 6), (0, 7), (7, 0), (1, 1), (2, 1), (0, 0)]
        ),
        (caller, word(3) + word(int.from_bytes(counter, "big")), 10**5),
        (caller, word(0xDEAD) + word(int.from_bytes(counter, "big")), 10**5),
        (caller, word(1) + word(int.from_bytes(counter, "big")), 30_000),
        (counter, b"\1" * 5000, 10**6),
        (counter, b"\0" * 5000, 10**6),
        (None, assemble("0 0 REVERT"), 10**5),
        (None, assemble("INVALID"), 10**5),
        (counter, word(1), 25_000),
    ]
    for nonce, (to, data, gas) in enumerate(script):
        signed = sign(chain, nonce, to, data, gas=gas)
        chain.send_raw([signed.raw])
        mine = chain.receipts([signed.tx_hash])[0]
        assert mine is not None
        builder = full.get_vm().get_transaction_builder()
        before = full.get_block().header.gas_used
        _, theirs, _ = full.apply_transaction(builder.decode(signed.raw))
        assert mine.succeeded == (theirs.state_root == b"\1"), (nonce, data)
        assert mine.gas_used == theirs.gas_used - before, (nonce, data)
        assert [(log.address, log.topics, log.data) for log in mine.logs] == [
            (log.address, tuple(word(t) for t in log.topics), log.data) for log in theirs.logs
        ]
    state = full.get_vm().state
    assert state.get_nonce(KEY.address) == chain.nonce(KEY.address) == len(script)
    assert state.get_storage(counter, 0) == int.from_bytes(chain.call(counter, b""), "big") > 6


def test_a_stored_chain_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    chain = EmbeddedChain(path)
    chain.endow([OTHER.address])
    counter = deploy(chain)
    signed = sign(chain, 1, counter, word(5))
    chain.send_raw([signed.raw])
    chain.close()
    chain.close()
    again = EmbeddedChain(path)
    assert again.genesis_hash() == chain.genesis_hash()
    assert again.block_hash(2) == chain.block_hash(2)
    assert again.receipts([signed.tx_hash]) == chain.receipts([signed.tx_hash])
    assert again.transaction(signed.tx_hash) == chain.transaction(signed.tx_hash)
    assert again.code(counter) == COUNTER
    assert again.balance(OTHER.address) == chain.balance(OTHER.address) > 0
    assert again.send_raw([signed.raw])[0].status is SendStatus.KNOWN
    again.send_raw([sign(again, 2, counter, word(6)).raw])
    assert again.call(counter, b"") == word(11)
    again.close()


def test_what_was_not_saved_is_lost(tmp_path: Path) -> None:
    """As after a kill: the journal's transactions, sent again, rebuild it."""
    path = tmp_path / STATE_FILE
    chain = EmbeddedChain(path)
    counter = deploy(chain)
    chain.save()
    late = sign(chain, 1, counter, word(5))
    chain.send_raw([late.raw])
    killed = EmbeddedChain(path, read_only=True)
    assert killed.receipts([late.tx_hash]) == [None]
    assert killed.call(counter, b"") == word(0)
    chain.close()


def test_looking_neither_locks_nor_writes(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    with pytest.raises(InputError, match="no embedded chain"):
        EmbeddedChain(path, read_only=True)
    chain = EmbeddedChain(path)
    counter = deploy(chain)
    chain.save()
    before = path.read_bytes()
    looking = EmbeddedChain(path, read_only=True)
    assert looking.call(counter, b"") == word(0)
    with pytest.raises(ChainRefusedError, match="reading only"):
        looking.send_raw([sign(chain, 1, counter).raw])
    looking.close()
    assert path.read_bytes() == before
    chain.close()


def test_two_cannot_work_on_one_file(tmp_path: Path) -> None:
    chain = EmbeddedChain(tmp_path / STATE_FILE)
    with pytest.raises(InputError, match="another process settles this run"):
        EmbeddedChain(tmp_path / STATE_FILE)
    chain.close()
    EmbeddedChain(tmp_path / STATE_FILE).close()


def hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    EmbeddedChain(path)
    ready.set()
    multiprocessing.Event().wait()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / STATE_FILE, ready))
    process.start()
    try:
        assert ready.wait(30)
        yield process
    finally:
        process.kill()
        process.join()


def test_a_killed_process_leaves_no_lock(
    tmp_path: Path, holder: multiprocessing.process.BaseProcess
) -> None:
    with pytest.raises(InputError, match="another process"):
        EmbeddedChain(tmp_path / STATE_FILE)
    holder.kill()
    holder.join()
    EmbeddedChain(tmp_path / STATE_FILE).close()


@pytest.mark.parametrize("damage", ["cut", "flip", "other", "empty"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / STATE_FILE
    chain = EmbeddedChain(path)
    deploy(chain)
    chain.close()
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(
        {"cut": path.read_bytes()[:-7], "flip": bytes(content), "other": b"x", "empty": b""}[damage]
    )
    with pytest.raises(InputError, match="not a whole file of an embedded chain"):
        EmbeddedChain(path)
    with pytest.raises(InputError, match="not a whole file"):
        EmbeddedChain(path)  # the lock was given back
