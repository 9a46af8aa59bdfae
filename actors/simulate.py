"""A market day from scenario to run folder: what `raygrid simulate` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.checkpoint import CheckpointWriter, interrupted_run, scenario_digest
from actors.cluster import ClusterOptions
from actors.driver import RayMarket
from actors.placement import PlacementPolicy
from actors.preflight import check_shared
from actors.prosumer import take_pulse
from actors.session import Session, clearing_options
from actors.settling import Settling, chain_of_run, participants_of, settlement_order
from raygrid.errors import EndedShortError, InputError, RaygridError
from raygrid.grid.ptdf import ptdf
from raygrid.market.clearing import (
    ClearingResult,
    ClearingStatus,
)
from raygrid.market.marketplace import (
    MAX_MATCHED_PROSUMERS,
    MatchedMarket,
    TradeTotals,
    match_trades,
    unmatched,
)
from raygrid.market.messages import RoundOutcome
from raygrid.results import frames
from raygrid.results.files import CHECKPOINT, RunStatus, going_on
from raygrid.results.folder import check_writable
from raygrid.results.progress import ProgressLine
from raygrid.results.reader import RunReader
from raygrid.results.report import write_report
from raygrid.results.store import MERGE_ROWS, PTDF_CELLS, RunInfo, RunWriter
from raygrid.results.summary import (
    CentralSummary,
    Seconds,
    Summary,
    central_summary,
    clearing_summary,
    communication_summary,
    memory_summary,
    powerflow_summary,
)
from raygrid.scenario.build import draft_case
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import dump_resolved, load_scenario
from raygrid.scenario.settlement import public_name
from raygrid.scenario.tables import network_tables, population_tables

if TYPE_CHECKING:
    from raygrid.market.central import CentralResult
    from raygrid.settlement.desk import SettledRun


@dataclass(frozen=True)
class SimulateOptions:
    """What `raygrid simulate` was asked for.

    Attributes
    ----------
    scenario : str or Path
        Name of a shipped scenario, or a file.
    out : Path
        Folder of all results.
    command : str
        The command line, for the manifest.
    settings : tuple of str
        `key=value` overrides.
    agents, periods, seed : int or None
        Overrides with flags of their own.
    actors : PlacementPolicy
        How prosumers are spread over Ray actors.
    cluster : ClusterOptions
        Which Ray to use.
    central : bool or None
        Whether to solve the central benchmark; None leaves it to the scenario.
    chain : str or None
        Where trades settle: 'embedded', 'anvil', 'hardhat', the URL of a node, 'none'; None leaves
        it to the scenario.
    feeders : int or None
        Number of feeder operators; None leaves it to the network's size.
    resume : Path or None
        Folder of a run whose driver died during the clearing: its scenario, and its rounds so far.
    """

    scenario: str | Path
    out: Path
    command: str
    settings: tuple[str, ...] = ()
    agents: int | None = None
    periods: int | None = None
    seed: int | None = None
    actors: PlacementPolicy = field(default_factory=lambda: PlacementPolicy.parse("auto"))
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    central: bool | None = None
    chain: str | None = None
    feeders: int | None = None
    resume: Path | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    path : Path
        Its folder.
    summary : Summary
        Its figures.
    clearing : ClearingResult
        How the market cleared.
    case : Case
        What was cleared.
    trades : int or None
        Number of trades; None where none were matched.
    notes : tuple of str
        What a reader must know.
    reason : str
        Why it ended short; empty where it did not.
    """

    path: Path
    summary: Summary
    clearing: ClearingResult
    case: Case
    trades: int | None
    notes: tuple[str, ...]
    reason: str = ""

    @property
    def mean_price_per_kwh(self) -> float | None:
        """Mean settlement price [currency/kWh]; None where there is no schedule."""
        if np.isnan(self.clearing.welfare):
            return None
        return float(self.clearing.settlement_price_per_kwh.mean())


def simulate(options: SimulateOptions, tell: Callable[[str], None] = lambda _: None) -> RunResult:
    """Build a scenario, clear its market on Ray, and write the run.

    Parameters
    ----------
    options : SimulateOptions
        What to run and where to write it.
    tell : callable
        Gets a line now and then about what is going on.

    Returns
    -------
    RunResult
        The finished run; one that ended short says so in its clearing's status.

    Raises
    ------
    InputError
        If the scenario, the address or the results folder is wrong; nothing is left behind.
    EndedShortError
        If Ray failed for good.
    """
    started = perf_counter()
    source, past = options.scenario, list[RoundOutcome]()
    if options.resume is not None:
        source, past = interrupted_run(options.resume)
    scenario, base_dir = load_scenario(
        source,
        settings=options.settings,
        agents=options.agents,
        periods=options.periods,
        seed=options.seed,
    )
    if scenario.horizon.days > 1:
        raise InputError(
            f"{scenario.horizon.days} days in a row",
            f"{scenario.name}:horizon.days",
            "run day by day with horizon.start; this version clears one market day at a time",
        )
    check_writable(options.out / scenario.name)
    draft = draft_case(scenario, base_dir=base_dir)
    options.actors.check(len(draft.community))
    # Of many prosumers only the hosts know the sums that complete the case.
    case = draft if len(draft.community) > MAX_MATCHED_PROSUMERS else draft.surveyed()
    build_s = perf_counter() - started
    chain, unsettled = chain_of_run(options.chain, scenario.settlement, len(draft.community))
    command = options.command
    if options.chain is not None or chain is not None:
        # What a node's URL may hold in confidence stays out of the run.
        named = options.chain or scenario.settlement.chain
        section = scenario.settlement.model_copy(update={"chain": public_name(named)})
        scenario = scenario.model_copy(update={"settlement": section})
        command = command.replace(named, public_name(named))
    libraries = ("pandapower",) if scenario.results.powerflow else ()
    with Session(options.cluster, libraries) as session:
        info = RunInfo(
            command=command,
            period_hours=scenario.horizon.dt,
            slack_bus=int(draft.network.bus_id[draft.network.slack]),
            network_constrained=scenario.market.network_constrained,
            currency=scenario.currency,
            seeds={"scenario": scenario.seed},
            cluster=session.resources.manifest(),
            notes=scenario.notes,
        )
        match_up_to = scenario.market.match_up_to_prosumers
        placement = session.plan(case, options.actors, tell, options.feeders, match_up_to)
        check_shared(options.out, len(draft.community) * draft.n_periods, session.resources)
        with (
            RunWriter(options.out, scenario.name, info) as writer,
            going_on(f"give 'raygrid simulate --resume {writer.path}'"),
        ):
            writer.write_scenario(dump_resolved(scenario, base_dir))
            with ExitStack() as stack:
                settling = None
                if chain is not None:
                    assert isinstance(case, Case)
                    order = settlement_order(writer.path, chain, scenario, case)
                    settling = stack.enter_context(Settling(order))
                with session.market(case, placement) as market:
                    run = _Run(scenario, market.case, writer, tell)
                    run.write_case(market)
                    run.clear(market, past)
                    run.weigh(market)
                if settling is None:
                    run.note(unsettled)
                    session.release()
                else:
                    run.hand_over(settling)
                if run.wants_central(options.central):
                    run.solve_central()
                run.check_powerflow()
                if settling is not None:
                    run.settle(settling)
            session.release()
            seconds = Seconds(
                ray_start=session.ray_start_s,
                build=build_s,
                clear=run.result.seconds,
                total=perf_counter() - started,
            )
            return run.finish(placement.n_hosts, seconds)


class _Run:
    """One run on its way into its folder."""

    def __init__(
        self, scenario: Scenario, case: Case, writer: RunWriter, tell: Callable[[str], None]
    ) -> None:
        self._scenario = scenario
        self._case = case
        self._writer = writer
        self._tell = tell
        self._matched: MatchedMarket | None = None
        self._traded: TradeTotals | None = None
        self._central: CentralSummary | None = None
        self._powerflow: Mapping[str, Any] | None = None
        self._memory: Mapping[str, int] | None = None
        self._communication: Mapping[str, Any] | None = None
        self._notes: list[str] = []
        self._checkpoint: CheckpointWriter
        self.settled: SettledRun | None = None
        self.result: ClearingResult

    def write_case(self, market: RayMarket) -> None:
        """Write what the market is made of; of many prosumers the hosts write it."""
        if len(self._case.community) <= MAX_MATCHED_PROSUMERS:
            for name, table in population_tables(self._case).items():
                self._writer.write_table(name, table)
            return
        for name, table in network_tables(self._case).items():
            self._writer.write_table(name, table)
        names = ["prosumers", "profiles", *(["stores"] if self._case.stores else [])]
        folders = {name: self._writer.part_folder(name) for name in names}
        for name, records in market.write_population(folders).items():
            self._writer.add_parts(name, records)

    def clear(self, market: RayMarket, past: Sequence[RoundOutcome] = ()) -> None:
        """Clear, and write everything that the hosts hold while they are there."""
        records = [outcome.record for outcome in past if outcome.record is not None]
        if past:
            self._notes.append(f"resumed after round {len(records)} of an earlier run")
        path = self._writer.path
        checkpoint = CheckpointWriter(path / CHECKPOINT, scenario_digest(path))
        self._checkpoint = checkpoint
        options = clearing_options(self._scenario)
        with ProgressLine() as line:

            def on_round(outcome: RoundOutcome) -> None:
                if outcome.record is not None:
                    records.append(outcome.record)
                    line.update(outcome.record, outcome.mean_price_per_kwh)

            try:
                self.result = market.clear(options, on_round, checkpoint=checkpoint, past=past)
            finally:
                checkpoint.close()
                self._writer.write_table("convergence", frames.convergence_table(records))
        self._notes += [f"mended during the clearing: {text}" for text in market.failures]
        self._notes += self.result.notes
        if market.traffic is not None and options.staleness is not None:
            self._notes.append(market.traffic.describe(self._scenario.currency))
            self._communication = communication_summary(market.traffic, options.staleness)
        if market.waits is not None:
            self._notes.append(market.waits.describe())
        if np.isnan(self.result.welfare):
            return
        case, network = self._case, self._case.network
        result, rows = self.result, (case.n_periods, MERGE_ROWS)
        self._writer.write_pieces(
            "flows",
            (
                frames.flows_table(network, result, lines=some)
                for some in frames.pieces(network.n_lines, *rows)
            ),
        )
        self._writer.write_pieces(
            "prices",
            (
                frames.prices_table(network, result, buses=some)
                for some in frames.pieces(network.n_buses, *rows)
            ),
        )
        if network.n_lines * network.n_buses <= PTDF_CELLS:
            self._writer.write_ptdf(ptdf(network), network.bus_id, network.line_id)
        self._writer.add_parts(
            "schedule", market.write_schedule(self._writer.part_folder("schedule"))
        )
        self._trade(market)

    def _trade(self, market: RayMarket) -> None:
        """Match trades: here, or of many prosumers in the hosts."""
        section, n = self._scenario.market, len(self._case.community)
        if n <= MAX_MATCHED_PROSUMERS:
            self._matched = match_trades(self._case, self.result, market.dispatch().p_kw, section)
            self._writer.write_table("trades", self._matched.trades.table())
            self._traded = self._matched.totals
        elif reason := unmatched(n, section):
            self._notes.append(reason)
        else:
            folder = self._writer.part_folder("trades")
            records, self._traded = market.write_trades(folder, self.result, section)
            self._writer.add_parts("trades", records)

    def weigh(self, market: RayMarket) -> None:
        """Note the memory of this process and of the actors, while they are there."""
        own = take_pulse("").peak_bytes
        # The market is cleared: an actor that is gone by now costs no more than this figure.
        with suppress(RaygridError):
            self._memory = memory_summary(own, sum(p.peak_bytes for p in market.take_pulses()))

    def note(self, text: str) -> None:
        """Add what a reader must know, if it says anything."""
        if text:
            self._notes.append(text)

    def hand_over(self, settling: Settling) -> None:
        """Hand the day's trades to the settlement, as they are stored."""
        if self._matched is None:
            return
        from raygrid.settlement.delivery import stored_delivery

        run = RunReader(self._writer.path, allow_unfinished=True)
        delivery = stored_delivery(run, participants_of(self._case))
        with self._ended_short(settling.chain):
            settling.offer(delivery)

    def settle(self, settling: Settling) -> None:
        """Wait for the settlement, and write what came of it."""
        if self._matched is None:
            return
        with self._ended_short(settling.chain):
            if self.settled is None:
                self._tell(f"settling on the chain {public_name(settling.chain)}")
                self.settled = settling.finish(self._matched.trades.table())
        assert self.settled is not None
        for name, table in self.settled.tables.items():
            self._writer.replace_table(name, table)
        self._notes += self.settled.notes

    @contextmanager
    def _ended_short(self, chain: str) -> Iterator[None]:
        """Note a settlement that came to no end as such: the cleared market stands."""
        from raygrid.settlement.desk import unsettled_run

        assert self._matched is not None
        try:
            yield
        except EndedShortError as error:
            self.settled = unsettled_run(chain, self._matched.trades.table(), str(error))

    def wants_central(self, asked: bool | None) -> bool:
        """Whether the central benchmark is due: as asked, else up to the scenario's size."""
        if np.isnan(self.result.welfare):
            return False
        if asked is not None:
            return asked
        return len(self._case.community) <= self._scenario.results.central_up_to_prosumers

    def solve_central(self) -> None:
        """Solve the central benchmark of the same case."""
        from raygrid.market.central import CentralStatus, solve_central

        self._tell("solving the central benchmark")
        central: CentralResult = solve_central(
            self._case, network_constrained=self._scenario.market.network_constrained
        )
        if central.status is not CentralStatus.OPTIMAL:
            self._notes.append(f"the central benchmark ended as {central.status}")
            return
        self._central = central_summary(self.result.welfare, central.welfare, central.seconds)

    def check_powerflow(self) -> None:
        """AC load flow of the cleared day, if the scenario wants it."""
        if np.isnan(self.result.welfare) or not self._scenario.results.powerflow:
            return
        from raygrid.grid.powerflow import ac_check

        limits = self._scenario.voltage
        bounds = (
            {}
            if limits is None
            else {
                "v_min_pu": limits.v_min_pu,
                "v_max_pu": limits.v_max_pu,
                "v_slack_pu": limits.v_slack_pu,
            }
        )
        self._tell("checking the day by an AC load flow")
        case = self._case
        try:
            check = ac_check(case.network, self.result.p_bus_kw, -case.reactive_load_kvar, **bounds)
        except RaygridError as error:
            self._notes.append(f"no AC check: {error}")
            return
        self._powerflow = powerflow_summary(check, case.period_hours)

    def finish(self, actors: int, seconds: Seconds) -> RunResult:
        """Write summary, manifest and report."""
        case, result, writer = self._case, self.result, self._writer
        settled = self.settled
        reason = result.reason or ("" if settled is None else settled.reason)
        done = result.status is ClearingStatus.CONVERGED and not reason
        status = RunStatus.OK if done else RunStatus.ENDED_SHORT
        traded = self._traded
        if traded is not None and traded.dropped_wh:
            self._notes.append(
                f"{traded.dropped_wh} Wh in matches below the minimum trade size were left out"
            )
        energy = None if traded is None else traded.energy_wh / 1e3
        summary = Summary(
            scenario=self._scenario.name,
            run_id=writer.run_id,
            status=str(status),
            prosumers=len(case.community),
            actors=actors,
            periods=case.n_periods,
            buses=case.network.n_buses,
            lines=case.network.n_lines,
            clearing=clearing_summary(
                case, result, self._scenario.market.network_constrained, energy
            ),
            central=self._central,
            seconds=seconds,
            settlement=None if settled is None else settled.summary,
            powerflow=self._powerflow,
            memory=self._memory,
            communication=self._communication,
        )
        notes = tuple(dict.fromkeys([*case.notes, *self._notes]))
        writer.write_summary(summary)
        self._checkpoint.discard()
        writer.finish(
            status,
            {
                "ray_start": seconds.ray_start,
                "build": seconds.build,
                "clear": seconds.clear,
                "total": seconds.total,
            }
            | ({} if settled is None else {"settle": settled.summary.seconds}),
            reason=reason,
            welfare_bound=result.bound,
            notes=notes,
        )
        write_report(RunReader(writer.path))
        trades = None if traded is None else traded.trades
        return RunResult(writer.path, summary, result, case, trades, notes, reason)
