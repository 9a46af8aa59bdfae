"""One prosumer's local problem as a general QP for OSQP, with the log utility by Newton steps.

The reference beside the compiled methods, and the place to add a device that they do not
know: every device is a block of variables and rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import EndedShortError
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import Population

MAX_NEWTON_STEPS = 50


class ProsumerQP:
    """Local problem of one prosumer, set up once and solved warm for ever new targets.

    Variables are generation, elastic demand, charge, discharge and the state of charge at
    each period's end, T of each; a device that never moves is left out. The utility
    omega log(1 + y) is replaced by its second-order model at the last y until y stands still;
    the model's minimiser is followed by a line search on the true objective, which is convex,
    so that the steps converge.

    Parameters
    ----------
    population : Population
        Holds the prosumer.
    row : int
        Its row.
    period_hours : float
        dt [h].
    rho : float
        Penalty rho_i [currency/kW^2/h].
    tolerance : float
        Absolute and relative tolerance of OSQP, and of y between Newton steps [kW].
    polishing : bool
        Whether OSQP polishes its solutions.
    """

    def __init__(
        self,
        population: Population,
        row: int,
        period_hours: float,
        rho: float,
        tolerance: float = 1e-8,
        polishing: bool = True,
    ) -> None:
        import osqp
        from scipy import sparse

        one = population.take(slice(row, row + 1))
        n_periods = population.n_periods
        self.one, self.rho, self.tolerance = one, rho, tolerance
        eye = sparse.identity(n_periods, format="csc")
        self._net = sparse.hstack([eye, -eye, -eye, eye, 0 * eye], format="csc")
        step = sparse.diags([1.0, -1.0], [0, -1], shape=(n_periods, n_periods))
        eta_charge, eta_discharge = one.eta_charge[0], one.eta_discharge[0]
        balance = sparse.hstack(
            [
                0 * eye,
                0 * eye,
                -period_hours * eta_charge * eye,
                period_hours / eta_discharge * eye,
                step,
            ]
        )
        start = np.zeros(n_periods)
        start[0] = one.soc_initial_kwh[0]
        flat = np.ones(n_periods)
        soc_low = one.soc_min_kwh[0] * flat
        soc_low[-1] = max(soc_low[-1], one.soc_final_min_kwh[0])
        zero = np.zeros(n_periods)
        low = [one.generation_min_kw[0], one.demand_min_kw[0], zero, zero, soc_low]
        high = [
            one.generation_limit_kw[0], one.demand_limit_kw[0],
            one.charge_max_kw[0] * flat, one.discharge_max_kw[0] * flat,
            one.soc_max_kwh[0] * flat,
        ]  # fmt: skip
        self._low, self._high = np.concatenate(low), np.concatenate(high)
        free = (self._high > self._low).reshape(5, n_periods)
        blocks = [bool(free[k].any()) or k == 4 for k in range(5)]
        self._moves = np.repeat(blocks, n_periods)
        self._fixed = np.where(self._moves, 0.0, self._low)
        self._y = one.demand_min_kw[0].copy()
        self._solver: Any = osqp.OSQP()
        rows = sparse.vstack(
            [balance, sparse.identity(5 * n_periods, format="csr")[self._moves]], format="csc"
        )
        start -= balance @ self._fixed
        self._solver.setup(
            self._hessian(self._y),
            np.zeros(int(self._moves.sum())),
            rows[:, self._moves],
            np.concatenate([start, self._low[self._moves]]),
            np.concatenate([start, self._high[self._moves]]),
            verbose=False, eps_abs=tolerance, eps_rel=tolerance, polishing=polishing,
            max_iter=200_000,
        )  # fmt: skip

    def solve(self, target_kw: FloatArray) -> Dispatch:
        """Minimise f_i(p) + rho_i/2 |p - a|^2.

        Parameters
        ----------
        target_kw : (T,) float64
            Target a [kW].

        Returns
        -------
        Dispatch
            One row; within the tolerance inside its limits, and exactly for the powers.

        Raises
        ------
        EndedShortError
            If OSQP does not solve it.
        """
        n_periods = len(target_kw)
        need = target_kw + self.one.fixed_load_kw[0]
        z = self._solve_model(self._y, need)
        for _ in range(MAX_NEWTON_STEPS if self.one.omega[0] > 0.0 else 0):
            y = z[n_periods : 2 * n_periods]
            moved = self._line_search(z, self._solve_model(y, need), need)
            stands = np.abs(moved - z)[n_periods : 2 * n_periods].max() <= 10 * self.tolerance
            z = moved
            if stands:
                break
        self._y = z[n_periods : 2 * n_periods].copy()
        x, y, charge, discharge, soc = z.reshape(5, 1, n_periods)
        p = x - y - self.one.fixed_load_kw + discharge - charge
        return Dispatch(p, x, y, charge, discharge, soc, np.zeros_like(p))

    def objective(self, z: FloatArray, need: FloatArray) -> float:
        """Local objective of the stacked variables, without the constant cost [currency/h]."""
        one = self.one
        x, y, charge, discharge, _ = z.reshape(5, -1)
        cost = one.alpha[0] * x * x + one.beta[0] * x + one.delta[0] * y
        cost = cost - one.omega[0] * np.log1p(y) + one.cycle_cost_per_kwh[0] * (charge + discharge)
        return float(np.sum(cost + self.rho / 2 * (self._net @ z - need) ** 2))

    def _hessian(self, y: FloatArray) -> Any:
        from scipy import sparse

        n_periods = len(y)
        diagonal = np.zeros(5 * n_periods)
        diagonal[:n_periods] = 2.0 * self.one.alpha[0]
        diagonal[n_periods : 2 * n_periods] = self.one.omega[0] / (1.0 + y) ** 2
        hessian = (self.rho * self._net.T @ self._net + sparse.diags(diagonal)).tocsc()
        return sparse.triu(hessian[self._moves][:, self._moves], format="csc")

    def _solve_model(self, y: FloatArray, need: FloatArray) -> FloatArray:
        one, n_periods = self.one, len(need)
        linear = -self.rho * (self._net.T @ (need - self._net @ self._fixed))
        linear[:n_periods] += one.beta[0]
        slope = one.delta[0] - one.omega[0] / (1.0 + y) - one.omega[0] * y / (1.0 + y) ** 2
        linear[n_periods : 2 * n_periods] += slope
        linear[2 * n_periods : 4 * n_periods] += one.cycle_cost_per_kwh[0]
        if one.omega[0] > 0.0:
            self._solver.update(Px=self._hessian(y).data)
        self._solver.update(q=linear[self._moves])
        result = self._solver.solve(raise_error=False)
        if result.info.status_val != 1:
            raise EndedShortError(
                f"local QP of prosumer {one.prosumer_id[0]}: {result.info.status}"
            )
        z = self._fixed.copy()
        z[self._moves] = result.x
        return np.asarray(np.clip(z, self._low, self._high))

    def _line_search(self, z: FloatArray, trial: FloatArray, need: FloatArray) -> FloatArray:
        start = self.objective(z, need)
        share = 1.0
        while share > 1e-6:
            moved = z + share * (trial - z)
            if self.objective(moved, need) <= start + 1e-14 * abs(start):
                return moved
            share /= 2
        return z
