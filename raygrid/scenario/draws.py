"""Random draws that depend only on (seed, prosumer, stream), never on who draws them.

A counter-based generator: the splitmix64 finaliser over seed, stream and prosumer id. A host that
owns ids 501..600 draws the same numbers for them as one that owns all of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray

UIntArray = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(values: UIntArray) -> UIntArray:
    """Scramble 64-bit counters into 64 random bits each.

    Parameters
    ----------
    values : (n,) uint64
        Counters.

    Returns
    -------
    (n,) uint64
        The splitmix64 output for these states.

    References
    ----------
    G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014, figure 17.
    """
    with np.errstate(over="ignore"):
        z = np.asarray(values, dtype=np.uint64) + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return np.asarray(z ^ (z >> np.uint64(31)))


def uniform(seed: int, stream: str, ids: IntArray) -> FloatArray:
    """Draw one uniform number per prosumer.

    Parameters
    ----------
    seed : int
        The scenario's seed, 0 or more.
    stream : str
        What the numbers are for; different streams are independent.
    ids : (n,) int64
        Prosumer ids.

    Returns
    -------
    (n,) float64
        Numbers in [0, 1), multiples of 2^-53.
    """
    key = np.array([seed ^ (zlib.crc32(stream.encode()) << 32)], dtype=np.uint64)
    with np.errstate(over="ignore"):
        state = splitmix64(splitmix64(key) ^ (np.asarray(ids, dtype=np.uint64) * _GOLDEN))
    return np.asarray((splitmix64(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def stratified(seed: int, stream: str, ids: IntArray, block: int = 10) -> FloatArray:
    """Draw uniform numbers of which each block of ids has one in every stratum.

    With ids 1..10 in one block, exactly six of the numbers are below 0.6. Whoever draws, the
    number of an id stays the same: its rank is found from the draws of its whole block.

    Parameters
    ----------
    seed, stream, ids
        As in `uniform`; ids count from 1.
    block : int
        Length of a block, and number of strata.

    Returns
    -------
    (n,) float64
        Numbers in [0, 1).
    """
    first = (ids - 1) // block * block + 1
    own = uniform(seed, stream + "/rank", ids)
    rank = np.zeros(len(ids))
    for k in range(block):
        rank += uniform(seed, stream + "/rank", first + k) < own
    return np.asarray((rank + uniform(seed, stream, ids)) / block)


def integers(seed: int, stream: str, ids: IntArray, low: int, high: int) -> IntArray:
    """Draw one whole number per prosumer, from `low` to `high`, both included."""
    return low + np.floor(uniform(seed, stream, ids) * (high - low + 1)).astype(np.int64)


def choice(seed: int, stream: str, ids: IntArray, weights: FloatArray) -> IntArray:
    """Draw a position per prosumer, with probability proportional to `weights` (k,)."""
    edges = np.cumsum(weights / weights.sum())
    edges[-1] = 1.0
    return np.searchsorted(edges, uniform(seed, stream, ids), side="right").astype(np.int64)


@dataclass(frozen=True)
class Range:
    """What a value is drawn from, uniformly."""

    low: float
    high: float

    def draw(self, seed: int, stream: str, ids: IntArray) -> FloatArray:
        """One value per id (n,)."""
        return self.low + (self.high - self.low) * uniform(seed, stream, ids)
