"""Prosumers whose profiles are few shapes times a size each, kept as such until they are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import compiled, frozen_view
from raygrid.prosumer.population import PROFILE_FIELDS, ROWS_AT_A_TIME, Profiles, Prosumers

ShapeIndex = NDArray[np.int32]


@dataclass(frozen=True)
class ShapedProfile:
    """One profile of n prosumers: ``scale[i] * shapes[shape[i]]``.

    Takes 12 bytes a prosumer, whatever the number of periods.

    Attributes
    ----------
    shapes : (S, T) float64
        The shapes.
    shape : (n,) int32
        Which of them a prosumer has.
    scale : (n,) float64
        Its size.
    """

    shapes: FloatArray
    shape: ShapeIndex
    scale: FloatArray

    def values(self, start: int, stop: int) -> FloatArray:
        """The profiles (stop - start, T) of some rows."""
        shape, scale = self.shape[start:stop], self.scale[start:stop]
        if len(shape) < ROWS_AT_A_TIME:
            # Few are made before machine code would be loaded, let alone compiled.
            out = np.take(self.shapes, shape, axis=0)
            out *= scale[:, None]
            return out
        out = np.empty((len(shape), self.shapes.shape[1]))
        scaled_shapes(frozen_view(self.shapes), shape, frozen_view(scale), out)
        return out


@dataclass(frozen=True)
class PackedPopulation(Prosumers):
    """Prosumers with shaped profiles; the values are made anew, the same bits, on each use.

    Attributes
    ----------
    periods : int
        Number of periods T.
    shaped : tuple of ShapedProfile or None
        In the order of `PROFILE_FIELDS`; None is a profile of zeros.
    """

    periods: int
    shaped: tuple[ShapedProfile | None, ...]

    def __post_init__(self) -> None:
        if len(self.shaped) != len(PROFILE_FIELDS):
            raise ValueError(f"{len(self.shaped)} profiles, not {len(PROFILE_FIELDS)}")

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.periods

    def profiles(self, start: int, stop: int) -> Profiles:
        """The rows' profiles, made for the call."""
        none = np.zeros((stop - start, self.periods))
        made = [none if p is None else p.values(start, stop) for p in self.shaped]
        return made[0], made[1], made[2], made[3], made[4]


@compiled
def scaled_shapes(
    shapes: FloatArray, shape: ShapeIndex, scale: FloatArray, out: FloatArray
) -> None:
    """Write ``scale[i] * shapes[shape[i]]`` into the rows of `out`."""
    for i in range(out.shape[0]):
        k, size = shape[i], scale[i]
        for t in range(out.shape[1]):
            out[i, t] = size * shapes[k, t]
