"""What the devices of a population do: the result of local problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.stores import StoreKind, owner_sums


@dataclass(frozen=True)
class StoreDispatch:
    """What the M EVs and shiftable loads of some prosumers do over T periods.

    Attributes
    ----------
    owner, kind : (M,) int64
        As in `raygrid.prosumer.stores.Stores`.
    charge_kw, discharge_kw : (M, T) float64
        Powers [kW], none negative.
    energy_kwh : (M, T) float64
        Energy at each period's end [kWh].
    stored_value_per_kwh : (M, T) float64
        Value mu of a stored kWh [currency/kWh].
    """

    owner: IntArray
    kind: IntArray
    charge_kw: FloatArray
    discharge_kw: FloatArray
    energy_kwh: FloatArray
    stored_value_per_kwh: FloatArray

    def net_kw(self, n: int, kind: StoreKind | None = None) -> FloatArray:
        """Net charge (n, T) of n prosumers' stores, of all kinds or of one [kW]."""
        return self._sum(self.charge_kw - self.discharge_kw, n, kind)

    def ev_energy_kwh(self, n: int) -> FloatArray:
        """Energy (n, T) in n prosumers' EVs at each period's end [kWh]."""
        return self._sum(self.energy_kwh, n, StoreKind.EV)

    def _sum(self, values: FloatArray, n: int, kind: StoreKind | None) -> FloatArray:
        own = slice(None) if kind is None else np.flatnonzero(self.kind == kind)
        return owner_sums(self.owner[own], values[own], n)


@dataclass(frozen=True)
class Dispatch:
    """Device powers of n prosumers over T periods; all arrays are (n, T).

    ``p = generation - demand - fixed load + discharge - charge - net charge of stores`` holds row
    by row (thesis 3-2 to 3-4, devices in any combination).

    Attributes
    ----------
    p_kw : (n, T) float64
        Net injection [kW].
    generation_kw, demand_kw, charge_kw, discharge_kw : (n, T) float64
        Generation, elastic demand, battery charge and discharge [kW], none negative.
    soc_kwh : (n, T) float64
        State of charge at each period's end [kWh].
    stored_value_per_kwh : (n, T) float64
        Value mu of a stored kWh, the multiplier of (3-11) [currency/kWh]; 0 without battery.
    stores : StoreDispatch or None
        EVs and shiftable loads; None where there are none.
    """

    p_kw: FloatArray
    generation_kw: FloatArray
    demand_kw: FloatArray
    charge_kw: FloatArray
    discharge_kw: FloatArray
    soc_kwh: FloatArray
    stored_value_per_kwh: FloatArray
    stores: StoreDispatch | None = None

    def with_stores(self, stores: StoreDispatch) -> Self:
        """The same devices and stores beside them."""
        return replace(self, p_kw=self.p_kw - stores.net_kw(len(self.p_kw)), stores=stores)

    def devices_kw(self, fixed_load_kw: FloatArray) -> FloatArray:
        """Net injection (n, T) of all devices together [kW]."""
        p = self.generation_kw - self.demand_kw - fixed_load_kw
        p += self.discharge_kw - self.charge_kw
        return p if self.stores is None else p - self.stores.net_kw(len(p))

    def take(self, index: IntArray | slice) -> Dispatch:
        """These prosumers, each once, in this order."""
        rows = np.arange(len(self.p_kw))[index]
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _POWERS}
        if self.stores is not None:
            place = np.full(len(self.p_kw), -1)
            place[rows] = np.arange(len(rows))
            owner = place[self.stores.owner]
            order = np.argsort(owner, kind="stable")[np.count_nonzero(owner < 0) :]
            moved = {f.name: getattr(self.stores, f.name)[order] for f in fields(StoreDispatch)}
            arrays["stores"] = StoreDispatch(**moved | {"owner": owner[order]})
        return Dispatch(**arrays)

    @classmethod
    def joined(cls, parts: Sequence[Dispatch]) -> Dispatch:
        """The prosumers of several parts, one after the other."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _POWERS
        }
        first = np.cumsum([0] + [len(part.p_kw) for part in parts])
        stores = [
            replace(part.stores, owner=part.stores.owner + start)
            for part, start in zip(parts, first.tolist(), strict=False)
            if part.stores is not None
        ]
        if stores:
            arrays["stores"] = StoreDispatch(
                **{
                    f.name: np.concatenate([getattr(s, f.name) for s in stores])
                    for f in fields(StoreDispatch)
                }
            )
        return cls(**arrays)


_POWERS = tuple(f.name for f in fields(Dispatch) if f.name != "stores")
