"""What `ai_tem`'s shipped forecasters gain by learning from each day, for docs/forecasting.md.

    python scenarios/data/updates_ai_tem.py

Prints mean load and PV skill over the 30 test days where nothing is learnt after training, where
what is typical of each load is (as shipped), where all scales are taken anew from all days so far,
and where the regression of the hybrid is fitted anew after each day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from raygrid.learning import direct
from raygrid.learning.comparison import score
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset, build_dataset
from raygrid.learning.features import PAST_DAYS, fit_scaling
from raygrid.learning.inference import Forecaster, load_forecaster
from raygrid.learning.training import part_of
from raygrid.scenario.load import load_scenario


def at_day(by: Forecaster, day: int) -> np.ndarray:
    """What a forecaster is asked for on a day: its steps, or the day."""
    if by.spec.task == "day":
        return np.array([day])
    return day * STEPS_PER_DAY + np.arange(STEPS_PER_DAY)


def nothing(by: Forecaster, data: Dataset, day: int) -> np.ndarray:
    """With the scales of the training days."""
    recent = data.until(day, PAST_DAYS)
    return by.forecast(by.series(recent), at_day(by, recent.days("test")[0])).expected


def typical(by: Forecaster, data: Dataset, day: int) -> np.ndarray:
    """As shipped."""
    return by.forecast(by.series(data), at_day(by, day)).expected


def all_scales(by: Forecaster, data: Dataset, day: int) -> np.ndarray:
    """With scales of all days so far."""
    so_far = replace(data, first_days=(0, day, day, day + 1))
    return typical(replace(by, scaling=fit_scaling(so_far)), so_far, day)


class Line:
    """With a regression of all days so far."""

    def __init__(self) -> None:
        self._sums: direct.Products | None = None
        self._until = 0

    def __call__(self, by: Forecaster, data: Dataset, day: int) -> np.ndarray:
        series = by.series(data)
        if self._sums is None:
            train = part_of(data, by.spec, "train")
            self._sums = direct.products(by.spec, series, by.scaling, train, 1)
            self._until = data.days("train").stop
        for known in range(self._until, day):
            of_day = at_day(by, known)[:: 1 if by.spec.task == "day" else 3]
            self._sums += direct.products(by.spec, series, by.scaling, of_day, 1)
        self._until = day
        weights = by.weights | direct.solve(self._sums)
        return replace(by, weights=weights).forecast(series, at_day(by, day)).expected


def main() -> None:
    """Forecast and score."""
    scenario, base_dir = load_scenario("ai_tem")
    data = build_dataset(scenario, base_dir)
    ways: dict[str, Callable[[Forecaster, Dataset, int], np.ndarray]] = {
        "nothing": nothing, "typical loads": typical, "all scales": all_scales, "line": Line(),
    }  # fmt: skip
    for task in ("day", "step"):
        by = load_forecaster(base_dir / "weights" / f"forecaster-{task}", data)
        for name, way in ways.items():
            parts = [way(by, data, day) for day in data.days("test")]
            found = np.concatenate([p.reshape(len(p), -1, 3) for p in parts], axis=1)
            made = score(name, task, 1, data, by.scaling, found)
            skills = f"load {np.mean(made.load_skill):.4f}, PV {np.mean(made.pv_skill):.4f}"
            print(f"{task}, {name}: {skills}", flush=True)
        ways["line"] = Line()


if __name__ == "__main__":
    main()
