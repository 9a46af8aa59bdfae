"""What a study's runs tell together: one row a run, medians, scaling and its fitted exponent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class StudyRecord:
    """How one run of a study ended; written beside its folder as JSON.

    Attributes
    ----------
    key : str
        Which run it was.
    scenario : str
        Name of its scenario.
    values : mapping
        Value of each axis.
    repeat : int
        Its number among runs that differ in nothing.
    status : str
        'ok' or 'ended_short' of a finished run, 'failed' of one that left no result.
    reason : str
        Why it ended short or failed, in one line.
    cpus : int
        CPUs that it could use.
    nodes : int
        Machines of the cluster.
    run : str or None
        Its folder, relative to the study's; None where it did not get that far.
    seconds : float
        Wall time, with the start of its process [s].
    summary : mapping or None
        Its summary.json; None for a failed run.
    """

    key: str
    scenario: str
    values: Mapping[str, Any]
    repeat: int
    status: str
    reason: str
    cpus: int
    nodes: int
    run: str | None
    seconds: float
    summary: Mapping[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether there is a result, so that the run need not be repeated."""
        return self.summary is not None


def _of_section(section: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    """A value of a summary's section that not every run has; None without it."""

    def value(summary: Mapping[str, Any]) -> Any:
        found = summary.get(section)
        return None if found is None else found.get(name)

    return value


MARKET_COLUMNS: tuple[tuple[str, pa.DataType, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("cost", pa.float64(), _of_section("intraday", "cost")),
    ("grid_import_kwh", pa.float64(), _of_section("intraday", "grid_import_kwh")),
    ("grid_export_kwh", pa.float64(), _of_section("intraday", "grid_export_kwh")),
    ("curtailed_kwh", pa.float64(), _of_section("intraday", "curtailed_kwh")),
    ("day_ahead_kwh", pa.float64(), _of_section("intraday", "day_ahead_kwh")),
    ("intraday_kwh", pa.float64(), _of_section("intraday", "traded_kwh")),
    ("failed_kwh", pa.float64(), _of_section("intraday", "failed_kwh")),
    ("overloads", pa.int64(), _of_section("powerflow", "overloads")),
    ("voltage_violations", pa.int64(), _of_section("powerflow", "voltage_violations")),
    ("settled_trades", pa.int64(), _of_section("settlement", "settled")),
)
"""What a market design comes to: cost to all and energies of days with an intraday stage, line
currents and voltages beyond their limits in the AC load flow, and trades settled on chain."""
_COLUMNS: tuple[tuple[str, pa.DataType, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("prosumers", pa.int64(), lambda s: s["prosumers"]),
    ("periods", pa.int64(), lambda s: s["periods"]),
    ("buses", pa.int64(), lambda s: s["buses"]),
    ("lines", pa.int64(), lambda s: s["lines"]),
    ("actors", pa.int64(), lambda s: s["actors"]),
    ("clearing", pa.string(), lambda s: s["clearing"]["status"]),
    ("iterations", pa.int64(), lambda s: s["clearing"]["iterations"]),
    ("welfare", pa.float64(), lambda s: s["clearing"]["welfare"]),
    ("gap", pa.float64(), lambda s: s["central"] and s["central"]["gap"]),
    ("line_violations", pa.int64(), lambda s: s["clearing"]["line_violations"]),
    ("central_seconds", pa.float64(), lambda s: s["central"] and s["central"]["seconds"]),
    ("build_seconds", pa.float64(), lambda s: s["seconds"]["build"]),
    ("clear_seconds", pa.float64(), lambda s: s["seconds"]["clear"]),
    ("total_seconds", pa.float64(), lambda s: s["seconds"]["total"]),
    ("memory_bytes", pa.int64(), lambda s: memory_bytes(s)),
    *MARKET_COLUMNS,
)
"""Columns that come from a run's summary."""


def memory_bytes(summary: Mapping[str, Any]) -> int | None:
    """Peak memory of all processes of a run [B]; None where it was not measured."""
    memory = summary.get("memory")
    return None if memory is None else memory["driver_peak_bytes"] + memory["actors_peak_bytes"]


def study_table(records: Iterable[StudyRecord]) -> pa.Table:
    """The finished runs, one row each; an axis whose values are of mixed types is text.

    Parameters
    ----------
    records : iterable of StudyRecord
        All records; those of failed runs are left out.
    """
    rows = [record for record in records if record.finished]
    columns: dict[str, pa.Array] = {
        "key": pa.array([row.key for row in rows], pa.string()),
        "scenario": pa.array([row.scenario for row in rows], pa.string()),
        "repeat": pa.array([row.repeat for row in rows], pa.int64()),
        "status": pa.array([row.status for row in rows], pa.string()),
        "cpus": pa.array([row.cpus for row in rows], pa.int64()),
        "nodes": pa.array([row.nodes for row in rows], pa.int64()),
    }
    for name, kind, of in _COLUMNS:
        columns[name] = pa.array([of(row.summary or {}) for row in rows], kind)
    columns["run"] = pa.array([row.run for row in rows], pa.string())
    for axis in dict.fromkeys(name for row in rows for name in row.values):
        columns[f"axis.{axis}"] = _axis([row.values.get(axis) for row in rows])
    return pa.table(columns)


def failures(records: Iterable[StudyRecord]) -> list[dict[str, Any]]:
    """What the failed runs say, for failures.json."""
    keep = ("key", "scenario", "values", "repeat", "reason", "run", "seconds")
    return [
        {name: value for name, value in asdict(record).items() if name in keep}
        for record in records
        if not record.finished
    ]


def _axis(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) == 1 and kinds <= {int, float, bool, str}:
        return pa.array(values)
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values])
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(texts, pa.string())


# --- medians and scaling ---------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Runs that differ in seed and repeat only: medians, and the spread of the clearing's time.

    Attributes
    ----------
    scenario : str
        Name of the scenario.
    variant : tuple of (str, str)
        Values of the axes that are neither size, CPUs nor seed.
    prosumers, cpus : int
        Size, and CPUs that the runs could use.
    runs : int
        How many.
    converged : int
        How many of them converged.
    iterations, clear_seconds, total_seconds : float
        Medians.
    least_seconds, most_seconds : float
        Shortest and longest time to clear [s].
    most_iterations : int
        Worst of the runs.
    memory_bytes, gap : float or None
        Largest; None where not measured.
    """

    scenario: str
    variant: tuple[tuple[str, str], ...]
    prosumers: int
    cpus: int
    runs: int
    converged: int
    iterations: float
    clear_seconds: float
    total_seconds: float
    least_seconds: float
    most_seconds: float
    most_iterations: int
    memory_bytes: float | None
    gap: float | None

    @property
    def name(self) -> str:
        """Scenario and variant."""
        return ", ".join([self.scenario, *(f"{name} {value}" for name, value in self.variant)])


_SIZE_AXES = ("agents", "cpus", "seed")


def group_runs(records: Iterable[StudyRecord]) -> list[Group]:
    """Medians over seeds and repeats, in the order of scenario, variant, CPUs and size."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        if record.summary is None:
            continue
        variant = tuple(
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in record.values.items()
            if name not in _SIZE_AXES and not _follows_cpus(name, value, record.cpus)
        )
        size = int(record.summary["prosumers"])
        found.setdefault((record.scenario, variant, record.cpus, size), []).append(record.summary)
    return [
        _group(scenario, variant, size, cpus, summaries)
        for (scenario, variant, cpus, size), summaries in sorted(found.items())
    ]


def _follows_cpus(name: str, value: Any, cpus: int) -> bool:
    """Whether an axis only says that there is one actor per CPU."""
    return name == "actors" and str(value) == str(cpus)


def _group(
    scenario: str,
    variant: tuple[tuple[str, str], ...],
    size: int,
    cpus: int,
    summaries: Sequence[Mapping[str, Any]],
) -> Group:
    clearings = [summary["clearing"] for summary in summaries]
    seconds = [summary["seconds"]["clear"] for summary in summaries]
    gaps = [s["central"]["gap"] for s in summaries if s["central"] and s["central"]["gap"]]
    memory = [m for m in map(memory_bytes, summaries) if m is not None]
    return Group(
        scenario=scenario,
        variant=variant,
        prosumers=size,
        cpus=cpus,
        runs=len(summaries),
        converged=sum(clearing["status"] == "converged" for clearing in clearings),
        iterations=median(clearing["iterations"] for clearing in clearings),
        clear_seconds=median(seconds),
        total_seconds=median(summary["seconds"]["total"] for summary in summaries),
        least_seconds=min(seconds),
        most_seconds=max(seconds),
        most_iterations=max(clearing["iterations"] for clearing in clearings),
        memory_bytes=max(memory) if memory else None,
        gap=max(gaps) if gaps else None,
    )


@dataclass(frozen=True)
class PowerLaw:
    """time = factor * prosumers ** exponent, by least squares of the logarithms.

    Attributes
    ----------
    factor : float
        Time of one prosumer, as the law has it [s].
    exponent : float
        1 is linear.
    error : float
        Standard error of the exponent; NaN with two sizes only.
    r_squared : float
        Share of the logarithms' variance that the law tells.
    """

    factor: float
    exponent: float
    error: float
    r_squared: float


def fit_power_law(sizes: Sequence[float], seconds: Sequence[float]) -> PowerLaw | None:
    """Fit time against size; None with fewer than two sizes.

    Parameters
    ----------
    sizes : sequence of float
        Numbers of prosumers.
    seconds : sequence of float
        Times [s].
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    if len(np.unique(x)) < 2:
        return None
    dx = x - x.mean()
    exponent = float(dx @ y / (dx @ dx))
    constant = float(y.mean() - exponent * x.mean())
    rest = y - constant - exponent * x
    spread = float(((y - y.mean()) ** 2).sum())
    error = np.sqrt(rest @ rest / (len(x) - 2) / (dx @ dx)) if len(x) > 2 else np.nan
    r_squared = 1.0 - float(rest @ rest) / spread if spread > 0 else 1.0
    return PowerLaw(float(np.exp(constant)), exponent, float(error), r_squared)


@dataclass(frozen=True)
class ScalingPoint:
    """One step of a scaling series.

    Attributes
    ----------
    cpus, prosumers : int
        Its size.
    seconds : float
        Median time to clear [s].
    speedup : float
        Work per time against the series' first step.
    efficiency : float
        Speed-up over the growth of CPUs; 1 is ideal.
    """

    cpus: int
    prosumers: int
    seconds: float
    speedup: float
    efficiency: float


@dataclass(frozen=True)
class Scaling:
    """A series of runs with ever more CPUs: 'strong' on one problem, 'weak' on one that grows."""

    kind: str
    name: str
    points: tuple[ScalingPoint, ...]


def strong_scaling(groups: Iterable[Group]) -> list[Scaling]:
    """Series of the same problem on ever more CPUs; efficiency t1 c1 / (t c)."""
    return _series("strong", groups, lambda group: group.prosumers)


def weak_scaling(groups: Iterable[Group]) -> list[Scaling]:
    """Series with the same number of prosumers per CPU; efficiency t1 / t."""
    return _series("weak", groups, lambda group: group.prosumers / group.cpus)


def _series(kind: str, groups: Iterable[Group], problem: Callable[[Group], float]) -> list[Scaling]:
    found: dict[tuple[str, float], list[Group]] = {}
    for group in groups:
        found.setdefault((group.name, problem(group)), []).append(group)
    series = []
    for (name, size), members in found.items():
        members.sort(key=lambda group: group.cpus)
        if len({group.cpus for group in members}) < 2:
            continue
        first = members[0]
        points = []
        for group in members:
            work = group.prosumers / first.prosumers
            speedup = work * first.clear_seconds / group.clear_seconds
            efficiency = speedup * first.cpus / group.cpus
            points.append(
                ScalingPoint(group.cpus, group.prosumers, group.clear_seconds, speedup, efficiency)
            )
        per = " per CPU" if kind == "weak" else ""
        series.append(Scaling(kind, f"{name}, {size:g} prosumers{per}", tuple(points)))
    return series


def size_series(groups: Iterable[Group]) -> dict[tuple[str, int], list[Group]]:
    """Groups of growing size by name and CPUs, those of one size left out."""
    found: dict[tuple[str, int], list[Group]] = {}
    for group in groups:
        found.setdefault((group.name, group.cpus), []).append(group)
    return {
        key: sorted(members, key=lambda group: group.prosumers)
        for key, members in found.items()
        if len({group.prosumers for group in members}) > 1
    }
