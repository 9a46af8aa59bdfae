"""`raygrid settle` and `raygrid audit` on a run that is stored."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from raygrid.cli import cli
from raygrid.errors import EndedShortError, InputError
from raygrid.market.clearing import ClearingOptions
from raygrid.market.marketplace import match_trades
from raygrid.market.session import clear, local_exchange
from raygrid.results import frames
from raygrid.results.files import RunStatus
from raygrid.results.reader import RunReader
from raygrid.results.store import RunInfo, RunWriter
from raygrid.results.summary import Seconds, Summary, clearing_summary
from raygrid.results.update import UPDATE, RunUpdate
from raygrid.scenario.build import build_case
from raygrid.scenario.load import dump_resolved, load_scenario
from raygrid.scenario.tables import population_tables
from raygrid.settlement.chain.nodes import find_anvil
from raygrid.settlement.deployment import LostContractError
from raygrid.settlement.stored import audit_stored, settle_stored


@pytest.fixture(scope="module")
def cleared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny scenario, cleared in this process and not settled."""
    out = tmp_path_factory.mktemp("runs")
    scenario, base_dir = load_scenario("tiny", settings=("settlement.chain=none",))
    case = build_case(scenario, base_dir=base_dir)
    exchange = local_exchange(case, ClearingOptions())
    result = clear(case, ClearingOptions(), exchange)
    block = exchange.blocks[0]
    ((_, _, dispatch),) = block.final_chunks(exchange.finish()[0].messages[0])
    by_id = np.argsort(block.population.prosumer_id)
    dispatch = dispatch.take(by_id)
    info = RunInfo("raygrid simulate tiny", case.period_hours, 1, True, case.currency)
    with RunWriter(out, "tiny", info) as writer:
        writer.write_scenario(dump_resolved(scenario, base_dir))
        for name, table in population_tables(case).items():
            writer.write_table(name, table)
        writer.write_table("flows", frames.flows_table(case.network, result))
        writer.write_table("prices", frames.prices_table(case.network, result))
        schedule = frames.schedule_table(case.population, case.network.bus_id, dispatch)
        grid = frames.grid_schedule_table(result.grid_kw, 1)
        keys = [("prosumer_id", "ascending"), ("period", "ascending")]
        writer.write_table("schedule", pa.concat_tables([schedule, grid]).sort_by(keys))
        trades = match_trades(case, result, dispatch.p_kw, scenario.market).trades
        writer.write_table("trades", trades.table())
        writer.write_table("convergence", frames.convergence_table(result.records))
        figures = clearing_summary(case, result, True, 0.0)
        writer.write_summary(
            Summary(
                "tiny", writer.run_id, "ok", len(case.population), 1, case.n_periods, 5, 4,
                figures, None, Seconds(0, 0, 0, 0),
            )
        )  # fmt: skip
        writer.finish(RunStatus.OK, {}, notes=())
    return writer.path


@pytest.fixture
def run(cleared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cleared, tmp_path / "run"))


def statuses(run: Path) -> set[str]:
    return set(RunReader(run).read_table("trades")["status"].to_pylist())


def test_a_stored_run_is_settled_audited_and_settled_again(run: Path) -> None:
    done = settle_stored(run, "embedded")
    assert statuses(run) == {"settled"}
    summary: Any = RunReader(run).summary
    assert summary["settlement"]["settled"] == done.summary.settled > 0
    assert summary["status"] == "ok"
    RunReader(run).verify()
    assert audit_stored(run).differences == ()
    before = {p.name: p.read_bytes() for p in run.glob("*.parquet")}
    settle_stored(run)
    assert {p.name: p.read_bytes() for p in run.glob("*.parquet")} == before
    found = audit_stored(run, prove=(0, 5))
    assert found.report.proven == (0, 5)


def test_a_run_that_names_no_chain_asks_for_one(run: Path) -> None:
    with pytest.raises(InputError, match="give one with --chain"):
        settle_stored(run)
    with pytest.raises(InputError, match="names no chain"):
        settle_stored(run, "geth")
    with pytest.raises(InputError, match="was not settled"):
        audit_stored(run)


def test_a_lost_chain_leaves_all_unsettled_until_deployed_anew(run: Path) -> None:
    settle_stored(run, "embedded")
    (run / "chain" / "chain_state.bin").unlink()
    with pytest.raises(LostContractError, match="redeploy"):
        settle_stored(run)
    assert statuses(run) == {"unsettled"}
    assert RunReader(run).status is RunStatus.ENDED_SHORT
    settle_stored(run, redeploy=True)
    assert statuses(run) == {"settled"}
    assert RunReader(run).status is RunStatus.OK
    assert audit_stored(run).differences == ()


def test_an_audit_finds_a_trade_that_was_changed_with_its_hashes(run: Path) -> None:
    settle_stored(run, "embedded")
    trades = RunReader(run).read_table("trades")
    energy = trades["energy_wh"].to_pylist()
    energy[3] += 1
    change = RunUpdate(run)
    at = trades.column_names.index("energy_wh")
    change.write_table("trades", trades.set_column(at, "energy_wh", pa.array(energy)))
    change.commit()
    assert audit_stored(run).differences != ()


def test_a_change_that_was_interrupted_is_finished_first(run: Path) -> None:
    settle_stored(run, "embedded")
    shutil.copytree(run, run / UPDATE, ignore=lambda *_: {"chain", "report.html"})
    with pytest.raises(InputError, match="interrupted"):
        audit_stored(run)
    settle_stored(run)
    assert audit_stored(run).differences == ()


def test_commands_and_exit_codes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["raygrid"])
    result = CliRunner().invoke(cli, ["settle", str(run), "--chain", "embedded"])
    assert result.exit_code == 0, result.output
    assert "trades settled, 0 rejected, 0 unsettled" in result.output
    result = CliRunner().invoke(cli, ["audit", str(run), "--trade", "7"], standalone_mode=False)
    assert result.return_value == 0
    assert "1 trades proven by the contract" in result.output
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["seconds"]["settle"] > 0
    chain = run / "chain" / "chain_state.bin"
    chain.unlink()
    result = CliRunner().invoke(cli, ["audit", str(run)], standalone_mode=False)
    assert isinstance(result.exception, InputError | EndedShortError)


@pytest.mark.optional
def test_anvil_is_started_for_each_command(run: Path) -> None:
    try:
        find_anvil()
    except InputError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")
    settle_stored(run, "anvil")
    for _ in range(3):
        settle_stored(run)
        assert audit_stored(run).differences == ()
