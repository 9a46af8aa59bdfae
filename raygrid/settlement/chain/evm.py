"""The rules of the Prague fork, from py-evm, on the plain accounts of the embedded chain.

Left out of a full node's rules are those that serve others than its own user: tries and their
roots, signatures of validators, blobs, and the system contracts of EIP-2935 and EIP-4788.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import rlp
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState
from eth.vm.message import Message
from eth_hash.auto import keccak

from raygrid.settlement.chain.accounts import Accounts
from raygrid.settlement.chain.base import ADDRESS_BYTES, HASH_BYTES
from raygrid.settlement.chain.interpreter import deep_recursion, run_code
from raygrid.settlement.chain.keys import CURVE_ORDER, TYPE_DYNAMIC_FEE, recover_address

BASE_GAS = 21_000
CREATION_GAS = 32_000
INITCODE_GAS_PER_WORD = 2
MAX_INITCODE_BYTES = 49_152
TOKEN_GAS = 4
FLOOR_TOKEN_GAS = 10
NONZERO_TOKENS = 4
WARM_ADDRESS_GAS = 2_400
WARM_SLOT_GAS = 1_900
COINBASE = bytes(ADDRESS_BYTES)


class MalformedTransactionError(ValueError):
    """Bytes that are no signed EIP-1559 transaction."""


@dataclass(frozen=True)
class DecodedTransaction:
    """A signed EIP-1559 transaction, under the names by which py-evm reads one."""

    raw: bytes = field(repr=False)
    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: bytes
    """Empty for a deployment."""
    value: int
    data: bytes = field(repr=False)
    access_list: tuple[tuple[bytes, tuple[int, ...]], ...]
    sender: bytes
    type_id: int = 2

    @cached_property
    def hash(self) -> bytes:
        """Hash of the signed bytes."""
        return keccak(self.raw)

    @cached_property
    def _tokens(self) -> int:
        """Calldata counted as EIP-7623 does: a zero byte is one, any other four."""
        zeros = self.data.count(0)
        return zeros + NONZERO_TOKENS * (len(self.data) - zeros)

    @cached_property
    def intrinsic_gas(self) -> int:
        """Gas that is due before anything runs (EIP-2028, EIP-2930), initcode's words excepted."""
        slots = sum(len(slots) for _, slots in self.access_list)
        return (
            BASE_GAS
            + TOKEN_GAS * self._tokens
            + (0 if self.to else CREATION_GAS)
            + WARM_ADDRESS_GAS * len(self.access_list)
            + WARM_SLOT_GAS * slots
        )

    @cached_property
    def least_gas(self) -> int:
        """Gas limit below which a block cannot hold it (EIP-3860, EIP-7623)."""
        initcode = 0 if self.to else INITCODE_GAS_PER_WORD * ((len(self.data) + 31) // 32)
        floor = BASE_GAS + FLOOR_TOKEN_GAS * self._tokens
        return max(self.intrinsic_gas + initcode, floor)

    def validate(self) -> None:
        """py-evm asks for this; `decode_transaction` has checked the fields."""


def _integer(item: object) -> int:
    if not isinstance(item, bytes) or item[:1] == b"\0" or len(item) > HASH_BYTES:
        raise MalformedTransactionError("not an integer")
    return int.from_bytes(item, "big")


def _exactly(item: object, *lengths: int) -> bytes:
    if not isinstance(item, bytes) or len(item) not in lengths:
        raise MalformedTransactionError("a field of the wrong length")
    return item


def decode_transaction(raw: bytes) -> DecodedTransaction:
    """Read a signed transaction and recover who signed it.

    Parameters
    ----------
    raw : bytes
        As sent to a node.

    Returns
    -------
    DecodedTransaction
        Its fields, with the sender.

    Raises
    ------
    MalformedTransactionError
        If it is not a well-formed, signed EIP-1559 transaction.
    """
    if raw[:1] != TYPE_DYNAMIC_FEE:
        raise MalformedTransactionError("only EIP-1559 transactions (type 2) are taken")
    try:
        items = rlp.decode(raw[1:])
    except rlp.DecodingError as error:
        raise MalformedTransactionError(str(error)) from None
    if not isinstance(items, list) or len(items) != 12:
        raise MalformedTransactionError("an EIP-1559 transaction has 12 fields")
    chain_id, nonce, tip, fee, gas = map(_integer, items[:5])
    to, value, data = _exactly(items[5], 0, ADDRESS_BYTES), _integer(items[6]), items[7]
    parity, r, s = map(_integer, items[9:])
    if not isinstance(data, bytes) or not isinstance(items[8], list):
        raise MalformedTransactionError("a list in place of bytes, or the reverse")
    if parity > 1 or not 0 < s <= CURVE_ORDER // 2:
        raise MalformedTransactionError("not a signature (EIP-2)")
    unsigned: bytes = rlp.encode(items[:9])
    signature = r.to_bytes(HASH_BYTES, "big") + s.to_bytes(HASH_BYTES, "big") + bytes([parity])
    try:
        sender = recover_address(keccak(TYPE_DYNAMIC_FEE + unsigned), signature)
        access_list = tuple(
            (
                _exactly(address, ADDRESS_BYTES),
                tuple(int.from_bytes(_exactly(slot, HASH_BYTES), "big") for slot in slots),
            )
            for address, slots in items[8]
        )
    except (ValueError, TypeError) as error:
        raise MalformedTransactionError(str(error)) from None
    return DecodedTransaction(
        raw, chain_id, nonce, tip, fee, gas, to, value, data, access_list, sender
    )


class LocalComputation(PragueComputation):
    """py-evm's computation, whose code runs in `raygrid.settlement.chain.interpreter`."""

    @classmethod
    def apply_computation(
        cls,
        state: LocalState,
        message: Message,
        transaction_context: Any,
        parent_computation: LocalComputation | None = None,
    ) -> LocalComputation:
        """As py-evm's, but for the loop over opcodes."""
        with cls(state, message, transaction_context) as computation:
            if computation.is_origin_computation:
                computation.contracts_created = []
                if message.is_create:
                    cls.consume_initcode_gas_cost(computation)
            if parent_computation is not None:
                computation.contracts_created = parent_computation.contracts_created
            if message.is_create:
                computation.contracts_created.append(message.storage_address)
            precompile = computation.precompiles.get(message.code_address)
            if precompile is None:
                run_code(computation, state.accounts)
            elif not message.is_delegation:
                precompile(computation)
        result: LocalComputation = computation
        return result


class LocalState(PragueState):
    """py-evm's Prague state on `Accounts`."""

    computation_class = LocalComputation

    def __init__(self, accounts: Accounts, context: ExecutionContext) -> None:
        self.execution_context = context
        self._account_db = accounts

    @property
    def accounts(self) -> Accounts:
        """Where everything is kept."""
        accounts: Accounts = self._account_db
        return accounts

    def validate_transaction(self, transaction: DecodedTransaction) -> None:
        """The chain has checked it before, since a refusal is an answer there and no error."""

    def snapshot(self) -> tuple[bytes, int]:
        """Mark a point to go back to."""
        return b"", self._account_db.record()

    def revert(self, snapshot: tuple[bytes, int]) -> None:
        """Go back to a mark."""
        self._account_db.discard(snapshot[1])

    def commit(self, snapshot: tuple[bytes, int]) -> None:
        """Forget a mark."""
        self._account_db.commit(snapshot[1])

    def get_transient_storage(self, address: bytes, slot: int) -> bytes:
        """Value of a slot that lasts for a transaction (EIP-1153)."""
        value: bytes = self._account_db.transient.get((address, slot), b"")
        return value

    def set_transient_storage(self, address: bytes, slot: int, value: bytes) -> None:
        """Write a slot that lasts for a transaction."""
        self._account_db.set_transient(address, slot, value)

    def clear_transient_storage(self) -> None:
        """`Accounts.end_transaction` does it."""


@dataclass(frozen=True)
class Outcome:
    """What a transaction or a call did."""

    succeeded: bool
    gas_used: int
    gas_before_refund: int
    output: bytes
    """What it returned, or the revert data."""
    created: bytes | None
    logs: tuple[tuple[bytes, tuple[int, ...], bytes], ...]


def execution_context(
    *,
    number: int,
    timestamp: int,
    gas_limit: int,
    chain_id: int,
    base_fee_wei: int,
    prev_hashes: Iterable[bytes],
) -> ExecutionContext:
    """What the opcodes can learn of the block; `prev_hashes` has the latest first."""
    return ExecutionContext(
        coinbase=COINBASE,
        timestamp=timestamp,
        block_number=number,
        difficulty=0,
        mix_hash=bytes(HASH_BYTES),
        gas_limit=gas_limit,
        prev_hashes=prev_hashes,
        chain_id=chain_id,
        base_fee_per_gas=base_fee_wei,
        excess_blob_gas=0,
    )


@contextmanager
def undone(accounts: Accounts) -> Iterator[None]:
    """Undo whatever happens within, be it ended by an interrupt."""
    mark = accounts.record()
    try:
        yield
    finally:
        accounts.discard(mark)
        accounts.end_transaction()


def apply_transaction(state: LocalState, transaction: DecodedTransaction) -> Outcome:
    """Run a transaction that was checked to be valid, and keep what it did.

    Parameters
    ----------
    state : LocalState
        Changed in place.
    transaction : DecodedTransaction
        With the sender's next nonce, enough gas and money.

    Returns
    -------
    Outcome
        Its result.
    """
    with deep_recursion():
        computation = state.apply_transaction(transaction)
    used = transaction.gas - computation.get_gas_remaining()
    refund = state.get_transaction_executor().calculate_gas_refund(computation, used)
    created = None if transaction.to or computation.is_error else computation.msg.storage_address
    return Outcome(
        computation.is_success,
        used - refund + computation.data_floor_gas,
        used,
        bytes(computation.output),
        created,
        computation.get_log_entries(),
    )


def run_call(state: LocalState, to: bytes, data: bytes, sender: bytes, gas: int) -> Outcome:
    """Run a view and undo whatever it did.

    Parameters
    ----------
    state : LocalState
        As it was, afterwards.
    to : bytes
        Address of the contract.
    data : bytes
        Calldata.
    sender : bytes
        Who asks.
    gas : int
        Most gas that it may use.

    Returns
    -------
    Outcome
        Its result.
    """
    context = state.get_transaction_context_class()(gas_price=0, origin=sender)
    message = Message(gas=gas, to=to, sender=sender, value=0, data=data, code=state.get_code(to))
    with undone(state.accounts), deep_recursion():
        state.mark_address_warm(sender)
        state.mark_address_warm(to)
        computation = state.computation_class.apply_message(state, message, context)
    used = gas - computation.get_gas_remaining()
    return Outcome(computation.is_success, used, used, bytes(computation.output), None, ())
