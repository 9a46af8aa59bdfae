"""The grid of a town: low-voltage grids, all alike, along medium-voltage feeders.

From one busbar, feeders of so many stations each go out. Of every three stations on a feeder two
lie on its trunk and the third on a spur off the second; each station feeds one low-voltage grid
through that grid's transformer:

    busbar - 1 - 2 - 4 - 5 - 7 - 8 - 10
                 |       |       |
                 3       6       9

Cables are pandapower's standard types, which have the data of common German 12/20 kV cables. Only
the lengths are drawn, each from the seed and its station's number, so that a larger town holds the
smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import Network
from raygrid.scenario import draws

VOLTAGE_KV = 20.0
"""Rated voltage of the feeders."""
FIRST_KM = (1.0, 3.0)
"""Range of the lengths from the busbar to the first stations."""
SECTION_KM = (0.4, 1.2)
"""Range of the lengths between stations, spurs included."""
KM_PER_DEGREE = 111.0
"""Buses of the shipped grid lie at degrees; only drawings use them."""
_TURN = np.pi * (3.0 - sqrt(5.0))
"""Golden angle between a feeder and the next, which fills the circle whatever their number."""


@dataclass(frozen=True)
class Cable:
    """A cable type."""

    r_ohm_per_km: float
    x_ohm_per_km: float
    max_i_a: float

    @property
    def limit_kw(self) -> float:
        """Power at its greatest current and rated voltage [kW]."""
        return sqrt(3.0) * VOLTAGE_KV * self.max_i_a


TRUNK = Cable(0.122, 0.112, 421.0)
"""NA2XS2Y 1x240 RM/25 12/20 kV."""
SPUR = Cable(0.313, 0.132, 252.0)
"""NA2XS2Y 1x95 RM/25 12/20 kV."""


@dataclass(frozen=True)
class Town:
    """Low-voltage grids along medium-voltage feeders.

    Buses are the busbar, then those of one grid after the other, its station's bus among them;
    lines are, grid after grid, the cable to its station, then the grid's own. Of bus and line
    numbers the leading digits are the grid's number, from 1; the cable has the last number of its
    grid's (12999 to the station of grid 12), the busbar has 0.

    Parameters
    ----------
    grid : Network
        One low-voltage grid; its slack bus is its station's, on the medium-voltage side.
    n_grids : int
        How many.
    per_feeder : int
        Stations along one feeder.
    seed : int
        Of the cables' lengths.
    """

    grid: Network
    n_grids: int
    per_feeder: int
    seed: int

    @property
    def n_buses(self) -> int:
        """Number of buses B."""
        return 1 + self.n_grids * self.grid.n_buses

    @property
    def numbers_each(self) -> int:
        """Numbers of buses and lines that are kept for each grid, a power of ten."""
        most = max(int(self.grid.bus_id.max()), int(self.grid.line_id.max()) + 1)
        return int(10 ** np.ceil(np.log10(most + 1)))

    @property
    def is_trunk(self) -> BoolArray:
        """(L,) which lines are cables along a feeder."""
        trunk = np.zeros((self.n_grids, 1 + self.grid.n_lines), dtype=np.bool_)
        trunk[:, 0] = ~self._on_spur
        return trunk.ravel()

    @property
    def is_transformer(self) -> BoolArray:
        """(L,) which lines join a low-voltage grid to its station."""
        ends = (self.grid.from_bus == self.grid.slack) | (self.grid.to_bus == self.grid.slack)
        return np.tile(np.append(False, ends), self.n_grids)

    def bus_of(self, grid: IntArray, bus: IntArray) -> IntArray:
        """Positions of buses, each given by its grid's position and its own in that grid."""
        return 1 + grid * self.grid.n_buses + bus

    def network(self, name: str) -> Network:
        """The whole grid.

        Parameters
        ----------
        name : str
            Name shown in results.
        """
        one, n_grids, step = self.grid, self.n_grids, self.numbers_each
        first = self.bus_of(np.arange(n_grids), np.zeros(n_grids, dtype=np.int64))
        number = step * np.arange(1, n_grids + 1)
        spur, length = self._on_spur, self._length_km
        ohm_base = 1e3 * VOLTAGE_KV**2 / one.base_kva
        above = self._above

        def lines(cable: FloatArray | IntArray, own: FloatArray | IntArray) -> FloatArray:
            """(L,) the cable's value, then those of the grid's own lines, grid after grid."""
            rows = own if own.ndim == 2 else np.broadcast_to(own, (n_grids, len(own)))
            return np.asarray(np.concatenate([cable[:, None], rows], axis=1).ravel())

        def by_type(what: str) -> FloatArray:
            return np.where(spur, float(getattr(SPUR, what)), float(getattr(TRUNK, what)))

        station = np.where(above < 0, 0, first[above] + one.slack)
        bus_id = (number[:, None] + one.bus_id[None, :]).ravel()
        return Network(
            name=name,
            bus_id=np.append(0, bus_id),
            slack=0,
            line_id=lines(number + step - 1, number[:, None] + one.line_id[None, :]).astype(
                np.int64
            ),
            from_bus=lines(station, first[:, None] + one.from_bus[None, :]).astype(np.int64),
            to_bus=lines(first + one.slack, first[:, None] + one.to_bus[None, :]).astype(np.int64),
            r_pu=lines(by_type("r_ohm_per_km") * length / ohm_base, one.r_pu),
            x_pu=lines(by_type("x_ohm_per_km") * length / ohm_base, one.x_pu),
            limit_kw=lines(by_type("limit_kw"), one.limit_kw),
            flow_offset_kw=lines(np.zeros(n_grids), one.flow_offset_kw),
            base_kva=one.base_kva,
            bus_xy=self._positions,
        )

    def limits_kw(
        self,
        rating_kw: FloatArray,
        flow_kw: FloatArray,
        transformer_margin: float | None,
        trunk_margin: float | None,
    ) -> FloatArray:
        """Limits of all lines where those of transformers and trunk cables follow the loads.

        Parameters
        ----------
        rating_kw : (L,) float64
            What the lines carry [kW].
        flow_kw : (L, D T) float64
            Flows under the fixed loads alone [kW].
        transformer_margin, trunk_margin : float or None
            Multiples of the greatest of these flows; None leaves the rating.

        Returns
        -------
        (L,) float64
            Limits, none above the rating [kW].
        """
        limit = rating_kw.copy()
        margins = ((self.is_transformer, transformer_margin), (self.is_trunk, trunk_margin))
        for lines, margin in margins:
            if margin is not None:
                greatest = np.abs(flow_kw[lines]).max(axis=1)
                limit[lines] = np.minimum(rating_kw[lines], margin * greatest)
        return limit

    @property
    def _place(self) -> IntArray:
        """(G,) place of each station on its feeder, from 0."""
        return np.arange(self.n_grids) % self.per_feeder

    @property
    def _on_spur(self) -> BoolArray:
        """(G,) which stations lie on spurs."""
        return np.asarray(self._place % 3 == 2)

    @property
    def _above(self) -> IntArray:
        """(G,) position of the grid whose station is next towards the busbar; -1 for the busbar."""
        place, grid = self._place, np.arange(self.n_grids)
        step = np.where((place % 3 == 0) & (place > 0), 2, 1)
        return np.where(place == 0, -1, grid - step)

    @property
    def _length_km(self) -> FloatArray:
        """(G,) length of the cable to each station [km]."""
        drawn = draws.uniform(self.seed, "cable_length", np.arange(1, self.n_grids + 1))
        low, high = (
            np.where(self._place == 0, first, section)
            for first, section in zip(FIRST_KM, SECTION_KM, strict=True)
        )
        return np.asarray(low + (high - low) * drawn)

    @property
    def _positions(self) -> FloatArray:
        """(B, 2) where to draw the buses: feeders as rays, spurs across; (0, 2) if unknown."""
        one = self.grid
        if not len(one.bus_xy):
            return np.zeros((0, 2))
        feeder, length = np.arange(self.n_grids) // self.per_feeder, self._length_km
        n_feeders = int(feeder[-1]) + 1
        along = np.zeros((n_feeders, self.per_feeder))
        along.ravel()[: self.n_grids] = np.where(self._on_spur, 0.0, length)
        distance = np.cumsum(along, axis=1).ravel()[: self.n_grids]
        # Many feeders begin further out, or their grids would lie on top of each other.
        distance = distance + SECTION_KM[1] * sqrt(n_feeders)
        across = np.where(self._on_spur, length, 0.0)
        out = np.stack([np.cos(_TURN * feeder), np.sin(_TURN * feeder)], axis=1)
        aside = np.stack([-out[:, 1], out[:, 0]], axis=1)
        station = (distance[:, None] * out + across[:, None] * aside) / KM_PER_DEGREE
        buses = station[:, None, :] + (one.bus_xy - one.bus_xy[one.slack])[None, :, :]
        busbar = np.zeros((1, 2))
        return np.asarray(np.concatenate([busbar, buses.reshape(-1, 2)]) + one.bus_xy[one.slack])


def town_of(grid: Network, n_grids: int, per_feeder: int, seed: int, where: str) -> Town:
    """A town of such grids.

    Parameters
    ----------
    grid, n_grids, per_feeder, seed
        See `Town`.
    where : str
        The grid's table, for messages.

    Raises
    ------
    InputError
        If the grid is no tree, or a number in it is negative.
    """
    if not grid.is_radial:
        raise InputError(
            f"{grid.n_lines} lines on {grid.n_buses} buses are not a tree",
            where,
            "open its loops: a town's low-voltage grids are radial",
        )
    if min(int(grid.bus_id.min()), int(grid.line_id.min())) < 0:
        raise InputError("a negative number of a bus or line", where, "count from 0")
    return Town(grid, n_grids, per_feeder, seed)
