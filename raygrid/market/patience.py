"""How long the operator waits for hosts that are slow, stopped or silent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """Bounds of the wait for a host, by the clock of this machine.

    Attributes
    ----------
    patience_s : float
        Longest wait for answers in a round [s].
    max_staleness : int
        Rounds that a host may miss in a row; then it is waited for.
    lost_after_s : float
        Longest wait for a host without whom no round can go on; then it counts as dead [s].
    """

    patience_s: float
    max_staleness: int = 5
    lost_after_s: float = 60.0
