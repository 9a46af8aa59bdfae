"""How a host forecasts a day of packed prosumers: from the past of their shapes alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import PAST_DAYS, Scaling, day_ahead, make_series
from raygrid.learning.inference import expected_powers
from raygrid.learning.network import NetworkSpec
from raygrid.learning.typical import DaySums, learnt_typical
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile

LOAD, PV = 4, 1
"""Where the profiles of fixed loads and PV stand in a packed population."""


class ShapeRule(Protocol):
    """Forecasts of packed prosumers for one day in quarter hours."""

    def forecast(self, prosumers: PackedPopulation) -> tuple[ShapedProfile, ShapedProfile]:
        """Load without a price, and PV output."""
        ...


@dataclass(frozen=True)
class NaiveShapes:
    """The shapes of an earlier day.

    Attributes
    ----------
    load : (C, 96) float64
        By load shape, per kW of peak.
    pv : (O, 96) float64
        By orientation, per kW of rating.
    """

    load: FloatArray
    pv: FloatArray

    def forecast(self, prosumers: PackedPopulation) -> tuple[ShapedProfile, ShapedProfile]:
        """Every household as it was then."""
        load, pv = _shaped(prosumers)
        return replace(load, shapes=self.load), replace(pv, shapes=self.pv)


@dataclass(frozen=True)
class LearntShapes:
    """A forecaster with shared weights, and the past of the shapes that it forecasts.

    Weights without embeddings forecast each load shape once and each orientation of PV once,
    however many households are of it: a forecast is its size times that of its shape. Weights with
    embeddings know prosumers by id.

    Attributes
    ----------
    spec : NetworkSpec
        The network.
    weights : dict of str to (1, ...) float32
        Its weights.
    calendar : Dataset
        No prosumers: clock, weather and price of the past days and of the day.
    load, pv : (C, 7, 96), (O, 7, 96) float32
        Shapes on the `PAST_DAYS` days before.
    load_scaling, pv_scaling : Scaling
        Of the shapes (C of loads, O of PV), or of the prosumers that the weights know.
    prosumer_id : (N,) int64
        Whom the weights know; empty without embeddings.
    since : DaySums, optional
        Of the load shapes on days since training, those `PAST_DAYS` left out, where the weights
        know prosumers.
    """

    spec: NetworkSpec
    weights: dict[str, Any]
    calendar: Dataset
    load: FloatArray
    pv: FloatArray
    load_scaling: Scaling
    pv_scaling: Scaling
    prosumer_id: IntArray
    since: DaySums | None = None

    def forecast(self, prosumers: PackedPopulation) -> tuple[ShapedProfile, ShapedProfile]:
        """Forecast each load shape and orientation, or each household that the weights know."""
        load, pv = _shaped(prosumers)
        facing = np.where(pv.scale > 0, pv.shape, -1)
        if len(self.prosumer_id):
            # The shape of each is its own power.
            own = np.searchsorted(self.prosumer_id, prosumers.prosumer_id)
            size_kw, rating_kw = load.scale, pv.scale
            found = self._powers(
                (load.shape, size_kw),
                (facing, rating_kw),
                (own, own),
                self.weights["embedding"][0, own],
            )
            row, one = np.arange(len(own), dtype=np.int32), np.ones(len(own))
            return ShapedProfile(found[0], row, one), ShapedProfile(found[1], row, one)
        shapes, of_load = np.unique(load.shape, return_inverse=True)
        orientations, of_pv = np.unique(facing, return_inverse=True)
        # Load shapes without PV, and PV above any load: neither forecast looks at the other's.
        facing = np.concatenate([np.full(len(shapes), -1), orientations])
        shape = np.concatenate([shapes, np.full(len(orientations), shapes[0])])
        nobody = np.zeros((len(shape), 0), dtype=np.float32)
        found = self._powers(
            (shape, np.ones(len(shape))), (facing, facing >= 0), (shape, facing), nobody
        )
        return (
            ShapedProfile(found[0, : len(shapes)], of_load.astype(np.int32), load.scale),
            ShapedProfile(found[1, len(shapes) :], of_pv.astype(np.int32), pv.scale),
        )

    def _powers(
        self, load: tuple[Any, Any], pv: tuple[Any, Any], scales: tuple[Any, Any], embedding: Any
    ) -> FloatArray:
        """Load and PV (2, n, 96) of the day, of some shapes (n,) times sizes (n,).

        A PV shape of -1 is none; `scales` are rows of the load scaling and of the PV scaling.
        """
        (load_shape, size_kw), (pv_shape, rating_kw) = load, pv
        n = len(load_shape)
        series = np.zeros((2, n, PAST_DAYS + 1, STEPS_PER_DAY), dtype=np.float32)
        series[0, :, :-1] = self.load[load_shape] * size_kw[:, None, None]
        series[1, :, :-1] = self.pv[pv_shape] * np.asarray(rating_kw)[:, None, None]
        load_kw, pv_kw = series.reshape(2, n, -1).astype(np.float64)
        scaling = _rows(self.load_scaling, self.pv_scaling, *scales)
        scaling = replace(scaling, pv_rating_kw=np.asarray(rating_kw, dtype=np.float64))
        if self.since is not None:
            since = self.since.rows(load_shape).scaled(size_kw, scaling)
            scaling = learnt_typical(scaling, since)
        data = replace(
            self.calendar,
            prosumer_id=np.arange(n),
            load_kw=load_kw,
            pv_kw=pv_kw,
            pv_rating_kw=scaling.pv_rating_kw,
        )
        channels = make_series(data, scaling, recent=False, dark=self.spec.dark)
        windows = day_ahead(channels, scaling, np.array([PAST_DAYS]))
        found = expected_powers(self.spec, self.weights, scaling, windows, embedding)
        return np.ascontiguousarray(np.moveaxis(found, 2, 0))


def _rows(load: Scaling, pv: Scaling, load_rows: IntArray, pv_rows: IntArray) -> Scaling:
    """Scales of prosumers with these load shapes, and PV shapes (-1: none)."""
    has_pv = (pv_rows >= 0)[:, None]
    ratio = np.where(has_pv, pv.pv_ratio[np.maximum(pv_rows, 0)], 0.0)
    return replace(load.rows(load_rows), pv_ratio=ratio)


def _shaped(prosumers: PackedPopulation) -> tuple[ShapedProfile, ShapedProfile]:
    load, pv = prosumers.shaped[LOAD], prosumers.shaped[PV]
    assert load is not None
    assert pv is not None
    return load, pv
