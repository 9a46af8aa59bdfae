"""The prosumers' side of ADMM: a block of prosumers that one host carries."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray, IntArray, check_range, quantise
from raygrid.market.battery_schedule import Batteries, apply_batteries
from raygrid.market.headroom import (
    UNLIMITED_KW,
    apply_delta,
    apply_grid_delta,
    grid_headroom,
    grid_room_cost,
    headroom,
    room_cost,
)
from raygrid.market.messages import (
    Aggregate,
    FinalMessage,
    HostFinal,
    HostHeadroom,
    HostSummary,
    PriceMessage,
)
from raygrid.market.prices import grid_seller_sums, seller_sums
from raygrid.prosumer.compiled import compiled
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.grid_agent import grid_cost_rate, grid_dual_value, solve_grid
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import ROWS_AT_A_TIME, GridConnection, Prosumers
from raygrid.prosumer.store_local import dispatch_stores, solve_stores
from raygrid.prosumer.sums import add_by_bus
from raygrid.prosumer.valuation import best_value, welfare_rate

KEPT_VALUES = 1_000_000
"""A block of at most this many values p keeps its solved dispatch rather than solving again."""

_PER_QUANTUM = 1.0 / QUANTUM


@compiled
def open_round(
    bus_row: IntArray,
    weight: FloatArray,
    pi: FloatArray,
    rescale: float,
    rho: float,
    state: FloatArray,
    target: FloatArray,
    rho_i: FloatArray,
) -> None:
    """Turn phat into z in place and form the target a = z - u (4-3), (4-4)."""
    for i in range(state.shape[0]):
        b, w = bus_row[i], weight[i]
        rho_i[i] = rho / w
        for t in range(state.shape[1]):
            u = w * pi[b, t]
            z = state[i, t] - u
            state[i, t] = z
            target[i, t] = z - u * rescale


@compiled
def close_round(
    bus_row: IntArray,
    weight: FloatArray,
    pi: FloatArray,
    rescale: float,
    relaxation: float,
    p: FloatArray,
    state: FloatArray,
    p_sum: IntArray,
    phat_sum: IntArray,
    norms: IntArray,
) -> float:
    """Relax, form phat (4-7) from z in place and add the round's sums as integers.

    Returns the sum of all magnitudes added, by which a wrapped sum is noticed.
    """
    magnitude = 0.0
    for i in range(p.shape[0]):
        b, w = bus_row[i], weight[i]
        gap = move = p_norm = phat_norm = 0.0
        for t in range(p.shape[1]):
            z, p_it = state[i, t], p[i, t]
            phat = relaxation * p_it + (1.0 - relaxation) * z + w * (pi[b, t] * rescale)
            state[i, t] = phat
            p_sum[b, t] += np.int64(np.rint(p_it * _PER_QUANTUM))
            phat_sum[b, t] += np.int64(np.rint(phat * _PER_QUANTUM))
            gap += (p_it - phat) * (p_it - phat)
            move += (phat - z) * (phat - z)
            p_norm += p_it * p_it
            phat_norm += phat * phat
            magnitude += abs(p_it) + abs(phat)
        magnitude += (gap + move + p_norm + phat_norm) / w
        scale = _PER_QUANTUM / w
        norms[0] += np.int64(np.rint(gap * scale))
        norms[1] += np.int64(np.rint(move * scale))
        norms[2] += np.int64(np.rint(p_norm * scale))
        norms[3] += np.int64(np.rint(phat_norm * scale))
    return magnitude


class ProsumerBlock:
    """Prosumers behind one host: solves their subproblems and adds up what the operator needs.

    A block is a plain state machine; the Ray actor around it only carries it. What it sends
    depends on its prosumers alone, bit for bit, not on who else shares the block.

    Parameters
    ----------
    host : int
        Number of the host, the sender of its messages.
    population : Prosumers
        The block's prosumers.
    grid : GridConnection or None
        The grid connection, in the one block that carries it.
    slack : int
        Position of the bus of the grid connection.
    period_hours : float
        Length of a period [h].
    relaxation : float
        Over-relaxation alpha.
    initial_pi_kw : (T,) float64
        Start of the duals, the same for all buses [kW].
    threads : int
        Threads for the local solves.
    """

    def __init__(
        self,
        host: int,
        population: Prosumers,
        grid: GridConnection | None,
        slack: int,
        period_hours: float,
        relaxation: float,
        initial_pi_kw: FloatArray,
        threads: int = 1,
    ) -> None:
        self.host = host
        self.population = population
        self.grid = grid
        self.period_hours = period_hours
        self._relaxation = relaxation
        own = population.bus if grid is None else np.append(population.bus, slack)
        self.buses, rows = np.unique(own, return_inverse=True)
        rows = rows.astype(np.int64)
        self.bus_row: IntArray = rows[: len(population)]
        self.slack_row = int(rows[-1]) if grid is not None else -1
        self.solver = LocalSolver(population, period_hours)
        n, n_periods = len(population), len(initial_pi_kw)
        # z starts at 0, so phat starts at u = w pi.
        self._state: FloatArray = population.size_weight[:, None] * initial_pi_kw[None, :]
        self._target: FloatArray = np.zeros((n, n_periods))
        self._rho_i: FloatArray = np.ones(n)
        # EVs and shiftable loads are agents of their own at the buses of their owners.
        self.stores = population.stores
        self._store_bus_row: IntArray = self.bus_row[self.stores.owner]
        self._store_state: FloatArray = self.stores.size_weight[:, None] * initial_pi_kw[None, :]
        self._store_target: FloatArray = np.zeros(self._store_state.shape)
        self._store_rho: FloatArray = np.ones(len(self.stores))
        self._store_burns: dict[int, int] = {}
        weight = 0.0 if grid is None else grid.size_weight
        self._grid_state: FloatArray = weight * initial_pi_kw
        self.grid_p_kw: FloatArray = np.zeros(n_periods)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._threads = threads
        self._kept: dict[int, Dispatch] = {}
        self._before: tuple[FloatArray, ...] | None = None

    def reopen(self, relaxation: float, pi_kw: FloatArray, rescale: float) -> None:
        """Begin another clearing where the last one ended: with its schedules and duals.

        Parameters
        ----------
        relaxation : float
            Over-relaxation alpha.
        pi_kw : (nb, T) float64
            Duals of the last projection of the last clearing [kW].
        rescale : float
            The last clearing's penalty over this one's.
        """
        self._relaxation = relaxation
        self._kept.clear()
        # phat = z + u: z stays, and u = w pi scales with the penalty.
        grown = pi_kw * (rescale - 1.0)
        self._state += self.population.size_weight[:, None] * grown[self.bus_row]
        self._store_state += self.stores.size_weight[:, None] * grown[self._store_bus_row]
        if self.grid is not None:
            self._grid_state += self.grid.size_weight * grown[self.slack_row]

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return int(self._state.shape[1])

    def chunks(self) -> list[tuple[int, int]]:
        """Start and stop of the chunks that compiled calls work on."""
        n = len(self.population)
        size = min(ROWS_AT_A_TIME, max(1, -(-n // self._threads)))
        return [(k, min(k + size, n)) for k in range(0, n, size)]

    def summary(self) -> HostSummary:
        """Weights per bus, sent once."""
        weight = np.zeros(len(self.buses), dtype=np.int64)
        np.add.at(weight, self.bus_row, quantise(self.population.size_weight))
        np.add.at(weight, self._store_bus_row, quantise(self.stores.size_weight))
        agents = len(self.population) + len(self.stores)
        if self.grid is not None:
            weight[self.slack_row] += quantise(np.array([self.grid.size_weight]))[0]
            agents += 1
        return HostSummary(self.buses, agents, weight)

    def step(self, message: PriceMessage) -> Aggregate:
        """One round: x-update of every prosumer (4-3), (4-4), phat (4-7) and their sums.

        Parameters
        ----------
        message : PriceMessage
            Duals of the block's buses.

        Returns
        -------
        Aggregate
            Sums per bus.
        """
        self._kept.clear()
        if message.used is not None:
            self._take_back(message.used)
        chunks = self.chunks()
        if self._pool is None:
            parts = [self._step_chunk(message, start, stop) for start, stop in chunks]
        else:
            parts = list(self._pool.map(lambda c: self._step_chunk(message, *c), chunks))
        shape = (len(self.buses), self.n_periods)
        p_sum, phat_sum = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        norms = np.zeros(4, dtype=np.int64)
        magnitude = 0.0
        for first, p_part, phat_part, norms_part, magnitude_part in parts:
            p_sum[first : first + len(p_part)] += p_part
            phat_sum[first : first + len(phat_part)] += phat_part
            norms += norms_part
            magnitude += magnitude_part
        if self.grid is not None:
            magnitude += self._step_grid(self.grid, message, p_sum, phat_sum, norms)
        check_range(magnitude)
        return Aggregate(message.iteration, self.host, p_sum, phat_sum, norms)

    def _take_back(self, used: bool) -> None:
        """Go back to before the last step where its answer was not used; note where we stand."""
        states = self._state, self._store_state, self._grid_state
        if used or self._before is None:
            self._before = tuple(state.copy() for state in states)
        else:
            for state, before in zip(states, self._before, strict=True):
                state[:] = before

    def headroom(self) -> HostHeadroom:
        """By how much generation, elastic demand and grid of each bus can still move."""
        shape = (len(self.buses), self.n_periods)
        p_sum = np.zeros(shape, dtype=np.int64)
        rooms = [np.zeros(shape, dtype=np.int64) for _ in range(6)]
        tiers = (np.zeros(self.n_periods, np.bool_), np.ones(self.n_periods, np.bool_))
        for start, stop in self.chunks():
            dispatch = self._solved(start, stop)
            part, rows = self.population.rows(start, stop), self.bus_row[start:stop]
            add_by_bus(rows, dispatch.p_kw, p_sum)
            own = [room for whole in tiers for room in headroom(part, dispatch, whole)]
            own += room_cost(part, dispatch)
            for total, room in zip(rooms, own, strict=True):
                add_by_bus(rows, room, total)
        if self.grid is not None:
            p_sum[self.slack_row] += quantise(self.grid_p_kw)
            own = [
                room for whole in tiers for room in grid_headroom(self.grid, self.grid_p_kw, whole)
            ]
            own += grid_room_cost(self.grid, self.grid_p_kw)
            for total, room in zip(rooms, own, strict=True):
                total[self.slack_row] += quantise(room)
        return HostHeadroom(self.host, p_sum, *rooms)

    def batteries(self, buses: IntArray | None = None) -> Batteries:
        """The most powerful batteries at some buses, or all, with the last round's schedules."""
        parts = []
        for start, stop in self.chunks():
            part = Batteries.of(self.population.rows(start, stop), self._solved(start, stop))
            parts.append(part if buses is None else part.take(np.isin(part.bus, buses)))
        return Batteries.gather(parts)

    def final_chunks(self, message: FinalMessage) -> Iterator[tuple[int, int, Dispatch]]:
        """The final schedule, chunk by chunk, as (start, stop, dispatch).

        Parameters
        ----------
        message : FinalMessage
            How the operator moves the block's buses.
        """
        for start, stop in self.chunks():
            part, dispatch = self.population.rows(start, stop), self._solved(start, stop)
            if message.batteries is not None and message.soc_kwh is not None:
                dispatch = apply_batteries(part, dispatch, message.batteries, message.soc_kwh)
            moved = apply_delta(
                part,
                dispatch,
                self.bus_row[start:stop],
                message.delta_kw,
                message.up_kw,
                message.down_kw,
                message.whole,
            )
            yield start, stop, moved

    def final_grid_kw(self, message: FinalMessage) -> FloatArray | None:
        """(T,) net import of the final schedule [kW]; None in a block without grid connection."""
        if self.grid is None:
            return None
        at = self.slack_row
        return apply_grid_delta(
            self.grid,
            self.grid_p_kw,
            message.delta_kw[at],
            message.up_kw[at],
            message.down_kw[at],
            message.whole[at],
        )

    def finish(self, message: FinalMessage) -> HostFinal:
        """Move the schedules as the operator asks, and add up the result.

        Parameters
        ----------
        message : FinalMessage
            Changes of the block's buses.

        Returns
        -------
        HostFinal
            Sums of the final schedule.
        """
        shape = (len(self.buses), self.n_periods)
        p_sum = np.zeros(shape, dtype=np.int64)
        cost, sold = (np.zeros(self.n_periods, dtype=np.int64) for _ in range(2))
        welfare = 0
        for start, stop, dispatch in self.final_chunks(message):
            part = self.population.rows(start, stop)
            rows = self.bus_row[start:stop]
            add_by_bus(rows, dispatch.p_kw, p_sum)
            welfare += int(quantise(welfare_rate(part, dispatch)).sum())
            sums = seller_sums(part, dispatch)
            cost += sums[0]
            sold += sums[1]
        grid_kw = self.final_grid_kw(message)
        if self.grid is not None and grid_kw is not None:
            p_sum[self.slack_row] += quantise(grid_kw)
            welfare -= int(quantise(np.float64(grid_cost_rate(self.grid, grid_kw))))
            sums = grid_seller_sums(self.grid, grid_kw)
            cost += sums[0]
            sold += sums[1]
        return HostFinal(
            host=self.host,
            buses=self.buses,
            p_quanta=p_sum,
            welfare_quanta=welfare,
            seller_cost_quanta=cost,
            seller_quanta=sold,
            grid_p_kw=grid_kw,
            simultaneous=self.solver.simultaneous_count() + sum(self._store_burns.values()),
        )

    def dual_value_quanta(self, price_per_kwh: FloatArray) -> int:
        """Sum of the most that each agent gains at given prices, or an upper bound of it.

        Parameters
        ----------
        price_per_kwh : (nb, T) float64
            Prices at the block's buses [currency/kWh].

        Returns
        -------
        int
            Rates summed over agents and periods [1e-9 currency/h].
        """
        total = 0
        for start, stop in self.chunks():
            rows = self.population.rows(start, stop)
            price = price_per_kwh[self.bus_row[start:stop]]
            total += int(quantise(best_value(rows, price, self.period_hours)).sum())
        if self.grid is not None:
            gain = grid_dual_value(self.grid, price_per_kwh[self.slack_row])
            total += int(quantise(np.float64(min(gain, UNLIMITED_KW))))
        return total

    def _solved(self, start: int, stop: int) -> Dispatch:
        """Device powers of the last round's solution; kept for small blocks."""
        kept = self._kept.get(start)
        if kept is not None:
            return kept
        dispatch = self.solver.dispatch(
            start, stop, self._target[start:stop], self._rho_i[start:stop]
        )
        own = self.stores.between(start, stop)
        if own.stop > own.start:
            part = self.stores.rows(start, stop)
            target, rho_i = self._store_target[own], self._store_rho[own]
            dispatch = dispatch.with_stores(dispatch_stores(part, self.period_hours, target, rho_i))
        if self._target.size <= KEPT_VALUES:
            self._kept[start] = dispatch
        return dispatch

    def restore(self, z_share: PriceMessage) -> None:
        """Take up a clearing in the middle, knowing only the operator's duals (z restarts at 0)."""
        pi = z_share.pi_kw
        self._state[:] = self.population.size_weight[:, None] * pi[self.bus_row]
        self._store_state[:] = self.stores.size_weight[:, None] * pi[self._store_bus_row]
        if self.grid is not None:
            self._grid_state[:] = self.grid.size_weight * pi[self.slack_row]

    def _step_chunk(
        self, message: PriceMessage, start: int, stop: int
    ) -> tuple[int, IntArray, IntArray, IntArray, float]:
        part = slice(start, stop)
        rows = self.bus_row[part]
        first, last = int(rows.min()), int(rows.max())
        bus_row, weight = rows - first, self.population.size_weight[part]
        state, target, rho_i = self._state[part], self._target[part], self._rho_i[part]
        pi, rescale = message.pi_kw[first : last + 1], message.rescale
        p_sum, phat_sum = np.zeros(pi.shape, dtype=np.int64), np.zeros(pi.shape, dtype=np.int64)
        norms = np.zeros(4, dtype=np.int64)
        p = np.empty_like(target)
        open_round(bus_row, weight, pi, rescale, message.rho, state, target, rho_i)
        self.solver.solve(start, stop, target, rho_i, p)
        magnitude = close_round(
            bus_row, weight, pi, rescale, self._relaxation, p, state, p_sum, phat_sum, norms
        )
        own = self.stores.between(start, stop)
        if own.stop > own.start:
            stores = self.stores.rows(start, stop)
            bus_row, weight = self._store_bus_row[own] - first, stores.size_weight
            state, target = self._store_state[own], self._store_target[own]
            rho_i, p = self._store_rho[own], np.empty_like(target)
            open_round(bus_row, weight, pi, rescale, message.rho, state, target, rho_i)
            burns = solve_stores(stores, self.period_hours, target, rho_i, p)
            self._store_burns[start] = burns
            magnitude += close_round(
                bus_row, weight, pi, rescale, self._relaxation, p, state, p_sum, phat_sum, norms
            )
        return first, p_sum, phat_sum, norms, magnitude

    def _step_grid(
        self,
        grid: GridConnection,
        message: PriceMessage,
        p_sum: IntArray,
        phat_sum: IntArray,
        norms: IntArray,
    ) -> float:
        row = np.zeros(1, dtype=np.int64)
        weight = np.array([grid.size_weight])
        pi = message.pi_kw[self.slack_row][None, :]
        state, target, rho_i = self._grid_state[None, :], np.empty((1, self.n_periods)), np.ones(1)
        open_round(row, weight, pi, message.rescale, message.rho, state, target, rho_i)
        self.grid_p_kw = solve_grid(grid, target[0], float(rho_i[0]))
        own = slice(self.slack_row, self.slack_row + 1)
        magnitude: float = close_round(
            row,
            weight,
            pi,
            message.rescale,
            self._relaxation,
            self.grid_p_kw[None, :],
            state,
            p_sum[own],
            phat_sum[own],
            norms,
        )
        return magnitude
