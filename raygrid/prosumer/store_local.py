"""Local problems and values of EVs and shiftable loads, in compiled batches."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import frozen_view
from raygrid.prosumer.dispatch import StoreDispatch
from raygrid.prosumer.store_path import (
    DETAIL_ROWS,
    LIMIT_ROWS,
    PATH_ROWS,
    PIECE_ROWS,
    piece_columns,
    solve_store_rows,
    store_dual_rows,
)
from raygrid.prosumer.stores import Stores, kernel_stores

NEARLY_LINEAR = 1e-7
"""Curvature, over prices and powers, with which prices alone choose a store's path: what is lost
by it is of second order, and of the dual value nothing is: any values give a bound."""


def solve_stores(
    stores: Stores,
    period_hours: float,
    target_kw: FloatArray,
    rho: FloatArray,
    out_p_kw: FloatArray,
) -> int:
    """Net injections that solve the local problems of some stores.

    ``min cycle_cost (c + d) + rho_i/2 |d - c - a|^2`` within what their stays allow (the storage
    of thesis 3-11 to 3-15 with limits of each period). The answer depends on the problem alone.

    Parameters
    ----------
    stores : Stores
        M stores.
    period_hours : float
        dt [h].
    target_kw : (M, T) float64
        Targets a_i [kW].
    rho : (M,) float64
        Penalties rho_i [currency/kW^2/h], positive.
    out_p_kw : (M, T) float64
        Receives d - c [kW]; C-contiguous and writeable.

    Returns
    -------
    int
        How many of them charge and discharge at once in some period (very negative prices).
    """
    return _run(stores, period_hours, target_kw, rho, out_p_kw, np.empty((DETAIL_ROWS, 0, 0)))


def dispatch_stores(
    stores: Stores, period_hours: float, target_kw: FloatArray, rho: FloatArray
) -> StoreDispatch:
    """The same solution with charge, discharge, energy and value; as `solve_stores`."""
    detail = np.empty((DETAIL_ROWS, *target_kw.shape))
    _run(stores, period_hours, target_kw, rho, np.empty(target_kw.shape), detail)
    return StoreDispatch(stores.owner, stores.kind, *detail)


def store_dual_value(
    stores: Stores,
    price_per_kwh: FloatArray,
    stored_value_per_kwh: FloatArray,
    period_hours: float,
) -> FloatArray:
    """Upper bound on each store's ``max sum_t lambda (d - c) - cycle_cost (c + d)``.

    Its energy balance is dualised with the given values mu, any of which give a valid bound.

    Parameters
    ----------
    stores : Stores
        M stores.
    price_per_kwh : (M, T) float64
        Price lambda at each store's bus [currency/kWh].
    stored_value_per_kwh : (M, T) float64
        Value mu of a stored kWh [currency/kWh].
    period_hours : float
        dt [h].

    Returns
    -------
    (M,) float64
        Rates summed over the periods [currency/h]; dt times them is money.
    """
    rates = np.empty(len(stores))
    store_dual_rows(
        frozen_view(price_per_kwh), frozen_view(stored_value_per_kwh), period_hours,
        *kernel_stores(stores), np.empty((LIMIT_ROWS, price_per_kwh.shape[1])), rates,
    )  # fmt: skip
    return rates


def best_store_value(stores: Stores, price_per_kwh: FloatArray, period_hours: float) -> FloatArray:
    """The most that each store gains at given prices, or a bound a hair above it.

    Parameters and result as of `store_dual_value`, whose values are here those of the best path.
    """
    top = np.abs(price_per_kwh).max(axis=1) + stores.cycle_cost_per_kwh
    power = stores.charge_max_kw + stores.discharge_max_kw
    rho = NEARLY_LINEAR * np.where(top > 0, top, 1.0) / np.where(power > 0, power, 1.0)
    path = dispatch_stores(stores, period_hours, price_per_kwh / rho[:, None], rho)
    return store_dual_value(stores, price_per_kwh, path.stored_value_per_kwh, period_hours)


def _run(
    stores: Stores,
    period_hours: float,
    target_kw: FloatArray,
    rho: FloatArray,
    out_p_kw: FloatArray,
    detail: FloatArray,
) -> int:
    n_periods = target_kw.shape[1]
    return solve_store_rows(
        frozen_view(target_kw),
        frozen_view(rho),
        period_hours,
        *kernel_stores(stores),
        out_p_kw,
        detail,
        np.empty((LIMIT_ROWS, n_periods)),
        np.empty((PATH_ROWS, n_periods)),
        np.empty((PIECE_ROWS, piece_columns(n_periods))),
        np.empty((DETAIL_ROWS, n_periods)),
    )
