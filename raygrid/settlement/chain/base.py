"""What settlement needs of an EVM chain, whichever it is.

Addresses are 20 bytes, hashes and topics 32 bytes, amounts of the chain's own coin in wei.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from raygrid.errors import EndedShortError

ADDRESS_BYTES = 20
HASH_BYTES = 32

LOCAL_GAS_LIMIT = 1_000_000_000
"""Gas limit of a block of local chains: a dozen times that of public ones, so that it bounds
memory, not batches."""


class ChainKind(StrEnum):
    """The chains that raygrid knows by name; any other node is 'rpc'."""

    EMBEDDED = "embedded"
    ANVIL = "anvil"
    HARDHAT = "hardhat"
    RPC = "rpc"


class ChainError(EndedShortError):
    """A chain that does not do what was asked of it."""


class ChainDownError(ChainError):
    """Nobody listens, or the connection broke: whether a request arrived is not known."""


class ChainSlowError(ChainError):
    """No answer in time: whether a request arrived is not known."""


class ChainRefusedError(ChainError):
    """The chain answered with an error: the request was understood and not carried out.

    Parameters
    ----------
    message : str
        The chain's own words.
    code : int, optional
        JSON-RPC error code.
    data : bytes, optional
        What the error carried.
    """

    def __init__(self, message: str, code: int | None = None, data: bytes = b"") -> None:
        self.code = code
        self.data = data
        super().__init__(" ".join(message.split()))


class Reverted(ChainError):
    """A contract refused a call.

    Parameters
    ----------
    data : bytes
        The revert data: a custom error's selector and arguments, or empty.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        super().__init__(f"the contract reverted with {revert_reason(data)}")

    @property
    def selector(self) -> bytes:
        """First 4 bytes of the revert data, which name a custom error; empty if there are none."""
        return self.data[:4]


ERROR_STRING = bytes.fromhex("08c379a0")
PANIC = bytes.fromhex("4e487b71")


def revert_reason(data: bytes) -> str:
    """What a contract said when it reverted, readable without its ABI.

    Parameters
    ----------
    data : bytes
        Revert data.

    Returns
    -------
    str
        The text of `Error(string)`, the code of `Panic(uint256)`, or the data in hexadecimal.
    """
    body = data[4:]
    if data[:4] == ERROR_STRING and len(body) >= 64:
        length = int.from_bytes(body[32:64], "big")
        text = body[64 : 64 + length].decode("utf-8", "replace")
        return repr(" ".join(text.split()))
    if data[:4] == PANIC and len(body) >= 32:
        return f"panic 0x{int.from_bytes(body[:32], 'big'):02x}"
    return f"0x{data.hex()}" if data else "no reason"


class SendStatus(StrEnum):
    """What a chain made of one signed transaction."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    """The chain has this very transaction already."""
    NONCE_TOO_LOW = "nonce_too_low"
    """The nonce is used, by this or by another transaction."""
    UNDERPRICED = "underpriced"
    """The fee is too low, for the block or to replace a waiting transaction of that nonce."""
    REFUSED = "refused"
    """Anything else; the message says what."""


@dataclass(frozen=True)
class SendOutcome:
    """What became of one transaction handed to `Chain.send_raw`."""

    status: SendStatus
    tx_hash: bytes
    """Hash of the bytes that were sent, whatever became of them."""
    message: str = ""
    """The chain's words where it did not accept."""

    @property
    def is_on_chain_or_waiting(self) -> bool:
        """Whether a receipt of this hash is worth waiting for."""
        return self.status in (SendStatus.ACCEPTED, SendStatus.KNOWN)


@dataclass(frozen=True)
class Log:
    """One event that a contract logged."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    tx_hash: bytes
    log_index: int
    """Position within the block."""


@dataclass(frozen=True)
class Receipt:
    """The result of a transaction that is in a block."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    tx_index: int
    succeeded: bool
    gas_used: int
    gas_price_wei: int
    """Price paid per unit of gas, base fee included."""
    contract_address: bytes | None
    """Address of the contract that it deployed."""
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class Transaction:
    """A transaction as the chain keeps it."""

    tx_hash: bytes
    sender: bytes
    to: bytes | None
    nonce: int
    data: bytes
    value_wei: int
    gas: int
    block_number: int | None
    """None while it waits."""


@dataclass(frozen=True)
class Fees:
    """What a transaction that is to be taken soon should offer, in wei per unit of gas."""

    base_fee_wei: int
    priority_fee_wei: int

    @property
    def max_fee_wei(self) -> int:
        """Twice the base fee, which lasts for five full blocks, and the priority fee."""
        return 2 * self.base_fee_wei + self.priority_fee_wei


@runtime_checkable
class Chain(Protocol):
    """A chain, as settlement sees it.

    Reads raise ChainDownError, ChainSlowError or ChainRefusedError; `send_raw` raises the
    first two only, after which what arrived is found out by `receipts` and `nonce`.
    """

    @property
    def kind(self) -> ChainKind:
        """Which kind of chain it is."""
        ...

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether it is a development chain of this machine, with well-known keys and free gas."""
        ...

    def genesis_hash(self) -> bytes:
        """Hash of block 0, which tells a chain from one started anew."""
        ...

    def block_number(self) -> int:
        """Number of the latest block."""
        ...

    def block_hash(self, number: int) -> bytes | None:
        """Hash of a block, None if there is none of that number."""
        ...

    def gas_limit(self) -> int:
        """Gas limit of the latest block, which no transaction can exceed."""
        ...

    def fees(self) -> Fees:
        """What to offer at present."""
        ...

    def nonce(self, address: bytes) -> int:
        """Number of the account's transactions in blocks, which is its next free nonce."""
        ...

    def balance(self, address: bytes) -> int:
        """The account's own coin in wei."""
        ...

    def code(self, address: bytes) -> bytes:
        """Runtime code of a contract, empty where there is none."""
        ...

    def call(
        self, to: bytes, data: bytes, sender: bytes | None = None, block: int | None = None
    ) -> bytes:
        """Run a view on the latest block, or on an older one where the chain keeps its state.

        Raises
        ------
        Reverted
            If the contract refuses.
        """
        ...

    def calls(self, requests: Sequence[tuple[bytes, bytes]]) -> list[bytes | Reverted]:
        """Many views (to, data) on the latest block in one request; refusals are returned."""
        ...

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes) -> int:
        """Gas that a transaction would need now.

        Raises
        ------
        Reverted
            If it would fail.
        """
        ...

    def send_raw(self, transactions: Sequence[bytes]) -> list[SendOutcome]:
        """Hand over signed transactions, in order, in as few requests as fit."""
        ...

    def receipts(self, tx_hashes: Sequence[bytes]) -> list[Receipt | None]:
        """Receipts in the order asked for, None for what is in no block."""
        ...

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """A transaction by hash, None if the chain knows none."""
        ...

    def transactions(self, tx_hashes: Sequence[bytes]) -> list[Transaction | None]:
        """Many of them in one request."""
        ...

    def logs(
        self,
        address: bytes,
        from_block: int,
        to_block: int,
        topics: Sequence[bytes | None] = (),
    ) -> list[Log]:
        """Events of a contract in a range of blocks, both ends included, in order.

        `topics` filters by position; None there lets everything pass.
        """
        ...

    def endow(self, addresses: Sequence[bytes]) -> None:
        """Give accounts of a local chain money for gas; other chains refuse."""
        ...

    def mine(self, blocks: int = 1) -> None:
        """Add empty blocks to a local chain, for confirmations; other chains refuse."""
        ...

    def revive(self) -> bool:
        """Start anew what had been started for it and died; whether there was such a thing."""
        ...

    def save(self) -> None:
        """Write the state to the run folder now, where the chain can."""
        ...

    def close(self) -> None:
        """Save where the chain can, and stop what was started for it. May be called twice."""
        ...
