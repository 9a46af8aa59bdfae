"""The queue before the chain: by size, by age, bounded, nothing lost and nothing twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.settlement.intake import Intake, IntakePolicy

POLICY = IntakePolicy(trades=100, age_s=2.0, capacity=250)


def test_few_trades_wait_for_their_age() -> None:
    intake: Intake[str] = Intake(POLICY)
    assert intake.due_in_s(0.0) is None
    assert intake.offer("a", 10, 1.0)
    assert intake.due_in_s(1.5) == 1.5
    assert intake.take(1.5) == []
    assert intake.offer("b", 10, 2.9)
    assert intake.due_in_s(3.0) == 0.0
    assert intake.take(3.0) == ["a", "b"]
    assert intake.take(9.0) == []


def test_many_trades_go_at_once() -> None:
    intake: Intake[str] = Intake(POLICY)
    intake.offer("a", 60, 0.0)
    assert intake.take(0.0) == []
    intake.offer("b", 40, 0.0)
    assert intake.take(0.0) == ["a", "b"]


def test_a_full_queue_refuses_until_it_is_emptied() -> None:
    intake: Intake[str] = Intake(POLICY)
    assert intake.offer("a", 200, 0.0)
    assert not intake.offer("b", 51, 0.0)
    assert intake.offer("c", 50, 0.0)
    assert intake.take(0.0) == ["a", "c"]
    assert intake.offer("b", 51, 0.0)


def test_one_larger_than_all_room_gets_it_to_itself() -> None:
    intake: Intake[str] = Intake(POLICY)
    assert intake.offer("huge", 10_000, 0.0)
    assert not intake.offer("a", 1, 0.0)
    assert intake.take(0.0) == ["huge"]


def test_the_end_takes_what_is_not_due() -> None:
    intake: Intake[str] = Intake(POLICY)
    intake.offer("a", 1, 0.0)
    assert intake.take(0.0, everything=True) == ["a"]


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 3), st.booleans()), max_size=40))
def test_everything_comes_out_once_in_order_and_the_bound_holds(
    steps: list[tuple[int, float, bool]],
) -> None:
    intake: Intake[int] = Intake(POLICY)
    now, taken_in, given_out = 0.0, [], []
    for k, (trades, wait, take) in enumerate(steps):
        now += wait
        if intake.offer(k, trades, now):
            taken_in.append(k)
        assert len(intake) <= 1 or intake.waiting_trades <= POLICY.capacity
        if take:
            given_out += intake.take(now)
    given_out += intake.take(now, everything=True)
    assert given_out == taken_in
    assert intake.waiting_trades == 0


@pytest.mark.parametrize("wrong", [{"trades": 0}, {"capacity": 0}, {"age_s": -1.0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        IntakePolicy(**wrong)  # type: ignore[arg-type]
