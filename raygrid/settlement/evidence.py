"""What an audit asks a chain, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement.contract import ProvenTrade

MAX_DIFFERENCES = 1000
"""An audit that finds more stops naming them."""


@dataclass(frozen=True)
class Transfer:
    """Money that came into the escrow or left it.

    Attributes
    ----------
    before_sequence : int
        Number of the batch that settled next.
    participant : int
        Id on the chain: position among the participants by ascending id, or
        `raygrid.settlement.contract.NETWORK_ACCOUNT`.
    micro : int
        Amount, withdrawals negative [1e-6 currency].
    """

    before_sequence: int
    participant: int
    micro: int


@dataclass(frozen=True)
class SettledBatch:
    """A batch as the chain's history has it.

    Attributes
    ----------
    sequence, group, period : int
        From its event.
    payload : bytes
        Its bytes in the operator's transaction.
    voids : bytes
        Its void trades, from the event: position u24 and reason u8 each.
    """

    sequence: int
    group: int
    period: int
    payload: bytes
    voids: bytes


class ChainView(Protocol):
    """What an audit asks a chain; nothing of it changes anything."""

    def next_sequence(self) -> int:
        """How many batches have settled."""
        ...

    def balances(self, count: int) -> IntArray:
        """Escrow balances of the first `count` participants [1e-6 currency]."""
        ...

    def network_balance(self) -> int:
        """Balance of the network account [1e-6 currency]."""
        ...

    def transfers(self) -> Sequence[Transfer]:
        """All money that came in or left, in order."""
        ...

    def record(self, group: int, period: int) -> bytes | None:
        """What the contract keeps of a settled group and period; None where it has not."""
        ...

    def batch(self, sequence: int) -> SettledBatch | None:
        """A settled batch; None where the chain's history does not have it."""
        ...

    def prove(self, batch: SettledBatch, index: int) -> ProvenTrade | None:
        """A trade of a batch, proven by the contract; None where it refuses."""
        ...


@dataclass(frozen=True)
class Difference:
    """Something that is not as it should be: where, what, and the two values."""

    where: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.what} is {self.found or 'none'}, should be "
            f"{self.expected or 'none'}"
        )


@dataclass(frozen=True)
class AuditReport:
    """How an audit ended.

    Attributes
    ----------
    batches, trades, settled, rejected : int
        What was recomputed.
    balances : int
        Accounts whose balance was compared, the network account among them.
    proven : tuple of int
        Ids of the trades that the contract proved.
    differences : tuple of Difference
        What is not as it should be; none in a run that is in order.
    """

    batches: int
    trades: int
    settled: int
    rejected: int
    balances: int
    proven: tuple[int, ...]
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return not self.differences


class Findings:
    """Collects differences, up to `MAX_DIFFERENCES`."""

    def __init__(self) -> None:
        self.found: list[Difference] = []

    def same(self, where: str, what: str, expected: object, found: object) -> bool:
        """Note a difference unless the two are the same."""
        if expected == found:
            return True
        if len(self.found) < MAX_DIFFERENCES:
            self.found.append(Difference(where, what, str(expected), str(found)))
        return False


def funded_micro(transfers: Sequence[Transfer], count: int, batches: int) -> IntArray:
    """What was paid into each escrow until the last batch settled, top-ups of later days included.

    Parameters
    ----------
    transfers : sequence of Transfer
        In the order of time.
    count : int
        Participants M.
    batches : int
        Batches settled; without any, what was there before the first counts.

    Returns
    -------
    (M,) int64
        By id on the chain [1e-6 currency].
    """
    held = np.zeros(count, dtype=np.int64)
    for transfer in transfers:
        if transfer.before_sequence < max(batches, 1) and transfer.participant < count:
            held[transfer.participant] += transfer.micro
    return held
