"""What limits, tariffs and weights of a case must know of its prosumers: sums, never a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray, dequantise, quantise
from raygrid.prosumer.community import Recipe
from raygrid.prosumer.limits import check_population, injection_range
from raygrid.prosumer.population import Prosumers
from raygrid.prosumer.size import first_price, flexible_power, store_power
from raygrid.prosumer.sums import add_by_bus


@dataclass(frozen=True)
class Survey:
    """Sums over some prosumers in whole quanta; those of parts add up to those of all.

    Attributes
    ----------
    prosumers, generators, batteries : int
        How many there are, and how many of them have a generator and a battery.
    stores : int
        How many EVs and shiftable loads there are.
    buses : (nb,) int64
        Positions of the buses where they stand, ascending.
    fixed_load_quanta : (nb, D T) int64
        Fixed load per bus over all market days whose flows set the limits, this day first.
    even_charge_quanta : (nb, T) int64
        What EVs and shiftable loads draw where they serve their needs evenly.
    p_min_quanta, p_max_quanta : (nb, T) int64
        Range of the net injection per bus, batteries at full power.
    weight_quanta : int
        Sum of the size weights that are given.
    power_quanta : int
        Sum of the flexible power of those without a given weight.
    willingness_quanta, cost_quanta : int
        Sums of `raygrid.prosumer.size.first_price` over those with elastic demand, and over the
        other ones that generate.
    elastic, generating : int
        How many these are.
    """

    prosumers: int
    generators: int
    batteries: int
    stores: int
    buses: IntArray
    fixed_load_quanta: IntArray
    even_charge_quanta: IntArray
    p_min_quanta: IntArray
    p_max_quanta: IntArray
    weight_quanta: int
    power_quanta: int
    willingness_quanta: int
    cost_quanta: int
    elastic: int
    generating: int

    def on_all_buses(self, n_buses: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Fixed load (B, D T), least and largest net injection (B, T) of every bus [kW]."""
        quanta = self.fixed_load_quanta, self.p_min_quanta, self.p_max_quanta
        fixed, low, high = (np.zeros((n_buses, own.shape[1])) for own in quanta)
        for values, own in zip((fixed, low, high), quanta, strict=True):
            values[self.buses] = dequantise(own)
        return fixed, low, high

    def even_charge_kw(self, n_buses: int) -> FloatArray:
        """(B, T) what EVs and shiftable loads of every bus draw where they charge evenly [kW]."""
        even = np.zeros((n_buses, self.even_charge_quanta.shape[1]))
        even[self.buses] = dequantise(self.even_charge_quanta)
        return even


def survey(
    prosumers: Prosumers,
    n_buses: int,
    where: str,
    period_hours: float,
    other_days: Sequence[Prosumers] = (),
) -> Survey:
    """Check some prosumers and add up what a case must know of them.

    Parameters
    ----------
    prosumers : Prosumers
        Any of a case's prosumers.
    n_buses : int
        Number of buses B.
    where : str
        Where they come from, for messages.
    period_hours : float
        Length of a period [h].
    other_days : sequence of Prosumers
        The same ones on other market days, of which only the fixed loads count.

    Returns
    -------
    Survey
        Their sums.

    Raises
    ------
    InputError
        If no market could clear them; see `check_population`.
    """
    n_periods = prosumers.n_periods
    buses = np.unique(prosumers.bus)
    shape = (len(buses), n_periods)
    fixed, low, high, even = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    generators = batteries = weight = power = willingness = cost = elastic = generating = 0
    for block in prosumers.blocks():
        given = block.size_weight > 0
        known = replace(block, size_weight=np.where(given, block.size_weight, 1.0))
        check_population(known, n_buses, where, period_hours)
        p_min, p_max = injection_range(block)
        for values, sums in ((block.fixed_load_kw, fixed), (p_min, low), (p_max, high)):
            add_by_bus(np.searchsorted(buses, block.bus), values, sums)
        weight += int(quantise(block.size_weight[given]).sum())
        power += int(quantise(flexible_power(block)[~given]).sum())
        if len(block.stores):
            own = block.stores.size_weight
            charge = block.stores.even_charge_kw(n_periods, period_hours)
            add_by_bus(np.searchsorted(buses, block.bus[block.stores.owner]), charge, even)
            weight += int(quantise(own[own > 0]).sum())
            power += int(quantise(store_power(block.stores, n_periods)[own <= 0]).sum())
        generates, consumes = block.has_generator, block.has_elastic_demand
        generators += int(generates.sum())
        batteries += int(block.has_battery.sum())
        generates &= ~consumes
        first = quantise(first_price(block))
        willingness += int(first[consumes].sum())
        cost += int(first[generates].sum())
        elastic += int(consumes.sum())
        generating += int(generates.sum())
    loads = [fixed]
    for other in other_days:
        sums = np.zeros(shape, dtype=np.int64)
        for block in other.blocks():
            add_by_bus(np.searchsorted(buses, block.bus), block.fixed_load_kw, sums)
        loads.append(sums)
    return Survey(
        prosumers=len(prosumers),
        generators=generators,
        batteries=batteries,
        buses=buses,
        stores=len(prosumers.stores),
        fixed_load_quanta=np.concatenate(loads, axis=1),
        even_charge_quanta=even,
        p_min_quanta=low,
        p_max_quanta=high,
        weight_quanta=weight,
        power_quanta=power,
        willingness_quanta=willingness,
        cost_quanta=cost,
        elastic=elastic,
        generating=generating,
    )


@dataclass(frozen=True)
class SurveyedRecipe:
    """What a host needs to build its part of a case that nobody has surveyed yet.

    Attributes
    ----------
    prosumers : Recipe
        How to build them.
    other_days : tuple of Recipe
        How to build the same ones on other market days.
    n_buses, where, period_hours
        As in `survey`.
    """

    prosumers: Recipe
    other_days: tuple[Recipe, ...]
    n_buses: int
    where: str
    period_hours: float

    def survey(self, prosumers: Prosumers) -> Survey:
        """Survey the prosumers that `self.prosumers` builds."""
        others = [recipe.build() for recipe in self.other_days]
        return survey(prosumers, self.n_buses, self.where, self.period_hours, others)


def joined(parts: Iterable[Survey]) -> Survey:
    """The survey of all prosumers from those of parts, each prosumer in one of them."""
    surveys = list(parts)
    first = surveys[0]
    buses = np.unique(np.concatenate([part.buses for part in surveys]))
    sums: dict[str, Any] = {}
    for name, value in vars(first).items():
        if isinstance(value, int):
            sums[name] = sum(getattr(part, name) for part in surveys)
            continue
        if name == "buses":
            continue
        sums[name] = np.zeros((len(buses), value.shape[1]), dtype=np.int64)
        for part in surveys:
            sums[name][np.searchsorted(buses, part.buses)] += getattr(part, name)
    return Survey(buses=buses, **sums)
