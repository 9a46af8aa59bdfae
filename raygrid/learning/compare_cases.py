"""`raygrid reproduce ai-tem`: all cases on the same days, kept day by day, and what comes of them.

Pure logic: who plays the days of a case, here or in Ray tasks, is a function that the caller gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.learning.cases import CASES, Community, Learned, case_of, stages_table, what_is_learned
from raygrid.learning.code import CASES as CODE
from raygrid.learning.code import code_digest
from raygrid.learning.comparison import MODELS, Scores
from raygrid.learning.dataset import Dataset, build_dataset
from raygrid.learning.forecasting import WEIGHTS_FOLDER, find_forecaster
from raygrid.learning.market_days import LearningScenario, learning_scenario
from raygrid.learning.policy import load_policy
from raygrid.learning.weights import arrays_digest
from raygrid.market.foresight import perfect_foresight
from raygrid.results.ai_tem import (
    Bound,
    ForecastScore,
    Reproduction,
    comparison_table,
    markdown,
    pairings,
    pairings_table,
)
from raygrid.results.ai_tem_figure import figure7
from raygrid.results.ai_tem_printed import CaseName
from raygrid.results.case_days import CaseDay, case_days_table
from raygrid.results.files import RunStatus, json_text, write_atomically
from raygrid.results.folder import FolderWriter
from raygrid.scenario.load import dump_resolved, load_scenario

POLICY_FOLDER = "bidders"
"""Beside the scenario's forecasters."""
RULE_NOTE = "No bidders were trained: in every case with RL the rule acts in their place."
CHECKPOINT = "checkpoint"
"""Folder of a comparison that holds each case's days as they are done."""


@dataclass(frozen=True)
class Weights:
    """Folders of what was trained; None takes what ships with the scenario."""

    day: Path | None = None
    step: Path | None = None
    policy: Path | None = None


@dataclass(frozen=True)
class CasesOptions:
    """What `raygrid reproduce ai-tem` was asked for.

    Attributes
    ----------
    out : Path
        Folder of all results.
    command : str
        The command line, for the manifest.
    scenario : str
        Name or file of the scenario, which needs a history.
    settings : tuple of str
        Changes to it.
    cases : tuple of CaseName
        Which cases; the bound is one of them.
    days : int or None
        So many of the test days; all of them without it.
    weights : Weights
        What was trained.
    scores : Path or None
        Folder of `raygrid train compare`, for Table III.
    resume : Path or None
        Folder of an earlier comparison, whose days are not played again.
    rule : bool
        Whether the rule acts where bidders should have learned.
    """

    out: Path
    command: str
    scenario: str = "ai_tem"
    settings: tuple[str, ...] = ()
    cases: tuple[CaseName, ...] = tuple(CaseName)
    days: int | None = None
    weights: Weights = Weights()
    scores: Path | None = None
    resume: Path | None = None
    rule: bool = False


@dataclass(frozen=True)
class Errand:
    """Days of a case to play; travels to whoever plays them.

    Attributes
    ----------
    scenario, settings, weights, rule
        As in `CasesOptions`.
    case : CaseName
        The case.
    first, n_days : int
        First of the compared days, and their number.
    begin : int
        How many of them are done already.
    energy_kwh : (N, 3) float64 or None
        What these left in the stores [kWh].
    """

    scenario: str
    settings: tuple[str, ...]
    weights: Weights
    case: CaseName
    first: int
    n_days: int
    begin: int
    energy_kwh: FloatArray | None
    rule: bool = False


Played = tuple[CaseDay, FloatArray]
Players = Callable[[Sequence[Errand]], Iterator[tuple[CaseName, Played]]]
"""Plays errands, and gives each day of any of them as it is done."""


def play_here(errands: Sequence[Errand]) -> Iterator[tuple[CaseName, Played]]:
    """Play errands one after the other in this process."""
    for errand in errands:
        for played in play(errand):
            yield errand.case, played


def play(errand: Errand) -> Iterator[Played]:
    """Play one errand."""
    community = open_community(
        errand.scenario, errand.settings, errand.weights, errand.first, errand.n_days
    )
    days = community.days[errand.begin :]
    yield from community.play(case_of(errand.case, errand.rule), days, errand.energy_kwh)


@lru_cache(maxsize=1)
def open_community(
    scenario: str, settings: tuple[str, ...], weights: Weights, first: int, n_days: int
) -> Community:
    """Build the community once a process, whatever cases are played in it."""
    authored, base_dir = load_scenario(scenario, settings=settings)
    found = learning_scenario(scenario, settings=settings)
    data = build_dataset(authored, base_dir)
    days = np.arange(first, first + n_days)
    return Community(found, data, days, _learned(found, data, base_dir, weights))


def _learned(found: LearningScenario, data: Dataset, base_dir: Path, weights: Weights) -> Learned:
    """What was trained, where it is there and fits."""
    name, n = found.scenario.name, len(found.days.market.units)
    day, no_day = find_forecaster(name, base_dir, "day", data, weights.day)
    step, no_step = find_forecaster(name, base_dir, "step", data, weights.step)
    policy, no_policy = None, ""
    folder = weights.policy or base_dir / WEIGHTS_FOLDER / POLICY_FOLDER
    if folder.is_dir() or weights.policy is not None:
        policy = load_policy(folder, n)
    else:
        no_policy = f"no {WEIGHTS_FOLDER}/{POLICY_FOLDER} beside the scenario"
    digests = {
        key: arrays_digest(arrays)
        for key, arrays in (
            ("day", None if day is None else day.weights | day.scaling.arrays()),
            ("step", None if step is None else step.weights | step.scaling.arrays()),
            ("policy", None if policy is None else policy.arrays()),
        )
        if arrays is not None
    }
    missing = {"day": no_day, "step": no_step, "policy": no_policy}
    return Learned(day, step, policy, missing, digests)


def compare_cases(
    options: CasesOptions,
    players: Players = play_here,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Reproduction, Path]:
    """Play all cases and write the tables.

    Writes ``<out>/<scenario>-cases/<run_id>/`` with tables.md, comparison.csv and .parquet,
    case_days.csv and .parquet, differences.csv and .parquet, figure7.svg, and the manifest, last.
    Days are kept as they are done in `CHECKPOINT`, from which `resume` takes them over.

    Parameters
    ----------
    options : CasesOptions
        What is asked for.
    players : callable
        Plays the days.
    tell : callable
        Gets lines of progress.

    Returns
    -------
    Reproduction, Path
        What came out, and where it lies.

    Raises
    ------
    InputError
        For a scenario without history, weights that are missing, or a folder that is wrong.
    """
    started = perf_counter()
    scenario, base_dir = load_scenario(options.scenario, settings=options.settings)
    if scenario.history is None:
        raise InputError(
            "has no days to compare on",
            f"scenario {scenario.name!r}",
            "give it a `history`, or choose ai_tem",
        )
    first, n_days = scenario.history.first_days[2], scenario.history.test_days
    if options.days is not None:
        if options.days > n_days:
            raise InputError(
                f"{options.days} days, of {n_days} test days", "--days", "choose fewer"
            )
        n_days = options.days
    tell("reading the scenario")
    community = open_community(options.scenario, options.settings, options.weights, first, n_days)
    for name in options.cases:
        if name in CASES:
            community.check(case_of(name, options.rule))
    resolved = dump_resolved(scenario, base_dir)
    facts = {
        "reproduction": "ai-tem",
        "command": options.command,
        "scenario": scenario.name,
        "seed": scenario.seed,
        "days": list(range(first, first + n_days)),
        "cases": [str(case) for case in options.cases],
        "weights": community.learned.digests,
        "notes": [*scenario.notes, *([RULE_NOTE] if options.rule else [])],
    }
    with FolderWriter(options.out, f"{scenario.name}-cases", facts) as folder:
        keep = _Keep(folder.path / CHECKPOINT, options, resolved, community)
        errands = []
        for name in options.cases:
            if name is CaseName.FORESIGHT:
                continue
            done = keep.take_over(name, n_days)
            if len(done.days) < n_days:
                errands.append(
                    Errand(
                        options.scenario, options.settings, options.weights, name, first, n_days,
                        len(done.days), done.energy_kwh, options.rule,
                    )
                )  # fmt: skip
            else:
                tell(f"{name}: taken over")
        for case, (row, energy) in players(errands):
            keep.add(case, row, energy)
            tell(
                f"{case}: day {len(keep.cases[case].days)} of {n_days}, "
                f"{row.cost:.2f} {scenario.currency}" + (f" ({row.note})" if row.note else "")
            )
        bound = None
        days = [row for played in keep.cases.values() for row in played.days]
        if CaseName.FORESIGHT in options.cases:
            tell("perfect foresight")
            rows, bound = keep.foresight(n_days)
            days += rows
        done_all = Reproduction(
            tuple(days),
            bound,
            table_three(options.scores),
            stages_table(options.rule),
            scenario.currency,
        )
        for part, table in (
            ("case_days", case_days_table(done_all.days)),
            ("comparison", comparison_table(done_all)),
            ("differences", pairings_table(pairings(done_all))),
        ):
            _write_table(folder, part, table)
        folder.write_text("scenario.resolved.yaml", resolved)
        folder.write_text("figure7.svg", figure7(done_all))
        folder.write_text(
            "tables.md", markdown(done_all, options.command, RULE_NOTE if options.rule else "")
        )
        folder.finish(
            RunStatus.OK,
            {"total": perf_counter() - started},
            bound=None if bound is None else asdict(bound),
            short=[f"{row.case}, day {row.day}: {row.note}" for row in days if row.note],
        )
    return done_all, folder.path


def foresight_days(community: Community) -> tuple[list[CaseDay], Bound]:
    """The perfect-foresight optimum over the compared days in a row, by day, and the bound."""
    market = community.found.days.market
    feed, periods = market.feed, market.feed.day_periods
    first, n = int(community.days[0]) * periods, len(community.days) * periods
    best = perfect_foresight(market, first, n)
    k = np.arange(first, first + n)

    def by_day(values: FloatArray) -> list[float]:
        return [float(x) for x in values.reshape(-1, periods).sum(axis=1)]

    hours = feed.period_hours
    columns = zip(
        community.days.tolist(),
        by_day(best.cost),
        by_day(best.wear),
        by_day(feed.load_kw[k].sum(axis=1) * hours),
        by_day(feed.pv_kw[k].sum(axis=1) * hours),
        by_day(best.import_kwh),
        by_day(best.export_kwh),
        (best.import_kwh.reshape(-1, periods).max(axis=1) / hours).tolist(),
        strict=True,
    )
    rows = [
        CaseDay(
            case=str(CaseName.FORESIGHT), day=day, cost=cost, wear=wear, fees=0.0, load_kwh=load,
            pv_kwh=pv, curtailed_kwh=0.0, import_kwh=imported, export_kwh=exported, peak_kw=peak,
        )
        for day, cost, wear, load, pv, imported, exported, peak in columns
    ]  # fmt: skip
    return rows, Bound(best.bound, max(best.value - best.bound, 0.0))


def table_three(scores: Path | None) -> tuple[ForecastScore, ...]:
    """Forecasters that `raygrid train compare` scored one step ahead, in its order of names.

    Raises
    ------
    InputError
        If a file there is none of its.
    """
    if scores is None:
        return ()
    found: dict[str, list[Scores]] = {}
    for path in sorted(scores.glob("step-*.json")):
        try:
            kept = Scores(**json.loads(path.read_text(encoding="utf-8"))["scores"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"no scores of a forecaster ({error})", str(path), "remove it, or compare again"
            ) from None
        found.setdefault(kept.model, []).append(kept)
    return tuple(
        ForecastScore(
            model,
            len(found[model]),
            np.concatenate([s.load_rmse_percent for s in found[model]]),
            np.concatenate([s.pv_rmse_percent for s in found[model]]),
        )
        for model in MODELS
        if model in found
    )


@dataclass
class _Case:
    key: str
    days: list[CaseDay]
    energy_kwh: FloatArray | None


class _Keep:
    """Days of all cases as they are done, and what an earlier comparison kept."""

    def __init__(
        self, folder: Path, options: CasesOptions, resolved: str, community: Community
    ) -> None:
        earlier, self._rule = options.resume, options.rule
        self._folder, self._earlier = folder, earlier
        self._resolved, self._community = resolved, community
        self.cases: dict[CaseName, _Case] = {}
        folder.mkdir()
        if earlier is not None and not (earlier / CHECKPOINT).is_dir():
            raise InputError(
                "holds no days of a comparison", f"--resume {earlier}", "name its folder"
            )

    def take_over(self, name: CaseName, n_days: int) -> _Case:
        """What is known of a case already."""
        key = self._key(name)
        found = _Case(key, [], None)
        path = self._path(name)
        if path is not None:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == key and len(kept["days"]) <= n_days:
                days = [CaseDay(**_with_nan(day)) for day in kept["days"]]
                energy = kept["energy_kwh"]
                found = _Case(key, days, None if energy is None else np.array(energy))
        self.cases[name] = found
        if found.days:
            self._write(name)
        return found

    def foresight(self, n_days: int) -> tuple[list[CaseDay], Bound]:
        """The optimum, from the earlier comparison where that is of the same days."""
        name = CaseName.FORESIGHT
        done, path = self.take_over(name, n_days), self._path(name)
        if path is not None and len(done.days) == n_days:
            bound = json.loads(path.read_text(encoding="utf-8"))["bound"]
            self._write(name, bound=bound)
            return done.days, Bound(**bound)
        done.days, found = foresight_days(self._community)
        self._write(name, bound=asdict(found))
        return done.days, found

    def add(self, name: CaseName, row: CaseDay, energy_kwh: FloatArray) -> None:
        """Keep one more day."""
        case = self.cases[name]
        case.days.append(row)
        case.energy_kwh = energy_kwh
        self._write(name)

    def _path(self, name: CaseName) -> Path | None:
        """Where the earlier comparison keeps a case, if it does."""
        path = None if self._earlier is None else self._earlier / CHECKPOINT / f"{name}.json"
        return path if path is not None and path.is_file() else None

    def _write(self, name: CaseName, **more: Any) -> None:
        case = self.cases[name]
        energy = None if case.energy_kwh is None else case.energy_kwh.tolist()
        days = [day.facts() for day in case.days]
        text = json_text({"key": case.key, "days": days, "energy_kwh": energy, **more})
        write_atomically(self._folder / f"{name}.json", partial(_put, text))

    def _key(self, name: CaseName) -> str:
        """The same only where the days would be."""
        case = case_of(name, self._rule) if name in CASES else None
        learned = self._community.learned
        parts: list[Any] = [self._resolved, repr(case), int(self._community.days[0])]
        parts.append(code_digest(CODE))
        if case is None:
            parts.append(len(self._community.days))
        else:
            parts += [learned.digests.get(what) for what in what_is_learned(case)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_ABSENT = ("lowest_voltage_pu", "highest_voltage_pu", "highest_loading")


def _with_nan(day: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan."""
    return day | {name: float("nan") for name in _ABSENT if day[name] is None}


def _put(text: str, stream: IO[bytes]) -> None:
    stream.write(text.encode())


def _write_table(folder: FolderWriter, name: str, table: pa.Table) -> None:
    folder.write_file(f"{name}.parquet", lambda stream: pq.write_table(table, stream))
    folder.write_file(f"{name}.csv", lambda stream: pyarrow.csv.write_csv(table, stream))


def named_cases(names: Iterable[str]) -> tuple[CaseName, ...]:
    """Cases by their names on the command line.

    Raises
    ------
    InputError
        If there is no such case.
    """
    found = []
    for name in names:
        try:
            found.append(CaseName(name))
        except ValueError:
            raise InputError(f"no case {name!r}", "--cases", f"of {', '.join(CaseName)}") from None
    return tuple(found)
