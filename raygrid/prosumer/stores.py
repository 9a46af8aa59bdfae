"""EVs and shiftable loads: stores that are connected at times, each an agent of its own.

An EV stores energy while it is plugged in, needs a given energy when it departs and comes back
with less. A shiftable load is the same thing with a store that fills within its window and is
never drawn from. Costs are separable and only the bus sum counts, so a store beside its owner's
other devices is one more agent of ADMM at the same bus: the optimum is the same, and its local
problem has an exact method (`raygrid.prosumer.store_path`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np

from raygrid.arrays import FloatArray, IntArray


class StoreKind(IntEnum):
    """What a store is, which only the names in tables depend on."""

    EV = 0
    SHIFTABLE = 1


STORE_FIELDS = (
    "size_weight", "initial_kwh", "min_kwh", "max_kwh", "final_min_kwh",
    "charge_max_kw", "discharge_max_kw", "eta_charge", "eta_discharge", "cycle_cost_per_kwh",
)  # fmt: skip
STAY_FIELDS = ("arrival", "departure", "needed_kwh", "used_kwh")


@dataclass(frozen=True)
class StoreLimits:
    """What bounds M stores in each of T periods; all arrays are (M, T).

    Attributes
    ----------
    charge_kw, discharge_kw : (M, T) float64
        Power limits, 0 while away [kW].
    floor_kwh : (M, T) float64
        Least energy at each period's end [kWh].
    used_kwh : (M, T) float64
        Energy that is gone when a store comes back, in the period of its arrival [kWh].
    """

    charge_kw: FloatArray
    discharge_kw: FloatArray
    floor_kwh: FloatArray
    used_kwh: FloatArray


@dataclass(frozen=True)
class Stores:
    """M stores of some prosumers, by owner; each stays up to S times within the horizon.

    Energy rises by ``dt eta_charge c`` and falls by ``dt d / eta_discharge`` while a store is
    connected, and by `used_kwh` on its arrival. Its cost rate is ``cycle_cost (c + d)``.

    Attributes
    ----------
    owner : (M,) int64
        Row of the prosumer in its population, ascending.
    kind : (M,) int64
        A `StoreKind`.
    size_weight : (M,) float64
        ADMM size weight; 0 where it is not set yet.
    initial_kwh, min_kwh, max_kwh, final_min_kwh : (M,) float64
        Energy at the start, its bounds and its least at the horizon's end [kWh].
    charge_max_kw, discharge_max_kw : (M,) float64
        Power limits while connected [kW].
    eta_charge, eta_discharge : (M,) float64
        Efficiencies in (0, 1].
    cycle_cost_per_kwh : (M,) float64
        Cost of charge and discharge alike [currency/kWh].
    arrival, departure : (M, S) float64
        Stays in periods from the horizon's start, ascending; a period that a stay covers in part
        has that part of the power. A departure that is not after its arrival is no stay.
    needed_kwh : (M, S) float64
        Least energy at the end of the period of departure [kWh].
    used_kwh : (M, S) float64
        Energy used since the departure before, gone on arrival [kWh].
    """

    owner: IntArray
    kind: IntArray
    size_weight: FloatArray
    initial_kwh: FloatArray
    min_kwh: FloatArray
    max_kwh: FloatArray
    final_min_kwh: FloatArray
    charge_max_kw: FloatArray
    discharge_max_kw: FloatArray
    eta_charge: FloatArray
    eta_discharge: FloatArray
    cycle_cost_per_kwh: FloatArray
    arrival: FloatArray
    departure: FloatArray
    needed_kwh: FloatArray
    used_kwh: FloatArray

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def is_stay(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """(M, S) bool: which entries are stays."""
        return self.departure > self.arrival

    @classmethod
    def empty(cls, n: int, n_stays: int = 1) -> Self:
        """n stores of prosumer 0 that never stay, ready to be filled in place."""
        arrays: dict[str, Any] = {name: np.zeros(n) for name in STORE_FIELDS}
        arrays |= {name: np.ones(n) for name in ("eta_charge", "eta_discharge")}
        arrays |= {name: np.zeros((n, n_stays)) for name in STAY_FIELDS}
        return cls(owner=np.zeros(n, np.int64), kind=np.zeros(n, np.int64), **arrays)

    def take(self, index: IntArray | slice) -> Self:
        """The stores at the given positions, in that order."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def between(self, start: int, stop: int) -> slice:
        """Positions of the stores of the prosumers in rows start:stop."""
        first, last = np.searchsorted(self.owner, [start, stop])
        return slice(int(first), int(last))

    def rows(self, start: int, stop: int) -> Stores:
        """The stores of the prosumers in rows start:stop, whose first row becomes 0."""
        if not len(self):
            return self
        part = self.take(self.between(start, stop))
        return replace(part, owner=part.owner - start)

    def of(self, rows: IntArray) -> Stores:
        """The stores of the prosumers in these rows, in their order; a row may come again."""
        if not len(self):
            return self
        first = np.searchsorted(self.owner, rows)
        count = np.searchsorted(self.owner, rows, side="right") - first
        owner = np.repeat(np.arange(len(rows)), count)
        nth = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return replace(self.take(first[owner] + nth), owner=owner)

    @classmethod
    def joined(cls, parts: Sequence[Stores]) -> Stores:
        """Stores of the same prosumers in one, by owner."""
        most = max(part.arrival.shape[1] for part in parts)
        arrays: dict[str, Any] = {}
        for f in fields(cls):
            values = [getattr(part, f.name) for part in parts]
            if f.name in STAY_FIELDS:
                values = [np.pad(v, ((0, 0), (0, most - v.shape[1]))) for v in values]
            arrays[f.name] = np.concatenate(values)
        everything = cls(**arrays)
        return everything.take(np.argsort(everything.owner, kind="stable"))

    def limits(self, n_periods: int) -> StoreLimits:
        """What bounds each store in each of T periods."""
        from raygrid.prosumer.store_path import LIMIT_ROWS, fill_limits

        out = np.empty((len(self), LIMIT_ROWS, n_periods))
        fill_limits(*kernel_stores(self), out)
        return StoreLimits(*out.transpose(1, 0, 2))

    def even_charge_kw(self, n_periods: int, period_hours: float) -> FloatArray:
        """Charge (M, T) where each stay gains just what it must, evenly over its time [kW]."""
        t = np.arange(n_periods)
        power, energy = np.zeros((len(self), n_periods)), self.initial_kwh
        later: IntArray = np.cumsum(self.is_stay[:, ::-1], axis=1)[:, ::-1] - self.is_stay
        for k in range(self.arrival.shape[1]):
            arrival, departure, stays = self.arrival[:, k], self.departure[:, k], self.is_stay[:, k]
            energy = energy - self.used_kwh[:, k]
            at_end = np.where(later[:, k] == 0, self.final_min_kwh, 0.0)
            goal = np.maximum(self.needed_kwh[:, k], at_end)
            gain = np.where(stays, np.maximum(goal - energy, 0.0), 0.0)
            hours = period_hours * np.where(stays, departure - arrival, 1.0)
            here = np.minimum(departure[:, None], t + 1.0) - np.maximum(arrival[:, None], t)
            even = np.minimum(gain / self.eta_charge / hours, self.charge_max_kw)
            power += even[:, None] * np.maximum(here, 0.0)
            energy = energy + gain
        return power

    def owner_sums(self, values: FloatArray, n: int) -> FloatArray:
        """Sums (n, T) of values (M, T) over the stores of each of n prosumers."""
        return owner_sums(self.owner, values, n)


def owner_sums(owner: IntArray, values: FloatArray, n: int) -> FloatArray:
    """Sums (n, T) of values (M, T) over the stores of each of n prosumers."""
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, owner, values)
    return sums


def kernel_stores(stores: Stores) -> tuple[FloatArray, FloatArray]:
    """Parameters (M, 9) and stays (M, S, 4) as kernels take them, read-only.

    Columns as in `raygrid.prosumer.store_path`: `STORE_FIELDS` without the weight, `STAY_FIELDS`.
    """
    from raygrid.prosumer.compiled import frozen_view

    units = np.stack([getattr(stores, name) for name in STORE_FIELDS[1:]], axis=1)
    stays = np.stack([getattr(stores, name) for name in STAY_FIELDS], axis=2)
    return frozen_view(units), frozen_view(stays)


NO_STORES = Stores.empty(0)
"""What a population has that has neither EVs nor shiftable loads."""
