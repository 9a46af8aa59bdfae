"""An upper bound on the optimal welfare by duality, for cases too large to solve centrally."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.grid.tree_rows import LimitRows
from raygrid.market.prices import LEAST_SALE_KW
from raygrid.prosumer.population import GridConnection

_AT_LIMIT = 1e-6
"""Relative distance to a limit of the grid connection that counts as touching it."""
_MOVING = 1e-3
"""Part of the largest exchange with the grid from which it counts as importing or exporting."""


def bound_price(
    nu_per_kwh: FloatArray,
    row_price: FloatArray,
    rows: LimitRows,
    slack: int,
    grid: GridConnection | None,
    grid_kw: FloatArray,
) -> FloatArray:
    """Prices of the consistent form nu + PTDF' m, from which the bound follows.

    Any nu gives a valid bound. Where the grid connection imports or exports without touching its
    limits, its tariff is the slack bus's price, to which nu is moved: a price a hair off, times
    all that flows there, would spoil the bound. Where it rests, the price is kept between its
    tariffs.

    Parameters
    ----------
    nu_per_kwh : (T,) float64
        Price of the balance, -rho nu of the projection [currency/kWh].
    row_price : (M, T) float64
        Price of each limit, rho m of the projection: positive at upper, negative at lower
        bounds [currency/h per unit of the row].
    rows : NetworkRows or TreeRows
        The limits.
    slack : int
        Position of the slack bus.
    grid : GridConnection or None
        The grid connection.
    grid_kw : (T,) float64
        Net import of the final schedule [kW].

    Returns
    -------
    (B, T) float64
        lambda_b [currency/kWh].
    """
    price = nu_per_kwh[None, :] - rows.prices(row_price)
    if grid is None:
        return np.asarray(price)
    full_import = grid_kw >= grid.import_limit_kw * (1 - _AT_LIMIT)
    full_export = -grid_kw >= grid.export_limit_kw * (1 - _AT_LIMIT)
    moving = _MOVING * np.abs(grid_kw).max(initial=0.0) + LEAST_SALE_KW
    buy, sell = grid.import_price_per_kwh, grid.export_price_per_kwh
    high = np.where(full_import, np.inf, np.where(grid_kw < -moving, sell, buy))
    low = np.where(full_export, -np.inf, np.where(grid_kw > moving, buy, sell))
    at_slack = price[slack]
    return np.asarray(price + (np.clip(at_slack, low, high) - at_slack))


def welfare_bound(
    agents_dual_value: float, row_price: FloatArray, rows: LimitRows, period_hours: float
) -> float:
    """No schedule of the market has more welfare than this (weak duality).

    Parameters
    ----------
    agents_dual_value : float
        Sum over all agents and periods, the grid connection included, of the most that each
        gains at the prices of `bound_price` within its own constraints, max of
        ``lambda_b p_i - f_i(p_i)``, or any upper bound of it [currency/h].
    row_price : (M, T) float64
        Price of each limit, as given to `bound_price`.
    rows : NetworkRows or TreeRows
        The limits.
    period_hours : float
        Length of a period [h].

    Returns
    -------
    float
        Upper bound on the welfare over the horizon [currency]; inf where a limit that does not
        exist has a price.

    References
    ----------
    The Lagrangian dual of (3-20) in Emeruom 2026 (the thesis) over balance and limits.
    """
    at_upper, at_lower = row_price > 0, row_price < 0
    worth = float(np.sum(row_price[at_upper] * rows.upper[at_upper]))
    worth += float(np.sum(row_price[at_lower] * rows.lower[at_lower]))
    return (agents_dual_value + worth) * period_hours
