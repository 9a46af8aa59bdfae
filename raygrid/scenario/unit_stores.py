"""EVs and shiftable loads among the units of given households."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.stores import Stores
from raygrid.scenario.stays import HOURS_PER_DAY, Clock, shiftable_loads, vehicles
from raygrid.scenario.tabular import Columns, TableData

STORE_KINDS = ("ev", "shiftable")
STORE_COLUMNS: Columns = {
    "from_hour": "nonnegative",
    "to_hour": "nonnegative",
    "energy_kwh": "nonnegative",
    "trip_kwh": "nonnegative",
    "discharge_kw": "nonnegative",
    "constant_kw": "nonnegative",
}
"""Columns that a table of units has besides, where there are such units; 0 elsewhere."""


def check_store_units(table: TableData, kind: NDArray[np.str_]) -> None:
    """Refuse EVs and shiftable loads that make no sense by themselves.

    Parameters
    ----------
    table : TableData
        The units.
    kind : (U,) str
        Their kinds.

    Raises
    ------
    InputError
        Naming the row and column at fault.
    """
    begin, end, energy = (table.floats(name) for name in ("from_hour", "to_hour", "energy_kwh"))
    for row in np.flatnonzero(np.isin(kind, STORE_KINDS)).tolist():
        for name in ("from_hour", "to_hour"):
            hour = table.floats(name)[row]
            if hour >= HOURS_PER_DAY:
                table.refuse(row, name, f"{hour:g} is no hour of the day", "give one below 24")
        if begin[row] == end[row]:
            table.refuse(row, "to_hour", "the stay ends where it begins", "give it some time")
        if energy[row] == 0:
            table.refuse(row, "energy_kwh", "no energy is needed", "give some, or leave it out")
        hours = (end[row] - begin[row]) % HOURS_PER_DAY
        if kind[row] == "ev":
            _check_ev(table, row)
        elif table.floats("constant_kw")[row] * hours > energy[row]:
            what = f"{hours:g} h at constant power are more than energy_kwh"
            table.refuse(row, "constant_kw", what, "lower it")


def _check_ev(table: TableData, row: int) -> None:
    energy = table.floats("energy_kwh")[row]
    if energy > table.floats("capacity_kwh")[row]:
        table.refuse(row, "energy_kwh", f"{energy:g} is above capacity_kwh", "lower it to that")
    if table.floats("trip_kwh")[row] > energy:
        table.refuse(row, "trip_kwh", "the EV uses more than it departs with", "lower it")


def unit_stores(
    table: TableData,
    kind: NDArray[np.str_],
    owner: IntArray,
    clock: Clock,
    cycle_cost_per_kwh: FloatArray,
) -> tuple[Stores, FloatArray]:
    """The EVs and shiftable loads of given households, and the constant part of the latter.

    Parameters
    ----------
    table : TableData
        The units.
    kind : (U,) str
        Their kinds.
    owner : (U,) int64
        Row of each one's household.
    clock : Clock
        The horizon.
    cycle_cost_per_kwh : (n,) float64
        Degradation cost of each household's EV [currency/kWh].

    Returns
    -------
    Stores
        By owner.
    constant_kw : (n, T) float64
        What shiftable loads draw throughout their windows, whatever they draw besides [kW].
    """
    value = {name: table.floats(name) for name in (*STORE_COLUMNS, "power_kw", "capacity_kwh")}
    evs, loads = (np.flatnonzero(kind == name) for name in STORE_KINDS)
    evs, loads = (rows[np.argsort(owner[rows], kind="stable")] for rows in (evs, loads))
    vehicle = vehicles(
        owner[evs],
        clock,
        arrival_hour=value["from_hour"][evs],
        departure_hour=value["to_hour"][evs],
        min_kwh=np.zeros(len(evs)),
        max_kwh=value["capacity_kwh"][evs],
        needed_kwh=value["energy_kwh"][evs],
        trip_kwh=value["trip_kwh"][evs],
        charge_kw=value["power_kw"][evs],
        discharge_kw=value["discharge_kw"][evs],
        efficiency=table.floats("efficiency")[evs],
        cycle_cost_per_kwh=cycle_cost_per_kwh[owner[evs]],
    )
    begin, end = value["from_hour"][loads], value["to_hour"][loads]
    constant = value["constant_kw"][loads]
    shiftable = shiftable_loads(
        owner[loads],
        clock,
        earliest_hour=begin,
        latest_hour=end,
        energy_kwh=value["energy_kwh"][loads] - constant * ((end - begin) % HOURS_PER_DAY),
        power_kw=value["power_kw"][loads] - constant,
    )
    for row, stays in zip(loads.tolist(), shiftable.is_stay, strict=True):
        if not stays.any():
            what = "the window lies within the horizon on no day"
            table.refuse(row, "from_hour", what, "move it, or the horizon's start")
        if value["constant_kw"][row] > value["power_kw"][row]:
            table.refuse(row, "constant_kw", "above power_kw", "lower it to that")
    while_on = replace(shiftable, charge_max_kw=constant).limits(clock.n_periods)
    return Stores.joined([vehicle, shiftable]), shiftable.owner_sums(
        while_on.charge_kw, len(cycle_cost_per_kwh)
    )
