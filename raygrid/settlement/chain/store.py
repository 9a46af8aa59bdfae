"""Blocks of the embedded chain, and the one file that keeps the whole chain in a run folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import rlp
from eth_hash.auto import keccak

from raygrid.errors import InputError
from raygrid.results.files import write_atomically
from raygrid.settlement.chain.accounts import Accounts
from raygrid.settlement.chain.base import HASH_BYTES
from raygrid.settlement.chain.keys import integer_bytes

MAGIC = b"raygrid embedded chain 1\n"


@dataclass(frozen=True)
class Entry:
    """A transaction in a block, with what it did."""

    raw: bytes = field(repr=False)
    sender: bytes
    succeeded: bool
    gas_used: int
    created: bytes | None
    logs: tuple[tuple[bytes, tuple[bytes, ...], bytes], ...]
    """Address, topics and data of each event."""

    @cached_property
    def tx_hash(self) -> bytes:
        """Hash of the signed bytes."""
        return keccak(self.raw)

    def fields(self) -> list[Any]:
        """What is saved of it and hashed into its block."""
        logs = [[address, b"".join(topics), data] for address, topics, data in self.logs]
        return [
            self.raw,
            self.sender,
            integer_bytes(self.succeeded),
            integer_bytes(self.gas_used),
            self.created or b"",
            logs,
        ]


def read_entry(fields: list[Any]) -> Entry:
    """The inverse of `Entry.fields`."""
    raw, sender, succeeded, gas_used, created, logs = fields
    return Entry(
        raw,
        sender,
        bool(succeeded),
        int.from_bytes(gas_used, "big"),
        created or None,
        tuple((address, tuple(_words(topics)), data) for address, topics, data in logs),
    )


@dataclass(frozen=True)
class Block:
    """A block: its hash covers its parent, its transactions, their results and the changed storage.

    That chain of hashes takes the place of a node's tries: it says which chain this is, but
    proves no single slot.
    """

    number: int
    parent_hash: bytes
    timestamp: int
    extra: bytes
    """Random in block 0, so that no two chains share a genesis hash; empty in others."""
    changes_hash: bytes
    """Hash of the storage that the block wrote."""
    entries: tuple[Entry, ...]

    @cached_property
    def hash(self) -> bytes:
        """Keccak hash of the block."""
        return keccak(rlp.encode(self.fields()))

    @property
    def gas_used(self) -> int:
        """Gas of all its transactions."""
        return sum(entry.gas_used for entry in self.entries)

    def fields(self) -> list[Any]:
        """What is saved of it and what its hash covers."""
        return [
            integer_bytes(self.number),
            self.parent_hash,
            integer_bytes(self.timestamp),
            self.extra,
            self.changes_hash,
            [entry.fields() for entry in self.entries],
        ]


def read_block(fields: list[Any]) -> Block:
    """The inverse of `Block.fields`."""
    number, parent_hash, timestamp, extra, changes_hash, entries = fields
    return Block(
        int.from_bytes(number, "big"),
        parent_hash,
        int.from_bytes(timestamp, "big"),
        extra,
        changes_hash,
        tuple(map(read_entry, entries)),
    )


def _words(data: bytes) -> list[bytes]:
    return [data[k : k + HASH_BYTES] for k in range(0, len(data), HASH_BYTES)]


def _word_list(values: Any) -> bytes:
    return b"".join(value.to_bytes(HASH_BYTES, "big") for value in values)


def save_chain(path: Path, chain_id: int, accounts: Accounts, blocks: list[Block]) -> None:
    """Write a chain to a file, which is replaced in one step and is on disk on return.

    Parameters
    ----------
    path : Path
        The file.
    chain_id : int
        EIP-155 id.
    accounts : Accounts
        Between two transactions.
    blocks : list of Block
        From block 0.
    """
    addresses = accounts.nonces.keys() | accounts.balances.keys() | accounts.code_hashes.keys()
    content = [
        integer_bytes(chain_id),
        [code for code in accounts.codes.values() if code],
        [
            [
                address,
                integer_bytes(accounts.get_nonce(address)),
                integer_bytes(accounts.get_balance(address)),
                accounts.get_code_hash(address),
                _word_list(accounts.storage.get(address, {}).keys()),
                _word_list(accounts.storage.get(address, {}).values()),
            ]
            for address in sorted(addresses)
        ],
        [block.fields() for block in blocks],
    ]
    payload = rlp.encode(content)
    write_atomically(path, lambda file: file.writelines((MAGIC, keccak(payload), payload)))


def load_chain(path: Path) -> tuple[int, Accounts, list[Block]]:
    """Read what `save_chain` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple
        Chain id, accounts and blocks.

    Raises
    ------
    InputError
        If the file cannot be read, or is not whole.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", str(path), "check its permissions"
        ) from None
    start = len(MAGIC) + HASH_BYTES
    payload = content[start:]
    if content[: len(MAGIC)] != MAGIC or keccak(payload) != content[len(MAGIC) : start]:
        raise InputError(
            "not a whole file of an embedded chain",
            str(path),
            "restore it, or start anew with settle --redeploy",
        )
    chain_id, codes, rows, blocks = rlp.decode(payload)
    accounts = Accounts()
    accounts.codes |= {keccak(code): code for code in codes}
    for address, nonce, balance, code_hash, slots, values in rows:
        if nonce:
            accounts.nonces[address] = int.from_bytes(nonce, "big")
        accounts.balances[address] = int.from_bytes(balance, "big")
        if accounts.codes[code_hash]:
            accounts.code_hashes[address] = code_hash
        if slots:
            accounts.storage[address] = {
                int.from_bytes(slot, "big"): int.from_bytes(value, "big")
                for slot, value in zip(_words(slots), _words(values), strict=True)
            }
    return int.from_bytes(chain_id, "big"), accounts, list(map(read_block, blocks))
