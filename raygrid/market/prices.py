"""Prices of a cleared market and the money that each pricing rule leaves over or lacks."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray, IntArray, dequantise, quantise
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GridConnection, Population

LEAST_SALE_KW = 1e-6
"""Sales of all sellers together below this are rounding: nobody supplies [kW]."""


def locational_price(rho: float, pi_kw: FloatArray) -> FloatArray:
    """Locational prices from the operator's duals, lambda_b = -rho pi_b.

    Parameters
    ----------
    rho : float
        Penalty parameter for size weight 1 [currency/kW^2/h].
    pi_kw : (B, T) float64
        Scaled duals of the buses [kW].

    Returns
    -------
    (B, T) float64
        Prices [currency/kWh].
    """
    return -rho * pi_kw


def marginal_cost(population: Population, dispatch: Dispatch) -> FloatArray:
    """Marginal cost of what each prosumer supplies, (5-1) with storage.

    A generator's is ``2 alpha x + beta``; a discharging battery's or EV's is its shadow price
    ``mu / eta_d + cycle cost``. A prosumer with several has their mean, weighted by power.

    Parameters
    ----------
    population : Population
        The prosumers.
    dispatch : Dispatch
        Their schedules.

    Returns
    -------
    (N, T) float64
        Marginal costs [currency/kWh]; 0 where neither generator nor battery supplies.
    """
    x, d = dispatch.generation_kw, dispatch.discharge_kw
    of_generator = 2.0 * population.alpha[:, None] * x + population.beta[:, None]
    of_storage = dispatch.stored_value_per_kwh / population.eta_discharge[:, None]
    of_storage = of_storage + population.cycle_cost_per_kwh[:, None]
    supplied = x + d
    total = of_generator * x + of_storage * d
    if dispatch.stores is not None:
        stores, own = population.stores, dispatch.stores
        cost = own.stored_value_per_kwh / stores.eta_discharge[:, None]
        cost = (cost + stores.cycle_cost_per_kwh[:, None]) * own.discharge_kw
        supplied = supplied + stores.owner_sums(own.discharge_kw, len(x))
        total = total + stores.owner_sums(cost, len(x))
    return np.divide(total, supplied, out=np.zeros_like(x), where=supplied > 0)


def seller_sums(population: Population, dispatch: Dispatch) -> tuple[IntArray, IntArray]:
    """Partial sums of the settlement price (5-2) over sellers max(p, 0).

    Parameters
    ----------
    population : Population
        The prosumers of one host.
    dispatch : Dispatch
        Their final schedules.

    Returns
    -------
    cost_quanta : (T,) int64
        Sum of marginal cost times sold power [1e-9 currency/h].
    sold_quanta : (T,) int64
        Sum of sold power [1e-9 kW].
    """
    sold = np.maximum(dispatch.p_kw, 0.0)
    cost = quantise(marginal_cost(population, dispatch) * sold)
    return cost.sum(axis=0), quantise(sold).sum(axis=0)


def grid_seller_sums(grid: GridConnection, grid_kw: FloatArray) -> tuple[IntArray, IntArray]:
    """The grid connection's part of `seller_sums`: it sells imports at its tariff.

    Parameters
    ----------
    grid : GridConnection
        The connection and its tariffs.
    grid_kw : (T,) float64
        Import minus export [kW].

    Returns
    -------
    cost_quanta, sold_quanta : (T,) int64
        As `seller_sums`.
    """
    sold = np.maximum(grid_kw, 0.0)
    return quantise(grid.import_price_per_kwh * sold), quantise(sold)


def settlement_price(
    cost_quanta: IntArray, sold_quanta: IntArray, locational_per_kwh: FloatArray
) -> FloatArray:
    """Uniform settlement price: mean marginal cost of all sellers, weighted by sales (5-2).

    Parameters
    ----------
    cost_quanta, sold_quanta : (T,) int64
        Sums of `seller_sums` and `grid_seller_sums` over all agents.
    locational_per_kwh : (T,) float64
        Locational price at the slack bus, which holds where nobody supplies [currency/kWh].

    Returns
    -------
    (T,) float64
        Prices [currency/kWh].

    References
    ----------
    Emeruom 2026 (the thesis), (5-1), (5-2), generalised to net injections.
    """
    sold = dequantise(sold_quanta)
    return np.divide(
        dequantise(cost_quanta),
        sold,
        out=np.array(locational_per_kwh, dtype=np.float64),
        where=sold > LEAST_SALE_KW,
    )


def money_surplus(
    price_per_kwh: FloatArray, p_bus_kw: FloatArray, period_hours: float
) -> FloatArray:
    """What buyers pay beyond what sellers get when each bus has its price.

    With locational prices this is the congestion surplus, never negative at an optimum; with a
    uniform price it is zero, since injections sum to zero.

    Parameters
    ----------
    price_per_kwh : (B, T) or (T,) float64
        Price of each bus, or one for all [currency/kWh].
    p_bus_kw : (B, T) float64
        Net injection per bus, the grid connection included [kW].
    period_hours : float
        Length of a period [h].

    Returns
    -------
    (T,) float64
        Surplus, or deficit where negative [currency].
    """
    return np.asarray(-period_hours * np.sum(price_per_kwh * p_bus_kw, axis=0))


def tariff_difference(
    price_per_kwh: FloatArray, grid: GridConnection, grid_kw: FloatArray, period_hours: float
) -> FloatArray:
    """What the grid connection gets from the market beyond what it owes by its tariff.

    The community's account with its supplier bears it: a uniform price that averages cheap
    generation with dear imports pays less for imports than they cost.

    Parameters
    ----------
    price_per_kwh : (T,) float64
        Price that the market pays at the slack bus [currency/kWh].
    grid : GridConnection
        The connection and its tariffs.
    grid_kw : (T,) float64
        Import minus export [kW].
    period_hours : float
        Length of a period [h].

    Returns
    -------
    (T,) float64
        Surplus, or deficit where negative [currency].
    """
    tariff = np.where(grid_kw > 0, grid.import_price_per_kwh, grid.export_price_per_kwh)
    return np.asarray(period_hours * (price_per_kwh - tariff) * grid_kw)
