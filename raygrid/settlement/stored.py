"""Settling and auditing runs that are stored: what `raygrid settle` and `raygrid audit` do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from raygrid.errors import EndedShortError, InputError
from raygrid.market.marketplace import MAX_MATCHED_PROSUMERS
from raygrid.results.files import SUMMARY, RunStatus, json_text
from raygrid.results.reader import RunReader, find_run
from raygrid.results.report import write_report
from raygrid.results.update import RunUpdate, finish_update
from raygrid.scenario.settlement import AUTO, NONE, check_chain, public_name
from raygrid.settlement.audit import RunRecords, audit
from raygrid.settlement.chain.identity import (
    ChainIdentity,
    IdentityCheck,
    check_identity,
    load_identity,
)
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.delivery import stored_deliveries, stored_registry, stored_scenario
from raygrid.settlement.deployment import (
    CHAIN_FOLDER,
    JOURNAL_FILE,
    LostContractError,
    deployed_block,
)
from raygrid.settlement.desk import (
    SettledRun,
    SettlementDesk,
    SettlementOrder,
    unsettled_run,
)
from raygrid.settlement.evidence import AuditReport, Difference
from raygrid.settlement.history import History
from raygrid.settlement.journal import read_journal
from raygrid.settlement.meter_audit import audit_meters
from raygrid.settlement.participants import Participants
from raygrid.settlement.reports import community_id
from raygrid.settlement.rules import Tolerance

PROVEN_TRADES = 10
"""Trades that an audit has the contract prove one by one, unless asked for others."""


def settle_stored(path: Path, chain: str | None = None, redeploy: bool = False) -> SettledRun:
    """Settle a stored run, or what an earlier settlement of it left undone.

    Parameters
    ----------
    path : Path
        The run's folder, or that of a scenario's runs, which means the newest.
    chain : str or None
        'embedded', 'anvil', 'hardhat' or the URL of a node; None means the run's own.
    redeploy : bool
        Leave an earlier deployment behind and settle everything anew.

    Returns
    -------
    SettledRun
        What became of it, as it was written into the run.

    Raises
    ------
    InputError
        The run, its chain or a key is not what it should be.
    EndedShortError
        The chain does not answer or lost the contract, or another process settles the run.
    """
    finish_update(find_run(path))
    run = RunReader(path)
    n_prosumers = int((run.summary or {}).get("prosumers", 0))
    if n_prosumers > MAX_MATCHED_PROSUMERS:
        raise InputError(
            f"it has {n_prosumers} prosumers, whose trades are with their hosts",
            str(run.path),
            f"settle a run of at most {MAX_MATCHED_PROSUMERS} prosumers",
        )
    scenario, registry = stored_scenario(run), stored_registry(run)
    order = SettlementOrder(
        run.path,
        chain_of(run, chain),
        scenario,
        registry,
        run.manifest["period_hours"],
        redeploy,
    )
    deliveries = stored_deliveries(run, registry, scenario.horizon.periods)
    trades = run.read_table("trades")
    try:
        with SettlementDesk(order) as desk:
            desk.prepare()
            desk.settle(deliveries)
            settled = desk.finish(trades)
    except LostContractError as error:
        _store(run, unsettled_run(order.chain, trades, str(error)))
        raise
    _store(run, settled)
    return settled


def _store(run: RunReader, settled: SettledRun) -> None:
    """Write a settlement into its run, and the report anew."""
    update = RunUpdate(run.path)
    for name, table in settled.tables.items():
        update.write_table(name, table)
    summary = dict(run.summary or {})
    cleared = (summary.get("clearing") or {}).get("status") == "converged"
    status = RunStatus.OK if cleared and not settled.reason else RunStatus.ENDED_SHORT
    reason = settled.reason or ("" if cleared else run.manifest["reason"])
    summary |= {"settlement": asdict(settled.summary), "status": str(status)}
    update.write_text(SUMMARY, json_text(summary))
    notes = [note for note in run.manifest["notes"] if not note.startswith("settlement: ")]
    update.manifest |= {
        "status": status,
        "reason": reason,
        "notes": [*notes, *settled.notes],
        "seconds": {**run.manifest["seconds"], "settle": settled.summary.seconds},
    }
    update.commit()
    write_report(RunReader(run.path))


def chain_of(run: RunReader, asked: str | None = None) -> str:
    """The chain to settle a stored run on.

    Parameters
    ----------
    run : RunReader
        The run.
    asked : str or None
        What the user asked for; None means that of its settlement, else that of its scenario.

    Raises
    ------
    InputError
        There is none.
    """
    settlement = (run.summary or {}).get("settlement")
    if asked is not None:
        check_chain(asked)
    elif settlement is not None:
        asked = str(settlement["chain"])
    else:
        n_prosumers = int((run.summary or {}).get("prosumers", 0))
        asked = stored_scenario(run).settlement.chain_for(n_prosumers)
    if asked in (AUTO, NONE):
        raise InputError(
            "no chain is named", str(run.path), "give one with --chain, such as embedded"
        )
    return asked


@dataclass(frozen=True)
class StoredAudit:
    """An audit of a stored run.

    Attributes
    ----------
    report : AuditReport
        Trades, balances and proofs.
    meters : tuple of Difference
        What is not as it should be with the meters' reports.
    chain : str
        What was audited.
    """

    report: AuditReport
    meters: tuple[Difference, ...]
    chain: str

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All that is not as it should be."""
        return (*self.report.differences, *self.meters)


def audit_stored(
    path: Path, chain: str | None = None, prove: tuple[int, ...] | int = PROVEN_TRADES
) -> StoredAudit:
    """Recompute a stored run's settlement and hold it against its chain; changes nothing.

    Parameters
    ----------
    path : Path
        The run's folder, or that of a scenario's runs, which means the newest.
    chain : str or None
        Its chain, where that has moved; None means the run's own.
    prove : tuple of int or int
        Ids of trades that the contract is to prove, or how many of them.

    Raises
    ------
    InputError
        The run was not settled, or its chain is another one.
    EndedShortError
        The chain does not answer or lost the contract.
    """
    run = RunReader(path)
    run.verify()
    folder = run.path / CHAIN_FOLDER
    identity = load_identity(folder)
    if identity is None or not run.has("participants.parquet"):
        raise InputError(
            "the run was not settled", str(run.path), f"settle it with 'raygrid settle {run.path}'"
        )
    scenario = stored_scenario(run)
    metering = scenario.metering
    tables = {n: run.read_table(n) for n in ("participants", "trades", "readings", "statements")}
    tolerance = Tolerance(metering.tolerance_wh, metering.tolerance_ppm_in_force)
    records = RunRecords.from_tables(**tables, tolerance=tolerance)
    spec = chain_of(run, chain)
    opened = open_chain(spec, folder, read_only=True)
    try:
        _require_same(identity, check_identity(identity, opened), spec)
        first_block = deployed_block(opened, read_journal(folder / JOURNAL_FILE))
        view = History(opened, identity.contract, first_block)
        report = audit(records, view, _to_prove(records, prove))
    finally:
        opened.close()
    meters = audit_meters(
        Participants.from_table(tables["participants"]),
        run.read_table("meters"),
        tables["readings"],
        community_id(scenario.name, scenario.seed),
        scenario.horizon.periods,
        metering.estimation,
    )
    return StoredAudit(report, meters, public_name(spec))


def _require_same(identity: ChainIdentity, check: IdentityCheck, spec: str) -> None:
    if check is not IdentityCheck.SAME:
        raise EndedShortError(
            f"{public_name(spec)}: the chain has the contract 0x{identity.contract.hex()} of this "
            "run no more, so nothing of it is settled"
        )


def _to_prove(records: RunRecords, prove: tuple[int, ...] | int) -> tuple[int, ...]:
    """Ids of trades to prove: as asked for, or so many spread over all that are on the chain."""
    if not isinstance(prove, int):
        return prove
    trades = records.trades
    ids = trades.filter(trades["sequence"].is_valid())["trade_id"].to_numpy()
    picked = np.unique(np.linspace(0, len(ids) - 1, min(prove, len(ids))).astype(np.int64))
    return tuple(ids[picked].tolist())
