"""What waits to be settled: taken in as it is cleared, given out by size and age. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

_Part = TypeVar("_Part")


@dataclass(frozen=True)
class IntakePolicy:
    """When waiting trades are settled, and how many may wait.

    Attributes
    ----------
    trades : int
        So many waiting trades are settled at once.
    age_s : float
        Fewer are settled when the oldest waited for so long [s].
    capacity : int
        More than so many are not taken in: whoever clears waits for the chain.
    """

    trades: int = 2_000
    age_s: float = 0.05
    capacity: int = 500_000

    def __post_init__(self) -> None:
        if self.trades < 1 or self.capacity < 1 or self.age_s < 0:
            raise ValueError("trades and capacity are at least 1, age_s is not negative")


class Intake(Generic[_Part]):
    """A bounded queue of parts of market days.

    Parameters
    ----------
    policy : IntakePolicy
        Its rules.
    """

    def __init__(self, policy: IntakePolicy) -> None:
        self._policy = policy
        self._waiting: deque[tuple[_Part, int, float]] = deque()
        self.waiting_trades = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, part: _Part, trades: int, now_s: float) -> bool:
        """Take a part in, if there is room; one that is larger than all room gets it to itself.

        Parameters
        ----------
        part : object
            Trades that settle together.
        trades : int
            How many.
        now_s : float
            The time [s].

        Returns
        -------
        bool
            False where it has to be offered again later.
        """
        if self._waiting and self.waiting_trades + trades > self._policy.capacity:
            return False
        self._waiting.append((part, trades, now_s))
        self.waiting_trades += trades
        return True

    def due_in_s(self, now_s: float) -> float | None:
        """Time until something is due: 0 at once, None where nothing waits [s]."""
        if not self._waiting:
            return None
        if self.waiting_trades >= self._policy.trades:
            return 0.0
        return max(0.0, self._waiting[0][2] + self._policy.age_s - now_s)

    def take(self, now_s: float, everything: bool = False) -> list[_Part]:
        """What is due, in the order in which it came; all of it where anything is.

        Parameters
        ----------
        now_s : float
            The time [s].
        everything : bool
            Whether to take what is not due too, at the end.
        """
        if not everything and self.due_in_s(now_s) != 0.0:
            return []
        parts = [part for part, _, _ in self._waiting]
        self._waiting.clear()
        self.waiting_trades = 0
        return parts
