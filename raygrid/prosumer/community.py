"""The prosumers of a case as something that every host can make its own part of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raygrid.arrays import IntArray
from raygrid.prosumer.population import Population, Prosumers


class Recipe(Protocol):
    """How a host comes to its prosumers; small enough to send, or the prosumers themselves."""

    def build(self) -> Prosumers:
        """The prosumers, by bus, then by id; size weights that are not given are 0."""
        ...


class Community(Protocol):
    """All prosumers of a case, in the order of bus and id, in which hosts take ranges of them.

    What a prosumer is does not depend on the range it is built in.
    """

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        ...

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host, a clearing's state included [B]."""
        ...

    def __len__(self) -> int: ...

    def recipe(self, start: int, stop: int) -> Recipe:
        """How to build the prosumers at positions start to stop - 1."""
        ...

    def everyone(self) -> Population:
        """All prosumers in order of their ids, for communities that fit here."""
        ...


@dataclass(frozen=True)
class GivenPart:
    """A recipe that is the prosumers themselves."""

    population: Population

    def build(self) -> Prosumers:
        """The prosumers."""
        return self.population


@dataclass(frozen=True)
class GivenCommunity:
    """Prosumers that are all here, from a table or made by hand.

    Parameters
    ----------
    population : Population
        All of them, in any order.
    """

    population: Population

    def __len__(self) -> int:
        return len(self.population)

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.population.n_periods

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host [B]."""
        batteries = float(self.population.has_battery.mean()) if len(self) else 0.0
        stores = len(self.population.stores) / max(len(self), 1)
        return bytes_each(self.n_periods, batteries, profiles=5, stores=stores)

    @property
    def order(self) -> IntArray:
        """(N,) rows of the population by bus, then by id."""
        return np.lexsort((self.population.prosumer_id, self.population.bus)).astype(np.int64)

    def recipe(self, start: int, stop: int) -> GivenPart:
        """The prosumers at these positions."""
        return GivenPart(self.population.take(self.order[start:stop]))

    def everyone(self) -> Population:
        """The population as it was given."""
        return self.population


UNIT_BYTES = 400
"""What a prosumer takes beside its periods: its parameters, twice, and its shapes [B]."""


def bytes_each(
    n_periods: int, battery_share: float, profiles: int = 0, stores: float = 0.0
) -> float:
    """Memory that one prosumer takes on its host.

    Parameters
    ----------
    n_periods : int
        Number of periods T.
    battery_share : float
        Share of the prosumers with a battery, whose last two paths are kept.
    profiles : int
        Number of profiles that are there value by value.
    stores : float
        Number of its EVs and shiftable loads.

    Returns
    -------
    float
        Parameters, profiles, ADMM state and target, battery paths and stores [B].
    """
    own = UNIT_BYTES + n_periods * (8.0 * profiles + 16.0 + 10.0 * battery_share)
    return own + stores * (UNIT_BYTES + n_periods * 16.0)
