"""A quick solver of the central problem for the fit: the same problem, straight to Clarabel.

`raygrid.market.central` is the reference and confirms every final figure; this one leaves out
all that the thesis cases do not have and solves one case in some tens of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import clarabel
import numpy as np
import scipy.sparse as sp

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.population import Population


@dataclass(frozen=True)
class Solution:
    """Optimum of one case with dt = 1 h.

    Attributes
    ----------
    welfare : float
        Welfare over the horizon [currency].
    generation_kw, demand_kw : (N, T) float64
        Generation and elastic demand [kW].
    p_kw : (N, T) float64
        Net injection [kW].
    """

    welfare: float
    generation_kw: FloatArray
    demand_kw: FloatArray
    p_kw: FloatArray


def solve_fast(
    population: Population, ptdf: FloatArray | None = None, limit_kw: FloatArray | None = None
) -> Solution | None:
    """Maximise welfare subject to balance and, where rows are given, |ptdf p_bus| <= limit.

    Parameters
    ----------
    population : Population
        Sellers, buyers and batteries, as thesis section 3 has them; no fixed load.
    ptdf : (M, B) float64, optional
        Rows of the lines to enforce.
    limit_kw : (M,) float64, optional
        Their limits [kW].

    Returns
    -------
    Solution or None
        None where the solver finds no optimum.
    """
    n_t = population.n_periods
    sell = np.flatnonzero(population.has_generator)
    buy = np.flatnonzero(population.has_elastic_demand)
    store = np.flatnonzero(population.has_battery)
    n_x, n_y, n_c = len(sell) * n_t, len(buy) * n_t, len(store) * n_t
    starts = np.cumsum([0, n_x, n_y, n_c, n_c, n_y])
    n = int(starts[-1])
    x, y, charge, discharge, log = (
        sp.csc_array((np.ones(b - a), (np.arange(b - a), np.arange(a, b))), shape=(b - a, n))
        for a, b in pairwise(starts)
    )
    period = sp.eye_array(n_t, format="csc")

    def add_up(members: IntArray, weight: FloatArray) -> sp.csc_array:
        return sp.kron(weight[:, members], period, format="csc")

    everyone = np.ones((1, len(population)))
    injection = [
        (x, sell, 1.0),
        (y, buy, -1.0),
        (discharge, store, 1.0),
        (charge, store, -1.0),
    ]

    def weighted(weight: FloatArray) -> sp.csc_array:
        return sum(sign * (add_up(who, weight) @ part) for part, who, sign in injection)

    build = sp.kron(sp.eye_array(len(store)), sp.csc_array(np.tril(np.ones((n_t, n_t)))))
    eta_c = np.repeat(population.eta_charge[store], n_t)
    eta_d = np.repeat(population.eta_discharge[store], n_t)
    soc = build @ (sp.diags_array(eta_c) @ charge - sp.diags_array(1 / eta_d) @ discharge)
    soc_0 = population.soc_initial_kwh[store]
    floor = np.repeat(population.soc_min_kwh[store, None], n_t, axis=1)
    floor[:, -1] = np.maximum(floor[:, -1], population.soc_final_min_kwh[store])
    upper = [
        (x, population.generation_limit_kw[sell].ravel()),
        (-x, -population.generation_min_kw[sell].ravel()),
        (y, population.demand_limit_kw[buy].ravel()),
        (-y, -population.demand_min_kw[buy].ravel()),
        (charge, np.repeat(population.charge_max_kw[store], n_t)),
        (-charge, np.zeros(n_c)),
        (discharge, np.repeat(population.discharge_max_kw[store], n_t)),
        (-discharge, np.zeros(n_c)),
        (soc, np.repeat(population.soc_max_kwh[store] - soc_0, n_t)),
        (-soc, (soc_0[:, None] - floor).ravel()),
    ]
    if ptdf is not None and limit_kw is not None:
        flow = weighted(ptdf[:, population.bus])
        bound = np.repeat(limit_kw, n_t)
        upper += [(flow, bound), (-flow, bound)]
    # Exponential cone rows (log, 1, 1 + y), interleaved per buyer and period.
    cone = sp.vstack([-log, sp.csc_array((n_y, n)), -y], format="csr")
    order = np.arange(3 * n_y).reshape(3, n_y).T.ravel()
    cone_rhs = np.repeat([[0.0, 1.0, 1.0]], n_y, axis=0).ravel()
    matrix = sp.vstack([weighted(everyone), *(row for row, _ in upper), cone[order]], format="csc")
    rhs = np.concatenate([np.zeros(n_t), *(bound for _, bound in upper), cone_rhs])
    quadratic = np.zeros(n)
    quadratic[:n_x] = 2 * np.repeat(population.alpha[sell], n_t)
    cycle = np.repeat(population.cycle_cost_per_kwh[store], n_t)
    linear = np.concatenate(
        [
            np.repeat(population.beta[sell], n_t),
            np.repeat(population.delta[buy], n_t),
            cycle,
            cycle,
            -np.repeat(population.omega[buy], n_t),
        ]
    )
    cones = [
        clarabel.ZeroConeT(n_t),
        clarabel.NonnegativeConeT(sum(len(bound) for _, bound in upper)),
        *([clarabel.ExponentialConeT()] * n_y),
    ]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(
        sp.diags_array(quadratic, format="csc"), linear, matrix, rhs, cones, settings
    ).solve()
    if str(solution.status) not in ("Solved", "AlmostSolved"):
        return None
    value = np.asarray(solution.x)
    generation, demand, p = (np.zeros((len(population), n_t)) for _ in range(3))
    generation[sell] = value[: starts[1]].reshape(-1, n_t)
    demand[buy] = value[starts[1] : starts[2]].reshape(-1, n_t)
    p[:] = generation - demand
    p[store] -= value[starts[2] : starts[3]].reshape(-1, n_t)
    p[store] += value[starts[3] : starts[4]].reshape(-1, n_t)
    welfare = -float(solution.obj_val) - n_t * float(population.gamma[sell].sum())
    return Solution(welfare, generation, demand, p)
