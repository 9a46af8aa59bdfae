"""The environment as other libraries know it: PettingZoo for all agents, Gymnasium for one.

Needs the extra `gym`. An action that has nothing to move is repaired to waiting, so that learners
without masks work too; the mask stands in `info["action_mask"]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from raygrid.arrays import BoolArray
from raygrid.learning.dqn_training import TrainingDays
from raygrid.learning.environment import (
    FEATURES,
    Float32Array,
    MarketEnvironment,
    RewardWeights,
    training_scales,
)
from raygrid.learning.policy import Bidder, Policy
from raygrid.market.actions import N_ACTIONS

BOUND = 10.0
"""Observations are cut to this magnitude, which scaled values hardly reach."""


def _space() -> Box:
    return Box(-BOUND, BOUND, (len(FEATURES),), np.float32)


class _Day:
    """One drawn training day of the vectorised environment."""

    def __init__(self, days: TrainingDays, weights: RewardWeights | None) -> None:
        self.days = days
        scales = training_scales(days.market.feed, days.train)
        self.environment = MarketEnvironment(
            days.market, scales, days.worth, weights, days.start_kwh
        )

    def begin(self, rng: np.random.Generator) -> tuple[Float32Array, BoolArray]:
        seen, mask = self.environment.reset(rng.choice(self.days.train, 1), rng)
        return np.clip(seen[0], -BOUND, BOUND), mask[0]


class MarketParallelEnv(ParallelEnv[str, Float32Array, int]):
    """All prosumers of one community as PettingZoo agents; an episode is a day.

    Parameters
    ----------
    days : TrainingDays
        The market and its training days.
    weights : RewardWeights, optional
        Of the reward's terms.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "raygrid_market_v0", "render_modes": []}

    def __init__(self, days: TrainingDays, weights: RewardWeights | None = None) -> None:
        self._day = _Day(days, weights)
        self.possible_agents = [f"prosumer_{i}" for i in days.market.units.prosumer_id]
        self.agents: list[str] = []
        self.render_mode = None
        self._spaces = {agent: _space() for agent in self.possible_agents}
        self._actions = {agent: Discrete(N_ACTIONS) for agent in self.possible_agents}
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> Box:
        """The same box for every agent."""
        return self._spaces[agent]

    def action_space(self, agent: str) -> Discrete[Any]:
        """The eight actions of III.E."""
        return self._actions[agent]

    def _each(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def _infos(self, mask: BoolArray) -> dict[str, Any]:
        return self._each({"action_mask": row.astype(np.int8)} for row in mask)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Float32Array], dict[str, Any]]:
        """Begin a training day, drawn from the seed if one is given."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        seen, mask = self._day.begin(self._rng)
        return self._each(seen), self._infos(mask)

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, Float32Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]
    ]:
        """One period; an agent without an action waits."""
        chosen = np.array([[actions.get(agent, 0) for agent in self.possible_agents]], np.int64)
        step = self._day.environment.step(chosen)
        seen = np.clip(step.observation[0], -BOUND, BOUND)
        if step.truncated:
            self.agents = []
        return (
            self._each(seen),
            self._each(step.reward[0].tolist()),
            self._each([False] * len(self.possible_agents)),
            self._each([step.truncated] * len(self.possible_agents)),
            self._infos(step.mask[0]),
        )

    def render(self) -> None:
        """Nothing is drawn."""

    def close(self) -> None:
        """Nothing is held."""


class ProsumerEnv(gymnasium.Env[Float32Array, np.int64]):
    """One prosumer learns; the others follow a policy, or the rule.

    Parameters
    ----------
    days : TrainingDays
        The market and its training days.
    row : int
        The learner's row among the prosumers.
    others : Policy, optional
        What the others follow; the rule by default.
    weights : RewardWeights, optional
        Of the reward's terms.
    """

    def __init__(
        self,
        days: TrainingDays,
        row: int = 0,
        others: Policy | None = None,
        weights: RewardWeights | None = None,
    ) -> None:
        self._day, self._row = _Day(days, weights), row
        self._others = Bidder(days.market, others)
        self._last: Any = None
        self.metadata = {"render_modes": []}
        space: Any = _space()
        self.observation_space = space
        self.action_space = Discrete(N_ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Begin a training day, drawn from the seed if one is given."""
        super().reset(seed=seed)
        seen, mask = self._day.begin(self.np_random)
        self._last = None
        return seen[self._row], {"action_mask": mask[self._row].astype(np.int8)}

    def step(self, action: np.int64) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """One period: everybody else acts, then all together."""
        actions = self._others.act(self._last)
        actions[0, self._row] = int(action)
        step = self._day.environment.step(actions)
        self._last = step.outcome
        seen = np.clip(step.observation[0, self._row], -BOUND, BOUND)
        info = {"action_mask": step.mask[0, self._row].astype(np.int8)}
        return seen, float(step.reward[0, self._row]), False, step.truncated, info
