"""The settlement of a run, day by day: meters, batches, chain, and the tables that come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from raygrid.arrays import IntArray
from raygrid.market.trades import MICRO
from raygrid.results.summary import SettlementSummary, settlement_summary
from raygrid.scenario.settlement import public_name
from raygrid.settlement.chain.base import Chain
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.delivery import Delivery
from raygrid.settlement.deployment import CHAIN_FOLDER, Deployment, DeploymentSettings
from raygrid.settlement.engine import BatchOutcome, Needs, SettlementEngine
from raygrid.settlement.evidence import funded_micro
from raygrid.settlement.history import History
from raygrid.settlement.metering import MeteredDay, MeterPark
from raygrid.settlement.participants import simulated_participants
from raygrid.settlement.plan import PlannedBatch, Registry, plan_batches, purchases_micro
from raygrid.settlement.policy import RetryPolicy
from raygrid.settlement.results import DayOutcome, batches_table, settled_trades, unsettled_trades
from raygrid.settlement.rules import Tolerance
from raygrid.settlement.statements import statements_table
from raygrid.settlement.verification import Verification, meters_table, net_traded_wh

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.scenario.config import Scenario


@dataclass(frozen=True)
class SettlementOrder:
    """What a settlement of a run needs to know before any day is cleared; travels to an actor.

    Attributes
    ----------
    run : Path
        The run's folder, on storage that the settlement sees.
    chain : str
        'embedded', 'anvil', 'hardhat' or the URL of a node.
    scenario : Scenario
        Metering, settlement, name and seed.
    registry : Registry
        Who takes part.
    period_hours : float
        Length of a period [h].
    redeploy : bool
        Leave an earlier deployment behind.
    """

    run: Path
    chain: str
    scenario: Scenario
    registry: Registry
    period_hours: float
    redeploy: bool = False


@dataclass(frozen=True)
class SettledRun:
    """What settlement made of a run.

    Attributes
    ----------
    tables : dict of str to pyarrow.Table
        trades, participants, meters, readings, batches and statements.
    summary : SettlementSummary
        In figures.
    notes : tuple of str
        What went wrong and was mended.
    reason : str
        Why trades are unsettled; empty where none are.
    seconds : dict of str to float
        Wall time of each step [s].
    """

    tables: dict[str, pa.Table]
    summary: SettlementSummary
    notes: tuple[str, ...] = ()
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Day:
    delivery: Delivery
    metered: MeteredDay
    verification: Verification
    planned: list[PlannedBatch]
    outcomes: list[BatchOutcome] = field(default_factory=list)


class SettlementDesk:
    """Settles the days of one run; a context manager.

    Parameters
    ----------
    order : SettlementOrder
        The run.
    policy : RetryPolicy, optional
        As `Deployment`.
    open_it : callable
        As `Deployment`.

    Raises
    ------
    InputError, EndedShortError
        As `Deployment`.
    """

    def __init__(
        self,
        order: SettlementOrder,
        policy: RetryPolicy | None = None,
        open_it: Callable[[str, Path], Chain] = open_chain,
    ) -> None:
        started = perf_counter()
        self._order = order
        scenario, registry = order.scenario, order.registry
        self._park = MeterPark(
            scenario.metering, scenario.name, scenario.seed, registry.prosumer_id
        )
        section = scenario.settlement
        self.deployment = Deployment(
            DeploymentSettings(
                order.run / CHAIN_FOLDER,
                order.chain,
                Tolerance(self._park.tolerance.wh, self._park.tolerance.ppm),
                section.confirmations,
                section.token,
                order.redeploy,
            ),
            policy,
            open_it,
        )
        self._days: list[_Day] = []
        self._opening_wh: IntArray | None = None
        self._participants = simulated_participants(
            scenario.seed,
            registry.prosumer_id,
            np.full(len(registry), registry.group.number, dtype=np.int64),
            np.zeros(len(registry), dtype=np.int64),
            [self._park.public_keys[who] for who in registry.prosumer_id.tolist()],
        )
        self.seconds = {
            "open": perf_counter() - started,
            "prepare": 0.0,
            "meter": 0.0,
            "chain": 0.0,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close chain and journal."""
        self.deployment.close()

    def prepare(self) -> None:
        """Deploy, register, and where the scenario says how much, fund: before any day.

        Raises
        ------
        InputError, EndedShortError
            As `Deployment.prepare`.
        """
        started = perf_counter()
        self.deployment.prepare(self._participants)
        self._engine = SettlementEngine(self.deployment)
        deposit = self._order.scenario.settlement.deposit
        is_new = self.deployment.ledger.next_sequence() == 0
        if deposit is not None and self.deployment.funds_escrows and is_new:
            each = np.full(len(self._participants), round(deposit * MICRO), dtype=np.int64)
            self._engine.fund(Needs(each))
        self.seconds["prepare"] += perf_counter() - started

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Meter days, verify their readings, and settle their trades together.

        What a kill or a bad chain leaves undone, another call with the same days completes.

        Parameters
        ----------
        deliveries : sequence of Delivery
            Days in a row.

        Raises
        ------
        ChainDownError, ChainSlowError
            The chain does not answer at all.
        EndedShortError
            Escrows cannot be funded.
        """
        started = perf_counter()
        metered = [self._meter(delivery) for delivery in deliveries]
        self.seconds["meter"] += perf_counter() - started
        planned = [batch for day in metered for batch in day.planned]
        due = {batch.batch_id: day.delivery.trades for day in metered for batch in day.planned}

        def needs(batches: Sequence[PlannedBatch]) -> Needs:
            members = np.zeros(len(self._participants), dtype=np.int64)
            network = 0
            for batch in batches:
                trades = due[batch.batch_id].take(batch.rows)
                members += purchases_micro(trades, self._order.registry)
                network += int(np.maximum(-trades.network_micro, 0).sum())
            is_fixed = self._order.scenario.settlement.deposit is not None
            return Needs(np.zeros_like(members) if is_fixed else members, network)

        outcomes = self._engine.settle(planned, needs if self.deployment.funds_escrows else None)
        self.seconds["chain"] = self._engine.seconds
        by_id = {outcome.batch.batch_id: outcome for outcome in outcomes}
        self._days += [
            replace(day, outcomes=[by_id[batch.batch_id] for batch in day.planned])
            for day in metered
        ]

    def _meter(self, delivery: Delivery) -> _Day:
        """Meter a day, verify its readings and plan its batches."""
        registry, trades = self._order.registry, delivery.trades
        day = self._park.day(
            delivery.p_kw, self._order.period_hours, delivery.first_period, self._opening_wh
        )
        self._opening_wh = day.closing_wh
        accepted = day.accepted
        traded = net_traded_wh(
            trades.seller_id,
            trades.buyer_id,
            trades.slot,
            trades.energy_wh,
            registry.prosumer_id,
            int(delivery.slots[0]),
            len(delivery.slots),
        )
        verification = Verification(accepted, traded, self._park.tolerance)
        planned = plan_batches(
            trades, registry, delivery.slots, verification.slot_reading_wh, verification.slot_valid
        )
        return _Day(delivery, day, verification, planned)

    def outcomes(self) -> list[BatchOutcome]:
        """What became of all batches so far."""
        return [outcome for day in self._days for outcome in day.outcomes]

    def finish(self, trades: pa.Table) -> SettledRun:
        """The tables and figures of all days settled so far.

        Parameters
        ----------
        trades : pyarrow.Table
            Rows of `trades.parquet`, of which these days' get their status.
        """
        import pyarrow as pa

        deployment = self.deployment
        history = History(deployment.chain, deployment.ledger.address, deployment.first_block())
        outcomes = self.outcomes()
        settled = sum(outcome.is_settled for outcome in outcomes)
        funded = funded_micro(history.transfers(), len(self._participants), settled)
        participants = replace(self._participants, funded_micro=funded)
        days = [
            DayOutcome(day.delivery.trades.trade_id, day.verification, day.outcomes)
            for day in self._days
        ]
        trades = settled_trades(trades, days)
        tables = {
            "trades": trades,
            "participants": participants.table(),
            "meters": pa.concat_tables(
                meters_table(day.metered.accepted, day.metered.attacks) for day in self._days
            ),
            "readings": pa.concat_tables(day.verification.readings_table() for day in self._days),
            "batches": batches_table(outcomes, trades),
            "statements": statements_table(participants, trades),
        }
        troubles = deployment.stages.tally.troubles
        unsettled = sorted({o.trouble for o in outcomes if not o.is_settled})
        transactions, gas = deployment.spent(("commit:", "settle:"))
        return SettledRun(
            tables,
            settlement_summary(
                public_name(self._order.chain),
                trades,
                settled,
                transactions,
                gas,
                self.seconds["meter"] + self.seconds["chain"],
            ),
            tuple(f"settlement: {text}" for text in dict.fromkeys(troubles)),
            "; ".join(unsettled),
            dict(self.seconds),
        )


def unsettled_run(chain: str, trades: pa.Table, reason: str) -> SettledRun:
    """A run whose settlement could not be carried out, with the reason in every trade.

    Parameters
    ----------
    chain : str
        Where it was to settle.
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    reason : str
        Why.
    """
    trades = unsettled_trades(trades, reason)
    summary = settlement_summary(public_name(chain), trades, 0, 0, 0, 0.0)
    return SettledRun({"trades": trades}, summary, reason=reason)
