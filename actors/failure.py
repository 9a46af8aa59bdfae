"""What to do when Ray fails in the middle of a clearing: one policy, one decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from actors.errors import LostStateError
from actors.link import LinkError
from raygrid.market.stragglers import SilentHostError


class FailureDecision(StrEnum):
    """What to do after a failed round."""

    RETRY = "retry"
    PLAIN_CALLS = "plain_calls"
    GIVE_UP = "give_up"


@dataclass(frozen=True)
class FailurePolicy:
    """Mends what a restart can mend, a bounded number of times.

    Attributes
    ----------
    retries : int
        Failures after which rounds still travel as they did; then plain calls go on.
    failures : int
        Failures of one clearing after which it is given up.
    """

    retries: int = 1
    failures: int = 5

    def decide(self, error: Exception, failures: int) -> FailureDecision:
        """What to do about the `failures`-th failure of a clearing.

        Parameters
        ----------
        error : Exception
            What was raised.
        failures : int
            How many failures this clearing had, this one included.

        Returns
        -------
        FailureDecision
            GIVE_UP where the program itself raised: it would raise again.
        """
        if not is_mendable(error) or failures > self.failures:
            return FailureDecision.GIVE_UP
        if failures <= self.retries:
            return FailureDecision.RETRY
        return FailureDecision.PLAIN_CALLS


def is_mendable(error: BaseException) -> bool:
    """Whether Ray failed (a process, a node, a channel), not the program it carried.

    An error of the program arrives as a task error with its cause; so do errors of Ray that
    another actor ran into, and a restarted actor's word that it knows nothing. A silent host can
    be replaced.
    """
    from ray.exceptions import ActorDiedError, RayError, RayTaskError

    if isinstance(error, LostStateError | LinkError | SilentHostError):
        return True
    if isinstance(error, RayTaskError):
        cause = error.cause
        return isinstance(cause, BaseException) and is_mendable(cause)
    if isinstance(error, ActorDiedError) and error.actor_init_failed:
        return False
    return isinstance(error, RayError)
