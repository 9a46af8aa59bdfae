"""Electrical distance between buses, for matching trades with electrically near partners."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import depth_first_order, minimum_spanning_tree

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import Network

MAX_BUSES = 2000
"""Largest network for which the dense (B, B) distance is built."""


def electrical_distance(network: Network) -> FloatArray:
    """Effective impedance between every two buses.

    Lines count as real resistors of their impedance's magnitude |r + jx|, so that the distance
    is the effective resistance of a resistor network (Klein and Randic, J. Math. Chem. 12,
    1993): a metric, the sum of |z| along the path in a tree, less where paths run in parallel.

    Parameters
    ----------
    network : Network
        A connected network of at most `MAX_BUSES` buses.

    Returns
    -------
    (B, B) float64
        Symmetric distances on the network's base, zero on the diagonal [p.u.].

    Raises
    ------
    InputError
        More than `MAX_BUSES` buses: use `neighbour_order`.
    """
    n_buses = network.n_buses
    if n_buses > MAX_BUSES:
        raise InputError(
            f"{n_buses} buses are too many for a dense distance (at most {MAX_BUSES})",
            f"network {network.name!r}",
            "use neighbour_order",
        )
    conductance = 1.0 / np.hypot(network.r_pu, network.x_pu)
    laplacian = np.zeros((n_buses, n_buses))
    ends = (network.from_bus, network.to_bus)
    for a, b in (ends, ends[::-1]):
        np.add.at(laplacian, (a, a), conductance)
        np.subtract.at(laplacian, (a, b), conductance)
    others = np.delete(np.arange(n_buses), network.slack)
    inverse = np.zeros((n_buses, n_buses))
    inverse[np.ix_(others, others)] = np.linalg.inv(laplacian[np.ix_(others, others)])
    diagonal = np.diag(inverse)
    distance = diagonal[:, None] + diagonal[None, :] - inverse - inverse.T
    np.fill_diagonal(distance, 0.0)
    return np.maximum(distance, 0.0)


def neighbour_order(network: Network) -> IntArray:
    """An order of the buses in which neighbours in the order are electrically near.

    Depth first from the slack bus through the tree of least impedance, so that each feeder and
    each of its branches stays together. Works for any size.

    Parameters
    ----------
    network : Network
        A connected network.

    Returns
    -------
    (B,) int64
        Bus positions, the slack bus first.
    """
    n_buses = network.n_buses
    impedance = np.hypot(network.r_pu, network.x_pu)
    low = np.minimum(network.from_bus, network.to_bus)
    high = np.maximum(network.from_bus, network.to_bus)
    # Of parallel lines the strongest counts; a sparse matrix would add them up.
    pair = low * n_buses + high
    strongest = np.lexsort((impedance, pair))
    _, first = np.unique(pair[strongest], return_index=True)
    lines = strongest[first]
    graph = csr_array(
        coo_array((impedance[lines], (low[lines], high[lines])), shape=(n_buses, n_buses))
    )
    tree = minimum_spanning_tree(graph)
    order = depth_first_order(tree, network.slack, directed=False, return_predecessors=False)
    return np.asarray(order, dtype=np.int64)
