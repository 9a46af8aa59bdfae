"""A case: everything a clearing needs, built from a scenario and free of its authored form."""

from __future__ import annotations

from dataclasses import dataclass, field

from raygrid.arrays import FloatArray
from raygrid.grid.network import Network, NetworkRows
from raygrid.prosumer.population import GridConnection, Population


@dataclass(frozen=True)
class Case:
    """One market horizon of a community on its network.

    Attributes
    ----------
    name : str
        The scenario's name.
    network : Network
        The grid.
    rows : NetworkRows
        Limits that can bind (all of them where nobody sorted them); empty without limits.
    population : Population
        The prosumers.
    grid : GridConnection or None
        The upstream grid, if the community has one.
    period_hours : float
        Length of a period dt [h].
    currency : str
        Name of the money unit.
    reactive_load_kvar : (B, T) float64
        Reactive load per bus for voltage rows and the AC check [kvar].
    notes : tuple of str
        What a reader of the results must know ('reconstructed data', ...).
    """

    name: str
    network: Network
    rows: NetworkRows
    population: Population
    grid: GridConnection | None
    period_hours: float
    currency: str
    reactive_load_kvar: FloatArray
    notes: tuple[str, ...] = field(default=())

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return self.population.n_periods
