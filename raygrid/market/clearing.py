"""Options and results of a clearing, shared by the in-process and the Ray driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from raygrid.arrays import FloatArray
from raygrid.market.channel import Staleness
from raygrid.market.patience import Patience


class ClearingStatus(StrEnum):
    """How a clearing ended."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration_limit"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class ClearingOptions:
    """Settings of consensus ADMM (thesis 4.8, 4.9, Table 6.3).

    Attributes
    ----------
    rho : float
        Penalty parameter for size weight 1 [currency/kW^2/h].
    relaxation : float
        Over-relaxation alpha in (0, 2); 1 is none.
    absolute_tolerance, relative_tolerance : float
        eps_abs [kW] and eps_rel of section 4.8.
    max_iterations : int
        K_max of Algorithm 1.
    network_constrained : bool
        Whether line (and voltage) limits are enforced.
    residual_balancing : bool
        Whether rho follows the ratio of the residuals.
    initial_price_per_kwh : float or None
        Price at which the duals start; None takes the import price where it is a tariff.
    masked_sums : bool
        Whether hosts mask what they send, so that the operator learns sums alone.
    staleness : Staleness or None
        A model of slow and lossy links, over which the operator goes on without late hosts;
        None where rounds wait for everybody.
    patience : Patience or None
        Bounds of the wait for hosts that are really slow; None waits as long as they live. Hosts
        in the driver's own process are never late.
    """

    rho: float = 0.1
    relaxation: float = 1.7
    absolute_tolerance: float = 1e-4
    relative_tolerance: float = 1e-3
    max_iterations: int = 500
    network_constrained: bool = True
    residual_balancing: bool = False
    initial_price_per_kwh: float | None = None
    masked_sums: bool = False
    staleness: Staleness | None = None
    patience: Patience | None = None

    @property
    def in_step(self) -> bool:
        """Whether every round has an answer of everybody, so that it can be done again."""
        return self.staleness is None and (self.patience is None or self.masked_sums)


@dataclass(frozen=True)
class WarmStart:
    """Where a clearing ended, for the next one of the same agents to begin.

    The agents keep their own part, the schedules; begun from prices alone, a clearing needs
    about as many rounds as from the tariff.

    Attributes
    ----------
    lmp_per_kwh : (B, T) float64
        Locational prices [currency/kWh].
    rho : float
        Penalty of its last round.
    """

    lmp_per_kwh: FloatArray
    rho: float

    @property
    def pi_kw(self) -> FloatArray:
        """(B, T) duals of the last projection, lambda_b = -rho pi_b [kW]."""
        return -self.lmp_per_kwh / self.rho


@dataclass(frozen=True)
class IterationRecord:
    """One row of convergence.parquet; residuals (4-10), (4-11) in size-weighted norms [kW]."""

    iteration: int
    primal_residual: float
    dual_residual: float
    primal_tolerance: float
    dual_tolerance: float
    rho: float
    seconds: float

    @property
    def within_tolerance(self) -> bool:
        """Whether both residuals are."""
        return (
            self.primal_residual <= self.primal_tolerance
            and self.dual_residual <= self.dual_tolerance
        )


@dataclass(frozen=True)
class ClearingResult:
    """What the operator knows at the end of a clearing; nothing in it grows with prosumers.

    Attributes
    ----------
    status : ClearingStatus
        How it ended.
    reason : str
        One line: why it ended short and what to do about it; empty when converged.
    records : tuple of IterationRecord
        Convergence, one a round.
    lmp_per_kwh : (B, T) float64
        Locational prices lambda_b = -rho pi_b [currency/kWh].
    settlement_price_per_kwh : (T,) float64
        Uniform settlement price (5-2), generalised to net injections [currency/kWh].
    p_bus_kw : (B, T) float64
        Net injection per bus of the final schedule [kW].
    flow_kw : (L, T) float64
        Line flows of the final schedule [kW].
    grid_kw : (T,) float64
        Net import of the final schedule [kW]; zeros without a grid connection.
    welfare : float
        Welfare of the final schedule over the horizon, dt counted [currency].
    bound : float or None
        Upper bound on the optimal welfare by duality [currency], if it was asked for.
    seconds : float
        Wall time of the iterations and the final schedule [s].
    """

    status: ClearingStatus
    reason: str
    records: tuple[IterationRecord, ...]
    lmp_per_kwh: FloatArray
    settlement_price_per_kwh: FloatArray
    p_bus_kw: FloatArray
    flow_kw: FloatArray
    grid_kw: FloatArray
    welfare: float
    bound: float | None
    seconds: float
    notes: tuple[str, ...] = field(default=())

    @property
    def iterations(self) -> int:
        """Number of rounds."""
        return len(self.records)

    @property
    def warm_start(self) -> WarmStart | None:
        """Where the next clearing of the same agents may begin; None where no round was done."""
        return WarmStart(self.lmp_per_kwh, self.records[-1].rho) if self.records else None
