"""The central benchmark: the whole market as one convex problem (thesis 3-20) in CVXPY."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import scipy.sparse as sp

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.prosumer.dispatch import Dispatch, StoreDispatch
from raygrid.prosumer.grid_agent import grid_cost_rate
from raygrid.prosumer.population import GridConnection, Population
from raygrid.prosumer.storage import Storage, all_storage
from raygrid.prosumer.valuation import welfare_rate
from raygrid.scenario.case import Case


class CentralStatus(StrEnum):
    """How the central solve ended."""

    OPTIMAL = "optimal"
    INACCURATE = "inaccurate"
    INFEASIBLE = "infeasible"
    FAILED = "failed"


@dataclass(frozen=True)
class CentralResult:
    """Optimum of the central problem; all numbers are nan unless it was solved.

    Attributes
    ----------
    status : CentralStatus
        How the solve ended; `inaccurate` where the solver missed its tolerances.
    reason : str
        One line where it did not end optimal; empty otherwise.
    welfare : float
        Welfare over the horizon, dt counted [currency].
    lmp_per_kwh : (B, T) float64
        Locational prices, the multipliers of the nodal balances [currency/kWh].
    row_price : (M, T) float64
        Multipliers of `case.rows`, upper less lower [currency/h per unit of the row]: what one
        more unit of the limit is worth; zeros where limits were not enforced.
    p_bus_kw : (B, T) float64
        Net injection per bus, the grid's included [kW].
    grid_kw : (T,) float64
        Net import; zeros without a grid connection [kW].
    dispatch : Dispatch
        Device powers of all prosumers.
    simultaneous_kw : float
        Largest power that a battery with losses charges and discharges at once [kW]; above the
        solver's tolerance only where prices are so negative that the relaxed model (3-15)
        wants it.
    network_constrained : bool
        Whether `case.rows` were enforced.
    solver : str
        Solver name and version.
    seconds : float
        Wall time of building and solving, all attempts [s].
    attempts : int
        How often the solver began, with other settings each time.
    """

    status: CentralStatus
    reason: str
    welfare: float
    lmp_per_kwh: FloatArray
    row_price: FloatArray
    p_bus_kw: FloatArray
    grid_kw: FloatArray
    dispatch: Dispatch
    simultaneous_kw: float
    network_constrained: bool
    solver: str
    seconds: float
    attempts: int


# Full steps to the boundary of exponential cones can end in steps of no length.
_ATTEMPTS: dict[str, tuple[dict[str, float], ...]] = {
    "CLARABEL": (
        {"max_step_fraction": 0.9},
        # A thousand times closer than any gap that is reported, where 1e-8 is out of reach.
        {
            "max_step_fraction": 0.9,
            "tol_gap_abs": 1e-7,
            "tol_gap_rel": 1e-7,
            "tol_feas": 1e-7,
        },
        {"max_step_fraction": 0.8, "static_regularization_constant": 1e-10},
        {"max_step_fraction": 0.95, "static_regularization_constant": 1e-9},
    )
}


@dataclass(frozen=True)
class _Box:
    """A device quantity of some agents over all periods, flattened: fixed cells + S @ variable.

    Cells without room between their bounds are no variables: an interior-point method needs an
    interior.
    """

    members: IntArray
    low: FloatArray
    high: FloatArray
    cells: IntArray
    variable: Any
    expression: Any

    @property
    def value(self) -> FloatArray:
        """(members, T) solution, within its bounds (a solver oversteps them by its tolerance)."""
        flat = self.low.ravel().copy()
        if self.variable is not None:
            flat[self.cells] = self.variable.value
        return np.asarray(np.clip(flat.reshape(self.low.shape), self.low, self.high))


@dataclass(frozen=True)
class _Devices:
    """Boxes of all devices, and the dynamics of the storage (None without any)."""

    storage: Storage
    generation: _Box
    demand: _Box
    charge: _Box
    discharge: _Box
    grid_import: _Box
    grid_export: _Box
    dynamics: Any


def solve_central(
    case: Case, *, network_constrained: bool, solver: str = "CLARABEL"
) -> CentralResult:
    """Solve the central welfare problem, the reference for every distributed clearing.

    Costs are stated as rates, so the multipliers of the nodal balances are prices for any dt,
    which enters only the state of charge and the reported welfare.

    Parameters
    ----------
    case : Case
        The market.
    network_constrained : bool
        Whether `case.rows` are enforced.
    solver : str
        A CVXPY solver for exponential cones where there is elastic demand.

    Returns
    -------
    CentralResult
        Optimum, prices and schedules, or the status that says why there are none.

    References
    ----------
    Emeruom 2026, (3-2) to (3-20); the grid connection is one more agent at the slack bus.
    """
    cp = _cvxpy()

    started = time.perf_counter()
    population, grid = case.population, case.grid
    n_buses, n_periods = case.network.n_buses, case.n_periods
    constraints: list[Any] = []
    devices = _model_devices(case, constraints)
    p_bus = cp.Variable(n_buses * n_periods)
    nodal = _injection(case, devices) == p_bus
    balance = sp.kron(np.ones((1, n_buses)), sp.eye_array(n_periods), format="csr")
    constraints += [nodal, balance @ p_bus == 0]
    limits = _limit_rows(case, p_bus) if network_constrained else []
    constraints += [constraint for _, _, constraint in limits]
    problem = cp.Problem(cp.Minimize(_cost_rate(population, grid, devices)), constraints)
    status, reason, attempts = _solve(problem, solver)
    lmp = np.full((n_buses, n_periods), np.nan)
    row_price = np.zeros((case.rows.n_rows, n_periods))
    if status in (CentralStatus.OPTIMAL, CentralStatus.INACCURATE):
        lmp = -np.asarray(nodal.dual_value, dtype=np.float64).reshape(n_buses, n_periods)
        for mask, sign, constraint in limits:
            row_price[mask] += sign * np.asarray(constraint.dual_value)
        grid_kw = (devices.grid_import.value - devices.grid_export.value).sum(axis=0)
        dispatch, simultaneous = _dispatch(population, devices, case.period_hours)
        p_bus_kw = _bus_sum(case, np.arange(len(population))) @ dispatch.p_kw
        p_bus_kw[case.network.slack] += grid_kw
        rate = float(welfare_rate(population, dispatch).sum())
        if grid is not None:
            rate -= grid_cost_rate(grid, grid_kw)
        welfare = rate * case.period_hours
    else:
        row_price[:], grid_kw = np.nan, np.full(n_periods, np.nan)
        dispatch = _no_dispatch(population)
        p_bus_kw, simultaneous, welfare = np.full_like(lmp, np.nan), np.nan, np.nan
    return CentralResult(
        status=status,
        reason=reason,
        welfare=welfare,
        lmp_per_kwh=lmp,
        row_price=row_price,
        p_bus_kw=p_bus_kw,
        grid_kw=grid_kw,
        dispatch=dispatch,
        simultaneous_kw=simultaneous,
        network_constrained=network_constrained,
        solver=_solver_name(solver),
        seconds=time.perf_counter() - started,
        attempts=attempts,
    )


def _cvxpy() -> Any:
    """CVXPY, imported late (it is heavy) and untyped (its stubs miss half of its names)."""
    import cvxpy

    return cvxpy


def _box(members: IntArray, low: FloatArray, high: FloatArray, constraints: list[Any]) -> _Box:
    """A quantity between its bounds; an infinite upper bound is none."""
    cp = _cvxpy()
    low_flat, high_flat = low.ravel(), high.ravel()
    cells = np.flatnonzero(high_flat > low_flat)
    fixed = low_flat.copy()
    fixed[cells] = 0.0
    if len(cells) == 0:
        return _Box(members, low, high, cells, None, cp.Constant(fixed))
    variable = cp.Variable(len(cells))
    constraints.append(variable >= low_flat[cells])
    bounded = np.flatnonzero(np.isfinite(high_flat[cells]))
    constraints.append(variable[bounded] <= high_flat[cells][bounded])
    shape = (len(low_flat), len(cells))
    place = sp.csr_array((np.ones(len(cells)), (cells, np.arange(len(cells)))), shape=shape)
    return _Box(members, low, high, cells, variable, cp.Constant(fixed) + place @ variable)


def _model_devices(case: Case, constraints: list[Any]) -> _Devices:
    """Variables and own constraints (3-5) to (3-14) of the devices that exist."""
    population, grid, n_periods, dt = case.population, case.grid, case.n_periods, case.period_hours
    sellers = np.flatnonzero(population.has_generator)
    buyers = np.flatnonzero(population.has_elastic_demand)
    storage = all_storage(population, dt)
    none = np.zeros(storage.charge_max_kw.shape)
    generation = _box(
        sellers,
        population.generation_min_kw[sellers],
        population.generation_limit_kw[sellers],
        constraints,
    )
    demand = _box(
        buyers,
        population.demand_min_kw[buyers],
        population.demand_limit_kw[buyers],
        constraints,
    )
    owner = storage.owner
    charge = _box(owner, none, storage.charge_max_kw, constraints)
    discharge = _box(owner, none, storage.discharge_max_kw, constraints)
    dynamics = None
    if len(storage):
        soc = _box(owner, storage.floor_kwh, storage.ceiling_kwh, constraints)
        step = sp.eye_array(n_periods) - sp.eye_array(n_periods, k=-1)
        change = sp.kron(sp.eye_array(len(storage)), step, format="csr")
        start = -storage.used_kwh
        start[:, 0] += storage.initial_kwh
        gain = sp.diags_array(np.repeat(dt * storage.eta_charge, n_periods))
        drain = sp.diags_array(np.repeat(dt / storage.eta_discharge, n_periods))
        dynamics = (  # (3-11)
            change @ soc.expression
            == start.ravel() + gain @ charge.expression - drain @ discharge.expression
        )
        constraints.append(dynamics)
    no_grid = np.zeros((1, n_periods))
    import_limit = no_grid if grid is None else grid.import_limit_kw[None, :]
    export_limit = no_grid if grid is None else grid.export_limit_kw[None, :]
    slack = np.array([case.network.slack])
    return _Devices(
        storage,
        generation,
        demand,
        charge,
        discharge,
        _box(slack, no_grid, import_limit, constraints),
        _box(slack, no_grid, export_limit, constraints),
        dynamics,
    )


def _bus_sum(case: Case, members: IntArray) -> sp.csr_array:
    """(B, members) matrix that adds prosumers up to their buses."""
    shape = (case.network.n_buses, len(members))
    entries = (case.population.bus[members], np.arange(len(members)))
    return sp.csr_array((np.ones(len(members)), entries), shape=shape)


def _injection(case: Case, devices: _Devices) -> Any:
    """Net injection per bus and period, flattened: the left side of the nodal balances."""
    everyone, period = np.arange(len(case.population)), sp.eye_array(case.n_periods)
    injection: Any = -(_bus_sum(case, everyone) @ case.population.fixed_load_kw).ravel()
    for box, sign in (
        (devices.generation, 1.0),
        (devices.demand, -1.0),
        (devices.discharge, 1.0),
        (devices.charge, -1.0),
    ):
        if len(box.members):
            add_up = sp.kron(_bus_sum(case, box.members), period, format="csr")
            injection = injection + sign * (add_up @ box.expression)
    at_slack = np.zeros((case.network.n_buses, 1))
    at_slack[case.network.slack] = 1.0
    grid = devices.grid_import.expression - devices.grid_export.expression
    return injection + sp.kron(at_slack, period, format="csr") @ grid


def _cost_rate(population: Population, grid: GridConnection | None, devices: _Devices) -> Any:
    """Sum of all f_i as an expression; constants are left out."""
    cp = _cvxpy()
    n_periods = population.n_periods

    def each(box: _Box, coefficient: FloatArray) -> FloatArray:
        return np.asarray(np.repeat(coefficient[box.members], n_periods)[box.cells])

    cost: Any = cp.Constant(0.0)
    box = devices.generation
    if box.variable is not None:
        quadratic = each(box, population.alpha)
        if quadratic.any():
            cost += cp.sum_squares(cp.multiply(np.sqrt(quadratic), box.variable))
        cost += each(box, population.beta) @ box.variable
    box = devices.demand
    if box.variable is not None:
        omega = each(box, population.omega)
        likes = np.flatnonzero(omega > 0)
        cost += each(box, population.delta) @ box.variable
        if len(likes):
            cost -= omega[likes] @ cp.log1p(box.variable[likes])
    for box in (devices.charge, devices.discharge):
        if box.variable is not None:
            wear = np.repeat(devices.storage.cycle_cost_per_kwh, n_periods)
            cost += wear[box.cells] @ box.variable
    if grid is not None:
        cost += grid.import_price_per_kwh @ devices.grid_import.expression
        cost -= grid.export_price_per_kwh @ devices.grid_export.expression
    return cost


def _limit_rows(case: Case, p_bus: Any) -> list[tuple[BoolArray, float, Any]]:
    """Finite bounds of `case.rows` as constraints: where they stand, dual sign, constraint."""
    rows = case.rows
    limits: list[tuple[BoolArray, float, Any]] = []
    flow = sp.kron(rows.sparse(), sp.eye_array(case.n_periods), format="csr")
    for bound, sign in ((rows.upper, 1.0), (rows.lower, -1.0)):
        mask = np.isfinite(bound)
        if mask.any():
            value, at = flow[np.flatnonzero(mask)] @ p_bus, bound[mask]
            limits.append((mask, sign, value <= at if sign > 0 else value >= at))
    return limits


def _solve(problem: Any, solver: str) -> tuple[CentralStatus, str, int]:
    """Solve, again with the next settings where the solver gives up; how it ended, and attempts."""
    cp = _cvxpy()
    status, reason, attempts = CentralStatus.FAILED, "", 0
    for attempts, settings in enumerate(_ATTEMPTS.get(solver, ({},)), start=1):
        try:
            with warnings.catch_warnings():
                # An inaccurate solution is told by the status.
                warnings.filterwarnings("ignore", message="Solution may be inaccurate")
                problem.solve(solver=solver, **settings)
        except cp.SolverError as error:
            status, reason = CentralStatus.FAILED, str(error).splitlines()[0]
            continue
        status = _status(str(problem.status))
        if status is CentralStatus.OPTIMAL:
            return status, "", attempts
        reason = f"{solver} reports {problem.status}"
        if status is CentralStatus.INFEASIBLE:
            break
    return status, reason, attempts


def _status(reported: str) -> CentralStatus:
    """The solver's word in ours."""
    return {
        "optimal": CentralStatus.OPTIMAL,
        "optimal_inaccurate": CentralStatus.INACCURATE,
        "infeasible": CentralStatus.INFEASIBLE,
        "infeasible_inaccurate": CentralStatus.INFEASIBLE,
    }.get(reported, CentralStatus.FAILED)


def _solver_name(solver: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{solver} {version(solver.lower())}"
    except PackageNotFoundError:
        return solver


def _dispatch(
    population: Population, devices: _Devices, period_hours: float
) -> tuple[Dispatch, float]:
    """Schedules within device bounds, and the largest simultaneous charge and discharge."""

    def spread(box: _Box) -> FloatArray:
        full = np.zeros(population.fixed_load_kw.shape)
        full[box.members] = box.value
        return full

    storage = devices.storage
    charge, discharge = devices.charge.value, devices.discharge.value
    both = np.minimum(charge, discharge)
    # Without losses a cycle does nothing, and the solver may return any amount of it.
    lossless = (storage.eta_charge * storage.eta_discharge == 1.0)[:, None]
    charge, discharge = charge - lossless * both, discharge - lossless * both
    gain = storage.eta_charge[:, None] * charge - discharge / storage.eta_discharge[:, None]
    energy = np.cumsum(period_hours * gain - storage.used_kwh, axis=1)
    energy += storage.initial_kwh[:, None]
    value = np.zeros_like(charge)
    if devices.dynamics is not None:
        # Rates times dt are money, so the multiplier of a kWh carries one dt.
        multiplier = np.asarray(devices.dynamics.dual_value, dtype=np.float64)
        value = period_hours * multiplier.reshape(-1, population.n_periods)
    generation, demand = spread(devices.generation), spread(devices.demand)
    batteries = np.zeros((4, *generation.shape))
    batteries[2] = population.soc_initial_kwh[:, None]
    k, details = storage.n_batteries, np.stack([charge, discharge, energy, value])
    batteries[:, storage.owner[:k]] = details[:, :k]
    p = generation - demand - population.fixed_load_kw + batteries[1] - batteries[0]
    dispatch = Dispatch(
        p, generation, demand, batteries[0], batteries[1], batteries[2], batteries[3]
    )
    stores = population.stores
    if len(stores):
        own = StoreDispatch(stores.owner, stores.kind, *details[:, k:])
        dispatch = dispatch.with_stores(own)
    return dispatch, float(np.where(lossless, 0.0, both).max(initial=0.0))


def _no_dispatch(population: Population) -> Dispatch:
    """A dispatch of nan, for problems without a solution."""
    nothing = np.full((7, *population.fixed_load_kw.shape), np.nan)
    p, x, y, charge, discharge, soc, value = nothing
    return Dispatch(p, x, y, charge, discharge, soc, value)
