"""Training of the bidders from episode to episode: log, checkpoints, and when it must stop."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.dqn import DqnOptions, Learner
from raygrid.learning.environment import (
    FEATURES,
    MarketEnvironment,
    RewardWeights,
    Worth,
    training_scales,
)
from raygrid.learning.evaluate import evaluate, validation_rows
from raygrid.learning.opportunity import opportunity_price
from raygrid.learning.policy import Bidder, Policy, leading_action
from raygrid.learning.replay import Replay
from raygrid.market.actions import N_ACTIONS
from raygrid.market.intraday import IntradayMarket
from raygrid.market.rule import dear, stated_action
from raygrid.results.files import write_atomically

CHECKPOINT = "checkpoint.npz"
LOG = "learning_curve.csv"
WORTH_DAYS = 30
"""Training days, evenly spread, that the opportunity price of stored energy is taken from."""


class TrainingStatus(StrEnum):
    """How a training ended."""

    DONE = "done"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class TrainingDays:
    """A market with its days split by date.

    Attributes
    ----------
    market : IntradayMarket
        The market over all days.
    train, validation, test : (D,) int64
        Days of its feed.
    start_kwh : (D, N, 3) float64, optional
        Energy in the stores when each of the feed's days begins, where days were planned [kWh].
    """

    market: IntradayMarket
    train: IntArray
    validation: IntArray
    test: IntArray
    start_kwh: FloatArray | None = None

    @cached_property
    def worth(self) -> Worth:
        """What stored energy is worth, from the training days, and by plan where days have one."""
        market, train = self.market, self.train
        known = train[:: max(1, len(train) // WORTH_DAYS)]
        plan = market.feed.correction
        return Worth(
            opportunity_price(market.units, market.feed, known),
            None if plan is None else plan.stored_value_per_kwh,
        )


@dataclass(frozen=True)
class CurvePoint:
    """A row of the learning curve.

    Attributes
    ----------
    episode : int
        Episodes done.
    agent_steps : int
        Decisions taken in them, all prosumers'.
    epsilon : float
        Share of random actions.
    reward : float
        Mean reward of a prosumer's period since the row before, exploration included.
    loss : float
        Mean loss of the updates since then; 0 before the first.
    validation_cost : float
        Mean cost of a validation day without exploration [currency].
    seconds : float
        Wall time so far [s].
    """

    episode: int
    agent_steps: int
    epsilon: float
    reward: float
    loss: float
    validation_cost: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes
    ----------
    status : TrainingStatus
        Whether it went to its end.
    policy : Policy
        The weights with the least validation cost.
    best : CurvePoint
        Where they come from.
    curve : tuple of CurvePoint
        The learning curve.
    """

    status: TrainingStatus
    policy: Policy
    best: CurvePoint
    curve: tuple[CurvePoint, ...]


class Trainer:
    """Trains bidders and can be stopped and resumed between blocks of episodes.

    Parameters
    ----------
    days : TrainingDays
        Where to learn.
    options : DqnOptions
        Settings.
    weights : RewardWeights
        Of the reward's terms.
    """

    def __init__(
        self, days: TrainingDays, options: DqnOptions, weights: RewardWeights | None = None
    ) -> None:
        market = days.market
        self.days, self.options = days, options
        self.scales = training_scales(market.feed, days.train)
        self.environment = MarketEnvironment(
            market, self.scales, days.worth, weights, days.start_kwh
        )
        n = len(market.units)
        self.learner = Learner(n, len(FEATURES), N_ACTIONS, options)
        self.replay = Replay(options.replay, n, len(FEATURES), N_ACTIONS)
        self._dear = dear(market.feed)
        self.rng = np.random.default_rng(options.seed)
        self.episode = self.steps = 0
        self.seconds = 0.0
        self.curve: list[CurvePoint] = []
        self.best: tuple[CurvePoint, Policy] | None = None

    @property
    def done(self) -> bool:
        """Whether all episodes are."""
        return self.episode >= self.options.episodes

    def block(self) -> tuple[float, float]:
        """Run one day of every copy: mean reward, and mean loss (NaN: stopped, diverged)."""
        options, env, learner = self.options, self.environment, self.learner
        days = self.rng.choice(self.days.train, options.copies)
        observation, mask = env.reset(days, self.rng)
        stated = self._stated()
        epsilon = options.epsilon(self.episode)
        rewards, losses = [], []
        truncated = False
        while not truncated:
            action = leading_action(learner.values(observation), mask, stated, options.margin)
            explore = self.rng.random(action.shape) < epsilon
            at_random = np.argmax(self.rng.random(mask.shape) * mask, axis=-1)
            step = env.step(np.where(explore, at_random, action))
            stated = self._stated()
            self.replay.add(
                observation, step.outcome.action, step.reward, step.observation, step.mask, stated
            )
            observation, mask, truncated = step.observation, step.mask, step.truncated
            rewards.append(float(step.reward.mean()))
            self.steps += 1
            if len(self.replay) >= options.warm_up and self.steps % options.update_every == 0:
                loss = learner.update(self.replay.sample(self.rng, options.batch))
                losses.append(float(loss.mean()))
                if not np.isfinite(losses[-1]):
                    break
        self.episode += options.copies
        return float(np.mean(rewards)), float(np.mean(losses)) if losses else 0.0

    def _stated(self) -> IntArray:
        """What the plan or the rule would do in the period that comes."""
        market = self.environment.market
        return stated_action(market.outlook, market.feed, self._dear)

    def measure(self, reward: float, loss: float) -> CurvePoint:
        """Cost of the validation days with the weights as they are; keeps them if they are best."""
        policy = self.learner.policy(self.scales).stored()
        market = self.environment.market
        days = self.days.validation
        figures = evaluate(
            market,
            Bidder(market, policy),
            days,
            self.days.worth,
            rows=validation_rows(len(days)),
            start_kwh=self.days.start_kwh,
        )
        point = CurvePoint(
            self.episode,
            self.steps * self.options.copies * len(market.units),
            self.options.epsilon(self.episode),
            reward,
            loss,
            float(figures.cost.mean()),
            self.seconds,
        )
        self.curve.append(point)
        if self.best is None or point.validation_cost < self.best[0].validation_cost:
            self.best = point, policy
        return point

    def run(
        self,
        *,
        measure_every: int = 100,
        progress: Callable[[CurvePoint], None] = lambda _: None,
        folder: Path | None = None,
        stop_after: int | None = None,
    ) -> TrainingResult:
        """Train to the last episode.

        Parameters
        ----------
        measure_every : int
            Episodes from one look at the validation days, and checkpoint, to the next.
        progress : callable
            Is given every point of the learning curve.
        folder : Path, optional
            Where checkpoints and the log are written.
        stop_after : int, optional
            Episodes after which to leave off, to be resumed.

        Returns
        -------
        TrainingResult
            The best weights so far; where a loss or gradient was not a finite number, training
            stopped there.
        """
        begun, before = time.perf_counter(), self.seconds
        if self.best is None:
            progress(self.measure(0.0, 0.0))
        rewards, losses = [], []
        due = self.curve[-1].episode + measure_every
        limit = self.options.episodes if stop_after is None else stop_after
        status = TrainingStatus.DONE
        while self.episode < min(limit, self.options.episodes):
            reward, loss = self.block()
            self.seconds = before + time.perf_counter() - begun
            if not np.isfinite(loss):
                status = TrainingStatus.DIVERGED
                break
            rewards.append(reward)
            losses.append(loss)
            if self.episode >= due or self.done:
                progress(self.measure(float(np.mean(rewards)), float(np.mean(losses))))
                rewards, losses, due = [], [], self.episode + measure_every
                if folder is not None:
                    self.save(folder / CHECKPOINT)
                    write_curve(folder / LOG, self.curve)
        assert self.best is not None  # measured before the first block
        return TrainingResult(status, self.best[1], self.best[0], tuple(self.curve))

    def save(self, path: Path) -> None:
        """Write everything that the rest of the training depends on."""
        assert self.best is not None  # nothing is saved before the first measure
        facts = {
            "options": asdict(self.options),
            "reward": asdict(self.environment.weights),
            "random": self.rng.bit_generator.state,
            "episode": self.episode,
            "steps": self.steps,
            "seconds": self.seconds,
            "curve": [asdict(point) for point in self.curve],
            "best": asdict(self.best[0]),
        }
        arrays: dict[str, Any] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
        arrays |= self.learner.arrays() | self.replay.arrays()
        arrays |= {f"best_{name}": value for name, value in self.best[1].arrays().items()}
        write_atomically(path, lambda stream: np.savez(stream, **arrays))

    def restore(self, path: Path) -> None:
        """Go on where `save` was called; the result is that of a training never interrupted.

        Raises
        ------
        InputError
            If the checkpoint is missing, damaged or of another training.
        """
        cure = "start the training anew, without --resume"
        try:
            raw = path.read_bytes()
            with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
                arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
            facts = json.loads(arrays["facts"].tobytes())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError("the checkpoint is missing or damaged", str(path), cure) from error
        ours = asdict(replace(self.options, episodes=facts["options"]["episodes"]))
        if facts["options"] != ours or facts["reward"] != asdict(self.environment.weights):
            raise InputError("the checkpoint is of other options", str(path), cure)
        if arrays["online0"].shape != tuple(self.learner.online[0].shape):
            raise InputError("the checkpoint is for other prosumers", str(path), cure)
        self.learner.restore(arrays)
        self.replay.restore(arrays)
        self.rng.bit_generator.state = facts["random"]
        self.episode, self.steps = facts["episode"], facts["steps"]
        self.seconds = facts["seconds"]
        self.curve = [CurvePoint(**point) for point in facts["curve"]]
        best = {k.removeprefix("best_"): v for k, v in arrays.items() if k.startswith("best_")}
        self.best = CurvePoint(**facts["best"]), Policy.from_arrays(best)


def write_curve(path: Path, curve: list[CurvePoint]) -> None:
    """Write the learning curve as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(CurvePoint)])
    for point in curve:
        writer.writerow([f"{value:.8g}" for value in asdict(point).values()])
    write_atomically(path, lambda stream: stream.write(text.getvalue().encode()))
