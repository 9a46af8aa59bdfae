"""What a population can inject at all, and the checks on its data."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import BoolArray, FloatArray
from raygrid.errors import InputError
from raygrid.prosumer.population import (
    PROFILE_FIELDS,
    UNIT_FIELDS,
    GridConnection,
    Population,
    Prosumers,
)
from raygrid.prosumer.store_checks import check_stores

SLACK_KWH = 1e-9
"""Rounding allowed in states of charge, relative to the battery's size where above 1 kWh."""

LARGEST_VALUE = 1e8
"""Largest power, charge or cost of one prosumer: 100 GW; sums in int64 must hold them."""


def injection_range(
    population: Population, *, idle_batteries: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Least and largest net injection of each prosumer, states of charge aside.

    Parameters
    ----------
    population : Population
        The prosumers.
    idle_batteries : bool
        Leave out the powers of batteries, EVs and shiftable loads.

    Returns
    -------
    p_min_kw, p_max_kw : (N, T) float64
        Bounds on p [kW].
    """
    low = population.generation_min_kw - population.demand_limit_kw - population.fixed_load_kw
    high = population.generation_limit_kw - population.demand_min_kw - population.fixed_load_kw
    if idle_batteries:
        return low, high
    low = low - population.charge_max_kw[:, None]
    high = high + population.discharge_max_kw[:, None]
    stores = population.stores
    if len(stores):
        limits = stores.limits(population.n_periods)
        low -= stores.owner_sums(limits.charge_kw, len(population))
        high += stores.owner_sums(limits.discharge_kw, len(population))
    return low, high


def bus_sums(population: Population, values: FloatArray, n_buses: int) -> FloatArray:
    """Sums of a (N, T) array over the prosumers of each bus, (B, T)."""
    sums = np.zeros((n_buses, values.shape[1]))
    np.add.at(sums, population.bus, values)
    return sums


def bus_ranges(
    population: Population,
    grid: GridConnection | None,
    n_buses: int,
    slack: int,
    *,
    idle_batteries: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Range of each bus' net injection, from the limits of its devices.

    Parameters
    ----------
    population : Population
        The prosumers.
    grid : GridConnection or None
        The grid connection at the slack bus.
    n_buses, slack : int
        Number of buses B, and the position of the slack bus.
    idle_batteries : bool
        Leave out the powers of batteries, EVs and shiftable loads.

    Returns
    -------
    p_min_kw, p_max_kw : (B, T) float64
        Bounds that no dispatch leaves [kW].
    """
    least, most = injection_range(population, idle_batteries=idle_batteries)
    p_min, p_max = (bus_sums(population, values, n_buses) for values in (least, most))
    if grid is not None:
        p_min[slack] -= grid.export_limit_kw
        p_max[slack] += grid.import_limit_kw
    return p_min, p_max


def check_population(
    population: Population,
    network_n_buses: int,
    where: str,
    period_hours: float | None = None,
) -> None:
    """Refuse a population that no market could clear or that breaks the model's convexity.

    Parameters
    ----------
    population : Population
        The prosumers.
    network_n_buses : int
        Number of buses B; prosumers stand at positions 0 to B - 1.
    where : str
        Where the data come from, for the message (a file, a key of the scenario).
    period_hours : float, optional
        dt [h]; with it, terminal charges are checked for being within reach.

    Raises
    ------
    InputError
        Naming the first prosumer, column and period at fault, and the cure.
    """
    _check_shapes(population, where)
    refuse = _Refusal(population, where)
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        values = getattr(population, name)
        refuse(~np.isfinite(values), name, "is {}", "give a finite number")
        refuse(
            np.abs(values) > LARGEST_VALUE,
            name,
            f"is {{}}, above {LARGEST_VALUE:g}",
            "check its unit (kW, kWh, currency/kWh)",
        )
    p = population
    refuse(p.prosumer_id < 1, "prosumer_id", "is {}", "count from 1; 0 is the grid connection")
    order = np.argsort(p.prosumer_id, kind="stable")
    twice = np.zeros(len(p), dtype=np.bool_)
    twice[order[1:]] = p.prosumer_id[order[1:]] == p.prosumer_id[order[:-1]]
    refuse(twice, "prosumer_id", "{} is used twice", "give every prosumer its own number")
    refuse(
        (p.bus < 0) | (p.bus >= network_n_buses),
        "bus",
        "position {} is not in the network",
        f"use one of its {network_n_buses} buses",
    )
    refuse(p.size_weight <= 0, "size_weight", "is {}", "give a positive weight, 1 for a household")
    refuse(p.alpha < 0, "alpha", "is {}, a concave cost", "give 0 or more")
    refuse(p.omega < 0, "omega", "is {}, a convex utility", "give 0 or more")
    for name in ("soc_min_kwh", "soc_max_kwh", "soc_final_min_kwh", "charge_max_kw",
                 "discharge_max_kw", "cycle_cost_per_kwh", "generation_min_kw",
                 "generation_limit_kw", "demand_min_kw", "demand_limit_kw"):  # fmt: skip
        refuse(getattr(p, name) < 0, name, "is {}, negative", "give 0 or more")
    refuse(
        p.fixed_load_kw < 0,
        "fixed_load_kw",
        "is {}, negative",
        "give load as positive kW and feed-in as generation",
    )
    for name in ("eta_charge", "eta_discharge"):
        eta = getattr(p, name)
        refuse((eta <= 0) | (eta > 1), name, "is {}, not in (0, 1]", "give a share, 0.95 for 95 %")
    for low, high in (("generation_min_kw", "generation_limit_kw"),
                      ("demand_min_kw", "demand_limit_kw"),
                      ("soc_min_kwh", "soc_max_kwh"),
                      ("soc_final_min_kwh", "soc_max_kwh")):  # fmt: skip
        refuse(
            getattr(p, low) > getattr(p, high), low, f"of {{}} is above {high}", "lower it to that"
        )
    slack = SLACK_KWH * np.maximum(p.soc_max_kwh, 1.0)
    refuse(
        (p.soc_initial_kwh < p.soc_min_kwh - slack) | (p.soc_initial_kwh > p.soc_max_kwh + slack),
        "soc_initial_kwh",
        "of {} is outside soc_min_kwh to soc_max_kwh",
        "start between them",
    )
    if period_hours is not None:
        check_terminal_charge(population, period_hours, where)
        check_stores(population, period_hours, where)


def check_terminal_charge(population: Prosumers, period_hours: float, where: str) -> None:
    """Refuse a terminal charge that full charging over the horizon does not reach.

    Parameters
    ----------
    population : Population
        The prosumers.
    period_hours : float
        dt [h].
    where : str
        Where the data come from, for the message.

    Raises
    ------
    InputError
        Naming the first prosumer at fault and the charge within reach.
    """
    p = population
    hours = period_hours * p.n_periods
    reach = np.minimum(p.soc_initial_kwh + hours * p.eta_charge * p.charge_max_kw, p.soc_max_kwh)
    short = p.soc_final_min_kwh > reach + SLACK_KWH * np.maximum(p.soc_max_kwh, 1.0)
    if short.any():
        at = int(np.argmax(short))
        _Refusal(p, where)(
            short,
            "soc_final_min_kwh",
            f"of {{}} cannot be reached from {p.soc_initial_kwh[at]:g} kWh",
            f"ask for at most {reach[at]:g} kWh or allow more charging power",
        )


def _check_shapes(population: Population, where: str) -> None:
    n, n_periods = population.fixed_load_kw.shape
    if n == 0:
        raise InputError("no prosumers", where, "give at least one")
    if n_periods == 0:
        raise InputError("no periods", where, "give at least one")
    for name in UNIT_FIELDS:
        shape = getattr(population, name).shape
        if shape != (n,):
            raise InputError(f"shape {shape}", f"{where}, column {name}", f"give shape ({n},)")
    for name in PROFILE_FIELDS:
        shape = getattr(population, name).shape
        if shape != (n, n_periods):
            raise InputError(
                f"shape {shape}", f"{where}, column {name}", f"give shape ({n}, {n_periods})"
            )


class _Refusal:
    """Raises for the first entry of a column that a mask marks as wrong."""

    def __init__(self, population: Prosumers, where: str) -> None:
        self.population = population
        self.where = where

    def __call__(self, wrong: BoolArray, column: str, what: str, cure: str) -> None:
        if not wrong.any():
            return
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        place = f"{self.where}, prosumer {self.population.prosumer_id[at[0]]}, column {column}"
        if len(at) > 1:
            place += f", period {at[1]}"
        value = getattr(self.population, column)[at]
        raise InputError(f"{column} {what.format(value)}", place, cure)
