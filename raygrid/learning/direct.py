"""The hybrid's residual connection: a weighted ridge regression in closed form.

For load and PV it forecasts by how much the next value differs from its anchor, in standard
deviations and in clear-sky index, from what `raygrid.learning.lines.direct_inputs` says. Sums of
products are all that it takes of the data: hosts can add theirs up without showing a profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.features import INDEX_LIMIT, Scaling, Series
from raygrid.learning.inference import by_model, windows_of
from raygrid.learning.lines import direct_inputs, load_inputs, pv_inputs
from raygrid.learning.network import DIRECT_B, DIRECT_W, NetworkSpec, NumpyOps

RIDGE = 1e-6
"""Penalty over the mean square of the inputs."""
TIMES_USED = 4000
"""Training times, evenly spread, that are looked at; of days all."""
AT_ONCE = 64
SHADE = 0.02
"""PV is not asked for where its envelope is below this share of the rating."""


@dataclass(frozen=True)
class Products:
    """Sums of products over some rows, of M models.

    Attributes
    ----------
    spec : NetworkSpec
        The network whose inputs they are.
    inputs : (M, 2, D + 1, D + 1) float64
        Of the inputs (the last is 1) with themselves: unweighted for load, weighted for PV.
    targets : (M, 2, D + 1) float64
        Of the inputs with the targets.
    """

    spec: NetworkSpec
    inputs: FloatArray
    targets: FloatArray

    def __add__(self, other: Products) -> Products:
        return Products(self.spec, self.inputs + other.inputs, self.targets + other.targets)


def products(
    spec: NetworkSpec, series: Series, scaling: Scaling, train: IntArray, models: int
) -> Products:
    """Sum up training windows of N prosumers, N a multiple of M."""
    cut, _ = windows_of(spec)
    size = spec.direct_inputs + 1
    total = Products(spec, np.zeros((models, 2, size, size)), np.zeros((models, 2, size)))
    some = train[:: max(1, len(train) // TIMES_USED)]
    step = AT_ONCE if spec.task == "step" else 4
    mean, std = scaling.load_mean_kw[:, None, None], scaling.load_std_kw[:, None, None]
    rating = np.maximum(scaling.pv_rating_kw, 1e-9)[:, None, None]
    for k in range(0, len(some), step):
        windows = cut(series, scaling, some[k : k + step])
        load = (windows.load_kw - mean) / std - windows.anchor[..., 0]
        share = windows.envelope_kw / rating
        weight = np.where(share > SHADE, share, 0.0) * (scaling.pv_rating_kw > 0)[:, None, None]
        index = windows.pv_kw / np.maximum(windows.envelope_kw, SHADE * rating)
        index = np.clip(index, 0.0, INDEX_LIMIT) - windows.anchor[..., 1]
        rows = by_model(windows, models)
        x = direct_inputs(spec, rows.steps, rows.known, NumpyOps())
        x = x.reshape(models, -1, size - 1).astype(np.float64)
        x = np.concatenate([x, np.ones_like(x[..., :1])], axis=2)
        weighted = x * weight.reshape(models, -1, 1)
        y = (load.reshape(models, -1), (weight * index).reshape(models, -1))
        pairs = ((x, y[0]), (weighted, y[1]))
        total += Products(
            spec,
            np.stack([a.swapaxes(1, 2) @ a for a, _ in pairs], axis=1),
            np.stack([(a * b[..., None]).sum(axis=1) for a, b in pairs], axis=1),
        )
    return total


def solve(found: Products) -> dict[str, Any]:
    """The weights `DIRECT_W` (M, D, 2) and `DIRECT_B` (M, 1, 2), float32.

    They are 0 where a line does not look (`raygrid.learning.lines.load_inputs`, `pv_inputs`).
    """
    size = found.inputs.shape[-1]
    penalised = found.inputs + (found.inputs[..., -1:, -1:] * RIDGE + 1e-9) * np.eye(size)
    both = np.zeros((len(penalised), size, 2), dtype=np.float32)
    for k, seen in enumerate((load_inputs(found.spec), pv_inputs(found.spec))):
        rows = np.flatnonzero(np.append(seen, True))
        square = penalised[:, k][:, rows[:, None], rows]
        fitted = np.linalg.solve(square, found.targets[:, k, rows, None])
        both[:, rows, k] = fitted[..., 0]
    return {DIRECT_W: both[:, :-1], DIRECT_B: both[:, -1:]}
