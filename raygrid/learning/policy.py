"""The bidder: learned networks in numpy, one a prosumer, and the rule where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.environment import FEATURES, Float32Array, Observer, Scales, foreseen_scales
from raygrid.learning.weights import Weights, load_weights, save_weights
from raygrid.market.actions import N_ACTIONS
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.rule import dear, stated_action

KIND = "dqn"


def leading_action(
    values: Float32Array, mask: BoolArray, stated: IntArray, margin: float
) -> IntArray:
    """The allowed action of most value where it leads the stated one by more than a margin.

    Parameters
    ----------
    values : (..., 8) float32
        Action values.
    mask : (..., 8) bool
        Actions that have something to move.
    stated : (...) int64
        What the plan or the rule would do.
    margin : float
        Lead below which the stated action stands; 0: plain DQN, but for ties.
    """
    allowed = np.where(mask, values, -np.inf)
    best = allowed.argmax(axis=-1)
    of_stated = np.take_along_axis(values, stated[..., None], axis=-1)[..., 0]
    return np.where(allowed.max(axis=-1) - of_stated > margin, best, stated)


@dataclass(frozen=True)
class Policy:
    """Action values of N prosumers: a network of two hidden layers each, or one for all.

    Attributes
    ----------
    layers : tuple of ((M, I, O) float32, (M, O) float32)
        Weights and biases from input to output; M is N, or 1 for a shared network.
    scales : Scales
        What observations are divided by.
    margin : float
        By how much an action must lead the stated one, in units of rewards.
    """

    layers: tuple[tuple[Float32Array, Float32Array], ...]
    scales: Scales
    margin: float = 0.0

    @property
    def is_shared(self) -> bool:
        """Whether one network serves any number of prosumers.

        Its own are scaled as they were in training, others by what is forecast of them.
        """
        return len(self) == 1

    def __len__(self) -> int:
        return len(self.layers[0][0])

    def values(self, observation: Float32Array) -> Float32Array:
        """(E, N, 8) action values of observations (E, N, S)."""
        x = np.ascontiguousarray(observation.transpose(1, 0, 2))
        if self.is_shared:
            x = x.reshape(1, -1, x.shape[-1])
        for depth, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias[:, None]
            if depth < len(self.layers) - 1:
                x = np.maximum(x, 0.0)
        n, copies = observation.shape[1], observation.shape[0]
        return np.asarray(x.reshape(n, copies, -1).transpose(1, 0, 2))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights and scales by name."""
        arrays: dict[str, NDArray[Any]] = {}
        for depth, (weight, bias) in enumerate(self.layers):
            arrays[f"weight{depth}"], arrays[f"bias{depth}"] = weight, bias
        return arrays | self.scales.arrays() | {"margin": np.array(self.margin)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Policy:
        """The inverse of `arrays`."""
        depth = sum(name.startswith("weight") for name in arrays)
        layers = tuple(
            (arrays[f"weight{d}"].astype(np.float32), arrays[f"bias{d}"].astype(np.float32))
            for d in range(depth)
        )
        return cls(layers, Scales.from_arrays(arrays), float(arrays["margin"]))

    def save(self, folder: Path, facts: dict[str, Any]) -> Path:
        """Write weights and manifest; `facts` go into the manifest."""
        facts = {"features": list(FEATURES), "prosumers": len(self), **facts}
        arrays = self.arrays()
        for name in arrays:
            if name.startswith(("weight", "bias")):
                arrays[name] = arrays[name].astype(np.float16)
        return save_weights(folder, Weights(KIND, arrays, facts))

    def stored(self) -> Policy:
        """The policy as it comes back from a file, where weights have half precision."""
        return replace(
            self,
            layers=tuple(
                (
                    weight.astype(np.float16).astype(np.float32),
                    bias.astype(np.float16).astype(np.float32),
                )
                for weight, bias in self.layers
            ),
        )


def load_policy(folder: Path, n_prosumers: int) -> Policy:
    """Read a policy that fits N prosumers: one network for each, or one for all.

    Raises
    ------
    InputError
        If it is missing, damaged, or for other prosumers or observations.
    """
    shapes = {"weight0": (-1, len(FEATURES), -1), "bias0": (-1, -1)}
    weights = load_weights(folder, KIND, shapes)
    if weights.facts.get("features") != list(FEATURES):
        raise InputError(
            "the observations that they were trained on are others",
            f"weights {folder}",
            "train them again",
        )
    policy = Policy.from_arrays(weights.arrays)
    if not policy.is_shared and len(policy) != n_prosumers:
        raise InputError(
            f"they are for {len(policy)} prosumers, the scenario has {n_prosumers}",
            f"weights {folder}",
            "train weights for this scenario",
        )
    for one, other in pairwise(policy.layers):
        if one[0].shape[2] != other[0].shape[1] or one[1].shape[1] != one[0].shape[2]:
            raise InputError("their layers do not fit together", f"weights {folder}", "train again")
    if policy.layers[-1][0].shape[2] != N_ACTIONS:
        raise InputError("their actions are others", f"weights {folder}", "train them again")
    return policy


class Bidder:
    """Chooses everybody's actions, by learned values or by the rule.

    A prosumer follows its plan, or the rule without one, where there is no policy, where no
    action leads by the policy's margin, and where the values of what it may do are not finite
    numbers.

    Parameters
    ----------
    market : IntradayMarket
        The market that it bids in.
    policy : Policy or None
        Learned values.
    """

    def __init__(self, market: IntradayMarket, policy: Policy | None = None) -> None:
        if policy is not None and not policy.is_shared and len(policy) != len(market.units):
            raise InputError(
                f"the policy is for {len(policy)} prosumers, the market has {len(market.units)}",
                "policy",
                "train one for this community",
            )
        self.market, self.policy = market, policy
        feed = market.feed
        if policy is not None and len(policy.scales.load_kw) == len(market.units):
            scales = policy.scales
        else:
            scales = foreseen_scales(feed)
        self.observer = Observer(market.units, feed, scales)
        self.fallbacks = 0
        self._dear = dear(feed)

    def act(self, last: Outcome | None = None) -> IntArray:
        """Actions (E, N) for the market's next period; `last` is the outcome of the one before."""
        view = self.market.outlook
        stated = stated_action(view, self.market.feed, self._dear)
        if self.policy is None:
            self.fallbacks += view.surplus_kw.size
            return stated
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.policy.values(self.observer.observe(self.market, last))
            failed = ~np.isfinite(np.where(view.mask, values, 0.0)).all(axis=-1)
            action = leading_action(values, view.mask, stated, self.policy.margin)
        self.fallbacks += int(failed.sum())
        return np.asarray(np.where(failed, stated, action), dtype=np.int64)
