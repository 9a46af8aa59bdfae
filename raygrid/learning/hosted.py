"""Training where the prosumers are: what one of several hosts does for it, and who asks them.

A host builds the series of its prosumers itself and keeps them. It remembers nothing of the
training: every call brings the weights that it starts from, so that a call may be repeated, and a
host that was started anew needs its part of the data alone. What travels are weights (embeddings
among them), losses and counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.checkpoint import TrainState
from raygrid.learning.dataset import Dataset
from raygrid.learning.direct import Products, solve
from raygrid.learning.features import fit_scaling, make_series
from raygrid.learning.federated import LOCAL_SHARE, FederatedState, HostUpdate, LocalHost
from raygrid.learning.network import NetworkSpec
from raygrid.learning.train_options import TrainOptions
from raygrid.learning.training import Trainer, part_of


class DatasetRecipe(Protocol):
    """How a host comes to the series of its prosumers."""

    def build(self) -> Dataset:
        """The series."""
        ...


@dataclass(frozen=True)
class GivenDataset:
    """A recipe that is the series themselves."""

    data: Dataset

    def build(self) -> Dataset:
        """The series."""
        return self.data


@dataclass(frozen=True)
class TrainingOrder:
    """What a host needs to begin: sent once, and again to the successor of one that died.

    Attributes
    ----------
    recipe : DatasetRecipe
        How to build the series of its prosumers.
    spec : NetworkSpec
        The network.
    options : TrainOptions
        How to train.
    """

    recipe: DatasetRecipe
    spec: NetworkSpec
    options: TrainOptions


class HostedTraining:
    """The prosumers of a host, ready to be trained.

    Parameters
    ----------
    order : TrainingOrder
        Which prosumers, and how.
    device : str
        Torch's name of where to compute.
    """

    def __init__(self, order: TrainingOrder, device: str = "cpu") -> None:
        data, spec, options = order.recipe.build(), order.spec, order.options
        self._prosumer_id = data.prosumer_id
        scaling = fit_scaling(data)
        series = make_series(data, scaling, dark=spec.dark)
        steps = part_of(data, spec, "train"), part_of(data, spec, "validation")
        parts = (spec, series, scaling, *steps, options, data.prosumer_id, device)
        self._own, self._federated = Trainer(*parts), LocalHost(*parts)

    def prosumers(self) -> IntArray:
        """Their ids (n,)."""
        return self._prosumer_id

    def direct(self) -> dict[str, Any]:
        """Each prosumer's own weights (n, ...) that are fitted in closed form."""
        return self._own.direct()

    def products(self) -> Products:
        """Sums that common weights of that kind are fitted to, over the host's prosumers."""
        return self._federated.products()

    def epoch(self, state: TrainState, epochs: int) -> tuple[TrainState, float]:
        """One epoch of each prosumer's own weights: the state after it, and the mean loss."""
        state = replace(state, log=[])
        loss = self._own.epoch(state, epochs)
        return state, loss

    def round(
        self, weights: dict[str, Any], embedding: Any, number: int, rounds: int
    ) -> HostUpdate:
        """One round from common weights; see `raygrid.learning.federated.LocalHost.round`."""
        return self._federated.round(weights, embedding, number, rounds)

    def validate(self, weights: dict[str, Any]) -> FloatArray:
        """Validation loss (M,) of each model over the host's prosumers."""
        return self._own.validate(weights)


class HostGroup(Protocol):
    """Hosts that are asked at once: of this process, or Ray actors that carry one each."""

    def __len__(self) -> int: ...

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of `HostedTraining` on every host, each with its arguments."""
        ...


class LocalGroup:
    """Hosts of this process."""

    def __init__(self, hosts: Sequence[HostedTraining]) -> None:
        self._hosts = hosts

    def __len__(self) -> int:
        return len(self._hosts)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every host in turn."""
        return [
            getattr(host, method)(*own) for host, own in zip(self._hosts, arguments, strict=True)
        ]


class HostedLearner:
    """`raygrid.learning.training.Learner` over hosts of prosumers.

    Parameters
    ----------
    group : HostGroup
        The hosts.
    prosumer_id : (N,) int64
        All prosumers, ascending, in whose order weights stand.
    options : TrainOptions
        Way 'own' or 'federated'.
    """

    def __init__(self, group: HostGroup, prosumer_id: IntArray, options: TrainOptions) -> None:
        self._group, self._way = group, options.way
        ids = group.ask("prosumers", [()] * len(group))
        self._rows = [np.searchsorted(prosumer_id, own) for own in ids]
        self._counts = [len(rows) for rows in self._rows]

    def direct(self) -> dict[str, Any]:
        """The weights that are fitted in closed form: each host's own, or from sums of them all."""
        nothing = [()] * len(self._group)
        if self._way == "federated":
            first, *others = self._group.ask("products", nothing)
            for found in others:
                first += found
            return solve(first)
        return self._joined(self._group.ask("direct", nothing))

    def epoch(self, state: TrainState, total_epochs: int) -> float:
        """One epoch in place; returns the mean training loss, NaN if it broke off."""
        if self._way == "federated":
            return self._federated_epoch(state, total_epochs)
        asked = [(state.rows(rows), total_epochs) for rows in self._rows]
        answers = self._group.ask("epoch", asked)
        loss = float(np.average([loss for _, loss in answers], weights=self._counts))
        if np.isfinite(loss):
            for rows, (own, _) in zip(self._rows, answers, strict=True):
                state.put(rows, own)
            state.epoch += 1
        return loss

    def _federated_epoch(self, state: TrainState, epochs: int) -> float:
        """Some rounds over all hosts, each from the mean of what they returned before."""
        shared = FederatedState(state.weights)
        losses = []
        for k in range(LOCAL_SHARE):
            number, rounds = state.epoch * LOCAL_SHARE + k, epochs * LOCAL_SHARE
            common = shared.common()
            asked = [(common, shared.embedding(rows), number, rounds) for rows in self._rows]
            losses.append(shared.average(self._group.ask("round", asked), self._rows))
            if not np.isfinite(losses[-1]):
                return float("nan")
        state.weights = state.mean = shared.weights
        state.epoch += 1
        return float(np.mean(losses))

    def validate(self, weights: dict[str, Any]) -> FloatArray:
        """Mean validation loss of each model (M,)."""
        found = self._group.ask("validate", [(self._weights(weights, r),) for r in self._rows])
        if self._way == "federated":
            return np.asarray(np.average(found, axis=0, weights=self._counts))
        return np.asarray(self._joined([{"losses": own} for own in found])["losses"])

    def _joined(self, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Arrays (N, ...) of all prosumers from those of each host (n, ...)."""
        n, joined = sum(self._counts), {}
        for name, first in found[0].items():
            joined[name] = np.empty((n, *first.shape[1:]), dtype=first.dtype)
            for rows, own in zip(self._rows, found, strict=True):
                joined[name][rows] = own[name]
        return joined

    def _weights(self, weights: dict[str, Any], rows: IntArray) -> dict[str, Any]:
        if self._way == "federated":
            return weights | {"embedding": weights["embedding"][:, rows]}
        return {name: value[rows] for name, value in weights.items()}
