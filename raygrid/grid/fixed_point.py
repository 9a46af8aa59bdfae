"""AC load flow of all periods at once, for networks of lines alone: the implicit Z-bus iteration.

With the slack bus' voltage fixed and nothing but constant powers elsewhere, V = V_0 + Z conj(S / V)
is solved by repeating it, all periods as columns of one product. It converges wherever a
distribution grid is run, in some ten rounds; a period that does not is left to Newton's method in
pandapower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray
from raygrid.grid.checks import as_finite_array
from raygrid.grid.network import Network
from raygrid.grid.powerflow import PHASE_SHIFT_TOLERANCE_KW, AcCheck, ComplexArray, ac_check

MAX_ROUNDS = 100
TOLERANCE_PU = 1e-11
"""Change of the voltages at which the iteration ends [p.u.]."""
MAX_BUSES = 2_000
"""Buses up to which the dense impedance matrix is worth its memory."""


def fast_ac_check(
    network: Network,
    p_bus_kw: FloatArray,
    q_bus_kvar: FloatArray,
    *,
    v_slack_pu: float = 1.0,
    v_min_pu: float = 0.95,
    v_max_pu: float = 1.05,
) -> AcCheck:
    """Run the AC load flow of every period of a schedule, as `raygrid.grid.powerflow.ac_check`.

    Parameters
    ----------
    network : Network
        Lines by their series impedances, no phase shifters; radial or meshed.
    p_bus_kw, q_bus_kvar : (B, T) float64
        Net injections [kW], [kvar]; loads are negative.
    v_slack_pu : float
        Voltage of the slack bus [p.u.].
    v_min_pu, v_max_pu : float
        Limits that voltages are held against [p.u.].

    Returns
    -------
    AcCheck
        That of `ac_check` with a rated voltage of 1 kV.

    Raises
    ------
    InputError
        As `ac_check`.
    """
    where = f"AC check of network {network.name!r}"
    n_periods = np.shape(p_bus_kw)[1] if np.ndim(p_bus_kw) == 2 else 0
    shape = (network.n_buses, n_periods)
    p_bus = as_finite_array(p_bus_kw, shape, "p_bus_kw", where)
    q_bus = as_finite_array(q_bus_kvar, shape, "q_bus_kvar", where)
    shifted = np.abs(network.flow_offset_kw) > PHASE_SHIFT_TOLERANCE_KW
    impedance = np.asarray(network.r_pu + 1j * network.x_pu, dtype=np.complex128)
    limits = {"v_slack_pu": v_slack_pu, "v_min_pu": v_min_pu, "v_max_pu": v_max_pu}
    if shifted.any() or (impedance == 0).any() or network.n_buses > MAX_BUSES:
        return ac_check(network, p_bus, q_bus, **limits)
    power = np.asarray((p_bus + 1j * q_bus) / network.base_kva, dtype=np.complex128)
    voltage, converged = _voltages(network, impedance, power, v_slack_pu)
    found = _results(network, impedance, voltage, power, converged, v_min_pu, v_max_pu)
    again = np.flatnonzero(~converged)
    if len(again):
        _fill(found, again, ac_check(network, p_bus[:, again], q_bus[:, again], **limits))
    return found


def _voltages(
    network: Network,
    impedance: ComplexArray,
    power: ComplexArray,
    v_slack: float,
) -> tuple[ComplexArray, NDArray[np.bool_]]:
    """Complex voltages (B, T) and whether each period converged."""
    n, slack = network.n_buses, network.slack
    y = np.zeros((n, n), dtype=np.complex128)
    for sign, i, j in (
        (1, network.from_bus, network.from_bus), (1, network.to_bus, network.to_bus),
        (-1, network.from_bus, network.to_bus), (-1, network.to_bus, network.from_bus),
    ):  # fmt: skip
        np.add.at(y, (i, j), sign / impedance)
    others = np.delete(np.arange(n), slack)
    z = np.linalg.inv(y[np.ix_(others, others)])
    s = power[others]
    v = np.full(s.shape, complex(v_slack))
    settled = np.zeros(s.shape[1], dtype=np.bool_)
    with np.errstate(all="ignore"):
        for _ in range(MAX_ROUNDS):
            after = np.asarray(v_slack + z @ np.conj(s / v), dtype=np.complex128)
            settled = np.abs(after - v).max(axis=0, initial=0.0) < TOLERANCE_PU
            v = after
            if settled.all():
                break
    voltage = np.full(power.shape, v_slack, dtype=np.complex128)
    voltage[others] = v
    return voltage, np.asarray(settled)


def _results(
    network: Network,
    impedance: ComplexArray,
    voltage: ComplexArray,
    power: ComplexArray,
    converged: NDArray[np.bool_],
    v_min_pu: float,
    v_max_pu: float,
) -> AcCheck:
    base = network.base_kva
    current = (voltage[network.from_bus] - voltage[network.to_bus]) / impedance[:, None]
    into = voltage[network.from_bus] * np.conj(current)
    losses = (np.abs(current) ** 2 * network.r_pu[:, None]).sum(axis=0)
    limit = network.limit_kw[:, None]
    kva = np.abs(current) * base
    with np.errstate(divide="ignore", invalid="ignore"):
        loading = np.where(kva > 0, kva / limit, 0.0)
    return AcCheck(
        converged.copy(),
        np.where(converged, np.abs(voltage), np.nan),
        np.where(converged, loading, np.nan),
        np.where(converged, kva / np.sqrt(3.0), np.nan),
        np.where(converged, into.real * base, np.nan),
        np.where(converged, losses * base, np.nan),
        np.where(converged, losses * base - power.real.sum(axis=0) * base, np.nan),
        v_min_pu,
        v_max_pu,
    )


def _fill(found: AcCheck, periods: NDArray[np.int64], other: AcCheck) -> None:
    """Put another check's periods into this one."""
    for name in (
        "converged",
        "voltage_pu",
        "loading",
        "current_a",
        "flow_kw",
        "losses_kw",
        "slack_kw",
    ):
        getattr(found, name)[..., periods] = getattr(other, name)
