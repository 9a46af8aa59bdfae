"""The perfect-foresight optimum of an intraday market: the bound that no way to act can beat.

One linear program over all periods, with everything that is measured known from the start: the
stores' powers within AI-TEM (3) to (5), the community's exchange with the grid at tariff. The
feeder's limits, bids and forecasts are left out, so every case's schedule is feasible in it, and
what peers pay each other cancels: the least cost is a lower bound of what any case can cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import EndedShortError
from raygrid.market.intraday import IntradayMarket

if TYPE_CHECKING:
    import scipy.sparse as sp


@dataclass(frozen=True)
class Foresight:
    """The optimum over K periods in a row.

    Attributes
    ----------
    bound : float
        No schedule costs less than this, by weak duality: it holds whatever the solver's
        accuracy [currency].
    value : float
        What the solver's schedule costs; the difference is the solver's gap [currency].
    cost, wear : (K,) float64
        Grid at tariff and wear of the stores by period, and of that the wear [currency].
    import_kwh, export_kwh : (K,) float64
        The community's exchange with the grid [kWh].
    """

    bound: float
    value: float
    cost: FloatArray
    wear: FloatArray
    import_kwh: FloatArray
    export_kwh: FloatArray


@dataclass(frozen=True)
class _Program:
    """min cost x, equal x = right, low <= x <= high; columns: charge, discharge, energy, import,
    export, in kWh of the period."""

    cost: FloatArray
    equal: sp.csr_array
    right: FloatArray
    low: FloatArray
    high: FloatArray
    wear: FloatArray
    periods: IntArray


def perfect_foresight(market: IntradayMarket, first: int, n_periods: int) -> Foresight:
    """Solve the optimum over periods in a row, from the stores' initial energy to any end.

    Parameters
    ----------
    market : IntradayMarket
        The prosumers and their feed; it is reset.
    first, n_periods : int
        Periods of the feed.

    Raises
    ------
    EndedShortError
        If the solver fails, or finds that needs cannot be met.

    References
    ----------
    AI-TEM (1) to (5), with (2) without peers' money and penalties.
    """
    from scipy.optimize import linprog

    program = _program(market, first, n_periods)
    solved = linprog(
        program.cost,
        A_eq=program.equal,
        b_eq=program.right,
        bounds=np.stack([program.low, program.high], axis=1),
        method="highs-ipm",
    )
    if solved.x is None:
        raise EndedShortError(f"the perfect-foresight optimum was not found: {solved.message}")
    n_stores = len(program.wear)
    charge, discharge, _ = solved.x[: 3 * n_stores].reshape(3, n_stores)
    imported, exported = solved.x[3 * n_stores :].reshape(2, n_periods)
    feed, k = market.feed, np.arange(first, first + n_periods)
    cost = feed.import_price_per_kwh[k] * imported - feed.export_price_per_kwh[k] * exported
    wear = np.zeros(n_periods)
    np.add.at(wear, program.periods, program.wear * (charge + discharge))
    bound = dual_bound(program, np.asarray(solved.eqlin.marginals))
    return Foresight(bound, float(solved.fun), cost + wear, wear, imported, exported)


def dual_bound(program: _Program, multiplier: FloatArray) -> float:
    """Weak duality: what no feasible x goes below, for any multipliers of the equations.

    ``b'y + sum_j min over [low_j, high_j] of (c - A'y)_j x_j``, where multipliers of balances are
    first brought between the costs of export and import, whose columns have no upper bound.
    """
    n_periods = len(program.right) - len(program.wear)
    y = np.array(multiplier, dtype=np.float64)
    price = program.cost[-2 * n_periods : -n_periods], -program.cost[-n_periods:]
    y[-n_periods:] = np.clip(y[-n_periods:], price[1], price[0])
    reduced = program.cost - program.equal.T @ y
    # Import and export have no reduced cost below zero now, but for rounding.
    reduced[-2 * n_periods :] = np.maximum(reduced[-2 * n_periods :], 0.0)
    at = np.where(reduced > 0, program.low, program.high)
    at[-2 * n_periods :] = 0.0
    return float(program.right @ y + reduced @ at)


def _program(market: IntradayMarket, first: int, n_periods: int) -> _Program:
    import scipy.sparse as sp

    units, feed, hours = market.units, market.feed, market.feed.period_hours
    k = np.arange(first, first + n_periods)
    market.reset(np.array([first]))
    start = market.energy_kwh[0]
    unit, slot = np.nonzero((feed.charge_max_kw[k] > 0).any(axis=0))
    n = len(unit)

    def by_store(values: FloatArray) -> FloatArray:
        """(n T,) of (K, N, 3), store after store."""
        return np.ascontiguousarray(values[k][:, unit, slot].T).ravel()

    def repeated(values: FloatArray) -> FloatArray:
        return np.repeat(values[unit, slot], n_periods)

    used = by_store(feed.used_kwh).reshape(n, n_periods).copy()
    used[:, 0] = -start[unit, slot]  # what was used before the first period is taken off already
    step = sp.eye_array(n_periods) - sp.eye_array(n_periods, k=-1)
    nothing = sp.csr_array((n * n_periods, 2 * n_periods))
    dynamics = sp.hstack(  # (3)
        [
            sp.diags_array(-repeated(units.eta_charge)),
            sp.diags_array(1 / repeated(units.eta_discharge)),
            sp.kron(sp.eye_array(n), step),
            nothing,
        ]
    )
    add_up = sp.kron(np.ones((1, n)), sp.eye_array(n_periods))
    one = sp.eye_array(n_periods)
    balance = sp.hstack([-add_up, add_up, sp.csr_array((n_periods, n * n_periods)), one, -one])
    net_kwh = (feed.load_kw[k] - feed.pv_kw[k]).sum(axis=1) * hours
    wear, unbounded = repeated(units.cycle_cost_per_kwh), np.full(2 * n_periods, np.inf)
    zeros = np.zeros(n * n_periods)
    floor = np.maximum(by_store(feed.floor_kwh), repeated(units.min_kwh))
    high = [by_store(feed.charge_max_kw) * hours, by_store(feed.discharge_max_kw) * hours]
    tariffs = feed.import_price_per_kwh[k], -feed.export_price_per_kwh[k]
    return _Program(
        cost=np.concatenate([wear, wear, zeros, *tariffs]),
        equal=sp.vstack([dynamics, balance]).tocsr(),
        right=np.concatenate([-used.ravel(), net_kwh]),
        low=np.concatenate([zeros, zeros, floor, np.zeros(2 * n_periods)]),
        high=np.concatenate([*high, np.maximum(repeated(units.max_kwh), floor), unbounded]),
        wear=wear,
        periods=np.tile(np.arange(n_periods), n),
    )
