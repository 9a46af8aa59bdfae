"""How far devices can still move, and moving them to the final schedule.

Where a device stands between its limits its marginal cost is the locational price, so moving it
changes welfare in second order only; at a limit the two differ and a move costs in first order
(an import that is not worth its price, a curtailed PV plant's neighbour). *Marginal* room is
that of devices between their limits; the room of all devices is used only in periods in which
it does not suffice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GridConnection, Population

UNLIMITED_KW = 1e8
"""Headroom of a connection without a limit, small enough for the exact sums [kW]."""


BETWEEN = 1e-6
"""Part of a device's range by which it must stay clear of its limits to stand between them."""


def headroom(
    population: Population, dispatch: Dispatch, whole: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """By how much generation and elastic demand can raise and lower the net injection.

    Parameters
    ----------
    population : Population
        The prosumers and their device limits.
    dispatch : Dispatch
        Their schedules.
    whole : (T,) or (N, T) bool
        Where all devices count, not only those between their limits.

    Returns
    -------
    up_kw, down_kw : (N, T) float64
        Room upwards and downwards, neither negative [kW]; batteries are left where they are.
    """
    more, less = _generation_room(population, dispatch, whole)
    curtail, consume = _demand_room(population, dispatch, whole)
    return more + curtail, less + consume


def room_cost(population: Population, dispatch: Dispatch) -> tuple[FloatArray, FloatArray]:
    """Marginal cost of all devices' room times that room, upwards and downwards.

    Parameters
    ----------
    population : Population
        The prosumers and their device limits.
    dispatch : Dispatch
        Their schedules.

    Returns
    -------
    up_cost, down_cost : (N, T) float64
        What using all the room would cost, and save, at today's margin [currency/h].
    """
    whole = np.ones(dispatch.p_kw.shape[1], dtype=np.bool_)
    more, less = _generation_room(population, dispatch, whole)
    curtail, consume = _demand_room(population, dispatch, whole)
    alpha, beta = population.alpha[:, None], population.beta[:, None]
    of_generation = 2.0 * alpha * dispatch.generation_kw + beta
    of_demand = population.omega[:, None] / (1.0 + dispatch.demand_kw) - population.delta[:, None]
    return (
        of_generation * more + of_demand * curtail,
        of_generation * less + of_demand * consume,
    )


def grid_room_cost(grid: GridConnection, grid_kw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The grid connection's part of `room_cost`: its tariff for the direction it moves in.

    Parameters
    ----------
    grid : GridConnection
        The connection and its tariffs.
    grid_kw : (T,) float64
        Import minus export [kW].

    Returns
    -------
    up_cost, down_cost : (T,) float64
        As `room_cost` [currency/h].
    """
    up, down = grid_headroom(grid, grid_kw, np.ones(len(grid_kw), dtype=np.bool_))
    buy, sell = grid.import_price_per_kwh, grid.export_price_per_kwh
    return np.where(grid_kw < 0, sell, buy) * up, np.where(grid_kw > 0, buy, sell) * down


def grid_headroom(
    grid: GridConnection, grid_kw: FloatArray, whole: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """By how much the grid connection can raise and lower its net import.

    Parameters
    ----------
    grid : GridConnection
        The connection and its limits.
    grid_kw : (T,) float64
        Import minus export [kW].
    whole : (T,) bool
        Periods in which it counts even where it neither imports nor exports, or is at a limit;
        else it moves as long as it keeps its direction, whose price it has.

    Returns
    -------
    up_kw, down_kw : (T,) float64
        Room upwards and downwards [kW], at most `UNLIMITED_KW`.
    """
    up = np.clip(grid.import_limit_kw - grid_kw, 0.0, UNLIMITED_KW)
    down = np.clip(grid.export_limit_kw + grid_kw, 0.0, UNLIMITED_KW)
    at_rest = (grid_kw == 0) | (up == 0) | (down == 0)
    narrow_up = np.where(grid_kw < 0, np.minimum(up, -grid_kw), up)
    narrow_down = np.where(grid_kw > 0, np.minimum(down, grid_kw), down)
    return (
        np.where(whole, up, np.where(at_rest, 0.0, narrow_up)),
        np.where(whole, down, np.where(at_rest, 0.0, narrow_down)),
    )


def moved_fraction(delta_kw: FloatArray, up_kw: FloatArray, down_kw: FloatArray) -> FloatArray:
    """The part of its headroom that every device of a bus moves by.

    Each device moves by the same part of its own room, so a prosumer's share depends on its own
    headroom and on the totals of its bus alone, not on who else shares its host.

    Parameters
    ----------
    delta_kw : (B, T) float64
        Change of the net injection per bus [kW].
    up_kw, down_kw : (B, T) float64
        Headroom of the whole bus, over all hosts [kW].

    Returns
    -------
    (B, T) float64
        delta / up where positive, delta / down where negative; within [-1, 1].
    """
    room = np.where(delta_kw > 0, up_kw, down_kw)
    fraction = np.divide(delta_kw, room, out=np.zeros_like(delta_kw), where=room > 0)
    return np.clip(fraction, -1.0, 1.0)


def split_delta(fraction: FloatArray, up_kw: FloatArray, down_kw: FloatArray) -> FloatArray:
    """Change of each prosumer's net injection, its part of the change of its bus.

    Parameters
    ----------
    fraction : (N, T) float64
        `moved_fraction` at each prosumer's bus.
    up_kw, down_kw : (N, T) float64
        The prosumers' own headroom [kW].

    Returns
    -------
    (N, T) float64
        Changes [kW].
    """
    return fraction * np.where(fraction > 0, up_kw, down_kw)


def apply_delta(
    population: Population,
    dispatch: Dispatch,
    bus_row: IntArray,
    delta_kw: FloatArray,
    up_kw: FloatArray,
    down_kw: FloatArray,
    whole: BoolArray,
) -> Dispatch:
    """Move generation and elastic demand so that the bus sums change by `delta_kw`.

    Device limits hold exactly; batteries, EVs and shiftable loads keep their powers.

    Parameters
    ----------
    population : Population
        The prosumers and their device limits.
    dispatch : Dispatch
        Their schedules, within the limits.
    bus_row : (N,) int64
        Row of each prosumer's bus in the next three arrays.
    delta_kw, up_kw, down_kw : (B, T) float64
        Change of the net injection and headroom of the whole bus [kW].
    whole : (B, T) bool
        Where the headroom is that of all devices.

    Returns
    -------
    Dispatch
        The moved schedules.
    """
    fraction = moved_fraction(delta_kw, up_kw, down_kw)[bus_row]
    more, less = _generation_room(population, dispatch, whole[bus_row])
    curtail, consume = _demand_room(population, dispatch, whole[bus_row])
    generation = dispatch.generation_kw + split_delta(fraction, more, less)
    generation = np.where(
        fraction > 0,
        np.minimum(generation, np.maximum(population.generation_limit_kw, dispatch.generation_kw)),
        np.maximum(generation, np.minimum(population.generation_min_kw, dispatch.generation_kw)),
    )
    demand = dispatch.demand_kw - split_delta(fraction, curtail, consume)
    demand = np.where(
        fraction > 0,
        np.maximum(demand, np.minimum(population.demand_min_kw, dispatch.demand_kw)),
        np.minimum(demand, np.maximum(population.demand_limit_kw, dispatch.demand_kw)),
    )
    moved = replace(dispatch, generation_kw=generation, demand_kw=demand)
    return replace(moved, p_kw=moved.devices_kw(population.fixed_load_kw))


def apply_grid_delta(
    grid: GridConnection,
    grid_kw: FloatArray,
    delta_kw: FloatArray,
    up_kw: FloatArray,
    down_kw: FloatArray,
    whole: BoolArray,
) -> FloatArray:
    """Move the grid connection by its part of the slack bus's change.

    Parameters
    ----------
    grid : GridConnection
        The connection and its limits.
    grid_kw : (T,) float64
        Import minus export [kW].
    delta_kw, up_kw, down_kw : (T,) float64
        Change of the net injection and headroom of the whole slack bus [kW].
    whole : (T,) bool
        Periods in which the headroom is that of all devices.

    Returns
    -------
    (T,) float64
        Import minus export after the move, within the limits [kW].
    """
    own_up, own_down = grid_headroom(grid, grid_kw, whole)
    moved = grid_kw + split_delta(moved_fraction(delta_kw, up_kw, down_kw), own_up, own_down)
    low, high = (
        np.minimum(-grid.export_limit_kw, grid_kw),
        np.maximum(grid.import_limit_kw, grid_kw),
    )
    return np.clip(moved, low, high)


def _generation_room(
    population: Population, dispatch: Dispatch, whole: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Room of the generator upwards and downwards in generation."""
    low, high = population.generation_min_kw, population.generation_limit_kw
    return _room(dispatch.generation_kw, low, high, whole)


def _demand_room(
    population: Population, dispatch: Dispatch, whole: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Room of the elastic demand downwards and upwards in demand."""
    low, high = population.demand_min_kw, population.demand_limit_kw
    more, less = _room(dispatch.demand_kw, low, high, whole)
    return less, more


def _room(
    value: FloatArray, low: FloatArray, high: FloatArray, whole: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Room of a device upwards and downwards; none at a limit unless the period counts whole."""
    more, less = np.maximum(high - value, 0.0), np.maximum(value - low, 0.0)
    counts = whole | (np.minimum(more, less) > BETWEEN * (high - low))
    return np.where(counts, more, 0.0), np.where(counts, less, 0.0)
