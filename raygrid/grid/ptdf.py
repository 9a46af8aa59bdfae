"""Power transfer distribution factors (thesis 3-17, 3-18): dense, or row by row from a
sparse factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import Network

MAX_DENSE_ENTRIES = 25_000_000
"""Largest dense matrix that is built [entries]: 200 MB."""

BALANCE_TOLERANCE = 1e-7
"""By how much flows may miss a bus' injection through rounding, relative to the largest flow."""


def ptdf(network: Network) -> FloatArray:
    """PTDF = B_line A B^-1 (thesis 3-18), with the slack bus' row and column taken out of B.

    Parameters
    ----------
    network : Network
        A connected network.

    Returns
    -------
    (L, B) float64
        Flow on each line per kW injected at each bus and withdrawn at the slack bus [kW/kW];
        the slack bus' column is zero.

    Raises
    ------
    InputError
        The dense matrix would have more than `MAX_DENSE_ENTRIES` entries.
    """
    return PtdfFactor(network).rows(np.arange(network.n_lines))


class PtdfFactor:
    """Sparse factorisation of the reduced susceptance matrix of (3-18).

    Gives single PTDF rows and flows without ever holding the whole PTDF. It can be pickled: the
    factorisation is made anew where it is unpickled.

    Parameters
    ----------
    network : Network
        A connected network.

    Raises
    ------
    InputError
        The susceptance matrix is singular.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._susceptance = 1.0 / network.x_pu
        self._others = np.delete(np.arange(network.n_buses), network.slack)
        incidence = _incidence(network)[:, self._others]
        self._line_by_bus = csr_array(incidence.multiply(self._susceptance[:, None]))
        reduced = csc_array(incidence.T @ self._line_by_bus)
        self._factor = None
        if len(self._others):
            try:
                self._factor = splu(
                    reduced, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
                )
            except RuntimeError as error:
                raise InputError(
                    "the susceptance matrix is singular",
                    f"network {network.name!r}",
                    "check that every bus is connected and that reactances do not cancel",
                ) from error
            self._check_scale(incidence, self._factor)

    def _check_scale(self, incidence: csc_array, factor: Any) -> None:
        """Refuse reactances so far apart that flows no longer add up at the buses."""
        injection = np.ones(len(self._others))
        flow = self._line_by_bus @ factor.solve(injection)
        missing = np.abs(incidence.T @ flow - injection).max()
        if not missing <= BALANCE_TOLERANCE * np.abs(flow).max():
            x = np.abs(self.network.x_pu)
            at = [int(x.argmin()), int(x.argmax())]
            ids = [int(self.network.line_id[k]) for k in at]
            raise InputError(
                f"flows do not add up at the buses: x_pu from {x[at[0]]:g} (line {ids[0]}) to "
                f"{x[at[1]]:g} (line {ids[1]}) is too wide a range",
                f"network {self.network.name!r}",
                "merge buses that next to nothing separates, or check the unit of x_pu",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.network,)

    def rows(self, line_positions: IntArray) -> FloatArray:
        """PTDF rows of some lines.

        Each row solves ``B row' = A' B_line e_l``; the reduced B is symmetric.

        Parameters
        ----------
        line_positions : (M,) int64
            Positions of the lines.

        Returns
        -------
        (M, B) float64
            Their PTDF rows [kW/kW].

        Raises
        ------
        InputError
            The rows would have more than `MAX_DENSE_ENTRIES` entries.
        """
        positions = np.asarray(line_positions, dtype=np.int64)
        entries = len(positions) * self.network.n_buses
        if entries > MAX_DENSE_ENTRIES:
            raise InputError(
                f"{len(positions)} dense PTDF rows of {self.network.n_buses} buses would take "
                f"{entries * 8 / 1e9:.1f} GB",
                f"network {self.network.name!r}",
                "ask PtdfFactor for fewer rows at a time, such as the lines that can bind",
            )
        result = np.zeros((len(positions), self.network.n_buses))
        if self._factor is not None and len(positions):
            right = self._line_by_bus[positions].toarray().T
            result[:, self._others] = self._factor.solve(np.asfortranarray(right)).T
        return result

    def flows(self, p_bus_kw: FloatArray) -> FloatArray:
        """Line flows of bus injections (3-17), phase-shift flows included.

        Parameters
        ----------
        p_bus_kw : (B, T) float64
            Net injections [kW]; what does not balance is taken up at the slack bus.

        Returns
        -------
        (L, T) float64
            Flows, positive from `from_bus` to `to_bus` [kW].
        """
        flow = np.tile(self.network.flow_offset_kw[:, None], (1, p_bus_kw.shape[1]))
        if self._factor is not None:
            angles = self._factor.solve(np.ascontiguousarray(p_bus_kw[self._others]))
            flow += self._line_by_bus @ angles
        return flow


def _incidence(network: Network) -> csc_array:
    """(L, B) incidence A: 1 at a line's `from_bus`, -1 at its `to_bus`."""
    n_lines = network.n_lines
    ones = np.ones(n_lines)
    lines = np.arange(n_lines)
    return csc_array(
        (
            np.concatenate([ones, -ones]),
            (
                np.concatenate([lines, lines]),
                np.concatenate([network.from_bus, network.to_bus]),
            ),
        ),
        shape=(n_lines, network.n_buses),
    )
