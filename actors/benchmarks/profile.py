"""Where the time of a round goes: local solve, transfer, projection, report, and who waits.

The actors note their own stages while rounds travel over links. 'Solve' is that of the slowest
host. 'Transfer' is what else the operator spends on messages: it packs and unpacks them and waits
for the hosts longer than the slowest of them solves, while messages are packed, travel and wake
their reader. 'Project' is the operator's own work, 'report' what it takes to tell the driver, which
bears it where it falls behind. The stages add up to the operator's round; beside it stands the
round by the driver's clock. Rounds after the first two of each clearing, on warm actors.

'Forecasts' are those of the day ahead for all households, made by the shipped weights in one
process (hosts share that work), beside the clearing of the day that they are of; 'prepare' is what
is made ready for them once a day, whatever the number of households: the shapes of the weeks before
and their scales.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from time import perf_counter
from typing import Annotated, Any

from pydantic import PositiveInt, StringConstraints

from actors.benchmarks.common import Clock, SuiteSettings, T, repeat
from actors.cluster import ClusterOptions
from actors.driver import RayMarket
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from actors.stages import Stage
from raygrid.errors import EndedShortError, InputError
from raygrid.learning.forecast_community import ForecastCommunity
from raygrid.learning.stages import DayStages
from raygrid.market.clearing import ClearingOptions
from raygrid.prosumer.packed import PackedPopulation
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario

SKIPPED = 2
"""First rounds of a clearing that do not count: links open, caches fill."""

FORECAST_OVER_CLEAR = 0.25
"""Time of a community's forecasts in one process over that of its clearing, at most."""
LEARNED = ("stages.forecast=learned", "stages.intraday=rule")

Laps = list[dict[Stage, float]]
"""Seconds by stage of the rounds of one actor in one clearing."""


MarketText = Annotated[str, StringConstraints(pattern=r"^[^/]+/\d*/(auto|each|[1-9]\d*)$")]


class Settings(SuiteSettings):
    """What can be set: cases as 'scenario/prosumers/actors', without prosumers its own."""

    cases: tuple[MarketText, ...] = (
        "ieee14//2",
        "ieee14//each",
        "community/1000/2",
        "community/100000/2",
        "thesis14/100000/2",
        "ieee118/10000/2",
    )
    forecasts: tuple[MarketText, ...] = ("community/1000/2", "community/10000/2")
    repeats: PositiveInt = 5


QUICK = Settings(cases=("tiny//2", "community/100/2"), forecasts=("community/100/2",), repeats=1)


def clearing_laps(market: RayMarket, options: ClearingOptions) -> tuple[list[Laps], Clock]:
    """One clearing's stages, of the hosts and last of the operator, and the driver's clock."""
    clock = Clock()
    market.note_stages(True)
    market.clear(options, clock)
    laps = [list(rounds)[SKIPPED:] for rounds in market.noted_stages()]
    market.note_stages(False)
    if len({len(rounds) for rounds in laps}) != 1:
        raise EndedShortError("an actor was restarted; measure again")
    return laps, clock


def stages_ms(laps: list[Laps]) -> list[dict[str, float]]:
    """Each round split as the operator saw it, the slowest host's solve taken out of its wait.

    Parameters
    ----------
    laps : list of Laps
        Of the hosts, and last of the operator, the same rounds of each.

    Returns
    -------
    list of dict
        Milliseconds of solve, transfer, project and report, which add up to the round.
    """
    *hosts, operator = laps
    found = []
    for k, own in enumerate(operator):
        solve = max(host[k][Stage.SOLVE] for host in hosts)
        parts = {
            "solve": solve,
            "transfer": own[Stage.TRANSFER] + own[Stage.WAIT] - solve,
            "project": own[Stage.PROJECT],
            "report": own[Stage.REPORT],
        }
        found.append({name: 1e3 * seconds for name, seconds in parts.items()})
    return found


def measure(market: RayMarket, options: ClearingOptions, repeats: int) -> dict[str, Any]:
    """Clear several times with and without noting the stages."""
    market.clear(options)
    rounds: list[dict[str, float]] = []
    waits, uneven, driver_ms, plain_ms = [], [], [], []
    for _ in range(repeats):
        plain = Clock()
        market.clear(options, plain)
        plain_ms += plain.rounds_ms
        laps, clock = clearing_laps(market, options)
        rounds += stages_ms(laps)
        driver_ms += clock.rounds_ms
        for k in range(len(laps[-1])):
            hosts = [host[k] for host in laps[:-1]]
            waits += [host[Stage.WAIT] / sum(host.values()) for host in hosts]
            solves = [host[Stage.SOLVE] for host in hosts]
            uneven.append(max(solves) / fmean(solves))
    whole = [sum(stages.values()) for stages in rounds]
    return {
        "rounds": len(rounds) // repeats + SKIPPED,
        "round_ms": Spread.of(whole),
        **{f"{name}_ms": Spread.of(stages[name] for stages in rounds) for name in rounds[0]},
        **{
            f"{name}_percent": 100 * sum(stages[name] for stages in rounds) / sum(whole)
            for name in rounds[0]
        },
        "hosts_wait_percent": 100 * fmean(waits),
        "slowest_over_mean_solve": Spread.of(uneven).median,
        "driver_round_ms": Spread.of(driver_ms),
        "stages_over_driver_percent": 100 * sum(whole) / sum(driver_ms),
        "round_ms_when_off": Spread.of(plain_ms),
    }


def measure_forecasts(session: Session, case: str, repeats: int) -> dict[str, Any]:
    """Forecast the day ahead of a community, and clear it on that."""
    name, agents, actors = case.split("/")
    scenario, base_dir = load_scenario(name, agents=int(agents), settings=LEARNED)
    draft = draft_case(scenario, base_dir=base_dir)
    measured, stages = draft.surveyed(), DayStages.of(scenario, base_dir, len(draft.community))
    prepared, community = timed(
        repeats, lambda: stages.forecast_draft(draft, measured, 0).community
    )
    assert isinstance(community, ForecastCommunity)
    people = draft.community.recipe(0, len(draft.community)).build()
    assert isinstance(people, PackedPopulation)
    made, (load, pv) = timed(repeats, lambda: community.part.rule.forecast(people))
    ahead = stages.forecast_draft(draft, measured, 0).surveyed()
    options = clearing_options(scenario)
    with session.market(ahead, PlacementPolicy.parse(actors)) as market:
        cleared = repeat(repeats, lambda: market.clear(options).seconds)
        hosts = market.placement.n_hosts
    return {
        "scenario": name,
        "prosumers": len(people),
        "actors": hosts,
        "load_shapes": len(load.shapes),
        "pv_shapes": len(pv.shapes),
        "prepare_ms": prepared,
        "forecast_ms": made,
        "clear_ms": Spread.of(1e3 * seconds for seconds in cleared),
        "forecast_over_clear": made.median / (1e3 * Spread.of(cleared).median),
    }


def timed(repeats: int, make: Callable[[], T]) -> tuple[Spread, T]:
    """Milliseconds that something takes after a first time, and what it gives."""

    def once() -> tuple[float, T]:
        started = perf_counter()
        found = make()
        return 1e3 * (perf_counter() - started), found

    done = repeat(repeats, once)
    return Spread.of(ms for ms, _ in done), done[-1][1]


def run(report: Report, settings: Settings) -> None:
    """Profile rounds of markets of several sizes and placements, and their forecasts."""
    table = report.table("Stages of a round", ("scenario", "prosumers", "actors"))
    with Session(ClusterOptions()) as session:
        for case in settings.cases:
            name, agents, actors = case.split("/")
            scenario, base_dir = load_scenario(name, agents=int(agents) if agents else None)
            draft = draft_case(scenario, base_dir=base_dir)
            with session.market(draft, PlacementPolicy.parse(actors)) as market:
                facts = {
                    "scenario": name,
                    "prosumers": len(market.case.community),
                    "actors": market.placement.n_hosts,
                }
                if market.placement.feeders:
                    raise InputError(
                        "feeder operators stand between hosts and operator, and note no stages",
                        case,
                        "take a network that does without them",
                    )
                options = clearing_options(scenario)
                table.add({**facts, **measure(market, options, settings.repeats)})
        forecasts = report.table("Forecasts beside a clearing", ("scenario", "prosumers", "actors"))
        for case in settings.forecasts:
            forecasts.add(measure_forecasts(session, case, settings.repeats))
    beside = [
        Target(
            f"{row['scenario']}, {row['prosumers']} prosumers, {row['actors']} actors: "
            "stages beside the driver's round, apart by [%]",
            abs(row["stages_over_driver_percent"] - 100.0),
            at_most=5.0,
        )
        for row in table.rows
    ]
    quick = [
        Target(
            f"{row['scenario']}, {row['prosumers']} prosumers: forecast over clearing",
            row["forecast_over_clear"],
            at_most=FORECAST_OVER_CLEAR,
        )
        for row in forecasts.rows
    ]
    report.targets([*beside, *quick])
