"""What a market day leaves to the next one: stored energy, and schedules to begin from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.community import Community, Recipe
from raygrid.prosumer.population import Population, Prosumers

AnyProsumers = TypeVar("AnyProsumers", bound=Prosumers)


@dataclass(frozen=True)
class DayEnd:
    """How a market day ended for the n prosumers of a host, in the host's order.

    Attributes
    ----------
    p_kw : (n, T) float64
        Net injections of the final schedule [kW].
    soc_kwh : (n,) float64
        State of charge after the last period [kWh].
    grid_kw : (T,) float64 or None
        Net import of the grid connection, where the host carries it [kW].
    """

    p_kw: FloatArray
    soc_kwh: FloatArray
    grid_kw: FloatArray | None


def with_charge(prosumers: AnyProsumers, soc_kwh: FloatArray) -> AnyProsumers:
    """The prosumers with batteries that start at a state of charge.

    Parameters
    ----------
    prosumers : Prosumers
        n prosumers.
    soc_kwh : (n,) float64
        State of charge at the start; taken within the battery's bounds, which the end of a
        schedule meets up to rounding [kWh].
    """
    within = np.clip(soc_kwh, prosumers.soc_min_kwh, prosumers.soc_max_kwh)
    start = np.where(prosumers.has_battery, within, prosumers.soc_initial_kwh)
    return replace(prosumers, soc_initial_kwh=start)


@dataclass(frozen=True)
class CarriedPart:
    """A recipe for prosumers whose batteries start at a state of charge.

    Attributes
    ----------
    prosumers : Recipe
        How to build n of them.
    soc_kwh : (n,) float64
        State of charge at the start, in their order [kWh].
    """

    prosumers: Recipe
    soc_kwh: FloatArray

    def build(self) -> Prosumers:
        """The prosumers."""
        return with_charge(self.prosumers.build(), self.soc_kwh)


@dataclass(frozen=True)
class CarriedCommunity:
    """A community on a day that begins as the day before ended.

    Parameters
    ----------
    community : Community
        The prosumers with the day's profiles.
    soc_kwh : (N,) float64
        State of charge at the start, in the order of bus and id [kWh].
    """

    community: Community
    soc_kwh: FloatArray

    def __len__(self) -> int:
        return len(self.community)

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.community.n_periods

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host [B]."""
        return self.community.bytes_each

    def recipe(self, start: int, stop: int) -> CarriedPart:
        """How to build the prosumers at these positions."""
        return CarriedPart(self.community.recipe(start, stop), self.soc_kwh[start:stop])

    def everyone(self) -> Population:
        """All prosumers, in the order of the community that they are of."""
        everyone = self.community.everyone()
        soc_kwh = np.empty(len(everyone))
        soc_kwh[np.lexsort((everyone.prosumer_id, everyone.bus))] = self.soc_kwh
        return with_charge(everyone, soc_kwh)
