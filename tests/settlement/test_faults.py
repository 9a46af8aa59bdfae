"""Faults injected into a settlement: after each, exactly once, money conserved, audit passed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import EndedShortError, InputError
from raygrid.settlement import contract
from raygrid.settlement.audit import RunRecords, audit
from raygrid.settlement.chain.embedded import EmbeddedChain
from raygrid.settlement.chain.keys import Role
from raygrid.settlement.desk import SettledRun, SettlementDesk
from raygrid.settlement.flights import FlightStatus
from raygrid.settlement.history import History
from raygrid.settlement.rules import Tolerance
from raygrid.settlement.sender import Job
from tests.settlement.killed import PERIODS, POINTS, REGISTRY, TRADES, Breaking
from tests.settlement.market import delivery, order

DAY = delivery(REGISTRY, TRADES, PERIODS)


class Killed(BaseException):
    """What ends a settlement here as a kill would: nothing catches it, nothing is saved."""


def check(desk: SettlementDesk, done: SettledRun) -> None:
    """Every trade settled, once; money conserved; the audit finds nothing."""
    deployment = desk.deployment
    assert set(done.tables["trades"]["status"].to_pylist()) == {"settled"}
    assert done.tables["batches"]["sequence"].to_pylist() == list(range(PERIODS))
    assert deployment.ledger.next_sequence() == PERIODS
    held = int(deployment.ledger.balances(len(REGISTRY)).sum())
    assert held + deployment.ledger.balance(contract.NETWORK_ACCOUNT) == (
        deployment.ledger.escrow_micro()
    )
    tables = {n: done.tables[n] for n in ("participants", "trades", "readings", "statements")}
    records = RunRecords.from_tables(**tables, tolerance=Tolerance(5, 15_000))
    view = History(deployment.chain, deployment.ledger.address, deployment.first_block())
    assert audit(records, view, (0, 1, 2)).differences == ()


def settle(desk: SettlementDesk) -> SettledRun:
    desk.prepare()
    desk.settle([DAY])
    return desk.finish(TRADES)


def complete(run: Path) -> None:
    """Another process takes the run up."""
    with SettlementDesk(order(run, REGISTRY)) as desk:
        check(desk, settle(desk))


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_process_is_completed_by_the_next(tmp_path: Path, point: str) -> None:
    """SIGKILL around the seventh send, which carries the batches, or its receipts."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.settlement.killed", str(tmp_path), point, "7"],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    complete(tmp_path)


@given(st.lists(st.tuples(st.sampled_from(POINTS), st.integers(1, 9)), max_size=4))
@settings(max_examples=12, deadline=None)
def test_killed_anywhere_and_again_it_completes(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[str, int]]
) -> None:
    run = tmp_path_factory.mktemp("run")

    def end() -> None:
        raise Killed

    for point, call in kills:
        opened: list[Any] = []

        def open_it(
            spec: str, folder: Path, point: str = point, call: int = call, opened: Any = opened
        ) -> Any:
            chain = EmbeddedChain(folder / "chain_state.bin")
            # A process that is killed saves nothing.
            chain.close = chain._release  # type: ignore[method-assign]
            opened.append(chain)
            return Breaking(chain, point, call, end)

        try:
            with SettlementDesk(order(run, REGISTRY), open_it=open_it) as desk:
                settle(desk)
        except Killed:
            pass
    complete(run)


def test_a_journal_that_lost_its_end_is_completed(tmp_path: Path) -> None:
    complete(tmp_path)
    journal = tmp_path / "chain" / "journal"
    data = bytearray(journal.read_bytes())
    data[-10] ^= 1
    journal.write_bytes(data)
    complete(tmp_path)


def test_a_journal_tampered_with_in_the_middle_is_refused(tmp_path: Path) -> None:
    complete(tmp_path)
    journal = tmp_path / "chain" / "journal"
    data = bytearray(journal.read_bytes())
    data[200] ^= 1
    journal.write_bytes(data)
    with pytest.raises(InputError, match="changed at byte"):
        complete(tmp_path)


def test_the_contract_refuses_what_is_wrong_and_nothing_moves(tmp_path: Path) -> None:
    """A duplicate batch, one out of order, a tampered byte, a second reading, a lone operator."""
    with SettlementDesk(order(tmp_path, REGISTRY)) as desk:
        done = settle(desk)
        deployment = desk.deployment
        batches = [outcome.batch for outcome in desk.outcomes()]
        payload, to = batches[0].payload, deployment.ledger.address
        tampered = payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
        other_period = payload[:4] + (99).to_bytes(4, "big") + payload[8:]
        again = [batches[0].readings_hash]
        wrong = {
            "duplicate": (Role.OPERATOR, contract.settle_call([payload], PERIODS)),
            "replayed number": (Role.OPERATOR, contract.settle_call([other_period], 0)),
            "out of order": (Role.OPERATOR, contract.settle_call([other_period], PERIODS + 1)),
            "tampered": (Role.OPERATOR, contract.settle_call([tampered], PERIODS)),
            "no reading": (Role.OPERATOR, contract.settle_call([other_period], PERIODS)),
            "second reading": (Role.METER_AUTHORITY, contract.commit_call([0], [0], again)),
            "lone operator": (Role.OPERATOR, contract.commit_call([0], [99], again)),
            "other's batch": (Role.METER_AUTHORITY, contract.settle_call([payload], PERIODS)),
        }
        for name, (role, data) in wrong.items():
            flights = deployment.sender.run([Job(f"wrong:{name}", role, to, data, 3_000_000)])
            assert flights[0].status is FlightStatus.REVERTED, name
        check(desk, done)


def test_two_settlements_of_one_run_at_once(tmp_path: Path) -> None:
    first = SettlementDesk(order(tmp_path, REGISTRY))
    with pytest.raises(EndedShortError, match="another process is settling"):
        SettlementDesk(order(tmp_path, REGISTRY))
    with first:
        check(first, settle(first))


@pytest.mark.parametrize("call", [1, 2, 3])
def test_two_settlements_with_the_same_keys_on_one_chain(tmp_path: Path, call: int) -> None:
    """The second settles everything while the first is about to send: its nonces are taken, its
    numbers are used, and it ends by finding all of it done."""
    chain = EmbeddedChain()
    chain.close = lambda: None  # type: ignore[method-assign]
    runs = tmp_path / "one", tmp_path / "two"
    with SettlementDesk(order(runs[0], REGISTRY), open_it=lambda *_: chain) as first:
        first.prepare()
    shutil.copytree(runs[0], runs[1])

    def rival() -> None:
        with SettlementDesk(order(runs[1], REGISTRY), open_it=lambda *_: chain) as second:
            check(second, settle(second))

    breaking: Any = Breaking(chain, "before_send", call, rival)
    with SettlementDesk(order(runs[0], REGISTRY), open_it=lambda *_: breaking) as first:
        check(first, settle(first))


def test_a_lost_chain_is_told_apart_from_a_short_one(tmp_path: Path) -> None:
    """A chain saved before the batches is completed from the journal."""
    with SettlementDesk(order(tmp_path, REGISTRY)) as desk:
        desk.prepare()
        desk.deployment.chain.save()
        early = (tmp_path / "chain" / "chain_state.bin").read_bytes()
        desk.settle([DAY])
    (tmp_path / "chain" / "chain_state.bin").write_bytes(early)
    complete(tmp_path)


def test_a_chain_named_by_mistake_is_refused(tmp_path: Path) -> None:
    complete(tmp_path)

    def other(_: str, folder: Path) -> Any:
        return EmbeddedChain(chain_id=5)

    with pytest.raises(InputError, match="id 5"):
        SettlementDesk(order(tmp_path, REGISTRY), open_it=other)
