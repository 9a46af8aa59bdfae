"""`raygrid simulate --agents 1000` from the command to its end, with cold and warm kernels.

Each run is a process of its own that starts Ray, builds the scenario, forecasts and clears the day,
trades on what was not as forecast, and writes its results. 'cold' compiles all kernels into an
empty cache (`NUMBA_CACHE_DIR`), as the first run after an installation does; 'warm' loads them.
What the wall time holds beside the summary's total is Python's start, imports, the report and the
end of Ray. 'build' forecasts the day and makes its market. With the chain 'none' a run ends after
the market and its checks; with 'embedded' meters, settlement and statements are part of it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings
from raygrid.errors import EndedShortError
from raygrid.results.benchmark import Report, Spread, Target

SECONDS_TO_REACH = {"none": 15.0, "embedded": 30.0}
"""Wall time of a whole run at most, cold or warm, by chain [s]."""
PARTS = ("ray_start", "build", "clear", "intraday", "settle", "total")


def one_run(agents: int, arguments: tuple[str, ...], cache: Path) -> dict[str, float]:
    """Wall time of one process and the seconds of its summary."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "raygrid", "simulate", "--agents", str(agents)]
        command += [*arguments, "--quiet", "--out", folder]
        started = perf_counter()
        done = subprocess.run(
            command,
            env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        wall = perf_counter() - started
        if done.returncode:
            raise EndedShortError(f"`{shlex.join(command)}` ended with {done.returncode}")
        path = Path(done.stdout.strip().splitlines()[-1]) / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
    stages = {"intraday": summary["intraday"], "settle": summary["settlement"]}
    seconds = {name: 0.0 if stage is None else stage["seconds"] for name, stage in stages.items()}
    seconds |= summary["seconds"]
    return {"wall": wall, **{part: seconds[part] for part in PARTS}}


class Settings(SuiteSettings):
    """What can be set; `arguments` go to `raygrid simulate` as they are."""

    agents: PositiveInt = 1000
    repeats: PositiveInt = 3
    arguments: tuple[str, ...] = ()


QUICK = Settings(agents=20, repeats=1, arguments=("--periods", "4"))


def run(report: Report, settings: Settings) -> None:
    """Time whole runs."""
    runs: dict[tuple[str, str], list[dict[str, float]]] = {
        (chain, kind): [] for chain in SECONDS_TO_REACH for kind in ("cold", "warm")
    }
    for k in range(settings.repeats):
        for chain in SECONDS_TO_REACH:
            with tempfile.TemporaryDirectory() as cache:
                for kind in ("cold", "warm"):
                    arguments = ("--chain", chain, *settings.arguments)
                    runs[chain, kind].append(one_run(settings.agents, arguments, Path(cache)))
            report.tell(f"chain {chain}, {k + 1} of {settings.repeats}")
    table = report.table(f"raygrid simulate --agents {settings.agents}", ("chain", "kernels"))
    for (chain, kind), some in runs.items():
        parts = {f"{p}_s": Spread.of(run[p] for run in some) for p in ("wall", *PARTS)}
        beside = Spread.of(run["wall"] - run["total"] for run in some)
        table.add({"chain": chain, "kernels": kind, **parts, "beside_total_s": beside})
    report.targets(
        Target(
            f"chain {chain}, {kind}: longest wall [s]",
            max(run["wall"] for run in some),
            at_most=SECONDS_TO_REACH[chain],
        )
        for (chain, kind), some in runs.items()
    )
