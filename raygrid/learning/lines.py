"""What reaches the hybrid's heads past its encoder, and what of it its two lines look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raygrid.arrays import BoolArray
from raygrid.learning.features import (
    CALENDAR,
    DAY_CHANNELS,
    DAY_STEP,
    KNOWN,
    OF_LOAD,
    OWN,
    PUBLIC,
)

if TYPE_CHECKING:
    from raygrid.learning.network import NetworkSpec, Ops

SKY_TERMS = 16
"""Products of the forecast sky that reach the hybrid's heads of the day ahead."""
LAST_STEPS = 8
"""Steps whose load and sky the hybrid's heads see unchanged."""
_LAST = ("load", "load_log", "pv_index", "sky_index", "forecast_index", "roughness")
LAST_CHANNELS = tuple((OWN + PUBLIC).index(name) for name in _LAST)
SKY = (
    *("pv_index", "sky_index", "roughness", "forecast_index", "clear_sky", "index_next"),
    *("index_in_an_hour", "anchor_index", "envelope_share", "has_pv"),
)
"""Channels that the line of load does not look at: over some months, sun and load go together
by chance and by season, and a regression takes that for a cause."""
LOAD_STEPS = [k for k, name in enumerate(DAY_STEP) if name not in SKY]
LOAD_SEEN = [*LOAD_STEPS, *(DAY_CHANNELS + k for k in LOAD_STEPS)]
"""What a network that forecasts load apart sees of a step of the day ahead, and its heads of what
reaches them past the encoder."""


def direct_inputs(spec: NetworkSpec, steps: Any, known: Any, ops: Ops) -> Any:
    """What reaches the hybrid's heads past the encoder, by step ahead (M, R, H, D).

    Of the day ahead, each step's inputs, their means over the day, and `_sky_terms`.
    """
    if spec.task == "day":
        mean = ops.expand(steps.mean(axis=2, keepdims=True), steps.shape)
        return ops.concatenate([steps, mean, *_sky_terms(known, ops)])
    last = [steps[:, :, -LAST_STEPS:, k] for k in LAST_CHANNELS]
    return ops.concatenate([ops.concatenate(last)[:, :, None], known])


def load_inputs(spec: NetworkSpec) -> BoolArray:
    """Which of `direct_inputs` (D,) the line of load looks at."""
    if spec.task == "step":
        last = [name for name in _LAST for _ in range(LAST_STEPS)]
        return np.array([name not in SKY for name in (*last, *KNOWN)])
    each = [name not in SKY for name in DAY_STEP]
    return np.array([*each, *each, *[False] * SKY_TERMS])


def pv_inputs(spec: NetworkSpec) -> BoolArray:
    """Which of `direct_inputs` (D,) the line of PV looks at: all, unless load is forecast apart."""
    if not spec.apart:
        return np.ones(spec.direct_inputs, dtype=np.bool_)
    each = [name not in OF_LOAD for name in DAY_STEP]
    return np.array([*each, *each, *[True] * SKY_TERMS])


def _sky_terms(known: Any, ops: Ops) -> list[Any]:
    """What a roof gives is no straight line in the forecast sky; (M, R, H, 1) each.

    Light through clouds is diffuse, so that how much of it a tilted roof catches depends on the
    sky and on where the sun stands; and where the forecast course turns, hours hide how sharply.
    """

    def of(name: str) -> Any:
        column = KNOWN.index(name)
        return known[..., column : column + 1]

    sky, sun, share = of("forecast_index"), of("clear_sky"), of("envelope_share")
    square = sky * sky
    terms = [square, square * sky, sun * share, share * share, sun * sun]
    terms += [power * height for power in (sky, square) for height in (share, sun)]
    terms += [sky * of(name) for name in CALENDAR[:4]]
    hour = of("index_in_an_hour")
    return [*terms, *(ops.relu(x) for x in (sky - of("index_next"), sky - hour, hour - sky))]
