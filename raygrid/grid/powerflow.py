"""AC load flow of a cleared day with pandapower, warm-started from period to period."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_array, csc_array, diags_array
from scipy.sparse.linalg import MatrixRankWarning, splu

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.checks import as_finite_array, named
from raygrid.grid.network import Network
from raygrid.grid.pandapower_net import (
    BASE_KV,
    FROM,
    P_FROM,
    P_TO,
    Q_FROM,
    Q_TO,
    TO,
    VOLTAGE,
    PandapowerNetwork,
    branch_rows,
    convert_pandapower,
    pandapower_quietly,
)
from raygrid.grid.voltage import VoltageForm, VoltageModel, check_dense_voltages

ComplexArray = NDArray[np.complex128]

PHASE_SHIFT_TOLERANCE_KW = 1e-6

INJECTORS = (
    "load", "sgen", "storage", "motor", "ward", "xward", "asymmetric_load", "asymmetric_sgen",
)  # fmt: skip
"""Elements whose injections the market's replace."""


@dataclass(frozen=True)
class AcCheck:
    """AC load flow of each period; a period that did not converge is NaN throughout.

    Attributes
    ----------
    converged : (T,) bool
        Whether the load flow of the period converged.
    voltage_pu : (B, T) float64
        Voltage magnitudes [p.u.].
    loading : (L, T) float64
        Current over the current that the limit allows at rated voltage, the larger of both
        ends; 0 where there is no limit.
    current_a : (L, T) float64
        Current, the larger of both ends at the bus' rated voltage [A].
    flow_kw : (L, T) float64
        Active power into the line at `from_bus` [kW].
    losses_kw : (T,) float64
        Losses of lines and transformers [kW].
    slack_kw : (T,) float64
        Active power that the upstream grid adds at the slack bus to the scheduled injections:
        losses, plus what does not balance in the schedule [kW].
    v_min_pu, v_max_pu : float
        The limits that the voltages were held against [p.u.].
    """

    converged: BoolArray
    voltage_pu: FloatArray
    loading: FloatArray
    current_a: FloatArray
    flow_kw: FloatArray
    losses_kw: FloatArray
    slack_kw: FloatArray
    v_min_pu: float
    v_max_pu: float

    @property
    def lowest_voltage_pu(self) -> float:
        """Lowest voltage of all converged periods; NaN if there is none [p.u.]."""
        return float(self._solved(self.voltage_pu).min(initial=np.inf)) if self._any else np.nan

    @property
    def highest_voltage_pu(self) -> float:
        """Highest voltage of all converged periods; NaN if there is none [p.u.]."""
        return float(self._solved(self.voltage_pu).max(initial=-np.inf)) if self._any else np.nan

    @property
    def highest_loading(self) -> float:
        """Highest loading of all converged periods; NaN if there is none."""
        return float(self._solved(self.loading).max(initial=0.0)) if self._any else np.nan

    @property
    def n_voltage_violations(self) -> int:
        """Number of buses and periods outside the voltage limits."""
        voltage = self._solved(self.voltage_pu)
        return int(((voltage < self.v_min_pu) | (voltage > self.v_max_pu)).sum())

    @property
    def n_overloads(self) -> int:
        """Number of lines and periods with a loading above 1."""
        return int((self._solved(self.loading) > 1.0).sum())

    @property
    def n_not_converged(self) -> int:
        """Number of periods whose load flow did not converge."""
        return int((~self.converged).sum())

    @property
    def _any(self) -> bool:
        return bool(self.converged.any())

    def _solved(self, values: FloatArray) -> FloatArray:
        return values[:, self.converged]


def ac_check(
    network: Network,
    p_bus_kw: FloatArray,
    q_bus_kvar: FloatArray,
    *,
    net: Any = None,
    vn_kv: float = 1.0,
    v_slack_pu: float | None = None,
    v_min_pu: float = 0.9,
    v_max_pu: float = 1.1,
) -> AcCheck:
    """Run the AC load flow of every period of a schedule.

    In the DC market the slack bus' injection balances the others; in the AC load flow the
    upstream grid also covers the losses, which `slack_kw` shows. Loads, static generators and
    storages of a given net are replaced by the schedule; its generators stay as voltage
    controllers without active power, its shunts and taps as they are.

    Parameters
    ----------
    network : Network
        The network of the schedule.
    p_bus_kw, q_bus_kvar : (B, T) float64
        Net injections [kW], [kvar]; loads are negative.
    net : pandapowerNet, optional
        The net that the network was converted from; without it one is built by
        `to_pandapower`. It is not changed.
    vn_kv : float
        Rated voltage of a net that is built [kV]; only currents depend on it.
    v_slack_pu : float, optional
        Voltage of the slack bus [p.u.]; the net's own set point, or 1, by default.
    v_min_pu, v_max_pu : float
        Limits that voltages are held against [p.u.].

    Returns
    -------
    AcCheck
        Voltages, currents, losses and violations.

    Raises
    ------
    InputError
        A schedule of another shape or with gaps, or a net that is not the network's.
    """
    where = f"AC check of network {network.name!r}"
    n_periods = np.shape(p_bus_kw)[1] if np.ndim(p_bus_kw) == 2 else 0
    shape = (network.n_buses, n_periods)
    p_bus = as_finite_array(p_bus_kw, shape, "p_bus_kw", where)
    q_bus = as_finite_array(q_bus_kvar, shape, "q_bus_kvar", where)
    work = _Workbench(network, net, vn_kv, v_slack_pu, where)

    n_lines = network.n_lines
    converged = np.zeros(n_periods, dtype=bool)
    voltage = np.full(shape, np.nan)
    loading, current, flow = (np.full((n_lines, n_periods), np.nan) for _ in range(3))
    losses, slack = np.full(n_periods, np.nan), np.full(n_periods, np.nan)
    for t in range(n_periods):
        converged[t] = work.solve(p_bus[:, t], q_bus[:, t])
        if converged[t]:
            voltage[:, t] = work.voltages()
            flow[:, t], loading[:, t], current[:, t] = work.line_results()
            losses[t], slack[t] = work.losses_kw(), work.slack_kw()
    return AcCheck(converged, voltage, loading, current, flow, losses, slack, v_min_pu, v_max_pu)


def jacobian_sensitivities(
    network: Network,
    p_bus_kw: FloatArray,
    q_bus_kvar: FloatArray,
    *,
    net: Any = None,
    v_slack_pu: float | None = None,
) -> VoltageModel:
    """Voltage sensitivities from the Jacobian of the AC load flow at an operating point.

    The inverse of the Newton-Raphson Jacobian, restricted to voltage magnitudes; buses with
    voltage control, and the slack bus, do not move. Losses change with the injections and are
    taken up at the slack bus.

    Parameters
    ----------
    network : Network
        The network, meshed or radial.
    p_bus_kw, q_bus_kvar : (B,) float64
        Operating point [kW], [kvar].
    net, v_slack_pu
        As in `ac_check`.

    Returns
    -------
    VoltageModel
        Its plain form, linear in v.

    Raises
    ------
    InputError
        The load flow of the operating point does not converge, too many buses for a dense (B, B)
        matrix, or bad input as in `ac_check`.
    """
    check_dense_voltages(network)
    where = f"voltage sensitivities of network {network.name!r}"
    n_buses = network.n_buses
    p_ref = as_finite_array(p_bus_kw, (n_buses,), "p_bus_kw", where)
    q_ref = as_finite_array(q_bus_kvar, (n_buses,), "q_bus_kvar", where)
    work = _Workbench(network, net, 1.0, v_slack_pu, where)
    if not work.solve(p_ref, q_ref):
        raise InputError(
            "the AC load flow of the operating point does not converge",
            where,
            "choose smaller injections or check impedances and voltage levels",
        )
    dv_dp, dv_dq = work.voltage_slopes()
    return VoltageModel(VoltageForm.PLAIN, dv_dp, dv_dq, work.voltages(), p_ref, q_ref)


def to_pandapower(network: Network, vn_kv: float = 1.0, v_slack_pu: float = 1.0) -> Any:
    """Build a pandapower net from a network's impedances and limits.

    Parameters
    ----------
    network : Network
        A network without phase shifters.
    vn_kv : float
        Rated voltage of all buses [kV]; per-unit results do not depend on it.
    v_slack_pu : float
        Voltage of the external grid at the slack bus [p.u.].

    Returns
    -------
    pandapowerNet
        Buses by position with their number as name; lines by position, without charging.

    Raises
    ------
    InputError
        A network with phase-shift flows, whose angles it does not hold.
    """
    import pandapower as pp

    shifted = np.abs(network.flow_offset_kw) > PHASE_SHIFT_TOLERANCE_KW
    if shifted.any():
        raise InputError(
            f"line {named(network.line_id[shifted])} carries phase-shift flow, and the angles "
            "behind it are not in the tables",
            f"network {network.name!r}",
            "give the pandapower net that it was converted from",
        )
    base_mva = network.base_kva / 1e3
    base_ohm = vn_kv**2 / base_mva
    net = pp.create_empty_network(name=network.name, sn_mva=base_mva)
    pp.create_buses(net, network.n_buses, vn_kv=vn_kv, name=[str(bus) for bus in network.bus_id])
    pp.create_ext_grid(net, network.slack, vm_pu=v_slack_pu)
    if network.n_lines:
        limit_ka = network.limit_kw / 1e3 / (np.sqrt(3) * vn_kv)
        pp.create_lines_from_parameters(
            net,
            network.from_bus,
            network.to_bus,
            length_km=np.ones(network.n_lines),
            r_ohm_per_km=network.r_pu * base_ohm,
            x_ohm_per_km=network.x_pu * base_ohm,
            c_nf_per_km=np.zeros(network.n_lines),
            max_i_ka=limit_ka,
            name=[str(line) for line in network.line_id],
        )
    return net


class _Workbench:
    """A private pandapower net whose injections are set period by period."""

    def __init__(
        self, network: Network, net: Any, vn_kv: float, v_slack_pu: float | None, where: str
    ) -> None:
        import pandapower as pp

        self.network = network
        if net is None:
            self.net = to_pandapower(network, vn_kv, 1.0 if v_slack_pu is None else v_slack_pu)
            self.position_of_bus = {bus: bus for bus in range(network.n_buses)}
            self.converted: PandapowerNetwork | None = None
        else:
            slack_bus = int(network.bus_id[network.slack])
            self.converted = convert_pandapower(net, name=network.name, slack_bus=slack_bus)
            _check_same_grid(self.converted.network, network, where)
            self.position_of_bus = self.converted.position_of_bus
            self.net = _emptied(net, slack_bus, v_slack_pu)
        # One load per bus: fused buses share a position, so the first of each carries it.
        first: dict[int, int] = {}
        for bus, position in sorted(self.position_of_bus.items()):
            first.setdefault(position, bus)
        self.loaded = np.array(sorted(first), dtype=np.int64)
        self.load_index = pp.create_loads(
            self.net, [first[int(p)] for p in self.loaded], p_mw=0.0, q_mvar=0.0
        )
        self.warm = False
        self.star_points = np.setdiff1d(np.arange(network.n_buses), self.loaded)
        self.where = where

    def solve(self, p_kw: FloatArray, q_kvar: FloatArray) -> bool:
        """Run one load flow; warm from the last solution, then from a DC start if that fails."""
        at_star = self.star_points[(p_kw[self.star_points] != 0) | (q_kvar[self.star_points] != 0)]
        if len(at_star):
            raise InputError(
                f"bus {named(self.network.bus_id[at_star])} is a transformer's star point, where "
                "nothing can be connected",
                self.where,
                "connect prosumers at other buses",
            )
        self.net.load.loc[self.load_index, "p_mw"] = -p_kw[self.loaded] / 1e3
        self.net.load.loc[self.load_index, "q_mvar"] = -q_kvar[self.loaded] / 1e3
        for init in ("results", "dc") if self.warm else ("dc", "flat"):
            self.warm = self._converges(init)
            if self.warm:
                return True
        return False

    def _converges(self, init: str) -> bool:
        import pandapower as pp
        from pandapower.auxiliary import LoadflowNotConverged

        # Diverging iterations overflow and meet singular matrices on their way; pandapower's
        # compiled code takes longer to load than a day's load flows take without it.
        with pandapower_quietly(), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("ignore", MatrixRankWarning)
            try:
                pp.runpp(self.net, init=init, calculate_voltage_angles=True, numba=False)
            except LoadflowNotConverged:
                return False
        return True

    def voltages(self) -> FloatArray:
        """(B,) voltage magnitudes by position."""
        bus = self.net._ppc["bus"]
        return np.asarray(bus[self._bus_rows, VOLTAGE].real, dtype=np.float64)

    def line_results(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(L,) flows [kW], loadings and currents [A]."""
        network = self.network
        branch = self.net._ppc["branch"][self._branch_rows]
        voltage = self.voltages()
        rated_kv = self.net._ppc["bus"][self._bus_rows, BASE_KV].real
        worst_kva = np.zeros(network.n_lines)
        current_a = np.zeros(network.n_lines)
        for p, q, end in ((P_FROM, Q_FROM, network.from_bus), (P_TO, Q_TO, network.to_bus)):
            kva = 1e3 * np.hypot(branch[:, p].real, branch[:, q].real) / voltage[end]
            worst_kva = np.maximum(worst_kva, kva)
            current_a = np.maximum(current_a, kva / (np.sqrt(3) * rated_kv[end]))
        # A line with limit 0 and no current is not overloaded.
        loading = np.divide(
            worst_kva,
            network.limit_kw,
            out=np.where(worst_kva > 0, np.inf, 0.0),
            where=network.limit_kw > 0,
        )
        return 1e3 * branch[:, P_FROM].real, loading, current_a

    def losses_kw(self) -> float:
        """Losses of all branches [kW]."""
        branch = self.net._ppc["branch"]
        return float(1e3 * np.nansum(branch[:, P_FROM].real + branch[:, P_TO].real))

    def slack_kw(self) -> float:
        """Active power from the external grid [kW]."""
        return float(1e3 * self.net.res_ext_grid.p_mw.sum())

    def voltage_slopes(self) -> tuple[FloatArray, FloatArray]:
        """(B, B) change of voltage magnitudes with p [p.u./kW] and q [p.u./kvar]."""
        internal = self.net._ppc["internal"]
        pq = np.asarray(internal["pq"], dtype=np.int64)
        pvpq = np.concatenate([np.asarray(internal["pv"], dtype=np.int64), pq])
        n_buses = self.network.n_buses
        row_of = self._bus_rows
        position = {int(row): place for place, row in enumerate(row_of)}
        moving = [(k, position[int(row)]) for k, row in enumerate(pq) if int(row) in position]
        active = [(k, position[int(row)]) for k, row in enumerate(pvpq) if int(row) in position]
        jacobian = _jacobian(internal["Ybus"], internal["V"], pvpq, pq)
        slopes = np.zeros((2, n_buses, n_buses))
        # Row v of the inverse, from the transposed system: one solve per bus that moves.
        right = np.zeros((jacobian.shape[0], len(moving)))
        for column, (k, _) in enumerate(moving):
            right[len(pvpq) + k, column] = 1.0
        solved = splu(jacobian).solve(right, trans="T")
        places = np.array([place for _, place in moving], dtype=np.int64)
        for kind, (pairs, start) in enumerate(((active, 0), (moving, len(pvpq)))):
            rows = start + np.array([k for k, _ in pairs], dtype=np.int64)
            columns = np.array([place for _, place in pairs], dtype=np.int64)
            slopes[kind][np.ix_(places, columns)] = solved[rows].T
        slopes /= 1e3 * float(self.net.sn_mva)
        return slopes[0], slopes[1]

    @cached_property
    def _bus_rows(self) -> IntArray:
        """(B,) rows of the solved net's bus matrix."""
        lookup = self.net._pd2ppc_lookups["bus"]
        rows = np.full(self.network.n_buses, -1, dtype=np.int64)
        for bus, position in self.position_of_bus.items():
            rows[position] = lookup[bus]
        branch = self.net._ppc["branch"][self._branch_rows]
        for ends, column in ((self.network.from_bus, FROM), (self.network.to_bus, TO)):
            star = np.isin(ends, self.star_points)
            rows[ends[star]] = branch[star, column].real.astype(np.int64)
        return rows

    @cached_property
    def _branch_rows(self) -> IntArray:
        """(L,) rows of the solved net's branch matrix."""
        if self.converted is None:
            return np.arange(self.network.n_lines)
        return branch_rows(self.net, self.converted)


def _jacobian(admittance: Any, voltage: ComplexArray, pvpq: IntArray, pq: IntArray) -> csc_array:
    """Jacobian of the injections with angles (pv, pq buses) and magnitudes (pq buses).

    From S = diag(V) conj(Y V). pandapower keeps its own only if it made an iteration.
    """
    y = csc_array(admittance)
    v, unit = diags_array(voltage), diags_array(voltage / np.abs(voltage))
    current = diags_array(y @ voltage)
    by_angle = csc_array(1j * (v @ (current - y @ v).conj()))
    by_magnitude = csc_array(v @ (y @ unit).conj() + current.conj() @ unit)
    return csc_array(
        block_array(
            [
                [by_angle[pvpq][:, pvpq].real, by_magnitude[pvpq][:, pq].real],
                [by_angle[pq][:, pvpq].imag, by_magnitude[pq][:, pq].imag],
            ]
        )
    )


def _check_same_grid(ours: Network, theirs: Network, where: str) -> None:
    same = (
        np.array_equal(ours.bus_id, theirs.bus_id)
        and np.array_equal(ours.from_bus, theirs.from_bus)
        and np.array_equal(ours.to_bus, theirs.to_bus)
    )
    if not same:
        raise InputError(
            "the pandapower net has other buses or lines than the network",
            where,
            "give the net that the network was converted from, unchanged",
        )
    for name in ("r_pu", "x_pu"):
        if not np.allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-12):
            raise InputError(
                f"the network's {name} are not those of the pandapower net",
                where,
                "leave the net out, so that one is built from the network's impedances",
            )


def _emptied(net: Any, slack_bus: int, v_slack_pu: float | None) -> Any:
    """A copy of the net with one slack and no injections but voltage control."""
    import pandapower as pp

    work = copy.deepcopy(net)
    for table in INJECTORS:
        if table in work and len(work[table]):
            work[table]["in_service"] = False
    set_points = work.ext_grid.vm_pu[
        work.ext_grid.in_service.astype(bool) & (work.ext_grid.bus == slack_bus)
    ].tolist()
    if len(work.gen):
        work.gen["p_mw"] = 0.0
        at_slack = work.gen.bus == slack_bus
        set_points += work.gen.vm_pu[at_slack & work.gen.in_service.astype(bool)].tolist()
        work.gen["slack"] = False
        work.gen.loc[at_slack, "in_service"] = False
    work.ext_grid["in_service"] = False
    set_point = (set_points or [1.0])[0] if v_slack_pu is None else v_slack_pu
    pp.create_ext_grid(work, slack_bus, vm_pu=set_point)
    return work
