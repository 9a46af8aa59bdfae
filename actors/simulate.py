"""Market days in a row, from scenario to run folder: what `raygrid simulate` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from actors.checkpoint import CheckpointWriter, PastRounds, interrupted_run
from actors.cluster import ClusterOptions
from actors.driver import RayMarket
from actors.market_day import MarketDay, Run, new_checkpoint
from actors.placement import PlacementPolicy
from actors.preflight import check_shared
from actors.prosumer import take_pulse
from actors.session import Session
from actors.settling import (
    SettledDays,
    Settling,
    chain_of_run,
    participants_of,
    settlement_order,
)
from raygrid.errors import InputError, RaygridError
from raygrid.market.clearing import ClearingResult, ClearingStatus
from raygrid.market.marketplace import MAX_MATCHED_PROSUMERS
from raygrid.prosumer.carried import CarriedCommunity, Charge
from raygrid.results.day_tables import DayTables
from raygrid.results.day_totals import (
    DaySummary,
    total_central,
    total_clearing,
    total_communication,
    total_forecast,
    total_intraday,
    total_powerflow,
)
from raygrid.results.files import RunStatus, going_on
from raygrid.results.folder import check_writable
from raygrid.results.reader import RunReader
from raygrid.results.report import write_report
from raygrid.results.store import RunInfo, RunWriter
from raygrid.results.summary import Seconds, Summary, memory_summary
from raygrid.scenario.build import CaseDraft, draft_another_day, draft_case
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import dump_resolved, load_scenario
from raygrid.scenario.settlement import public_name

if TYPE_CHECKING:
    from raygrid.learning.stages import DayStages
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
    agents, periods, days, seed : int or None
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
    days: int | None = None
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
        How the market of the last day cleared.
    case : Case
        What was cleared on the last day.
    trades : int or None
        Number of trades; None where none were matched.
    notes : tuple of str
        What a reader must know.
    reason : str
        Why it ended short; empty where it did not.
    mean_price_per_kwh : float or None
        Mean settlement price of the days with a schedule [currency/kWh].
    welfare_bound : float or None
        Upper bound on the optimal welfare of all days, each with the charge that it began with
        [currency].
    """

    path: Path
    summary: Summary
    clearing: ClearingResult
    case: Case
    trades: int | None
    notes: tuple[str, ...]
    reason: str = ""
    mean_price_per_kwh: float | None = None
    welfare_bound: float | None = None


def simulate(options: SimulateOptions, tell: Callable[[str], None] = lambda _: None) -> RunResult:
    """Build a scenario, clear its market day by day on Ray, and write the run.

    The actors stay alive over the days. A day is settled while the next one is cleared.

    Parameters
    ----------
    options : SimulateOptions
        What to run and where to write it.
    tell : callable
        Gets a line now and then about what is going on.

    Returns
    -------
    RunResult
        The finished run; one that ended short says so in its summary and its reason.

    Raises
    ------
    InputError
        If the scenario, the address or the results folder is wrong; nothing is left behind.
    EndedShortError
        If Ray failed for good.
    """
    started = perf_counter()
    source, past = options.scenario, PastRounds()
    if options.resume is not None:
        source, past = interrupted_run(options.resume)
    scenario, base_dir = load_scenario(
        source,
        settings=options.settings,
        agents=options.agents,
        periods=options.periods,
        days=options.days,
        seed=options.seed,
    )
    check_writable(options.out / scenario.name)
    draft = draft_case(scenario, base_dir=base_dir)
    options.actors.check(len(draft.community))
    # Of many prosumers only the hosts know the sums that complete the case.
    case = draft if len(draft.community) > MAX_MATCHED_PROSUMERS else draft.surveyed()
    stages, measured = None, None
    if scenario.stages.intraday != "none":
        stages, measured, case = _staged(scenario, base_dir, draft)
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
    n_days = scenario.horizon.days
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
        check_shared(
            options.out, len(draft.community) * draft.n_periods * n_days, session.resources
        )
        with RunWriter(options.out, scenario.name, info) as writer:
            writer.write_scenario(dump_resolved(scenario, base_dir))
            tables = DayTables(writer, n_days)
            run = Run(scenario, writer, tables, tell, options.central, stages)
            course = _Course(run, draft, base_dir, measured)
            hint = going_on(f"give 'raygrid simulate --resume {writer.path}'")
            with nullcontext() if run.has_several else hint, ExitStack() as stack:
                stack.callback(tables.close)
                settled_days = None
                if chain is not None:
                    assert isinstance(case, Case)
                    order = settlement_order(writer.path, chain, scenario, case)
                    settling = stack.enter_context(Settling(order))
                    settled_days = SettledDays(settling, participants_of(case), tables)
                with session.market(case, placement) as market:
                    course.go(market, settled_days, past)
                if settled_days is None:
                    run.note(unsettled)
                    session.release()
                course.end_last_day()
                if settled_days is not None and chain is not None:
                    tell(f"settling on the chain {public_name(chain)}")
                    course.take_settlement(settled_days.finish())
            session.release()
            seconds = Seconds(
                ray_start=session.ray_start_s,
                build=build_s,
                clear=sum(day.clearing.seconds for day in course.days),
                total=perf_counter() - started,
            )
            return course.finish(placement.n_hosts, seconds)


def _staged(scenario: Scenario, base_dir: Path, draft: CaseDraft) -> tuple[DayStages, Case, Case]:
    """Who forecasts and bids, and the first day as it is measured and as it is forecast."""
    from raygrid.learning.delivered_day import intraday_market
    from raygrid.learning.stages import DayStages

    n = len(draft.community)
    if n > MAX_MATCHED_PROSUMERS:
        raise InputError(
            f"{n} prosumers, more than the {MAX_MATCHED_PROSUMERS} of an intraday market",
            f"{scenario.name}:stages.intraday",
            "choose none, or fewer agents",
        )
    stages = DayStages.of(scenario, base_dir, n)
    measured = draft.surveyed()
    intraday_market(scenario, measured)  # refuses what it does not know before Ray starts
    return stages, measured, stages.forecast_draft(draft, measured, 0).surveyed()


class _Course:
    """The days of a run, one after the other, and what they come to."""

    def __init__(self, run: Run, draft: CaseDraft, base_dir: Path, measured: Case | None) -> None:
        self._run = run
        self._measured = measured
        self._draft = draft
        self._base_dir = base_dir
        self._memory: Mapping[str, int] | None = None
        self._settled: SettledRun | None = None
        self._checkpoint: CheckpointWriter | None = None
        self._bounds: list[float | None] = []
        self._prices: list[float] = []
        self._reasons: list[str] = []
        self._last: MarketDay
        self.days: list[DaySummary] = []

    def go(self, market: RayMarket, settled: SettledDays | None, past: PastRounds) -> None:
        """Let the market's actors do one day after the other, as far as there is one to do."""
        run = self._run
        for text in () if run.stages is None else run.stages.notes:
            run.note(text)
        if past:
            run.note(f"resumed after round {len(past.records)} of an earlier run")
        for day in range(run.scenario.horizon.days):
            if day and not self._begin(market, day):
                break
            today = self._last = MarketDay(run, market, self._measured)
            today.write_case(market)
            if not run.has_several:
                self._checkpoint = new_checkpoint(run.writer.path)
            today.clear(market, self._checkpoint, past)
            today.trade(market)
            self._note(today)
            if settled is not None and today.matched:
                settled.offer(day)
            if not today.has_schedule:
                break
        # The markets are cleared: an actor that is gone by now costs no more than this figure.
        own = take_pulse("").peak_bytes
        with suppress(RaygridError):
            self._memory = memory_summary(own, sum(p.peak_bytes for p in market.take_pulses()))

    def _begin(self, market: RayMarket, day: int) -> bool:
        """Take up the next day; False where its data do not allow that."""
        self.end_last_day()
        self._run.tell(f"day {day}; the last one is {self._run.scenario.horizon.days - 1}")
        try:
            network = (self._measured or market.case).network
            draft = draft_another_day(self._draft, network, base_dir=self._base_dir, day=day)
            market.begin_day(*self._taken_up(draft, day))
        except InputError as error:
            self._reasons.append(f"day {day} cannot begin: {error}")
            return False
        return True

    def _taken_up(self, draft: CaseDraft, day: int) -> tuple[CaseDraft, int, Charge | None]:
        """What the market takes up of a day: what is forecast, where there are forecasts."""
        stages, done = self._run.stages, self._last.delivered
        if stages is None or done is None:
            return draft, day, None
        charge = done.charge(self._last.measured.population)
        measured = draft.surveyed()
        self._measured = replace(measured, community=CarriedCommunity(measured.community, charge))
        return stages.forecast_draft(draft, measured, day), day, charge

    def _note(self, today: MarketDay) -> None:
        result = today.result
        self._bounds.append(result.bound)
        if today.has_schedule:
            self._prices.append(float(result.settlement_price_per_kwh.mean()))
        if result.status is not ClearingStatus.CONVERGED or result.reason:
            reason = result.reason or str(result.status).replace("_", " ")
            self._reasons.append(self._run.of_day(reason, today.day))

    def end_last_day(self) -> None:
        """What is done with a day after its market: it needs no actors."""
        self._last.check()
        self.days.append(self._last.summary())

    def take_settlement(self, settled: SettledRun | None) -> None:
        """Write what came of the settlement, where there was one."""
        if settled is None:
            return
        self._settled = settled
        for name, table in settled.tables.items():
            self._run.tables.replace(name, table)
        self._run.notes += settled.notes

    def finish(self, actors: int, seconds: Seconds) -> RunResult:
        """Write summary, manifest and report."""
        run, case, writer, settled = self._run, self._last.case, self._run.writer, self._settled
        reasons = self._reasons or ([settled.reason] if settled and settled.reason else [])
        reason = "; ".join(reasons)
        status = RunStatus.ENDED_SHORT if reason else RunStatus.OK
        if run.dropped_wh:
            run.note(f"{run.dropped_wh} Wh in matches below the minimum trade size were left out")
        summary = Summary(
            scenario=run.scenario.name,
            run_id=writer.run_id,
            status=str(status),
            prosumers=len(case.community),
            actors=actors,
            periods=case.n_periods * len(self.days),
            buses=case.network.n_buses,
            lines=case.network.n_lines,
            clearing=total_clearing(self.days),
            central=total_central(self.days),
            seconds=seconds,
            settlement=None if settled is None else settled.summary,
            forecast=total_forecast(self.days),
            intraday=total_intraday(self.days),
            powerflow=total_powerflow(self.days),
            memory=self._memory,
            communication=total_communication(self.days),
            days=[asdict(day) for day in self.days],
        )
        notes = tuple(dict.fromkeys([*case.notes, *run.notes]))
        writer.write_summary(summary)
        if self._checkpoint is not None:
            self._checkpoint.discard()
        bounds = [bound for bound in self._bounds if bound is not None]
        bound = sum(bounds) if len(bounds) == len(self._bounds) else None
        settle = {} if settled is None else {"settle": settled.summary.seconds}
        writer.finish(
            status, asdict(seconds) | settle, reason=reason, welfare_bound=bound, notes=notes
        )
        write_report(RunReader(writer.path))
        matched = [day.trades for day in self.days if day.trades is not None]
        return RunResult(
            writer.path,
            summary,
            self._last.result,
            case,
            run.trades if matched else None,
            notes,
            reason,
            sum(self._prices) / len(self._prices) if self._prices else None,
            bound,
        )
