"""Carries a stage of settlement to its end, from what the chain lacks of it: plan, send, look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from raygrid.settlement.chain.base import ChainDownError, ChainSlowError
from raygrid.settlement.flights import Flight, FlightStatus
from raygrid.settlement.policy import RetryPolicy
from raygrid.settlement.sender import Job, Sender

_Item = TypeVar("_Item")


@dataclass
class Tally:
    """What was sent so far.

    Attributes
    ----------
    transactions : int
        Transactions in blocks, refused ones included.
    gas : int
        What they used.
    gas_by_hash : dict of bytes to int
        Gas of each.
    troubles : list of str
        What went wrong and was mended, or not.
    """

    transactions: int = 0
    gas: int = 0
    gas_by_hash: dict[bytes, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def add(self, flights: Iterable[Flight]) -> None:
        """Count transactions that a sender is done with."""
        for flight in flights:
            if flight.receipt is not None and flight.receipt.tx_hash not in self.gas_by_hash:
                self.transactions += 1
                self.gas += flight.receipt.gas_used
                self.gas_by_hash[flight.receipt.tx_hash] = flight.receipt.gas_used
            if flight.status is not FlightStatus.FINAL:
                step = flight.forms[-1].step
                said = f" ({flight.message})" if flight.message else ""
                self.troubles.append(f"{step}: {flight.status}{said}")


class Stages:
    """Runs stages one after the other.

    A stage is what the chain lacks and the transactions that add it. It is planned from the
    chain's own state each time, so that one that was half done, by this process or another, is
    only completed.

    Parameters
    ----------
    sender : Sender
        Sends.
    policy : RetryPolicy
        How often to plan anew without progress.

    Attributes
    ----------
    tally : Tally
        What was sent.
    """

    def __init__(self, sender: Sender, policy: RetryPolicy) -> None:
        self._sender = sender
        self._policy = policy
        self.tally = Tally()

    def replay(self) -> None:
        """Send what the journal has and the chain lacks."""
        self.tally.add(self._sender.replay())

    def complete(
        self,
        missing: Callable[[], Sequence[_Item]],
        jobs: Callable[[Sequence[_Item]], Iterable[Job]],
        before: Callable[[], None] | None = None,
    ) -> Sequence[_Item]:
        """Send until nothing is missing, or nothing helps.

        Parameters
        ----------
        missing : callable
            What the chain lacks.
        jobs : callable
            Transactions that add it.
        before : callable, optional
            Called before it is planned a second time: what it rests on may have gone as well.

        Returns
        -------
        sequence
            What it still lacks at the end.

        Raises
        ------
        ChainDownError, ChainSlowError
            The chain did not answer from the first question on.
        """
        todo: Sequence[_Item] | None = None
        least: int | None = None
        fruitless = 0
        while True:
            try:
                todo = self._sender.ask(missing)
                if todo and least is not None:
                    # What is on its way already must not be planned a second time.
                    self.replay()
                    if before is not None:
                        before()
                    todo = self._sender.ask(missing)
                if not todo:
                    return todo
                fruitless = 0 if least is None or len(todo) < least else fruitless + 1
                if fruitless > self._policy.rounds:
                    return todo
                least = len(todo)
                self.tally.add(self._sender.run(jobs(todo)))
            except (ChainDownError, ChainSlowError) as error:
                if todo is None:
                    raise
                self.tally.troubles.append(str(error))
                return todo
