"""Errors of forecasts for when orders are due, by the rules that need no weights for it.

    python scenarios/data/orders_due.py

Root mean square errors of load and PV [kW] on the validation days of `community` (100 households)
and `ai_tem`, for docs/forecasting.md.
"""

from __future__ import annotations

import numpy as np

from raygrid.learning.dataset import STEPS_PER_DAY, Dataset, build_dataset
from raygrid.learning.features import SCALE_DAYS
from raygrid.learning.forecasting import (
    Naive,
    day_ahead_predictions,
    forecast_when_due,
    moved_by_last_error,
    period_before,
)
from raygrid.learning.inference import Forecaster, load_forecaster
from raygrid.learning.market_days import Predictions
from raygrid.learning.renewal import renewed
from raygrid.scenario.load import load_scenario


def learned(data: Dataset, by: Forecaster, days: np.ndarray) -> np.ndarray:
    """Load and PV (D, N, 96, 2) as forecast at each midnight [kW]."""
    if not by.fits_anybody:
        return whole(day_ahead_predictions(data, by, days))
    found = []
    for day, today in zip(days, renewed(by, data, days), strict=True):
        recent = data.until(int(day), SCALE_DAYS)
        last = np.array(recent.days("test"))
        found.append(today.forecast(today.series(recent), last).expected[:, 0, :, :2])
    return np.stack(found)


def whole(predictions: Predictions) -> np.ndarray:
    """Predictions of days as (D, N, 96, 2)."""
    both = np.stack([predictions.load_kw, predictions.pv_kw], axis=2)
    return by_day(both)


def by_day(both: np.ndarray) -> np.ndarray:
    """(N, D * 96, 2) as (D, N, 96, 2)."""
    return np.moveaxis(both.reshape(len(both), -1, STEPS_PER_DAY, 2), 1, 0)


def main() -> None:
    """Print the table."""
    print(
        "| day ahead, periods | the period before | the day ahead, moved | whichever erred less |"
    )
    print("|---|---|---|---|")
    for name, agents in (("community", 100), ("ai_tem", 50)):
        scenario, base_dir = load_scenario(name, agents=agents)
        data = build_dataset(scenario, base_dir)
        days = np.array(data.days("validation"))
        steps = data.steps("validation")
        actual = by_day(np.stack([data.load_kw[:, steps], data.pv_kw[:, steps]], axis=2))
        by = load_forecaster(base_dir / "weights" / "forecaster-day")
        rules = {
            "learned": learned(data, by, days),
            "day before": whole(day_ahead_predictions(data, Naive.PERSISTENCE, days)),
        }
        for width in (4, 1):
            for rule, ahead in rules.items():
                cells = []
                for way in (period_before, moved_by_last_error, forecast_when_due):
                    errors = []
                    for k in range(2):
                        pairs = (
                            [x[..., k].reshape(len(x), -1, width).mean(axis=2) for x in both]
                            for both in zip(ahead, actual, strict=True)
                        )
                        missed = [way(mine, true) - true for mine, true in pairs]
                        errors.append(np.sqrt(np.mean(np.square(missed))))
                    cells.append(f"{errors[0]:.3f}, {errors[1]:.3f}")
                row = f"`{name}`, {rule}, {width / 4:g} h"
                print(f"| {row} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
