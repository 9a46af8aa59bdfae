"""The general QP and the compiled method must agree on every mix of devices."""

import numpy as np
import pytest

from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.qp import ProsumerQP
from tests.prosumer.cases import objective, random_problem


@pytest.mark.parametrize("seed", range(30, 36))
def test_osqp_agrees(seed):
    population, period_hours, target, rho = random_problem(seed, n=4, n_periods=12)
    ours = LocalSolver(population, period_hours).dispatch(0, 4, target, rho)
    best = objective(
        population, target, rho, ours.p_kw, ours.generation_kw, ours.demand_kw,
        ours.charge_kw, ours.discharge_kw,
    )  # fmt: skip
    for i in range(4):
        qp = ProsumerQP(population, i, period_hours, rho[i])
        qp.solve(target[i] + 1.0)  # the second solve starts warm
        theirs = qp.solve(target[i])
        one = population.take(slice(i, i + 1))
        mine = objective(
            one, target[i : i + 1], rho[i : i + 1], theirs.p_kw, theirs.generation_kw,
            theirs.demand_kw, theirs.charge_kw, theirs.discharge_kw,
        )  # fmt: skip
        np.testing.assert_allclose(mine, best[i], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(theirs.p_kw[0], ours.p_kw[i], rtol=0, atol=2e-3)
