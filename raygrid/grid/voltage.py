"""How voltages follow injections: LinDistFlow for radial networks, the AC Jacobian for others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.grid.network import Network
from raygrid.grid.ptdf import MAX_DENSE_ENTRIES, PtdfFactor


class VoltageForm(StrEnum):
    """The quantity that a voltage model is linear in."""

    SQUARED = "squared"
    PLAIN = "plain"


@dataclass(frozen=True)
class VoltageModel:
    """Voltages as a linear function of injections around an operating point.

    ``level(v) = level(v_ref) + dv_dp (p - p_ref) + dv_dq (q - q_ref)``, where the level is v
    itself (plain) or v^2 / (2 v_scale) (squared), so that both have slopes in p.u. per kW.

    Attributes
    ----------
    form : VoltageForm
        What the model is linear in.
    dv_dp_pu_per_kw, dv_dq_pu_per_kvar : (B, B) float64
        Sensitivities; row: bus whose voltage changes, column: bus of the injection.
    v_ref_pu : (B,) float64
        Voltages at the operating point [p.u.].
    p_ref_kw, q_ref_kvar : (B,) float64
        Net injections at the operating point [kW], [kvar].
    v_scale_pu : float
        Voltage at which both forms have the same slope [p.u.].
    """

    form: VoltageForm
    dv_dp_pu_per_kw: FloatArray
    dv_dq_pu_per_kvar: FloatArray
    v_ref_pu: FloatArray
    p_ref_kw: FloatArray
    q_ref_kvar: FloatArray
    v_scale_pu: float = 1.0

    def level(self, v_pu: FloatArray) -> FloatArray:
        """The quantity that the model is linear in, for given voltages [p.u.]."""
        if self.form is VoltageForm.SQUARED:
            return np.asarray(v_pu**2 / (2 * self.v_scale_pu))
        return v_pu

    def level_at_zero_p(self, q_bus_kvar: FloatArray) -> FloatArray:
        """(B, T): the level with reactive injections (B, T) but no active ones."""
        constant = self.level(self.v_ref_pu) - self.dv_dp_pu_per_kw @ self.p_ref_kw
        change = self.dv_dq_pu_per_kvar @ (q_bus_kvar - self.q_ref_kvar[:, None])
        return np.asarray(constant[:, None] + change)

    def voltages(self, p_bus_kw: FloatArray, q_bus_kvar: FloatArray) -> FloatArray:
        """Voltages that the model gives for injections.

        Parameters
        ----------
        p_bus_kw, q_bus_kvar : (B, T) float64
            Net injections [kW], [kvar].

        Returns
        -------
        (B, T) float64
            Voltage magnitudes [p.u.].
        """
        level = self.level_at_zero_p(q_bus_kvar) + self.dv_dp_pu_per_kw @ p_bus_kw
        if self.form is VoltageForm.SQUARED:
            return np.asarray(np.sqrt(2 * self.v_scale_pu * level))
        return level


def check_dense_voltages(network: Network) -> None:
    """Refuse a network whose voltages at every bus by injection are too large a matrix.

    Raises
    ------
    InputError
        Says how many buses are too many.
    """
    most = math.isqrt(MAX_DENSE_ENTRIES)
    if network.n_buses > most:
        raise InputError(
            f"voltage limits of {network.n_buses} buses, which take a dense matrix of at most "
            f"{most} by {most}",
            f"network {network.name!r}",
            "leave the voltage limits out, or take a smaller network",
        )


def lindistflow(network: Network, v_slack_pu: float = 1.0) -> VoltageModel:
    """LinDistFlow of a radial network in its squared form.

    ``v_j^2 = v_0^2 + 2 sum_k (R_jk p_k + X_jk q_k)``, where R_jk and X_jk add up r and x of the
    lines that the paths from the slack bus to j and to k share. Losses are left out and all
    turns ratios are nominal; for other transformers take `jacobian_sensitivities`.

    Parameters
    ----------
    network : Network
        A radial network with resistances.
    v_slack_pu : float
        Voltage of the slack bus [p.u.].

    Returns
    -------
    VoltageModel
        Its squared form, scaled to slopes in p.u. per kW at the slack bus' voltage.

    Raises
    ------
    InputError
        A meshed network, one too large for a dense (B, B) matrix, or no positive voltage.

    References
    ----------
    M. E. Baran and F. F. Wu, "Network reconfiguration in distribution systems for loss
    reduction and load balancing", IEEE Trans. Power Delivery 4(2), 1989: the simplified
    DistFlow equations.
    """
    where = f"network {network.name!r}"
    n_buses = network.n_buses
    if not network.is_radial:
        raise InputError(
            f"{network.n_lines} lines on {n_buses} buses are not a tree, which LinDistFlow needs",
            where,
            "use the AC Jacobian for meshed networks",
        )
    if not v_slack_pu > 0:
        raise InputError(
            f"the slack voltage is {v_slack_pu} p.u.", where, "give one such as 1.0 p.u."
        )
    check_dense_voltages(network)
    # In a tree a PTDF row is -1, 0 or 1: whether the path from a bus to the slack uses the line.
    path = PtdfFactor(network).rows(np.arange(network.n_lines))
    zeros = np.zeros(n_buses)
    scale = v_slack_pu * network.base_kva
    return VoltageModel(
        VoltageForm.SQUARED,
        (path.T * network.r_pu) @ path / scale,
        (path.T * network.x_pu) @ path / scale,
        np.full(n_buses, v_slack_pu),
        zeros,
        zeros,
        v_slack_pu,
    )
