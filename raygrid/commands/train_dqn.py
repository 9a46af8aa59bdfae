"""`raygrid train dqn`: bidders learn on the days of a scenario's history."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raygrid.commands.options import ADDRESS, OUT, SETTINGS
from raygrid.errors import EndedShortError, ExitCode, InputError

if TYPE_CHECKING:
    from raygrid.learning.bidders_market import TrainBiddersOptions


@click.command()
@click.argument("scenario")
@click.option("--agents", type=click.IntRange(min=1), help="Number of prosumers.")
@click.option(
    "--episodes", type=click.IntRange(min=1), help="Days to learn from; default as in the scenario."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights, days and exploration.")
@click.option("--seeds", metavar="N,...", help="Several seeds, a training each.")
@click.option(
    "--actors",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seeds that train at a time as Ray tasks; 0: one after the other in this process.",
)
@ADDRESS
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="By how much an action's value must lead that of plan or rule; default 0.",
)
@click.option("--shared", is_flag=True, help="One network for all prosumers.")
@click.option(
    "--plan/--no-plan",
    "planned",
    default=True,
    show_default=True,
    help="Learn on top of day-ahead plans, or on the intraday market alone.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@OUT
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder.")
@click.option("--quiet", is_flag=True, help="Print nothing but the training's folder.")
@SETTINGS
def dqn(
    scenario: str,
    agents: int | None,
    episodes: int | None,
    seed: int | None,
    seeds: str | None,
    actors: int,
    address: str | None,
    margin: float | None,
    shared: bool,
    planned: bool,
    device: str,
    out: Path,
    resume: bool,
    quiet: bool,
    settings: tuple[str, ...],
) -> int:
    """Train a DQN bidder for every prosumer of SCENARIO on the days of its history.

    Writes weights with a manifest, a checkpoint while it trains, and the learning curve (CSV)
    into OUT/SCENARIO/dqn-SEED, and compares the bidders with their day-ahead plan, or with the
    rule and the grid alone, on the validation days in a row; the last line printed is that folder.
    With --seeds the last line is a table of all learning curves, mean and deviation over seeds.
    """
    from raygrid.learning.bidders_market import TrainBiddersOptions
    from raygrid.learning.dqn_training import TrainingStatus
    from raygrid.learning.train_bidders import comparison_text, train_bidders

    options = TrainBiddersOptions(
        scenario=scenario,
        out=out,
        command=shlex.join(["raygrid", *sys.argv[1:]]),
        settings=settings,
        agents=agents,
        episodes=episodes,
        seed=seed,
        margin=margin,
        shared=shared,
        planned=planned,
        device=device,
        resume=resume,
    )
    tell = (lambda _: None) if quiet else (lambda line: click.echo(line, err=True))
    if seeds is not None:
        return _train_seeds(options, seeds, actors, address, tell)
    if actors:
        raise InputError(
            "several seeds train on Ray, and none are named", "--actors", "add --seeds"
        )
    done = train_bidders(options, tell)
    if not quiet:
        for line in comparison_text(done.figures, done.currency):
            click.echo(line)
    click.echo(done.folder)
    if done.status is TrainingStatus.DIVERGED:
        raise EndedShortError(
            "training stopped at a loss that is not a number; the weights kept are those of "
            f"episode {done.best.episode}; try a smaller learning rate"
        )
    return int(ExitCode.DONE)


def _train_seeds(
    options: TrainBiddersOptions,
    seeds: str,
    actors: int,
    address: str | None,
    tell: Callable[[str], None],
) -> int:
    from raygrid.learning.train_seeds import seeds_of, train_here, train_seeds

    if options.seed is not None:
        raise InputError("names a seed beside --seeds", "--seed", "leave one of them away")
    wanted = seeds_of(seeds)
    if actors:
        from actors.cluster import ClusterOptions
        from actors.training_seeds import RaySeeds

        runner = RaySeeds(ClusterOptions(address=address), actors)
        done = train_seeds(options, wanted, runner, tell)
    else:
        done = train_seeds(options, wanted, train_here, tell)
    for folder in done.folders:
        click.echo(folder)
    click.echo(done.table)
    return int(ExitCode.DONE)
