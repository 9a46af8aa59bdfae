"""The network as arrays: what PTDF, projection and reports need, free of any library."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Network:
    """A connected network in the DC approximation; buses and lines by position.

    Attributes
    ----------
    name : str
        Name shown in results.
    bus_id : (B,) int64
        Bus numbers of the outside world, as every table shows them.
    slack : int
        Position of the slack bus, where the grid connection stands.
    line_id : (L,) int64
        Line numbers of the outside world (transformers are lines too).
    from_bus, to_bus : (L,) int64
        Positions of the end buses; flow is positive from `from_bus` to `to_bus`.
    r_pu, x_pu : (L,) float64
        Series resistance and reactance on the one common base `base_kva` [p.u.].
    limit_kw : (L,) float64
        Thermal limit of each line [kW]; inf where there is none.
    flow_offset_kw : (L,) float64
        Flow caused by phase shifters at zero injection (f0) [kW].
    base_kva : float
        Common base of the per-unit values [kVA].
    bus_xy : (B, 2) float64
        Positions for drawing; empty (0, 2) where unknown.
    """

    name: str
    bus_id: IntArray
    slack: int
    line_id: IntArray
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    limit_kw: FloatArray
    flow_offset_kw: FloatArray
    base_kva: float = 1000.0
    bus_xy: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))

    @property
    def n_buses(self) -> int:
        """Number of buses B."""
        return len(self.bus_id)

    @property
    def n_lines(self) -> int:
        """Number of lines L."""
        return len(self.line_id)

    @property
    def is_radial(self) -> bool:
        """Whether the lines form a tree."""
        return self.n_lines == self.n_buses - 1


@dataclass(frozen=True)
class NetworkRows:
    """Linear limits on bus injections: lower <= matrix @ p_bus(t) <= upper.

    Lines (3-19) and voltages (AI-TEM 9) in the one form that the projection, the central
    benchmark and the final schedule share. Offsets are already taken into the bounds.

    Attributes
    ----------
    matrix : (M, B) float64
        PTDF rows [kW/kW] or voltage sensitivities [p.u./kW].
    lower, upper : (M, T) float64
        Bounds in the row's unit; -inf and inf where there is none.
    kind : (M,) str array
        'line' or 'voltage'.
    index : (M,) int64
        Position of the line or of the bus the row belongs to.
    """

    matrix: FloatArray
    lower: FloatArray
    upper: FloatArray
    kind: np.ndarray[tuple[int], np.dtype[np.str_]]
    index: IntArray

    @property
    def n_rows(self) -> int:
        """Number of rows M."""
        return int(self.matrix.shape[0])

    @property
    def n_buses(self) -> int:
        """Number of buses B."""
        return int(self.matrix.shape[1])

    def flows(self, p_bus_kw: FloatArray) -> FloatArray:
        """(M, T) value of each row for bus injections (B, T)."""
        return np.asarray(self.matrix @ p_bus_kw)

    def prices(self, multipliers: FloatArray) -> FloatArray:
        """(B, T) what multipliers (M, T) of the rows make of an injection: matrix' m."""
        return np.asarray(self.matrix.T @ multipliers)

    def sparse(self) -> csr_array:
        """(M, B) matrix of the rows."""
        from scipy.sparse import csr_array

        return csr_array(self.matrix)

    def sizes(self) -> FloatArray:
        """(M,) largest coefficient of each row."""
        return np.asarray(np.abs(self.matrix).max(axis=1, initial=0.0))

    def with_bounds(self, lower: FloatArray, upper: FloatArray) -> NetworkRows:
        """The same rows with other bounds."""
        return replace(self, lower=lower, upper=upper)
