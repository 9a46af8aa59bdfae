"""The settlement actor: beside the market, bounded, and brought back after a death."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest

from actors.errors import LostStateError
from actors.settlement import SettlementActor
from actors.settling import RestartPolicy, Settling, chain_of_run
from raygrid.errors import EndedShortError, InputError
from raygrid.scenario.settlement import Settlement
from raygrid.settlement.desk import SettledRun
from raygrid.settlement.intake import IntakePolicy
from raygrid.settlement.plan import Registry
from tests.settlement.market import delivery, order, trades_table

REGISTRY = Registry.of(range(6))
PERIODS = 2
DAYS = [trades_table(REGISTRY, PERIODS, seed=k, first_period=PERIODS * k) for k in range(4)]
ALL = pa.concat_tables(DAYS)


def day(k: int):
    return delivery(REGISTRY, DAYS[k], PERIODS, PERIODS * k)


def settled(done: SettledRun) -> int:
    return done.tables["trades"]["status"].to_pylist().count("settled")


def test_days_settle_as_they_are_offered(tmp_path: Path) -> None:
    actor = SettlementActor(IntakePolicy(age_s=0.0))
    actor.open(order(tmp_path, REGISTRY))
    for k in range(4):
        assert actor.offer(day(k))
        assert actor.offer(day(k))  # again does no harm
    done = actor.finish(ALL)
    assert settled(done) == len(ALL)
    assert done.tables["batches"].num_rows == 4 * PERIODS


def test_a_full_queue_takes_no_more_until_it_is_worked_off(tmp_path: Path) -> None:
    actor = SettlementActor(IntakePolicy(trades=10**6, age_s=3600.0, capacity=len(DAYS[0])))
    actor.open(order(tmp_path, REGISTRY))
    assert actor.offer(day(0))
    assert not actor.offer(day(1))
    done = actor.finish(ALL)
    assert settled(done) == len(DAYS[0])


def test_an_actor_that_was_not_opened_says_so(tmp_path: Path) -> None:
    actor = SettlementActor()
    with pytest.raises(LostStateError):
        actor.offer(day(0))
    with pytest.raises(LostStateError):
        actor.finish(ALL)


def test_errors_travel_as_plain_ones(tmp_path: Path) -> None:
    first = SettlementActor()
    first.open(order(tmp_path, REGISTRY))
    second = SettlementActor()
    with pytest.raises(EndedShortError, match="another process is settling") as caught:
        second.open(order(tmp_path, REGISTRY))
    assert type(caught.value) is EndedShortError
    first.offer(day(0))
    assert settled(first.finish(ALL)) == len(DAYS[0])
    with pytest.raises(InputError, match="tolerance"):
        second.open(order(tmp_path, REGISTRY, "metering.tolerance_wh=7"))


def test_which_chain() -> None:
    auto = Settlement()
    assert chain_of_run(None, auto, 25) == ("embedded", "")
    assert chain_of_run("none", auto, 25) == (None, "")
    chain, note = chain_of_run(None, auto, 2001)
    assert chain is None
    assert "2001 prosumers are more than 2000" in note
    assert chain_of_run("embedded", auto, 30_000)[0] is None
    with pytest.raises(InputError, match="names no chain"):
        chain_of_run("geth", auto, 25)
    with pytest.raises(InputError, match="nobody listens"):
        chain_of_run("http://127.0.0.1:9", auto, 25)
    with pytest.raises(InputError, match="holds no token"):
        chain_of_run(None, Settlement(token="0x" + "11" * 20), 25)


def test_what_the_program_itself_raises_is_not_tried_again() -> None:
    policy = RestartPolicy(restarts=2)
    assert policy.goes_on(LostStateError(), 2)
    assert not policy.goes_on(LostStateError(), 3)
    assert not policy.goes_on(ValueError(), 1)


@pytest.mark.ray
def test_a_killed_actor_comes_back_and_completes_each_day_once(cluster, tmp_path: Path) -> None:
    """Killed before it was offered a day, in the middle of one, and after all of them."""
    with Settling(order(tmp_path, REGISTRY), IntakePolicy(age_s=0.0)) as settling:
        lives = set()
        for k in range(3):
            life, pid = settling.pulse()
            lives.add(life)
            if k == 1:
                settling.offer(day(k))
                os.kill(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
                settling.offer(day(k))
        time.sleep(0.1)
        os.kill(settling.pulse()[1], signal.SIGKILL)
        settling.offer(day(3))
        done = settling.finish(ALL)
    assert len(lives) == 3
    assert settled(done) == len(ALL)
    assert done.tables["batches"]["sequence"].to_pylist() == list(range(4 * PERIODS))


@pytest.mark.ray
def test_an_actor_that_keeps_dying_ends_short(cluster, tmp_path: Path) -> None:
    with Settling(order(tmp_path, REGISTRY), policy=RestartPolicy(restarts=0)) as settling:
        os.kill(settling.pulse()[1], signal.SIGKILL)
        with pytest.raises(EndedShortError, match="died for good"):
            settling.offer(day(0))


@pytest.mark.ray
def test_errors_of_the_desk_reach_the_driver_as_they_are(cluster, tmp_path: Path) -> None:
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "journal").write_bytes(b"something else altogether")
    with Settling(order(tmp_path, REGISTRY)) as settling:
        with pytest.raises(InputError, match="no journal of raygrid") as caught:
            settling.pulse()
        assert type(caught.value) is InputError
