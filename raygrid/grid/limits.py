"""Limits on bus injections as rows: lines (thesis 3-19) and voltages (AI-TEM 9).

Only rows that can bind are kept. Where the range of each bus' injection is known, the largest
value of a row over that box and the balance is a fractional knapsack, solved exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.checks import as_finite_array
from raygrid.grid.network import Network, NetworkRows
from raygrid.grid.ptdf import MAX_DENSE_ENTRIES, PtdfFactor
from raygrid.grid.tree_rows import LimitRows, TreeRows, subtree_ranges, tree_line_rows
from raygrid.grid.voltage import VoltageModel, lindistflow

SCREEN_MARGIN = 1e-3
"""A row stays if it can come this close to a bound, relative to the room between the bounds."""

ROWS_AT_A_TIME = 256

MAX_DENSE_TREE_ENTRIES = 1_000_000
"""Entries of a radial network's dense rows up to which they are taken as a matrix."""


def line_rows(
    network: Network,
    factor: PtdfFactor,
    n_periods: int,
    p_min_kw: FloatArray | None = None,
    p_max_kw: FloatArray | None = None,
    *,
    as_tree: bool | None = None,
) -> LimitRows:
    """Line limits -limit <= PTDF p + f0 <= limit (3-19) of the lines that can bind.

    Parameters
    ----------
    network : Network
        The network.
    factor : PtdfFactor
        Its factorisation.
    n_periods : int
        Number of periods T.
    p_min_kw, p_max_kw : (B, T) float64, optional
        Range of each bus' net injection [kW], infinite where unknown. Without them every line
        with a finite limit is kept.
    as_tree : bool, optional
        Whether rows of a radial network are `TreeRows`; without it, those of large ones are.

    Returns
    -------
    NetworkRows or TreeRows
        Rows of kind 'line', bounds less the flow of phase shifters [kW].

    Raises
    ------
    InputError
        A range that is empty or has NaN, or more rows than fit in memory.
    ValueError
        Tree rows are asked for and the network is not radial.
    """
    box = _box(network, n_periods, p_min_kw, p_max_kw)
    candidates = np.flatnonzero(np.isfinite(network.limit_kw))
    limit, offset = network.limit_kw[candidates], network.flow_offset_kw[candidates]
    lower = np.repeat((-limit - offset)[:, None], n_periods, axis=1)
    upper = np.repeat((limit - offset)[:, None], n_periods, axis=1)
    if as_tree is None:
        entries = len(candidates) * network.n_buses
        as_tree = network.is_radial and entries > MAX_DENSE_TREE_ENTRIES
    if as_tree:
        rows = tree_line_rows(network, lower, upper, candidates)
        if box is None:
            return rows
        can_bind = _near(subtree_ranges(rows, box.low, box.high, box.balanced), lower, upper)
        return tree_line_rows(network, lower, upper, candidates, can_bind, rows.tree)
    return _screened(factor.rows, candidates, lower, upper, box, "line", network)


def voltage_rows(
    network: Network,
    v_min_pu: float | FloatArray,
    v_max_pu: float | FloatArray,
    q_bus_kvar: FloatArray,
    v_slack_pu: float = 1.0,
    model: VoltageModel | None = None,
    p_min_kw: FloatArray | None = None,
    p_max_kw: FloatArray | None = None,
) -> NetworkRows:
    """Voltage limits v_min <= v0 + R p + X q <= v_max (AI-TEM 9) of the buses that can bind.

    Without a model, LinDistFlow in its squared form (see `lindistflow`).

    Parameters
    ----------
    network : Network
        The network; radial where no model is given.
    v_min_pu, v_max_pu : float or (B,) float64
        Voltage limits [p.u.].
    q_bus_kvar : (B, T) float64
        Net reactive injection per bus [kvar]; loads are negative.
    v_slack_pu : float
        Voltage of the slack bus [p.u.], for LinDistFlow.
    model : VoltageModel, optional
        Sensitivities of a meshed network, from `jacobian_sensitivities`.
    p_min_kw, p_max_kw : (B, T) float64, optional
        As in `line_rows`.

    Returns
    -------
    NetworkRows
        Rows of kind 'voltage' [p.u./kW], `index` the position of the bus.

    Raises
    ------
    InputError
        Limits that cross or are not positive, a meshed network without model, a bus whose
        voltage is fixed outside its limits, or bad ranges.
    """
    where = f"voltage limits of network {network.name!r}"
    n_buses = network.n_buses
    v_min, v_max = (
        np.broadcast_to(np.asarray(v, dtype=np.float64), (n_buses,)) for v in (v_min_pu, v_max_pu)
    )
    if not ((v_min > 0) & (v_min < v_max)).all():
        raise InputError(
            "a lower limit is not positive or not below the upper one",
            where,
            "give limits such as 0.9 and 1.1 p.u.",
        )
    n_periods = np.shape(q_bus_kvar)[1] if np.ndim(q_bus_kvar) == 2 else 0
    q_bus = as_finite_array(q_bus_kvar, (n_buses, n_periods), "q_bus_kvar", where)
    model = lindistflow(network, v_slack_pu) if model is None else model
    box = _box(network, n_periods, p_min_kw, p_max_kw)
    at_zero = model.level_at_zero_p(q_bus)
    lower = model.level(v_min)[:, None] - at_zero
    upper = model.level(v_max)[:, None] - at_zero

    fixed = ~model.dv_dp_pu_per_kw.any(axis=1)
    outside = fixed & ((lower > 0) | (upper < 0)).any(axis=1)
    if outside.any():
        bus = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"no injection changes the voltage of bus {network.bus_id[bus]}, and it is outside "
            f"{v_min[bus]:g} to {v_max[bus]:g} p.u.",
            where,
            "change its voltage set point or the limits",
        )
    moving = np.flatnonzero(~fixed)
    return _screened(
        lambda buses: model.dv_dp_pu_per_kw[buses],
        moving, lower[moving], upper[moving], box, "voltage", network,
    )  # fmt: skip


def empty_rows(network: Network, n_periods: int) -> NetworkRows:
    """No rows at all: a market without network limits."""
    return NetworkRows(
        np.zeros((0, network.n_buses)),
        np.zeros((0, n_periods)),
        np.zeros((0, n_periods)),
        np.zeros(0, dtype="<U7"),
        np.zeros(0, dtype=np.int64),
    )


def stack_rows(first: LimitRows, second: NetworkRows) -> LimitRows:
    """The rows of both, first ones first; dense unless there are none of the second kind.

    Raises
    ------
    InputError
        They are for different numbers of buses or periods, or too many for dense rows.
    """
    if first.n_buses != second.n_buses or first.lower.shape[1] != second.lower.shape[1]:
        raise InputError(
            f"rows for {first.n_buses} buses and {first.lower.shape[1]} periods do not "
            f"fit rows for {second.n_buses} buses and {second.lower.shape[1]} periods",
            "network limits",
            "build both for the same network and horizon",
        )
    if isinstance(first, TreeRows):
        if not second.n_rows:
            return first
        if first.n_rows * first.n_buses > MAX_DENSE_ENTRIES:
            raise InputError(
                f"{first.n_rows} line limits of {first.n_buses} buses stand beside voltage "
                "limits, too many for dense rows",
                "network limits",
                "leave the voltage limits out, or raise line limits that need not bind",
            )
        first = first.dense()
    return NetworkRows(
        np.vstack([first.matrix, second.matrix]),
        np.vstack([first.lower, second.lower]),
        np.vstack([first.upper, second.upper]),
        np.concatenate([first.kind, second.kind]),
        np.concatenate([first.index, second.index]),
    )


def largest_values(matrix: FloatArray, p_min_kw: FloatArray, p_max_kw: FloatArray) -> FloatArray:
    """Largest value of each row over a box of injections that balance.

    ``max h p  s.t.  p_min <= p <= p_max, sum p = 0`` is a fractional knapsack: from the lower
    bounds, the missing injection goes to the buses with the largest h first. In a period where
    the box holds no balanced injections the balance is dropped, which can only give more.

    Parameters
    ----------
    matrix : (M, B) float64
        Rows h.
    p_min_kw, p_max_kw : (B, T) float64
        Range of each bus' injection [kW]; may be infinite.

    Returns
    -------
    (M, T) float64
        The largest value of each row in each period; inf where nothing bounds it.
    """
    return _largest(matrix, _tightened(p_min_kw, p_max_kw))


@dataclass(frozen=True)
class _Box:
    """Injection ranges (B, T), and in which periods they hold a balance and are bounded."""

    low: FloatArray
    high: FloatArray
    balanced: BoolArray
    bounded: BoolArray


def _tightened(low: FloatArray, high: FloatArray) -> _Box:
    """Cut the box down to what balance allows, which bounds one infinite bus by the others."""
    balanced = np.asarray((low.sum(axis=0) <= 0) & (high.sum(axis=0) >= 0))
    for _ in range(2):
        low, high = (
            np.where(balanced, np.maximum(low, -_sum_of_others(high)), low),
            np.where(balanced, np.minimum(high, -_sum_of_others(low)), high),
        )
    bounded = np.asarray(np.isfinite(low).all(axis=0) & np.isfinite(high).all(axis=0))
    return _Box(low, np.maximum(low, high), balanced, bounded)


def _largest(matrix: FloatArray, box: _Box) -> FloatArray:
    """(M, T): `largest_values` of a box that is tightened already."""
    result = np.full((len(matrix), box.low.shape[1]), np.inf)
    if not box.bounded.any():
        return result
    low, high = box.low[:, box.bounded], box.high[:, box.bounded]
    balanced = box.balanced[box.bounded]
    width = high - low
    missing = np.where(balanced, -low.sum(axis=0), 0.0)
    free = np.flatnonzero((width > 0).any(axis=1))
    value = matrix @ low
    for m, row in enumerate(matrix):
        order = free[np.argsort(-row[free], kind="stable")]
        room = width[order]
        before = np.cumsum(room, axis=0) - room
        filled = np.clip(missing - before, 0.0, room)
        greedy = row[order] @ filled
        loose = np.maximum(row[order], 0.0) @ room
        value[m] += np.where(balanced, greedy, loose)
    result[:, box.bounded] = value
    return result


def _can_bind(matrix: FloatArray, lower: FloatArray, upper: FloatArray, box: _Box) -> BoolArray:
    """(M,) bool: rows whose value comes near a bound somewhere in the box.

    The knapsack costs a sort per row, so a bound without the balance (the knapsack's dual at
    multiplier 0) first takes out the many rows that stay far from their limits.
    """
    up, down = np.maximum(matrix, 0.0), np.minimum(matrix, 0.0)
    high = up @ box.high + down @ box.low
    low = up @ box.low + down @ box.high
    near = _near((low, high), lower, upper)
    rows = np.flatnonzero(near)
    high, low = _largest(matrix[rows], box), -_largest(-matrix[rows], box)
    near[rows] = _near((low, high), lower[rows], upper[rows])
    return near


def _near(values: tuple[FloatArray, FloatArray], lower: FloatArray, upper: FloatArray) -> BoolArray:
    """(M,) bool: rows whose least or largest value comes near a bound in some period."""
    room = SCREEN_MARGIN * (upper - lower)
    low, high = values
    return np.asarray(((high > upper - room) | (low < lower + room)).any(axis=1))


def _sum_of_others(values: FloatArray) -> FloatArray:
    """(B, T): for each bus the sum over all others; infinite only if another one is."""
    infinite = np.isinf(values)
    finite = np.where(infinite, 0.0, values)
    others = finite.sum(axis=0) - finite
    others_infinite = infinite.sum(axis=0) - infinite
    sign = np.where(infinite, np.sign(values), 0.0).sum(axis=0)
    return np.where(others_infinite > 0, np.where(sign >= 0, np.inf, -np.inf), others)


def _box(
    network: Network, n_periods: int, p_min_kw: FloatArray | None, p_max_kw: FloatArray | None
) -> _Box | None:
    """The given ranges, checked and tightened; None where they bound nothing."""
    if p_min_kw is None and p_max_kw is None:
        return None
    where = f"injection ranges of network {network.name!r}"
    shape = (network.n_buses, n_periods)
    low = np.full(shape, -np.inf) if p_min_kw is None else np.asarray(p_min_kw, dtype=np.float64)
    high = np.full(shape, np.inf) if p_max_kw is None else np.asarray(p_max_kw, dtype=np.float64)
    for name, values in (("p_min_kw", low), ("p_max_kw", high)):
        if values.shape != shape or np.isnan(values).any():
            raise InputError(
                f"{name} has shape {values.shape} or holds NaN, where {shape} is needed",
                where,
                "give one row per bus and one column per period",
            )
    if (low > high).any() or np.isposinf(low).any() or np.isneginf(high).any():
        bus = int(np.argwhere(~(low <= high) | np.isposinf(low) | np.isneginf(high))[0, 0])
        raise InputError(
            f"the range of bus {network.bus_id[bus]} is empty", where, "give p_min_kw <= p_max_kw"
        )
    box = _tightened(low, high)
    return box if box.bounded.all() else None


def _screened(
    rows_of: Callable[[IntArray], FloatArray],
    candidates: IntArray,
    lower: FloatArray,
    upper: FloatArray,
    box: _Box | None,
    kind: str,
    network: Network,
) -> NetworkRows:
    """Rows of the candidates that can come near a bound, made a few at a time."""
    parts: list[FloatArray] = []
    kept: list[IntArray] = []
    n_kept = 0
    for start in range(0, len(candidates), ROWS_AT_A_TIME):
        part = np.arange(start, min(start + ROWS_AT_A_TIME, len(candidates)))
        matrix = rows_of(candidates[part])
        if box is not None:
            near = _can_bind(matrix, lower[part], upper[part], box)
            part, matrix = part[near], matrix[near]
        parts.append(matrix)
        kept.append(part)
        n_kept += len(part)
        if n_kept * network.n_buses > MAX_DENSE_ENTRIES:
            raise InputError(
                f"more than {n_kept} {kind} limits of {network.n_buses} buses can bind, too many "
                "for dense rows",
                f"network {network.name!r}",
                "give narrower injection ranges, or limits only where they matter",
            )
    if not n_kept:
        return empty_rows(network, lower.shape[1])
    chosen = np.concatenate(kept)
    return NetworkRows(
        np.vstack(parts),
        lower[chosen],
        upper[chosen],
        np.full(len(chosen), kind),
        candidates[chosen],
    )
