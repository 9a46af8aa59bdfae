"""The operator's projection onto balance and limits (thesis 4-5, 4-6), with one dual per bus."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import RaygridError
from raygrid.grid.network import NetworkRows
from raygrid.market.active_set import INFEASIBLE, STALLED, solve_limits

_IMMOVABLE = 1e-9
"""A row whose spread over the weighted buses is below this part of its size moves for nobody."""


class ProjectionStatus(StrEnum):
    """How a projection ended."""

    OK = "ok"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class RowFault:
    """Limits that contradict each other, or that nobody can move, in one period.

    Attributes
    ----------
    period : int
        Position of the period.
    rows : tuple of int
        Positions of the rows in `NetworkRows`; empty where balance alone fails.
    """

    period: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class ProjectionResult:
    """Projection of all periods, with ``pi = nu + matrix' multipliers`` at every bus.

    Attributes
    ----------
    status : ProjectionStatus
        OK, or INFEASIBLE where the rows contradict each other in some period.
    pi_kw : (B, T) float64
        Correction per unit of size weight, the scaled dual of the bus [kW]; buses without
        agents included. The locational price is -rho pi.
    nu_kw : (T,) float64
        Scaled dual of the balance [kW].
    multipliers : (M, T) float64
        Scaled duals of the rows, positive at upper and negative at lower bounds
        [kW per unit of the row's coefficients].
    z_bus_kw : (B, T) float64
        Projected net injection per bus Phat - n pi [kW].
    faults : tuple of RowFault
        Periods and rows at fault where infeasible; the other periods are valid.
    """

    status: ProjectionStatus
    pi_kw: FloatArray
    nu_kw: FloatArray
    multipliers: FloatArray
    z_bus_kw: FloatArray
    faults: tuple[RowFault, ...] = ()


class Projection:
    """Projects bus sums onto ``sum_b Z_b = 0`` and ``lower <= matrix Z <= upper``.

    Minimises ``sum_b n_b pi_b^2`` with ``Z_b = Phat_b - n_b pi_b`` per period, which is (4-6)
    summed over the agents of a bus; without rows it is the averaging (4-5). Keeps the active
    rows of each period from one call to the next.

    Parameters
    ----------
    rows : NetworkRows
        Limits on the bus injections; may be empty.
    bus_weight : (B,) float64
        Sum of the agents' size weights per bus n_b; 0 where nobody stands.

    Raises
    ------
    ValueError
        If weights are negative or all zero, or do not match the rows.

    References
    ----------
    Emeruom 2026 (the thesis), (4-5), (4-6), (4-8).
    """

    def __init__(self, rows: NetworkRows, bus_weight: FloatArray) -> None:
        weight = np.asarray(bus_weight, dtype=np.float64)
        if not (weight >= 0).all() or not weight.sum() > 0:
            raise ValueError("bus weights must not be negative, nor all of them zero")
        if rows.n_rows and rows.matrix.shape[1] != len(weight):
            raise ValueError(f"{rows.matrix.shape[1]} columns of rows for {len(weight)} buses")
        self._rows = rows
        self._weight = weight
        matrix = rows.matrix.reshape(rows.n_rows, len(weight))
        self._mean: FloatArray = matrix @ weight / weight.sum()
        spread = matrix - self._mean[:, None]
        norm = np.sqrt((spread**2 * weight).sum(axis=1))
        size = np.abs(matrix).max(axis=1, initial=0.0) * np.sqrt(weight.sum())
        movable = norm > _IMMOVABLE * size
        self._scale: FloatArray = np.where(movable, 1.0 / np.where(movable, norm, 1.0), 1.0)
        spread = np.where(movable[:, None], spread * self._scale[:, None], 0.0)
        gram = (spread * weight) @ spread.T
        self._gram: FloatArray = (gram + gram.T) / 2
        self._spread: FloatArray = spread
        self._lower: FloatArray = np.ascontiguousarray((rows.lower * self._scale[:, None]).T)
        self._upper: FloatArray = np.ascontiguousarray((rows.upper * self._scale[:, None]).T)
        self._active: IntArray = np.zeros((0, rows.n_rows), dtype=np.int64)

    @property
    def active(self) -> IntArray:
        """(T, M) active rows of the last call, 1 at the upper and -1 at the lower bound."""
        return self._active

    def start_from(self, active: NDArray[np.int8]) -> None:
        """Look for the next call's active rows from these, (T, M) as in `active`."""
        self._active = active.astype(np.int64)

    def project(self, phat_bus_kw: FloatArray) -> ProjectionResult:
        """Project all periods.

        Parameters
        ----------
        phat_bus_kw : (B, T) float64
            Sums of phat per bus [kW].

        Returns
        -------
        ProjectionResult
            Duals, multipliers and projected injections.

        Raises
        ------
        ValueError
            If an entry is not finite.
        RaygridError
            If rounding kept the method from ending.
        """
        phat = np.asarray(phat_bus_kw, dtype=np.float64)
        if not np.isfinite(phat).all():
            raise ValueError("phat_bus_kw has entries that are not finite")
        n_rows, n_periods = self._rows.n_rows, phat.shape[1]
        if len(self._active) != n_periods:
            self._active = np.zeros((n_periods, n_rows), dtype=np.int64)
        # einsum adds in an order that neither a library's choice nor its thread count changes.
        free = np.einsum("ib,bt->ti", self._spread, phat)
        limits = (self._gram, free, self._lower, self._upper)
        solution = solve_limits(*limits, self._active)
        if (solution.codes == STALLED).any():
            # A start from nothing takes another path than the one that stalled.
            self._active[:] = 0
            solution = solve_limits(*limits, self._active)
        codes, m = solution.codes, solution.multipliers
        stalled = np.flatnonzero(codes == STALLED)
        if len(stalled):
            raise RaygridError(f"the projection does not settle in periods {stalled.tolist()}")
        average = np.add.reduce(phat, axis=0) / self._weight.sum()
        pi = average + np.einsum("ib,ti->bt", self._spread, m)
        multipliers = self._scale[:, None] * m.T
        nu = average - np.einsum("i,it->t", self._mean, multipliers)
        bad = np.flatnonzero(codes == INFEASIBLE)
        faults = tuple(
            RowFault(int(t), tuple(int(i) for i in np.flatnonzero(solution.at_fault[t])))
            for t in bad
        )
        return ProjectionResult(
            status=ProjectionStatus.INFEASIBLE if faults else ProjectionStatus.OK,
            pi_kw=pi,
            nu_kw=nu,
            multipliers=multipliers,
            z_bus_kw=phat - self._weight[:, None] * pi,
            faults=faults,
        )
