"""Federated averaging: prosumers train where their profiles are, and only weights travel.

A host holds some prosumers. In a round it gets the common weights, trains one copy of them for
each of its prosumers, as one batch, and returns the sum of the copies and their number. What
travels is the same whoever holds how many prosumers, beside their embeddings, which go back and
forth so that a host need remember nothing; scales and profiles stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raygrid.arrays import IntArray
from raygrid.learning.checkpoint import new_state
from raygrid.learning.direct import Products, products
from raygrid.learning.features import Scaling, Series
from raygrid.learning.network import NetworkSpec
from raygrid.learning.train_options import TrainOptions
from raygrid.learning.training import Trainer

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
    embedding : (n, E) float32
        Their embeddings, which they go on from in the next round.
    """

    sums: dict[str, Any]
    prosumers: int
    loss_sum: float
    embedding: Any


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
        prosumer_id: IntArray,
        device: str = "cpu",
    ) -> None:
        batches = max(1, options.batches_per_epoch // LOCAL_SHARE)
        local = replace(options, batches_per_epoch=batches)
        self.trainer = Trainer(spec, series, scaling, train, validation, local, prosumer_id, device)
        self.n = len(series.own)

    def round(
        self, weights: dict[str, Any], embedding: Any, number: int, rounds: int
    ) -> HostUpdate:
        """Train one copy of the common weights for each prosumer; Adam starts anew.

        Parameters
        ----------
        weights : dict of str to (1, ...) float32
            Common weights, without embeddings.
        embedding : (n, E) float32
            Its prosumers' own.
        number, rounds : int
            Which round of all this is, of how many.
        """
        copies = {name: np.repeat(value, self.n, axis=0) for name, value in weights.items()}
        state = new_state(copies | {"embedding": embedding[:, None]})
        state.epoch = number
        loss = self.trainer.epoch(state, rounds)
        own = state.weights.pop("embedding")
        sums = {k: v.sum(axis=0, keepdims=True, dtype=np.float64) for k, v in state.weights.items()}
        return HostUpdate(sums, self.n, loss * self.n, own[:, 0])

    def products(self) -> Products:
        """Sums of products over its prosumers' training windows."""
        t = self.trainer
        return products(t.spec, t.series, t.scaling, t.train, 1)


class FederatedState:
    """The common weights, and the averaging of what hosts return.

    Parameters
    ----------
    weights : dict of str to (1, ...) float32
        Where to begin, with the embeddings (1, N, E) of all prosumers.
    """

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights | {"embedding": weights["embedding"].copy()}

    def common(self) -> dict[str, Any]:
        """What travels to the hosts."""
        return {name: value for name, value in self.weights.items() if name != "embedding"}

    def embedding(self, rows: IntArray) -> Any:
        """Embeddings (n, E) of some prosumers: what travels to their host alone."""
        return self.weights["embedding"][0, rows]

    def average(self, updates: Sequence[HostUpdate], rows: Sequence[IntArray]) -> float:
        """Take the mean over all prosumers, and each host's embeddings of its rows.

        Returns
        -------
        float
            Their mean training loss.
        """
        count = sum(update.prosumers for update in updates)
        loss = sum(update.loss_sum for update in updates) / count
        if np.isfinite(loss):
            for name in self.common():
                mean = sum(update.sums[name] for update in updates) / count
                self.weights[name] = mean.astype(np.float32)
            for own, update in zip(rows, updates, strict=True):
                self.weights["embedding"][0, own] = update.embedding
        return loss
