"""Limits of the feeder as an intraday market of N prosumers sees them: positions of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.grid.network import Network
from raygrid.grid.ptdf import PtdfFactor
from raygrid.grid.voltage import VoltageModel, lindistflow

NOISE = 1e-9
"""Effects below this share of the row's largest are rounding."""


@dataclass(frozen=True)
class FeederLimits:
    """M rows (AI-TEM 9): 0 midway between a row's bounds, 1 and -1 at them.

    Attributes
    ----------
    per_kw : (N, M) float64
        Change of the positions per kW that a prosumer feeds in.
    per_load_kw : (N, M) float64
        Change per kW of its load through the reactive power that it draws.
    constant : (M,) float64
        Positions without injections.
    kind : (M,) str array
        'line', 'voltage' or 'connection'.
    index : (M,) int64
        Position of the line or bus.
    """

    per_kw: FloatArray
    per_load_kw: FloatArray
    constant: FloatArray
    kind: np.ndarray[tuple[int], np.dtype[np.str_]]
    index: IntArray

    def position(self, injection_kw: FloatArray, load_kw: FloatArray) -> FloatArray:
        """(..., M): positions with injections and fixed loads (..., N) [kW]."""
        return np.asarray(injection_kw @ self.per_kw + load_kw @ self.per_load_kw + self.constant)


def without_noise(effect: FloatArray) -> FloatArray:
    """Effects (..., M) of injections on rows, zero where rounding alone makes them differ from it.

    A factorisation leaves 1e-17 where a bus does not feed a line at all. Beside a row that is
    beyond its limit even that would count as making things better or worse.
    """
    largest = np.abs(effect).max(axis=tuple(range(effect.ndim - 1)), initial=0.0)
    return np.where(np.abs(effect) > NOISE * largest, effect, 0.0)


def no_limits(n: int) -> FeederLimits:
    """No rows at all, for N prosumers."""
    nothing, index = np.zeros((n, 0)), np.zeros(0, dtype=np.int64)
    return FeederLimits(nothing, nothing, np.zeros(0), np.zeros(0, dtype="<U10"), index)


def feeder_limits(
    network: Network,
    bus: IntArray,
    *,
    v_min_pu: float | None = None,
    v_max_pu: float | None = None,
    v_slack_pu: float = 1.0,
    reactive_share: float = 0.0,
    import_limit_kw: float = np.inf,
    export_limit_kw: float = np.inf,
    model: VoltageModel | None = None,
) -> FeederLimits:
    """Rows of every line and bus that has a limit, from PTDF and LinDistFlow.

    Parameters
    ----------
    network : Network
        The feeder.
    bus : (N,) int64
        Positions of the prosumers' buses.
    v_min_pu, v_max_pu : float, optional
        Voltage limits; without both there are no voltage rows [p.u.].
    v_slack_pu : float
        Voltage of the slack bus [p.u.], for LinDistFlow.
    reactive_share : float
        Reactive over active power of the loads.
    import_limit_kw, export_limit_kw : float
        Limits of the grid connection (P^grid,max of AI-TEM 9) [kW].
    model : VoltageModel, optional
        Sensitivities of a meshed network.

    Raises
    ------
    InputError
        As `raygrid.grid.voltage.lindistflow`.
    """
    n = len(bus)
    lines = np.flatnonzero(np.isfinite(network.limit_kw) & (network.limit_kw > 0))
    limit = network.limit_kw[lines]
    per_kw = [(PtdfFactor(network).rows(lines) / limit[:, None])[:, bus]]
    per_load = [np.zeros((len(lines), n))]
    constant = [network.flow_offset_kw[lines] / limit]
    kind, index = ["line"] * len(lines), [lines]
    if v_min_pu is not None and v_max_pu is not None:
        model = lindistflow(network, v_slack_pu) if model is None else model
        moving = np.flatnonzero(np.abs(model.dv_dp_pu_per_kw).max(axis=1) > 0)
        low, high = model.level(np.array([v_min_pu, v_max_pu]))
        half, middle = (high - low) / 2, (high + low) / 2
        at_zero = model.level_at_zero_p(np.zeros((network.n_buses, 1)))[moving, 0]
        per_kw.append(model.dv_dp_pu_per_kw[np.ix_(moving, bus)] / half)
        per_load.append(-reactive_share * model.dv_dq_pu_per_kvar[np.ix_(moving, bus)] / half)
        constant.append((at_zero - middle) / half)
        kind += ["voltage"] * len(moving)
        index.append(moving)
    if np.isfinite(import_limit_kw) and np.isfinite(export_limit_kw):
        half, middle = (
            (import_limit_kw + export_limit_kw) / 2,
            (export_limit_kw - import_limit_kw) / 2,
        )
        per_kw.append(np.full((1, n), 1 / half))
        per_load.append(np.zeros((1, n)))
        constant.append(np.array([-middle / half]))
        kind.append("connection")
        index.append(np.array([network.slack]))
    return FeederLimits(
        np.ascontiguousarray(without_noise(np.vstack(per_kw).T)),
        np.ascontiguousarray(np.vstack(per_load).T),
        np.concatenate(constant),
        np.array(kind, dtype="<U10"),
        np.concatenate(index).astype(np.int64),
    )
