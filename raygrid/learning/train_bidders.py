"""`raygrid train dqn`: from a scenario to a folder with weights, manifest and learning curve."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raygrid import __version__
from raygrid.errors import InputError
from raygrid.learning.dqn_training import (
    CHECKPOINT,
    CurvePoint,
    Trainer,
    TrainingResult,
    write_curve,
)
from raygrid.learning.dqn_training import LOG as CURVE
from raygrid.learning.evaluate import DayFigures, compare
from raygrid.learning.market_days import learning_scenario
from raygrid.learning.training import require_torch
from raygrid.results.files import MANIFEST


@dataclass(frozen=True)
class TrainBiddersOptions:
    """What the command is asked for.

    Attributes
    ----------
    scenario : str
        Name or path.
    out : Path
        Folder of all trainings.
    command : str
        The command line, for the manifest.
    settings : tuple of str
        Changed values of the scenario.
    agents, episodes, seed : int or None
        In place of the scenario's.
    resume : bool
        Whether to go on with the training that the folder holds.
    measure_every : int
        Episodes from one look at the validation days to the next.
    """

    scenario: str
    out: Path
    command: str
    settings: tuple[str, ...] = ()
    agents: int | None = None
    episodes: int | None = None
    seed: int | None = None
    resume: bool = False
    measure_every: int = 100


@dataclass(frozen=True)
class TrainedBidders:
    """What came of it.

    Attributes
    ----------
    folder : Path
        Where weights, manifest and learning curve are.
    result : TrainingResult
        The training.
    figures : dict of str to DayFigures
        Ways to act on the validation days.
    currency : str
        Money unit.
    """

    folder: Path
    result: TrainingResult
    figures: dict[str, DayFigures]
    currency: str


def train_bidders(
    options: TrainBiddersOptions, tell: Callable[[str], None] = lambda _: None
) -> TrainedBidders:
    """Train the bidders of a scenario and write them.

    Parameters
    ----------
    options : TrainBiddersOptions
        What to do.
    tell : callable
        Is given lines of progress.

    Raises
    ------
    InputError
        Without torch, for a scenario without history, a folder that holds a training already,
        or a checkpoint of another one.
    """
    torch = require_torch()
    torch.set_num_threads(1)  # The batched products are too small to gain from more.
    found = learning_scenario(options.scenario, settings=options.settings, agents=options.agents)
    settings = found.options
    if options.episodes is not None:
        settings = replace(settings, episodes=options.episodes)
    if options.seed is not None:
        settings = replace(settings, seed=options.seed)
    folder = options.out / found.scenario.name / f"dqn-{settings.seed}"
    if (folder / MANIFEST).exists():
        raise InputError("holds a finished training", str(folder), "choose another --out or --seed")
    trainer = Trainer(found.days, settings, found.reward)
    if options.resume:
        trainer.restore(folder / CHECKPOINT)
        tell(f"resuming after episode {trainer.episode}")
    elif folder.exists():
        raise InputError(
            "holds a training that did not end", str(folder), "add --resume to go on with it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror}", str(folder), "choose another --out"
        ) from error

    currency, first = found.scenario.currency, trainer.episode

    def progress(point: CurvePoint) -> None:
        share = (point.episode - first) / max(settings.episodes - first, 1)
        left = trainer.seconds * (1 - share) / share if share > 0 else 0.0
        tell(
            f"episode {point.episode} of {settings.episodes}: validation "
            f"{point.validation_cost:.2f} {currency} a day, reward {point.reward:.3f}, "
            f"loss {point.loss:.4f}" + (f", {left:.0f} s left" if share > 0 else "")
        )

    result = trainer.run(measure_every=options.measure_every, progress=progress, folder=folder)
    figures = compare(
        found.days.market, {"learned": result.policy}, found.days.validation, trainer.scales
    )
    write_curve(folder / CURVE, list(result.curve))
    result.policy.save(
        folder,
        {
            "command": options.command,
            "scenario": found.scenario.name,
            "settings": list(options.settings),
            "status": str(result.status),
            "options": asdict(settings),
            "reward": asdict(found.reward),
            "prosumer_id": found.days.market.units.prosumer_id.tolist(),
            "best": asdict(result.best),
            "validation": {name: mean_figures(f) for name, f in figures.items()},
            "versions": {
                "python": platform.python_version(),
                "raygrid": __version__,
                "numpy": np.__version__,
                "torch": str(torch.__version__),
            },
        },
    )
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return TrainedBidders(folder, result, figures, currency)


def mean_figures(figures: DayFigures) -> dict[str, Any]:
    """Means over days, for manifests and tables."""
    means: dict[str, Any] = {
        name: float(np.mean(value))
        for name, value in asdict(figures).items()
        if isinstance(value, np.ndarray) and name != "violations"
    }
    return means | {
        "utilisation": float(figures.utilisation.mean()),
        "violations": int(figures.violations.sum()),
        "fallbacks": figures.fallbacks,
    }


def comparison_text(figures: dict[str, DayFigures], currency: str) -> Iterable[str]:
    """Lines of a table of ways to act, means over days."""
    yield (
        f"{'validation days':<15} {f'{currency}/day':>9} {'PV used %':>10} {'import kWh':>11} "
        f"{'peak kW':>8} {'violations':>11}"
    )
    for name, day in figures.items():
        yield (
            f"{name:<15} {day.cost.mean():>9.2f} {100 * day.utilisation.mean():>10.1f} "
            f"{day.import_kwh.mean():>11.1f} {day.peak_kw.mean():>8.1f} "
            f"{int(day.violations.sum()):>11}"
        )
