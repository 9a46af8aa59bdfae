"""The compiled loop over a population's rows.

Every prosumer is computed on its own with scalar arithmetic, so its bits depend on what it
was asked before, but not on the batch it travels in.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.compiled import compiled_in_place
from raygrid.prosumer.devices import device_response
from raygrid.prosumer.storage_path import SCRATCH_SIZE, EndArray, LevelArray, solve_storage

N_OUT = 5
"""Rows of the work space for a battery's need, charge, discharge, state of charge and value."""
WORK_ROWS = N_OUT + SCRATCH_SIZE


@compiled_in_place
def solve_rows(
    target: FloatArray,
    rho: FloatArray,
    period_hours: float,
    units: FloatArray,
    x_min: FloatArray,
    x_max: FloatArray,
    y_min: FloatArray,
    y_max: FloatArray,
    fixed_load: FloatArray,
    out_p: FloatArray,
    detail: FloatArray,
    flags: np.ndarray[tuple[int], np.dtype[np.uint8]],
    battery: IntArray,
    turn: np.ndarray[tuple[int], np.dtype[np.uint8]],
    kept_ends: EndArray,
    kept_levels: LevelArray,
    unit: FloatArray,
    axis: FloatArray,
    scratch: FloatArray,
) -> None:
    """Solve the local problems of n prosumers.

    Parameters
    ----------
    target : (n, T) float64
        ADMM targets a [kW].
    rho : (n,) float64
        Penalties rho_i.
    period_hours : float
        dt [h].
    units : (n, 14) float64
        Scalar parameters, columns as `raygrid.prosumer.units.KERNEL_COLUMNS`.
    x_min, x_max, y_min, y_max, fixed_load : (n, T) float64
        Profiles [kW].
    out_p : (n, T) float64
        Receives the net injections [kW].
    detail : (6, n, T) or (6, 0, T) float64
        Receives generation, demand, charge, discharge, state of charge and stored value,
        where n rows are given. A battery's path then starts from where the last call without
        detail started from, which gives its bits again; otherwise from that call's path.
    flags : (n,) uint8
        Receives a `SolveFlag` per row.
    battery : (n,) int64
        Number of a row's battery, where it has one.
    turn : (M,) uint8
        Which of a battery's two kept paths is the newer.
    kept_ends, kept_levels : (M, 2, T) int8 and float32
        The paths of each battery's last two solutions without detail, as
        `raygrid.prosumer.storage_path.solve_storage` writes them.
    unit, axis, scratch : (UNIT_SIZE,), (6, AXIS_SIZE), (WORK_ROWS, T) float64
        Work space of this call.
    """
    n, n_periods = target.shape
    want_detail = detail.shape[1] > 0
    need, charge, discharge, soc, value = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    for i in range(n):
        alpha, beta, omega, delta = units[i, 0], units[i, 1], units[i, 2], units[i, 3]
        has_battery = units[i, 8] > 0.0 or units[i, 9] > 0.0
        for t in range(n_periods):
            need[t] = target[i, t] + fixed_load[i, t]
        if has_battery:
            k = battery[i]
            old = 1 - turn[k] if want_detail else int(turn[k])
            flags[i] = solve_storage(
                need, rho[i], period_hours, units[i], x_min[i], x_max[i], y_min[i], y_max[i],
                charge, discharge, soc, value, kept_ends[k, old], kept_levels[k, old],
                not want_detail, kept_ends[k, 1 - old], kept_levels[k, 1 - old],
                unit, axis, scratch[N_OUT:],
            )  # fmt: skip
            if not want_detail:
                turn[k] = 1 - old
        for t in range(n_periods):
            net = discharge[t] - charge[t] if has_battery else 0.0
            x, y = device_response(
                need[t] - net, rho[i], alpha, beta, omega, delta,
                x_min[i, t], x_max[i, t], y_min[i, t], y_max[i, t],
            )  # fmt: skip
            out_p[i, t] = x - y - fixed_load[i, t] + net
            if want_detail:
                detail[0, i, t] = x
                detail[1, i, t] = y
                if has_battery:
                    detail[2, i, t] = charge[t]
                    detail[3, i, t] = discharge[t]
                    detail[4, i, t] = soc[t]
                    detail[5, i, t] = value[t]
                else:
                    detail[2, i, t] = 0.0
                    detail[3, i, t] = 0.0
                    detail[4, i, t] = units[i, 6]
                    detail[5, i, t] = 0.0
