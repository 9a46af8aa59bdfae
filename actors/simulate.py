"""Market days in a row, from scenario to run folder: what `raygrid simulate` does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from actors.borders import interrupted_run
from actors.checkpoint import PastRounds
from actors.cluster import ClusterOptions
from actors.course import Course, RunResult
from actors.market_day import Run
from actors.placement import PlacementPolicy
from actors.preflight import check_shared
from actors.session import Session
from actors.settling import (
    SettledDays,
    Settling,
    chain_of_run,
    go_on_settling,
    participants_of,
    settlement_order,
)
from raygrid.errors import InputError
from raygrid.market.marketplace import MAX_MATCHED_PROSUMERS
from raygrid.results.day_tables import DayTables
from raygrid.results.files import going_on
from raygrid.results.folder import check_writable
from raygrid.results.store import RunInfo, RunWriter
from raygrid.results.summary import Seconds
from raygrid.scenario.build import CaseDraft, draft_case
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import dump_resolved, load_scenario
from raygrid.scenario.settlement import public_name

if TYPE_CHECKING:
    from raygrid.learning.stages import DayStages


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
        Folder of a run whose driver died: its scenario, the days that are done, and the rounds of
        the day after them.
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
    earlier = None if options.resume is None else interrupted_run(options.resume)
    scenario, base_dir = load_scenario(
        options.scenario if earlier is None else earlier.scenario,
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
    left_out = scenario.stages.left_out(len(draft.community))
    if scenario.stages.intraday != "none" and not left_out:
        stages, measured, case = _staged(scenario, base_dir, draft)
    build_s = perf_counter() - started
    chain, unsettled = chain_of_run(options.chain, scenario.settlement, len(draft.community))
    command, earlier_chain = options.command, scenario.settlement.chain
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
        if left_out:
            tell(left_out)
        check_shared(
            options.out, len(draft.community) * draft.n_periods * n_days, session.resources
        )
        with RunWriter(options.out, scenario.name, info) as writer:
            writer.write_scenario(dump_resolved(scenario, base_dir))
            tables = DayTables(writer, n_days)
            run = Run(scenario, writer, tables, tell, options.central, stages)
            run.note(left_out)
            course = Course(run, draft, base_dir, measured)
            hint = going_on(f"give 'raygrid simulate --resume {writer.path}'")
            with hint, ExitStack() as stack:
                past = PastRounds() if earlier is None else course.take_over(earlier)
                settled_days = None
                if chain is not None:
                    assert isinstance(case, Case)
                    order = settlement_order(writer.path, chain, scenario, case)
                    if earlier is not None:
                        run.note(go_on_settling(earlier.path, order, earlier_chain))
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
                tables.close()
            session.release()
            seconds = Seconds(
                ray_start=session.ray_start_s,
                build=build_s,
                clear=course.clearing_s,
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
