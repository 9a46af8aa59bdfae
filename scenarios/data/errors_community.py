"""Errors and intervals of `community`'s day-ahead forecasts, for docs/forecasting.md.

    python scenarios/data/errors_community.py 2016-03-16

Root mean square errors of 1,000 households by the hour [kW], on the market day and as the mean over
days spread over the four weeks from then on, beside those of earlier days taken for forecasts. And
the share of quarter hours of 100 households that lie in their 80 % intervals over those weeks.
"""

from __future__ import annotations

import argparse
from datetime import date, timedelta

import numpy as np

from raygrid.learning.forecast_community import forecast_community
from raygrid.learning.forecasting import Naive
from raygrid.learning.inference import Forecaster, load_forecaster
from raygrid.learning.stages import DayStages
from raygrid.prosumer.community import Community
from raygrid.scenario.build import draft_case
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import load_scenario

WEEKS_DAYS = 28
LATER = range(2, WEEKS_DAYS, 2)
"""Days after the market day whose mean is printed."""


def powers(community: Community, scenario: Scenario) -> np.ndarray:
    """Load without a price and PV output (2, N, T) of everybody [kW]."""
    built = community.recipe(0, len(community)).build()
    _, pv, _, elastic, fixed = built.rows(0, len(community)).profiles(0, len(community))
    return np.stack([fixed + elastic / scenario.population.elastic_headroom, pv])


def errors(start: date, by: Forecaster | Naive) -> np.ndarray:
    """Root mean square errors of load and PV (2,) on a market day [kW]."""
    settings = [f"horizon.start={start.isoformat()}"]
    scenario, base_dir = load_scenario("community", agents=1000, settings=settings)
    measured = draft_case(scenario, base_dir=base_dir).community
    missed = powers(forecast_community(scenario, base_dir, measured, by), scenario)
    missed -= powers(measured, scenario)
    return np.sqrt((missed**2).mean(axis=(1, 2)))


def held(start: date) -> tuple[list[float], float]:
    """Shares of loads and of PV by day in their intervals, and the mean width of PV's [kW]."""
    settings = [f"horizon.start={start.isoformat()}", "horizon.period_hours=0.25"]
    settings.append(f"horizon.days={WEEKS_DAYS}")
    scenario, base_dir = load_scenario("community", agents=100, periods=96, settings=settings)
    stages = DayStages.of(scenario, base_dir, 100)
    inside, widths = [], []
    for day in range(WEEKS_DAYS):
        outlook = stages.outlook(day)
        assert outlook is not None
        assert outlook.ahead is not None
        data, found = outlook.recent.data, outlook.ahead.found
        measured = np.stack([data.load_kw, data.pv_kw], axis=2)[:, outlook.recent.steps]
        low, high = found.low_kw, found.high_kw
        counts = high - low > 1e-6
        of_day = counts & (measured >= low) & (measured <= high)
        inside.append([of_day.sum(axis=(0, 1)), counts.sum(axis=(0, 1))])
        widths.append((high - low)[..., 1][counts[..., 1]].mean())
        stages, _ = stages.learned_from(outlook, day)
    within, counted = np.sum(inside, axis=0)
    return (within / counted).tolist(), float(np.mean(widths))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("start", type=date.fromisoformat, help="the market day")
    given = parser.parse_args()
    _, base_dir = load_scenario("community")
    rules = {
        "shipped weights": load_forecaster(base_dir / "weights" / "forecaster-day"),
        "the day before": Naive.PERSISTENCE,
        "a week before": Naive.SEASONAL,
    }
    print(f"| | load, {given.start} | PV | load, {len(LATER)} days | PV |\n|---|---|---|---|---|")
    for name, by in rules.items():
        of_days = [errors(given.start + timedelta(days=k), by) for k in (0, *LATER)]
        figures = [*of_days[0], *np.mean(of_days[1:], axis=0)]
        print(f"| {name} | " + " | ".join(f"{kw:.4f}" for kw in figures) + " |", flush=True)
    (load, pv), width = held(given.start)
    print(f"in their intervals: {load:.3f} of loads, {pv:.3f} of PV, which are {width:.4f} kW wide")


if __name__ == "__main__":
    main()
