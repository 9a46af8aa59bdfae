"""The projection onto balance and line limits of a radial network, exact and direct.

In a tree the flow of a line is the net injection S below it, and S is a non-increasing, piecewise
linear function of the price above the line. Going up, functions of what is below add up, and a
limit cuts them at two prices; where the whole network's function is zero is the price of the
balance; going down, the price of each part of the network is that above its line, moved to
between the two prices where the line's limits cut. The step is the line's multiplier.

Parts of the network that no limited line divides have one price and are one component. A part cut
off below some lines (`TreePart`) answers with its function; who has the rest needs nothing else of
it, and sends back the price above. The arithmetic is the same wherever the cuts are.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray, IntArray, dequantise, quantise
from raygrid.grid.tree_rows import LimitRows, TreeRows
from raygrid.market.projection import Projection, ProjectionResult, ProjectionStatus
from raygrid.market.tree_part import part_of
from raygrid.market.tree_solver import Injections, TreeSolver, solve_balance


class TreeProjection:
    """`Projection` for a radial network of any size: exact, and in one pass up and down.

    Parameters
    ----------
    rows : TreeRows
        Limits.
    bus_weight : (B,) float64
        Sum of size weights per bus n_b, in whole quanta.
    """

    def __init__(self, rows: TreeRows, bus_weight: FloatArray) -> None:
        weight = np.asarray(bus_weight, dtype=np.float64)
        if not (weight >= 0).all() or not weight.sum() > 0:
            raise ValueError("bus weights must not be negative, nor all of them zero")
        if rows.n_buses != len(weight):
            raise ValueError(f"rows of {rows.n_buses} buses for {len(weight)} buses")
        self._rows = rows
        self._solver = TreeSolver(part_of(rows, [int(rows.tree.order[0])]))
        self._weight: IntArray = quantise(weight)[rows.tree.order]

    def project(self, phat_bus_kw: FloatArray) -> ProjectionResult:
        """Project all periods: (4-6) on a tree.

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
        """
        if not np.isfinite(phat_bus_kw).all():
            raise ValueError("phat_bus_kw has entries that are not finite")
        order, solver = self._rows.tree.order, self._solver
        phat = np.asarray(phat_bus_kw, dtype=np.float64)[order]
        climbed = solver.climb(Injections.straight(phat, self._weight))
        nu, faults = solve_balance(solver, climbed, np.zeros(phat.shape[1]))
        price = solver.descend(climbed, nu[None, :])
        pi, z = np.empty_like(phat), np.empty_like(phat)
        pi[order] = own = solver.at_nodes(price)
        z[order] = phat - dequantise(self._weight)[:, None] * own
        multipliers = np.zeros((self._rows.n_rows, phat.shape[1]))
        rows, values = solver.multipliers(price, nu[None, :])
        multipliers[rows] = values
        return ProjectionResult(
            status=ProjectionStatus.INFEASIBLE if faults else ProjectionStatus.OK,
            pi_kw=pi,
            nu_kw=nu,
            multipliers=multipliers,
            z_bus_kw=z,
            faults=faults,
        )


def projection_onto(rows: LimitRows, bus_weight: FloatArray) -> Projection | TreeProjection:
    """The projection that fits the rows' form."""
    if isinstance(rows, TreeRows):
        return TreeProjection(rows, bus_weight)
    return Projection(rows, bus_weight)
