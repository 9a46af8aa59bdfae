"""How a forecaster is trained, in figures."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TrainOptions:
    """How a forecaster is trained.

    Attributes
    ----------
    way : str
        'own': each prosumer its weights; 'shared': the same for all, with an embedding of each;
        'federated': shared weights averaged over prosumers that train apart.
    seed : int
        Seed of first weights and of batches.
    epochs : int
        At most; AI-TEM V.C has 120.
    patience : int
        Epochs without a better validation loss after which training ends.
    learning_rate : float
        The greatest; falls by a cosine to a hundredth.
    times_per_batch : int
        Times that a batch takes of every prosumer, of each its own.
    batches_per_epoch : int
        Batches after which the validation loss is looked at.
    validation_stride : int
        Every so many steps of the validation days count.
    """

    way: str = "shared"
    seed: int = 1
    epochs: int = 6
    patience: int = 6
    learning_rate: float = 2e-3
    times_per_batch: int = 4
    batches_per_epoch: int = 250
    validation_stride: int = 11


def options_for(way: str, seed: int, epochs: int, task: str = "step") -> TrainOptions:
    """As many windows for all ways; weights of one prosumer need batches of more times."""
    batches, rate = (250, 2e-3) if task == "step" else (100, 1e-3)
    few = TrainOptions(
        way=way, seed=seed, epochs=epochs, batches_per_epoch=batches, learning_rate=rate
    )
    if way == "shared":
        return few
    return replace(few, times_per_batch=16, batches_per_epoch=batches // 4)
