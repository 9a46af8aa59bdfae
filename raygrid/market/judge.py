"""Residuals, tolerances and decisions of a clearing's rounds, from sums over all agents and buses.

Sums are whole quanta per bus, so that they do not depend on who adds up which buses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from time import perf_counter

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray, IntArray, check_range, dequantise
from raygrid.market.clearing import ClearingOptions, IterationRecord
from raygrid.market.messages import RoundDecision
from raygrid.prosumer.compiled import compiled

BALANCING_RATIO = 5.0
"""Residuals further apart than this, each over its tolerance, move rho."""
BALANCING_ROUNDS = 60
"""rho rests after this many rounds, so that fixed-rho convergence theory applies to the rest."""
BALANCING_INTERVAL = 5
"""Rounds between two looks at the residuals' ratio."""

N_SUMS = 5
"""Number of the sums over buses."""
_PER_QUANTUM = 1.0 / QUANTUM


def tolerances(
    options: ClearingOptions, n_values: int, norm: float, dual_norm: float
) -> tuple[float, float]:
    """Primal and dual tolerance of thesis 4.8 (Boyd 2011, 3.3.1).

    Parameters
    ----------
    options : ClearingOptions
        eps_abs and eps_rel.
    n_values : int
        Number of consensus values N T.
    norm : float
        max(|p|, |z|) [kW].
    dual_norm : float
        rho |u| [currency/kWh].

    Returns
    -------
    primal, dual : float
        eps_pri and eps_dual.
    """
    absolute = sqrt(n_values) * options.absolute_tolerance
    relative = options.relative_tolerance
    return absolute + relative * norm, absolute + relative * dual_norm


def bus_sums(
    weight: FloatArray, pi_kw: FloatArray, p_kw: FloatArray, phat_kw: FloatArray, z_kw: FloatArray
) -> IntArray:
    """What residuals need of some buses after a projection.

    Parameters
    ----------
    weight : (n,) float64
        Sums of size weights n_b.
    pi_kw : (n, T) float64
        Duals of this projection [kW].
    p_kw, phat_kw : (n, T) float64
        Sums of p and phat [kW].
    z_kw : (n, T) float64
        Projected injections of the projection before [kW].

    Returns
    -------
    (N_SUMS,) int64
        Sums over buses and periods of pi (p - phat), pi (phat - z), pi phat, n pi^2, and pi.

    Raises
    ------
    EndedShortError
        The numbers are too large for the sums.
    """
    sums = np.zeros(N_SUMS, dtype=np.int64)
    pi, p, phat, z = (np.ascontiguousarray(a) for a in (pi_kw, p_kw, phat_kw, z_kw))
    check_range(_add_bus_sums(np.ascontiguousarray(weight), pi, p, phat, z, sums))
    return sums


@compiled
def _add_bus_sums(
    weight: FloatArray,
    pi: FloatArray,
    p: FloatArray,
    phat: FloatArray,
    z: FloatArray,
    sums: IntArray,
) -> float:
    """Add rows as whole quanta; the sum of their magnitudes, by which a wrap is noticed."""
    magnitude = 0.0
    for b in range(pi.shape[0]):
        gap = move = size = norm = total = 0.0
        for t in range(pi.shape[1]):
            gap += pi[b, t] * (p[b, t] - phat[b, t])
            move += pi[b, t] * (phat[b, t] - z[b, t])
            size += pi[b, t] * phat[b, t]
            norm += pi[b, t] * pi[b, t]
            total += pi[b, t]
        norm *= weight[b]
        sums[0] += np.int64(np.rint(gap * _PER_QUANTUM))
        sums[1] += np.int64(np.rint(move * _PER_QUANTUM))
        sums[2] += np.int64(np.rint(size * _PER_QUANTUM))
        sums[3] += np.int64(np.rint(norm * _PER_QUANTUM))
        sums[4] += np.int64(np.rint(total * _PER_QUANTUM))
        magnitude += abs(gap) + abs(move) + abs(size) + norm + abs(total)
    return magnitude


@dataclass(frozen=True)
class Verdict:
    """What becomes of a round.

    Attributes
    ----------
    decision : RoundDecision
        Whether another round is needed.
    record : IterationRecord
        Residuals.
    rescale : float
        Last round's penalty over the next one's.
    price_sum_per_kwh : float
        Sum of the locational prices over buses and periods [currency/kWh].
    """

    decision: RoundDecision
    record: IterationRecord
    rescale: float
    price_sum_per_kwh: float


class RoundJudge:
    """Knows rho, the number of the round, and when rounds end.

    Parameters
    ----------
    options : ClearingOptions
        Settings.
    n_values : int
        Number of consensus values N T.

    Attributes
    ----------
    iteration : int
        Rounds so far, and number of the open one.
    rho : float
        Penalty of the open round.
    tightening : float
        Product of the factors by which tolerances were tightened.
    """

    def __init__(self, options: ClearingOptions, n_values: int) -> None:
        self.options = options
        self._n_values = n_values
        self.rho = options.rho
        self.iteration = 0
        self.tightening = 1.0
        self._started = perf_counter()

    def restart_clock(self) -> None:
        """Count the rounds' seconds from now on."""
        self._started = perf_counter()

    def decide(
        self, norm_quanta: IntArray, sum_quanta: IntArray, all_fresh: bool = True
    ) -> Verdict:
        """Residuals (4-9) to (4-11) of a round whose projection was feasible, and what follows.

        Parameters
        ----------
        norm_quanta : (4,) int64
            Sums over the agents, see `Aggregate`.
        sum_quanta : (N_SUMS,) int64
            Sums over the buses, see `bus_sums`.
        all_fresh : bool
            Whether all sums are of the open round; else nothing counts as converged.
        """
        self.iteration += 1
        norms = dequantise(norm_quanta)
        gap, move, size, pi_norm, pi_sum = dequantise(sum_quanta).tolist()
        primal_sq = float(norms[0]) + 2.0 * gap + pi_norm
        move_sq = float(norms[1]) - 2.0 * move + pi_norm
        z_sq = float(norms[3]) - 2.0 * size + pi_norm
        norm = sqrt(max(float(norms[2]), z_sq, 0.0))
        dual_norm = self.rho * sqrt(max(pi_norm, 0.0))
        primal = sqrt(max(primal_sq, 0.0))
        dual = self.rho * sqrt(max(move_sq, 0.0))
        eps_pri, eps_dual = tolerances(self.options, self._n_values, norm, dual_norm)
        eps_pri, eps_dual = eps_pri * self.tightening, eps_dual * self.tightening
        record = IterationRecord(
            iteration=self.iteration,
            primal_residual=primal,
            dual_residual=dual,
            primal_tolerance=eps_pri,
            dual_tolerance=eps_dual,
            rho=self.rho,
            seconds=perf_counter() - self._started,
        )
        if record.within_tolerance and all_fresh:
            decision = RoundDecision.CONVERGED
        elif self.iteration >= self.options.max_iterations:
            decision = RoundDecision.ITERATION_LIMIT
        else:
            decision = RoundDecision.CONTINUE
        price_sum, rescale = -self.rho * pi_sum, 1.0
        if decision is RoundDecision.CONTINUE and self.options.residual_balancing:
            rescale = self._balance(primal / eps_pri, dual / eps_dual)
        return Verdict(decision, record, rescale, price_sum)

    def _balance(self, primal_ratio: float, dual_ratio: float) -> float:
        """Residual balancing (Boyd 2011, 3.4.1), residuals measured in their tolerances."""
        if self.iteration > BALANCING_ROUNDS or self.iteration % BALANCING_INTERVAL:
            return 1.0
        if primal_ratio > BALANCING_RATIO * dual_ratio:
            factor = 2.0
        elif dual_ratio > BALANCING_RATIO * primal_ratio:
            factor = 0.5
        else:
            return 1.0
        self.rho *= factor
        return 1.0 / factor
