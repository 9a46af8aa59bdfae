"""The bidder: learned networks in numpy, one a prosumer, and the rule where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import IntArray
from raygrid.errors import InputError
from raygrid.learning.environment import FEATURES, Float32Array, Observer, Scales, training_scales
from raygrid.learning.weights import Weights, load_weights, save_weights
from raygrid.market.actions import N_ACTIONS
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.rule import dear, rule_action

KIND = "dqn"


@dataclass(frozen=True)
class Policy:
    """Action values of N prosumers: a network of two hidden layers each.

    Attributes
    ----------
    layers : tuple of ((N, I, O) float32, (N, O) float32)
        Weights and biases from input to output.
    scales : Scales
        What observations are divided by.
    """

    layers: tuple[tuple[Float32Array, Float32Array], ...]
    scales: Scales

    def __len__(self) -> int:
        return len(self.layers[0][0])

    def values(self, observation: Float32Array) -> Float32Array:
        """(E, N, 8) action values of observations (E, N, S)."""
        x = np.ascontiguousarray(observation.transpose(1, 0, 2))
        for depth, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias[:, None]
            if depth < len(self.layers) - 1:
                x = np.maximum(x, 0.0)
        return np.asarray(x.transpose(1, 0, 2))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights and scales by name."""
        arrays: dict[str, NDArray[Any]] = {}
        for depth, (weight, bias) in enumerate(self.layers):
            arrays[f"weight{depth}"], arrays[f"bias{depth}"] = weight, bias
        return arrays | self.scales.arrays()

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Policy:
        """The inverse of `arrays`."""
        depth = sum(name.startswith("weight") for name in arrays)
        layers = tuple((arrays[f"weight{d}"], arrays[f"bias{d}"]) for d in range(depth))
        return cls(layers, Scales.from_arrays(arrays))

    def save(self, folder: Path, facts: dict[str, Any]) -> Path:
        """Write weights and manifest; `facts` go into the manifest."""
        facts = {"features": list(FEATURES), "prosumers": len(self), **facts}
        return save_weights(folder, Weights(KIND, self.arrays(), facts))


def load_policy(folder: Path, n_prosumers: int) -> Policy:
    """Read a policy that fits N prosumers.

    Raises
    ------
    InputError
        If it is missing, damaged, or for other prosumers or observations.
    """
    shapes = {
        "weight0": (n_prosumers, len(FEATURES), -1),
        "bias0": (n_prosumers, -1),
        "scale_load_kw": (n_prosumers,),
        "scale_pv_kw": (n_prosumers,),
        "scale_money": (n_prosumers,),
    }
    weights = load_weights(folder, KIND, shapes)
    if weights.facts.get("features") != list(FEATURES):
        raise InputError(
            "the observations that they were trained on are others",
            f"weights {folder}",
            "train them again",
        )
    policy = Policy.from_arrays(weights.arrays)
    for one, other in pairwise(policy.layers):
        if one[0].shape[2] != other[0].shape[1] or one[1].shape[1] != one[0].shape[2]:
            raise InputError("their layers do not fit together", f"weights {folder}", "train again")
    if policy.layers[-1][0].shape[2] != N_ACTIONS:
        raise InputError("their actions are others", f"weights {folder}", "train them again")
    return policy


class Bidder:
    """Chooses everybody's actions, by learned values or by the rule.

    A prosumer follows the rule where there is no policy, and where the values of what it may do
    are not finite numbers.

    Parameters
    ----------
    market : IntradayMarket
        The market that it bids in.
    policy : Policy or None
        Learned values.
    """

    def __init__(self, market: IntradayMarket, policy: Policy | None = None) -> None:
        if policy is not None and len(policy) != len(market.units):
            raise InputError(
                f"the policy is for {len(policy)} prosumers, the market has {len(market.units)}",
                "policy",
                "train one for this community",
            )
        self.market, self.policy = market, policy
        feed = market.feed
        scales = training_scales(feed, np.arange(feed.n_days)) if policy is None else policy.scales
        self.observer = Observer(market.units, feed, scales)
        self.fallbacks = 0
        self._dear = dear(feed)

    def act(self, last: Outcome | None = None) -> IntArray:
        """Actions (E, N) for the market's next period; `last` is the outcome of the one before."""
        view = self.market.outlook
        if self.policy is None:
            self.fallbacks += view.surplus_kw.size
            return rule_action(view, self._dear)
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.policy.values(self.observer.observe(self.market, last))
        failed = ~np.isfinite(np.where(view.mask, values, 0.0)).all(axis=-1)
        action = np.argmax(np.where(view.mask, values, -np.inf), axis=-1)
        if failed.any():
            self.fallbacks += int(failed.sum())
            action = np.where(failed, rule_action(view, self._dear), action)
        return np.asarray(action, dtype=np.int64)
