"""Size weights: how strongly an agent takes part in the consensus of ADMM."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray
from raygrid.prosumer.population import GridConnection, Population, Prosumers
from raygrid.prosumer.stores import Stores

if TYPE_CHECKING:
    from raygrid.prosumer.survey import Survey

AnyProsumers = TypeVar("AnyProsumers", bound=Prosumers)

SLOPE = 0.2
"""Response of price-setting devices, as a part of their range over the price level: measured,
it makes the rounds fewest at rho 0.1 and, with `price_level`, at any currency."""
LEAST_RANGE_KW = 0.075
"""Range of an agent that can hardly move; 0 would leave its penalty undefined. A power, not a
weight, so that it means the same in every currency [kW]."""
BATTERY_SHARE = 0.5
"""Part of a battery's power that counts: its energy does not let it move all day."""
STORE_SHARE = 0.2
"""The same of an EV or shiftable load while it is connected: measured, fewest rounds from 0.1 on
where all have one, up to 0.4 where few do."""


def first_price(population: Population) -> FloatArray:
    """What a prosumer's first kWh is worth: a scale of the prices that it responds to.

    Parameters
    ----------
    population : Population
        The prosumers.

    Returns
    -------
    (N,) float64
        Magnitude of the marginal utility of elastic demand at its least; where there is none,
        of the marginal cost of full generation [currency/kWh].
    """
    p = population
    willing = p.omega / (1.0 + p.demand_min_kw.min(axis=1)) - p.delta
    cost = p.beta + 2.0 * p.alpha * p.generation_limit_kw.max(axis=1)
    return np.asarray(np.abs(np.where(p.has_elastic_demand, willing, cost)))


def price_level(survey: Survey, grid: GridConnection | None) -> float:
    """A typical price of the market, to tell how strongly its agents respond to one.

    Parameters
    ----------
    survey : Survey
        Of all prosumers.
    grid : GridConnection or None
        The grid connection.

    Returns
    -------
    float
        Mean import price where it is a tariff; else the mean `first_price` of those with elastic
        demand; else that of those who generate [currency/kWh].
    """
    if grid is not None and not grid.import_is_penalty:
        level = float(np.abs(grid.import_price_per_kwh).mean())
        if level > 0:
            return level
    total, count = survey.cost_quanta, survey.generating
    if survey.elastic:
        total, count = survey.willingness_quanta, survey.elastic
    level = total * QUANTUM / count if count else 0.0
    return level if level > 0 else 1.0


def flexible_power(population: Population) -> FloatArray:
    """Power that each prosumer can choose.

    Parameters
    ----------
    population : Population
        The prosumers.

    Returns
    -------
    (N,) float64
        Mean range of generation and elastic demand, plus `BATTERY_SHARE` of the battery's power
        range, at least `LEAST_RANGE_KW` [kW].
    """
    # Plain sums over one row each, contiguous, so that a weight depends neither on who stands
    # beside nor on how the table lies in memory.
    flexible = population.generation_limit_kw - population.generation_min_kw
    flexible = flexible + population.demand_limit_kw - population.demand_min_kw
    mean = np.ascontiguousarray(flexible).sum(axis=1) / population.n_periods
    battery = population.charge_max_kw + population.discharge_max_kw
    return np.asarray(np.maximum(mean + BATTERY_SHARE * battery, LEAST_RANGE_KW))


def store_power(stores: Stores, n_periods: int) -> FloatArray:
    """Power that each EV or shiftable load can choose, as `flexible_power`.

    Parameters
    ----------
    stores : Stores
        M stores.
    n_periods : int
        Number of periods T.

    Returns
    -------
    (M,) float64
        `STORE_SHARE` of the mean power range over the horizon, at least `LEAST_RANGE_KW` [kW].
    """
    limits = stores.limits(n_periods)
    mean = np.ascontiguousarray(limits.charge_kw + limits.discharge_kw).sum(axis=1) / n_periods
    return np.asarray(np.maximum(STORE_SHARE * mean, LEAST_RANGE_KW))


def flexibility_weight(population: Population, price_per_kwh: float) -> FloatArray:
    """Size weights w_i in proportion to the power that each prosumer can choose.

    The projection spreads imbalances over agents by weight, and the penalty of an agent is
    rho / w_i. Weight on agents that cannot move (fixed loads) slows consensus, and so does too
    little of it on those that can. The best penalty of an agent is near the slope of its
    marginal cost, which is of the order of the price level over its range of power.

    Parameters
    ----------
    population : Population
        The prosumers.
    price_per_kwh : float
        Typical price, as from `price_level` [currency/kWh].

    Returns
    -------
    (N,) float64
        `flexible_power` times `SLOPE` over the price.
    """
    return flexible_power(population) * (SLOPE / price_per_kwh)


def with_weights(prosumers: AnyProsumers, price_per_kwh: float) -> AnyProsumers:
    """The prosumers with the weights that are given, and `flexibility_weight` where none is.

    Parameters
    ----------
    prosumers : Prosumers
        Weights of 0 are not given.
    price_per_kwh : float
        Typical price [currency/kWh].
    """
    own = prosumers.stores.size_weight
    if not (own > 0).all():
        missing = store_power(prosumers.stores, prosumers.n_periods) * (SLOPE / price_per_kwh)
        stores = replace(prosumers.stores, size_weight=np.where(own > 0, own, missing))
        prosumers = replace(prosumers, stores=stores)
    given = prosumers.size_weight
    if (given > 0).all():
        return prosumers
    found = [flexibility_weight(block, price_per_kwh) for block in prosumers.blocks()]
    return replace(prosumers, size_weight=np.where(given > 0, given, np.concatenate(found)))
