"""A case: everything a clearing needs, built from a scenario and free of its authored form."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from raygrid.arrays import FloatArray
from raygrid.grid.network import Network
from raygrid.grid.tree_rows import LimitRows
from raygrid.prosumer.community import Community
from raygrid.prosumer.population import GridConnection, Population, Prosumers
from raygrid.prosumer.size import with_weights


@dataclass(frozen=True)
class Case:
    """One market horizon of a community on its network; nothing in it need grow with prosumers.

    Attributes
    ----------
    name : str
        The scenario's name.
    network : Network
        The grid.
    rows : NetworkRows or TreeRows
        Limits that can bind (all of them where nobody sorted them); empty without limits.
    community : Community
        The prosumers, which whoever needs some of them builds there.
    grid : GridConnection or None
        The upstream grid, if the community has one.
    period_hours : float
        Length of a period dt [h].
    currency : str
        Name of the money unit.
    reactive_load_kvar : (B, T) float64
        Reactive load per bus for voltage rows and the AC check [kvar].
    price_level : float
        Typical price, from which size weights follow that the community does not give
        [currency/kWh].
    stores : int
        Number of EVs and shiftable loads.
    notes : tuple of str
        What a reader of the results must know ('reconstructed data', ...).
    """

    name: str
    network: Network
    rows: LimitRows
    community: Community
    grid: GridConnection | None
    period_hours: float
    currency: str
    reactive_load_kvar: FloatArray
    price_level: float = 1.0
    stores: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.community.n_periods

    @cached_property
    def population(self) -> Population:
        """All prosumers with their size weights; only for communities that fit here."""
        return with_weights(self.community.everyone(), self.price_level)

    def part(self, start: int, stop: int) -> Prosumers:
        """The prosumers at positions start to stop - 1 by bus and id, with their weights."""
        return with_weights(self.community.recipe(start, stop).build(), self.price_level)
