"""The grid connection as an agent: its local problem and its dual value in closed form."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.population import GridConnection


def solve_grid(grid: GridConnection, target_kw: FloatArray, rho: float) -> FloatArray:
    """Net import that solves the grid agent's local problem (thesis 4-5 with 3-20).

    Argmin per period of ``import_price m - export_price e + rho/2 (m - e - a)^2`` with
    p = m - e: the target less price / rho on either side of a dead zone around 0.

    Parameters
    ----------
    grid : GridConnection
        The upstream grid.
    target_kw : (T,) float64
        Target a [kW].
    rho : float
        Penalty of this agent, rho / size_weight [currency/kW^2/h], positive.

    Returns
    -------
    (T,) float64
        Net injection, import positive [kW].
    """
    bought = np.maximum(target_kw - grid.import_price_per_kwh / rho, 0.0)
    sold = np.maximum(grid.export_price_per_kwh / rho - target_kw, 0.0)
    return np.minimum(bought, grid.import_limit_kw) - np.minimum(sold, grid.export_limit_kw)


def grid_cost_rate(grid: GridConnection, p_kw: FloatArray) -> float:
    """Cost rate of net imports, summed over the periods [currency/h].

    Parameters
    ----------
    grid : GridConnection
        The upstream grid.
    p_kw : (T,) float64
        Net injection, import positive [kW].
    """
    bought = grid.import_price_per_kwh * np.maximum(p_kw, 0.0)
    sold = grid.export_price_per_kwh * np.maximum(-p_kw, 0.0)
    return float(np.sum(bought - sold))


def grid_dual_value(grid: GridConnection, price_per_kwh: FloatArray) -> float:
    """Most that the grid agent gains at given prices, ``max lambda.p - f(p)``.

    Parameters
    ----------
    grid : GridConnection
        The upstream grid.
    price_per_kwh : (T,) float64
        Prices lambda at the slack bus [currency/kWh].

    Returns
    -------
    float
        Rate summed over the periods [currency/h]; inf where an unlimited trade pays.
    """
    gain = 0.0
    for margin, limit in (
        (price_per_kwh - grid.import_price_per_kwh, grid.import_limit_kw),
        (grid.export_price_per_kwh - price_per_kwh, grid.export_limit_kw),
    ):
        pays = margin > 0
        gain += float(np.sum(margin[pays] * limit[pays]))
    return gain
