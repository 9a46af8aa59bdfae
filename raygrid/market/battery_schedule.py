"""The final schedule where headroom is not enough: batteries move too, over all periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.grid.tree_rows import LimitRows
from raygrid.market.final_schedule import FinalSchedule, FinalStatus, final_schedule
from raygrid.market.tree import projection_onto
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import Population

if TYPE_CHECKING:
    import scipy.sparse as sp

MAX_BATTERIES = 2000
"""Batteries that the multi-period problem moves at most; the most powerful come first."""

_INSIDE = 1e-8
"""Relative distance kept to limits, wider than the interior-point solver's errors."""
_NEAR = 0.02
"""Share of a limit within which it counts from the start; others join when they are broken."""
_BROKEN = 5e-10
"""By how much of a limit that has not joined a solution may break it: half of the distance kept."""
_CHARGE_TOLERANCE = 1e-9
"""Rounding allowed in a state of charge, relative to the battery's size where above 1 kWh."""


@dataclass(frozen=True)
class Batteries:
    """K batteries with their schedules, gathered from the hosts only where they are needed.

    Attributes
    ----------
    prosumer_id, bus : (K,) int64
        Owner and position of its bus.
    size_weight : (K,) float64
        Owner's ADMM size weight.
    charge_kw, discharge_kw : (K, T) float64
        Schedules [kW].
    charge_max_kw, discharge_max_kw : (K,) float64
        Power limits [kW].
    soc_initial_kwh, soc_min_kwh, soc_max_kwh, soc_final_min_kwh : (K,) float64
        Start, bounds and least end of the state of charge [kWh].
    eta_charge, eta_discharge : (K,) float64
        Efficiencies.
    """

    prosumer_id: IntArray
    bus: IntArray
    size_weight: FloatArray
    charge_kw: FloatArray
    discharge_kw: FloatArray
    charge_max_kw: FloatArray
    discharge_max_kw: FloatArray
    soc_initial_kwh: FloatArray
    soc_min_kwh: FloatArray
    soc_max_kwh: FloatArray
    soc_final_min_kwh: FloatArray
    eta_charge: FloatArray
    eta_discharge: FloatArray

    def __len__(self) -> int:
        return len(self.prosumer_id)

    @classmethod
    def of(cls, population: Population, dispatch: Dispatch) -> Self:
        """The batteries of a host's population."""
        own = np.flatnonzero(population.has_battery)
        return cls(
            **{
                f.name: getattr(
                    dispatch if f.name in ("charge_kw", "discharge_kw") else population, f.name
                )[own]
                for f in fields(cls)
            }
        )

    def take(self, rows: IntArray | BoolArray) -> Self:
        """Some of them."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def gather(cls, parts: Sequence[Self], count: int = MAX_BATTERIES) -> Self:
        """The most powerful batteries of several hosts, the lower id first where they tie.

        Each host may send its own `count` most powerful; the choice does not depend on who
        stands on which host.
        """
        joined = cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )
        power = joined.charge_max_kw + joined.discharge_max_kw
        first = np.lexsort((joined.prosumer_id, -power))[:count]
        return joined.take(first)


@dataclass(frozen=True)
class BatterySchedule:
    """Moved batteries and the change of the other devices that goes with them.

    Attributes
    ----------
    final : FinalSchedule
        Change of generation, elastic demand and grid per bus, after the batteries' move.
    batteries : Batteries
        The batteries with their new schedules; the old ones where infeasible.
    soc_kwh : (K, T) float64
        State of charge at each period's end [kWh].
    battery_delta_kw : (B, T) float64
        Change of the batteries' net injection per bus [kW].
    """

    final: FinalSchedule
    batteries: Batteries
    soc_kwh: FloatArray
    battery_delta_kw: FloatArray


def battery_schedule(
    p_bus_kw: FloatArray,
    up_kw: FloatArray,
    down_kw: FloatArray,
    bus_weight: FloatArray,
    rows: LimitRows,
    batteries: Batteries,
    period_hours: float,
) -> BatterySchedule:
    """Balance the bus sums within all limits, moving batteries where headroom is not enough.

    Minimises ``sum delta_b^2 / n_b + sum (change of battery power)^2 / w_i`` over all periods.
    A battery stays on its side of zero in every period, an idle one on the side that its bus
    needs, so that none charges and discharges at once; its charge stays within its bounds.

    Parameters
    ----------
    p_bus_kw : (B, T) float64
        Net injection per bus with the batteries' present schedules [kW].
    up_kw, down_kw : (B, T) float64
        Headroom of the other devices per bus [kW].
    bus_weight : (B,) float64
        Sum of size weights per bus n_b.
    rows : NetworkRows or TreeRows
        Limits; may be empty.
    batteries : Batteries
        The batteries that may move.
    period_hours : float
        Length of a period [h].

    Returns
    -------
    BatterySchedule
        New schedules; `final.status` says whether they reach balance and limits.
    """
    toward = projection_onto(rows, bus_weight).project(p_bus_kw).z_bus_kw - p_bus_kw
    last = final_schedule(p_bus_kw, up_kw, down_kw, bus_weight, rows)
    unmoved = BatterySchedule(
        last, batteries, _integrate(batteries, period_hours), np.zeros_like(p_bus_kw)
    )
    if last.status is FinalStatus.OK or not len(batteries):
        return unmoved
    discharging = batteries.discharge_kw > batteries.charge_kw
    idle = batteries.discharge_kw == batteries.charge_kw
    discharging = np.where(idle, toward[batteries.bus] > 0, discharging)
    for margin in (_INSIDE, 0.0):
        power = _solve(
            p_bus_kw, up_kw, down_kw, bus_weight, rows, batteries, discharging, period_hours, margin
        )
        if power is None:
            continue
        moved = replace(
            batteries,
            charge_kw=np.where(discharging, batteries.charge_kw, power),
            discharge_kw=np.where(discharging, power, batteries.discharge_kw),
        )
        moved, soc, error = _settle(moved, discharging, period_hours)
        if error > _CHARGE_TOLERANCE:
            continue
        change = (moved.discharge_kw - moved.charge_kw) - (
            batteries.discharge_kw - batteries.charge_kw
        )
        bus_change = np.zeros_like(p_bus_kw)
        np.add.at(bus_change, batteries.bus, change)
        final = final_schedule(p_bus_kw + bus_change, up_kw, down_kw, bus_weight, rows)
        if final.status is FinalStatus.OK:
            return BatterySchedule(final, moved, soc, bus_change)
    return unmoved


def apply_batteries(
    population: Population, dispatch: Dispatch, batteries: Batteries, soc_kwh: FloatArray
) -> Dispatch:
    """Put moved batteries into a host's schedules.

    Parameters
    ----------
    population : Population
        The host's prosumers.
    dispatch : Dispatch
        Their schedules.
    batteries : Batteries
        Moved batteries of any hosts; those of others are passed over.
    soc_kwh : (K, T) float64
        Their states of charge [kWh].

    Returns
    -------
    Dispatch
        Schedules with the new battery powers, net injections and states of charge.
    """
    order = np.argsort(population.prosumer_id)
    place = np.searchsorted(population.prosumer_id, batteries.prosumer_id, sorter=order)
    row = order[np.minimum(place, len(order) - 1)]
    own = np.flatnonzero(population.prosumer_id[row] == batteries.prosumer_id)
    row = row[own]
    charge, discharge, soc = (
        a.copy() for a in (dispatch.charge_kw, dispatch.discharge_kw, dispatch.soc_kwh)
    )
    charge[row], discharge[row] = batteries.charge_kw[own], batteries.discharge_kw[own]
    soc[row] = soc_kwh[own]
    moved = replace(dispatch, charge_kw=charge, discharge_kw=discharge, soc_kwh=soc)
    return replace(moved, p_kw=moved.devices_kw(population.fixed_load_kw))


def _solve(
    p_bus_kw: FloatArray,
    up_kw: FloatArray,
    down_kw: FloatArray,
    bus_weight: FloatArray,
    rows: LimitRows,
    batteries: Batteries,
    discharging: np.ndarray[Any, np.dtype[np.bool_]],
    period_hours: float,
    margin: float,
) -> FloatArray | None:
    """Powers on each battery's side by Clarabel, or None where it finds no solution."""
    import clarabel
    import scipy.sparse as sp

    n_buses, n_periods = p_bus_kw.shape
    k = len(batteries)
    # Columns: changes (free buses x T), powers (K x T), charges (K x T), periods innermost.
    bus, at = np.nonzero((up_kw + down_kw > 0) & (bus_weight > 0)[:, None])
    n_free, n_power = len(bus), k * n_periods
    shape = (n_free + 2 * n_power,)
    sign = np.where(discharging, 1.0, -1.0).ravel()
    now = np.where(discharging, batteries.discharge_kw, batteries.charge_kw).ravel()
    most = np.where(
        discharging, batteries.discharge_max_kw[:, None], batteries.charge_max_kw[:, None]
    ).ravel()
    power_bus, power_at = np.repeat(batteries.bus, n_periods), np.tile(np.arange(n_periods), k)
    powers = np.arange(n_free, n_free + n_power)
    charges = powers + n_power

    quadratic = np.zeros(shape)
    quadratic[:n_free] = 2.0 / bus_weight[bus]
    quadratic[powers] = 2.0 / np.repeat(batteries.size_weight, n_periods)
    linear = np.zeros(shape)
    linear[powers] = -quadratic[powers] * now

    # Net injection of every bus and period as a map of the columns, and its constant part.
    cell = np.concatenate([bus * n_periods + at, power_bus * n_periods + power_at])
    column = np.concatenate([np.arange(n_free), powers])
    entry = np.concatenate([np.ones(n_free), sign])
    injection = sp.csr_array((entry, (cell, column)), shape=(n_buses * n_periods, *shape))
    held = p_bus_kw.copy()
    np.add.at(held, (power_bus, power_at), -sign * now)

    total = sp.kron(np.ones((1, n_buses)), sp.eye_array(n_periods), format="csr") @ injection
    dynamics, supplied = _charge_balance(batteries, discharging, period_hours, powers, charges)
    flow = sp.kron(rows.sparse(), sp.eye_array(n_periods), format="csr") @ injection
    flow_held = rows.flows(held).ravel()

    # What no schedule could use up is no bound, and would only spoil the scaling.
    cap = 2.0 * (np.abs(p_bus_kw).sum() + most.sum()) + 1.0
    size = margin * np.maximum(batteries.soc_max_kwh - batteries.soc_min_kwh, 0.0)
    floor = np.repeat((batteries.soc_min_kwh + size)[:, None], n_periods, axis=1)
    floor[:, -1] = np.maximum(floor[:, -1], batteries.soc_final_min_kwh + size)
    ceiling = np.repeat(batteries.soc_max_kwh - size, n_periods)
    low = np.concatenate([-np.minimum(down_kw[bus, at], cap), np.zeros(n_power), floor.ravel()])
    high = np.concatenate([np.minimum(up_kw[bus, at], cap), most, ceiling])
    upper = (rows.upper - margin * np.abs(rows.upper)).ravel() - flow_held
    lower = (rows.lower + margin * np.abs(rows.lower)).ravel() - flow_held
    # Few limits bind. Those that a solution breaks join until it breaks none, which is then the
    # one of all of them: the objective is strictly convex.
    identity = sp.eye_array(shape[0], format="csr")
    always = sp.vstack([total, dynamics, identity, -identity], format="csr")
    equal = np.concatenate([-held.sum(axis=0), supplied])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_feas = 1e-10
    start = np.zeros(shape)
    start[powers] = now
    there = flow @ start
    limits = [np.abs(side).ravel() for side in (rows.upper, rows.lower)]
    near = [_NEAR * np.where(np.isfinite(limit), limit, 0.0) for limit in limits]
    taken = [there > upper - near[0], there < lower + near[1]]
    while True:
        bound = np.concatenate([equal, high, -low, upper[taken[0]], -lower[taken[1]]])
        cones = [
            clarabel.ZeroConeT(len(equal)),
            clarabel.NonnegativeConeT(len(bound) - len(equal)),
        ]
        solver = clarabel.DefaultSolver(
            sp.csc_matrix(sp.diags(quadratic)),
            linear,
            sp.csc_matrix(sp.vstack([always, flow[taken[0]], -flow[taken[1]]], format="csc")),
            bound,
            cones,
            settings,
        )
        solution = solver.solve()
        if str(solution.status) not in ("Solved", "AlmostSolved"):
            return None
        there = flow @ np.asarray(solution.x)
        broken = [
            ~taken[0] & (there > upper + _BROKEN * limits[0]),
            ~taken[1] & (there < lower - _BROKEN * limits[1]),
        ]
        if not (broken[0].any() or broken[1].any()):
            break
        taken = [has | also for has, also in zip(taken, broken, strict=True)]
    power = np.clip(np.asarray(solution.x)[powers], 0.0, most)
    return np.asarray(power.reshape(k, n_periods))


def _charge_balance(
    batteries: Batteries,
    discharging: np.ndarray[Any, np.dtype[np.bool_]],
    period_hours: float,
    powers: IntArray,
    charges: IntArray,
) -> tuple[sp.csr_array, FloatArray]:
    """(3-11) as rows ``e_t - e_(t-1) - gain * power = what is given``."""
    import scipy.sparse as sp

    k, n_periods = batteries.charge_kw.shape
    gain = np.where(
        discharging,
        -period_hours / batteries.eta_discharge[:, None],
        period_hours * batteries.eta_charge[:, None],
    )
    given = np.where(
        discharging,
        period_hours * batteries.eta_charge[:, None] * batteries.charge_kw,
        -period_hours / batteries.eta_discharge[:, None] * batteries.discharge_kw,
    )
    given[:, 0] += batteries.soc_initial_kwh
    row = np.arange(k * n_periods)
    later = np.flatnonzero(row % n_periods != 0)
    entry = np.concatenate([np.ones(len(row)), -np.ones(len(later)), -gain.ravel()])
    places = (
        np.concatenate([row, later, row]),
        np.concatenate([charges, charges[later - 1], powers]),
    )
    width = int(charges[-1]) + 1
    return sp.csr_array((entry, places), shape=(len(row), width)), given.ravel()


def _integrate(batteries: Batteries, period_hours: float) -> FloatArray:
    """States of charge (3-11) at the periods' ends."""
    gain = batteries.eta_charge[:, None] * batteries.charge_kw
    gain = gain - batteries.discharge_kw / batteries.eta_discharge[:, None]
    soc = batteries.soc_initial_kwh[:, None] + period_hours * np.cumsum(gain, axis=1)
    return np.asarray(soc)


def _settle(
    batteries: Batteries, discharging: np.ndarray[Any, np.dtype[np.bool_]], period_hours: float
) -> tuple[Batteries, FloatArray, float]:
    """Take the solver's rounding out of the powers, so that charges keep their bounds.

    Returns the batteries, their states of charge, and what could not be mended, relative.
    """
    charge, discharge = batteries.charge_kw.copy(), batteries.discharge_kw.copy()
    soc = np.empty_like(charge)
    gain, drain = period_hours * batteries.eta_charge, period_hours / batteries.eta_discharge
    before, error = batteries.soc_initial_kwh, 0.0
    n_periods = charge.shape[1]
    for t in range(n_periods):
        floor = batteries.soc_min_kwh
        if t == n_periods - 1:
            floor = np.maximum(floor, batteries.soc_final_min_kwh)
        after = before + gain * charge[:, t] - drain * discharge[:, t]
        off = after - np.clip(after, floor, batteries.soc_max_kwh)
        side = discharging[:, t]
        mended = np.clip(charge[:, t] - off / gain, 0.0, batteries.charge_max_kw)
        charge[:, t] = np.where(side, charge[:, t], mended)
        mended = np.clip(discharge[:, t] + off / drain, 0.0, batteries.discharge_max_kw)
        discharge[:, t] = np.where(side, mended, discharge[:, t])
        after = before + gain * charge[:, t] - drain * discharge[:, t]
        kept = np.clip(after, floor, batteries.soc_max_kwh)
        size = np.maximum(batteries.soc_max_kwh, 1.0)
        error = max(error, float((np.abs(after - kept) / size).max(initial=0.0)))
        soc[:, t] = before = kept
    return replace(batteries, charge_kw=charge, discharge_kw=discharge), soc, error
