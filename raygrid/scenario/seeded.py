"""Communities that are made from a seed and ids, by whoever needs which part of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import IntArray
from raygrid.prosumer.packed import PackedPopulation
from raygrid.prosumer.population import Population, Prosumers

IDS_AT_A_TIME = 1 << 16
"""Ids whose buses are drawn at once, where all are looked through."""


class SeededCommunity(ABC):
    """A community whose ids are 1 to N and whose prosumers are made from them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def n_periods(self) -> int:
        """Number of periods T."""

    @property
    @abstractmethod
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host [B]."""

    @abstractmethod
    def build(self, ids: IntArray) -> PackedPopulation:
        """Make these prosumers, in this order."""

    @abstractmethod
    def bus_of(self, ids: IntArray) -> IntArray:
        """Positions of the buses (n,) of these prosumers."""

    def recipe(self, start: int, stop: int) -> SeededPart:
        """How to make the prosumers at these positions."""
        return SeededPart(self, start, stop)

    def everyone(self) -> Population:
        """All prosumers in order of their ids."""
        return self.build(np.arange(1, len(self) + 1)).rows(0, len(self))


@dataclass(frozen=True)
class SeededPart:
    """A recipe: positions start to stop - 1, by bus and id, of a seeded community."""

    community: SeededCommunity
    start: int
    stop: int

    def build(self) -> Prosumers:
        """Make them."""
        return self.community.build(ids_at(self.community, self.start, self.stop))


def ids_at(community: SeededCommunity, start: int, stop: int) -> IntArray:
    """Ids at positions start to stop - 1 of the order by bus and id.

    Only these ids are kept; the buses of all others are found and forgotten.
    """
    count = np.zeros(1, dtype=np.int64)
    for _, bus in _buses(community):
        found = np.bincount(bus, minlength=len(count))
        found[: len(count)] += count
        count = found
    before = np.cumsum(count) - count
    first = int(np.searchsorted(before + count, start, side="right"))
    last = int(np.searchsorted(before + count, stop))
    kept = []
    for ids, bus in _buses(community):
        mine = (bus >= first) & (bus <= last)
        kept.append(np.stack([bus[mine], ids[mine]]))
    bus, ids = np.concatenate(kept, axis=1)
    skip = start - int(before[first])
    order = np.argsort(bus, kind="stable")[skip : skip + stop - start]
    return np.asarray(ids[order])


def _buses(community: SeededCommunity) -> Iterator[tuple[IntArray, IntArray]]:
    """Ids and their buses, some at a time."""
    for first in range(1, len(community) + 1, IDS_AT_A_TIME):
        ids = np.arange(first, min(first + IDS_AT_A_TIME, len(community) + 1))
        yield ids, community.bus_of(ids)
