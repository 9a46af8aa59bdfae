"""What a stored kilowatt-hour is worth by the time of day: the opportunity price of the stores.

Two stores of the same energy are not worth the same: a battery that is full at noon only saves
feeding in, at midnight it saves buying. The prices are the multipliers of the cheapest operation
of all stores together with the whole of the training days known, averaged over the days. They
shape what bidders learn from and value what a stretch of days leaves in the stores; no bidder
sees them, and no later day takes part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.market.units import N_SLOTS, Feed, Slot, Units

UNMET_PRICES = 10.0
"""Price of what a need lacks, over the highest import price."""


@dataclass(frozen=True)
class _Pools:
    """Stores of one kind as one; K periods, G pools."""

    charge_kw: FloatArray
    discharge_kw: FloatArray
    floor_kwh: FloatArray
    used_kwh: FloatArray
    room_kwh: FloatArray
    eta_charge: FloatArray
    eta_discharge: FloatArray
    cycle_cost_per_kwh: FloatArray


def opportunity_price(units: Units, feed: Feed, days: IntArray) -> FloatArray:
    """(P, N, 3) value of a kWh in each store when a period of the day begins [currency/kWh].

    Parameters
    ----------
    units, feed
        The prosumers and their days.
    days : (D,) int64
        Days that are known; taken as a row that begins anew after its end.

    Raises
    ------
    InputError
        If the problem has no solution, as with power limits that are not finite.
    """
    start = np.asarray(days, dtype=np.int64)[:, None] * feed.day_periods
    k = (start + np.arange(feed.day_periods)).ravel()
    exists = units.max_kwh - units.min_kwh > 0
    gives = (feed.discharge_max_kw[k] > 0).any(axis=0)
    value = np.zeros((feed.day_periods, len(units), N_SLOTS))
    groups = [
        mask
        for slot in Slot
        for can_give in (False, True)
        if (mask := exists & (gives == can_give) & (np.arange(N_SLOTS) == slot)).any()
    ]
    if groups:
        of_group = _multipliers(_pooled(units, feed, k, groups), feed, k)
        for mask, price in zip(groups, of_group.T, strict=True):
            by_day = price.reshape(len(start), -1).mean(axis=0)
            value[:, mask] = by_day[:, None]
    return value


def _pooled(units: Units, feed: Feed, k: IntArray, groups: list[FloatArray]) -> _Pools:
    """Sums over the members of each group; efficiencies and wear weighted by their room."""
    room = units.max_kwh - units.min_kwh

    def total(values: FloatArray) -> FloatArray:
        return np.stack([values[..., mask].sum(axis=-1) for mask in groups], axis=-1)

    def mean(values: FloatArray) -> FloatArray:
        return total(values * room) / total(room)

    return _Pools(
        total(feed.charge_max_kw[k]),
        total(feed.discharge_max_kw[k]),
        total(np.maximum(feed.floor_kwh[k] - units.min_kwh, 0.0)),
        total(feed.used_kwh[k]),
        total(room),
        mean(units.eta_charge),
        mean(units.eta_discharge),
        mean(units.cycle_cost_per_kwh),
    )


def _multipliers(pools: _Pools, feed: Feed, k: IntArray) -> FloatArray:
    """(K, G) multipliers of the energy balances of the cheapest operation [currency/kWh].

    ``min sum_t h (buy imp - sell exp + wear (c + d)) + unmet`` subject to
    ``e(t) = e(t-1) - used(t) + h (eta_c c - d / eta_d)`` with e(-1) = e(K-1), the floors but for
    what is unmet, and ``imp - exp = load - pv + c - d``.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    hours = feed.period_hours
    n_periods, n_pools = pools.charge_kw.shape
    n = n_periods * n_pools
    buy, sell = feed.import_price_per_kwh[k], feed.export_price_per_kwh[k]

    def each(values: FloatArray) -> FloatArray:
        return np.tile(values, n_periods)

    eye = sparse.identity(n, format="csr")
    before = sparse.kron(
        sparse.csr_matrix(np.roll(np.eye(n_periods), 1, axis=0))
        if n_periods < 3
        else sparse.diags([1.0, 1.0], [-1, n_periods - 1], shape=(n_periods, n_periods)),
        sparse.identity(n_pools),
    )
    nothing, alone = sparse.csr_matrix((n, n_periods)), sparse.identity(n_periods)
    balance = sparse.hstack(
        [
            -sparse.diags(each(pools.eta_charge) * hours),
            sparse.diags(hours / each(pools.eta_discharge)),
            eye - before, sparse.csr_matrix((n, n)), nothing, nothing,
        ]
    )  # fmt: skip
    total = sparse.kron(alone, np.ones((1, n_pools)))
    grid = sparse.hstack([-total, total, sparse.csr_matrix((n_periods, 2 * n)), alone, -alone])
    floors = sparse.hstack(
        [sparse.csr_matrix((n, 2 * n)), -eye, -eye, nothing, nothing], format="csr"
    )
    wear = each(pools.cycle_cost_per_kwh) * hours
    lacking = np.full(n, UNMET_PRICES * max(float(buy.max()), 1e-6))
    upper = np.concatenate(
        [
            pools.charge_kw.ravel(), pools.discharge_kw.ravel(), each(pools.room_kwh),
            np.full(n + 2 * n_periods, np.inf),
        ]
    )  # fmt: skip
    solved = linprog(
        np.concatenate([wear, wear, np.zeros(n), lacking, buy * hours, -sell * hours]),
        A_ub=floors,
        b_ub=-pools.floor_kwh.ravel(),
        A_eq=sparse.vstack([balance, grid], format="csr"),
        b_eq=np.concatenate(
            [-pools.used_kwh.ravel(), (feed.load_kw[k] - feed.pv_kw[k]).sum(axis=1)]
        ),
        bounds=np.stack([np.zeros(len(upper)), upper], axis=1),
        method="highs",
    )
    if solved.status != 0:
        raise InputError(
            f"the value of stored energy has no solution: {solved.message}",
            "intraday",
            "check the stores' powers and needs",
        )
    return np.asarray(-solved.eqlin.marginals[:n].reshape(n_periods, n_pools))
