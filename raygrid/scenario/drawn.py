"""A community that is drawn from a seed, by whoever needs which part of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.community import Community, bytes_each
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile
from raygrid.prosumer.population import Population, Prosumers
from raygrid.scenario import draws
from raygrid.scenario.drawn_stores import StoreRules
from raygrid.scenario.draws import Range

IDS_AT_A_TIME = 1 << 16
"""Ids whose buses are drawn at once, where all are looked through."""


@dataclass(frozen=True)
class HouseholdRules:
    """How households are drawn; names as in `raygrid.scenario.config`."""

    household_peak_kw: Range
    pv_share: float
    pv_peak_kw: Range
    pv_cost_per_kwh: Range
    pv_cost_per_kw2h: Range
    battery_share: float
    battery_capacity_kwh: Range
    battery_hours: float
    battery_efficiency: float
    battery_cycle_cost_per_kwh: Range
    soc_min_share: float
    soc_max_share: float
    soc_initial_share: float
    willingness_per_kwh: Range
    delta_per_kwh: Range
    max_week_shift: int
    max_quarter_hour_shift: int
    distinct: bool = False


@dataclass(frozen=True)
class DrawnCommunity:
    """Households of which each depends on the seed and its id alone.

    Shares of PV and batteries hold exactly in every ten consecutive ids (if they are tenths);
    those with PV get a battery first. Nothing in here grows with the number of households.

    Parameters
    ----------
    agents : int
        Number of prosumers N; their ids are 1 to N.
    seed : int
        The scenario's seed.
    bus_weight : (B,) float64
        Share of the prosumers at each bus.
    rules : HouseholdRules
        How they are drawn.
    fixed_shapes, elastic_shapes : (S, W, Q, T) float64
        Fixed load and limit of the elastic demand, per kW of a household's peak, by shape and by
        its shift in weeks and quarter hours.
    pv_shapes : (O, T) float64
        Output by orientation, per kW of peak power.
    stores : StoreRules
        How EVs and shiftable loads are drawn.
    """

    agents: int
    seed: int
    bus_weight: FloatArray
    rules: HouseholdRules
    fixed_shapes: FloatArray
    elastic_shapes: FloatArray
    pv_shapes: FloatArray
    stores: StoreRules

    def __len__(self) -> int:
        return self.agents

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return int(self.pv_shapes.shape[1])

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host [B]."""
        return bytes_each(self.n_periods, self.rules.battery_share, stores=self.stores.stores_each)

    def recipe(self, start: int, stop: int) -> SeededPart:
        """How to draw the prosumers at these positions."""
        return SeededPart(self, start, stop)

    def everyone(self) -> Population:
        """All prosumers in order of their ids."""
        return self.build(np.arange(1, self.agents + 1)).rows(0, self.agents)

    def build(self, ids: IntArray) -> PackedPopulation:
        """Draw these prosumers.

        Parameters
        ----------
        ids : (n,) int64
            Ids, from 1.

        Returns
        -------
        PackedPopulation
            In this order.
        """
        rules, seed = self.rules, self.seed
        n_shapes, n_weeks, n_quarters, n_periods = self.fixed_shapes.shape
        weeks, quarters = rules.max_week_shift, rules.max_quarter_hour_shift
        if rules.distinct:
            kind = (ids - 1) % n_shapes
            turn = np.argsort(draws.uniform(seed, "shift", np.arange(n_weeks * n_quarters)))
            week, quarter = np.divmod(turn[(ids - 1) // n_shapes % len(turn)], n_quarters)
        else:
            kind = draws.choice(seed, "load_shape", ids, np.ones(n_shapes))
            week = weeks + draws.integers(seed, "week_shift", ids, -weeks, weeks)
            quarter = draws.integers(seed, "quarter_hour_shift", ids, 0, 2 * quarters)
        shape = ((kind * n_weeks + week) * n_quarters + quarter).astype(np.int32)
        peak = rules.household_peak_kw.draw(seed, "household_peak", ids)

        # One draw decides both, so that batteries go to homes with PV first.
        rank = draws.stratified(seed, "devices", ids)
        has_pv, has_battery = rank < rules.pv_share, rank < rules.battery_share
        n_systems = len(self.pv_shapes)
        if rules.distinct:
            # Homes with PV have the lowest ranks of their ten: these count them through.
            owner = (ids - 1) // 10 * math.ceil(10 * rules.pv_share) + np.floor(10 * rank)
            facing = owner.astype(np.int64) % n_systems
        else:
            facing = draws.choice(seed, "pv_orientation", ids, np.ones(n_systems))
        pv_peak = np.where(has_pv, rules.pv_peak_kw.draw(seed, "pv_peak", ids), 0.0)
        capacity = rules.battery_capacity_kwh.draw(seed, "capacity", ids)
        capacity = np.where(has_battery, capacity, 0.0)
        efficiency = np.where(has_battery, rules.battery_efficiency, 1.0)
        cycle_cost = rules.battery_cycle_cost_per_kwh.draw(seed, "cycle_cost", ids)
        alpha = rules.pv_cost_per_kw2h.draw(seed, "pv_alpha", ids)
        beta = rules.pv_cost_per_kwh.draw(seed, "pv_cost", ids)

        # The marginal utility omega / (1 + y) - delta falls from the drawn willingness on.
        flat = (n_shapes * n_weeks * n_quarters, n_periods)
        elastic_shapes = self.elastic_shapes.reshape(flat)
        elastic = np.any(elastic_shapes > 0, axis=1)[shape] & (peak > 0)
        delta = rules.delta_per_kwh.draw(seed, "delta", ids)
        willing = rules.willingness_per_kwh.draw(seed, "willingness", ids)
        power = capacity / rules.battery_hours
        initial = rules.soc_initial_share * capacity
        zeros = np.zeros(len(ids))
        return PackedPopulation(
            prosumer_id=ids,
            bus=self.bus_of(ids),
            size_weight=zeros,
            alpha=np.where(has_pv, alpha, 0.0),
            beta=np.where(has_pv, beta, 0.0),
            gamma=zeros,
            omega=np.where(elastic, willing + delta, 0.0),
            delta=np.where(elastic, delta, 0.0),
            soc_min_kwh=rules.soc_min_share * capacity,
            soc_max_kwh=rules.soc_max_share * capacity,
            soc_initial_kwh=initial,
            soc_final_min_kwh=initial,
            charge_max_kw=power,
            discharge_max_kw=power,
            eta_charge=efficiency,
            eta_discharge=efficiency,
            cycle_cost_per_kwh=np.where(has_battery, cycle_cost, 0.0),
            stores=self.stores.draw(seed, ids),
            periods=n_periods,
            shaped=(
                None,
                ShapedProfile(self.pv_shapes, facing.astype(np.int32), pv_peak),
                None,
                ShapedProfile(elastic_shapes, shape, peak),
                ShapedProfile(self.fixed_shapes.reshape(flat), shape, peak),
            ),
        )

    def bus_of(self, ids: IntArray) -> IntArray:
        """Positions of the buses (n,) of these prosumers."""
        return draws.choice(self.seed, "bus", ids, self.bus_weight)


class SeededCommunity(Community, Protocol):
    """A community whose ids are 1 to N and whose prosumers are made from them."""

    def build(self, ids: IntArray) -> Prosumers:
        """Make these prosumers, in this order."""
        ...

    def bus_of(self, ids: IntArray) -> IntArray:
        """Positions of the buses (n,) of these prosumers."""
        ...


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
