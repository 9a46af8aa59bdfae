"""`raygrid train dqn --seeds`: one training for each seed, and their learning curves in a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raygrid.errors import InputError
from raygrid.learning.bidders_market import BiddersMarket, TrainBiddersOptions, bidders_market
from raygrid.learning.dqn_training import CHECKPOINT, LOG
from raygrid.learning.train_bidders import train_bidders, training_folder
from raygrid.results.files import MANIFEST, write_atomically

TABLE = "learning_curves.csv"
MEASURED = ("epsilon", "reward", "loss", "validation_cost")

Tell = Callable[[str], None]
SeedRunner = Callable[[Sequence[TrainBiddersOptions], BiddersMarket, Tell], None]
"""Trains each of some options, one for each seed, and returns when all are done."""


@dataclass(frozen=True)
class TrainedSeeds:
    """What came of several seeds.

    Attributes
    ----------
    folders : tuple of Path
        A training each, in the order of the seeds.
    table : Path
        Their learning curves by episode.
    """

    folders: tuple[Path, ...]
    table: Path


def train_here(jobs: Sequence[TrainBiddersOptions], market: BiddersMarket, tell: Tell) -> None:
    """Train one seed after the other in this process."""
    for job in jobs:
        train_bidders(job, tell, market)


def train_seeds(
    options: TrainBiddersOptions,
    seeds: Sequence[int],
    run: SeedRunner = train_here,
    tell: Tell = lambda _: None,
) -> TrainedSeeds:
    """Train bidders with several seeds on one market.

    Parameters
    ----------
    options : TrainBiddersOptions
        What to do, but for the seed; with `resume` seeds that ended are kept, those that left a
        checkpoint go on from it, and the others begin.
    seeds : sequence of int
        Seeds, each once.
    run : callable
        Trains them, here or elsewhere.
    tell : callable
        Gets lines of progress.

    Raises
    ------
    InputError
        As `train_bidders`.
    """
    options = replace(options, out=options.out.resolve())
    market = bidders_market(options, tell)
    folders, jobs = [], []
    for seed in seeds:
        own = replace(options, seed=seed)
        folder = training_folder(market, own)
        folders.append(folder)
        if options.resume and (folder / MANIFEST).exists():
            tell(f"seed {seed}: taken over")
            continue
        jobs.append(replace(own, resume=options.resume and (folder / CHECKPOINT).exists()))
    (options.out / market.name).mkdir(parents=True, exist_ok=True)
    run(jobs, market, tell)
    kind = "shared-" if options.shared else ""
    table = options.out / market.name / f"dqn-{kind}{TABLE}"
    text = curves_table([folder / LOG for folder in folders])
    write_atomically(table, lambda stream: stream.write(text.encode()))
    return TrainedSeeds(tuple(folders), table)


def curves_table(paths: Iterable[Path]) -> str:
    """Learning curves of several seeds as one CSV: mean and deviation (n - 1) by episode.

    Episodes that not all seeds measured are left out.

    Parameters
    ----------
    paths : iterable of Path
        Their `learning_curve.csv`.

    Raises
    ------
    InputError
        If one is missing or damaged.
    """
    curves: list[dict[int, list[float]]] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                curves.append(
                    {
                        int(row["episode"]): [float(row[name]) for name in MEASURED]
                        for row in csv.DictReader(stream)
                    }
                )
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError("no learning curve", str(path), "train that seed again") from error
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["episode", "seeds", *(f"{name}_{kind}" for name in MEASURED for kind in ("mean", "std"))]
    )
    shared = set(curves[0]).intersection(*curves[1:]) if curves else set()
    for episode in sorted(shared):
        values = np.array([curve[episode] for curve in curves])
        deviation = values.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(len(MEASURED))
        both = np.stack([values.mean(axis=0), deviation], axis=1).ravel()
        writer.writerow([episode, len(curves), *(f"{value:.8g}" for value in both)])
    return text.getvalue()


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds as '1,2,3' names them.

    Raises
    ------
    InputError
        If they are not whole numbers of 0 or more, each once.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"{text!r} names no seeds", "--seeds", "give whole numbers, such as 1,2,3")
    return seeds
