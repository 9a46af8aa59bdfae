"""The course of a clearing: rounds, final schedule, result; whoever carries the messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray, IntArray, dequantise
from raygrid.grid.limits import empty_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.grid.tree_rows import LimitRows
from raygrid.market.block import ProsumerBlock
from raygrid.market.bound import bound_price, welfare_bound
from raygrid.market.clearing import (
    ClearingOptions,
    ClearingResult,
    ClearingStatus,
    IterationRecord,
    WarmStart,
)
from raygrid.market.feasibility import FeasibilityStatus, check_feasible, describe_row
from raygrid.market.messages import (
    Aggregate,
    HostFinal,
    OperatorFinal,
    PriceMessage,
    RoundDecision,
    RoundOutcome,
)
from raygrid.market.operator import Operator
from raygrid.market.prices import settlement_price
from raygrid.market.projection import RowFault
from raygrid.market.staleness import StaleRounds
from raygrid.scenario.case import Case

RoundCallback = Callable[[RoundOutcome], None]
"""Called after every round, for progress and metrics."""

TIGHTENING = 0.1
"""Factor on the tolerances where no final schedule could be made of a converged clearing."""
MAX_TIGHTENINGS = 2
"""How often the tolerances are tightened before the clearing ends as infeasible."""


class Exchange(Protocol):
    """Hosts and operator, wherever they run: in this process or as Ray actors."""

    @property
    def past(self) -> Sequence[IterationRecord]:
        """Residuals of rounds that were done before `open`, by a driver that died."""
        ...

    def open(self) -> RoundOutcome:
        """Messages that open the first round."""
        ...

    def round(self, outcome: RoundOutcome) -> RoundOutcome:
        """Send the messages of `outcome`, gather the hosts' sums, return what follows."""
        ...

    def tighten(self, factor: float) -> RoundOutcome:
        """Make the tolerances `factor` times as tight and go on."""
        ...

    def finish(self) -> tuple[OperatorFinal, Sequence[HostFinal]]:
        """Final schedule: headrooms, correction, sums; no sums where there is none."""
        ...

    def dual_value_quanta(self, price_per_kwh: FloatArray) -> int:
        """Sum over all agents of what each gains at most at given prices (B, T)."""
        ...


@dataclass
class LocalExchange:
    """Hosts and operator in this process, without Ray: the reference of every other exchange.

    Parameters
    ----------
    blocks : sequence of ProsumerBlock
        In host order.
    operator : Operator
        Knows the blocks' summaries.
    period_hours : float
        Length of a period [h].
    lossy : StaleRounds or None
        Modelled links between them, if any.
    past : sequence of IterationRecord
        None here.
    """

    blocks: Sequence[ProsumerBlock]
    operator: Operator
    period_hours: float
    lossy: StaleRounds | None = None
    past: Sequence[IterationRecord] = ()

    def again(self, case: Case, options: ClearingOptions, warm: WarmStart) -> LocalExchange:
        """Another clearing of the same blocks, begun where the last one ended.

        Parameters
        ----------
        case : Case
            The market.
        options : ClearingOptions
            Settings, which may be others than the last clearing's.
        warm : WarmStart
            Of the last clearing's result.
        """
        for block in self.blocks:
            block.reopen(options.relaxation, warm.pi_kw[block.buses], warm.rho / options.rho)
        operator = _operator(case, options, self.blocks, initial_pi(case, options, warm))
        return _exchange(self.blocks, operator, self.period_hours)

    def open(self) -> RoundOutcome:
        """Messages that open the first round."""
        return self.operator.open()

    def round(self, outcome: RoundOutcome) -> RoundOutcome:
        """One round, host after host."""
        if self.lossy is not None:
            return self.lossy.round(outcome)
        return self.operator.handle(
            [b.step(m) for b, m in zip(self.blocks, outcome.messages, strict=True)]
        )

    def tighten(self, factor: float) -> RoundOutcome:
        """Make the tolerances `factor` times as tight and go on."""
        return self.operator.tighten(factor)

    def finish(self) -> tuple[OperatorFinal, Sequence[HostFinal]]:
        """Final schedule and its sums."""
        final = self.operator.finish([block.headroom() for block in self.blocks])
        if final.faults:
            batteries = [block.batteries(final.fault_buses) for block in self.blocks]
            final = self.operator.finish_with_batteries(batteries, self.period_hours)
        if final.faults:
            return final, ()
        finals = [b.finish(m) for b, m in zip(self.blocks, final.messages, strict=True)]
        return final, finals

    def dual_value_quanta(self, price_per_kwh: FloatArray) -> int:
        """Sum over all agents of what each gains at most at given prices."""
        return sum(block.dual_value_quanta(price_per_kwh[block.buses]) for block in self.blocks)


def local_exchange(
    case: Case, options: ClearingOptions, hosts: Sequence[IntArray] | None = None, threads: int = 1
) -> LocalExchange:
    """Blocks and operator of a case in this process.

    Parameters
    ----------
    case : Case
        The market.
    options : ClearingOptions
        Settings.
    hosts : sequence of (n,) int64 or None
        Rows of the population that each block takes; None is one block for all, by bus and id.
        The first block carries the grid connection.
    threads : int
        Threads for the local solves of a block.
    """
    pi = initial_pi(case, options)
    if hosts is None:
        parts = [case.part(0, len(case.community))]
    else:
        parts = [case.population.take(rows) for rows in hosts]
    blocks = [
        ProsumerBlock(
            k,
            part,
            case.grid if k == 0 else None,
            case.network.slack,
            case.period_hours,
            options.relaxation,
            pi,
            threads,
        )
        for k, part in enumerate(parts)
    ]
    return _exchange(blocks, _operator(case, options, blocks, pi), case.period_hours)


def _exchange(
    blocks: Sequence[ProsumerBlock], operator: Operator, period_hours: float
) -> LocalExchange:
    staleness = operator.options.staleness
    if staleness is None:
        return LocalExchange(blocks, operator, period_hours)

    def step(who: Sequence[int], messages: Sequence[PriceMessage]) -> list[Aggregate]:
        return [blocks[k].step(m) for k, m in zip(who, messages, strict=True)]

    lossy = StaleRounds(len(blocks), staleness, step, operator.handle)
    return LocalExchange(blocks, operator, period_hours, lossy)


def _operator(
    case: Case, options: ClearingOptions, blocks: Sequence[ProsumerBlock], pi_kw: FloatArray
) -> Operator:
    return Operator(
        active_rows(case, options),
        case.network.n_buses,
        case.n_periods,
        [block.summary() for block in blocks],
        options,
        pi_kw,
    )


def active_rows(case: Case, options: ClearingOptions) -> LimitRows:
    """The limits that a clearing enforces: the case's, or none."""
    return case.rows if options.network_constrained else empty_rows(case.network, case.n_periods)


def initial_pi(case: Case, options: ClearingOptions, warm: WarmStart | None = None) -> FloatArray:
    """Start of the duals: minus the import price over rho where imports are the normal case.

    Parameters
    ----------
    case : Case
        The market.
    options : ClearingOptions
        rho, and a start price that overrides the tariff.
    warm : WarmStart, optional
        The prices of the last clearing, which override both.

    Returns
    -------
    (T,) or (B, T) float64
        pi, the same for all buses but after a warm start [kW].
    """
    if warm is not None:
        return warm.pi_kw * (warm.rho / options.rho)
    if options.initial_price_per_kwh is not None:
        price = np.full(case.n_periods, options.initial_price_per_kwh)
    elif case.grid is not None and not case.grid.import_is_penalty:
        price = case.grid.import_price_per_kwh
    else:
        price = np.zeros(case.n_periods)
    return -price / options.rho


def clear(
    case: Case,
    options: ClearingOptions,
    exchange: Exchange,
    on_round: RoundCallback | None = None,
) -> ClearingResult:
    """Clear a market: Algorithm 1 of the thesis, then the final schedule.

    Parameters
    ----------
    case : Case
        The market; only its network, tariffs and period length are looked at here.
    options : ClearingOptions
        Settings.
    exchange : Exchange
        Hosts and operator.
    on_round : callable, optional
        Called after every round.

    Returns
    -------
    ClearingResult
        Status, convergence, prices and sums. Where no final schedule exists, injections are
        those of the last round, and welfare is nan.
    """
    started = perf_counter()
    records = list(exchange.past)
    outcome = exchange.open()
    tightenings = 0
    while True:
        while outcome.decision is RoundDecision.CONTINUE:
            outcome = exchange.round(outcome)
            if outcome.record is not None:
                records.append(outcome.record)
            if on_round is not None:
                on_round(outcome)
        operator, hosts = exchange.finish()
        if (
            hosts
            or outcome.decision is not RoundDecision.CONVERGED
            or tightenings == MAX_TIGHTENINGS
        ):
            break
        tightenings += 1
        outcome = exchange.tighten(TIGHTENING)
    seconds = perf_counter() - started
    return _result(case, options, exchange, outcome.decision, records, operator, hosts, seconds)


def _result(
    case: Case,
    options: ClearingOptions,
    exchange: Exchange,
    decision: RoundDecision,
    records: list[IterationRecord],
    operator: OperatorFinal,
    hosts: Sequence[HostFinal],
    seconds: float,
) -> ClearingResult:
    network, n_periods = case.network, case.n_periods
    lmp = operator.lmp_per_kwh
    p_sum = np.zeros((network.n_buses, n_periods), dtype=np.int64)
    cost, sold = np.zeros(n_periods, dtype=np.int64), np.zeros(n_periods, dtype=np.int64)
    grid_kw = np.zeros(n_periods)
    welfare_quanta = 0
    for host in hosts:
        p_sum[host.buses] += host.p_quanta
        cost += host.seller_cost_quanta
        sold += host.seller_quanta
        welfare_quanta += host.welfare_quanta
        if host.grid_p_kw is not None:
            grid_kw = host.grid_p_kw
    p_bus = dequantise(p_sum)
    bound = None
    if hosts:
        rows = active_rows(case, options)
        price = bound_price(
            operator.balance_price_per_kwh,
            operator.row_price,
            rows,
            network.slack,
            case.grid,
            grid_kw,
        )
        gains = exchange.dual_value_quanta(price) * QUANTUM
        bound = welfare_bound(gains, operator.row_price, rows, case.period_hours)
    status, reason = _status(case, decision, operator.faults, bool(hosts), options)
    simultaneous = sum(host.simultaneous for host in hosts)
    notes: tuple[str, ...] = ()
    if simultaneous:
        notes = (
            f"{simultaneous} batteries charge and discharge at once in some period: "
            "very negative prices make the relaxed model want it",
        )
    return ClearingResult(
        status=status,
        reason=reason,
        records=tuple(records),
        lmp_per_kwh=lmp,
        settlement_price_per_kwh=settlement_price(cost, sold, lmp[network.slack]),
        p_bus_kw=p_bus,
        flow_kw=PtdfFactor(network).flows(p_bus),
        grid_kw=grid_kw,
        welfare=welfare_quanta * QUANTUM * case.period_hours if hosts else float("nan"),
        bound=bound if bound is None or np.isfinite(bound) else None,
        seconds=seconds,
        notes=notes,
    )


def _status(
    case: Case,
    decision: RoundDecision,
    faults: Sequence[RowFault],
    has_schedule: bool,
    options: ClearingOptions,
) -> tuple[ClearingStatus, str]:
    """How the clearing ended, and in one line why it ended short and what to do."""
    if decision is RoundDecision.CONVERGED and has_schedule:
        return ClearingStatus.CONVERGED, ""
    found = check_feasible(case, network_constrained=options.network_constrained)
    if found.status is FeasibilityStatus.INFEASIBLE:
        return ClearingStatus.INFEASIBLE, found.reason()
    if decision is RoundDecision.ITERATION_LIMIT:
        reason = f"residuals above tolerance after {options.max_iterations} iterations"
    else:
        where = "; ".join(_fault_text(case, fault) for fault in faults[:3])
        reason = f"no final schedule ({where})" if where else "the limits contradict each other"
    cure = "raise market.max_iterations, change market.rho, or set market.residual_balancing"
    return ClearingStatus.ITERATION_LIMIT, f"{reason}; {cure}"


def _fault_text(case: Case, fault: RowFault) -> str:
    """One phrase: the period, and the limits or the balance that cannot be met there."""
    if not fault.rows:
        return f"period {fault.period}: the balance cannot be met"
    names = ", ".join(describe_row(case, row) for row in fault.rows)
    return f"period {fault.period}: no schedule keeps {names} within limits"
