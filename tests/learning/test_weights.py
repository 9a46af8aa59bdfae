"""Weights come back as they were written, and nothing that does not fit is taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.learning.weights import Weights, load_weights, save_weights


def some() -> Weights:
    return Weights(
        "dqn",
        {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2)},
        {"scenario": "tiny", "seed": 3},
    )


def test_weights_come_back(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", some())
    found = load_weights(tmp_path / "a", "dqn", {"w": (2, -1), "b": (2,)})
    assert found.facts == {"scenario": "tiny", "seed": 3}
    assert found.arrays["w"].dtype == np.float32
    np.testing.assert_array_equal(found.arrays["w"], some().arrays["w"])


def test_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(tmp_path / name, some())
    first, second = ((tmp_path / name / "weights.npz").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"w": (2, 4)}, "shape \\(2, 3\\), where the scenario needs \\(2, 4\\)"),
        ({"w": (2, 3, 1)}, "where the scenario needs"),
        ({"v": (1,)}, "'v' has shape None"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    save_weights(tmp_path, some())
    with pytest.raises(InputError, match=message):
        load_weights(tmp_path, "dqn", shapes)


def test_damaged_or_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing or damaged"):
        load_weights(tmp_path, "dqn")
    save_weights(tmp_path, some())
    with pytest.raises(InputError, match="of 'dqn', not of 'lstm'"):
        load_weights(tmp_path, "lstm")
    file = tmp_path / "weights.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(InputError, match="not the file that its manifest names"):
        load_weights(tmp_path, "dqn")
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    manifest["weights_version"] = 0
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InputError, match="another version"):
        load_weights(tmp_path, "dqn")


def test_nan_is_never_written(tmp_path: Path) -> None:
    bad = Weights("dqn", {"w": np.array([1.0, np.nan])}, {})
    with pytest.raises(InputError, match="'w' is not all finite"):
        save_weights(tmp_path, bad)
    assert not list(tmp_path.iterdir())
