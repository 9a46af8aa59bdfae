"""Limits of lines in a radial network, where a flow is the sum of the injections below it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.grid.network import Network, NetworkRows

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Tree:
    """A radial network hung up at its slack bus.

    Attributes
    ----------
    parent : (B,) int64
        Bus above each bus, -1 at the slack bus.
    order : (B,) int64
        Buses from the top, each subtree in one piece: a bus, then all buses below it.
    end : (B,) int64
        Where in `order` the subtree of the bus at that place ends.
    """

    parent: IntArray
    order: IntArray
    end: IntArray

    @cached_property
    def place(self) -> IntArray:
        """(B,) place of each bus in `order`."""
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(self.order))
        return place

    @cached_property
    def parent_place(self) -> IntArray:
        """(B,) for each place in `order` that of the bus above, -1 at the top."""
        above = self.parent[self.order]
        return np.where(above < 0, -1, self.place[above])

    def below(self, bus: int) -> IntArray:
        """Buses of the subtree of a bus, itself first."""
        start = int(self.place[bus])
        return self.order[start : int(self.end[start])]


def hang_up(network: Network) -> Tree:
    """The tree of a radial network, its slack bus at the top.

    Parameters
    ----------
    network : Network
        A connected radial network.

    Returns
    -------
    Tree
        Parents and order.

    Raises
    ------
    ValueError
        The network is not radial.
    """
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import depth_first_order

    if not network.is_radial:
        raise ValueError(f"network {network.name!r} is not radial")
    n_buses = network.n_buses
    ends = (network.from_bus, network.to_bus)
    graph = csr_array(coo_array((np.ones(network.n_lines), ends), shape=(n_buses, n_buses)))
    order, above = depth_first_order(graph, network.slack, directed=False)
    order = order.astype(np.int64)
    if len(order) != n_buses:
        raise ValueError(f"network {network.name!r} is not connected")
    parent = np.where(above < 0, -1, above).astype(np.int64)
    place = np.empty(n_buses, dtype=np.int64)
    place[order] = np.arange(n_buses)
    count = np.ones(n_buses, dtype=np.int64)
    above_place = np.where(parent[order] < 0, -1, place[parent[order]])
    for at in range(n_buses - 1, 0, -1):
        count[above_place[at]] += count[at]
    return Tree(parent, order, np.arange(n_buses) + count)


@dataclass(frozen=True)
class TreeRows:
    """Limits of lines of a radial network: lower <= flow(t) <= upper, without a matrix.

    The flow of a line is the sum of the injections at all buses below it, with the sign of the
    line's direction; offsets are already taken into the bounds. Stands in for `NetworkRows`.

    Attributes
    ----------
    tree : Tree
        The network, its slack bus at the top.
    below : (M,) int64
        Bus at the lower end of each row's line; no two rows share a line.
    sign : (M,) float64
        1 where the line points to the slack bus, -1 where it points away.
    lower, upper : (M, T) float64
        Bounds [kW]; -inf and inf where there is none.
    kind : (M,) str array
        'line'.
    index : (M,) int64
        Position of the line the row belongs to.
    """

    tree: Tree
    below: IntArray
    sign: FloatArray
    lower: FloatArray
    upper: FloatArray
    kind: np.ndarray[tuple[int], np.dtype[np.str_]]
    index: IntArray

    @property
    def n_rows(self) -> int:
        """Number of rows M."""
        return len(self.below)

    @property
    def n_buses(self) -> int:
        """Number of buses B."""
        return len(self.tree.order)

    @cached_property
    def row_above(self) -> IntArray:
        """(M,) row of the next limited line on the way up from each row's line, -1 if none."""
        row_of = np.full(self.n_buses, -1, dtype=np.int64)
        row_of[self.tree.place[self.below]] = np.arange(self.n_rows)
        start = np.sort(self.tree.place[self.below])
        above = np.full(self.n_rows, -1, dtype=np.int64)
        open_rows: list[int] = []
        for at in start.tolist():
            while open_rows and self._end[open_rows[-1]] <= at:
                open_rows.pop()
            row = int(row_of[at])
            if open_rows:
                above[row] = open_rows[-1]
            open_rows.append(row)
        return above

    @cached_property
    def _start(self) -> IntArray:
        return self.tree.place[self.below]

    @cached_property
    def _end(self) -> IntArray:
        return self.tree.end[self._start]

    def flows(self, p_bus_kw: FloatArray) -> FloatArray:
        """(M, T) value of each row for bus injections (B, T)."""
        total = np.zeros((self.n_buses + 1, *p_bus_kw.shape[1:]))
        np.cumsum(p_bus_kw[self.tree.order], axis=0, out=total[1:])
        return np.asarray(self.sign[:, None] * (total[self._end] - total[self._start]))

    def prices(self, multipliers: FloatArray) -> FloatArray:
        """(B, T) what multipliers (M, T) of the rows make of an injection: matrix' m."""
        step = np.zeros((self.n_buses + 1, *multipliers.shape[1:]))
        own = self.sign[:, None] * multipliers
        np.add.at(step, self._start, own)
        np.add.at(step, self._end, -own)
        result = np.empty((self.n_buses, *multipliers.shape[1:]))
        result[self.tree.order] = np.cumsum(step[:-1], axis=0)
        return result

    def sparse(self) -> csr_array:
        """(M, B) matrix of the rows."""
        count = self._end - self._start
        indptr = np.concatenate([[0], np.cumsum(count)])
        place = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - self._start, count)
        columns = self.tree.order[place]
        entries = np.repeat(self.sign, count)
        from scipy.sparse import csr_array

        matrix = csr_array((entries, columns, indptr), shape=(self.n_rows, self.n_buses))
        matrix.sort_indices()
        return matrix

    def sizes(self) -> FloatArray:
        """(M,) largest coefficient of each row."""
        return np.ones(self.n_rows)

    def with_bounds(self, lower: FloatArray, upper: FloatArray) -> TreeRows:
        """The same rows with other bounds."""
        return replace(self, lower=lower, upper=upper)

    def dense(self) -> NetworkRows:
        """The same rows with a matrix."""
        matrix = self.sparse().toarray()
        return NetworkRows(matrix, self.lower, self.upper, self.kind, self.index)


LimitRows = NetworkRows | TreeRows
"""Rows in either form."""


def tree_line_rows(
    network: Network,
    lower: FloatArray,
    upper: FloatArray,
    candidates: IntArray,
    can_bind: BoolArray | None = None,
    tree: Tree | None = None,
) -> TreeRows:
    """Rows of the candidate lines of a radial network.

    Parameters
    ----------
    network : Network
        A connected radial network.
    lower, upper : (M, T) float64
        Bounds of the candidates' flows [kW].
    candidates : (M,) int64
        Positions of the lines.
    can_bind : (M,) bool, optional
        Which of them to keep; all without.
    tree : Tree, optional
        The network's tree, where it is known.
    """
    tree = hang_up(network) if tree is None else tree
    from_bus, to_bus = network.from_bus[candidates], network.to_bus[candidates]
    upwards = tree.parent[from_bus] == to_bus
    keep = np.flatnonzero(np.ones(len(candidates)) if can_bind is None else can_bind)
    return TreeRows(
        tree,
        np.where(upwards, from_bus, to_bus)[keep],
        np.where(upwards, 1.0, -1.0)[keep],
        lower[keep],
        upper[keep],
        np.full(len(keep), "line"),
        candidates[keep],
    )


def subtree_ranges(
    rows: TreeRows, low: FloatArray, high: FloatArray, balanced: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Least and largest value of each row over a box of injections, balanced where it can be.

    In a tree the knapsack of `raygrid.grid.limits.largest_values` is two sums: what is below a
    line can give as much as it has, and as much as the rest can take.

    Parameters
    ----------
    rows : TreeRows
        Rows.
    low, high : (B, T) float64
        Finite range of each bus' injection [kW].
    balanced : (T,) bool
        Periods in which the box holds a balance.

    Returns
    -------
    least, largest : (M, T) float64
        Range of the rows' values [kW].
    """
    upwards = replace(rows, sign=np.ones(rows.n_rows))
    below_low, below_high = upwards.flows(low), upwards.flows(high)
    rest_low, rest_high = low.sum(axis=0) - below_low, high.sum(axis=0) - below_high
    largest = np.where(balanced, np.minimum(below_high, -rest_low), below_high)
    least = np.where(balanced, np.maximum(below_low, -rest_high), below_low)
    down = rows.sign[:, None] < 0
    return np.where(down, -largest, least), np.where(down, -least, largest)
