"""A community of seeded variants of given households, a set of them in every grid of a town."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.community import bytes_each
from raygrid.prosumer.packed import PackedPopulation, ShapedProfile
from raygrid.prosumer.population import Population
from raygrid.scenario import draws
from raygrid.scenario.config import TownPopulation
from raygrid.scenario.draws import Range
from raygrid.scenario.fields import Span
from raygrid.scenario.households import When, read_units
from raygrid.scenario.seeded import SeededCommunity
from raygrid.scenario.town import Town

BATTERY_SIZED = (
    "soc_min_kwh", "soc_max_kwh", "soc_initial_kwh", "soc_final_min_kwh",
    "charge_max_kw", "discharge_max_kw",
)  # fmt: skip
"""What grows with a battery's size."""


@dataclass(frozen=True)
class VariantRules:
    """How variants are drawn; names as in `raygrid.scenario.config.TownPopulation`."""

    grid_size: Range
    load_size: Range
    pv_size: Range
    battery_size: Range
    willingness_per_kwh: Range
    delta_per_kwh: Range
    pv_cost_per_kwh: Range
    pv_cost_per_kw2h: Range
    battery_cycle_cost_per_kwh: Range
    max_week_shift: int
    max_quarter_hour_shift: int


@dataclass(frozen=True)
class VariantCommunity(SeededCommunity):
    """Prosumers 1 to G n: of each grid in turn, a variant of every one of the n given households.

    A variant stands at its original's bus of its own grid; its loads are taken at a time of their
    own, its loads, PV and battery have sizes of their own, and so have its costs and its
    willingness to pay. All depends on the seed and its id alone, and on its grid's number for the
    size that a grid's households share.

    Parameters
    ----------
    town : Town
        Where they stand.
    seed : int
        The scenario's seed.
    originals : Population
        The n given households with their batteries alone; buses by position in one grid.
    rules : VariantRules
        How variants are drawn.
    fixed_shapes, elastic_shapes : (n, W, Q, T) float64
        Fixed load and limit of the elastic demand of each original, by its shift in weeks and
        quarter hours [kW].
    pv_shapes : (n, T) float64
        Its PV output [kW].
    """

    town: Town
    seed: int
    originals: Population
    rules: VariantRules
    fixed_shapes: FloatArray
    elastic_shapes: FloatArray
    pv_shapes: FloatArray

    def __len__(self) -> int:
        return self.town.n_grids * len(self.originals)

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.originals.n_periods

    @property
    def bytes_each(self) -> float:
        """Memory that one prosumer takes on its host [B]."""
        return bytes_each(self.n_periods, float(self.originals.has_battery.mean()))

    def bus_of(self, ids: IntArray) -> IntArray:
        """Positions of the buses (n,) of these prosumers."""
        grid, original = np.divmod(ids - 1, len(self.originals))
        return self.town.bus_of(grid, self.originals.bus[original])

    def build(self, ids: IntArray) -> PackedPopulation:
        """Make these prosumers.

        Parameters
        ----------
        ids : (m,) int64
            Ids, from 1.

        Returns
        -------
        PackedPopulation
            In this order.
        """
        rules, seed, given = self.rules, self.seed, self.originals
        n, n_weeks, n_quarters, n_periods = self.fixed_shapes.shape
        grid, original = np.divmod(ids - 1, n)
        weeks, quarters = rules.max_week_shift, rules.max_quarter_hour_shift
        week = weeks + draws.integers(seed, "week_shift", ids, -weeks, weeks)
        quarter = quarters + draws.integers(seed, "quarter_hour_shift", ids, -quarters, quarters)
        shape = ((original * n_weeks + week) * n_quarters + quarter).astype(np.int32)
        shared = rules.grid_size.draw(seed, "grid_size", grid + 1)
        load = shared * rules.load_size.draw(seed, "load_size", ids)
        pv = shared * rules.pv_size.draw(seed, "pv_size", ids)
        battery = shared * rules.battery_size.draw(seed, "battery_size", ids)

        flat = (n * n_weeks * n_quarters, n_periods)
        elastic_shapes = self.elastic_shapes.reshape(flat)
        elastic = np.any(elastic_shapes > 0, axis=1)[shape] & (load > 0)
        delta = rules.delta_per_kwh.draw(seed, "delta", ids)
        willing = rules.willingness_per_kwh.draw(seed, "willingness", ids)
        has_pv = (pv > 0) & np.any(self.pv_shapes > 0, axis=1)[original]
        has_battery = given.has_battery[original]
        alpha = rules.pv_cost_per_kw2h.draw(seed, "pv_alpha", ids)
        beta = rules.pv_cost_per_kwh.draw(seed, "pv_cost", ids)
        cycle_cost = rules.battery_cycle_cost_per_kwh.draw(seed, "cycle_cost", ids)
        zeros = np.zeros(len(ids))
        of_battery: dict[str, Any] = {
            name: getattr(given, name)[original] * battery for name in BATTERY_SIZED
        }
        return PackedPopulation(
            prosumer_id=ids,
            bus=self.bus_of(ids),
            size_weight=zeros,
            alpha=np.where(has_pv, alpha, 0.0),
            beta=np.where(has_pv, beta, 0.0),
            gamma=zeros,
            omega=np.where(elastic, willing + delta, 0.0),
            delta=np.where(elastic, delta, 0.0),
            eta_charge=given.eta_charge[original],
            eta_discharge=given.eta_discharge[original],
            cycle_cost_per_kwh=np.where(has_battery, cycle_cost, 0.0),
            **of_battery,
            periods=n_periods,
            shaped=(
                None,
                ShapedProfile(self.pv_shapes, original.astype(np.int32), pv),
                None,
                ShapedProfile(elastic_shapes, shape, load),
                ShapedProfile(self.fixed_shapes.reshape(flat), shape, load),
            ),
        )


def variant_community(
    source: TownPopulation,
    when: When,
    town: Town,
    *,
    seed: int,
    base_dir: Path,
) -> VariantCommunity:
    """Variants of the households that a table gives, in every grid of a town.

    Parameters
    ----------
    source : TownPopulation
        The scenario's section.
    when : When
        The time that profiles are taken from.
    town : Town
        Where they stand.
    seed : int
        The scenario's seed.
    base_dir : Path
        Folder that data paths are relative to.

    Returns
    -------
    VariantCommunity
        Needs no file any more.

    Raises
    ------
    InputError
        If a table is wrong.
    """
    units = read_units(source, town.grid, base_dir)
    n, n_periods = len(units.ids), when.horizon.periods
    weeks = np.arange(-source.max_week_shift, source.max_week_shift + 1)
    quarters = np.arange(-source.max_quarter_hour_shift, source.max_quarter_hour_shift + 1)
    fixed = np.zeros((n, len(weeks), len(quarters), n_periods))
    elastic = np.zeros_like(fixed)
    for i, week in enumerate(weeks):
        for j, quarter in enumerate(quarters):
            shift = np.full(n, week), np.full(n, quarter)
            household = units.total(when, "household", *shift)
            flexible = source.flexible_share * household
            fixed[:, i, j] = household - flexible + units.total(when, "load", *shift)
            elastic[:, i, j] = source.elastic_headroom * flexible
    values: dict[str, Any] = {}
    for name in VariantRules.__annotations__:
        value = getattr(source, name)
        values[name] = Range(value.low, value.high) if isinstance(value, Span) else value
    return VariantCommunity(
        town=town,
        seed=seed,
        originals=units.batteries(n_periods, source.soc_initial_share),
        rules=VariantRules(**values),
        fixed_shapes=fixed,
        elastic_shapes=elastic,
        pv_shapes=units.total(when, "pv"),
    )
