"""EVs and shiftable loads drawn from a seed, for communities that are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import IntArray
from raygrid.prosumer.stores import NO_STORES, Stores
from raygrid.scenario import draws
from raygrid.scenario.draws import Range
from raygrid.scenario.stays import Clock, shiftable_loads, vehicles


@dataclass(frozen=True)
class EvRules:
    """How EVs are drawn; names as in `raygrid.scenario.config.ElectricVehicles`."""

    share: float
    v2g_share: float
    capacity_kwh: Range
    charge_kw: Range
    efficiency: float
    cycle_cost_per_kwh: Range
    arrival_hour: Range
    departure_hour: Range
    trip_kwh: Range
    needed_share: float
    soc_min_share: float
    soc_max_share: float


@dataclass(frozen=True)
class ShiftableRules:
    """How shiftable loads are drawn; as `raygrid.scenario.config.ShiftableLoads`."""

    share: float
    loads: int
    energy_kwh: Range
    power_kw: Range
    earliest_hour: Range
    window_hours: Range


@dataclass(frozen=True)
class StoreRules:
    """Rules of both, and the horizon they are drawn for."""

    evs: EvRules
    shiftable: ShiftableRules
    clock: Clock

    @property
    def stores_each(self) -> float:
        """Mean number of stores of a prosumer."""
        return self.evs.share + self.shiftable.share * self.shiftable.loads

    def draw(self, seed: int, ids: IntArray) -> Stores:
        """The stores of these prosumers (n,), by their position in `ids`."""
        if not self.stores_each:
            return NO_STORES
        kinds = [self._vehicles(seed, ids)]
        kinds += [self._loads(seed, ids, k) for k in range(self.shiftable.loads)]
        return Stores.joined(kinds)

    def _vehicles(self, seed: int, ids: IntArray) -> Stores:
        rules = self.evs
        owner = np.flatnonzero(draws.stratified(seed, "evs", ids) < rules.share)
        ids = ids[owner]
        capacity = rules.capacity_kwh.draw(seed, "ev_capacity", ids)
        charge = rules.charge_kw.draw(seed, "ev_charge", ids)
        both_ways = draws.uniform(seed, "ev_v2g", ids) < rules.v2g_share
        return vehicles(
            owner,
            self.clock,
            arrival_hour=rules.arrival_hour.draw(seed, "ev_arrival", ids),
            departure_hour=rules.departure_hour.draw(seed, "ev_departure", ids),
            min_kwh=rules.soc_min_share * capacity,
            max_kwh=rules.soc_max_share * capacity,
            needed_kwh=rules.needed_share * capacity,
            trip_kwh=rules.trip_kwh.draw(seed, "ev_trip", ids),
            charge_kw=charge,
            discharge_kw=np.where(both_ways, charge, 0.0),
            efficiency=np.full(len(ids), rules.efficiency),
            cycle_cost_per_kwh=rules.cycle_cost_per_kwh.draw(seed, "ev_cycle_cost", ids),
        )

    def _loads(self, seed: int, ids: IntArray, k: int) -> Stores:
        rules = self.shiftable
        owner = np.flatnonzero(draws.stratified(seed, "shiftable", ids) < rules.share)
        ids = ids[owner]
        earliest = rules.earliest_hour.draw(seed, f"shiftable_earliest/{k}", ids)
        window = rules.window_hours.draw(seed, f"shiftable_window/{k}", ids)
        return shiftable_loads(
            owner,
            self.clock,
            earliest_hour=earliest,
            latest_hour=(earliest + window) % 24.0,
            energy_kwh=rules.energy_kwh.draw(seed, f"shiftable_energy/{k}", ids),
            power_kw=rules.power_kw.draw(seed, f"shiftable_power/{k}", ids),
        )
