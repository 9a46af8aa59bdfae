"""Stages of a round: a clock in every actor, off until asked."""

from __future__ import annotations

import time

import pytest

from actors.benchmarks.profile import clearing_laps, stages_ms
from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.session import Session
from actors.stages import Stage, StageClock
from raygrid.market.clearing import ClearingOptions
from tests.cases import small_case


def test_a_clock_that_is_off_notes_nothing() -> None:
    clock = StageClock()
    clock.lap(Stage.WAIT)
    clock.end_round()
    assert clock.rounds == ()


def test_laps_of_a_stage_add_up_within_a_round() -> None:
    clock = StageClock()
    clock.turn(True)
    started = time.perf_counter()
    for stage in (Stage.WAIT, Stage.TRANSFER, Stage.WAIT):
        time.sleep(0.002)
        clock.lap(stage)
    passed = time.perf_counter() - started
    clock.end_round()
    clock.lap(Stage.SOLVE)
    clock.end_round()
    first, second = clock.rounds
    assert first[Stage.WAIT] > 0.0039
    assert sum(first.values()) == pytest.approx(passed, rel=0.05)
    assert list(second) == [Stage.SOLVE]
    clock.turn(False)
    clock.lap(Stage.WAIT)
    clock.end_round()
    assert clock.rounds == ()


def test_the_slowest_host_s_solve_is_taken_out_of_the_operator_s_wait() -> None:
    fast = [{Stage.WAIT: 0.006, Stage.SOLVE: 0.001, Stage.TRANSFER: 0.0}]
    slow = [{Stage.WAIT: 0.002, Stage.SOLVE: 0.004, Stage.TRANSFER: 0.001}]
    operator = [
        {Stage.TRANSFER: 0.001, Stage.WAIT: 0.005, Stage.PROJECT: 0.002, Stage.REPORT: 0.0005}
    ]
    (found,) = stages_ms([fast, slow, operator])
    assert found == pytest.approx({"solve": 4, "transfer": 2, "project": 2, "report": 0.5})
    assert sum(found.values()) == pytest.approx(1e3 * sum(operator[0].values()))


@pytest.mark.ray
def test_stages_fill_the_round_and_change_no_bit() -> None:
    options = ClearingOptions()
    case = small_case()
    with (
        Session(ClusterOptions("local")) as session,
        session.market(case, PlacementPolicy.parse("2")) as market,
    ):
        before = market.clear(options)
        laps, _ = clearing_laps(market, options)
        after = market.clear(options)
        assert market.noted_stages() == [(), (), ()]
    assert len(laps) == 3
    assert all(len(rounds) == before.iterations - 2 for rounds in laps)
    stages = [set(rounds[0]) for rounds in laps]
    assert stages[:2] == 2 * [{Stage.WAIT, Stage.TRANSFER, Stage.SOLVE}]
    assert stages[2] == {Stage.WAIT, Stage.TRANSFER, Stage.PROJECT, Stage.REPORT}
    whole = [sum(sum(r.values()) for r in rounds) for rounds in laps]
    assert whole[0] == pytest.approx(whole[2], rel=0.2, abs=0.05)
    assert before.welfare == after.welfare
