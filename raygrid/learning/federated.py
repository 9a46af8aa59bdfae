"""Federated averaging: prosumers train where their profiles are, and only weights travel.

A host holds some prosumers. In a round it gets the common weights, trains one copy of them for
each of its prosumers, as one batch, and returns the sum of the copies and their number. What
travels is the same whoever holds how many prosumers; embeddings, scales and profiles stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from raygrid.learning.checkpoint import new_state
from raygrid.learning.direct import Products, products, solve
from raygrid.learning.features import Scaling, Series
from raygrid.learning.network import NetworkSpec
from raygrid.learning.training import Trainer, TrainOptions

LOCAL_SHARE = 5
"""Rounds in an epoch: each trains a fifth of its batches."""


@dataclass(frozen=True)
class HostUpdate:
    """What a host sends after a round.

    Attributes
    ----------
    sums : dict of str to array
        Weights summed over its prosumers.
    prosumers : int
        How many they are.
    loss_sum : float
        Their training losses, summed.
    """

    sums: dict[str, Any]
    prosumers: int
    loss_sum: float


class FederatedHost(Protocol):
    """A host of prosumers; `LocalHost` in this process, or an actor that carries one."""

    def round(self, weights: dict[str, Any], number: int, rounds: int) -> HostUpdate:
        """Train from the common weights."""
        ...

    def products(self) -> Products:
        """Sums of products that the network's regression is fitted to, over its prosumers."""
        ...

    def embeddings(self) -> Any:
        """Embeddings of its prosumers (n, E): for evaluation where all is in one place."""
        ...


class LocalHost:
    """Prosumers of this process; parameters as of `raygrid.learning.training.Trainer`."""

    def __init__(
        self,
        spec: NetworkSpec,
        series: Series,
        scaling: Scaling,
        train: Any,
        validation: Any,
        options: TrainOptions,
    ) -> None:
        batches = max(1, options.batches_per_epoch // LOCAL_SHARE)
        local = replace(options, batches_per_epoch=batches)
        self.trainer = Trainer(spec, series, scaling, train, validation, local)
        self.n = len(series.own)
        self.own: Any = None

    def round(self, weights: dict[str, Any], number: int, rounds: int) -> HostUpdate:
        """Train one copy of the common weights for each prosumer; Adam starts anew."""
        if self.own is None:
            # All start alike, so that where a prosumer is hosted makes no difference.
            self.own = np.zeros((self.n, 1, self.trainer.spec.embedding), dtype=np.float32)
        copies = {name: np.repeat(value, self.n, axis=0) for name, value in weights.items()}
        state = new_state(copies | {"embedding": self.own})
        state.epoch = number
        loss = self.trainer.epoch(state, rounds)
        self.own = state.weights.pop("embedding")
        sums = {k: v.sum(axis=0, keepdims=True, dtype=np.float64) for k, v in state.weights.items()}
        return HostUpdate(sums, self.n, loss * self.n)

    def products(self) -> Products:
        """Sums of products over its prosumers' training windows."""
        t = self.trainer
        return products(t.spec, t.series, t.scaling, t.train, 1)

    def embeddings(self) -> Any:
        """Embeddings of its prosumers (n, E)."""
        return self.own[:, 0]


class FederatedState:
    """The common weights, and the averaging of what hosts return.

    Parameters
    ----------
    weights : dict of str to (1, ...) float32
        First weights; the embedding in them is ignored.
    """

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = dict(weights)

    def common(self) -> dict[str, Any]:
        """What travels to the hosts."""
        return {name: value for name, value in self.weights.items() if name != "embedding"}

    def average(self, updates: Sequence[HostUpdate]) -> float:
        """Take the mean over all prosumers; returns their mean training loss."""
        count = sum(update.prosumers for update in updates)
        loss = sum(update.loss_sum for update in updates) / count
        if np.isfinite(loss):
            for name in self.common():
                mean = sum(update.sums[name] for update in updates) / count
                self.weights[name] = mean.astype(np.float32)
        return loss


def fit_direct(hosts: Sequence[FederatedHost]) -> dict[str, Any]:
    """The common weights of the hybrid's regression, from the sums that hosts send."""
    first, *others = (host.products() for host in hosts)
    for found in others:
        first += found
    return solve(first)


def federated_epoch(
    state: FederatedState, hosts: Sequence[FederatedHost], epoch: int, epochs: int
) -> float:
    """Some rounds over all hosts.

    Parameters
    ----------
    state : FederatedState
        Holds the common weights.
    hosts : sequence of FederatedHost
        In order of their prosumers.
    epoch, epochs : int
        Which epoch this is, of how many.

    Returns
    -------
    float
        Mean training loss, NaN if it broke off.
    """
    losses = []
    for k in range(LOCAL_SHARE):
        number, rounds = epoch * LOCAL_SHARE + k, epochs * LOCAL_SHARE
        losses.append(state.average([h.round(state.common(), number, rounds) for h in hosts]))
        if not np.isfinite(losses[-1]):
            return float("nan")
    state.weights["embedding"] = np.concatenate([h.embeddings() for h in hosts])[None]
    return float(np.mean(losses))
