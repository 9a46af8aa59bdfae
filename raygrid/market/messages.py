"""What travels between prosumer hosts and the network operator: bus sums, never schedules.

All sums are int64 quanta (`raygrid.arrays.QUANTUM`), so that they do not depend on who adds
what in which order; a host sends and receives only the rows of its own buses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.battery_schedule import Batteries
from raygrid.market.clearing import IterationRecord
from raygrid.market.projection import RowFault


@dataclass(frozen=True)
class HostSummary:
    """What a host tells the operator once, before the first round.

    Attributes
    ----------
    buses : (nb,) int64
        Positions of the host's buses, ascending.
    agents : int
        Number of agents behind the host, the grid connection included.
    weight_quanta : (nb,) int64
        Sum of size weights per bus (n_b).
    """

    buses: IntArray
    agents: int
    weight_quanta: IntArray


@dataclass(frozen=True)
class PriceMessage:
    """Operator to one host: the duals of its buses.

    Attributes
    ----------
    iteration : int
        Round that this message opens.
    pi_kw : (nb, T) float64
        Per-bus duals of the last projection, scaled form [kW].
    rho : float
        Penalty of this round.
    rescale : float
        Last round's penalty over this round's: duals shrink by it when rho grows.
    used : bool or None
        Whether the operator used the host's last answer; None where rounds wait for everybody,
        so that it always did.
    """

    iteration: int
    pi_kw: FloatArray
    rho: float
    rescale: float
    used: bool | None = None


@dataclass(frozen=True)
class Aggregate:
    """One host to the operator: its sums of a round.

    Attributes
    ----------
    iteration : int
        Round that the sums belong to.
    host : int
        Sender.
    p_quanta, phat_quanta : (nb, T) int64
        Sums of p and of phat per bus.
    norm_quanta : (4,) int64
        Sums over agents and periods, each divided by the agent's size weight, of
        (p - phat)^2, (phat - z)^2, p^2 and phat^2.
    """

    iteration: int
    host: int
    p_quanta: IntArray
    phat_quanta: IntArray
    norm_quanta: IntArray


@dataclass(frozen=True)
class OperatorMemory:
    """What a projection leaves behind besides the duals, for who goes on in the operator's place.

    Where several sets of limits support the same duals, later multipliers depend on it.

    Attributes
    ----------
    active : (T, K) int8
        Limits at a bound, 1 at the upper and -1 at the lower; K = 0 where none are kept.
    balance_price_per_kwh : (T,) float64
        Price of the balance, nu [currency/kWh].
    row_price : (M, T) float64
        Multipliers of the rows [currency/h per unit of the row].
    """

    active: NDArray[np.int8]
    balance_price_per_kwh: FloatArray
    row_price: FloatArray

    @property
    def nbytes(self) -> int:
        """Size [B]."""
        return self.active.nbytes + self.balance_price_per_kwh.nbytes + self.row_price.nbytes


class RoundDecision(StrEnum):
    """What the operator decides after a round."""

    CONTINUE = "continue"
    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration_limit"
    PROJECTION_INFEASIBLE = "projection_infeasible"


@dataclass(frozen=True)
class RoundOutcome:
    """Operator to the driver after a round: what to show, and what to send next.

    Attributes
    ----------
    decision : RoundDecision
        Whether another round is needed.
    record : IterationRecord or None
        The round's residuals; None before the first round.
    mean_price_per_kwh : float
        Mean locational price, for the progress line [currency/kWh].
    messages : tuple of PriceMessage
        One per host, in host order.
    memory : OperatorMemory or None
        Of the round's projection; None before the first, and where feeder operators have parts
        of it.
    """

    decision: RoundDecision
    record: IterationRecord | None
    mean_price_per_kwh: float
    messages: tuple[PriceMessage, ...]
    memory: OperatorMemory | None = None


@dataclass(frozen=True)
class HostHeadroom:
    """One host to the operator after convergence: by how much its buses can still move.

    Attributes
    ----------
    host : int
        Sender.
    p_quanta : (nb, T) int64
        Net injection per bus of the schedules that the headroom refers to.
    marginal_up_quanta, marginal_down_quanta : (nb, T) int64
        Room of the devices between their limits, where a move costs next to nothing.
    up_quanta, down_quanta : (nb, T) int64
        Room of generation, elastic demand and grid connection, none negative.
    up_cost_quanta, down_cost_quanta : (nb, T) int64
        Marginal cost of that room times the room [1e-9 currency/h].
    """

    host: int
    p_quanta: IntArray
    marginal_up_quanta: IntArray
    marginal_down_quanta: IntArray
    up_quanta: IntArray
    down_quanta: IntArray
    up_cost_quanta: IntArray
    down_cost_quanta: IntArray


@dataclass(frozen=True)
class FinalMessage:
    """Operator to one host: how to move its buses to balance and limits.

    Attributes
    ----------
    delta_kw : (nb, T) float64
        Change of the net injection per bus [kW].
    up_kw, down_kw : (nb, T) float64
        Headroom of the whole bus, over all hosts; a prosumer takes its share of it [kW].
    whole : (nb, T) bool
        Where the headroom is that of all devices, not of the marginal ones.
    batteries : Batteries or None
        Batteries of any hosts that move too; None where they all stay.
    soc_kwh : (K, T) float64 or None
        Their new states of charge [kWh].
    """

    delta_kw: FloatArray
    up_kw: FloatArray
    down_kw: FloatArray
    whole: BoolArray
    batteries: Batteries | None = None
    soc_kwh: FloatArray | None = None


@dataclass(frozen=True)
class OperatorFinal:
    """Operator to the driver at the end: what it knows of the final schedule.

    Attributes
    ----------
    faults : tuple of RowFault
        Periods and rows that no headroom reaches; empty where a final schedule exists.
    lmp_per_kwh : (B, T) float64
        Locational prices of the last projection [currency/kWh].
    balance_price_per_kwh : (T,) float64
        Price of the balance alone, nu, the mean of the last rounds [currency/kWh].
    row_price : (M, T) float64
        Multipliers of the rows, the mean of the same rounds, positive at upper, negative at
        lower bounds [currency/h per unit of the row].
    messages : tuple of FinalMessage
        One per host, in host order; empty where there are faults.
    fault_buses : (F,) int64 or None
        Where there are faults, the buses whose batteries may move; None for all.
    """

    faults: tuple[RowFault, ...]
    lmp_per_kwh: FloatArray
    balance_price_per_kwh: FloatArray
    row_price: FloatArray
    messages: tuple[FinalMessage, ...]
    fault_buses: IntArray | None = None


@dataclass(frozen=True)
class HostFinal:
    """One host to the driver at the end: sums of the final schedule.

    Attributes
    ----------
    host : int
        Sender.
    buses : (nb,) int64
        Positions of its buses.
    p_quanta : (nb, T) int64
        Net injection per bus.
    welfare_quanta : int
        Sum of welfare rates over agents and periods [1e-9 currency/h].
    seller_cost_quanta, seller_quanta : (T,) int64
        Sum of marginal cost times sold power, and of sold power (5-2).
    grid_p_kw : (T,) float64 or None
        Net import, from the host that carries the grid connection.
    simultaneous : int
        Prosumers whose relaxed problem wanted charge and discharge at once.
    """

    host: int
    buses: IntArray
    p_quanta: IntArray
    welfare_quanta: int
    seller_cost_quanta: IntArray
    seller_quanta: IntArray
    grid_p_kw: FloatArray | None
    simultaneous: int
