"""What opened each round of a clearing: enough to bring a dead actor back, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

from raygrid.market.messages import OperatorMemory, PriceMessage, RoundOutcome
from raygrid.market.operator import MEAN_ROUNDS

LOG_BYTES = 256 * 1024**2
"""Messages kept; beyond that the oldest go, and a dead host starts anew from the duals."""


class RoundLog:
    """The outcomes that opened the rounds of one clearing, the open one last.

    Local problems are deterministic: a host that gets the messages of all rounds again ends in
    the same state. Grows with buses and rounds, not with prosumers.

    Parameters
    ----------
    limit_bytes : int
        Messages kept [B]; the last two rounds are always kept.
    """

    def __init__(self, limit_bytes: int = LOG_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._outcomes: dict[int, RoundOutcome] = {}
        self._memories: dict[int, OperatorMemory] = {}
        self._bytes = 0

    def add(self, outcome: RoundOutcome) -> None:
        """Note what opens the next round; the same round again replaces its outcome."""
        iteration = outcome.messages[0].iteration
        if iteration not in self._outcomes:
            self._bytes += _size(outcome)
        self._outcomes[iteration] = outcome
        if outcome.memory is not None:
            self._memories[iteration] = outcome.memory
            self._memories.pop(iteration - MEAN_ROUNDS - 1, None)
        while self._bytes > self._limit_bytes and len(self._outcomes) > 2:
            self._bytes -= _size(self._outcomes.pop(next(iter(self._outcomes))))

    @property
    def opening(self) -> RoundOutcome:
        """What opened the round that is open now."""
        return self._outcomes[max(self._outcomes)]

    @property
    def before(self) -> RoundOutcome | None:
        """What opened the round before it; None at the first."""
        return self._outcomes.get(max(self._outcomes) - 1)

    @property
    def is_complete(self) -> bool:
        """Whether all rounds from the first are still here."""
        return 0 in self._outcomes and len(self._outcomes) == max(self._outcomes) + 1

    @property
    def memories(self) -> Sequence[OperatorMemory]:
        """What the operator's last projections left, up to `before` if any, else to `opening`."""
        last = max(self._outcomes) - (self.before is not None)
        return [self._memories[k] for k in sorted(self._memories) if k <= last]

    def done(self, host: int) -> Sequence[PriceMessage]:
        """Messages of all finished rounds to one host, in order."""
        return [outcome.messages[host] for outcome in list(self._outcomes.values())[:-1]]


def _size(outcome: RoundOutcome) -> int:
    kept = 0 if outcome.memory is None else outcome.memory.nbytes
    return kept + sum(message.pi_kw.nbytes for message in outcome.messages)
