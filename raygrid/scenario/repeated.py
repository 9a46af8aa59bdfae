"""A community of seeded copies of a few given prosumers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raygrid.arrays import IntArray
from raygrid.prosumer.community import bytes_each
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS, Population
from raygrid.scenario.draws import Range
from raygrid.scenario.seeded import SeededCommunity

SIZED = (
    "soc_min_kwh", "soc_max_kwh", "soc_initial_kwh", "soc_final_min_kwh",
    "charge_max_kw", "discharge_max_kw", "size_weight",
)  # fmt: skip
"""What grows with a copy's size, besides its profiles; prices and efficiencies do not."""
SIZED_STORES = (
    "size_weight", "initial_kwh", "min_kwh", "max_kwh", "final_min_kwh",
    "charge_max_kw", "discharge_max_kw",
)  # fmt: skip
STAY_ENERGIES = ("needed_kwh", "used_kwh")
"""The same of its EVs and shiftable loads."""


@dataclass(frozen=True)
class RepeatedCommunity(SeededCommunity):
    """Prosumers 1 to N, in turn copies of the given ones at the same buses.

    The first ones are the originals; every other copy has a size that depends on the seed and
    its id alone.

    Parameters
    ----------
    originals : Population
        The given prosumers.
    agents : int
        Number of prosumers N.
    seed : int
        The scenario's seed.
    size : Range
        What the copies' sizes are drawn from.
    """

    originals: Population
    agents: int
    seed: int
    size: Range

    def __len__(self) -> int:
        return self.agents

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.originals.n_periods

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host [B]."""
        given = self.originals
        return bytes_each(
            self.n_periods, float(given.has_battery.mean()), stores=len(given.stores) / len(given)
        )

    def bus_of(self, ids: IntArray) -> IntArray:
        """Positions of the buses (n,) of these prosumers."""
        return np.asarray(self.originals.bus[(ids - 1) % len(self.originals)])

    def build(self, ids: IntArray) -> PackedPopulation:
        """Make these prosumers.

        Parameters
        ----------
        ids : (n,) int64
            Ids, from 1.

        Returns
        -------
        PackedPopulation
            In this order.
        """
        given = self.originals
        original = (ids - 1) % len(given)
        size = np.where(ids <= len(given), 1.0, self.size.draw(self.seed, "size", ids))
        units: dict[str, Any] = {name: getattr(given, name)[original] for name in UNIT_FIELDS}
        units |= {name: units[name] * size for name in SIZED}
        units |= {"prosumer_id": ids}
        rows = original.astype(np.int32)
        values = (getattr(given, name) for name in PROFILE_FIELDS)
        shaped = tuple(ShapedProfile(v, rows, size) if v.any() else None for v in values)
        stores = given.stores.of(original)
        if len(stores):
            names = (*SIZED_STORES, *STAY_ENERGIES)
            sized = {name: (getattr(stores, name).T * size[stores.owner]).T for name in names}
            stores = replace(stores, **sized)
        return PackedPopulation(**units, periods=self.n_periods, shaped=shaped, stores=stores)
