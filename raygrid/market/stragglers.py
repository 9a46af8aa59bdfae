"""Rounds that go on without real stragglers: bounded staleness by the clock.

The same iteration as over modelled links (`raygrid.market.staleness`), but time is real: a host
that computes slowly, lies behind a slow link or was stopped does not answer within the patience,
and the operator takes the last answer of it that it used. While a host owes an answer it is sent
nothing, so that it gets prices in the order of the rounds, and nobody waits for it. Once the
answer comes, it is too old to be used: the host gets the prices of the open round and hears that
the step does not count. (To use it nevertheless diverged with half of eight hosts always late.)

Going on pays where hosts are late now and then. Of a host that is always late all steps would be
in vain, so after some late answers in a row it is waited for until it is punctual again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import numpy as np

from raygrid.arrays import IntArray
from raygrid.market.messages import Aggregate, PriceMessage, RoundOutcome
from raygrid.market.patience import Patience
from raygrid.market.staleness import Handle, StaleBook

LATE_IN_A_ROW = 3
"""Late answers of a host in a row after which rounds wait for it."""


class SilentHostError(RuntimeError):
    """A host gave no answer for so long that it counts as dead."""


class Courier(Protocol):
    """Carries prices to hosts and their answers back, wherever they run."""

    def send(self, host: int, message: PriceMessage) -> None:
        """Send prices to a host that owes no answer; returns at once."""
        ...

    def collect(self, timeout_s: float) -> Sequence[tuple[int, Aggregate]]:
        """Hosts and answers that have come; waits so long for the first of them."""
        ...


@dataclass
class Waits:
    """How a clearing went on with and without its stragglers.

    Attributes
    ----------
    rounds, short_rounds : int
        Rounds, and those of them that went on without somebody.
    late : int
        Answers that came too late to be used.
    forced_rounds : int
        Rounds in which somebody was waited for beyond the patience.
    forced_s : float
        Time of that wait [s].
    """

    rounds: int = 0
    short_rounds: int = 0
    late: int = 0
    forced_rounds: int = 0
    forced_s: float = 0.0

    def describe(self) -> str:
        """One line for the run's notes."""
        return (
            f"stragglers: {self.short_rounds} of {self.rounds} rounds went on without somebody, "
            f"{self.late} answers came too late; somebody was waited for beyond the patience in "
            f"{self.forced_rounds} rounds, {self.forced_s:.3g} s in all"
        )


class PatientRounds:
    """Carries rounds to hosts of which some are slow; a state machine that knows no Ray.

    Parameters
    ----------
    n_hosts : int
        Number of hosts.
    patience : Patience
        Bounds of the wait; with `max_staleness` 0 no round goes on without somebody.
    courier : Courier
        Way to the hosts.
    handle : callable
        The operator's round, see `raygrid.market.staleness.Handle`.
    waits : Waits, optional
        Counts on; by default from zero.
    clock : callable
        Time [s].

    Attributes
    ----------
    waits : Waits
        What came of it so far.
    """

    def __init__(
        self,
        n_hosts: int,
        patience: Patience,
        courier: Courier,
        handle: Handle,
        waits: Waits | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._patience, self._courier, self._clock = patience, courier, clock
        self._book = StaleBook(n_hosts, patience.max_staleness, handle)
        self._owed: dict[int, int] = {}
        self._late_in_a_row: IntArray = np.zeros(n_hosts, dtype=np.int64)
        self.waits = waits or Waits()

    def round(self, outcome: RoundOutcome) -> RoundOutcome:
        """One round: send prices, wait, go on with what there is.

        Parameters
        ----------
        outcome : RoundOutcome
            What opens the round.

        Returns
        -------
        RoundOutcome
            What opens the next one.

        Raises
        ------
        SilentHostError
            Somebody without whom the round cannot go on is silent.
        """
        patience, iteration = self._patience, outcome.messages[0].iteration
        must = self._book.must | (self._late_in_a_row >= LATE_IN_A_ROW)
        answers: dict[int, Aggregate] = {}
        begun, forced = self._clock(), False
        while True:
            self._send(outcome, answers)
            waited = self._clock() - begun
            # Who still owes an earlier answer was not sent these prices.
            asked = {k for k, at in self._owed.items() if at == iteration}
            needed = {k for k in self._owed if must[k]}
            missing = needed | asked if waited < patience.patience_s else needed
            if not missing:
                break
            if waited >= patience.lost_after_s:
                raise SilentHostError(
                    f"host {min(needed)} gave no answer for {patience.lost_after_s:g} s"
                )
            forced = waited >= patience.patience_s
            bound = patience.lost_after_s if forced else patience.patience_s
            for k, answer in self._courier.collect(bound - waited):
                if self._owed.pop(k) == iteration:
                    answers[k] = answer
                    if not forced:
                        self._late_in_a_row[k] = 0
                else:
                    self._book.take_back(k)
                    self._late_in_a_row[k] += 1
                    self.waits.late += 1
        self.waits.rounds += 1
        self.waits.short_rounds += len(answers) < len(must)
        if forced:
            self.waits.forced_rounds += 1
            self.waits.forced_s += waited - patience.patience_s
        return self._book.close(answers)

    def _send(self, outcome: RoundOutcome, answers: dict[int, Aggregate]) -> None:
        """Send the round's prices to everybody who waits for some."""
        for k, message in enumerate(outcome.messages):
            if k not in self._owed and k not in answers:
                self._owed[k] = message.iteration
                self._courier.send(k, self._book.marked(k, message))
