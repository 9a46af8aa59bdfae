"""What to do when a chain does not answer, does not take, or does not carry out: one policy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class RetryDecision(StrEnum):
    """What to do when nothing new was seen."""

    WAIT = "wait"
    RESEND = "resend"
    GIVE_UP = "give_up"


@dataclass(frozen=True)
class RetryPolicy:
    """Waits, sends the same bytes again, plans anew, each within a bound.

    Attributes
    ----------
    patience_s : float
        Time without news after which everything that is in no block is sent again [s].
    resends : int
        How often, before what is left is reported unsettled.
    rounds : int
        How often a stage is planned anew from what the chain holds, without any progress.
    first_poll_s, longest_poll_s : float
        First and longest wait between two looks at the chain [s]; each wait is half as long
        again as the one before.
    """

    patience_s: float = 2.0
    resends: int = 4
    rounds: int = 3
    first_poll_s: float = 0.001
    longest_poll_s: float = 0.1

    @classmethod
    def fitting(cls, is_local: bool) -> Self:
        """A policy for a chain of this machine, or for one that takes seconds per block."""
        if is_local:
            return cls()
        return cls(patience_s=60.0, first_poll_s=0.2, longest_poll_s=2.0)

    def decide(self, silent_s: float, resends: int) -> RetryDecision:
        """What to do after a look that showed nothing new.

        Parameters
        ----------
        silent_s : float
            Time since the last news or resend [s].
        resends : int
            How often everything was sent again since the last news.

        Returns
        -------
        RetryDecision
            WAIT for `poll_s`, RESEND, or GIVE_UP.
        """
        if silent_s < self.patience_s:
            return RetryDecision.WAIT
        return RetryDecision.RESEND if resends < self.resends else RetryDecision.GIVE_UP

    def poll_s(self, looks: int) -> float:
        """How long to wait after so many looks without news [s]."""
        return float(min(self.first_poll_s * 1.5 ** min(looks, 50), self.longest_poll_s))
