"""Compiled closed forms of generation and elastic demand (thesis 3-7, 3-10)."""

from __future__ import annotations

import math

from raygrid.prosumer.compiled import inner


@inner
def demand_response(
    curvature: float, pull: float, omega: float, delta: float, lowest: float, highest: float
) -> float:
    """Argmin over y of ``delta y - omega log(1 + y) + curvature/2 y^2 - pull y`` in a box.

    Its stationarity is quadratic in 1 + y; the root is taken in the form without
    cancellation, which also covers curvature = 0 and omega = 0.
    """
    half = curvature + pull - delta
    root = math.sqrt(half * half + 4.0 * curvature * omega)
    if half > 0.0:
        y = (half + root) / (2.0 * curvature) - 1.0
    elif omega > 0.0:
        y = 2.0 * omega / (root - half) - 1.0
    else:
        y = lowest
    return min(max(y, lowest), highest)


@inner
def device_response(
    need: float,
    rho: float,
    alpha: float,
    beta: float,
    omega: float,
    delta: float,
    x_min: float,
    x_max: float,
    y_min: float,
    y_max: float,
) -> tuple[float, float]:
    """Generation and elastic demand that answer a target (thesis 3-7, 3-10).

    Argmin over (x, y) in their box of
    ``alpha x^2 + beta x - omega log(1+y) + delta y + rho/2 (x - y - need)^2``, with ``need``
    the target plus fixed load minus the battery's net discharge. Exact also for alpha = 0.
    """
    if y_max <= y_min:
        x = (rho * (need + y_min) - beta) / (2.0 * alpha + rho)
        return min(max(x, x_min), x_max), y_min
    y = demand_response(rho, rho * (x_min - need), omega, delta, y_min, y_max)
    if x_max <= x_min or rho * (x_min - y - need) >= -(beta + 2.0 * alpha * x_min):
        return x_min, y
    y = demand_response(rho, rho * (x_max - need), omega, delta, y_min, y_max)
    if rho * (x_max - y - need) <= -(beta + 2.0 * alpha * x_max):
        return x_max, y
    # x is interior: eliminating it leaves a problem in y with less curvature
    curvature = rho * (2.0 * alpha / (2.0 * alpha + rho))
    pull = -(curvature * need + rho * beta / (2.0 * alpha + rho))
    y = demand_response(curvature, pull, omega, delta, y_min, y_max)
    gap = (pull - curvature * y) / rho
    x = min(max(need + y + gap, x_min), x_max)
    if omega == 0.0:  # with alpha = 0 too, y may have to take what x cannot
        y = min(max(x - need - gap, y_min), y_max)
    return x, y
