"""DQN bidders: agent-steps a minute, time of 2,000 episodes, and a quarter hour's clearing.

Trainings are of `ai_tem`'s size, with epsilon-greedy acting, replay, an update a step and the
looks at the validation days, in one thread each; `trainings` of them run side by side, each with
a seed of its own. Days are not planned ahead and forecasts are persistence, which changes no
array's size. An interval is cleared for one community: its forecast, everybody's action by an own
network, and the market's step, settled with the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings
from actors.cluster import ClusterOptions, connect
from raygrid.results.benchmark import Report, Spread, Target

if TYPE_CHECKING:
    from raygrid.learning.dqn import DqnOptions
    from raygrid.learning.market_days import LearningScenario

PAPER_EPISODES = 2000
MEASURE_EVERY = 100


class Settings(SuiteSettings):
    """What can be set."""

    scenario: str = "ai_tem"
    settings: tuple[str, ...] = ()
    hidden: tuple[PositiveInt, ...] = (64, 32)
    trainings: tuple[PositiveInt, ...] = (1,)
    episodes: PositiveInt = 160
    warm_up_episodes: PositiveInt = 16
    periods: PositiveInt = 192


QUICK = Settings(
    settings=(
        "population.agents=6", "history.train_days=3", "history.validation_days=1",
        "history.test_days=1", "horizon.start=2016-03-25", "intraday={bidders: {copies: 2}}",
    ),
    hidden=(8,), trainings=(1,), episodes=4, warm_up_episodes=2, periods=8,
)  # fmt: skip


def train(scenario: str, settings: tuple[str, ...], hidden: int, seed: int, n: Settings) -> Any:
    """Seconds of some episodes, and of a look at the validation days, in one thread."""
    from raygrid.learning.dqn_training import Trainer
    from raygrid.learning.market_days import learning_scenario
    from raygrid.learning.training import require_torch

    require_torch().set_num_threads(1)
    found = learning_scenario(scenario, settings=settings)
    options = replace(found.options, hidden=hidden, seed=seed, device="cpu")
    trainer = Trainer(found.days, options, found.reward)
    while trainer.episode < n.warm_up_episodes or len(trainer.replay) < options.warm_up:
        trainer.block()
    first, started = trainer.episode, perf_counter()
    while trainer.episode < first + n.episodes:
        trainer.block()
    seconds, done = perf_counter() - started, trainer.episode - first
    started = perf_counter()
    trainer.measure(0.0, 0.0)
    return {
        "agent_steps": done * found.days.market.feed.day_periods * len(found.days.market.units),
        "episodes": done,
        "training_s": seconds,
        "validation_s": perf_counter() - started,
    }


def run(report: Report, settings: Settings) -> None:
    """Measure the rate of learning and an interval's clearing."""
    from raygrid.learning.market_days import learning_scenario

    table = report.table(
        f"Training on {settings.scenario}; minutes of {PAPER_EPISODES} episodes are worked out",
        ("trainings", "hidden"),
    )
    for trainings in settings.trainings:
        for hidden in settings.hidden:
            table.add(_side_by_side(settings, trainings, hidden))
    # The widest network is the one that trains as shipped.
    rows = [r for r in table.rows if r["hidden"] == max(settings.hidden)]
    most = max(r["agent_steps_per_minute"] for r in rows)
    report.targets(
        [
            Target("agent-steps a minute", most, at_least=1e6),
            Target(
                f"minutes of {PAPER_EPISODES} episodes, worked out",
                min(r["minutes_of_2000"] for r in rows),
                at_most=15.0,
            ),
        ]
    )
    found = learning_scenario(settings.scenario, settings=settings.settings)
    title = f"A quarter hour of {settings.scenario}, {len(found.days.market.units)} prosumers [ms]"
    clearing = report.table(title, ("stage",))
    spent = interval_ms(found, settings)
    for stage, values in spent.items():
        clearing.add({"stage": stage, "ms": Spread.of(values)})
    whole = Spread.of([sum(parts) for parts in zip(*spent.values(), strict=True)])
    clearing.add({"stage": "whole", "ms": whole})
    report.targets(
        [Target("seconds of an interval, forecast and policy", whole.median / 1e3, at_most=0.05)]
    )


def _side_by_side(settings: Settings, trainings: int, hidden: int) -> dict[str, Any]:
    """Trainings at a time, one here, more as Ray tasks."""
    asked = (settings.scenario, settings.settings, hidden)
    if trainings == 1:
        found = [train(*asked, 1, settings)]
    else:
        import ray

        with connect(ClusterOptions(num_cpus=trainings)):
            task = ray.remote(train)
            seeds = range(1, trainings + 1)
            found = ray.get([task.remote(*asked, seed, settings) for seed in seeds])
    slowest = max(part["training_s"] for part in found)
    looks = PAPER_EPISODES / MEASURE_EVERY + 1
    minutes = max(
        part["training_s"] * PAPER_EPISODES / part["episodes"] + looks * part["validation_s"]
        for part in found
    )
    return {
        "trainings": trainings,
        "hidden": hidden,
        "episodes": found[0]["episodes"],
        "training_s": slowest,
        "validation_s": max(part["validation_s"] for part in found),
        "agent_steps_per_minute": 60 * sum(part["agent_steps"] for part in found) / slowest,
        "minutes_of_2000": minutes / 60,
    }


def interval_ms(found: LearningScenario, settings: Settings) -> dict[str, list[float]]:
    """Times of the stages of some intervals in a row, after one day unmeasured [ms]."""
    from raygrid.learning.dataset import build_dataset
    from raygrid.learning.forecasting import Naive, find_forecaster, step_predictions
    from raygrid.learning.policy import Bidder
    from raygrid.scenario.load import load_scenario

    scenario, base_dir = load_scenario(settings.scenario, settings=settings.settings)
    data = build_dataset(scenario, base_dir)
    learned, _ = find_forecaster(scenario.name, base_dir, "step", data)
    forecast: Callable[[int], Any]
    if learned is None:
        forecast = lambda k: step_predictions(data, Naive.PERSISTENCE, np.array([k // 96]))  # noqa: E731
    else:
        series = learned.series(data)
        forecast = lambda k: learned.forecast(series, np.array([k]))  # noqa: E731
    market = found.days.market
    bidder = Bidder(market, _policy(found, found.options))
    first = int(found.days.validation[0]) * market.feed.day_periods
    market.reset(np.array([first]))
    spent: dict[str, list[float]] = {"forecast": [], "policy": [], "market": []}
    outcome = None
    last = min(settings.periods, market.feed.n_periods - first)
    for k in range(last):
        marks = [perf_counter()]
        forecast(first + k)
        marks.append(perf_counter())
        action = bidder.act(outcome)
        marks.append(perf_counter())
        outcome = market.step(action)
        marks.append(perf_counter())
        if k >= last // 2:
            for values, seconds in zip(spent.values(), np.diff(marks), strict=True):
                values.append(1e3 * float(seconds))
    return spent


def _policy(found: LearningScenario, options: DqnOptions) -> Any:
    """Networks with some weights, no matter which: they take as long as learned ones."""
    from raygrid.learning.environment import FEATURES, training_scales
    from raygrid.learning.policy import Policy
    from raygrid.market.actions import N_ACTIONS

    rng, n = np.random.default_rng(1), len(found.days.market.units)
    sizes = (len(FEATURES), options.hidden, options.hidden, N_ACTIONS)
    layers = tuple(
        (
            rng.normal(0, wide**-0.5, (n, wide, narrow)).astype(np.float32),
            np.zeros((n, narrow), dtype=np.float32),
        )
        for wide, narrow in pairwise(sizes)
    )
    return Policy(layers, training_scales(found.days.market.feed, found.days.train))
