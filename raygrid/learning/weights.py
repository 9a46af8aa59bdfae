"""Learned weights on disk: named arrays without pickle, and a manifest that says what they fit."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.errors import InputError
from raygrid.results.files import MANIFEST, json_text, write_atomically

WEIGHTS = "weights.npz"
WEIGHTS_VERSION = 1
"""Version of the manifest's layout."""


@dataclass(frozen=True)
class Weights:
    """Weights of one kind of learner.

    Attributes
    ----------
    kind : str
        What they are of: 'dqn', or a forecaster's name.
    arrays : dict of str to array
        Weights by name.
    facts : dict
        What else the manifest says: scenario, prosumers, seeds, options, scores.
    """

    kind: str
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def save_weights(folder: Path, weights: Weights) -> Path:
    """Write `weights.npz`, then `manifest.json`, which declares it whole.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    weights : Weights
        What to write.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If a weight is not a finite number, or the folder cannot be written.
    """
    arrays: dict[str, Any] = dict(weights.arrays)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise InputError(
                f"weight {name!r} is not all finite numbers", str(folder), "train it again"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = write_atomically(
            folder / WEIGHTS, lambda stream: np.savez_compressed(stream, **arrays)
        )
        manifest = {
            "weights_version": WEIGHTS_VERSION,
            "kind": weights.kind,
            "sha256": digest,
            "arrays": {
                name: {"shape": list(array.shape), "dtype": str(array.dtype)}
                for name, array in arrays.items()
            },
            **weights.facts,
        }
        write_atomically(folder / MANIFEST, lambda f: f.write(json_text(manifest).encode()))
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", str(folder), "choose another folder"
        ) from error
    return folder


def load_weights(
    folder: Path, kind: str, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Weights:
    """Read weights, checked against their manifest.

    Parameters
    ----------
    folder : Path
        Where `save_weights` wrote.
    kind : str
        What they must be of.
    shapes : mapping of str to tuple of int, optional
        Shapes that the scenario needs; -1 stands for any length.

    Returns
    -------
    Weights
        The weights.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the weights do not fit.
    """
    where = f"weights {folder}"
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        raw = (folder / WEIGHTS).read_bytes()
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{MANIFEST} or {WEIGHTS} is missing or damaged", where, "train them with raygrid train"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("weights_version") != WEIGHTS_VERSION:
        raise InputError("the manifest is of another version", where, "train them again")
    if manifest.get("kind") != kind:
        raise InputError(
            f"they are of {manifest.get('kind')!r}, not of {kind!r}", where, "choose others"
        )
    if hashlib.sha256(raw).hexdigest() != manifest.get("sha256"):
        raise InputError(
            f"{WEIGHTS} is not the file that its manifest names", where, "copy both files again"
        )
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{WEIGHTS} cannot be read", where, "train them again") from error
    for name, wanted in (shapes or {}).items():
        found = arrays[name].shape if name in arrays else None
        fits = found is not None and len(found) == len(wanted)
        if not fits or any(w not in (-1, f) for w, f in zip(wanted, found or (), strict=True)):
            raise InputError(
                f"{name!r} has shape {found}, where the scenario needs {wanted}",
                where,
                "train weights for this scenario",
            )
    facts = {
        key: value
        for key, value in manifest.items()
        if key not in ("weights_version", "kind", "sha256", "arrays")
    }
    return Weights(kind, arrays, facts)


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of weights by name, whatever folder they were read from."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
