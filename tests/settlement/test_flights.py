"""Transactions on their way, from what a chain shows alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.settlement.chain.base import Receipt, SendOutcome, SendStatus
from raygrid.settlement.flights import Flights, FlightStatus, Observation
from raygrid.settlement.journal import JournalEntry

SENDER = b"\x01" * 20


def entry(nonce: int, form: int = 0) -> JournalEntry:
    return JournalEntry(f"step:{nonce}", SENDER, nonce, bytes([nonce, form]) * 16, b"raw")


def receipt(of: JournalEntry, block: int, succeeded: bool = True) -> Receipt:
    return Receipt(of.tx_hash, block, b"\0" * 32, 0, succeeded, 21_000, 1, None, ())


def seen(block: int, nonce: int, *receipts: Receipt) -> Observation:
    return Observation(block, {SENDER: nonce}, {r.tx_hash: r for r in receipts})


def sent(flights: Flights, status: SendStatus = SendStatus.ACCEPTED) -> list[object]:
    return list(flights.sent([SendOutcome(status, e.tx_hash) for e in flights.to_send()]))


def statuses(flights: Flights) -> list[FlightStatus]:
    return [flight.status for flight in flights.all()]


def test_the_way_from_signed_to_final() -> None:
    flights = Flights(confirmations=3)
    one = entry(0)
    flights.add(one)
    assert flights.to_send() == [one]
    sent(flights)
    assert flights.to_send() == []
    assert not flights.observe(seen(5, 0))
    assert flights.observe(seen(6, 1, receipt(one, 6)))
    assert statuses(flights) == [FlightStatus.INCLUDED]
    assert not flights.is_quiet
    flights.observe(seen(7, 1, receipt(one, 6)))
    assert not flights.is_quiet
    flights.observe(seen(8, 1, receipt(one, 6)))
    assert statuses(flights) == [FlightStatus.FINAL]
    assert flights.is_quiet
    assert not flights.failed
    assert flights.watched() == []


def test_a_block_taken_back_has_it_sent_again_with_the_same_bytes() -> None:
    flights = Flights(confirmations=2)
    one = entry(0)
    flights.add(one)
    sent(flights)
    flights.observe(seen(1, 1, receipt(one, 1)))
    flights.observe(seen(0, 0))
    assert statuses(flights) == [FlightStatus.UNSENT]
    assert flights.to_send() == [one]


def test_a_nonce_that_somebody_else_used_is_lost() -> None:
    flights = Flights()
    flights.add(entry(0))
    sent(flights)
    flights.observe(seen(1, 1))
    assert statuses(flights) == [FlightStatus.LOST]
    assert flights.failed


def test_a_refusal_of_the_contract_is_over_and_failed() -> None:
    flights = Flights()
    one = entry(0)
    flights.add(one)
    sent(flights)
    flights.observe(seen(1, 1, receipt(one, 1, succeeded=False)))
    assert statuses(flights) == [FlightStatus.REVERTED]
    assert flights.is_quiet
    assert flights.failed


def test_nonce_too_low_may_be_our_own_success() -> None:
    flights = Flights()
    one = entry(0)
    flights.add(one)
    sent(flights, SendStatus.NONCE_TOO_LOW)
    flights.observe(seen(4, 1, receipt(one, 2)))
    assert statuses(flights) == [FlightStatus.FINAL]


def test_either_form_of_a_nonce_may_land() -> None:
    flights = Flights()
    low, high = entry(0), entry(0, form=1)
    flights.add(low)
    assert sent(flights, SendStatus.UNDERPRICED) == flights.all()
    flights.add(high)
    assert flights.to_send() == [high]
    sent(flights)
    assert set(flights.watched()) == {low.tx_hash, high.tx_hash}
    flights.observe(seen(1, 1, receipt(low, 1)))
    assert statuses(flights) == [FlightStatus.FINAL]
    landed = flights.all()[0].receipt
    assert landed is not None
    assert landed.tx_hash == low.tx_hash


def test_doubt_sends_again_what_is_in_no_block() -> None:
    flights = Flights()
    done, waiting, refused = entry(0), entry(1), entry(2)
    for one in (done, waiting, refused):
        flights.add(one)
    flights.sent(
        [
            SendOutcome(SendStatus.ACCEPTED, done.tx_hash),
            SendOutcome(SendStatus.ACCEPTED, waiting.tx_hash),
            SendOutcome(SendStatus.REFUSED, refused.tx_hash, "no"),
        ]
    )
    flights.observe(seen(1, 1, receipt(done, 1)))
    assert flights.failed
    flights.doubt()
    assert flights.to_send() == [waiting, refused]
    assert not flights.failed


def test_the_window_counts_what_is_in_no_block() -> None:
    flights = Flights(window=2)
    assert flights.room == 2
    for nonce in range(2):
        flights.add(entry(nonce))
    sent(flights)
    assert flights.room == 0
    flights.observe(seen(1, 1, receipt(entry(0), 1)))
    assert flights.room == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=12))
def test_what_is_over_stays_so_and_never_goes_out_again(
    looks: list[tuple[int, bool, bool]],
) -> None:
    """Whatever a chain shows, a flight that is final, reverted or lost is not sent again."""
    flights = Flights()
    entries = [entry(nonce) for nonce in range(3)]
    for one in entries:
        flights.add(one)
    over: dict[int, FlightStatus] = {}
    for nonce, landed, succeeded in looks:
        out = {e.nonce for e in flights.to_send()}
        assert not out & over.keys()
        sent(flights)
        shown = [receipt(e, 1, succeeded) for e in entries if landed and e.nonce < nonce]
        flights.observe(seen(1, nonce, *shown))
        flights.doubt()
        for flight in flights.all():
            if flight.nonce in over:
                assert flight.status is over[flight.nonce]
            elif flight.status.is_over:
                over[flight.nonce] = flight.status


@pytest.mark.parametrize(("confirmations", "window"), [(0, 1), (1, 0)])
def test_limits_are_at_least_one(confirmations: int, window: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Flights(confirmations, window)
