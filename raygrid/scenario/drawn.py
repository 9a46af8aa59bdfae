"""A community that is drawn from a seed, by whoever needs which part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.community import bytes_each
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile
from raygrid.scenario import draws
from raygrid.scenario.drawn_stores import StoreRules
from raygrid.scenario.draws import Range
from raygrid.scenario.seeded import SeededCommunity


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
class DrawnCommunity(SeededCommunity):
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
