"""Passes up and down a part of a radial network; see `raygrid.market.tree`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.projection import RowFault
from raygrid.market.tree_kernels import add_up, balance, climb, descend, load_given, take_out
from raygrid.market.tree_part import TreePart

BALANCE = -1
"""Stands for the balance where else the number of a row stands."""


@dataclass(frozen=True)
class Injections:
    """Net injection of each node as a function of the price; see `raygrid.market.tree_kernels`.

    Attributes
    ----------
    value : (n, T) float64
        Injection at price 0 [kW].
    weight : (n,) int64
        How fast it falls with the price beyond all knots, in quanta of size weight.
    bent : (J,) int64
        Nodes with knots, ascending.
    price : (J, T, k) float64
        Their knots, ascending, the first half not above 0 and the others not below.
    fall : (J, T, k) int64
        By how much faster it falls from there on, in quanta; 0 for no knot.
    """

    value: FloatArray
    weight: IntArray
    bent: IntArray
    price: FloatArray
    fall: IntArray

    @classmethod
    def straight(cls, phat_kw: FloatArray, weight_quanta: IntArray) -> Injections:
        """Phat - n pi."""
        nothing = np.zeros((0, phat_kw.shape[1], 0))
        none = np.zeros(0, dtype=np.int64)
        return cls(phat_kw, weight_quanta, none, nothing, nothing.astype(np.int64))


@dataclass(frozen=True)
class Limits:
    """Limits of the net injection below each component's line, and wider ones to fall back on.

    Attributes
    ----------
    lower, upper : (C, T) float64
        Limits [kW]; infinite where there is none.
    second_lower, second_upper : (C, T) float64
        Limits where the first cannot be kept [kW].
    """

    lower: FloatArray
    upper: FloatArray
    second_lower: FloatArray
    second_upper: FloatArray

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """The four arrays, laid out for compiled code."""
        return (
            np.ascontiguousarray(self.lower),
            np.ascontiguousarray(self.upper),
            np.ascontiguousarray(self.second_lower),
            np.ascontiguousarray(self.second_upper),
        )


@dataclass(frozen=True)
class Responses:
    """What some subtrees tell the part above them: their net injection for every price.

    Attributes
    ----------
    buses : (R,) int64
        Positions of the buses at their tops.
    value : (R, T) float64
        Injection at price 0 [kW].
    weight : (R, T) int64
        How fast it falls with the price there, in quanta of size weight.
    size : (R, T) float64
        Largest number met, by which rounding is judged [kW].
    left, count : (R, T) int64
        Number of knots left of 0, and of all.
    price : (K,) float64
        All knots, top by top and period by period.
    fall : (K,) int64
        By how much faster the injection falls from each knot on, in quanta.
    faults : tuple of RowFault
        Periods in which limits in the subtrees contradict each other.
    """

    buses: IntArray
    value: FloatArray
    weight: IntArray
    size: FloatArray
    left: IntArray
    count: IntArray
    price: FloatArray
    fall: IntArray
    faults: tuple[RowFault, ...] = ()

    @classmethod
    def join(cls, parts: Sequence[Responses]) -> Responses:
        """Those of several parts."""

        arrays = (f.name for f in fields(cls) if f.name != "faults")
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in arrays}
        return cls(**joined, faults=_merged([fault for part in parts for fault in part.faults]))


@dataclass(frozen=True)
class Climbed:
    """Where a pass up has come to, for the pass down.

    Attributes
    ----------
    responses : Responses
        Functions of the subtrees.
    reach, leave : (C, T) float64
        Prices between which each component's price lies.
    """

    responses: Responses
    reach: FloatArray
    leave: FloatArray


class TreeSolver:
    """Passes up and down one part of a radial network.

    Parameters
    ----------
    part : TreePart
        The part.
    """

    def __init__(self, part: TreePart) -> None:
        self.part = part
        n = len(part.buses)
        limited = np.isfinite(part.lower).any(axis=1) | np.isfinite(part.upper).any(axis=1)
        is_top = limited | part.is_port | (part.parent < 0)
        self._comp_top: IntArray = np.flatnonzero(is_top)
        number = np.cumsum(is_top) - 1
        parent = part.parent.tolist()
        comp, spine = number.tolist(), is_top.copy()
        top_flags = is_top.tolist()
        for i in range(n):
            if not top_flags[i]:
                comp[i] = comp[parent[i]]
        for i in self._comp_top.tolist():
            above = parent[i]
            while above >= 0 and not spine[above]:
                spine[above] = True
                above = parent[above]
        self.comp: IntArray = np.array(comp, dtype=np.int64)
        parents = part.parent
        has_parent = parents >= 0
        under_spine = np.zeros(n, dtype=np.bool_)
        under_spine[has_parent] = spine[parents[has_parent]]
        self._items: IntArray = np.flatnonzero(spine | under_spine)
        item = np.full(n + 1, -1, dtype=np.int64)
        item[self._items] = np.arange(len(self._items))
        self._item_parent: IntArray = item[parents[self._items]]
        self._item_parent[parents[self._items] < 0] = -1
        self._item_comp: IntArray = np.where(is_top, number, -1)[self._items]
        self._top_item: IntArray = item[self._comp_top]
        self._pure_parent: IntArray = np.where(under_spine | ~has_parent, -1, parents)

        n_comps = len(self._comp_top)
        above_comp = parents[self._comp_top]
        self._above: IntArray = np.where(above_comp < 0, -1, self.comp[above_comp])
        self._tops: IntArray = np.flatnonzero(above_comp < 0)
        self._ports: IntArray = np.flatnonzero(part.is_port[self._comp_top])
        self._given: BoolArray = part.is_port[self._comp_top]
        self._child_first, self._child = _grouped(self._above, n_comps)
        self._end: IntArray = np.arange(1, n_comps + 1)
        above_list, ends = self._above.tolist(), self._end.tolist()
        for c in range(n_comps - 1, -1, -1):
            if above_list[c] >= 0:
                ends[above_list[c]] = max(ends[above_list[c]], ends[c])
        self._end = np.array(ends, dtype=np.int64)
        self._closed: IntArray = np.searchsorted(np.sort(self._end), np.arange(n_comps), "right")
        lower, upper = part.lower[self._comp_top], part.upper[self._comp_top]
        self.limits = Limits(lower, upper, lower, upper)
        self.row: IntArray = part.row[self._comp_top]
        self.sign: FloatArray = part.sign[self._comp_top]

    def climb(
        self,
        injections: Injections,
        given: Responses | None = None,
        limits: Limits | None = None,
    ) -> Climbed:
        """Pass up: the functions of all subtrees.

        Parameters
        ----------
        injections : Injections
            Of the part's own nodes; ports have none.
        given : Responses, optional
            Functions of the parts at the ports.
        limits : Limits, optional
            Others than the part's own.

        Returns
        -------
        Climbed
        """
        n_periods, n_comps = injections.value.shape[1], len(self._comp_top)
        base = np.zeros(n_comps, dtype=np.int64)
        np.add.at(base, self.comp, injections.weight)
        bent = injections.bent
        own_first, own = _grouped(self.comp[bent], n_comps)
        entry = np.ones(n_comps, dtype=np.int64)
        np.add.at(entry, self.comp[bent], injections.price.shape[2])
        comps, answers = self._at_ports(given)
        if answers is not None:
            entry[comps] += answers.count.max(axis=1, initial=0)
        start = np.cumsum(entry) - entry + self._closed
        cap = int(entry.sum()) + n_comps

        sums = np.array(injections.value, order="C")
        add_up(self._pure_parent, sums)
        value = np.ascontiguousarray(sums[self._items])
        q, d = np.empty((n_periods, cap)), np.empty((n_periods, cap), dtype=np.int64)
        shape = (n_comps, n_periods)
        begin, mid, end, weight, fault = (np.zeros(shape, dtype=np.int64) for _ in range(5))
        size, reach, leave = np.zeros(shape), np.full(shape, -np.inf), np.full(shape, np.inf)
        if answers is not None:
            value[self._top_item[comps]] = answers.value
            weight[comps], size[comps] = answers.weight, answers.size
            load_given(
                comps, answers.left, answers.count, answers.price, answers.fall, start,
                q, d, begin, mid, end,
            )  # fmt: skip
        own_limits = self.limits if limits is None else limits
        climb(
            self._item_parent, self._item_comp, value,
            self._child_first, self._child, self._given, base,
            *own_limits.bounds, start,
            own_first, own, injections.price, injections.fall,
            q, d, begin, mid, end, weight, size, reach, leave, fault,
        )  # fmt: skip
        tops = self._tops
        count = end[tops] - begin[tops]
        knots = np.empty(int(count.sum())), np.empty(int(count.sum()), dtype=np.int64)
        take_out(tops, q, d, begin, end, *knots)
        faults = self._faults(fault) + (() if answers is None else answers.faults)
        responses = Responses(
            self.part.buses[self._comp_top[tops]],
            value[self._top_item[tops]], weight[tops], size[tops],
            mid[tops] - begin[tops], count, *knots, _merged(faults),
        )  # fmt: skip
        return Climbed(responses, reach, leave)

    def descend(self, climbed: Climbed, price_kw: FloatArray) -> FloatArray:
        """Pass down: prices of all components from those above the tops.

        Parameters
        ----------
        climbed : Climbed
            Of the pass up.
        price_kw : (R, T) float64
            Price above each top's line, in the tops' order.

        Returns
        -------
        (C, T) float64
            Prices; those of the nodes follow by `nodes`.
        """
        price = np.zeros((len(self._above), price_kw.shape[1]))
        price[self._tops] = price_kw
        descend(self._above, climbed.reach, climbed.leave, price)
        return price

    def at_nodes(self, price_kw: FloatArray) -> FloatArray:
        """(n, T) prices of the nodes."""
        return np.asarray(price_kw[self.comp])

    def at_ports(self, price_kw: FloatArray, buses: IntArray) -> FloatArray:
        """(R, T) prices above the parts at some ports."""
        return np.asarray(price_kw[self._ports[self._port_order(buses)]])

    def multipliers(
        self, price_kw: FloatArray, above_kw: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """Own rows and their multipliers, the steps of the price across their lines.

        Parameters
        ----------
        price_kw : (C, T) float64
            Prices of the components.
        above_kw : (R, T) float64
            Prices above the tops.

        Returns
        -------
        rows : (m,) int64
            Positions of the rows.
        multipliers : (m, T) float64
            Positive at upper, negative at lower bounds.
        """
        above = price_kw[np.maximum(self._above, 0)]
        above[self._tops] = above_kw
        has = self.row >= 0
        return self.row[has], (self.sign[:, None] * (price_kw - above))[has]

    def _port_order(self, buses: IntArray) -> IntArray:
        at = self.part.buses[self._comp_top[self._ports]]
        order = np.argsort(at)
        return np.asarray(order[np.searchsorted(at, buses, sorter=order)])

    def _at_ports(self, given: Responses | None) -> tuple[IntArray, Responses | None]:
        if given is None:
            return np.zeros(0, dtype=np.int64), None
        return self._ports[self._port_order(given.buses)], given

    def _faults(self, fault: IntArray) -> tuple[RowFault, ...]:
        where = np.argwhere(fault != 0).tolist()
        return tuple(self.fault(t, int(self.row[c])) for c, t in where)

    def fault(self, period: int, row: int) -> RowFault:
        """The fault of a limited line (or of the balance) and what is limited right below it."""
        below = np.flatnonzero(self.part.row_above == row).tolist()
        return RowFault(period, tuple(below if row == BALANCE else [row, *below]))


def _grouped(keys: IntArray, n_groups: int) -> tuple[IntArray, IntArray]:
    """Where each group starts, and the members of all groups; those of key -1 are left out."""
    order = np.argsort(keys, kind="stable")
    order = order[np.count_nonzero(keys < 0) :]
    first = np.searchsorted(keys[order], np.arange(n_groups + 1)).astype(np.int64)
    return first, order.astype(np.int64)


def _merged(faults: Sequence[RowFault]) -> tuple[RowFault, ...]:
    """One fault a period, with all rows that any of them names, in order of period."""
    rows: dict[int, set[int]] = {}
    for fault in faults:
        rows.setdefault(fault.period, set()).update(fault.rows)
    return tuple(RowFault(t, tuple(sorted(rows[t]))) for t in sorted(rows))


def solve_balance(
    solver: TreeSolver, climbed: Climbed, granted_kw: FloatArray
) -> tuple[FloatArray, tuple[RowFault, ...]]:
    """Price of the balance of a whole network.

    Parameters
    ----------
    solver : TreeSolver
        Of the part with the slack bus.
    climbed : Climbed
        Of its pass up.
    granted_kw : (T,) float64
        How far off balance a period may end where it cannot be reached.

    Returns
    -------
    nu_kw : (T,) float64
        Prices.
    faults : tuple of RowFault
        Periods at fault, by limits below or by the balance.
    """
    top = climbed.responses
    n_periods = top.value.shape[1]
    nu, fault = np.zeros(n_periods), np.zeros(n_periods, dtype=np.int64)
    balance(
        top.value[0], top.weight[0], top.left[0], top.count[0], top.size[0], granted_kw,
        top.price, top.fall, nu, fault,
    )  # fmt: skip
    # Where limits below stand against each other, the balance says nothing of its own.
    fault[[found.period for found in top.faults]] = 0
    unbalanced = tuple(solver.fault(int(t), BALANCE) for t in np.flatnonzero(fault))
    return nu, _merged((*top.faults, *unbalanced))
