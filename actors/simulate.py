"""A market day from scenario to run folder: what `raygrid simulate` does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from pathlib import Path
from threading import Thread
from time import perf_counter
from traceback import clear_frames
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from actors.cluster import Cluster, ClusterOptions, ClusterResources, connect, resolve_address
from actors.driver import RayMarket, place
from actors.placement import Placement, PlacementPolicy
from actors.prosumer import take_pulse
from actors.warm import WarmUp, load_matching
from raygrid.errors import InputError, RaygridError
from raygrid.grid.ptdf import ptdf
from raygrid.market.channel import Channel, Staleness, achievable_rate
from raygrid.market.clearing import (
    ClearingOptions,
    ClearingResult,
    ClearingStatus,
    IterationRecord,
)
from raygrid.market.marketplace import MAX_MATCHED_PROSUMERS, MatchedMarket, match_trades
from raygrid.market.messages import RoundOutcome
from raygrid.results import frames
from raygrid.results.files import RunStatus
from raygrid.results.folder import check_writable
from raygrid.results.progress import ProgressLine
from raygrid.results.reader import RunReader
from raygrid.results.report import write_report
from raygrid.results.store import PTDF_CELLS, RunInfo, RunWriter
from raygrid.results.summary import (
    CentralSummary,
    Seconds,
    Summary,
    central_summary,
    clearing_summary,
    memory_summary,
    powerflow_summary,
)
from raygrid.scenario.build import CaseDraft, draft_case
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import dump_resolved, load_scenario
from raygrid.scenario.tables import network_tables, population_tables

if TYPE_CHECKING:
    from raygrid.market.central import CentralResult


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
    """

    path: Path
    summary: Summary
    clearing: ClearingResult
    case: Case
    trades: int | None
    notes: tuple[str, ...]

    @property
    def mean_price_per_kwh(self) -> float | None:
        """Mean settlement price [currency/kWh]; None where there is no schedule."""
        if np.isnan(self.clearing.welfare):
            return None
        return float(self.clearing.settlement_price_per_kwh.mean())


class Session:
    """A Ray to run markets on, with the kernels compiled meanwhile; a context manager.

    Parameters
    ----------
    options : ClusterOptions
        Which Ray to use.
    libraries : tuple of str
        What this process imports later, and can load while Ray starts. Where there is any,
        it loads the kernel that matches trades as well.
    """

    def __init__(self, options: ClusterOptions, libraries: tuple[str, ...] = ()) -> None:
        # An address that is wrong costs nothing but this check.
        resolve_address(options.address)
        self._warm_up = WarmUp()
        if libraries:
            Thread(target=self._load_ahead, args=(libraries,), name="load-ahead").start()
        started = perf_counter()
        try:
            self._cluster: Cluster = connect(options)
        except BaseException:
            self._warm_up.close()
            raise
        self.resources: ClusterResources = self._cluster.resources()
        self.resources = self.resources.at_most(options.num_cpus)
        self.ray_start_s = perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if trace is not None:
            # The frames of an interrupted round hold channels of the compiled graph. Freed after
            # Ray's shutdown, they crash the interpreter.
            clear_frames(trace)
            gc.collect()
        self._warm_up.close()
        self._cluster.close()

    def _load_ahead(self, libraries: tuple[str, ...]) -> None:
        """Load what can be; what fails fails again, and is reported, where it is needed."""
        for name in libraries:
            with suppress(Exception):
                import_module(name)
        self._warm_up.wait()
        with suppress(Exception):
            load_matching()

    def release(self) -> None:
        """End Ray beside what the caller has left to do without it."""
        self._cluster.close_beside()

    def plan(
        self,
        case: Case | CaseDraft,
        policy: PlacementPolicy,
        tell: Callable[[str], None] | None = None,
    ) -> Placement:
        """Plan who sits where, and say so in one line; see `actors.driver.place`."""
        placement = place(case, policy, self.resources)
        if tell is not None:
            tell(placement.describe())
        return placement

    def market(
        self,
        case: Case | CaseDraft,
        placement: PlacementPolicy | Placement,
        tell: Callable[[str], None] | None = None,
    ) -> RayMarket:
        """Hire the actors of a case.

        Parameters
        ----------
        case : Case
            The market.
        placement : PlacementPolicy or Placement
            How prosumers are spread over actors: a rule, or the plan made of it.
        tell : callable, optional
            Gets the plan that is made of a rule in one line before any actor starts.
        """
        if isinstance(placement, PlacementPolicy):
            placement = self.plan(case, placement, tell)
        return RayMarket(case, placement, self.resources, before_load=self._warm_up.wait)


def clearing_options(scenario: Scenario) -> ClearingOptions:
    """The solver's settings of a scenario."""
    market = scenario.market
    return ClearingOptions(
        rho=market.rho,
        relaxation=market.relaxation,
        absolute_tolerance=market.absolute_tolerance,
        relative_tolerance=market.relative_tolerance,
        max_iterations=market.max_iterations,
        network_constrained=market.network_constrained,
        residual_balancing=market.residual_balancing,
        initial_price_per_kwh=market.initial_price_per_kwh,
        masked_sums=market.masked_sums,
        staleness=_staleness(scenario),
    )


def _staleness(scenario: Scenario) -> Staleness | None:
    links = scenario.communication
    if links is None:
        return None
    rate = inf if links.rate_bits_per_s is None else links.rate_bits_per_s
    if (noisy := links.noisy) is not None:
        rate = achievable_rate(noisy.bandwidth_hz, noisy.power_w, noisy.bit_rate_coefficient)
    channel = Channel(links.latency_s, links.jitter_s, links.loss, rate, scenario.seed)
    return Staleness(channel, links.patience_s, links.max_staleness)


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
    scenario, base_dir = load_scenario(
        options.scenario,
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
    libraries = ("pandapower",) if scenario.results.powerflow else ()
    with Session(options.cluster, libraries) as session:
        info = RunInfo(
            command=options.command,
            period_hours=scenario.horizon.dt,
            slack_bus=int(draft.network.bus_id[draft.network.slack]),
            network_constrained=scenario.market.network_constrained,
            currency=scenario.currency,
            seeds={"scenario": scenario.seed},
            cluster=session.resources.manifest(),
            notes=scenario.notes,
        )
        placement = session.plan(case, options.actors, tell)
        with RunWriter(options.out, scenario.name, info) as writer:
            writer.write_scenario(dump_resolved(scenario, base_dir))
            with session.market(case, placement) as market:
                run = _Run(scenario, market.case, writer, tell)
                run.write_case(market)
                run.clear(market)
                run.weigh(market)
            session.release()
            if run.wants_central(options.central):
                run.solve_central()
            run.check_powerflow()
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
        self._central: CentralSummary | None = None
        self._powerflow: Mapping[str, Any] | None = None
        self._memory: Mapping[str, int] | None = None
        self._notes: list[str] = []
        self.result: ClearingResult

    def write_case(self, market: RayMarket) -> None:
        """Write what the market is made of; of many prosumers the hosts write it."""
        if len(self._case.community) <= MAX_MATCHED_PROSUMERS:
            for name, table in population_tables(self._case).items():
                self._writer.write_table(name, table)
            return
        for name, table in network_tables(self._case).items():
            self._writer.write_table(name, table)
        names = ("prosumers", "profiles")
        folders = [self._writer.part_folder(name) for name in names]
        for name, records in zip(names, market.write_population(*folders), strict=True):
            self._writer.add_parts(name, records)

    def clear(self, market: RayMarket) -> None:
        """Clear, and write everything that the hosts hold while they are there."""
        records: list[IterationRecord] = []
        with ProgressLine() as line:

            def on_round(outcome: RoundOutcome) -> None:
                if outcome.record is not None:
                    records.append(outcome.record)
                    line.update(outcome.record, outcome.mean_price_per_kwh)

            try:
                self.result = market.clear(clearing_options(self._scenario), on_round)
            finally:
                self._writer.write_table("convergence", frames.convergence_table(records))
        self._notes += [f"mended during the clearing: {text}" for text in market.failures]
        self._notes += self.result.notes
        if market.traffic is not None:
            self._notes.append(market.traffic.describe())
        if np.isnan(self.result.welfare):
            return
        case, network = self._case, self._case.network
        self._writer.write_table("flows", frames.flows_table(network, self.result))
        self._writer.write_table("prices", frames.prices_table(network, self.result))
        if network.n_lines * network.n_buses <= PTDF_CELLS:
            self._writer.write_ptdf(ptdf(network), network.bus_id, network.line_id)
        self._writer.add_parts(
            "schedule", market.write_schedule(self._writer.part_folder("schedule"))
        )
        if len(case.community) > MAX_MATCHED_PROSUMERS:
            self._notes.append(
                f"no trades were matched: {len(case.community)} prosumers are more than "
                f"the {MAX_MATCHED_PROSUMERS} whose schedules are gathered for it"
            )
            return
        self._matched = match_trades(
            case, self.result, market.dispatch().p_kw, self._scenario.market
        )
        self._writer.write_table("trades", self._matched.trades.table())

    def weigh(self, market: RayMarket) -> None:
        """Note the memory of this process and of the actors, while they are there."""
        own = take_pulse("").peak_bytes
        # The market is cleared: an actor that is gone by now costs no more than this figure.
        with suppress(RaygridError):
            self._memory = memory_summary(own, sum(p.peak_bytes for p in market.take_pulses()))

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
        done = result.status is ClearingStatus.CONVERGED
        status = RunStatus.OK if done else RunStatus.ENDED_SHORT
        energy = 0.0
        if self._matched is not None:
            energy = float(self._matched.trades.energy_wh.sum()) / 1e3
            if self._matched.dropped_wh:
                self._notes.append(
                    f"{self._matched.dropped_wh} Wh in matches below the minimum trade size "
                    "were left out"
                )
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
            powerflow=self._powerflow,
            memory=self._memory,
        )
        notes = tuple(dict.fromkeys([*case.notes, *self._notes]))
        writer.write_summary(summary)
        writer.finish(
            status,
            {
                "ray_start": seconds.ray_start,
                "build": seconds.build,
                "clear": seconds.clear,
                "total": seconds.total,
            },
            reason=result.reason,
            welfare_bound=result.bound,
            notes=notes,
        )
        write_report(RunReader(writer.path))
        trades = None if self._matched is None else len(self._matched.trades)
        return RunResult(writer.path, summary, result, case, trades, notes)
