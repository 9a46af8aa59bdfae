"""All storage of a population in one form, for problems that are stated as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.population import Population
from raygrid.prosumer.stores import StoreLimits, Stores

RIGID = 1e-9
"""Room between energies that is none, relative to the store's size where above 1 kWh."""


@dataclass(frozen=True)
class Storage:
    """K batteries, EVs and shiftable loads: first the batteries, then the stores.

    Attributes
    ----------
    owner : (K,) int64
        Row of the prosumer.
    n_batteries : int
        How many of them are batteries.
    initial_kwh, eta_charge, eta_discharge, cycle_cost_per_kwh : (K,) float64
        As in `raygrid.prosumer.population.Prosumers`.
    charge_max_kw, discharge_max_kw, floor_kwh, ceiling_kwh, used_kwh : (K, T) float64
        Power limits, bounds of the energy at each period's end, and energy that is drawn outside
        the market in a period [kW, kWh].
    """

    owner: IntArray
    n_batteries: int
    initial_kwh: FloatArray
    eta_charge: FloatArray
    eta_discharge: FloatArray
    cycle_cost_per_kwh: FloatArray
    charge_max_kw: FloatArray
    discharge_max_kw: FloatArray
    floor_kwh: FloatArray
    ceiling_kwh: FloatArray
    used_kwh: FloatArray

    def __len__(self) -> int:
        return len(self.owner)


def all_storage(population: Population, period_hours: float) -> Storage:
    """Batteries and stores of a population; dynamics as (3-11) with what is used elsewhere.

    Parameters
    ----------
    population : Population
        The prosumers.
    period_hours : float
        dt [h].
    """
    p, s, n_periods = population, population.stores, population.n_periods
    own = np.flatnonzero(p.has_battery)
    limits = s.limits(n_periods)
    low, high = _within_reach(s, limits, period_hours)

    def over_time(values: FloatArray) -> FloatArray:
        return np.repeat(values[:, None], n_periods, axis=1)

    floor = over_time(p.soc_min_kwh[own])
    floor[:, -1] = np.maximum(floor[:, -1], p.soc_final_min_kwh[own])
    names = ("eta_charge", "eta_discharge", "cycle_cost_per_kwh")
    scalars = {name: np.concatenate([getattr(p, name)[own], getattr(s, name)]) for name in names}
    return Storage(
        owner=np.concatenate([own, s.owner]),
        n_batteries=len(own),
        initial_kwh=np.concatenate([p.soc_initial_kwh[own], s.initial_kwh]),
        charge_max_kw=np.concatenate([over_time(p.charge_max_kw[own]), limits.charge_kw]),
        discharge_max_kw=np.concatenate([over_time(p.discharge_max_kw[own]), limits.discharge_kw]),
        floor_kwh=np.concatenate([floor, low]),
        ceiling_kwh=np.concatenate([over_time(p.soc_max_kwh[own]), high]),
        used_kwh=np.concatenate([np.zeros(floor.shape), limits.used_kwh]),
        **scalars,
    )


def _within_reach(
    stores: Stores, limits: StoreLimits, period_hours: float
) -> tuple[FloatArray, FloatArray]:
    """Least and greatest energy (M, T) that a store can have at each period's end [kWh].

    Beyond its bounds, it can neither come further than its powers allow nor lack what it could
    no longer charge: energies that are given (before a window, while away) have no room, which
    interior-point methods need to know.
    """
    up = period_hours * stores.eta_charge[:, None] * limits.charge_kw
    down = period_hours / stores.eta_discharge[:, None] * limits.discharge_kw
    low, high = limits.floor_kwh.copy(), np.repeat(stores.max_kwh[:, None], up.shape[1], axis=1)
    least = most = stores.initial_kwh
    for t in range(up.shape[1]):
        low[:, t] = least = np.maximum(low[:, t], least - limits.used_kwh[:, t] - down[:, t])
        high[:, t] = most = np.minimum(high[:, t], most - limits.used_kwh[:, t] + up[:, t])
    for t in range(up.shape[1] - 1, 0, -1):
        used = limits.used_kwh[:, t]
        low[:, t - 1] = np.maximum(low[:, t - 1], low[:, t] + used - up[:, t])
        high[:, t - 1] = np.minimum(high[:, t - 1], high[:, t] + used + down[:, t])
    rigid = high - low <= RIGID * np.maximum(stores.max_kwh, 1.0)[:, None]
    return np.where(rigid, high, low), high
