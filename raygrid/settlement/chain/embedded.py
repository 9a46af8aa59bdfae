"""The embedded chain: an EVM inside this process, with its state in one file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from eth_hash.auto import keccak

from raygrid.errors import InputError
from raygrid.settlement.chain.accounts import Accounts
from raygrid.settlement.chain.base import (
    ADDRESS_BYTES,
    HASH_BYTES,
    LOCAL_GAS_LIMIT,
    ChainKind,
    ChainRefusedError,
    Fees,
    Log,
    Receipt,
    Reverted,
    SendOutcome,
    SendStatus,
    Transaction,
)
from raygrid.settlement.chain.evm import (
    MAX_INITCODE_BYTES,
    DecodedTransaction,
    LocalState,
    MalformedTransactionError,
    Outcome,
    apply_transaction,
    decode_transaction,
    execution_context,
    run_call,
    undone,
)
from raygrid.settlement.chain.locking import FolderLock
from raygrid.settlement.chain.store import Block, Entry, load_chain, save_chain

EMBEDDED_CHAIN_ID = 1337
STATE_FILE = "chain_state.bin"
ENDOWMENT_WEI = 10**22
ANCESTORS = 256


class EmbeddedChain:
    """An EVM chain in this process, which mines whatever it is sent at once.

    The transactions of one `send_raw` go into one block, in order. Gas costs nothing, so that
    any key can act without money. It has no pool of waiting transactions: a nonce beyond the
    next one is refused. One thread at a time may use it.

    Parameters
    ----------
    path : Path, optional
        File that keeps the chain; loaded if it exists. Without one the chain ends with the
        process.
    chain_id : int
        EIP-155 id of a new chain.
    read_only : bool
        Look at a stored chain without locking or changing it.

    Raises
    ------
    InputError
        If the file cannot be read, or another process works on it, or there is none to look at.
    """

    kind = ChainKind.EMBEDDED
    is_local = True

    def __init__(
        self,
        path: Path | None = None,
        *,
        chain_id: int = EMBEDDED_CHAIN_ID,
        read_only: bool = False,
    ) -> None:
        self._path = path
        self._read_only = read_only
        if read_only and (path is None or not path.exists()):
            raise InputError(
                "no embedded chain is stored here",
                str(path),
                "name a run that was settled on the embedded chain",
            )
        self._lock = None if path is None or read_only else FolderLock(path.parent)
        self._index: dict[bytes, tuple[int, int]] = {}
        self._is_saved = False
        if path is not None and path.exists():
            try:
                self.chain_id, self._accounts, self._blocks = load_chain(path)
            except BaseException:
                self._release()
                raise
            self._is_saved = True
            for block in self._blocks:
                self._note(block)
        else:
            self.chain_id = chain_id
            self._accounts = Accounts()
            now = int(time.time())
            self._blocks = [Block(0, bytes(HASH_BYTES), now, os.urandom(32), keccak(b""), ())]

    def _note(self, block: Block) -> None:
        for position, entry in enumerate(block.entries):
            self._index[entry.tx_hash] = (block.number, position)

    def genesis_hash(self) -> bytes:
        """Hash of block 0, different for every new chain."""
        return self._blocks[0].hash

    def block_number(self) -> int:
        """Number of the latest block."""
        return len(self._blocks) - 1

    def block_hash(self, number: int) -> bytes | None:
        """Hash of a block, None if there is none of that number."""
        return self._blocks[number].hash if 0 <= number < len(self._blocks) else None

    def gas_limit(self) -> int:
        """Gas limit of every block."""
        return LOCAL_GAS_LIMIT

    def fees(self) -> Fees:
        """Nothing: gas is free here."""
        return Fees(0, 0)

    def nonce(self, address: bytes) -> int:
        """The account's next nonce."""
        return self._accounts.get_nonce(address)

    def balance(self, address: bytes) -> int:
        """The account's coin in wei."""
        return self._accounts.get_balance(address)

    def code(self, address: bytes) -> bytes:
        """Runtime code of a contract, empty where there is none."""
        return self._accounts.get_code(address)

    def _state(self) -> LocalState:
        """The state as the next block sees it."""
        parent = self._blocks[-1]
        context = execution_context(
            number=parent.number + 1,
            # Strictly increasing, as Ethereum's rules want it.
            timestamp=max(parent.timestamp + 1, int(time.time())),
            gas_limit=LOCAL_GAS_LIMIT,
            chain_id=self.chain_id,
            base_fee_wei=0,
            prev_hashes=(block.hash for block in self._blocks[: -ANCESTORS - 1 : -1]),
        )
        return LocalState(self._accounts, context)

    def _run(self, to: bytes, data: bytes, sender: bytes | None) -> Outcome:
        return run_call(self._state(), to, data, sender or bytes(ADDRESS_BYTES), LOCAL_GAS_LIMIT)

    def call(
        self, to: bytes, data: bytes, sender: bytes | None = None, block: int | None = None
    ) -> bytes:
        """Run a view on the latest block; the state of older ones is not kept."""
        if block not in (None, self.block_number()):
            raise ChainRefusedError("the embedded chain keeps the state of its latest block only")
        outcome = self._run(to, data, sender)
        if not outcome.succeeded:
            raise Reverted(outcome.output)
        return outcome.output

    def calls(self, requests: Sequence[tuple[bytes, bytes]]) -> list[bytes | Reverted]:
        """Many views; refusals are returned."""
        outcomes = [self._run(to, data, None) for to, data in requests]
        return [o.output if o.succeeded else Reverted(o.output) for o in outcomes]

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes) -> int:
        """Gas that a transaction would need now, with a margin for what calls hold back."""
        nonce = self.nonce(sender)
        trial = DecodedTransaction(
            b"", self.chain_id, nonce, 0, 0, LOCAL_GAS_LIMIT, to or b"", 0, data, (), sender
        )
        with undone(self._accounts):
            outcome = apply_transaction(self._state(), trial)
        if not outcome.succeeded:
            raise Reverted(outcome.output)
        # A call passes on 63/64 of the gas (EIP-150), and SSTORE wants 2,300 left (EIP-2200).
        return max(trial.least_gas, outcome.gas_before_refund * 64 // 63 + 2_300)

    def _refusal(self, transaction: DecodedTransaction) -> tuple[SendStatus, str] | None:
        """Why no block can hold a transaction now, None if one can."""
        sender, nonce = transaction.sender, self.nonce(transaction.sender)
        if transaction.chain_id != self.chain_id:
            return SendStatus.REFUSED, f"signed for chain id {transaction.chain_id}"
        if transaction.nonce < nonce:
            return SendStatus.NONCE_TOO_LOW, f"nonce too low: next is {nonce}"
        if transaction.nonce > nonce:
            return SendStatus.REFUSED, f"nonce too high: next is {nonce}"
        if transaction.gas > LOCAL_GAS_LIMIT:
            return SendStatus.REFUSED, f"gas above the block's limit of {LOCAL_GAS_LIMIT}"
        if transaction.gas < transaction.least_gas:
            return SendStatus.REFUSED, f"gas too low: needs {transaction.least_gas} to begin with"
        if not transaction.to and len(transaction.data) > MAX_INITCODE_BYTES:
            return SendStatus.REFUSED, f"deployment above {MAX_INITCODE_BYTES} bytes"
        if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
            return SendStatus.REFUSED, "priority fee above the maximum fee"
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if self.balance(sender) < cost:
            return SendStatus.REFUSED, f"insufficient funds: needs {cost} wei"
        if self.code(sender):
            return SendStatus.REFUSED, "the sender is a contract (EIP-3607)"
        return None

    def send_raw(self, transactions: Sequence[bytes]) -> list[SendOutcome]:
        """Run signed transactions, in order, in one new block (more if its gas runs out)."""
        if self._read_only:
            raise ChainRefusedError("this chain was opened for reading only")
        outcomes: list[SendOutcome] = []
        waiting = list(transactions)
        while waiting:
            height, mark = len(self._blocks), self._accounts.record()
            try:
                outcomes += self._mine_block(waiting)
            except BaseException:
                # An interrupt in the middle: nobody shall ever see half a block.
                if len(self._blocks) == height:
                    self._accounts.discard(mark)
                    self._accounts.end_transaction()
                raise
            finally:
                self._accounts.end_block()
        return outcomes

    def _mine_block(self, waiting: list[bytes]) -> list[SendOutcome]:
        """Take transactions off the front of the list while they fit, and seal a block of them."""
        outcomes: list[SendOutcome] = []
        state = self._state()
        entries: dict[bytes, Entry] = {}
        changes: list[bytes] = []
        gas_left = LOCAL_GAS_LIMIT
        while waiting:
            raw = waiting[0]
            tx_hash = keccak(raw)
            if tx_hash in self._index or tx_hash in entries:
                outcomes.append(SendOutcome(SendStatus.KNOWN, tx_hash, "already known"))
                del waiting[0]
                continue
            try:
                transaction = decode_transaction(raw)
                refusal = self._refusal(transaction)
            except MalformedTransactionError as error:
                refusal = SendStatus.REFUSED, str(error)
            if refusal is not None:
                outcomes.append(SendOutcome(refusal[0], tx_hash, refusal[1]))
                del waiting[0]
                continue
            if transaction.gas > gas_left:
                break
            outcome = apply_transaction(state, transaction)
            gas_left -= outcome.gas_used
            changes += _change_bytes(self._accounts.changes())
            self._accounts.end_transaction()
            entries[tx_hash] = _entry(transaction, outcome)
            outcomes.append(SendOutcome(SendStatus.ACCEPTED, tx_hash))
            del waiting[0]
        if entries:
            self._seal(state, entries.values(), changes)
        return outcomes

    def _seal(self, state: LocalState, entries: Iterable[Entry], changes: Iterable[bytes]) -> None:
        parent = self._blocks[-1]
        block = Block(
            parent.number + 1,
            parent.hash,
            state.timestamp,
            b"",
            keccak(b"".join(changes)),
            tuple(entries),
        )
        self._blocks.append(block)
        self._is_saved = False
        self._note(block)

    def receipts(self, tx_hashes: Sequence[bytes]) -> list[Receipt | None]:
        """Receipts in the order asked for, None for what is in no block."""
        return [self._receipt(tx_hash) for tx_hash in tx_hashes]

    def _receipt(self, tx_hash: bytes) -> Receipt | None:
        if tx_hash not in self._index:
            return None
        number, position = self._index[tx_hash]
        block = self._blocks[number]
        entry = block.entries[position]
        first = sum(len(other.logs) for other in block.entries[:position])
        return Receipt(
            tx_hash=tx_hash,
            block_number=number,
            block_hash=block.hash,
            tx_index=position,
            succeeded=entry.succeeded,
            gas_used=entry.gas_used,
            gas_price_wei=0,
            contract_address=entry.created,
            logs=_logs(block.number, entry, first),
        )

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """A transaction by hash, None if the chain knows none."""
        if tx_hash not in self._index:
            return None
        number, position = self._index[tx_hash]
        kept = decode_transaction(self._blocks[number].entries[position].raw)
        return Transaction(
            tx_hash=tx_hash,
            sender=kept.sender,
            to=kept.to or None,
            nonce=kept.nonce,
            data=kept.data,
            value_wei=kept.value,
            gas=kept.gas,
            block_number=number,
        )

    def transactions(self, tx_hashes: Sequence[bytes]) -> list[Transaction | None]:
        """Many of them."""
        return [self.transaction(tx_hash) for tx_hash in tx_hashes]

    def logs(
        self,
        address: bytes,
        from_block: int,
        to_block: int,
        topics: Sequence[bytes | None] = (),
    ) -> list[Log]:
        """Events of a contract in a range of blocks, both ends included, in order."""
        found: list[Log] = []
        for block in self._blocks[max(from_block, 0) : to_block + 1]:
            first = 0
            for entry in block.entries:
                found += (
                    log
                    for log in _logs(block.number, entry, first)
                    if log.address == address and _matches(log.topics, topics)
                )
                first += len(entry.logs)
        return found

    def endow(self, addresses: Sequence[bytes]) -> None:
        """Give accounts coin; gas is free, so that only a value sent along needs it."""
        for address in addresses:
            self._accounts.balances[address] = self.balance(address) + ENDOWMENT_WEI
        self._is_saved = False

    def mine(self, blocks: int = 1) -> None:
        """Add empty blocks."""
        for _ in range(blocks):
            self._seal(self._state(), (), ())

    def revive(self) -> bool:
        """Nothing that could die was started."""
        return False

    def save(self) -> None:
        """Write the chain to its file, on disk on return; nothing to do if nothing changed."""
        if self._path is None or self._read_only or self._is_saved:
            return
        save_chain(self._path, self.chain_id, self._accounts, self._blocks)
        self._is_saved = True

    def close(self) -> None:
        """Save, and let others work on the file."""
        if self._lock is not None:
            self.save()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _entry(transaction: DecodedTransaction, outcome: Outcome) -> Entry:
    logs = tuple(
        (address, tuple(topic.to_bytes(HASH_BYTES, "big") for topic in topics), data)
        for address, topics, data in outcome.logs
    )
    return Entry(
        transaction.raw,
        transaction.sender,
        outcome.succeeded,
        outcome.gas_used,
        outcome.created,
        logs,
    )


def _change_bytes(changes: Iterable[tuple[bytes, int, int]]) -> list[bytes]:
    return [
        address + slot.to_bytes(HASH_BYTES, "big") + value.to_bytes(HASH_BYTES, "big")
        for address, slot, value in changes
    ]


def _logs(block_number: int, entry: Entry, first: int) -> tuple[Log, ...]:
    return tuple(
        Log(address, topics, data, block_number, entry.tx_hash, first + k)
        for k, (address, topics, data) in enumerate(entry.logs)
    )


def _matches(topics: tuple[bytes, ...], wanted: Sequence[bytes | None]) -> bool:
    return len(wanted) <= len(topics) and all(
        want is None or want == topic for want, topic in zip(wanted, topics, strict=False)
    )
