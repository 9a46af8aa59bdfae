"""The state that a forecaster's training goes on from, in memory and on disk."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.results.files import write_atomically

CHECKPOINT = "checkpoint.npz"
LOG = "log.csv"
STATE_PARTS = ("weights", "first", "second", "mean", "best")


@dataclass
class TrainState:
    """What training goes on from; arrays are numpy's, so that it can be stored and sent.

    Attributes
    ----------
    epoch : int
        Epochs done.
    weights, first, second, mean : dict of str to (M, ...) float32
        Weights, Adam's moments, and the running mean of the weights.
    best : dict of str to (M, ...) float32
        Weights of each model's best validation loss.
    best_loss : (M,) float64
        Those losses.
    best_epoch : int
        Last epoch at which any model got better.
    log : list of dict
        One row an epoch.
    """

    epoch: int
    weights: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]
    mean: dict[str, Any]
    best: dict[str, Any]
    best_loss: FloatArray
    best_epoch: int = 0
    log: list[dict[str, float]] = field(default_factory=list)

    def rows(self, rows: IntArray) -> TrainState:
        """What some models go on from."""
        parts: dict[str, Any] = {
            part: {name: array[rows] for name, array in getattr(self, part).items()}
            for part in STATE_PARTS
        }
        return replace(self, best_loss=self.best_loss[rows], log=[], **parts)

    def put(self, rows: IntArray, own: TrainState) -> None:
        """Take some models' weights and moments from what they went on to."""
        for part in STATE_PARTS:
            for name, array in getattr(self, part).items():
                array[rows] = getattr(own, part)[name]


def new_state(weights: dict[str, Any]) -> TrainState:
    """A state before the first epoch."""
    models = len(weights["embedding"])
    return TrainState(
        epoch=0,
        weights=weights,
        first={k: np.zeros_like(v) for k, v in weights.items()},
        second={k: np.zeros_like(v) for k, v in weights.items()},
        mean={k: v.copy() for k, v in weights.items()},
        best={k: v.copy() for k, v in weights.items()},
        best_loss=np.full(models, np.inf),
    )


def save_checkpoint(folder: Path, state: TrainState, key: str) -> None:
    """Write the state of a training, and its log as CSV."""
    arrays: dict[str, Any] = {
        f"{part}/{name}": array
        for part in STATE_PARTS
        for name, array in getattr(state, part).items()
    }
    plain = {"epoch": state.epoch, "best_epoch": state.best_epoch, "log": state.log, "key": key}
    arrays |= {"best_loss": state.best_loss, "plain": np.array(json.dumps(plain))}
    write_atomically(folder / CHECKPOINT, lambda stream: np.savez(stream, **arrays))
    lines = [",".join(state.log[0])] + [",".join(map(str, row.values())) for row in state.log]
    write_atomically(folder / LOG, lambda stream: stream.write(("\n".join(lines) + "\n").encode()))


def load_checkpoint(folder: Path, key: str) -> TrainState:
    """Read the state of a training.

    Raises
    ------
    InputError
        If there is none, or it is of another scenario, network or options.
    """
    where = str(folder / CHECKPOINT)
    try:
        with np.load(io.BytesIO(Path(where).read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        plain = json.loads(str(arrays["plain"]))
    except (OSError, ValueError, KeyError):
        raise InputError(
            "no checkpoint to go on from", where, "leave --resume away, or name its folder by --out"
        ) from None
    if plain["key"] != key:
        raise InputError(
            "the checkpoint is of another scenario, seed, network, options or version",
            where,
            "give the options that it was begun with, or leave --resume away",
        )
    parts = {
        part: {
            name.removeprefix(f"{part}/"): array
            for name, array in arrays.items()
            if name.startswith(f"{part}/")
        }
        for part in STATE_PARTS
    }
    return TrainState(
        epoch=plain["epoch"],
        best_epoch=plain["best_epoch"],
        log=plain["log"],
        best_loss=arrays["best_loss"],
        **parts,
    )
