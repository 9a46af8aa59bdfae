"""`raygrid train dqn`: from a scenario to a folder with weights, manifest and learning curve."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raygrid import __version__
from raygrid.errors import InputError
from raygrid.learning.bidders_market import BiddersMarket, TrainBiddersOptions, bidders_market
from raygrid.learning.dqn_training import (
    CHECKPOINT,
    CurvePoint,
    Trainer,
    TrainingStatus,
    write_curve,
)
from raygrid.learning.dqn_training import LOG as CURVE
from raygrid.learning.evaluate import DayFigures, compare, stated_name
from raygrid.learning.training import require_torch
from raygrid.results.files import MANIFEST
from raygrid.results.paired import paired_difference


@dataclass(frozen=True)
class TrainedBidders:
    """What came of it.

    Attributes
    ----------
    folder : Path
        Where weights, manifest and learning curve are.
    status : TrainingStatus
        Whether the training went to its end.
    best : CurvePoint
        Where the weights come from.
    figures : dict of str to DayFigures
        Ways to act on the validation days.
    currency : str
        Money unit.
    """

    folder: Path
    status: TrainingStatus
    best: CurvePoint
    figures: dict[str, DayFigures]
    currency: str


def train_bidders(
    options: TrainBiddersOptions,
    tell: Callable[[str], None] = lambda _: None,
    market: BiddersMarket | None = None,
) -> TrainedBidders:
    """Train the bidders of a scenario and write them.

    Parameters
    ----------
    options : TrainBiddersOptions
        What to do.
    tell : callable
        Is given lines of progress.
    market : BiddersMarket, optional
        `bidders_market` of these options, where several trainings share it.

    Raises
    ------
    InputError
        Without torch, for a scenario without history, a folder that holds a training already,
        or a checkpoint of another one.
    """
    torch = require_torch()
    torch.set_num_threads(1)  # The batched products are too small to gain from more.
    market = market or bidders_market(options, tell)
    settings = market.options(options)
    folder = training_folder(market, options)
    if (folder / MANIFEST).exists():
        raise InputError("holds a finished training", str(folder), "choose another --out or --seed")
    trainer = Trainer(market.days, settings, market.reward)
    if options.resume:
        trainer.restore(folder / CHECKPOINT)
        tell(f"resuming after episode {trainer.episode}")
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(
            "holds a training that did not end", str(folder), "add --resume to go on with it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror}", str(folder), "choose another --out"
        ) from error

    first = trainer.episode

    def progress(point: CurvePoint) -> None:
        share = (point.episode - first) / max(settings.episodes - first, 1)
        left = trainer.seconds * (1 - share) / share if share > 0 else 0.0
        tell(
            f"seed {settings.seed}, episode {point.episode} of {settings.episodes}: validation "
            f"{point.validation_cost:.2f} {market.currency} a day, reward {point.reward:.3f}, "
            f"loss {point.loss:.4f}" + (f", {left:.0f} s left" if share > 0 else "")
        )

    result = trainer.run(measure_every=options.measure_every, progress=progress, folder=folder)
    days = market.days
    figures = {
        part: compare(days.market, {"learned": result.policy}, rows, days.worth, days.start_kwh)
        for part, rows in (("validation", days.validation), ("test", days.test))
    }
    write_curve(folder / CURVE, list(result.curve))
    stated = stated_name(days.market)
    result.policy.save(
        folder,
        {
            "command": options.command,
            "scenario": market.name,
            "settings": list(options.settings),
            "status": str(result.status),
            "options": asdict(settings),
            "reward": asdict(market.reward),
            "planned": days.market.feed.correction is not None,
            "forecasts": list(market.forecasts),
            "prosumer_id": days.market.units.prosumer_id.tolist(),
            "best": asdict(result.best),
            "versions": {
                "python": platform.python_version(),
                "raygrid": __version__,
                "numpy": np.__version__,
                "torch": str(torch.__version__),
            },
        }
        | {
            part: {name: mean_figures(f) for name, f in of_part.items()}
            | {
                f"learned less {stated}": asdict(
                    paired_difference(of_part["learned"].cost, of_part[stated].cost)
                )
            }
            for part, of_part in figures.items()
        },
    )
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return TrainedBidders(
        folder, result.status, result.best, figures["validation"], market.currency
    )


def training_folder(market: BiddersMarket, options: TrainBiddersOptions) -> Path:
    """Folder of one training."""
    kind = "shared-" if options.shared else ""
    return options.out / market.name / f"dqn-{kind}{market.options(options).seed}"


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
    stated = "plan" if "plan" in figures else "rule"
    gain = paired_difference(figures["learned"].cost, figures[stated].cost)
    yield (
        f"learned less {stated}: {gain.mean:+.2f} {currency}/day, "
        f"95 % interval {gain.low:+.2f} to {gain.high:+.2f}"
    )
