"""`raygrid train dqn`: bidders learn on the days of a scenario's history."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from raygrid.commands.options import OUT, SETTINGS
from raygrid.errors import EndedShortError, ExitCode


@click.command()
@click.argument("scenario")
@click.option("--agents", type=click.IntRange(min=1), help="Number of prosumers.")
@click.option(
    "--episodes", type=click.IntRange(min=1), help="Days to learn from; default as in the scenario."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights, days and exploration.")
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
    """
    from raygrid.learning.bidders_market import TrainBiddersOptions
    from raygrid.learning.dqn_training import TrainingStatus
    from raygrid.learning.train_bidders import comparison_text, train_bidders

    done = train_bidders(
        TrainBiddersOptions(
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
        ),
        (lambda _: None) if quiet else (lambda line: click.echo(line, err=True)),
    )
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
