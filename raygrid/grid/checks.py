"""Checks that a network can be computed with: each says what is wrong, where, and the cure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import Network

MAX_NAMED = 10
"""How many buses or lines a message names before it only counts the rest."""


def named(ids: Iterable[object]) -> str:
    """List identifiers for a message: at most `MAX_NAMED` of them, then a count."""
    items = [str(item) for item in ids]
    shown = ", ".join(items[:MAX_NAMED])
    rest = len(items) - MAX_NAMED
    return shown if rest <= 0 else f"{shown} and {rest} more"


def unconnected_buses(n_buses: int, from_bus: IntArray, to_bus: IntArray, slack: int) -> BoolArray:
    """(B,) bool: buses that no path of lines joins to the slack bus.

    Parameters
    ----------
    n_buses : int
        Number of buses B.
    from_bus, to_bus : (L,) int64
        Positions of the lines' ends.
    slack : int
        Position of the slack bus.
    """
    graph = coo_array((np.ones(len(from_bus)), (from_bus, to_bus)), shape=(n_buses, n_buses))
    _, island = connected_components(graph, directed=False)
    return np.asarray(island != island[slack])


def check_shapes(network: Network, where: str) -> None:
    """Refuse arrays whose lengths do not fit each other."""
    n_lines = network.n_lines
    for name in ("from_bus", "to_bus", "r_pu", "x_pu", "limit_kw", "flow_offset_kw"):
        length = len(getattr(network, name))
        if length != n_lines:
            raise InputError(
                f"{name} has {length} entries for {n_lines} lines", where, "give one per line"
            )
    if len(network.bus_xy) not in (0, network.n_buses):
        raise InputError(
            f"bus_xy has {len(network.bus_xy)} rows for {network.n_buses} buses",
            where,
            "give one position per bus or none",
        )


def check_buses(network: Network, where: str) -> None:
    """Refuse no bus at all, a bus number that occurs twice, and a slack that is not there."""
    if network.n_buses == 0:
        raise InputError("the network has no bus", where, "give at least one bus")
    numbers, counts = np.unique(network.bus_id, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"bus {named(numbers[counts > 1])} occurs more than once",
            where,
            "give every bus its own number",
        )
    if not 0 <= network.slack < network.n_buses:
        raise InputError(
            f"there is no slack bus (position {network.slack} of {network.n_buses} buses)",
            where,
            "name the bus where the upstream grid is connected",
        )


def check_line_ends(network: Network, where: str) -> None:
    """Refuse line numbers that occur twice, ends that are no bus, and lines to themselves."""
    numbers, counts = np.unique(network.line_id, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"line {named(numbers[counts > 1])} occurs more than once",
            where,
            "give every line its own number (parallel lines too)",
        )
    for end in (network.from_bus, network.to_bus):
        _refuse_lines(
            network,
            (end < 0) | (end >= network.n_buses),
            where,
            "ends at a bus that is not in the network",
            "add the bus or correct the line's end",
        )
    _refuse_lines(
        network,
        network.from_bus == network.to_bus,
        where,
        "joins a bus to itself",
        "correct one of its ends or remove it",
    )


def check_finite(network: Network, where: str) -> None:
    """Refuse NaN everywhere, and infinities where only a limit may be infinite."""
    for name in ("r_pu", "x_pu", "flow_offset_kw"):
        _refuse_lines(
            network,
            ~np.isfinite(getattr(network, name)),
            where,
            f"has a {name} that is not a finite number",
            "give its value",
        )
    _refuse_lines(
        network,
        np.isnan(network.limit_kw),
        where,
        "has a limit_kw that is not a number",
        "give the limit, or inf for none",
    )
    if not (np.isfinite(network.base_kva) and network.base_kva > 0):
        raise InputError(
            f"base_kva is {network.base_kva}", where, "give a positive common base in kVA"
        )


def check_limits(network: Network, where: str) -> None:
    """Refuse negative line limits."""
    _refuse_lines(
        network,
        network.limit_kw < 0,
        where,
        "has a negative limit_kw",
        "give the limit as a positive number of kW, or inf for none",
        lambda line: f"{network.limit_kw[line]:g} kW",
    )


def check_reactances(network: Network, where: str) -> None:
    """Refuse zero reactance, for which no DC power flow is defined."""
    _refuse_lines(
        network,
        network.x_pu == 0,
        where,
        "has zero reactance, so that its DC flow is not defined",
        "give its reactance in x_pu, or join its two buses into one",
    )


def check_signs(network: Network, where: str) -> None:
    """Refuse negative reactance and resistance, which a typed table has only by mistake.

    Equivalent circuits (the star of a three-winding transformer, a series capacitor) may have
    them, so networks converted from pandapower are not held to this.
    """
    for name in ("x_pu", "r_pu"):
        values = getattr(network, name)
        _refuse_lines(
            network,
            values < 0,
            where,
            f"has a negative {name}",
            f"give {name} as a positive number",
            lambda line, values=values: f"{values[line]:g}",  # type: ignore[misc]
        )


def check_connected(network: Network, where: str) -> None:
    """Refuse a split network, and name the buses that are cut off from the slack bus."""
    cut_off = unconnected_buses(network.n_buses, network.from_bus, network.to_bus, network.slack)
    if cut_off.any():
        raise InputError(
            f"bus {named(network.bus_id[cut_off])} not connected to the slack bus "
            f"{network.bus_id[network.slack]}",
            where,
            "add or close a line to them, or leave them out",
        )


def check_network(network: Network, where: str) -> Network:
    """Check a network that was built from tables, and hand it back.

    Parameters
    ----------
    network : Network
        The network.
    where : str
        The file or key that it came from, for the message.

    Returns
    -------
    Network
        The same network.

    Raises
    ------
    InputError
        Shapes that do not fit, no bus, duplicate or unknown bus or line numbers, NaN, zero or
        negative reactance, negative resistance or limit, no slack bus, buses cut off from it.
    """
    for check in (
        check_shapes,
        check_buses,
        check_line_ends,
        check_finite,
        check_signs,
        check_reactances,
        check_limits,
        check_connected,
    ):
        check(network, where)
    return network


def _refuse_lines(
    network: Network,
    wrong: BoolArray,
    where: str,
    what: str,
    cure: str,
    value: Callable[[int], str] | None = None,
) -> None:
    if wrong.any():
        lines = np.flatnonzero(wrong)
        suffix = f" ({value(int(lines[0]))})" if value else ""
        raise InputError(f"line {named(network.line_id[lines])} {what}{suffix}", where, cure)


def as_finite_array(
    values: FloatArray, shape: tuple[int, ...], name: str, where: str
) -> FloatArray:
    """Return values as float64 of the given shape; refuse NaN, infinities and other shapes."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise InputError(
            f"{name} has shape {array.shape} instead of {shape}",
            where,
            "give one row per bus and one column per period",
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} has values that are not finite", where, "fill the gaps")
    return array
