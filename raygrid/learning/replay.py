"""Replay of what N agents lived through side by side, the oldest overwritten (AI-TEM V.C)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, IntArray
from raygrid.learning.environment import Float32Array

Batch = tuple[Float32Array, IntArray, Float32Array, Float32Array, BoolArray, IntArray]
"""Observations, actions, rewards, next observations, masks and stated actions, samples first."""

_KEPT = ("observation", "action", "reward", "following", "mask", "stated")


class Replay:
    """Up to C transitions of each of N agents.

    All agents of a period share a row, so that one draw serves every agent's own network.

    Parameters
    ----------
    capacity : int
        Transitions C of each agent.
    n_agents, n_features, n_actions : int
        Sizes N, S and A.
    """

    def __init__(self, capacity: int, n_agents: int, n_features: int, n_actions: int) -> None:
        rows = (capacity, n_agents)
        self.observation = np.zeros((*rows, n_features), dtype=np.float32)
        self.action = np.zeros(rows, dtype=np.int8)
        self.reward = np.zeros(rows, dtype=np.float32)
        self.following = np.zeros((*rows, n_features), dtype=np.float32)
        self.mask = np.zeros((*rows, n_actions), dtype=np.bool_)
        self.stated = np.zeros(rows, dtype=np.int8)
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, len(self.action))

    def add(
        self,
        observation: Float32Array,
        action: IntArray,
        reward: Float32Array,
        following: Float32Array,
        mask: BoolArray,
        stated: IntArray,
    ) -> None:
        """Keep E transitions of each agent, communities first: (E, N, ...).

        `following`, `mask` and `stated` are those of the period after; a day's last is kept like
        any other, since the end of a day truncates an episode and does not end it.
        """
        rows = (self.added + np.arange(len(action))) % len(self.action)
        self.observation[rows], self.action[rows], self.reward[rows] = observation, action, reward
        self.following[rows], self.mask[rows] = following, mask
        self.stated[rows] = stated
        self.added += len(action)

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw transitions, each as likely; arrays (size, N, ...)."""
        rows = rng.integers(0, len(self), size)
        return (
            self.observation[rows],
            self.action[rows].astype(np.int64),
            self.reward[rows],
            self.following[rows],
            self.mask[rows],
            self.stated[rows].astype(np.int64),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is in it, for a checkpoint."""
        n = len(self)
        stored: dict[str, NDArray[Any]] = {f"replay_{k}": getattr(self, k)[:n] for k in _KEPT}
        return stored | {"replay_added": np.array(self.added)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """The inverse of `arrays`."""
        self.added = int(arrays["replay_added"])
        for name in _KEPT:
            getattr(self, name)[: len(self)] = arrays[f"replay_{name}"]
