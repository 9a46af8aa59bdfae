"""What a dispatch is worth, and the most that prices could make it worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.arbitrage import arbitrage_value
from raygrid.prosumer.compiled import compiled, frozen_view, inner
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import Population, Prosumers
from raygrid.prosumer.store_local import best_store_value
from raygrid.prosumer.units import kernel_profiles, kernel_units


def welfare_rate(population: Population, dispatch: Dispatch) -> FloatArray:
    """Welfare rate of each prosumer, summed over the periods (thesis 3-7, 3-10, 3-15).

    ``sum_t omega log(1+y) - delta y - alpha x^2 - beta x - gamma - cycle_cost (c + d)``,
    gamma in every period of a prosumer that has a generator; dt times it is money.

    Parameters
    ----------
    population : Population
        The n prosumers of the dispatch, in its order.
    dispatch : Dispatch
        Their device powers.

    Returns
    -------
    (n,) float64
        Welfare rates [currency/h].
    """
    rates = np.empty(len(population))
    _welfare_rows(
        kernel_units(population),
        frozen_view(population.generation_limit_kw),
        frozen_view(dispatch.generation_kw),
        frozen_view(dispatch.demand_kw),
        frozen_view(dispatch.charge_kw),
        frozen_view(dispatch.discharge_kw),
        rates,
    )
    if dispatch.stores is not None:
        moved = dispatch.stores.charge_kw + dispatch.stores.discharge_kw
        wear = population.stores.cycle_cost_per_kwh * np.ascontiguousarray(moved).sum(axis=1)
        np.subtract.at(rates, dispatch.stores.owner, wear)
    return rates


def dual_value(
    population: Prosumers,
    start: int,
    stop: int,
    price_per_kwh: FloatArray,
    stored_value_per_kwh: FloatArray,
    period_hours: float,
) -> FloatArray:
    """Upper bound on each prosumer's ``max_p sum_t lambda p - f(p)`` over the horizon.

    Exact without storage. A battery's state of charge (3-11) is dualised with the given mu,
    any of which gives a valid bound; the optimal mu gives the maximum itself.

    Parameters
    ----------
    population : Prosumers
        The prosumers.
    start, stop : int
        Population rows.
    price_per_kwh : (n, T) float64
        Price lambda at each prosumer's bus [currency/kWh].
    stored_value_per_kwh : (n, T) float64
        Value mu of a stored kWh [currency/kWh], as in `Dispatch`.
    period_hours : float
        dt [h].

    Returns
    -------
    (n,) float64
        Rates summed over the periods [currency/h]; dt times them is money.
    """
    n = stop - start
    shape = (n, population.n_periods)
    if price_per_kwh.shape != shape or stored_value_per_kwh.shape != shape:
        raise ValueError(
            f"prices {price_per_kwh.shape}, stored values {stored_value_per_kwh.shape} "
            f"for rows x periods {shape}"
        )
    part = population.rows(start, stop)
    rates = np.empty(n)
    _dual_rows(
        frozen_view(price_per_kwh), frozen_view(stored_value_per_kwh), period_hours,
        kernel_units(part), *kernel_profiles(part, 0, stop - start), rates,
    )  # fmt: skip
    return rates


def best_value(
    population: Population, price_per_kwh: FloatArray, period_hours: float
) -> FloatArray:
    """Each prosumer's ``max_p sum_t lambda p - f(p)`` over the horizon, all its devices included.

    At given prices these have nothing to do with each other. With EVs and shiftable loads it is
    a bound a hair above (`raygrid.prosumer.store_local.best_store_value`).

    Parameters
    ----------
    population : Population
        n prosumers.
    price_per_kwh : (n, T) float64
        Price lambda at each prosumer's bus [currency/kWh].
    period_hours : float
        dt [h].

    Returns
    -------
    (n,) float64
        Rates summed over the periods [currency/h]; dt times them is money.
    """
    none = np.zeros(len(population))
    others = replace(population, charge_max_kw=none, discharge_max_kw=none)
    mu = np.zeros(price_per_kwh.shape)
    rates = dual_value(others, 0, len(population), price_per_kwh, mu, period_hours)
    rates += arbitrage_value(population, price_per_kwh, period_hours)
    stores = population.stores
    if len(stores):
        gains = best_store_value(stores, price_per_kwh[stores.owner], period_hours)
        np.add.at(rates, stores.owner, gains)
    return rates


@inner
def _has_generator(x_max: FloatArray, i: int) -> bool:
    most = 0.0
    for t in range(x_max.shape[1]):
        most = max(most, x_max[i, t])
    return most > 0.0


@inner
def _device_rate(
    x: float, y: float, alpha: float, beta: float, omega: float, delta: float
) -> float:
    """Welfare rate of generation x and elastic demand y, without the constant cost."""
    rate = -(alpha * x + beta) * x - delta * y
    if omega > 0.0:
        rate += omega * math.log1p(y)
    return rate


@compiled
def _welfare_rows(
    units: FloatArray,
    x_max: FloatArray,
    generation: FloatArray,
    demand: FloatArray,
    charge: FloatArray,
    discharge: FloatArray,
    rates: FloatArray,
) -> None:
    n, n_periods = generation.shape
    for i in range(n):
        alpha, beta, omega, delta = units[i, 0], units[i, 1], units[i, 2], units[i, 3]
        rate = -units[i, 13] * n_periods if _has_generator(x_max, i) else 0.0
        for t in range(n_periods):
            rate += _device_rate(generation[i, t], demand[i, t], alpha, beta, omega, delta)
            rate -= units[i, 12] * (charge[i, t] + discharge[i, t])
        rates[i] = rate


@compiled
def _dual_rows(
    price: FloatArray,
    stored_value: FloatArray,
    period_hours: float,
    units: FloatArray,
    x_min: FloatArray,
    x_max: FloatArray,
    y_min: FloatArray,
    y_max: FloatArray,
    fixed_load: FloatArray,
    rates: FloatArray,
) -> None:
    n, n_periods = price.shape
    for i in range(n):
        alpha, beta, omega, delta = units[i, 0], units[i, 1], units[i, 2], units[i, 3]
        rate = -units[i, 13] * n_periods if _has_generator(x_max, i) else 0.0
        for t in range(n_periods):
            pay = price[i, t]
            x = x_max[i, t] if pay > beta else x_min[i, t]
            if alpha > 0.0:
                x = min(max((pay - beta) / (2.0 * alpha), x_min[i, t]), x_max[i, t])
            margin = delta + pay
            y = y_max[i, t] if margin < 0.0 or (margin == 0.0 and omega > 0.0) else y_min[i, t]
            if margin > 0.0:
                y = min(max(omega / margin - 1.0, y_min[i, t]), y_max[i, t])
            rate += pay * (x - y - fixed_load[i, t])
            rate += _device_rate(x, y, alpha, beta, omega, delta)
        charge_max, discharge_max = units[i, 8], units[i, 9]
        if charge_max > 0.0 or discharge_max > 0.0:
            stock = 0.0  # of the state of charge that is free once (3-11) is dualised
            previous = 0.0
            for t in range(n_periods):
                value = stored_value[i, t]
                pay = price[i, t]
                rate += charge_max * max(value * units[i, 10] - pay - units[i, 12], 0.0)
                rate += discharge_max * max(pay - value / units[i, 11] - units[i, 12], 0.0)
                step = value - previous
                if t == 0:
                    stock += step * units[i, 6]
                else:
                    stock += step * (units[i, 5] if step > 0.0 else units[i, 4])
                previous = value
            floor = max(units[i, 4], units[i, 7])
            stock -= previous * (floor if previous > 0.0 else units[i, 5])
            rate += stock / period_hours
        rates[i] = rate
