"""What a market day leaves to the next one: the energy in batteries and EVs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.community import Community, Recipe
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import Population, Prosumers
from raygrid.prosumer.stores import StoreKind

AnyProsumers = TypeVar("AnyProsumers", bound=Prosumers)


@dataclass(frozen=True)
class Charge:
    """Energy in the batteries and stores of n prosumers at a moment.

    Attributes
    ----------
    soc_kwh : (n,) float64
        State of charge of each prosumer's battery [kWh].
    owner : (m,) int64
        Row of the prosumer of each EV and shiftable load, ascending.
    store_kwh : (m,) float64
        Its energy [kWh].
    """

    soc_kwh: FloatArray
    owner: IntArray
    store_kwh: FloatArray

    @classmethod
    def at_end(cls, dispatch: Dispatch) -> Charge:
        """What is left after the last period of a schedule."""
        own = dispatch.stores
        if own is None:
            owner, energy = np.zeros(0, dtype=np.int64), np.zeros(0)
        else:
            owner, energy = own.owner, own.energy_kwh[:, -1]
        return cls(dispatch.soc_kwh[:, -1].copy(), owner.copy(), energy.copy())

    @classmethod
    def joined(cls, parts: Sequence[Charge] | Iterable[Charge]) -> Charge:
        """That of several parts of the prosumers, one after the other."""
        every = list(parts)
        first = np.cumsum([0] + [len(part.soc_kwh) for part in every])
        return cls(
            np.concatenate([part.soc_kwh for part in every]),
            np.concatenate([p.owner + k for p, k in zip(every, first.tolist(), strict=False)]),
            np.concatenate([part.store_kwh for part in every]),
        )

    def rows(self, start: int, stop: int) -> Charge:
        """That of the prosumers in rows start:stop, whose first row becomes 0."""
        first, last = np.searchsorted(self.owner, [start, stop])
        own = slice(int(first), int(last))
        return Charge(self.soc_kwh[start:stop], self.owner[own] - start, self.store_kwh[own])

    def moved(self, row: IntArray) -> Charge:
        """That of the same prosumers where the k-th one has row `row[k]`."""
        soc_kwh = np.empty(len(self.soc_kwh))
        soc_kwh[row] = self.soc_kwh
        owner = row[self.owner]
        order = np.argsort(owner, kind="stable")
        return Charge(soc_kwh, owner[order], self.store_kwh[order])

    def put_into(self, prosumers: AnyProsumers) -> AnyProsumers:
        """The prosumers on a day that begins with this charge.

        It is taken within the bounds, which the end of a schedule meets up to rounding.
        Shiftable loads begin every day as the day says: what they drew is used up.

        Parameters
        ----------
        prosumers : Prosumers
            The n prosumers, in the order of this charge.
        """
        within = np.clip(self.soc_kwh, prosumers.soc_min_kwh, prosumers.soc_max_kwh)
        start = np.where(prosumers.has_battery, within, prosumers.soc_initial_kwh)
        stores = prosumers.stores
        if len(stores):
            if not np.array_equal(stores.owner, self.owner):
                raise ValueError("the charge is that of other stores")
            energy = np.clip(self.store_kwh, stores.min_kwh, stores.max_kwh)
            energy = np.where(stores.kind == StoreKind.EV, energy, stores.initial_kwh)
            stores = replace(stores, initial_kwh=energy)
        return replace(prosumers, soc_initial_kwh=start, stores=stores)


@dataclass(frozen=True)
class CarriedPart:
    """A recipe for prosumers whose day begins with a charge.

    Attributes
    ----------
    prosumers : Recipe
        How to build n of them.
    charge : Charge
        Theirs, in their order.
    """

    prosumers: Recipe
    charge: Charge

    def build(self) -> Prosumers:
        """The prosumers."""
        return self.charge.put_into(self.prosumers.build())


@dataclass(frozen=True)
class CarriedCommunity:
    """A community on a day that begins as the day before ended.

    Parameters
    ----------
    community : Community
        The prosumers with the day's profiles.
    charge : Charge or None
        At the start of the day, in the order of bus and id; None where the hosts alone have it.
    """

    community: Community
    charge: Charge | None

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
        part = self.community.recipe(start, stop)
        return CarriedPart(part, self._known.rows(start, stop))

    def everyone(self) -> Population:
        """All prosumers, in the order of the community that they are of."""
        everyone = self.community.everyone()
        order = np.lexsort((everyone.prosumer_id, everyone.bus)).astype(np.int64)
        return self._known.moved(order).put_into(everyone)

    @property
    def _known(self) -> Charge:
        if self.charge is None:
            raise RuntimeError("the charge of this day is with the hosts alone")
        return self.charge
