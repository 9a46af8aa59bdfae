"""The network operator's side of ADMM: projection, duals, residuals, decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from raygrid.arrays import QUANTUM, BoolArray, FloatArray, IntArray, check_range, dequantise
from raygrid.grid.tree_rows import LimitRows, TreeRows
from raygrid.market.battery_regions import (
    buses_at_fault,
    divides,
    regional_battery_schedule,
)
from raygrid.market.battery_schedule import Batteries, BatterySchedule, battery_schedule
from raygrid.market.clearing import ClearingOptions, IterationRecord
from raygrid.market.final_schedule import FinalSchedule, staged_schedule
from raygrid.market.judge import RoundJudge, bus_sums
from raygrid.market.messages import (
    Aggregate,
    FinalMessage,
    HostHeadroom,
    HostSummary,
    OperatorFinal,
    OperatorMemory,
    PriceMessage,
    RoundDecision,
    RoundOutcome,
)
from raygrid.market.prices import locational_price
from raygrid.market.projection import Projection, ProjectionResult, ProjectionStatus
from raygrid.market.tree import projection_onto
from raygrid.market.tree_final import Rooms

ROUNDS_PER_MEAN = 8
"""The duality bound takes the mean prices of one in so many rounds, the last ones: prices swing
around their limit, and their mean is up to three times closer to it than the last ones."""
MEAN_ROUNDS = 8
"""And of so many rounds at most."""


class Operator:
    """Projects bus sums onto balance and limits, updates the duals, and tells when to stop.

    Knows bus sums, limits and weights; no schedule of any prosumer. A plain state machine.

    Parameters
    ----------
    rows : NetworkRows or TreeRows
        Limits that enter the projection; no rows means balance alone (4-5).
    n_buses, n_periods : int
        B and T.
    hosts : sequence of HostSummary
        One per host, in host order.
    options : ClearingOptions
        Settings.
    initial_pi_kw : (T,) or (B, T) float64
        Start of the duals, of all buses or of each [kW].
    """

    def __init__(
        self,
        rows: LimitRows,
        n_buses: int,
        n_periods: int,
        hosts: Sequence[HostSummary],
        options: ClearingOptions,
        initial_pi_kw: FloatArray,
    ) -> None:
        self.options = options
        self.rows = rows
        self.judge = RoundJudge(options, sum(host.agents for host in hosts) * n_periods)
        self._host_buses = [host.buses for host in hosts]
        weight = np.zeros(n_buses, dtype=np.int64)
        for host in hosts:
            weight[host.buses] += host.weight_quanta
        self.bus_weight: FloatArray = dequantise(weight)
        self._projection = projection_onto(rows, self.bus_weight)
        self._n_buses, self._n_periods = n_buses, n_periods
        self.pi_kw: FloatArray = np.array(np.broadcast_to(initial_pi_kw, (n_buses, n_periods)))
        self.projected: ProjectionResult | None = None
        self._projected_rho = options.rho
        self._prices: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=MEAN_ROUNDS)

    @property
    def iteration(self) -> int:
        """Number of the open round."""
        return self.judge.iteration

    @property
    def rho(self) -> float:
        """Penalty of the open round."""
        return self.judge.rho

    @property
    def lmp_per_kwh(self) -> FloatArray:
        """(B, T) locational prices [currency/kWh]."""
        return locational_price(self.rho, self.pi_kw)

    def open(self) -> RoundOutcome:
        """The messages that open the first round."""
        self.judge.restart_clock()
        return self._outcome(RoundDecision.CONTINUE, None, 1.0)

    def tighten(self, factor: float) -> RoundOutcome:
        """Go on with tolerances `factor` times as tight, after a clearing had converged."""
        self.judge.tightening *= factor
        return self._outcome(RoundDecision.CONTINUE, None, 1.0)

    def resume(
        self,
        messages: Sequence[PriceMessage],
        tightening: float,
        memories: Sequence[OperatorMemory] = (),
    ) -> None:
        """Take up a clearing at the round that `messages` open, after the operator was lost.

        The messages hold all that the next projection needs. Only the last z is gone: without
        it the round's dual residual (4-11) is too large, and convergence shows a round later.

        Parameters
        ----------
        messages : sequence of PriceMessage
            One per host, in host order.
        tightening : float
            Product of the factors by which tolerances were tightened.
        memories : sequence of OperatorMemory
            Of the last rounds before, the newest last.
        """
        if memories:
            self._prices.clear()
            self._prices.extend((m.balance_price_per_kwh, m.row_price) for m in memories)
            if isinstance(self._projection, Projection):
                self._projection.start_from(memories[-1].active)
        for buses, message in zip(self._host_buses, messages, strict=True):
            self.pi_kw[buses] = message.pi_kw * message.rescale
            self.judge.iteration, self.judge.rho = message.iteration, message.rho
        self.judge.tightening = tightening

    def take_over(
        self, projected: ProjectionResult, prices: Sequence[tuple[FloatArray, FloatArray]]
    ) -> None:
        """Know what operators of parts of the network have found in its place.

        Parameters
        ----------
        projected : ProjectionResult
            The last projection; its z is gone, as after `resume`.
        prices : sequence of ((T,), (M, T)) float64
            Prices of the balance and of the rows at the last projections, the newest last.
        """
        self.projected, self._projected_rho = projected, self.rho
        self.pi_kw = projected.pi_kw
        self._prices.clear()
        self._prices.extend(prices)

    def handle(self, aggregates: Sequence[Aggregate], all_fresh: bool = True) -> RoundOutcome:
        """One round: z-update (4-5) or (4-6), dual update (4-8), residuals (4-9) to (4-11).

        Parameters
        ----------
        aggregates : sequence of Aggregate
            One per host, in any order.
        all_fresh : bool
            Whether all of them are of the open round; else nothing counts as converged.

        Returns
        -------
        RoundOutcome
            Decision, residuals, and the next round's messages.
        """
        p_bus, phat_bus, norms = self._add(aggregates)
        before = self.projected
        result = self._projection.project(phat_bus)
        self.projected, self._projected_rho = result, self.rho
        if result.status is not ProjectionStatus.OK:
            self.judge.iteration += 1
            return self._outcome(RoundDecision.PROJECTION_INFEASIBLE, None, 1.0)
        self._prices.append((-self.rho * result.nu_kw, self._row_price()))
        self.pi_kw = result.pi_kw
        z = np.zeros_like(phat_bus) if before is None else before.z_bus_kw
        sums = bus_sums(self.bus_weight, self.pi_kw, p_bus, phat_bus, z)
        verdict = self.judge.decide(norms, sums, all_fresh)
        mean = verdict.price_sum_per_kwh / self.pi_kw.size
        return self._outcome(verdict.decision, verdict.record, verdict.rescale, mean)

    def finish(self, headrooms: Sequence[HostHeadroom]) -> OperatorFinal:
        """The least change of the bus injections that meets balance and limits exactly.

        Parameters
        ----------
        headrooms : sequence of HostHeadroom
            One per host, of the last round's schedules.

        Returns
        -------
        OperatorFinal
            Prices, and one message per host unless a period has faults.
        """
        shape = (self._n_buses, self._n_periods)
        sums = [np.zeros(shape, dtype=np.int64) for _ in range(7)]
        for part in headrooms:
            own = (
                part.p_quanta,
                part.marginal_up_quanta,
                part.marginal_down_quanta,
                part.up_quanta,
                part.down_quanta,
                part.up_cost_quanta,
                part.down_cost_quanta,
            )
            for total, quanta in zip(sums, own, strict=True):
                total[self._host_buses[part.host]] += quanta
        p_bus, near_up, near_down, far_up, far_down, up_cost, down_cost = map(dequantise, sums)
        up_price, down_price = (
            np.divide(cost, room, out=np.zeros_like(room), where=room > 0)
            for cost, room in ((up_cost, far_up), (down_cost, far_down))
        )
        rooms = Rooms(p_bus, near_up, near_down, far_up, far_down, up_price, down_price)
        staged = staged_schedule(rooms, self.bus_weight, self.rows, self._row_price())
        self._rooms, self._faults = rooms, staged.final.faults
        return self._final(staged.final, rooms, staged.whole)

    def finish_with_batteries(
        self, parts: Sequence[Batteries], period_hours: float
    ) -> OperatorFinal:
        """The final schedule where generation, demand and grid alone do not reach it.

        Parameters
        ----------
        parts : sequence of Batteries
            One per host, of the schedules of the last call of `finish`.
        period_hours : float
            Length of a period [h].

        Returns
        -------
        OperatorFinal
            As from `finish`; its messages carry the moved batteries.
        """
        rooms, weight, rows = self._rooms, self.bus_weight, self.rows
        chosen = Batteries.gather(parts)
        if isinstance(rows, TreeRows) and divides(rows):
            moved, staged = regional_battery_schedule(
                rooms, weight, rows, self._row_price(), self._faults, chosen, period_hours
            )
            return self._final(staged.final, rooms, staged.whole, moved)
        moved = battery_schedule(
            rooms.p_kw, rooms.up_kw, rooms.down_kw, weight, rows, chosen, period_hours
        )
        whole = np.ones(rooms.p_kw.shape, dtype=np.bool_)
        return self._final(moved.final, rooms, whole, moved)

    def _row_price(self) -> FloatArray:
        """(M, T) prices of the limits at the last projection."""
        if self.projected is None:
            return np.zeros((self.rows.n_rows, self._n_periods))
        return self._projected_rho * self.projected.multipliers

    def _memory(self) -> OperatorMemory | None:
        if not self._prices:
            return None
        if isinstance(self._projection, Projection):
            active = self._projection.active.astype(np.int8)
        else:
            active = np.zeros((self._n_periods, 0), dtype=np.int8)
        return OperatorMemory(active, *self._prices[-1])

    def _final(
        self,
        final: FinalSchedule,
        rooms: Rooms,
        whole: BoolArray,
        moved: BatterySchedule | None = None,
    ) -> OperatorFinal:
        up = np.where(whole, rooms.up_kw, rooms.near_up_kw)
        down = np.where(whole, rooms.down_kw, rooms.near_down_kw)
        lmp = self.lmp_per_kwh
        balance_price, row_price = lmp[0], self._row_price()
        if self._prices:
            last = list(self._prices)[-max(1, self.iteration // ROUNDS_PER_MEAN) :]
            balance_price, row_price = (
                np.mean(prices, axis=0) for prices in zip(*last, strict=True)
            )
        messages = tuple(
            FinalMessage(
                final.delta_kw[buses],
                up[buses],
                down[buses],
                whole[buses],
                None if moved is None else moved.batteries,
                None if moved is None else moved.soc_kwh,
            )
            for buses in self._host_buses
        )
        return OperatorFinal(
            final.faults,
            lmp,
            balance_price,
            row_price,
            () if final.faults else messages,
            buses_at_fault(self.rows, final.faults),
        )

    def _add(self, aggregates: Sequence[Aggregate]) -> tuple[FloatArray, FloatArray, IntArray]:
        shape = (self._n_buses, self._n_periods)
        p_sum: IntArray = np.zeros(shape, dtype=np.int64)
        phat_sum: IntArray = np.zeros(shape, dtype=np.int64)
        norms: IntArray = np.zeros(4, dtype=np.int64)
        largest = np.zeros(3)
        for part in aggregates:
            if not self.options.masked_sums:
                sums = part.p_quanta, part.phat_quanta, part.norm_quanta
                largest += [float(np.abs(quanta).max(initial=0)) for quanta in sums]
            buses = self._host_buses[part.host]
            p_sum[buses] += part.p_quanta
            phat_sum[buses] += part.phat_quanta
            norms += part.norm_quanta
        check_range(float(largest.max()) * QUANTUM)
        return dequantise(p_sum), dequantise(phat_sum), norms

    def _outcome(
        self,
        decision: RoundDecision,
        record: IterationRecord | None,
        rescale: float,
        mean_price_per_kwh: float | None = None,
    ) -> RoundOutcome:
        messages = tuple(
            PriceMessage(self.iteration, self.pi_kw[buses], self.rho, rescale)
            for buses in self._host_buses
        )
        if rescale != 1.0:
            # The hosts still need last round's duals to find z; from here on ours are rescaled.
            self.pi_kw = self.pi_kw * rescale
        if mean_price_per_kwh is None:
            mean_price_per_kwh = float(np.mean(self.lmp_per_kwh))
        return RoundOutcome(decision, record, mean_price_per_kwh, messages, self._memory())
