"""Operators of the feeders of a radial network, and one above them.

A feeder operator has some subtrees of the network, those in which only prosumers of its own hosts
stand. It adds up what the hosts send, tells the operator above how much its subtrees inject for
every price (`Responses`), gets back the prices above them, finds the duals of its buses, and sends
them to its hosts. The operator above has the rest of the network, and decides when rounds end.
Everybody does a part of the work of a single `Operator`, on the same numbers in the same order:
the bits are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import QUANTUM, FloatArray, IntArray, check_range, dequantise, quantise
from raygrid.grid.network import Network
from raygrid.grid.tree_rows import TreeRows, tree_line_rows
from raygrid.market.division import Division
from raygrid.market.judge import bus_sums
from raygrid.market.messages import (
    Aggregate,
    HostSummary,
    PriceMessage,
    RoundDecision,
    RoundOutcome,
)
from raygrid.market.operator import MEAN_ROUNDS, Operator
from raygrid.market.projection import ProjectionResult, ProjectionStatus
from raygrid.market.tree_part import TreePart, part_of
from raygrid.market.tree_solver import Climbed, Injections, Responses, TreeSolver, solve_balance


@dataclass(frozen=True)
class FeederSums:
    """Feeder operator to the one above: what it has gathered in a round.

    Attributes
    ----------
    iteration, feeder : int
        Round and sender.
    responses : Responses
        Net injection of its subtrees for every price.
    p_quanta, phat_quanta : (S, T) int64
        Sums of p and phat of its hosts at the shared buses.
    norm_quanta : (4,) int64
        Sums over its hosts' agents, see `Aggregate`.
    """

    iteration: int
    feeder: int
    responses: Responses
    p_quanta: IntArray
    phat_quanta: IntArray
    norm_quanta: IntArray


@dataclass(frozen=True)
class ConnectionPrices:
    """The operator above to a feeder operator: the projection, as far as it concerns that one.

    Attributes
    ----------
    iteration : int
        Round.
    above_kw : (R, T) float64
        Duals above its subtrees [kW].
    shared_kw : (S, T) float64
        Duals of the shared buses [kW].
    """

    iteration: int
    above_kw: FloatArray
    shared_kw: FloatArray


@dataclass(frozen=True)
class NextRound:
    """The operator above to a feeder operator: what follows a round.

    Attributes
    ----------
    iteration : int
        Number of the next round.
    decision : RoundDecision
        Whether another round follows.
    rho, rescale : float
        Its penalty, see `PriceMessage`.
    """

    iteration: int
    decision: RoundDecision
    rho: float
    rescale: float


@dataclass(frozen=True)
class FeederState:
    """Feeder operator to the one above when rounds end: its part of the last projections.

    Attributes
    ----------
    buses : (n,) int64
        Positions of its buses.
    pi_kw : (n, T) float64
        Their duals [kW].
    rows : (m,) int64
        Positions of its limits.
    multipliers : (m, T) float64
        Their multipliers at the last projection.
    row_prices : (k, m, T) float64
        Their prices at the last projections, the newest last.
    """

    buses: IntArray
    pi_kw: FloatArray
    rows: IntArray
    multipliers: FloatArray
    row_prices: FloatArray


class _Part:
    """A part of the network with the weights and sums of its own buses."""

    def __init__(
        self, part: TreePart, n_buses: int, n_periods: int, hosts: Sequence[HostSummary]
    ) -> None:
        self.solver = TreeSolver(part)
        self.is_port = part.is_port
        self.buses = part.buses
        self._shape = (len(part.buses), n_periods)
        self._node = np.full(n_buses, -1, dtype=np.int64)
        self._node[part.buses[~part.is_port]] = np.flatnonzero(~part.is_port)
        self._weight_quanta: IntArray = np.zeros(len(part.buses), dtype=np.int64)
        for host in hosts:
            inside, nodes = self.where(host.buses)
            self._weight_quanta[nodes] += host.weight_quanta[inside]
        self._weight: FloatArray = dequantise(self._weight_quanta)
        self._p_quanta: IntArray = np.zeros(self._shape, dtype=np.int64)
        self._phat_quanta: IntArray = np.zeros(self._shape, dtype=np.int64)
        self._p_kw = self._phat_kw = self._z_kw = self.pi_kw = np.zeros(self._shape)
        self.multipliers: FloatArray = np.zeros((0, n_periods))
        self.rows: IntArray = np.zeros(0, dtype=np.int64)
        self._climbed: Climbed | None = None

    def where(self, buses: IntArray) -> tuple[IntArray, IntArray]:
        """Which of some buses are in this part, and their nodes."""
        nodes = self._node[buses]
        inside = np.flatnonzero(nodes >= 0)
        return inside, nodes[inside]

    def clear(self) -> None:
        """Begin a round's sums."""
        self._p_quanta[:] = 0
        self._phat_quanta[:] = 0

    def add(self, nodes: IntArray, p_quanta: IntArray, phat_quanta: IntArray) -> None:
        """Add sums at some nodes, each of which is named once."""
        self._p_quanta[nodes] += p_quanta
        self._phat_quanta[nodes] += phat_quanta

    def forget(self) -> None:
        """Forget the last z, after a round that is to be done again."""
        self._z_kw = np.zeros(self._shape)

    def climb(self, given: Responses | None = None) -> Climbed:
        """Pass up with the round's sums."""
        self._p_kw, self._phat_kw = dequantise(self._p_quanta), dequantise(self._phat_quanta)
        injections = Injections.straight(self._phat_kw, self._weight_quanta)
        self._climbed = self.solver.climb(injections, given)
        return self._climbed

    def descend(self, above_kw: FloatArray) -> FloatArray:
        """Pass down from the duals above the tops; the duals of all components (C, T)."""
        assert self._climbed is not None
        price = self.solver.descend(self._climbed, above_kw)
        self.pi_kw = self.solver.at_nodes(price)
        self.rows, self.multipliers = self.solver.multipliers(price, above_kw)
        return price

    def bus_sums(self) -> IntArray:
        """The round's `raygrid.market.judge.bus_sums` of this part; z moves on."""
        arrays = [self._weight, self.pi_kw, self._p_kw, self._phat_kw, self._z_kw]
        if self.is_port.any():
            arrays = [array[~self.is_port] for array in arrays]
        sums = bus_sums(*arrays)
        self._z_kw = self._phat_kw - self._weight[:, None] * self.pi_kw
        return sums


class FeederOperator:
    """Gathers the sums of its hosts, and finds the duals of the buses below its tops.

    Parameters
    ----------
    feeder : int
        Its number.
    rows : TreeRows
        Limits of the whole network.
    division : Division
        Who has what.
    hosts : sequence of HostSummary
        Of its own hosts, in host order.
    masked : bool
        Whether hosts mask what they send.
    """

    def __init__(
        self,
        feeder: int,
        rows: TreeRows,
        division: Division,
        hosts: Sequence[HostSummary],
        masked: bool = False,
    ) -> None:
        self.feeder = feeder
        self._masked = masked
        self._shared = division.shared[feeder]
        n_periods = rows.lower.shape[1]
        part = part_of(rows, division.tops[feeder].tolist())
        self._part = _Part(part, rows.n_buses, n_periods, hosts)
        self._own = [self._part.where(host.buses) for host in hosts]
        self._others = [_common(host.buses, self._shared) for host in hosts]
        self._sizes = [len(host.buses) for host in hosts]
        self._shared_kw: FloatArray = np.zeros((len(self._shared), n_periods))
        self._row_prices: deque[FloatArray] = deque(maxlen=MEAN_ROUNDS)
        self._rho = 1.0

    def gather(self, aggregates: Sequence[Aggregate], rho: float) -> FeederSums:
        """What the operator above must know of a round.

        Parameters
        ----------
        aggregates : sequence of Aggregate
            Of its hosts, in host order.
        rho : float
            Penalty of the round.
        """
        part, self._rho = self._part, rho
        part.clear()
        shape = (len(self._shared), part.pi_kw.shape[1])
        p, phat = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        norms = np.zeros(4, dtype=np.int64)
        largest = np.zeros(3)
        for message, own, others in zip(aggregates, self._own, self._others, strict=True):
            sums = message.p_quanta, message.phat_quanta, message.norm_quanta
            if not self._masked:
                largest += [float(np.abs(quanta).max(initial=0)) for quanta in sums]
            part.add(own[1], message.p_quanta[own[0]], message.phat_quanta[own[0]])
            p[others[1]] += message.p_quanta[others[0]]
            phat[others[1]] += message.phat_quanta[others[0]]
            norms += message.norm_quanta
        check_range(float(largest.max()) * QUANTUM)
        climbed = part.climb()
        return FeederSums(aggregates[0].iteration, self.feeder, climbed.responses, p, phat, norms)

    def settle(self, prices: ConnectionPrices) -> IntArray:
        """Find the duals of its buses; its part of the round's `bus_sums`."""
        self._shared_kw = prices.shared_kw
        self._part.descend(prices.above_kw)
        self._row_prices.append(self._rho * self._part.multipliers)
        return self._part.bus_sums()

    def messages(self, following: NextRound) -> tuple[PriceMessage, ...]:
        """What opens the next round, one message per host."""
        pi = self._part.pi_kw
        messages = []
        for size, own, others in zip(self._sizes, self._own, self._others, strict=True):
            values = np.empty((size, pi.shape[1]))
            values[own[0]], values[others[0]] = pi[own[1]], self._shared_kw[others[1]]
            messages.append(
                PriceMessage(following.iteration, values, following.rho, following.rescale)
            )
        return tuple(messages)

    def forget(self) -> None:
        """Be ready to do a round again, after somebody was lost."""
        self._part.forget()

    def state(self) -> FeederState:
        """Its part of the last projections."""
        part = self._part
        return FeederState(
            part.buses, part.pi_kw, part.rows, part.multipliers, _history(self._row_prices, part)
        )


class TopOperator:
    """Balances the whole network, and leads the rounds in the place of a single operator.

    Parameters
    ----------
    operator : Operator
        Whose place it takes: with its options, round and tolerances, over `TreeRows`. It goes on
        when the rounds end, see `hand_back`.
    division : Division
        Who has what.
    hosts : sequence of HostSummary
        Of all hosts, in host order.
    """

    def __init__(
        self, operator: Operator, division: Division, hosts: Sequence[HostSummary]
    ) -> None:
        rows = operator.rows
        assert isinstance(rows, TreeRows)
        self._operator, self._division = operator, division
        slack = int(rows.tree.order[0])
        ports = np.concatenate(division.tops)
        n_periods = rows.lower.shape[1]
        self._part = _Part(part_of(rows, [slack], ports.tolist()), rows.n_buses, n_periods, hosts)
        self._shared = [self._part.where(buses)[1] for buses in division.shared]
        self._n_values = rows.n_buses * n_periods
        self._nu_kw: FloatArray = np.zeros(n_periods)
        self._norms: IntArray = np.zeros(4, dtype=np.int64)
        self._balance_prices: deque[FloatArray] = deque(maxlen=MEAN_ROUNDS)
        self._row_prices: deque[FloatArray] = deque(maxlen=MEAN_ROUNDS)

    def project(self, sums: Sequence[FeederSums]) -> tuple[ConnectionPrices, ...] | None:
        """Balance a round's sums.

        Parameters
        ----------
        sums : sequence of FeederSums
            One per feeder operator, in order.

        Returns
        -------
        tuple of ConnectionPrices, or None
            One per feeder operator; None where limits contradict each other.
        """
        part, judge = self._part, self._operator.judge
        part.clear()
        for nodes, message in zip(self._shared, sums, strict=True):
            part.add(nodes, message.p_quanta, message.phat_quanta)
        self._norms = np.sum([message.norm_quanta for message in sums], axis=0)
        climbed = part.climb(Responses.join([message.responses for message in sums]))
        nu, faults = solve_balance(part.solver, climbed, np.zeros(len(self._nu_kw)))
        self._nu_kw = nu
        price = part.descend(nu[None, :])
        if faults:
            return None
        self._balance_prices.append(-judge.rho * nu)
        self._row_prices.append(judge.rho * part.multipliers)
        return tuple(
            ConnectionPrices(judge.iteration, part.solver.at_ports(price, tops), part.pi_kw[nodes])
            for tops, nodes in zip(self._division.tops, self._shared, strict=True)
        )

    def decide(self, bus_sums: Sequence[IntArray]) -> tuple[RoundOutcome, NextRound]:
        """Residuals and decision of a round; its outcome carries no messages.

        Parameters
        ----------
        bus_sums : sequence of (N_SUMS,) int64
            Of all feeder operators.
        """
        total = np.sum([self._part.bus_sums(), *bus_sums], axis=0)
        verdict = self._operator.judge.decide(self._norms, total)
        mean = verdict.price_sum_per_kwh / self._n_values
        judge = self._operator.judge
        following = NextRound(judge.iteration, verdict.decision, judge.rho, verdict.rescale)
        return RoundOutcome(verdict.decision, verdict.record, mean, ()), following

    def redo(self, sums: Sequence[FeederSums]) -> tuple[ConnectionPrices, ...]:
        """A round that is known, done once more for what it leaves behind; nothing is decided."""
        prices = self.project(sums)
        assert prices is not None
        self._part.bus_sums()
        return prices

    def forget(self) -> None:
        """Be ready to do a round again, after somebody was lost."""
        self._part.forget()

    def give_up(self) -> RoundOutcome:
        """The outcome of a round whose limits contradict each other."""
        judge = self._operator.judge
        judge.iteration += 1
        mean = -judge.rho * float(np.mean(self._nu_kw))
        return RoundOutcome(RoundDecision.PROJECTION_INFEASIBLE, None, mean, ())

    def hand_back(self, states: Sequence[FeederState]) -> None:
        """Give the operator what it would know, had it led the rounds itself.

        Parameters
        ----------
        states : sequence of FeederState
            Of all feeder operators.
        """
        own = self._part
        mine = ~own.is_port
        every = [
            FeederState(
                own.buses[mine], own.pi_kw[mine], own.rows, own.multipliers,
                _history(self._row_prices, own),
            ),
            *states,
        ]  # fmt: skip
        operator, n_periods = self._operator, own.pi_kw.shape[1]
        pi = np.zeros((operator.rows.n_buses, n_periods))
        multipliers = np.zeros((operator.rows.n_rows, n_periods))
        n_rounds = min(len(state.row_prices) for state in every)
        row_prices = np.zeros((n_rounds, *multipliers.shape))
        for state in every:
            pi[state.buses] = state.pi_kw
            multipliers[state.rows] = state.multipliers
            row_prices[:, state.rows] = state.row_prices[len(state.row_prices) - n_rounds :]
        prices = list(self._balance_prices)[len(self._balance_prices) - n_rounds :]
        operator.take_over(
            ProjectionResult(ProjectionStatus.OK, pi, self._nu_kw, multipliers, np.zeros_like(pi)),
            list(zip(prices, row_prices, strict=True)),
        )


def _history(prices: deque[FloatArray], part: _Part) -> FloatArray:
    """(k, m, T) prices of a part's rows, the newest last."""
    return np.array(prices).reshape(len(prices), *part.multipliers.shape)


def _common(buses: IntArray, shared: IntArray) -> tuple[IntArray, IntArray]:
    """Where some ascending buses stand in `buses` and in `shared`, of those in both."""
    _, one, other = np.intersect1d(buses, shared, assume_unique=True, return_indices=True)
    return one.astype(np.int64), other.astype(np.int64)


def load_kernels() -> None:
    """Compile what feeder operators and the one above them run, or load it."""
    line, one = np.zeros(2), np.ones((2, 1))
    network = Network(
        "line", np.arange(3), 0, np.arange(2), np.array([0, 1]), np.array([1, 2]),
        line, line + 1.0, line + 1.0, line,
    )  # fmt: skip
    rows = tree_line_rows(network, -one, one, np.arange(2))
    host = HostSummary(np.arange(3), 3, quantise(np.ones(3)))
    below = _Part(part_of(rows, [2]), 3, 1, [host])
    above = _Part(part_of(rows, [0], [2]), 3, 1, [host])
    climbed = above.climb(below.climb().responses)
    nu, _ = solve_balance(above.solver, climbed, np.zeros(1))
    price = above.descend(nu[None, :])
    below.descend(above.solver.at_ports(price, np.array([2])))
    above.bus_sums()
