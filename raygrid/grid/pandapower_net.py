"""A pandapower network as raygrid's arrays.

pandapower's own conversion to branches and buses is used, so that switches, taps, vector groups,
parallel systems and star points of three-winding transformers mean what they mean there.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.checks import (
    check_buses,
    check_finite,
    check_limits,
    check_line_ends,
    check_reactances,
    named,
    unconnected_buses,
)
from raygrid.grid.network import Network

# Columns of pandapower's branch and bus matrices (MATPOWER case format, version 2).
FROM, TO, R, X, TAP, SHIFT = 0, 1, 2, 3, 8, 9
P_FROM, Q_FROM, P_TO, Q_TO = 13, 14, 15, 16
VOLTAGE, BASE_KV = 7, 9

NO_LIMIT_KA = 99999.0
"""A line rated this high [kA] or above has no limit: pandapower's stand-in for 'none'."""

UNSUPPORTED = ("dcline", "tcsc", "ssc", "vsc", "line_dc")
"""Elements with power flows of their own, which PTDF does not describe."""

ELEMENTS = ("line", "trafo", "trafo3w", "impedance", "switch")
"""Elements that become lines, in the order of their line numbers."""

SIDES = ("hv", "mv", "lv")

StrArray = np.ndarray[Any, np.dtype[np.str_]]


@dataclass(frozen=True)
class PandapowerNetwork:
    """A network with the way back to the pandapower elements it came from.

    Attributes
    ----------
    network : Network
        The network as arrays.
    position_of_bus : dict of int to int
        Position in `network` of every in-service pandapower bus; buses that closed bus-bus
        switches fuse share one.
    element : (L,) str array
        pandapower table of each line: 'line', 'trafo', 'trafo3w', 'impedance' or 'switch'.
    element_index : (L,) int64
        Index of the line in that table.
    element_side : (L,) str array
        'hv', 'mv' or 'lv' for the branches of three-winding transformers, else empty.
    """

    network: Network
    position_of_bus: dict[int, int]
    element: StrArray
    element_index: IntArray
    element_side: StrArray


@contextmanager
def pandapower_quietly() -> Iterator[None]:
    """Hush pandapower's notices about table columns of its own older test networks."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def network_from_pandapower(
    net: Any,
    *,
    name: str | None = None,
    limits_kw: float | Mapping[int, float] | FloatArray | None = None,
    slack_bus: int | None = None,
) -> Network:
    """Convert a pandapower network; see `convert_pandapower` for the rules.

    Parameters
    ----------
    net : pandapowerNet
        The network; it is not changed.
    name : str, optional
        Name shown in results; the net's own by default.
    limits_kw : float, mapping of line number to float, or (L,) array, optional
        Limits [kW] in place of the net's ratings; a mapping overrides single lines.
    slack_bus : int, optional
        pandapower bus of the grid connection; needed where several external grids stand at
        different buses.

    Returns
    -------
    Network
        The network as arrays.

    Raises
    ------
    InputError
        See `convert_pandapower`.
    """
    return convert_pandapower(net, name=name, limits_kw=limits_kw, slack_bus=slack_bus).network


def convert_pandapower(
    net: Any,
    *,
    name: str | None = None,
    limits_kw: float | Mapping[int, float] | FloatArray | None = None,
    slack_bus: int | None = None,
) -> PandapowerNetwork:
    """Convert a pandapower network and keep the way back to its elements.

    What is in service counts: lines with both ends connected, transformers with two and three
    windings, impedances, closed bus-bus switches with an impedance; closed switches without one
    fuse their buses into one that bears the smallest number. A line that is open at one end
    carries nothing and is left out. Loads, generation and shunts are not part of the network.

    Line numbers are pandapower's for the table 'line'; transformers, three-winding transformers
    (hv, mv, lv branch of each), impedances and switches are numbered on from there. The star
    point of a three-winding transformer is a bus of its own, numbered after the last bus.

    ``x_pu`` is the reactance times the off-nominal turns ratio, as in pandapower's DC power
    flow, and ``r_pu`` is scaled alike; phase shifts become ``flow_offset_kw``, the flow they
    drive at zero injection. Limits are apparent power at rated voltage, taken as kW:
    sqrt(3) vn max_i_ka parallel df max_loading_percent / 100 of a line,
    sn_mva parallel df max_loading_percent / 100 of a transformer, inf of anything else and of
    ratings of 99999 kA, which stand for none.

    Parameters
    ----------
    net, name, limits_kw, slack_bus
        As in `network_from_pandapower`.

    Returns
    -------
    PandapowerNetwork
        The network and the elements behind its lines and buses.

    Raises
    ------
    InputError
        No slack, several without a choice, buses in service that are cut off from the slack
        (they are named), a DC line or FACTS element, a branch without reactance, a negative or
        missing limit.
    """
    where = f"pandapower network {name or _own_name(net)!r}"
    _refuse_unsupported(net, where)
    slack = _slack_bus(net, slack_bus, where)
    work, branch = _branches(net, slack, where)
    lookup = work._pd2ppc_lookups["bus"]

    in_service = np.sort(net.bus.index.to_numpy(np.int64)[net.bus.in_service.to_numpy(bool)])
    element, element_index, side, rows = _branch_elements(work)
    from_ppc, to_ppc = (branch[rows, end].real.astype(np.int64) for end in (FROM, TO))
    keep = _without_dead_ends(from_ppc, to_ppc, np.unique(lookup[in_service]))
    element, element_index = element[keep], element_index[keep]
    side, rows = side[keep], rows[keep]
    from_ppc, to_ppc = from_ppc[keep], to_ppc[keep]

    position, bus_id = _bus_positions(net, lookup, in_service, from_ppc, to_ppc)
    from_bus, to_bus = position[from_ppc], position[to_ppc]
    slack_position = int(position[lookup[slack]])
    _refuse_islands(
        net, in_service, position[lookup[in_service]], bus_id, from_bus, to_bus, slack_position,
        where,
    )  # fmt: skip

    tap = np.where(branch[rows, TAP].real == 0, 1.0, branch[rows, TAP].real)
    line_id = _line_ids(net, element, element_index, side)
    network = Network(
        name=name or _own_name(net),
        bus_id=bus_id,
        slack=slack_position,
        line_id=line_id,
        from_bus=from_bus,
        to_bus=to_bus,
        r_pu=branch[rows, R].real * tap,
        x_pu=branch[rows, X].real * tap,
        limit_kw=_override(
            _ratings_kw(net, element, element_index, side), limits_kw, line_id, where
        ),
        flow_offset_kw=np.zeros(len(rows)),
        base_kva=float(net.sn_mva) * 1e3,
        bus_xy=_positions_xy(net, in_service, position[lookup[in_service]], from_bus, to_bus),
    )
    for check in (check_buses, check_line_ends, check_finite, check_reactances, check_limits):
        check(network, where)
    offset = _phase_shift_flow_kw(network, np.deg2rad(branch[rows, SHIFT].real))
    network = Network(**{**vars(network), "flow_offset_kw": offset})
    return PandapowerNetwork(
        network,
        {int(bus): int(position[lookup[bus]]) for bus in in_service},
        element,
        element_index,
        side,
    )


def branch_rows(net: Any, converted: PandapowerNetwork) -> IntArray:
    """(L,) rows of a solved net's branch matrix that belong to the network's lines.

    Parameters
    ----------
    net : pandapowerNet
        A net of the same topology after `runpp` or `rundcpp`.
    converted : PandapowerNetwork
        The conversion of that topology.
    """
    element, element_index, side, rows = _branch_elements(net, all_rows=True)
    row_of = dict(zip(zip(element, element_index, side, strict=True), rows, strict=True))
    lines = zip(converted.element, converted.element_index, converted.element_side, strict=True)
    return np.array([row_of[line] for line in lines], dtype=np.int64)


def _own_name(net: Any) -> str:
    return str(net.name) if getattr(net, "name", None) else "unnamed"


def _refuse_unsupported(net: Any, where: str) -> None:
    for table in UNSUPPORTED:
        if table in net and len(net[table]) and net[table].in_service.any():
            raise InputError(
                f"has {int(net[table].in_service.sum())} {table} in service, whose flow does not "
                "follow from reactances",
                where,
                "switch them off and model their ends as prosumers",
            )


def _slack_bus(net: Any, slack_bus: int | None, where: str) -> int:
    grids = net.ext_grid.bus[net.ext_grid.in_service.astype(bool)].tolist()
    if not grids and len(net.gen):
        slack_gens = net.gen.in_service.astype(bool) & net.gen.slack.astype(bool)
        grids = net.gen.bus[slack_gens].tolist()
    buses = sorted({int(bus) for bus in grids})
    if slack_bus is not None:
        if slack_bus not in net.bus.index or not bool(net.bus.in_service.at[slack_bus]):
            raise InputError(
                f"slack bus {slack_bus} is not a bus in service", where, "name one that is"
            )
        return int(slack_bus)
    if not buses:
        raise InputError(
            "has no slack: no external grid and no slack generator in service",
            where,
            "add an ext_grid at the bus of the grid connection, or name that bus",
        )
    if len(buses) > 1:
        raise InputError(
            f"has external grids at buses {named(buses)}, and a market has one grid connection",
            where,
            "name the bus of the grid connection as slack_bus, or switch the others off",
        )
    if not bool(net.bus.in_service.at[buses[0]]):
        raise InputError(f"slack bus {buses[0]} is out of service", where, "switch it on")
    return buses[0]


def _branches(net: Any, slack: int, where: str) -> tuple[Any, np.ndarray[Any, Any]]:
    """A converted copy of the net, and its branch matrix, in-service rows only."""
    from pandapower.converter.pypower.to_ppc import to_ppc

    work = copy.deepcopy(net)
    if not work.ext_grid.bus[work.ext_grid.in_service.astype(bool)].eq(slack).any():
        import pandapower as pp

        pp.create_ext_grid(work, slack)
    try:
        with pandapower_quietly():
            case = to_ppc(work, init="flat", mode="pf")
    except Exception as error:  # whatever pandapower raises on damaged tables
        raise InputError(
            f"pandapower cannot convert it ({error})", where, "run pandapower.diagnostic on it"
        ) from error
    return work, case["branch"]


def _branch_elements(
    net: Any, *, all_rows: bool = False
) -> tuple[StrArray, IntArray, StrArray, IntArray]:
    """Table, index, side and row of every in-service branch of a converted net.

    Rows count in-service branches only, as in pandapower's internal case, or all of them.
    """
    tables: list[str] = []
    indices: list[int] = []
    sides: list[str] = []
    for table, (start, stop) in net._pd2ppc_lookups["branch"].items():
        if table == "switch":
            index = net.switch.index[net._impedance_bb_switches].tolist()
        elif table == "trafo3w":
            index = net[table].index.tolist() * 3
        else:
            index = net[table].index.tolist()
        tables += [table] * (stop - start)
        indices += index
        sides += (
            list(np.repeat(SIDES, len(net.trafo3w)))
            if table == "trafo3w"
            else [""] * (stop - start)
        )
    in_service = np.asarray(net._ppc["internal"]["branch_is"], dtype=bool)
    rows = np.flatnonzero(in_service) if all_rows else np.arange(int(in_service.sum()))
    return (
        np.array(tables, dtype=np.str_)[in_service],
        np.array(indices, dtype=np.int64)[in_service],
        np.array(sides, dtype=np.str_)[in_service],
        rows.astype(np.int64),
    )


def _without_dead_ends(from_ppc: IntArray, to_ppc: IntArray, real_buses: IntArray) -> BoolArray:
    """(branches,) bool: drop branches that hang on an auxiliary bus that leads nowhere.

    Auxiliary buses stand for open line ends, inner buses of extended wards and star points.
    """
    n_buses = int(max(from_ppc.max(initial=-1), to_ppc.max(initial=-1), real_buses.max())) + 1
    auxiliary = np.ones(n_buses, dtype=bool)
    auxiliary[real_buses] = False
    keep = np.ones(len(from_ppc), dtype=bool)
    while True:
        degree = np.bincount(np.concatenate([from_ppc[keep], to_ppc[keep]]), minlength=n_buses)
        dead = auxiliary & (degree == 1)
        if not dead.any():
            return keep
        keep &= ~(dead[from_ppc] | dead[to_ppc])


def _bus_positions(
    net: Any, lookup: IntArray, in_service: IntArray, from_ppc: IntArray, to_ppc: IntArray
) -> tuple[IntArray, IntArray]:
    """Position of every internal bus (-1: none) and the bus numbers by position."""
    representatives, first = np.unique(lookup[in_service], return_index=True)
    order = np.argsort(first)
    star_points = np.setdiff1d(np.concatenate([from_ppc, to_ppc]), representatives)
    internal = np.concatenate([representatives[order], star_points])
    position = np.full(int(max(internal.max(), lookup.max())) + 1, -1, dtype=np.int64)
    position[internal] = np.arange(len(internal))
    above = int(net.bus.index.max()) + 1
    bus_id = np.concatenate([in_service[first[order]], above + np.arange(len(star_points))])
    return position, bus_id.astype(np.int64)


def _refuse_islands(
    net: Any,
    in_service: IntArray,
    position: IntArray,
    bus_id: IntArray,
    from_bus: IntArray,
    to_bus: IntArray,
    slack: int,
    where: str,
) -> None:
    cut_off = unconnected_buses(len(bus_id), from_bus, to_bus, slack)
    buses = in_service[cut_off[position]]
    if len(buses):
        raise InputError(
            f"bus {named(buses)} in service but not connected to the slack bus {bus_id[slack]}",
            where,
            "close a switch or line to them, or set them out of service",
        )


def _line_ids(
    net: Any,
    element: StrArray,
    index: IntArray,
    side: StrArray,
) -> IntArray:
    """Numbers that do not depend on what is in service: pandapower's for lines, then on."""
    line_id = index.copy()
    start = int(net.line.index.max()) + 1 if len(net.line) else 0
    for table in ELEMENTS[1:]:
        size = len(net[table])
        of_table = element == table
        place = net[table].index.get_indexer(index[of_table]).astype(np.int64)
        if table == "trafo3w":
            place = place * 3 + np.array([SIDES.index(s) for s in side[of_table]], dtype=np.int64)
            size *= 3
        line_id[of_table] = start + place
        start += size
    return line_id


def _ratings_kw(
    net: Any,
    element: StrArray,
    index: IntArray,
    side: StrArray,
) -> FloatArray:
    limit = np.full(len(element), np.inf)
    for table in ("line", "trafo", "trafo3w"):
        of_table = np.flatnonzero(element == table)
        if not len(of_table):
            continue
        rows = net[table].loc[index[of_table]]
        share = np.ones(len(rows))
        if "max_loading_percent" in rows:
            share = rows.max_loading_percent.fillna(100.0).to_numpy(float) / 100.0
        for factor in ("parallel", "df"):
            if factor in rows:
                share = share * rows[factor].fillna(1.0).to_numpy(float)
        if table == "line":
            rating_ka = rows.max_i_ka.fillna(np.inf).to_numpy(float)
            vn_kv = net.bus.vn_kv.loc[rows.from_bus].to_numpy(float)
            mva = np.where(rating_ka >= NO_LIMIT_KA, np.inf, np.sqrt(3) * vn_kv * rating_ka)
        elif table == "trafo":
            mva = rows.sn_mva.to_numpy(float)
        else:
            columns = rows[[f"sn_{s}_mva" for s in SIDES]].to_numpy(float)
            mva = columns[np.arange(len(rows)), [SIDES.index(s) for s in side[of_table]]]
        mva = np.where(mva >= NO_LIMIT_KA, np.inf, mva)
        limit[of_table] = 1e3 * mva * share
    return limit


def _override(
    ratings_kw: FloatArray,
    limits_kw: float | Mapping[int, float] | FloatArray | None,
    line_id: IntArray,
    where: str,
) -> FloatArray:
    if limits_kw is None:
        return ratings_kw
    if isinstance(limits_kw, Mapping):
        limit = ratings_kw.copy()
        place = {int(number): i for i, number in enumerate(line_id)}
        unknown = [number for number in limits_kw if number not in place]
        if unknown:
            raise InputError(
                f"limits_kw names line {named(unknown)}, which is not in service",
                where,
                "use the line numbers of the network",
            )
        for number, value in limits_kw.items():
            limit[place[number]] = value
        return limit
    values = np.asarray(limits_kw, dtype=np.float64)
    if values.shape not in ((), ratings_kw.shape):
        raise InputError(
            f"limits_kw has shape {values.shape} for {len(ratings_kw)} lines",
            where,
            "give one number for all, one per line, or a mapping of line numbers",
        )
    return np.broadcast_to(values, ratings_kw.shape).copy()


def _phase_shift_flow_kw(network: Network, shift_rad: FloatArray) -> FloatArray:
    """f0: a shift drives -shift / x through its line, and the network carries it back."""
    from raygrid.grid.ptdf import PtdfFactor

    if not shift_rad.any():
        return np.zeros(network.n_lines)
    driven = -shift_rad / network.x_pu * network.base_kva
    injected = np.zeros(network.n_buses)
    np.subtract.at(injected, network.from_bus, driven)
    np.add.at(injected, network.to_bus, driven)
    back = PtdfFactor(network).flows(injected[:, None])[:, 0]
    offset = driven + back
    # Vector groups of radial transformers cancel but for rounding; leave no dust behind.
    return np.where(np.abs(offset) < 1e-9 * np.abs(driven).max(), 0.0, offset)


def _positions_xy(
    net: Any, in_service: IntArray, position: IntArray, from_bus: IntArray, to_bus: IntArray
) -> FloatArray:
    """Drawing positions; a star point stands amid its neighbours; empty if one is missing."""
    none = np.zeros((0, 2))
    if "geo" not in net.bus:
        return none
    n_buses = int(max(position.max(), from_bus.max(initial=0), to_bus.max(initial=0))) + 1
    xy = np.full((n_buses, 2), np.nan)
    for bus, place in zip(in_service[::-1], position[::-1], strict=True):
        try:
            xy[place] = json.loads(net.bus.geo.at[bus])["coordinates"][:2]
        except (TypeError, ValueError, KeyError):
            return none
    for star in np.flatnonzero(np.isnan(xy[:, 0])):
        ends = np.concatenate([from_bus[to_bus == star], to_bus[from_bus == star]])
        xy[star] = np.nanmean(xy[ends], axis=0)
    return xy if np.isfinite(xy).all() else none
