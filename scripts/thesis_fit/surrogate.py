"""Both markets with the batteries' schedules given: separate periods, a fifth of a millisecond.

The search judges its moves by it; what it keeps is solved in full.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from raygrid.arrays import FloatArray, IntArray
from scripts.thesis_fit.community import N_PERIODS, P_MAX, generation_shape, unit_values
from scripts.thesis_fit.figures import Market

EVENING, MIDDAY = slice(18, 22), slice(11, 14)
MONITORED = 0.7
"""Lines above this use without limits are enforced with limits."""


@nb.njit(cache=True)
def _largest(values: FloatArray) -> float:
    largest = 1e-300
    for value in values:
        largest = max(largest, abs(value))
    return largest


@nb.njit(cache=True)
def _solve_in_place(matrix: FloatArray, right: FloatArray) -> None:
    """Gaussian elimination with row pivots; the solution is left in `right`."""
    n = len(right)
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(matrix[i, k]) > abs(matrix[pivot, k]):
                pivot = i
        if pivot != k:
            for j in range(k, n):
                matrix[k, j], matrix[pivot, j] = matrix[pivot, j], matrix[k, j]
            right[k], right[pivot] = right[pivot], right[k]
        top = matrix[k, k] if abs(matrix[k, k]) > 1e-12 else 1e-12
        for i in range(k + 1, n):
            share = matrix[i, k] / top
            if share != 0.0:
                for j in range(k, n):
                    matrix[i, j] -= share * matrix[k, j]
                right[i] -= share * right[k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            right[k] -= matrix[k, j] * right[j]
        right[k] /= matrix[k, k] if abs(matrix[k, k]) > 1e-12 else 1e-12


@nb.njit(cache=True)
def _clear(
    alpha: FloatArray,
    beta: FloatArray,
    omega: FloatArray,
    delta: FloatArray,
    x_cap: FloatArray,
    y_cap: FloatArray,
    battery: FloatArray,
    of_seller: FloatArray,
    of_buyer: FloatArray,
    limit: FloatArray,
    x: FloatArray,
    y: FloatArray,
    price_out: FloatArray,
) -> float:
    """Semismooth Newton on the price and the line multipliers, each period from the last one."""
    n_s, n_b, n_l = len(alpha), len(omega), len(limit)
    size = 1 + n_l
    worst = 0.0
    nu = 0.06
    m = np.zeros(n_l)
    jacobian, value, flow = np.zeros((size, size)), np.zeros(size), np.zeros(n_l)
    for t in range(N_PERIODS):
        error = 1.0
        for step in range(80):
            # Row 0 of the Jacobian and of `value` is the balance, row 1 + k line k's flow.
            jacobian[:] = 0.0
            value[:] = 0.0
            flow[:] = 0.0
            for i in range(n_s + n_b):
                sells = i < n_s
                at = of_seller[i] if sells else of_buyer[i - n_s]
                price = nu
                for k in range(n_l):
                    price -= m[k] * at[k]
                slope = 1e-5
                if sells:
                    wish = (price - beta[i]) / (2.0 * alpha[i])
                    x[i, t] = min(max(wish, 0.0), x_cap[t])
                    p = x[i, t] + battery[i, t]
                    if 0.0 < wish < x_cap[t]:
                        slope += 0.5 / alpha[i]
                else:
                    j = i - n_s
                    margin = max(price + delta[j], 1e-3)
                    wish = omega[j] / margin - 1.0
                    y[j, t] = min(max(wish, 0.0), y_cap[j, t])
                    p = -y[j, t]
                    if 0.0 < wish < y_cap[j, t]:
                        slope += omega[j] / (margin * margin)
                value[0] += p
                jacobian[0, 0] += slope
                for k in range(n_l):
                    flow[k] += at[k] * p
                    weight = slope * at[k]
                    jacobian[0, 1 + k] -= weight
                    jacobian[1 + k, 0] += weight
                    for other in range(n_l):
                        jacobian[1 + k, 1 + other] -= weight * at[other]
            for k in range(n_l):
                up = m[k] + 1e-2 * (flow[k] - limit[k]) > 0.0
                down = m[k] + 1e-2 * (flow[k] + limit[k]) < 0.0
                if up or down:
                    value[1 + k] = flow[k] - limit[k] if up else flow[k] + limit[k]
                else:
                    value[1 + k] = m[k]
                    jacobian[1 + k] = 0.0
                    jacobian[1 + k, 1 + k] = 1.0
            error = _largest(value)
            if error < 1e-6:
                break
            _solve_in_place(jacobian, value)
            damp = min(1.0, 0.03 / _largest(value)) * (1.0 if step < 25 else 0.5)
            nu -= damp * value[0]
            for k in range(n_l):
                m[k] -= damp * value[1 + k]
        price_out[t] = nu
        worst = max(worst, error)
    return worst


@nb.njit(cache=True)
def _measure(
    alpha: FloatArray,
    beta: FloatArray,
    gamma: float,
    omega: FloatArray,
    delta: FloatArray,
    x: FloatArray,
    y: FloatArray,
    battery: FloatArray,
    cycle_cost: float,
    of_seller: FloatArray,
    of_buyer: FloatArray,
    limit: FloatArray,
) -> tuple[float, float, float, FloatArray, FloatArray]:
    """Welfare, energy, value at (5-2), energy of each seller, use of each line."""
    welfare = -N_PERIODS * gamma * len(alpha) - cycle_cost * np.abs(battery).sum()
    value = 0.0
    for t in range(N_PERIODS):
        marginal = sold = bought = 0.0
        for i in range(len(alpha)):
            welfare -= (alpha[i] * x[i, t] + beta[i]) * x[i, t]
            marginal += (2.0 * alpha[i] * x[i, t] + beta[i]) * x[i, t]
            sold += x[i, t]
        for j in range(len(omega)):
            welfare += omega[j] * np.log1p(y[j, t]) - delta[j] * y[j, t]
            bought += y[j, t]
        value += marginal / max(sold, 1e-9) * bought
    flow = of_seller @ (x + battery) - of_buyer @ y
    use = np.empty(len(limit))
    for k in range(len(limit)):
        use[k] = np.abs(flow[k]).max() / limit[k]
    return welfare, y.sum(), value, x.sum(axis=1), use


@nb.njit(cache=True)
def _both(
    scalars: FloatArray,
    rank: IntArray,
    rows: FloatArray,
    of_seller: FloatArray,
    of_buyer: FloatArray,
    limit: FloatArray,
    battery_free: FloatArray,
    battery_limited: FloatArray,
    cycle_cost: float,
) -> tuple[
    float,
    float,
    tuple[float, float, float, FloatArray, FloatArray],
    tuple[float, float, float, FloatArray, FloatArray],
]:
    """Largest error, price ratio with batteries at rest, and both markets' measures."""
    n_s, n_b = of_seller.shape[1], of_buyer.shape[1]
    alpha, beta, omega, delta, y_cap = unit_values(scalars, rank, rows, n_b)
    x_cap = P_MAX * generation_shape(scalars[6], scalars[7])
    x, y = np.zeros((n_s, N_PERIODS)), np.zeros((n_b, N_PERIODS))
    price = np.zeros(N_PERIODS)
    none = np.zeros((n_s, 0)), np.zeros((n_b, 0)), np.zeros(0)
    rest = np.zeros((n_s, N_PERIODS))
    _clear(alpha, beta, omega, delta, x_cap, y_cap, rest, *none, x, y, price)
    ratio = price[EVENING].mean() / max(price[MIDDAY].mean(), 1e-3)
    error = _clear(alpha, beta, omega, delta, x_cap, y_cap, battery_free, *none, x, y, price)
    gamma = scalars[3]
    free = _measure(
        alpha, beta, gamma, omega, delta, x, y, battery_free, cycle_cost, of_seller, of_buyer, limit
    )
    on = np.flatnonzero(free[4] > MONITORED)
    error = max(
        error,
        _clear(
            alpha,
            beta,
            omega,
            delta,
            x_cap,
            y_cap,
            battery_limited,
            np.ascontiguousarray(of_seller[on].T),
            np.ascontiguousarray(of_buyer[on].T),
            limit[on],
            x,
            y,
            price,
        ),
    )
    limited = _measure(
        alpha,
        beta,
        gamma,
        omega,
        delta,
        x,
        y,
        battery_limited,
        cycle_cost,
        of_seller,
        of_buyer,
        limit,
    )
    return error, ratio, free, limited


def clear_quickly(
    scalars: FloatArray,
    cost_rank: IntArray,
    rows: FloatArray,
    seller_ptdf: FloatArray,
    buyer_ptdf: FloatArray,
    limit_kw: FloatArray,
    batteries_kw: tuple[FloatArray, FloatArray],
    cycle_cost: float,
) -> tuple[float, Market, Market] | None:
    """Both markets with given batteries; None where Newton fails.

    Parameters
    ----------
    scalars : (10,) float64
        Values of `SCALARS`.
    cost_rank : (S,) int64
        Rank of each seller's cost.
    rows : (5, 3) float64
        The printed buyers.
    seller_ptdf, buyer_ptdf : (L, S), (L, J) float64
        PTDF columns of the agents' buses.
    limit_kw : (L,) float64
        Line limits [kW].
    batteries_kw : pair of (S, T) float64
        Net discharge of the sellers' batteries without and with limits [kW].
    cycle_cost : float
        Cost of a kWh charged or discharged.

    Returns
    -------
    ratio : float
        Evening over midday price without limits and with batteries at rest: what storage lives on.
    free, limited : Market
        The two markets.
    """
    error, ratio, free, limited = _both(
        scalars, cost_rank, rows, seller_ptdf, buyer_ptdf, limit_kw, *batteries_kw, cycle_cost
    )
    if not error < 1e-3:
        return None
    return ratio, Market(*free), Market(*limited)
