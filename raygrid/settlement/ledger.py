"""What the settlement contract holds, read by its views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement.artifacts import WORD, load_artifact
from raygrid.settlement.chain.base import Chain, Reverted
from raygrid.settlement.contract import decode_balances

WORDS_AT_ONCE = 2_000
"""Words read by one view."""


@dataclass(frozen=True)
class PeriodState:
    """What the contract keeps of a group and period.

    Attributes
    ----------
    commitment : bytes or None
        Hash of the readings with its lowest bit cleared, until they have settled.
    record : bytes or None
        Hash of the settled batch with its lowest bit set.
    """

    commitment: bytes | None
    record: bytes | None

    @classmethod
    def of(cls, word: bytes) -> PeriodState:
        """Read the word that the contract stores."""
        if not any(word):
            return cls(None, None)
        return cls(None, word) if word[-1] & 1 else cls(word, None)


class Ledger:
    """The settlement contract's views.

    Parameters
    ----------
    chain : callable
        Gives the chain, which may be another one after a node was started anew.
    address : bytes
        The contract.
    """

    def __init__(self, chain: Callable[[], Chain], address: bytes) -> None:
        self._chain = chain
        self.address = address

    def _ask(self, signature: str, *words: int | bytes) -> bytes:
        return self._chain().call(self.address, load_artifact().call(signature, *words))

    def _ask_number(self, signature: str, *words: int | bytes) -> int:
        return int.from_bytes(self._ask(signature, *words)[:WORD], "big")

    def next_sequence(self) -> int:
        """Number that the next batch must carry."""
        return self._ask_number("nextSequence()")

    def participants(self) -> int:
        """How many are registered."""
        return self._ask_number("participants()")

    def escrow_micro(self) -> int:
        """Sum of all balances [1e-6 currency]."""
        return self._ask_number("escrowMicro()")

    def tolerance(self) -> tuple[int, int]:
        """Tolerance of verification [Wh, 1e-6 of the reading]."""
        return self._ask_number("toleranceWh()"), self._ask_number("tolerancePpm()")

    def token(self) -> bytes:
        """The token of the escrow."""
        return self._ask("token()")[12:32]

    def owner(self, participant: int) -> bytes:
        """Who may withdraw."""
        return self._ask("ownerOf(uint32)", participant)[12:32]

    def has_role(self, role: str, account: bytes) -> bool:
        """Whether an account has a role, such as 'OPERATOR_ROLE'."""
        from eth_hash.auto import keccak

        return bool(self._ask_number("hasRole(bytes32,address)", keccak(role.encode()), account))

    def balance(self, participant: int) -> int:
        """Balance of one account, the network account's too [1e-6 currency]."""
        return self._ask_number("balanceOf(uint32)", participant)

    def balances(self, count: int) -> IntArray:
        """Balances of the first `count` participants.

        Returns
        -------
        (count,) int64
            In order of their ids [1e-6 currency].
        """
        words = -(-count // 4)
        parts = []
        for first in range(0, words, WORDS_AT_ONCE):
            size = min(WORDS_AT_ONCE, words - first)
            answer = self._ask("balanceWords(uint256,uint256)", first, size)
            parts.append(decode_balances(answer))
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])[:count]

    def periods(self, batch_ids: Sequence[int]) -> list[PeriodState]:
        """What is kept of each of these groups and periods."""
        found = []
        for first in range(0, len(batch_ids), WORDS_AT_ONCE):
            part = batch_ids[first : first + WORDS_AT_ONCE]
            # An array's place, its length, then its items.
            answer = self._ask("periodWords(uint64[])", WORD, len(part), *part)
            words = answer[2 * WORD :]
            found += [PeriodState.of(words[at : at + WORD]) for at in range(0, len(words), WORD)]
        return found


def token_decimals(chain: Chain, token: bytes) -> int | None:
    """Decimals of a token; None where there is no such contract."""
    if not chain.code(token):
        return None
    try:
        answer = chain.call(token, load_artifact("TestToken").call("decimals()"))
    except Reverted:
        return None
    return int.from_bytes(answer, "big") if len(answer) == WORD else None


def created_address(sender: bytes, nonce: int) -> bytes:
    """Address of the contract that a sender's transaction of this nonce deploys."""
    import rlp
    from eth_hash.auto import keccak

    from raygrid.settlement.chain.keys import integer_bytes

    encoded: bytes = rlp.encode([sender, integer_bytes(nonce)])
    return keccak(encoded)[12:]
