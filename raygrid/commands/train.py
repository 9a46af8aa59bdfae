"""`raygrid train`: forecasters learn from a scenario's history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from raygrid.commands.options import ADDRESS, OUT, SETTINGS
from raygrid.commands.train_dqn import dqn
from raygrid.errors import EndedShortError, InputError

if TYPE_CHECKING:
    from raygrid.learning.dataset import Dataset
    from raygrid.scenario.config import Scenario

LEARN_FROM = 100
"""Households that weights for anybody are learnt from, unless told otherwise."""

TASK = click.option(
    "--task",
    type=click.Choice(["step", "day"]),
    default="step",
    show_default=True,
    help="One step ahead from 24 steps behind, or the day ahead from its midnight.",
)
EPOCHS = click.option(
    "--epochs",
    type=click.IntRange(1, 10_000),
    help="Default: 24 for a step, 15 for the day ahead.",
)
DEFAULT_EPOCHS = {"step": 24, "day": 15}
READINGS = click.option(
    "--data",
    "readings",
    type=click.Path(path_type=Path),
    help="Measured series in place of the scenario's: time, prosumer_id, load_kw, pv_kw.",
)


@click.group()
def train() -> None:
    """Let prosumers learn (needs the extra 'learn')."""


@train.command()
@click.argument("scenario")
@TASK
@click.option(
    "--way",
    type=click.Choice(["own", "shared", "federated"]),
    default="shared",
    show_default=True,
    help="Weights of each prosumer's own, the same for all, or averaged over hosts.",
)
@click.option(
    "--for-anybody",
    is_flag=True,
    help="Shared weights without embeddings, which fit any prosumers; always so of scenarios "
    "without a history.",
)
@click.option("--agents", type=click.IntRange(min=1), help="Number of prosumers to learn from.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@EPOCHS
@click.option(
    "--actors",
    metavar="auto|each|N",
    help="Train in so many Ray actors, each of some prosumers (ways own and federated); left out: "
    "in this process.",
)
@ADDRESS
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda",
    help="Where torch computes; auto is a GPU where there is one.",
)
@READINGS
@OUT
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder.")
@SETTINGS
def forecaster(
    scenario: str,
    task: str,
    way: str,
    for_anybody: bool,
    agents: int | None,
    seed: int,
    epochs: int | None,
    actors: str | None,
    address: str | None,
    device: str,
    readings: Path | None,
    out: Path,
    resume: bool,
    settings: tuple[str, ...],
) -> None:
    """Train the forecaster of SCENARIO's prosumers (AI-TEM's CNN-Transformer).

    Writes weights with a manifest, a checkpoint and a log into OUT/SCENARIO/forecaster-*; the
    last line printed is that folder.
    """
    from raygrid.learning.inference import save_forecaster
    from raygrid.learning.network import NetworkSpec, spec_for_anybody
    from raygrid.learning.train_options import options_for
    from raygrid.learning.training import choose_device
    from raygrid.learning.training import train as run_training
    from raygrid.scenario.load import load_scenario

    loaded, base_dir = load_scenario(scenario, settings=settings, agents=agents)
    for_anybody = for_anybody or (loaded.history is None and way == "shared")
    if for_anybody and way == "own":
        raise InputError(
            "own weights of each prosumer fit nobody else", "--for-anybody", "choose --way shared"
        )
    if loaded.history is None and agents is None and len_of(loaded) > LEARN_FROM:
        loaded, base_dir = load_scenario(scenario, settings=settings, agents=LEARN_FROM)
    data = _dataset(loaded, base_dir, readings)
    kind = f"{way}-for-anybody" if for_anybody else way
    folder = _folder(out / data.name / f"forecaster-{task}-{kind}-{seed}")
    options = options_for(way, seed, epochs or DEFAULT_EPOCHS[task], task)
    spec = spec_for_anybody(task) if for_anybody else NetworkSpec(task=task)

    def tell(line: str) -> None:
        click.echo(line, err=True)

    if actors is None:
        choose_device(device)
        done = run_training(
            data, spec, options, folder=folder, resume=resume, tell=tell, device=device
        )
    else:
        from actors.cluster import ClusterOptions
        from actors.placement import PlacementPolicy
        from actors.training import HostedOptions, train_on_hosts

        done = train_on_hosts(
            loaded,
            base_dir,
            data,
            spec,
            options,
            HostedOptions(PlacementPolicy.parse(actors), ClusterOptions(address), device),
            own_series=readings is not None,
            folder=folder,
            resume=resume,
            tell=tell,
        )
    if not done.log:
        raise EndedShortError("the first epoch's loss was not a number; no weights were kept")
    save_forecaster(folder, done.forecaster)
    click.echo(folder)
    if done.status == "diverged":
        raise EndedShortError(
            f"a loss was not a number after epoch {done.log[-1]['epoch']:.0f}; "
            f"{folder} holds the last good weights"
        )


@train.command()
@click.argument("scenario")
@TASK
@click.option("--models", help="Comma-separated; default all of them.")
@click.option("--seeds", default="1,2,3", show_default=True, help="Comma-separated.")
@EPOCHS
@READINGS
@OUT
@SETTINGS
def compare(
    scenario: str,
    task: str,
    models: str | None,
    seeds: str,
    epochs: int | None,
    readings: Path | None,
    out: Path,
    settings: tuple[str, ...],
) -> None:
    """Train and score forecasters side by side on SCENARIO's test days (AI-TEM, Table III).

    A forecaster and seed that the folder holds already is not trained again.
    """
    from raygrid.learning.comparison import MODELS, markdown, summary_rows
    from raygrid.learning.comparison import compare as run_comparison
    from raygrid.scenario.config import CommunityPopulation
    from raygrid.scenario.load import load_scenario

    loaded, base_dir = load_scenario(scenario, settings=settings)
    data, population = _dataset(loaded, base_dir, readings), loaded.population
    kinds = 1
    if isinstance(population, CommunityPopulation) and population.distinct and readings is None:
        kinds = len(population.household_shapes)
    folder = _folder(out / data.name / "forecasters")
    try:
        chosen_seeds = [int(s) for s in seeds.split(",")]
    except ValueError:
        raise InputError(f"{seeds!r} are no seeds", "--seeds", "write e.g. 1,2,3") from None
    found = run_comparison(
        data,
        folder,
        models=models.split(",") if models else MODELS,
        seeds=chosen_seeds,
        task=task,
        epochs=epochs or DEFAULT_EPOCHS[task],
        tell=lambda line: click.echo(line, err=True),
    )
    text = markdown(summary_rows(found), found, kinds)
    (folder / f"{task}.md").write_text(text, encoding="utf-8")
    click.echo(text)
    click.echo(folder)


def len_of(scenario: Scenario) -> int:
    """Number of prosumers that a scenario asks for, 0 where its tables say."""
    return getattr(scenario.population, "agents", None) or 0


def _dataset(scenario: Scenario, base_dir: Path, readings: Path | None) -> Dataset:
    """The data of a scenario; says what was mended."""
    from raygrid.learning.dataset import build_dataset
    from raygrid.learning.training import require_torch

    require_torch()
    data = build_dataset(scenario, base_dir, readings)
    for line in data.report.lines():
        click.echo(line, err=True)
    return data


def _folder(folder: Path) -> Path:
    from raygrid.results.folder import check_writable

    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


train.add_command(dqn)
