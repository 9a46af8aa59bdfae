"""Size weights: how strongly an agent takes part in the consensus of ADMM."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.population import GridConnection, Population

SLOPE = 0.2
"""Response of price-setting devices, as a part of their range over the price level: measured,
it makes the rounds fewest at rho 0.1 and, with `price_level`, at any currency."""
LEAST_RANGE_KW = 0.075
"""Range of an agent that can hardly move; 0 would leave its penalty undefined. A power, not a
weight, so that it means the same in every currency [kW]."""
BATTERY_SHARE = 0.5
"""Part of a battery's power that counts: its energy does not let it move all day."""


def price_level(population: Population, grid: GridConnection | None) -> float:
    """A typical price of the market, to tell how strongly its agents respond to one.

    Parameters
    ----------
    population : Population
        The prosumers.
    grid : GridConnection or None
        The grid connection.

    Returns
    -------
    float
        Mean import price where it is a tariff; else the mean of what elastic demand pays at most
        for its first kWh; else the mean marginal cost of full generation [currency/kWh].
    """
    if grid is not None and not grid.import_is_penalty:
        level = float(np.abs(grid.import_price_per_kwh).mean())
        if level > 0:
            return level
    elastic, generates = population.has_elastic_demand, population.has_generator
    if elastic.any():
        least = population.demand_min_kw[elastic].min(axis=1)
        first = population.omega[elastic] / (1.0 + least) - population.delta[elastic]
    else:
        most = population.generation_limit_kw[generates].max(axis=1)
        first = population.beta[generates] + 2.0 * population.alpha[generates] * most
    level = float(np.abs(first).mean()) if len(first) else 0.0
    return level if level > 0 else 1.0


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
        Mean range of generation and elastic demand, plus `BATTERY_SHARE` of the battery's power
        range, at least `LEAST_RANGE_KW`, times `SLOPE` over the price.
    """
    # Plain sums over one row each, so that a weight does not depend on who stands beside.
    flexible = population.generation_limit_kw - population.generation_min_kw
    flexible = flexible + population.demand_limit_kw - population.demand_min_kw
    mean = flexible.sum(axis=1) / population.n_periods
    battery = population.charge_max_kw + population.discharge_max_kw
    power = np.maximum(mean + BATTERY_SHARE * battery, LEAST_RANGE_KW)
    return np.asarray(power * (SLOPE / price_per_kwh))
