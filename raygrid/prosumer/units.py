"""A population in the form that compiled kernels take."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.compiled import frozen_view
from raygrid.prosumer.population import Profiles, Prosumers

KERNEL_COLUMNS = (
    "alpha", "beta", "omega", "delta",
    "soc_min_kwh", "soc_max_kwh", "soc_initial_kwh", "soc_final_min_kwh",
    "charge_max_kw", "discharge_max_kw", "eta_charge", "eta_discharge", "cycle_cost_per_kwh",
    "gamma",
)  # fmt: skip
"""Order in which the kernels take a prosumer's scalar parameters."""


def kernel_units(population: Prosumers) -> FloatArray:
    """(N, 14) read-only scalar parameters, columns as `KERNEL_COLUMNS`."""
    return frozen_view(np.stack([getattr(population, name) for name in KERNEL_COLUMNS], axis=1))


def kernel_profiles(population: Prosumers, start: int, stop: int) -> Profiles:
    """The profiles of rows start:stop, read-only, as kernels take them."""
    x_min, x_max, y_min, y_max, fixed = population.profiles(start, stop)
    return (
        frozen_view(x_min),
        frozen_view(x_max),
        frozen_view(y_min),
        frozen_view(y_max),
        frozen_view(fixed),
    )
