"""Local problems of a population, solved in compiled batches (thesis 4-5)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.prosumer.compiled import frozen_view
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.kernels import WORK_ROWS, solve_rows
from raygrid.prosumer.limits import check_terminal_charge
from raygrid.prosumer.population import Prosumers
from raygrid.prosumer.storage_path import OPTIMAL, SIMULTANEOUS, UNREACHABLE
from raygrid.prosumer.stored_value import AXIS_SIZE, UNIT_SIZE
from raygrid.prosumer.units import kernel_profiles, kernel_units


class SolveFlag(IntEnum):
    """How a prosumer's last local problem ended."""

    OPTIMAL = OPTIMAL
    SIMULTANEOUS = SIMULTANEOUS
    UNREACHABLE = UNREACHABLE


class LocalSolver:
    """Solves ``min f_i(p_i) + rho_i/2 |p_i - a_i|^2`` for every prosumer, in compiled batches.

    Without storage each period has a closed form; a battery's path is found by the exact
    method of `raygrid.prosumer.storage_path`, whatever devices stand beside it. The search
    starts from the path that the prosumer's last `solve` found, so its last bits depend on
    what it was asked before, but never on the rows it is solved with; calls on disjoint rows
    may run in threads at once.

    Parameters
    ----------
    population : Prosumers
        The prosumers; profiles are not copied where they are contiguous float64.
    period_hours : float
        Period length dt [h].

    Raises
    ------
    InputError
        If the period length is not positive or a terminal charge is out of reach.
    """

    def __init__(self, population: Prosumers, period_hours: float) -> None:
        if not (np.isfinite(period_hours) and period_hours > 0):
            raise InputError(
                f"period length {period_hours} h", "period_hours", "give a positive length"
            )
        self.population = population
        self.period_hours = float(period_hours)
        check_terminal_charge(population, period_hours, "population")
        self._units = kernel_units(population)
        self._flags = np.zeros(len(population), dtype=np.uint8)
        self._battery = np.cumsum(population.has_battery, dtype=np.int64) - 1
        n_batteries = int(np.count_nonzero(population.has_battery))
        self._turn = np.zeros(n_batteries, dtype=np.uint8)
        self._kept_ends = np.zeros((n_batteries, 2, population.n_periods), dtype=np.int8)
        self._kept_levels = np.zeros(self._kept_ends.shape, dtype=np.float32)

    def solve(
        self,
        start: int,
        stop: int,
        target_kw: FloatArray,
        rho: FloatArray,
        out_p_kw: FloatArray,
    ) -> None:
        """Net injections that solve the local problems of rows start:stop, and keep their paths.

        Releases the GIL; no Python runs per prosumer.

        Parameters
        ----------
        start, stop : int
            Population rows, 0 <= start <= stop <= N.
        target_kw : (n, T) float64
            Targets a_i [kW], n = stop - start.
        rho : (n,) float64
            Penalties rho_i = rho / w_i [currency/kW^2/h], positive.
        out_p_kw : (n, T) float64
            Receives p_i [kW]; C-contiguous and writeable.

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        self._run(start, stop, target_kw, rho, out_p_kw, np.empty((6, 0, target_kw.shape[1])))

    def dispatch(self, start: int, stop: int, target_kw: FloatArray, rho: FloatArray) -> Dispatch:
        """The same solution with all device powers.

        Starts from where the last `solve` of these rows started from, so that the same targets
        give the same bits, and keeps nothing.

        Parameters
        ----------
        start, stop : int
            Population rows.
        target_kw : (n, T) float64
            Targets a_i [kW].
        rho : (n,) float64
            Penalties rho_i [currency/kW^2/h].

        Returns
        -------
        Dispatch
            Powers, state of charge and the value mu of a stored kWh, the multiplier of (3-11);
            where stationarity leaves mu an interval, one value of it.
        """
        n, n_periods = stop - start, self.population.n_periods
        p_kw = np.empty((n, n_periods))
        detail = np.empty((6, n, n_periods))
        self._run(start, stop, target_kw, rho, p_kw, detail)
        return Dispatch(p_kw, *detail)

    def simultaneous_count(self, start: int = 0, stop: int | None = None) -> int:
        """How many prosumers' last solution charges and discharges at once in some period.

        That is the true optimum of the convex model where energy must be destroyed, which
        happens only at very negative prices (stored value below ``-2 cycle_cost /
        (1/eta_discharge - eta_charge)``); it is reported since no battery would do it.

        Parameters
        ----------
        start, stop : int
            Population rows; all by default.
        """
        return int(np.count_nonzero(self._flags[start:stop] == SolveFlag.SIMULTANEOUS))

    def _run(
        self,
        start: int,
        stop: int,
        target_kw: FloatArray,
        rho: FloatArray,
        out_p_kw: FloatArray,
        detail: FloatArray,
    ) -> None:
        shape = (stop - start, self.population.n_periods)
        if not 0 <= start <= stop <= len(self.population):
            raise ValueError(f"rows {start}:{stop} of a population of {len(self.population)}")
        if target_kw.shape != shape or out_p_kw.shape != shape or rho.shape != shape[:1]:
            raise ValueError(
                f"target {target_kw.shape}, out {out_p_kw.shape}, rho {rho.shape} "
                f"for rows x periods {shape}"
            )
        if out_p_kw.dtype != np.float64 or not out_p_kw.flags.c_contiguous:
            raise ValueError("out_p_kw must be C-contiguous float64")
        part = slice(start, stop)
        solve_rows(
            frozen_view(target_kw),
            frozen_view(rho),
            self.period_hours,
            self._units[part],
            *kernel_profiles(self.population, start, stop),
            out_p_kw,
            detail,
            self._flags[part],
            self._battery[part],
            self._turn,
            self._kept_ends,
            self._kept_levels,
            np.empty(UNIT_SIZE),
            np.empty((6, AXIS_SIZE)),
            np.empty((WORK_ROWS, shape[1])),
        )
