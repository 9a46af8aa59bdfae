"""A market settled on the embedded chain, from trades to tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raygrid.errors import EndedShortError, InputError
from raygrid.settlement.audit import RunRecords, audit
from raygrid.settlement.chain.base import Chain
from raygrid.settlement.chain.embedded import EmbeddedChain
from raygrid.settlement.chain.identity import IDENTITY_FILE
from raygrid.settlement.deployment import take_over
from raygrid.settlement.desk import SettledRun, SettlementDesk, unsettled_run
from raygrid.settlement.evidence import AuditReport
from raygrid.settlement.history import History
from raygrid.settlement.plan import Registry
from raygrid.settlement.rules import Tolerance
from tests.settlement.market import delivery, order, trades_table

REGISTRY = Registry.of(range(7))
PERIODS = 3


def records(done: SettledRun) -> RunRecords:
    tables = {n: done.tables[n] for n in ("participants", "trades", "readings", "statements")}
    return RunRecords.from_tables(**tables, tolerance=Tolerance(5, 15_000))


def audited(desk: SettlementDesk, done: SettledRun) -> AuditReport:
    deployment = desk.deployment
    view = History(deployment.chain, deployment.ledger.address, deployment.first_block())
    ids = done.tables["trades"]["trade_id"].to_pylist()
    return audit(records(done), view, tuple(ids[:5]))


def settle(
    run: Path, trades: pa.Table, *settings: str, p_factor: float = 1.0, redeploy: bool = False
) -> tuple[SettledRun, AuditReport]:
    day = delivery(REGISTRY, trades, PERIODS)
    if p_factor != 1.0:
        day.p_kw[3] *= p_factor
    with SettlementDesk(replace(order(run, REGISTRY, *settings), redeploy=redeploy)) as desk:
        desk.prepare()
        desk.settle([day])
        done = desk.finish(trades)
        return done, audited(desk, done)


def statuses(done: SettledRun) -> dict[str, int]:
    counts = pc.value_counts(done.tables["trades"]["status"])
    return {row["values"]: row["counts"] for row in counts.to_pylist()}


@pytest.mark.parametrize("locational", [False, True])
def test_an_honest_market_settles_whole_and_its_audit_passes(
    tmp_path: Path, locational: bool
) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=3, locational=locational)
    done, report = settle(tmp_path, trades)
    assert statuses(done) == {"settled": len(trades)}
    assert done.reason == ""
    assert done.notes == ()
    assert report.differences == ()
    assert len(report.proven) == 5
    statement = done.tables["statements"]
    moved = sum(
        pc.sum(statement[name]).as_py() * sign
        for name, sign in (("earned_micro", 1), ("paid_micro", -1), ("network_micro", 1))
    )
    assert moved == 0
    assert done.summary.settled == len(trades)
    assert done.summary.batches == PERIODS
    assert done.summary.gas_per_trade > 0
    assert sum(done.tables["batches"]["gas"].to_pylist()) <= done.summary.gas_total


def test_again_changes_nothing_and_sends_nothing(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=3)
    first, _ = settle(tmp_path, trades)
    again, report = settle(tmp_path, trades)
    for name, table in first.tables.items():
        assert again.tables[name].equals(table), name
    assert again.summary.transactions == first.summary.transactions
    assert report.ok


def test_a_meter_that_shows_half_voids_its_own_trades_alone(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=4)
    done, report = settle(tmp_path, trades, p_factor=0.5)
    table = done.tables["trades"]
    own = np.array(table["seller_id"]) == 3
    own |= np.array(table["buyer_id"]) == 3
    rejected = np.array([status == "rejected" for status in table["status"].to_pylist()])
    np.testing.assert_array_equal(rejected, own)
    assert own.any()
    assert set(table.filter(own)["reason"].to_pylist()) <= {
        "seller 3: reading differs from trades",
        "buyer 3: reading differs from trades",
    }
    assert table["sequence"].null_count == 0
    assert report.ok
    assert done.summary.rejected == own.sum()


def test_a_refused_report_says_why(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=4)
    attack = "metering.attacks=[{kind: forged_identity, prosumers: [3]}]"
    done, report = settle(tmp_path, trades, attack)
    said = set(done.tables["trades"]["reason"].to_pylist()) - {""}
    assert said
    assert all("not signed by the registered meter" in text for text in said)
    assert report.ok


def test_a_participant_without_funds_has_its_purchases_rejected(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=5)
    done, report = settle(tmp_path, trades, "settlement.deposit=0.0")
    said = set(done.tables["trades"]["reason"].to_pylist()) - {""}
    assert any("not enough in escrow" in text for text in said)
    assert report.ok
    closing = done.tables["statements"]["closing_micro"].to_numpy()
    assert (closing >= 0).all()


def test_a_deposit_is_the_opening_balance(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=5)
    done, report = settle(tmp_path, trades, "settlement.deposit=1000.0")
    assert set(done.tables["statements"]["opening_micro"].to_pylist()) == {10**9}
    assert statuses(done) == {"settled": len(trades)}
    assert report.ok


def test_a_chain_that_lost_the_contract_ends_short_until_deployed_anew(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS, seed=6)
    first, _ = settle(tmp_path, trades)
    (tmp_path / "chain" / "chain_state.bin").unlink()
    with pytest.raises(EndedShortError, match="lost the contract"):
        settle(tmp_path, trades)
    again, report = settle(tmp_path, trades, redeploy=True)
    assert again.summary.settled == first.summary.settled
    assert report.ok


def test_days_in_a_row_settle_on_one_deployment(tmp_path: Path) -> None:
    days = [trades_table(REGISTRY, PERIODS, seed=k, first_period=PERIODS * k) for k in range(3)]
    with SettlementDesk(order(tmp_path, REGISTRY)) as desk:
        desk.prepare()
        desk.settle([delivery(REGISTRY, days[0], PERIODS)])
        desk.settle([delivery(REGISTRY, days[k], PERIODS, PERIODS * k) for k in (1, 2)])
        done = desk.finish(pa.concat_tables(days))
        report = audited(desk, done)
    assert statuses(done) == {"settled": sum(map(len, days))}
    assert done.tables["batches"]["sequence"].to_pylist() == list(range(3 * PERIODS))
    assert report.ok


def test_a_run_that_goes_on_with_another_settles_nothing_twice(tmp_path: Path) -> None:
    """On a node that outlives runs: the contract is the same, and what it has is only read back."""
    days = [trades_table(REGISTRY, PERIODS, seed=k, first_period=PERIODS * k) for k in range(2)]
    deliveries = [delivery(REGISTRY, days[k], PERIODS, PERIODS * k) for k in range(2)]
    chain, urls = EmbeddedChain(), "http://node:8545"

    def opened(spec: str, folder: Path) -> Chain:
        assert spec == urls
        return chain

    def desk_of(run: Path) -> SettlementDesk:
        return SettlementDesk(order(run, REGISTRY, chain=urls), open_it=opened)

    one, other = tmp_path / "one", tmp_path / "other"
    with desk_of(one) as desk:
        desk.prepare()
        desk.settle(deliveries[:1])
        contract, height = desk.deployment.ledger.address, chain.block_number()
        other.mkdir()
        with pytest.raises(EndedShortError, match="another process is settling"):
            take_over(one / "chain", other / "chain")
    assert not take_over(tmp_path / "none" / "chain", other / "chain")
    (other / "chain").rmdir()
    assert take_over(one / "chain", other / "chain")
    with desk_of(other) as desk:
        desk.prepare()
        desk.settle(deliveries[:1])
        assert desk.deployment.ledger.address == contract
        assert chain.block_number() == height
        desk.settle(deliveries[1:])
        done = desk.finish(pa.concat_tables(days))
        assert desk.deployment.ledger.next_sequence() == 2 * PERIODS
        report = audited(desk, done)
    assert statuses(done) == {"settled": sum(map(len, days))}
    assert report.ok


def test_other_tolerances_than_the_contracts_are_refused(tmp_path: Path) -> None:
    trades = trades_table(REGISTRY, PERIODS)
    settle(tmp_path, trades)
    with pytest.raises(InputError, match="the contract's tolerance"):
        settle(tmp_path, trades, "metering.tolerance_wh=6")


def test_one_key_for_two_roles_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("OPERATOR", "METER_AUTHORITY"):
        monkeypatch.setenv(f"RAYGRID_{role}_KEY", "11" * 32)
    with pytest.raises(InputError, match="the same key"):
        settle(tmp_path, trades_table(REGISTRY, PERIODS))


def test_a_token_that_is_no_contract_is_refused_and_nothing_sent(tmp_path: Path) -> None:
    token = "0x" + "12" * 20
    with pytest.raises(InputError, match="no contract"):
        settle(tmp_path, trades_table(REGISTRY, PERIODS), f"settlement.token='{token}'")
    assert not (tmp_path / "chain" / IDENTITY_FILE).exists()


def test_unsettled_trades_say_why() -> None:
    trades = trades_table(REGISTRY, PERIODS)
    done = unsettled_run("http://user:secret@node:8545/key", trades, "the chain is down")
    assert statuses(done) == {"unsettled": len(trades)}
    assert done.summary.failed == len(trades)
    assert done.summary.chain == "http://node:8545"
