"""A chain that does what a test tells it to: loses, delays, refuses, takes blocks back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import rlp
from eth_hash.auto import keccak

from raygrid.settlement.chain.base import (
    ChainDownError,
    ChainKind,
    ChainSlowError,
    Fees,
    Receipt,
    SendOutcome,
    SendStatus,
)
from raygrid.settlement.chain.keys import recover_address, transaction_hash

Fault = Callable[[], None]


def decode(raw: bytes) -> tuple[bytes, int, int, bytes]:
    """Sender, nonce, fee and data of a signed transaction."""
    fields = rlp.decode(raw[1:])
    digest = keccak(raw[:1] + rlp.encode(fields[:9]))
    parity, r, s = fields[9:]
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + (parity or b"\0")
    nonce, fee = (int.from_bytes(fields[k], "big") for k in (1, 3))
    return recover_address(digest, signature), nonce, fee, fields[7]


class ScriptedChain:
    """Mines every transaction at once, in a block of its own, unless a fault is due.

    Attributes
    ----------
    faults : list of str
        One is taken at each `send_raw`: 'down' (nothing arrives), 'answer_lost' (everything
        arrives, no answer), 'slow' (nothing arrives), 'drop' (accepted and forgotten),
        'underpriced', 'refuse', 'taken' (somebody else uses the first nonce), 'reorg' (the last
        block is taken back afterwards); '' is none.
    mined : list of bytes
        Data of the transactions that are in blocks, in order.
    """

    kind = ChainKind.RPC
    chain_id = 1
    is_local = False

    def __init__(self, faults: Sequence[str] = (), fails: Callable[[bytes], bool] | None = None):
        self.faults = list(faults)
        self.down = 0
        self.min_fee = 0
        self.blocks: list[tuple[bytes, bytes, Receipt]] = []
        self._fails = fails or (lambda data: False)

    @property
    def mined(self) -> list[bytes]:
        return [data for _, data, receipt in self.blocks if receipt.succeeded]

    def block_number(self) -> int:
        self._answer()
        return len(self.blocks)

    def fees(self) -> Fees:
        self._answer()
        return Fees(max(1, self.min_fee), 0)

    def nonce(self, address: bytes) -> int:
        self._answer()
        return sum(sender == address for sender, _, _ in self.blocks)

    def receipts(self, tx_hashes: Sequence[bytes]) -> list[Receipt | None]:
        self._answer()
        found = {receipt.tx_hash: receipt for _, _, receipt in self.blocks}
        return [found.get(tx_hash) for tx_hash in tx_hashes]

    def send_raw(self, transactions: Sequence[bytes]) -> list[SendOutcome]:
        self._answer()
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "down":
            raise ChainDownError("down")
        if fault == "slow":
            raise ChainSlowError("slow")
        if fault == "taken":
            sender, _, _, _ = decode(transactions[0])
            self._mine(sender, b"other", b"\xff" * 32)
        if fault == "underpriced":
            self.min_fee = 2 * decode(transactions[0])[2]
        outcomes = [self._take(raw, fault) for raw in transactions]
        if fault == "answer_lost":
            raise ChainSlowError("answer lost")
        if fault == "reorg" and self.blocks:
            self.blocks.pop()
        return outcomes

    def _answer(self) -> None:
        if self.down:
            self.down -= 1
            raise ChainDownError("down")

    def _take(self, raw: bytes, fault: str) -> SendOutcome:
        sender, nonce, fee, data = decode(raw)
        tx_hash = transaction_hash(raw)
        due = sum(other == sender for other, _, _ in self.blocks)
        if nonce < due:
            return SendOutcome(SendStatus.NONCE_TOO_LOW, tx_hash, "nonce too low")
        if fault == "refuse":
            return SendOutcome(SendStatus.REFUSED, tx_hash, "refused")
        if fee < self.min_fee:
            return SendOutcome(SendStatus.UNDERPRICED, tx_hash, "underpriced")
        # A nonce above the next one waits for ever: this chain forgets it.
        if fault != "drop" and nonce == due:
            self._mine(sender, data, tx_hash)
        return SendOutcome(SendStatus.ACCEPTED, tx_hash)

    def _mine(self, sender: bytes, data: bytes, tx_hash: bytes) -> None:
        number = len(self.blocks) + 1
        receipt = Receipt(tx_hash, number, b"", 0, not self._fails(data), 21_000, 1, None, ())
        self.blocks.append((sender, data, receipt))
