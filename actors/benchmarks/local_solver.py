"""One battery, EV or shiftable load: the compiled methods against warm-started OSQP and DAQP.

All solvers see the same ADMM-like
sequence of targets in the same process: households with fixed load and battery, once more
with PV, whose targets settle around time-of-use prices. OSQP keeps one workspace per
prosumer and is warm-started; DAQP, too, keeps its workspace, solves the problem condensed to
charge and discharge (with a small ridge, since they enter p only together) and starts from
the last active set. Both are timed on their own clocks, without Python, and the median is
taken; the path method in CPU time per thread, and in wall time for one and two threads. DAQP
stands only where it is installed (`pip install raygrid[bench]`).

EVs (at home overnight, half of them able to discharge) and shiftable loads are agents of their own,
solved anew each round by `raygrid.prosumer.store_path`; OSQP again keeps and warm-starts one
workspace each.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings
from raygrid.arrays import FloatArray
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.population import Population
from raygrid.prosumer.store_local import solve_stores
from raygrid.prosumer.stores import StoreKind, Stores
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.drawn_stores import EvRules, ShiftableRules, StoreRules
from raygrid.scenario.households import rules_of
from raygrid.scenario.stays import Clock
from raygrid.scenario.store_sections import ElectricVehicles, ShiftableLoads

RHO = 0.1
ROUNDS = 12
CHUNK = 256
OSQP_TOLERANCE = 1e-5


def households(n: int, n_periods: int, with_pv: bool, seed: int = 1) -> Population:
    """Households with a battery of 5 to 14 kWh, evening peaks and, if asked, PV."""
    rng = np.random.default_rng(seed)
    p = Population.empty(n, n_periods)
    hour = (np.arange(n_periods) + 0.5) * 24 / n_periods
    shape = 0.4 + 0.5 * np.exp(-((hour - 8) ** 2) / 4) + np.exp(-((hour - 19) ** 2) / 8)
    p.fixed_load_kw[:] = (
        rng.uniform(0.4, 1.6, (n, 1)) * shape * rng.lognormal(0, 0.35, (n, n_periods))
    )
    if with_pv:
        sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0)
        p.generation_limit_kw[:] = rng.uniform(3, 8, (n, 1)) * sun * rng.uniform(0.3, 1, (n, 1))
    capacity = rng.uniform(5, 14, n)
    p.soc_max_kwh[:], p.soc_min_kwh[:] = capacity, 0.1 * capacity
    p.soc_initial_kwh[:] = p.soc_final_min_kwh[:] = 0.5 * capacity
    p.charge_max_kw[:] = p.discharge_max_kw[:] = 0.5 * capacity
    p.eta_charge[:] = p.eta_discharge[:] = 0.95
    p.cycle_cost_per_kwh[:] = 0.01
    return p


def admm_targets(population: Population, period_hours: float, seed: int = 2) -> list[FloatArray]:
    """Targets of successive rounds: the last p shifted by prices that settle."""
    rng = np.random.default_rng(seed)
    n, n_periods = population.fixed_load_kw.shape
    hour = (np.arange(n_periods) + 0.5) * 24 / n_periods
    price = np.where((hour > 7) & (hour < 22), 0.30, 0.20) - 0.18 * np.exp(-((hour - 13) ** 2) / 6)
    solver = LocalSolver(population, period_hours)
    p = -population.fixed_load_kw
    targets = []
    for k in range(ROUNDS):
        targets.append(p + (price + 0.12 * 0.75**k * rng.normal(0, 1, n_periods)) / RHO)
        p = np.empty((n, n_periods))
        solver.solve(0, n, targets[-1], np.full(n, RHO), p)
    return targets


def time_path(
    population: Population, period_hours: float, targets: list[FloatArray], threads: int
) -> dict[str, Any]:
    """Microseconds per subproblem over the rounds, chunks shared out over threads."""
    solver = LocalSolver(population, period_hours)
    n = len(population)
    rho, p = np.full(n, RHO), np.empty(targets[0].shape)

    def chunk(start: int, target: FloatArray) -> float:
        stop = min(start + CHUNK, n)
        began = time.thread_time()
        solver.solve(start, stop, target[start:stop], rho[start:stop], p[start:stop])
        return time.thread_time() - began

    seconds: list[float] = []
    cpu = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for target in targets:
            began = time.perf_counter()
            cpu += sum(pool.map(chunk, range(0, n, CHUNK), [target] * n))
            seconds.append(time.perf_counter() - began)
    return {
        "us_cpu": 1e6 * cpu / n / len(targets),
        "us_wall": Spread.of(1e6 * s / n for s in seconds),
        "simultaneous": solver.simultaneous_count(),
    }


def time_osqp(
    population: Population, period_hours: float, targets: list[FloatArray], tolerance: float
) -> dict[str, Any]:
    """Warm-started OSQP per subproblem: its own update and solve clocks."""
    from raygrid.prosumer.qp import ProsumerQP

    seconds: list[float] = []
    cpu = worst = 0.0
    exact = LocalSolver(population, period_hours)
    for i in range(len(population)):
        qp = ProsumerQP(population, i, period_hours, RHO, tolerance, polishing=False)
        qp.solve(targets[0][i])
        for target in targets[1:]:
            began = time.thread_time()
            dispatch = qp.solve(target[i])
            cpu += time.thread_time() - began
            info = qp._solver._solver.info
            seconds.append(info.solve_time + info.update_time)
        p = exact.dispatch(i, i + 1, targets[-1][i : i + 1], np.array([RHO])).p_kw
        worst = max(worst, float(np.abs(p - dispatch.p_kw).max()))
    return {
        "us": Spread.of(1e6 * s for s in seconds),
        "us_cpu_with_python": 1e6 * cpu / len(seconds),
        "tolerance": tolerance,
        "worst_p_error_kw": worst,
    }


def time_daqp(
    population: Population, period_hours: float, targets: list[FloatArray]
) -> dict[str, Any]:
    """DAQP on the dense problem in charge and discharge, with its workspace kept."""
    import daqp

    n_periods = population.n_periods
    eye = np.eye(n_periods)
    hessian = RHO * np.block([[eye, -eye], [-eye, eye]]) + 1e-6 * np.eye(2 * n_periods)
    seconds: list[float] = []
    cpu = worst = 0.0
    exact = LocalSolver(population, period_hours)
    for i in range(len(population)):
        one = population.take(slice(i, i + 1))
        gain = np.tril(np.full((n_periods, n_periods), period_hours))
        rows = np.hstack([gain * one.eta_charge[0], -gain / one.eta_discharge[0]])
        low = np.full(n_periods, one.soc_min_kwh[0] - one.soc_initial_kwh[0])
        low[-1] = max(low[-1], one.soc_final_min_kwh[0] - one.soc_initial_kwh[0])
        high = np.full(n_periods, one.soc_max_kwh[0] - one.soc_initial_kwh[0])
        lower = np.concatenate([np.zeros(2 * n_periods), low])
        flat = np.ones(n_periods)
        upper = np.concatenate([one.charge_max_kw[0] * flat, one.discharge_max_kw[0] * flat, high])
        model, linear = daqp.Model(), np.zeros(2 * n_periods)
        model.setup(hessian, linear, rows, upper, lower)
        for k, target in enumerate(targets):
            need = target[i] + one.fixed_load_kw[0]
            linear = np.concatenate([RHO * need, -RHO * need]) + one.cycle_cost_per_kwh[0]
            began = time.thread_time()
            model.update(f=linear)
            z, _, flag, info = model.solve()
            ended = time.thread_time()
            if flag != 1:
                raise RuntimeError(f"DAQP ended with flag {flag}")
            if k > 0:
                seconds.append(info["solve_time"])
                cpu += ended - began
        p = z[n_periods:] - z[:n_periods] - one.fixed_load_kw[0]
        ours = exact.dispatch(i, i + 1, targets[-1][i : i + 1], np.array([RHO])).p_kw[0]
        worst = max(worst, float(np.abs(p - ours).max()))
    return {
        "us": Spread.of(1e6 * s for s in seconds),
        "us_cpu_with_python": 1e6 * cpu / len(seconds),
        "worst_p_error_kw": worst,
    }


def one_row(n_periods: int, with_pv: bool, prosumers: int, sample: int) -> dict[str, Any]:
    """All solvers on the same targets; times in microseconds per subproblem."""
    period_hours = 24 / n_periods
    population = households(prosumers * 24 // n_periods, n_periods, with_pv)
    targets = admm_targets(population, period_hours)
    some = population.take(slice(0, sample))
    few = [target[:sample] for target in targets]
    one = time_path(population, period_hours, targets, 1)
    two = time_path(population, period_hours, targets, 2)
    osqp = time_osqp(some, period_hours, few, OSQP_TOLERANCE)
    daqp = None if with_pv or find_spec("daqp") is None else time_daqp(some, period_hours, few)
    return {
        "periods": n_periods,
        "pv": with_pv,
        "path_us_cpu": one["us_cpu"],
        "path_us_1_thread": one["us_wall"],
        "path_us_2_threads": two["us_wall"],
        "osqp_us": osqp["us"],
        "osqp_us_cpu_with_python": osqp["us_cpu_with_python"],
        "daqp_us": daqp and daqp["us"],
        "daqp_us_cpu_with_python": daqp and daqp["us_cpu_with_python"],
        "osqp_over_path": osqp["us"].median / one["us_cpu"],
        "daqp_over_path": daqp and daqp["us"].median / one["us_cpu"],
        "osqp_worst_p_error_kw": osqp["worst_p_error_kw"],
        "daqp_worst_p_error_kw": daqp and daqp["worst_p_error_kw"],
        "simultaneous": one["simultaneous"],
    }


def store_rules(evs: float, shiftable: float, n_periods: int) -> StoreRules:
    """Rules of `community`, with these shares."""
    return StoreRules(
        rules_of(EvRules, ElectricVehicles(share=evs, v2g_share=0.5)),
        rules_of(ShiftableRules, ShiftableLoads(share=shiftable)),
        Clock(0.0, n_periods, 24 / n_periods),
    )


def osqp_store(stores: Stores, i: int, n_periods: int, period_hours: float) -> Any:
    """OSQP set up for one store: charge, discharge and energy of every period."""
    import osqp
    from scipy import sparse

    one = stores.take(slice(i, i + 1))
    limits = one.limits(n_periods)
    eye = sparse.identity(n_periods, format="csc")
    step = sparse.diags([1.0, -1.0], [0, -1], shape=(n_periods, n_periods))
    gain, drain = period_hours * one.eta_charge[0], period_hours / one.eta_discharge[0]
    balance = sparse.hstack([-gain * eye, drain * eye, step])
    given = -limits.used_kwh[0]
    given[0] += one.initial_kwh[0]
    net = sparse.hstack([-eye, eye, 0 * eye])
    zero = np.zeros(n_periods)
    low = np.concatenate([given, zero, zero, limits.floor_kwh[0]])
    ceiling = np.full(n_periods, one.max_kwh[0])
    high = np.concatenate([given, limits.charge_kw[0], limits.discharge_kw[0], ceiling])
    solver = osqp.OSQP()
    solver.setup(
        sparse.triu(RHO * net.T @ net, format="csc"), np.zeros(3 * n_periods),
        sparse.vstack([balance, sparse.identity(3 * n_periods)], format="csc"), low, high,
        verbose=False, eps_abs=OSQP_TOLERANCE, eps_rel=OSQP_TOLERANCE, max_iter=200_000,
    )  # fmt: skip
    return solver


def store_row(kind: StoreKind, n_periods: int, stores: int, sample: int) -> dict[str, Any]:
    """Both solvers on the same targets; times in microseconds per subproblem."""
    hours = 24 / n_periods
    is_ev = kind is StoreKind.EV
    some = store_rules(float(is_ev), float(not is_ev), n_periods).draw(1, np.arange(1, stores + 1))
    nobody = Population.empty(len(some), n_periods)
    targets = admm_targets(nobody, hours)
    rho, p = np.full(len(some), RHO), np.empty(targets[0].shape)
    solve_stores(some.take(slice(0, 4)), hours, targets[0][:4], rho[:4], p[:4])
    cpu = 0.0
    for target in targets:
        began = time.thread_time()
        for start in range(0, len(some), CHUNK):
            part = slice(start, start + CHUNK)
            solve_stores(some.take(part), hours, target[part], rho[part], p[part])
        cpu += time.thread_time() - began
    seconds, worst = [], 0.0
    wear = some.cycle_cost_per_kwh[:, None] * np.ones((1, 2 * n_periods))
    for i in range(sample):
        solver = osqp_store(some, i, n_periods, hours)
        for k, target in enumerate(targets):
            linear = np.concatenate([RHO * target[i], -RHO * target[i]]) + wear[i]
            solver.update(q=np.concatenate([linear, np.zeros(n_periods)]))
            found = solver.solve(raise_error=False)
            if k > 0:
                seconds.append(found.info.solve_time + found.info.update_time)
        net = found.x[n_periods : 2 * n_periods] - found.x[:n_periods]
        worst = max(worst, float(np.abs(net - p[i]).max()))
    path_us, osqp_us = 1e6 * cpu / len(some) / len(targets), Spread.of(1e6 * s for s in seconds)
    return {
        "store": kind.name.lower(),
        "periods": n_periods,
        "path_us_cpu": path_us,
        "osqp_us": osqp_us,
        "osqp_over_path": osqp_us.median / path_us,
        "osqp_worst_p_error_kw": worst,
    }


class Settings(SuiteSettings):
    """What can be set: the batch of the path method, and how many of it the QPs solve."""

    prosumers: PositiveInt = 8192
    sample: PositiveInt = 60


QUICK = Settings(prosumers=64, sample=4)


def run(report: Report, settings: Settings) -> None:
    """Time one battery subproblem by three solvers, and one EV and shiftable load by two."""
    tiny = households(4, 24, True)
    LocalSolver(tiny, 1.0).solve(0, 4, tiny.fixed_load_kw, np.ones(4), np.empty((4, 24)))
    table = report.table("One battery subproblem", ("periods", "pv"))
    for n_periods in (24, 96):
        for with_pv in (False, True):
            table.add(one_row(n_periods, with_pv, settings.prosumers, settings.sample))
    targets = []
    for row in table.rows:
        if row["periods"] == 24:
            what = f"T = 24, {'with' if row['pv'] else 'no'} PV"
            targets += [
                Target(f"{what}: 2 threads [us]", row["path_us_2_threads"].median, at_most=10),
                Target(f"{what}: OSQP / path, a thread each", row["osqp_over_path"], at_least=10),
            ]
    of_stores = report.table("One EV or shiftable load", ("store", "periods"))
    for n_periods in (24, 96):
        for kind in StoreKind:
            of_stores.add(store_row(kind, n_periods, settings.prosumers // 4, settings.sample))
    for row in of_stores.rows:
        what = f"{row['store']}, T = {row['periods']}: OSQP / path, a thread each"
        targets.append(Target(what, row["osqp_over_path"], at_least=10))
    report.targets(targets)
