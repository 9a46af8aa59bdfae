"""Sending: each job lands at most once, whatever the chain does, and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.settlement.chain.base import ChainDownError, Fees
from raygrid.settlement.chain.keys import Role, development_key, sign_transaction
from raygrid.settlement.flights import FlightStatus
from raygrid.settlement.journal import Journal
from raygrid.settlement.policy import RetryDecision, RetryPolicy
from raygrid.settlement.sender import Job, Sender, raise_fee
from tests.settlement.scripted import ScriptedChain, decode

POLICY = RetryPolicy(patience_s=0.002, resends=6, first_poll_s=0.0005, longest_poll_s=0.001)
KEYS = {role: development_key(role) for role in Role}


def jobs(n: int, first: int = 0) -> list[Job]:
    return [
        Job(f"job:{k}", Role.OPERATOR, b"\x09" * 20, k.to_bytes(4, "big"), 50_000)
        for k in range(first, first + n)
    ]


def datas(n: int, first: int = 0) -> list[bytes]:
    return [job.data for job in jobs(n, first)]


@pytest.fixture
def open_sender(tmp_path: Path) -> Iterator[Callable[..., Sender]]:
    with Journal(tmp_path / "journal") as journal:

        def make(chain: object, **options: object) -> Sender:
            return Sender(chain, journal, KEYS, POLICY, **options)  # type: ignore[arg-type]

        yield make


def test_jobs_land_in_order_in_groups_that_are_journaled_once(open_sender) -> None:
    chain = ScriptedChain()
    sender = open_sender(chain)
    flights = sender.run(jobs(40))
    assert chain.mined == datas(40)
    assert {flight.status for flight in flights} == {FlightStatus.FINAL}
    assert sender.journal.syncs == 3  # 16 + 16 + 8
    assert [entry.step for entry in sender.journal.entries] == [job.step for job in jobs(40)]


@pytest.mark.parametrize(
    "fault", ["down", "slow", "answer_lost", "drop", "underpriced", "reorg", "refuse"]
)
def test_one_fault_is_mended(open_sender, fault: str) -> None:
    chain = ScriptedChain(["", fault])
    flights = open_sender(chain).run(jobs(40))
    landed = [flight for flight in flights if flight.status is FlightStatus.FINAL]
    if fault == "refuse":
        # What the chain will not take ends the run of jobs; the rest is planned anew by others.
        assert len(landed) == len(chain.mined) < 40
    else:
        assert chain.mined == datas(40)
        assert len(landed) == 40


def test_a_nonce_used_by_somebody_else_ends_the_run_of_jobs(open_sender) -> None:
    chain = ScriptedChain(["", "taken"])
    flights = open_sender(chain).run(jobs(20))
    assert chain.mined[:16] == datas(16)
    assert flights[16].status is FlightStatus.LOST
    assert chain.mined[16] == b"other"


def test_a_revert_stops_the_signing_of_more(open_sender) -> None:
    chain = ScriptedChain(fails=lambda data: data == datas(1)[0])
    flights = open_sender(chain, window=4).run(jobs(50))
    assert flights[0].status is FlightStatus.REVERTED
    assert len(flights) < 50


def test_a_chain_that_stays_down_is_given_up_and_says_so(open_sender) -> None:
    chain = ScriptedChain(["down"] * 10_000)
    with pytest.raises(ChainDownError):
        open_sender(chain).run(jobs(1))
    assert chain.mined == []


def test_a_chain_that_forgets_for_ever_is_given_up(open_sender) -> None:
    chain = ScriptedChain(["drop"] * 10_000)
    flights = open_sender(chain).run(jobs(1))
    assert [flight.status for flight in flights] == [FlightStatus.SENT]


def test_replay_sends_only_what_the_chain_lacks(open_sender) -> None:
    chain = ScriptedChain()
    sender = open_sender(chain)
    sender.run(jobs(5))
    chain.blocks = chain.blocks[:3]
    flights = sender.replay()
    assert len(flights) == 2
    assert chain.mined == datas(5)
    assert len(sender.journal.entries) == 5
    assert sender.replay() == []


def test_replay_rebuilds_an_empty_chain(open_sender) -> None:
    old = ScriptedChain()
    sender = open_sender(old)
    sender.run(jobs(40))
    sender.chain = new = ScriptedChain()
    sender.replay()
    assert new.mined == old.mined == datas(40)


def test_a_node_of_ours_that_died_is_started_again_and_given_what_it_lost(open_sender) -> None:
    old, new = ScriptedChain(), ScriptedChain()
    sender = open_sender(old, reopen=lambda: new)
    sender.run(jobs(3))
    new.blocks = old.blocks[:2]
    old.down = 10**9
    flights = sender.run(jobs(3, first=3))
    assert new.mined == datas(6)
    assert [flight.status for flight in flights] == [FlightStatus.FINAL] * 3


FAULTS = ["", "down", "slow", "answer_lost", "drop", "underpriced", "reorg", "taken", "refuse"]


@given(st.lists(st.sampled_from(FAULTS), max_size=8), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_no_job_lands_twice_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, faults: list[str], n: int
) -> None:
    chain = ScriptedChain(faults)
    with Journal(tmp_path_factory.mktemp("run") / "journal") as journal:
        sender = Sender(chain, journal, KEYS, POLICY, window=8)  # type: ignore[arg-type]
        flights = sender.run(jobs(n))
        ours = [data for data in chain.mined if data != b"other"]
        assert len(set(ours)) == len(ours)
        assert set(ours) <= set(datas(n))
        if "taken" not in faults:
            assert ours == datas(n)[: len(ours)]
        final = [f.forms[0].raw for f in flights if f.status is FlightStatus.FINAL]
        # Blocks taken back after they were final are found by reading the contract, not here.
        if "reorg" not in faults:
            assert [decode(raw)[3] for raw in final] == ours


def test_raising_a_fee_keeps_all_else() -> None:
    key = KEYS[Role.OPERATOR]
    chain = ScriptedChain()
    old = sign_transaction(key, chain_id=1, nonce=7, gas=99, to=None, data=b"abc", max_fee_wei=100)
    new = raise_fee(old.raw, key, chain.fees())
    assert decode(new.raw) == (key.address, 7, 125, b"abc")
    assert decode(raise_fee(old.raw, key, Fees(1000, 5)).raw)[2] == 2005


def test_the_policy_waits_then_sends_again_then_gives_up() -> None:
    policy = RetryPolicy(patience_s=2.0, resends=1)
    assert policy.decide(1.9, 0) is RetryDecision.WAIT
    assert policy.decide(2.0, 0) is RetryDecision.RESEND
    assert policy.decide(2.0, 1) is RetryDecision.GIVE_UP
    assert policy.poll_s(0) == policy.first_poll_s
    assert policy.poll_s(10_000) == policy.longest_poll_s
    assert RetryPolicy.fitting(True).patience_s < RetryPolicy.fitting(False).patience_s
