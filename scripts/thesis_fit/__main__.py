"""Reconstruct the thesis cases: `python -m scripts.thesis_fit search|write|report SCENARIO`."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from scripts.thesis_fit.confirm import report
from scripts.thesis_fit.printed import SETUPS
from scripts.thesis_fit.search import Task, search
from scripts.thesis_fit.write import fit_record, load_fits, save_fits, write_tables


def main(arguments: list[str]) -> None:
    """Search fits and keep them, write the tables of the first one, or report on all."""
    parser = argparse.ArgumentParser(prog="python -m scripts.thesis_fit", description=__doc__)
    parser.add_argument("action", choices=("search", "write", "report"))
    parser.add_argument("scenario", choices=tuple(SETUPS))
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="one fit is kept per seed")
    parser.add_argument("--steps", type=int, default=30_000, help="moves of an annealing")
    asked = parser.parse_args(arguments)
    setup = SETUPS[asked.scenario]
    if asked.action == "search":
        task = Task.of(setup)
        for seed in asked.seed:
            scalars, placement, cost = search(task, np.random.default_rng(seed), asked.steps)
            record = fit_record(scalars, placement, seed, cost)
            kept = [fit for fit in load_fits(setup.name) if fit["seed"] != seed] + [record]
            save_fits(setup.name, sorted(kept, key=lambda fit: float(fit["cost"])))
            print(f"seed {seed}: cost {cost:.4g}", flush=True)
    elif asked.action == "write":
        write_tables(setup, load_fits(setup.name)[0])
    else:
        print(report(setup, load_fits(setup.name)))


if __name__ == "__main__":
    main(sys.argv[1:])
