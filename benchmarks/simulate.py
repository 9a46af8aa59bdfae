"""`raygrid simulate --agents 1000` from the command to its end, with cold and warm kernels.

Run as ``python -m benchmarks.simulate``. Each run is a process of its own that starts Ray,
builds the scenario, clears it and writes its results. 'cold' compiles all kernels into an
empty cache (`NUMBA_CACHE_DIR`), as the first run after an installation does; 'warm' loads
them. What the wall time holds beside the summary's total is Python's start, imports, the
report and the end of Ray. With the chain 'none' a run ends after the market and its checks; with
'embedded' meters, settlement and statements are part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from benchmarks.common import OUT, Report, Spread, Target

SECONDS_TO_REACH = {"none": 15.0, "embedded": 30.0}
"""Wall time of a whole run at most, cold or warm, by chain [s]."""
PARTS = ("ray_start", "build", "clear", "total")


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
            check=True,
        )
        wall = perf_counter() - started
        path = Path(done.stdout.strip().splitlines()[-1]) / "summary.json"
        seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    return {"wall": wall, **{part: seconds[part] for part in PARTS}}


@click.command()
@click.option("--agents", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.argument("arguments", nargs=-1)
@OUT
def main(agents: int, repeats: int, arguments: tuple[str, ...], out: Path) -> None:
    """Time whole runs; ARGUMENTS (after --) are passed on to `raygrid simulate`."""
    report = Report("simulate", __doc__ or "")
    runs: dict[tuple[str, str], list[dict[str, float]]] = {
        (chain, kind): [] for chain in SECONDS_TO_REACH for kind in ("cold", "warm")
    }
    for _ in range(repeats):
        for chain in SECONDS_TO_REACH:
            with tempfile.TemporaryDirectory() as cache:
                for kind in ("cold", "warm"):
                    settings = ("--chain", chain, *arguments)
                    runs[chain, kind].append(one_run(agents, settings, Path(cache)))
    rows: list[dict[str, Any]] = [
        {
            "chain": chain,
            "kernels": kind,
            **{f"{part}_s": Spread.of(run[part] for run in some) for part in ("wall", *PARTS)},
            "beside_total_s": Spread.of(run["wall"] - run["total"] for run in some),
        }
        for (chain, kind), some in runs.items()
    ]
    report.table(f"raygrid simulate --agents {agents}", rows)
    report.targets(
        Target(
            f"chain {chain}, {kind}: longest wall [s]",
            max(run["wall"] for run in some),
            at_most=SECONDS_TO_REACH[chain],
        )
        for (chain, kind), some in runs.items()
    )
    report.write(out)


if __name__ == "__main__":
    main()
