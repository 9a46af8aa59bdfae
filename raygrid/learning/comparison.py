"""Forecasters side by side on the test days: AI-TEM's Table III, and what it does not score."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.learning.baselines import SEASON, TREES, fit_trees, persistence
from raygrid.learning.calibration import forecast_in_turn
from raygrid.learning.code import code_digest
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import Scaling, fit_scaling, make_series
from raygrid.learning.inference import save_forecaster
from raygrid.learning.metrics import coverage, crps, pinball, rmse_percent, skill
from raygrid.learning.network import HIGH, LEVELS, LOW, NetworkSpec
from raygrid.learning.train_options import TrainOptions, options_for
from raygrid.results.files import json_text, write_atomically

NAIVE = ("persistence", "seasonal_naive")
HYBRIDS = ("hybrid_shared", "hybrid_own", "hybrid_federated")
MODELS = (*NAIVE, *TREES, "lstm", "cnn_lstm", "transformer", *HYBRIDS)
PRINTED = {
    "persistence": (3.18, 3.44),
    "random_forest": (2.76, 3.02),
    "lstm": (2.42, 2.68),
    "cnn_lstm": (2.18, 2.39),
    "transformer": (2.05, 2.22),
    "hybrid_shared": (1.94, 2.11),
}
"""Load and PV RMSE [%] of AI-TEM's Table III."""


@dataclass(frozen=True)
class Scores:
    """Scores of one forecaster and seed on the test days; None where it gives no quantiles.

    Attributes
    ----------
    model : str
        One of `MODELS`.
    task : str
        'step' or 'day'.
    seed : int
        Its seed.
    load_rmse_percent, pv_rmse_percent : list of float
        By test day, mean over prosumers: in percent of the training peak, and of the rating.
    load_skill, pv_skill : list of float
        By prosumer (of PV: by system), over all test days, against persistence of the same task
        (the last step; for the day ahead the day before).
    load_pinball_percent, pv_pinball_percent, load_crps_percent, pv_crps_percent : float or None
        Means, in the same percent.
    load_coverage, pv_coverage, net_coverage : float or None
        Share of the 80 % intervals that hold what happened; PV by day only.
    cpu_seconds, seconds : float
        Time of training, all of it where it was broken off and resumed.
    epochs : int
        Epochs that ran.
    """

    model: str
    task: str
    seed: int
    load_rmse_percent: list[float]
    pv_rmse_percent: list[float]
    load_skill: list[float]
    pv_skill: list[float]
    load_pinball_percent: float | None = None
    pv_pinball_percent: float | None = None
    load_crps_percent: float | None = None
    pv_crps_percent: float | None = None
    load_coverage: float | None = None
    pv_coverage: float | None = None
    net_coverage: float | None = None
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    epochs: int = 0


def score(
    model: str,
    task: str,
    seed: int,
    data: Dataset,
    scaling: Scaling,
    expected: FloatArray,
    quantiles: FloatArray | None = None,
    **more: Any,
) -> Scores:
    """Score forecasts of all test days.

    Parameters
    ----------
    model, task, seed
        What is scored.
    data : Dataset
        What happened.
    scaling : Scaling
        Peaks and ratings.
    expected : (N, P, 2 or 3) float64
        Load and PV at all test steps [kW].
    quantiles : (N, P, 3, Q) float64, optional
        Their quantiles [kW].
    **more
        Further fields of `Scores`.
    """
    steps = data.steps("test")
    load, pv = data.load_kw[:, steps].astype(float), data.pv_kw[:, steps].astype(float)
    owner = scaling.pv_rating_kw > 0
    peak, rating = scaling.load_peak_kw, scaling.pv_rating_kw[owner]
    before = persistence(data, steps, 1 if task == "step" else SEASON)

    def daily(values: FloatArray) -> FloatArray:
        return values.reshape(len(values), -1, STEPS_PER_DAY)

    def skills(forecast: FloatArray, naive: FloatArray, actual: FloatArray) -> list[float]:
        ours, theirs = (np.sqrt(((f - actual) ** 2).mean(axis=1)) for f in (forecast, naive))
        return [float(x) for x in skill(ours, theirs)]

    found: dict[str, Any] = {
        "load_rmse_percent": rmse_percent(daily(expected[..., 0]), daily(load), peak)
        .mean(axis=0)
        .tolist(),
        "pv_rmse_percent": rmse_percent(daily(expected[owner, :, 1]), daily(pv[owner]), rating)
        .mean(axis=0)
        .tolist(),
        "load_skill": skills(expected[..., 0], before[..., 0], load),
        "pv_skill": skills(expected[owner, :, 1], before[owner, :, 1], pv[owner]),
    }
    if quantiles is not None:
        levels = np.array(LEVELS)
        light = data.weather.clear_ghi_w_per_m2[steps] > 0
        for name, q, y, scale in (
            ("load", quantiles[:, :, 0], load, peak),
            ("pv", quantiles[owner, :, 1], pv[owner], rating),
        ):
            loss = pinball(q, y, levels).mean(axis=(1, 2)) / scale
            found[f"{name}_pinball_percent"] = float(100 * loss.mean())
            found[f"{name}_crps_percent"] = float(
                100 * (crps(q, y, levels).mean(axis=1) / scale).mean()
            )
        found["load_coverage"] = _covered(quantiles[:, :, 0], load)
        found["pv_coverage"] = _covered(quantiles[owner][:, light, 1], pv[owner][:, light])
        found["net_coverage"] = _covered(quantiles[:, :, 2], pv - load)
    return Scores(model=model, task=task, seed=seed, **found, **more)


def _covered(quantiles: FloatArray, actual: FloatArray) -> float:
    return coverage(quantiles[..., LOW], quantiles[..., HIGH], actual)


def network_of(model: str, task: str) -> NetworkSpec:
    """The network of one of `MODELS` that has one."""
    hybrid = model in HYBRIDS
    return NetworkSpec(architecture="cnn_transformer" if hybrid else model, task=task)


def options_of(model: str, task: str, seed: int, epochs: int) -> TrainOptions:
    """How it is trained: all alike but for the way of holding weights."""
    way = model.partition("_")[2] if model in HYBRIDS else "shared"
    return options_for(way, seed, epochs, task)


def score_key(model: str, data: Dataset, task: str, seed: int, epochs: int) -> dict[str, Any]:
    """All that a score depends on; one with another key is not taken over."""
    key = {
        "model": model,
        "task": task,
        "seed": seed,
        "data": data.digest(),
        "code": code_digest(),
    }
    if model in (*NAIVE, *TREES):
        return key
    network = network_of(model, task).facts()
    return key | {"network": network, "options": asdict(options_of(model, task, seed, epochs))}


def run_model(
    model: str,
    data: Dataset,
    *,
    task: str,
    seed: int,
    epochs: int,
    folder: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Scores:
    """Train one forecaster and score it; a folder keeps a network's weights and checkpoints."""
    scaling = fit_scaling(data)
    steps = data.steps("test")
    if model in NAIVE:
        step_lag = 1 if task == "step" else SEASON
        lag = step_lag if model == "persistence" else 7 * SEASON if task == "day" else SEASON
        return score(model, task, seed, data, scaling, persistence(data, steps, lag))
    series = make_series(data, scaling)
    at = steps if task == "step" else np.array(list(data.days("test")))
    if model in TREES:
        from raygrid.learning.training import part_of

        began, began_cpu = time.perf_counter(), time.process_time()
        fitted_to = part_of(data, NetworkSpec(task=task), "train")
        trees = fit_trees(model, task, series, scaling, fitted_to, seed)
        spent = {
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_seconds": round(time.process_time() - began_cpu, 1),
        }
        return score(model, task, seed, data, scaling, trees.forecast(series, at), None, **spent)
    from raygrid.learning.training import train

    spec, options = network_of(model, task), options_of(model, task, seed, epochs)
    kept = None
    if folder is not None:
        kept = folder / f"{task}-{model}-{seed}"
        kept.mkdir(exist_ok=True)
    try:
        done = train(data, spec, options, folder=kept, resume=kept is not None, tell=tell)
    except InputError:  # no checkpoint, or one of another training: begin anew
        done = train(data, spec, options, folder=kept, tell=tell)
    if kept is not None:
        save_forecaster(kept, done.forecaster)
    forecast = forecast_in_turn(done.forecaster, data, data.days("test"))
    n = len(data.prosumer_id)
    return score(
        model,
        task,
        seed,
        data,
        scaling,
        forecast.expected.reshape(n, len(steps), 3),
        forecast.quantiles.reshape(n, len(steps), 3, -1),
        epochs=len(done.log),
        seconds=round(sum(row["seconds"] for row in done.log), 1),
        cpu_seconds=round(sum(row["cpu_seconds"] for row in done.log), 1),
    )


def compare(
    data: Dataset,
    folder: Path,
    *,
    models: Sequence[str],
    seeds: Sequence[int],
    task: str,
    epochs: int,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Scores]:
    """Score forecasters one after the other.

    What the folder already holds is not repeated, and a training that was broken off goes on.

    Parameters
    ----------
    data : Dataset
        The series.
    folder : Path
        Existing folder; gets a JSON file for each forecaster and seed.
    models : sequence of str
        Of `MODELS`.
    seeds : sequence of int
        Seeds of those that have one.
    task : str
        'step' or 'day'.
    epochs : int
        Of the networks, at most.
    tell : callable
        Takes lines of progress.

    Returns
    -------
    list of Scores
        In order of models and seeds.
    """
    wrong = [m for m in models if m not in MODELS]
    if wrong:
        raise InputError(f"no forecaster {wrong[0]!r}", "--models", f"of {', '.join(MODELS)}")
    found = []
    for model in models:
        for seed in seeds[:1] if model in NAIVE else seeds:
            path = folder / f"{task}-{model}-{seed}.json"
            key = score_key(model, data, task, seed, epochs)
            kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if kept.get("key") == key:
                found.append(Scores(**kept["scores"]))
                continue
            tell(f"{model}, seed {seed}")
            scores = run_model(
                model, data, task=task, seed=seed, epochs=epochs, folder=folder, tell=tell
            )
            text = json_text({"key": key, "scores": asdict(scores)})
            write_atomically(path, partial(_write, text))
            found.append(scores)
    return found


def _write(text: str, stream: IO[bytes]) -> None:
    stream.write(text.encode())


def summary_rows(found: Sequence[Scores]) -> list[dict[str, Any]]:
    """One row a forecaster: means and deviations over test days and seeds."""
    rows = []
    for model in dict.fromkeys(s.model for s in found):
        mine = [s for s in found if s.model == model]
        load = np.concatenate([s.load_rmse_percent for s in mine])
        pv = np.concatenate([s.pv_rmse_percent for s in mine])

        def mean(name: str, mine: list[Scores] = mine) -> float | None:
            values = [getattr(s, name) for s in mine]
            return None if None in values else float(np.mean(values))

        printed = PRINTED.get(model, (None, None)) if mine[0].task == "step" else (None, None)
        rows.append(
            {
                "model": model,
                "seeds": len(mine),
                "load_rmse_percent": float(load.mean()),
                "load_rmse_deviation": float(load.std(ddof=1)),
                "printed_load_rmse_percent": printed[0],
                "pv_rmse_percent": float(pv.mean()),
                "pv_rmse_deviation": float(pv.std(ddof=1)),
                "printed_pv_rmse_percent": printed[1],
                "load_skill": mean("load_skill"),
                "pv_skill": mean("pv_skill"),
                **{
                    name: mean(name)
                    for name in (
                        "load_pinball_percent", "pv_pinball_percent", "load_crps_percent",
                        "pv_crps_percent", "load_coverage", "pv_coverage", "net_coverage",
                        "cpu_seconds", "epochs",
                    )
                },
            }
        )  # fmt: skip
    return rows


def markdown(rows: Sequence[dict[str, Any]], skills: Sequence[Scores], kinds: int) -> str:
    """The table as text, and skills by household shape.

    Parameters
    ----------
    rows : sequence of dict
        Of `summary_rows`.
    skills : sequence of Scores
        What they are of.
    kinds : int
        Household shapes, which prosumers have in turn.
    """

    def cell(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    head = (
        "| forecaster | seeds | load RMSE [%] | printed | PV RMSE [%] | printed | load skill | "
        "PV skill | load pinball [%] | PV pinball [%] | load CRPS [%] | PV CRPS [%] | cover load | "
        "cover PV | cover net | epochs | CPU s |"
    )
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['seeds']} "
            f"| {cell(row['load_rmse_percent'])} ± {cell(row['load_rmse_deviation'])} "
            f"| {cell(row['printed_load_rmse_percent'])} "
            f"| {cell(row['pv_rmse_percent'])} ± {cell(row['pv_rmse_deviation'])} "
            f"| {cell(row['printed_pv_rmse_percent'])} "
            f"| {cell(row['load_skill'], 3)} | {cell(row['pv_skill'], 3)} "
            f"| {cell(row['load_pinball_percent'])} | {cell(row['pv_pinball_percent'])} "
            f"| {cell(row['load_crps_percent'])} | {cell(row['pv_crps_percent'])} "
            f"| {cell(row['load_coverage'])} | {cell(row['pv_coverage'])} "
            f"| {cell(row['net_coverage'])} | {cell(row['epochs'], 0)} "
            f"| {cell(row['cpu_seconds'], 0)} |"
        )
    lines += ["", "Load skill by household shape, in the scenario's order:", ""]
    lines += ["| forecaster |" + "".join(f" {k + 1} |" for k in range(kinds))]
    lines += ["|---" * (kinds + 1) + "|"]
    for row in rows:
        mine = [s.load_skill for s in skills if s.model == row["model"]]
        by_kind = [np.mean([values[k::kinds] for values in mine]) for k in range(kinds)]
        lines.append(f"| {row['model']} |" + "".join(f" {x:.3f} |" for x in by_kind))
    return "\n".join(lines) + "\n"
