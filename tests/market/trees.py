"""Random radial networks with limited lines, which several tests share."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import BoolArray, FloatArray
from raygrid.grid.network import Network
from raygrid.grid.tree_rows import TreeRows, tree_line_rows


def random_tree(rng: np.random.Generator, n_buses: int) -> Network:
    """Lines in both directions, numbered at random; some networks deep, some flat."""
    reach = int(rng.integers(1, n_buses + 1))
    below = np.arange(1, n_buses)
    above = np.array([int(rng.integers(max(0, b - reach), b)) for b in below], dtype=np.int64)
    name = rng.permutation(n_buses)
    turned = rng.random(n_buses - 1) < 0.5
    return Network(
        name="random",
        bus_id=np.arange(n_buses),
        slack=int(name[0]),
        line_id=np.arange(n_buses - 1),
        from_bus=name[np.where(turned, above, below)],
        to_bus=name[np.where(turned, below, above)],
        r_pu=np.ones(n_buses - 1),
        x_pu=np.ones(n_buses - 1),
        limit_kw=np.full(n_buses - 1, np.inf),
        flow_offset_kw=np.zeros(n_buses - 1),
    )


def unlimited_rows(rng: np.random.Generator, network: Network, n_periods: int) -> TreeRows:
    """Rows of some of the lines, to be given bounds."""
    limited: BoolArray = rng.random(network.n_lines) < rng.random()
    lines = np.flatnonzero(limited)
    none = np.zeros((len(lines), n_periods))
    return tree_line_rows(network, none, none, lines)


def random_projection(
    seed: int, n_buses: int | None = None, feasible: bool = True
) -> tuple[TreeRows, FloatArray, FloatArray]:
    """Rows, weights and sums; empty buses, one-sided and very narrow limits included."""
    rng = np.random.default_rng(seed)
    n_buses = int(rng.integers(2, 14)) if n_buses is None else n_buses
    rows = unlimited_rows(rng, random_tree(rng, n_buses), 3)
    weight = np.round(rng.uniform(0.2, 30, n_buses) * (rng.random(n_buses) > 0.3), 6)
    weight[rng.integers(n_buses)] = 1.0
    moved = (weight > 0)[:, None]
    inside = rng.normal(size=(n_buses, 3)) * moved
    inside -= weight[:, None] * inside.sum(axis=0) / weight.sum()
    value = rows.flows(inside)
    if not feasible:
        value = value + rng.normal(size=value.shape)
    # Room is left even where limits are narrow, so that rounding decides nothing.
    lower = value - 1e-3 - rng.exponential(0.5, value.shape) * (rng.random(value.shape) > 0.2)
    upper = value + 1e-3 + rng.exponential(0.5, value.shape) * (rng.random(value.shape) > 0.2)
    lower[rng.random(value.shape) < 0.2] = -np.inf
    upper[rng.random(value.shape) < 0.2] = np.inf
    phat = rng.normal(size=(n_buses, 3)) * 5 * moved
    return rows.with_bounds(lower, upper), weight, phat
