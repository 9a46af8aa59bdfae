"""Transactions on their way: what is known of each, and what to do next. Pure: no chain, no clock.

A flight is one nonce of one sender, with every form that was signed for it (a higher fee makes a
new form), of which at most one can land. Whether one landed is decided by what the chain shows
alone, so the same code serves the first try, a resend, a restart from the journal and a chain that
took blocks back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from raygrid.settlement.chain.base import Receipt, SendOutcome, SendStatus
from raygrid.settlement.journal import JournalEntry


class FlightStatus(StrEnum):
    """What is known of a flight."""

    UNSENT = "unsent"
    """Signed and journaled, or taken back by the chain: to be sent."""
    SENT = "sent"
    """Handed over, in no block seen yet."""
    INCLUDED = "included"
    """In a block that may still be taken back."""
    FINAL = "final"
    """Carried out, under enough blocks."""
    REVERTED = "reverted"
    """In a block, refused by the contract."""
    LOST = "lost"
    """Its nonce is used by a transaction that is none of ours: it can never land."""
    REFUSED = "refused"
    """The chain does not take it."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be done or expected."""
        return self in (self.FINAL, self.REVERTED, self.LOST, self.REFUSED)


@dataclass
class Flight:
    """One nonce of one sender.

    Attributes
    ----------
    sender : bytes
        Address of the signer.
    nonce : int
        Its nonce.
    forms : list of JournalEntry
        Signed forms, the newest last.
    status : FlightStatus
        What is known.
    receipt : Receipt or None
        Of the form that is in a block.
    message : str
        The chain's last words about it.
    """

    sender: bytes
    nonce: int
    forms: list[JournalEntry] = field(default_factory=list)
    status: FlightStatus = FlightStatus.UNSENT
    receipt: Receipt | None = None
    message: str = ""


@dataclass(frozen=True)
class Observation:
    """What a chain shows, nonces read before receipts.

    Attributes
    ----------
    block_number : int
        Its latest block.
    nonces : mapping of bytes to int
        Next nonce of each sender.
    receipts : mapping of bytes to Receipt or None
        By transaction hash, for all `Flights.watched`.
    """

    block_number: int
    nonces: Mapping[bytes, int]
    receipts: Mapping[bytes, Receipt | None]


class Flights:
    """All flights of one stage of a settlement.

    Parameters
    ----------
    confirmations : int
        Blocks that make a result final, its own included; at least 1.
    window : int
        Most flights in no block at the same time.
    """

    def __init__(self, confirmations: int = 1, window: int = 64) -> None:
        if confirmations < 1 or window < 1:
            raise ValueError("confirmations and window are at least 1")
        self._confirmations = confirmations
        self._window = window
        self._flights: dict[tuple[bytes, int], Flight] = {}
        self._by_hash: dict[bytes, Flight] = {}

    def add(self, entry: JournalEntry) -> Flight:
        """Take a signed transaction on, new or from the journal.

        Parameters
        ----------
        entry : JournalEntry
            A journaled form; a second one of a nonce joins the flight of that nonce.
        """
        key = (entry.sender, entry.nonce)
        flight = self._flights.setdefault(key, Flight(entry.sender, entry.nonce))
        flight.forms.append(entry)
        if not flight.status.is_over or flight.status is FlightStatus.REFUSED:
            flight.status = FlightStatus.UNSENT
        self._by_hash[entry.tx_hash] = flight
        return flight

    @property
    def room(self) -> int:
        """How many more may be signed now."""
        waiting = (FlightStatus.UNSENT, FlightStatus.SENT)
        return self._window - sum(f.status in waiting for f in self._flights.values())

    @property
    def failed(self) -> bool:
        """Whether one can never do what it was to do: those after it are likely to fail too."""
        return bool(self.of(FlightStatus.REVERTED, FlightStatus.LOST, FlightStatus.REFUSED))

    def all(self) -> list[Flight]:
        """All of them, in the order in which they were added."""
        return list(self._flights.values())

    @property
    def is_quiet(self) -> bool:
        """Whether every flight is over."""
        return all(flight.status.is_over for flight in self._flights.values())

    def of(self, *statuses: FlightStatus) -> list[Flight]:
        """Flights in one of these states, in the order in which they were added."""
        return [flight for flight in self._flights.values() if flight.status in statuses]

    def to_send(self) -> list[JournalEntry]:
        """Newest form of every flight that is to be handed over, in order."""
        return [flight.forms[-1] for flight in self.of(FlightStatus.UNSENT)]

    def sent(self, outcomes: Iterable[SendOutcome]) -> list[Flight]:
        """Note what the chain made of transactions.

        Parameters
        ----------
        outcomes : iterable of SendOutcome
            Its answers.

        Returns
        -------
        list of Flight
            Those whose fee was too low: they need a form with a higher one.
        """
        underpriced = []
        for outcome in outcomes:
            flight = self._by_hash[outcome.tx_hash]
            flight.message = outcome.message
            if outcome.status is SendStatus.UNDERPRICED:
                underpriced.append(flight)
            elif outcome.status is SendStatus.REFUSED:
                flight.status = FlightStatus.REFUSED
            else:
                # A nonce too low says that something landed; the receipts will say what.
                flight.status = FlightStatus.SENT
        return underpriced

    def doubt(self) -> None:
        """Have everything sent again that is in no block: the same bytes, so at most one lands."""
        for flight in self.of(FlightStatus.SENT, FlightStatus.REFUSED):
            flight.status = FlightStatus.UNSENT

    def watched(self) -> list[bytes]:
        """Hashes whose receipts decide something."""
        return [
            form.tx_hash
            for flight in self._flights.values()
            if not flight.status.is_over
            for form in flight.forms
        ]

    def observe(self, seen: Observation) -> bool:
        """Take in what the chain shows.

        Parameters
        ----------
        seen : Observation
            Nonces and receipts.

        Returns
        -------
        bool
            Whether anything changed.
        """
        changed = False
        for flight in self._flights.values():
            if flight.status.is_over:
                continue
            before = flight.status
            flight.status = self._status(flight, seen)
            changed |= flight.status is not before
        return changed

    def _status(self, flight: Flight, seen: Observation) -> FlightStatus:
        found = (seen.receipts.get(form.tx_hash) for form in flight.forms)
        flight.receipt = next((receipt for receipt in found if receipt is not None), None)
        if flight.receipt is None:
            if seen.nonces[flight.sender] > flight.nonce:
                return FlightStatus.LOST
            if flight.status is FlightStatus.INCLUDED:
                return FlightStatus.UNSENT
            return flight.status
        depth = seen.block_number - flight.receipt.block_number + 1
        if depth < self._confirmations:
            return FlightStatus.INCLUDED
        return FlightStatus.FINAL if flight.receipt.succeeded else FlightStatus.REVERTED
