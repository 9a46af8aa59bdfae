"""Where to draw the buses of a network whose positions nobody gave."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, dijkstra

from raygrid.arrays import FloatArray, IntArray

PIVOTS = 50
STRESS_BUSES = 400
"""Up to so many buses positions are refined over all pairs, which takes B^2 memory."""


def bus_positions(n_buses: int, from_bus: IntArray, to_bus: IntArray, slack: int) -> FloatArray:
    """Positions for a drawing: a tree by layers where radial, by graph distance where meshed.

    Parameters
    ----------
    n_buses : int
        Number of buses B.
    from_bus, to_bus : (L,) int64
        Positions of the lines' ends.
    slack : int
        Position of the slack bus, the root of a tree.

    Returns
    -------
    (B, 2) float64
        x and y within [0, 1]; finite and not all equal for two buses or more.
    """
    ends = np.unique(np.sort(np.column_stack([from_bus, to_bus]), axis=1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]] if len(ends) else ends.reshape(0, 2)
    ones = np.ones(len(ends))
    graph = csr_array((ones, (ends[:, 0], ends[:, 1])), shape=(n_buses, n_buses))
    graph = csr_array(graph + graph.T)
    xy = _tree(graph, slack) if len(ends) < n_buses else _by_distance(graph)
    span = np.ptp(xy, axis=0)
    return np.asarray((xy - xy.min(axis=0)) / np.where(span > 0, span, 1.0))


def _tree(graph: csr_array, root: int) -> FloatArray:
    """Layers by distance from the root; leaves side by side, longest branch last."""
    order, parent = breadth_first_order(graph, root, directed=False)
    n = graph.shape[0]
    depth = np.zeros(n)
    height = np.zeros(n)
    children: list[list[int]] = [[] for _ in range(n)]
    for node in order[1:]:
        depth[node] = depth[parent[node]] + 1
        children[parent[node]].append(int(node))
    for node in order[:0:-1]:
        height[parent[node]] = max(height[parent[node]], height[node] + 1)
    row = np.zeros(n)
    next_row = 0.0
    stack = [(root, False)]
    while stack:
        node, placed = stack.pop()
        if not children[node]:
            row[node] = next_row
            next_row += 1
        elif placed:
            # A feeder runs straight along its longest branch.
            row[node] = row[max(children[node], key=lambda child: height[child])]
        else:
            stack.append((node, True))
            stack.extend(
                (child, False) for child in sorted(children[node], key=lambda c: height[c])
            )
    return np.column_stack([depth, row])


def _by_distance(graph: csr_array) -> FloatArray:
    """Drawn distances like distances in the graph: pivot scaling, then stress where small."""
    n = graph.shape[0]
    every = max(1, n // PIVOTS)
    far = dijkstra(graph, directed=False, unweighted=True, indices=np.arange(0, n, every)).T
    far[~np.isfinite(far)] = far[np.isfinite(far)].max()
    centred = far**2 - (far**2).mean(axis=0) - (far**2).mean(axis=1, keepdims=True)
    centred = centred + (far**2).mean()
    xy = np.linalg.svd(centred, full_matrices=False)[0][:, :2] * n
    if n > STRESS_BUSES:
        return np.asarray(xy)
    wanted = dijkstra(graph, directed=False, unweighted=True)
    wanted[~np.isfinite(wanted)] = wanted[np.isfinite(wanted)].max()
    weight = np.divide(1.0, wanted**2, where=wanted > 0, out=np.zeros_like(wanted))
    xy = xy * (wanted.mean() / max(float(np.ptp(xy)), 1e-12))
    # Stress majorisation, node weights on the diagonal (a Jacobi step of SMACOF).
    for _ in range(150):
        apart = xy[:, None, :] - xy[None, :, :]
        length = np.sqrt((apart**2).sum(axis=2))
        length[length < 1e-9] = 1e-9
        pull = (xy[None, :, :] + wanted[:, :, None] * apart / length[:, :, None]) * weight[
            ..., None
        ]
        xy = 0.5 * xy + 0.5 * pull.sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)[:, None]
    # Longest side across.
    moved = xy - xy.mean(axis=0)
    turn = np.linalg.svd(moved, full_matrices=False)[2]
    return np.asarray(moved @ turn.T)
