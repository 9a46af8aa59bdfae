"""A population of prosumers as a structure of arrays, and the grid connection beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.stores import NO_STORES, Stores

GRID_ID = 0
"""`prosumer_id` of the grid connection; prosumers count from 1."""

UNIT_FIELDS = (
    "prosumer_id", "bus", "size_weight",
    "alpha", "beta", "gamma", "omega", "delta",
    "soc_min_kwh", "soc_max_kwh", "soc_initial_kwh", "soc_final_min_kwh",
    "charge_max_kw", "discharge_max_kw", "eta_charge", "eta_discharge", "cycle_cost_per_kwh",
)  # fmt: skip
PROFILE_FIELDS = (
    "generation_min_kw", "generation_limit_kw", "demand_min_kw", "demand_limit_kw", "fixed_load_kw",
)  # fmt: skip

Profiles = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]

ROWS_AT_A_TIME = 2048
"""Prosumers per compiled call: small enough for the cache, large enough to hide the call."""


@dataclass(frozen=True)
class Prosumers(ABC):
    """What is one number a prosumer; what a prosumer lacks is 0 (its efficiencies are then 1).

    A prosumer's net injection is
    ``p = generation - elastic demand - fixed load + discharge - charge`` and its cost rate
    ``alpha x^2 + beta x + gamma - omega log(1 + y) + delta y + cycle_cost (c + d)``
    (thesis 3-7, 3-10, 3-15). `gamma` counts in every period of a prosumer that has a generator.

    Attributes
    ----------
    prosumer_id : (N,) int64
        Unique, 1 or more; 0 is the grid connection.
    bus : (N,) int64
        Position of the prosumer's bus in the network.
    size_weight : (N,) float64
        ADMM size weight w_i, see `raygrid.prosumer.size`; 0 where it is not set yet.
    alpha : (N,) float64
        Quadratic generation cost [currency/kW^2/h].
    beta : (N,) float64
        Linear generation cost [currency/kWh].
    gamma : (N,) float64
        Constant generation cost [currency/h].
    omega : (N,) float64
        Utility scale of elastic demand [currency/h].
    delta : (N,) float64
        Marginal disutility of elastic demand [currency/kWh].
    soc_min_kwh, soc_max_kwh, soc_initial_kwh, soc_final_min_kwh : (N,) float64
        Bounds, start and least end of the state of charge [kWh].
    charge_max_kw, discharge_max_kw : (N,) float64
        Battery power limits [kW].
    eta_charge, eta_discharge : (N,) float64
        Efficiencies in (0, 1].
    cycle_cost_per_kwh : (N,) float64
        Cost of charge and discharge alike (lambda_cd of 3-15) [currency/kWh].
    stores : Stores
        Their EVs and shiftable loads, which are agents of their own beside them: their charge is
        taken from p, and their costs are added.
    """

    prosumer_id: IntArray
    bus: IntArray
    size_weight: FloatArray
    alpha: FloatArray
    beta: FloatArray
    gamma: FloatArray
    omega: FloatArray
    delta: FloatArray
    soc_min_kwh: FloatArray
    soc_max_kwh: FloatArray
    soc_initial_kwh: FloatArray
    soc_final_min_kwh: FloatArray
    charge_max_kw: FloatArray
    discharge_max_kw: FloatArray
    eta_charge: FloatArray
    eta_discharge: FloatArray
    cycle_cost_per_kwh: FloatArray
    stores: Stores = field(default=NO_STORES, kw_only=True)

    def __len__(self) -> int:
        return len(self.prosumer_id)

    @property
    def has_battery(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) bool: who has a battery that can move any power."""
        return (self.charge_max_kw > 0) | (self.discharge_max_kw > 0)

    @property
    @abstractmethod
    def n_periods(self) -> int:
        """Number of periods T."""

    @abstractmethod
    def profiles(self, start: int, stop: int) -> Profiles:
        """The five (stop - start, T) profiles of these rows, in the order of `PROFILE_FIELDS`."""

    def rows(self, start: int, stop: int) -> Population:
        """These rows with all their profiles."""
        part = slice(start, stop)
        arrays: dict[str, Any] = {name: getattr(self, name)[part] for name in UNIT_FIELDS}
        arrays |= zip(PROFILE_FIELDS, self.profiles(start, stop), strict=True)
        return Population(**arrays, stores=self.stores.rows(start, stop))

    def blocks(self, size: int = ROWS_AT_A_TIME) -> Iterator[Population]:
        """All rows in turn, a few at a time."""
        for start in range(0, len(self), size):
            yield self.rows(start, min(start + size, len(self)))


@dataclass(frozen=True)
class Population(Prosumers):
    """N prosumers over T periods with every value of their profiles.

    Attributes
    ----------
    generation_min_kw, generation_limit_kw : (N, T) float64
        Generation limits (3-5, 3-6) [kW].
    demand_min_kw, demand_limit_kw : (N, T) float64
        Elastic demand limits (3-8, 3-9) [kW].
    fixed_load_kw : (N, T) float64
        Load that must be served [kW].
    """

    generation_min_kw: FloatArray
    generation_limit_kw: FloatArray
    demand_min_kw: FloatArray
    demand_limit_kw: FloatArray
    fixed_load_kw: FloatArray

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return int(self.fixed_load_kw.shape[1])

    def profiles(self, start: int, stop: int) -> Profiles:
        """Views of the rows' profiles."""
        part = slice(start, stop)
        return (
            self.generation_min_kw[part],
            self.generation_limit_kw[part],
            self.demand_min_kw[part],
            self.demand_limit_kw[part],
            self.fixed_load_kw[part],
        )

    @property
    def has_generator(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) bool: who can generate in some period."""
        return np.asarray((self.generation_limit_kw > 0).any(axis=1))

    @property
    def has_elastic_demand(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) bool: who has elastic demand in some period."""
        return np.asarray((self.demand_limit_kw > 0).any(axis=1))

    @classmethod
    def empty(cls, n: int, n_periods: int) -> Self:
        """n prosumers without any device (ids 1..n, bus 0), ready to be filled in place.

        Parameters
        ----------
        n : int
            Number of prosumers N.
        n_periods : int
            Number of periods T.

        Returns
        -------
        Population
            All zeros, but for size weights and efficiencies, which are 1.
        """
        arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
            name: np.zeros(n) for name in UNIT_FIELDS
        }
        arrays |= {name: np.zeros((n, n_periods)) for name in PROFILE_FIELDS}
        arrays |= {name: np.ones(n) for name in ("size_weight", "eta_charge", "eta_discharge")}
        arrays["prosumer_id"] = np.arange(1, n + 1, dtype=np.int64)
        arrays["bus"] = np.zeros(n, dtype=np.int64)
        return cls(**arrays)  # type: ignore[arg-type]

    def take(self, index: IntArray | slice) -> Self:
        """The prosumers at the given positions, in that order."""
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "stores"}
        stores = self.stores.of(np.arange(len(self))[index])
        return type(self)(**arrays, stores=stores)


@dataclass(frozen=True)
class GridConnection:
    """The upstream grid as one more agent at the slack bus (thesis 3-16, 3-20).

    Its injection is import minus export; its cost rate
    ``import_price * import - export_price * export``.

    Attributes
    ----------
    import_price_per_kwh, export_price_per_kwh : (T,) float64
        Prices [currency/kWh]; the export price is never above the import price.
    import_limit_kw, export_limit_kw : (T,) float64
        Limits [kW]; an export limit of 0 means no export.
    size_weight : float
        ADMM size weight, about that of all prosumers together.
    import_is_penalty : bool
        True where the import price is only a penalty (C^imp of 3-20), not a tariff: prices
        then do not start from it.
    """

    import_price_per_kwh: FloatArray
    export_price_per_kwh: FloatArray
    import_limit_kw: FloatArray
    export_limit_kw: FloatArray
    size_weight: float
    import_is_penalty: bool = False
