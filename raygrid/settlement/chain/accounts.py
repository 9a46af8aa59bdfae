"""The accounts of the embedded chain in plain dictionaries, with an undo log.

py-evm keeps accounts in Merkle tries that it hashes anew at each step; a chain inside one process
needs no proofs against its own state, and dictionaries are an order of magnitude faster.
"""

from __future__ import annotations

import itertools
from typing import Any

from eth_hash.auto import keccak

EMPTY_CODE_HASH = keccak(b"")

_MISSING: Any = object()


class Accounts:
    """Nonces, balances, codes and storage of all accounts.

    It answers to the names by which py-evm's state asks its account database
    (`eth.abc.AccountDatabaseAPI`), those of tries and witnesses excepted.
    """

    def __init__(self) -> None:
        self.nonces: dict[bytes, int] = {}
        self.balances: dict[bytes, int] = {}
        self.code_hashes: dict[bytes, bytes] = {}
        self.codes: dict[bytes, bytes] = {EMPTY_CODE_HASH: b""}
        self.storage: dict[bytes, dict[int, int]] = {}
        self.transient: dict[tuple[bytes, int], bytes] = {}
        self._warm: dict[bytes | tuple[bytes, int], bool] = {}
        self._originals: dict[tuple[bytes, int], int] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self._checkpoints: dict[int, int] = {}
        self._next_checkpoint = itertools.count()

    def _set(self, mapping: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((mapping, key, mapping.get(key, _MISSING)))
        mapping[key] = value

    def _delete(self, mapping: dict[Any, Any], key: Any) -> None:
        if key in mapping:
            self._undo.append((mapping, key, mapping.pop(key)))

    def record(self) -> int:
        """Mark a point to which `discard` can go back."""
        checkpoint = next(self._next_checkpoint)
        self._checkpoints[checkpoint] = len(self._undo)
        return checkpoint

    def discard(self, checkpoint: int) -> None:
        """Undo everything since a mark."""
        undo = self._undo
        length = self._checkpoints.pop(checkpoint)
        while len(undo) > length:
            mapping, key, old = undo.pop()
            if old is _MISSING:
                del mapping[key]
            else:
                mapping[key] = old

    def commit(self, checkpoint: int) -> None:
        """Forget a mark; what followed it can still be undone to an earlier one."""
        del self._checkpoints[checkpoint]

    def changes(self) -> list[tuple[bytes, int, int]]:
        """Storage written since the transaction began: address, slot, value, in order."""
        return [
            (address, slot, self.storage.get(address, {}).get(slot, 0))
            for address, slot in sorted(self._originals)
        ]

    def end_transaction(self) -> None:
        """Begin the next transaction: nothing is warm, current values are the original ones."""
        # New ones, not emptied ones: an undoing may still reach for the old.
        self._warm, self.transient, self._originals = {}, {}, {}

    def end_block(self) -> None:
        """Make everything final: what came before can no longer be undone."""
        self._undo.clear()
        self._checkpoints.clear()

    def get_storage(self, address: bytes, slot: int, from_journal: bool = True) -> int:
        """Value of a slot now, or at the start of the transaction."""
        if not from_journal and (address, slot) in self._originals:
            return self._originals[address, slot]
        slots = self.storage.get(address)
        return 0 if slots is None else slots.get(slot, 0)

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        """Write a slot; zero removes it."""
        slots = self.storage.get(address)
        if slots is None:
            slots = {}
            self._set(self.storage, address, slots)
        self._originals.setdefault((address, slot), slots.get(slot, 0))
        if value:
            self._set(slots, slot, value)
        else:
            self._delete(slots, slot)

    def delete_storage(self, address: bytes) -> None:
        """Remove all slots of an account."""
        self._delete(self.storage, address)

    def set_transient(self, address: bytes, slot: int, value: bytes) -> None:
        """Write a slot that lasts for a transaction (EIP-1153)."""
        self._set(self.transient, (address, slot), value)

    def is_storage_warm(self, address: bytes, slot: int) -> bool:
        """Whether the transaction touched this slot before (EIP-2929)."""
        return (address, slot) in self._warm

    def mark_storage_warm(self, address: bytes, slot: int) -> None:
        """Note that the transaction touched this slot."""
        if (address, slot) not in self._warm:
            self._set(self._warm, (address, slot), True)

    def is_address_warm(self, address: bytes) -> bool:
        """Whether the transaction touched this account before (EIP-2929)."""
        return address in self._warm

    def mark_address_warm(self, address: bytes) -> None:
        """Note that the transaction touched this account."""
        if address not in self._warm:
            self._set(self._warm, address, True)

    def get_balance(self, address: bytes) -> int:
        """Coin of an account [wei]."""
        return self.balances.get(address, 0)

    def set_balance(self, address: bytes, balance: int) -> None:
        """Set the coin of an account [wei]."""
        self._set(self.balances, address, balance)

    def get_nonce(self, address: bytes) -> int:
        """Number of transactions sent, or of contracts created by a contract."""
        return self.nonces.get(address, 0)

    def set_nonce(self, address: bytes, nonce: int) -> None:
        """Set the number of transactions sent."""
        self._set(self.nonces, address, nonce)

    def increment_nonce(self, address: bytes) -> None:
        """Count one transaction more."""
        self._set(self.nonces, address, self.nonces.get(address, 0) + 1)

    def get_code_hash(self, address: bytes) -> bytes:
        """Keccak hash of the code, that of no bytes for a plain account."""
        return self.code_hashes.get(address, EMPTY_CODE_HASH)

    def get_code(self, address: bytes) -> bytes:
        """Runtime code, empty for a plain account."""
        return self.codes[self.get_code_hash(address)]

    def set_code(self, address: bytes, code: bytes) -> None:
        """Set the runtime code of an account."""
        code_hash = keccak(code)
        self.codes[code_hash] = code
        self._set(self.code_hashes, address, code_hash)

    def delete_code(self, address: bytes) -> None:
        """Make it a plain account."""
        self._delete(self.code_hashes, address)

    def account_has_code_or_nonce(self, address: bytes) -> bool:
        """Whether a contract cannot be deployed there (EIP-684)."""
        return bool(self.get_nonce(address)) or self.get_code_hash(address) != EMPTY_CODE_HASH

    def account_exists(self, address: bytes) -> bool:
        """Whether anything was ever noted of this account and not deleted."""
        return address in self.balances or address in self.nonces or address in self.code_hashes

    def account_is_empty(self, address: bytes) -> bool:
        """Whether it has no code, nonce or balance (EIP-161)."""
        return not self.account_has_code_or_nonce(address) and not self.get_balance(address)

    def touch_account(self, address: bytes) -> None:
        """Make an account exist."""
        if address not in self.balances:
            self._set(self.balances, address, 0)

    def delete_account(self, address: bytes) -> None:
        """Remove everything about an account."""
        for mapping in (self.nonces, self.balances, self.code_hashes, self.storage):
            self._delete(mapping, address)
