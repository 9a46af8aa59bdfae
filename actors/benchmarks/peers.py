"""The same houses cleared by raygrid and by its peers, side by side in one run.

Houses of `community` with what all peers can state: fixed load, PV that may be curtailed for
nothing, batteries with one efficiency both ways and no cost of cycling, which end at least as full
as they began; elastic demand, the tariff and the limits of lines are left out. They buy together
from a supply whose marginal cost grows with its power. 'raygrid' clears them in this process, on
one thread, and on two Ray actors. 'OSQP loop' is the same market, each prosumer's subproblem solved
by its own warm-started OSQP in Python. 'central' is CVXPY with Clarabel. 'pycity_scheduling' is the
Exchange-ADMM of that package (release 1.4.2) in an environment of its own, at its own penalty and
at the best of others; its free solver, Gurobi with the licence that comes from PyPI, is limited in
size and refuses a house from 12 periods on, so that all have 8. All stop at the tolerances of
thesis 4.8 (1e-4 and 1e-3). Gaps are to the central optimum, of schedules that balance. Times are
from the call until the schedule; setting up stands beside.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt

import actors.benchmarks
from actors.benchmarks.common import SuiteSettings, gap_percent, load, repeat
from actors.cluster import ClusterOptions
from actors.placement import PlacementPolicy
from actors.session import Session
from raygrid.arrays import FloatArray
from raygrid.errors import EndedShortError
from raygrid.grid.limits import empty_rows
from raygrid.grid.network import Network
from raygrid.market.central import CentralResult, solve_central
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS, Population, Prosumers
from raygrid.prosumer.qp import ProsumerQP
from raygrid.results.benchmark import Report, Spread, Table, Target
from raygrid.scenario.case import Case

PYCITY = ("pycity_scheduling==1.4.2", "gurobipy==13.0.0")
"""The last release whose Exchange-ADMM finds the optimum: 1.4.3 and 1.4.4 leave the agents' own
last schedule out of the proximal term. The licence of the Gurobi that it asks for ends early."""
PYCITY_PROGRAM = Path(actors.benchmarks.__file__).parent / "pycity_program.py"
PYCITY_RHO = 2.0
"""Default penalty of `ExchangeADMM`, where the district's cost is its squared power."""
PERIODS = 8
"""As many as the free solver of pycity_scheduling takes, with room to spare."""
MEAN_PRICE = 0.3
"""Mean price at the supply if nothing could be moved [currency/kWh]."""
FIRST_HOUR = 16
"""Of those that are cleared: the last sun, then the evening, when the supply sets the price."""
NOT_STATED = (
    "bus", "size_weight", "alpha", "beta", "gamma", "omega", "delta", "cycle_cost_per_kwh",
    "generation_min_kw", "demand_min_kw", "demand_limit_kw",
)  # fmt: skip
"""What houses of `community` lose here."""
OSQP_TOLERANCE = 1e-5
MAX_ITERATIONS = 1000


class OsqpLoop:
    """Local solver of a block that asks one OSQP per prosumer, in Python.

    Takes the place of `raygrid.prosumer.local.LocalSolver` and does what it does.

    Parameters
    ----------
    population : Prosumers
        The block's prosumers.
    period_hours : float
        Length of a period [h].
    rho : float
        Penalty of size weight 1, which must stay as it is.
    """

    def __init__(self, population: Prosumers, period_hours: float, rho: float) -> None:
        rows = population.rows(0, len(population))
        self._weight = rows.size_weight
        self._qps = [
            ProsumerQP(rows, i, period_hours, rho / w, OSQP_TOLERANCE, polishing=False)
            for i, w in enumerate(rows.size_weight.tolist())
        ]

    def solve(
        self, start: int, stop: int, target_kw: FloatArray, rho: FloatArray, out_p_kw: FloatArray
    ) -> None:
        """Net injections of rows start:stop, one prosumer after the other."""
        for k, i in enumerate(range(start, stop)):
            out_p_kw[k] = self._qps[i].solve(target_kw[k]).p_kw[0]

    def dispatch(self, start: int, stop: int, target_kw: FloatArray, rho: FloatArray) -> Dispatch:
        """Device powers of rows start:stop."""
        return Dispatch.joined(
            [self._qps[i].solve(target_kw[i - start]) for i in range(start, stop)]
        )

    def simultaneous_count(self) -> int:
        """Nobody is asked."""
        return 0


def houses(n: int) -> Population:
    """n houses of `community` that all peers can state, over some hours of its day."""
    day = load("community", n)[0].population.rows(0, n)
    hours = slice(FIRST_HOUR, FIRST_HOUR + PERIODS)
    cut = {name: getattr(day, name)[:, hours].copy() for name in PROFILE_FIELDS}
    people = replace(day, **cut)
    for name in NOT_STATED:
        getattr(people, name)[:] = 0
    capacity = people.soc_max_kwh - people.soc_min_kwh
    people.soc_max_kwh[:], people.soc_min_kwh[:] = capacity, 0.0
    people.soc_initial_kwh[:] = people.soc_final_min_kwh[:] = 0.5 * capacity
    people.eta_discharge[:] = people.eta_charge
    return people


def supplied(people: Population) -> tuple[Case, float]:
    """The houses and a supply with cost k P^2, and that k [currency/kW^2/h]."""
    n = len(people)
    load_kw = people.fixed_load_kw.sum(axis=0)
    k = MEAN_PRICE / (2.0 * float(load_kw.mean()))
    everyone = Population.empty(n + 1, PERIODS)
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        getattr(everyone, name)[:n] = getattr(people, name)
    everyone.prosumer_id[n] = int(people.prosumer_id.max()) + 1
    everyone.size_weight[:] = 0.0
    everyone.alpha[n] = k
    everyone.generation_limit_kw[n] = 2.0 * float(load_kw.max())
    network = Network(
        name="one",
        bus_id=np.array([1, 2]),
        slack=0,
        line_id=np.array([1]),
        from_bus=np.array([0]),
        to_bus=np.array([1]),
        r_pu=np.array([0.01]),
        x_pu=np.array([0.1]),
        limit_kw=np.array([np.inf]),
        flow_offset_kw=np.zeros(1),
    )
    case = Case(
        name=f"{n} houses",
        network=network,
        rows=empty_rows(network, PERIODS),
        community=GivenCommunity(everyone),
        grid=None,
        period_hours=1.0,
        currency="EUR",
        reactive_load_kvar=np.zeros((2, PERIODS)),
        price_level=MEAN_PRICE,
    )
    return case, k


def cleared_in_process(
    case: Case, options: ClearingOptions, osqp: bool
) -> tuple[ClearingResult, float]:
    """Clear with the compiled local solver, or with an OSQP per prosumer; and the set-up [s]."""
    started = perf_counter()
    exchange = local_exchange(case, options)
    if osqp:
        (block,) = exchange.blocks
        loop = OsqpLoop(block.population, case.period_hours, options.rho)
        block.solver = loop  # type: ignore[assignment]
    set_up_s = perf_counter() - started
    return clear(case, options, exchange), set_up_s


def our_row(
    runs: list[tuple[ClearingResult, float]], n: int, central: CentralResult
) -> dict[str, Any]:
    """What our clearings of n agents gave."""
    last = runs[-1][0]
    seconds = Spread.of(result.seconds for result, _ in runs)
    return {
        "status": str(last.status),
        "iterations": last.iterations,
        "seconds": seconds,
        "us_per_house_and_iteration": 1e6 * seconds.median / last.iterations / n,
        "gap_percent": 100 * (central.welfare - last.welfare) / abs(central.welfare),
        "bound_gap_percent": gap_percent(last),
        "set_up_s": Spread.of(set_up for _, set_up in runs),
    }


def pycity_problem(people: Population, **settings: Any) -> dict[str, Any]:
    """The houses in the words of `pycity_program`."""
    battery = people.has_battery
    sun = people.has_generator
    found = []
    for i in range(len(people)):
        device = {
            "e_el_max": float(people.soc_max_kwh[i]),
            "p_el_max_charge": float(people.charge_max_kw[i]),
            "p_el_max_discharge": float(people.discharge_max_kw[i]),
            "soc_init": 0.5,
            "eta": float(people.eta_charge[i]),
        }
        found.append(
            {
                "load_kw": people.fixed_load_kw[i].tolist(),
                "pv_kw": people.generation_limit_kw[i].tolist() if sun[i] else None,
                "battery": device if battery[i] else None,
            }
        )
    return {
        "periods": PERIODS,
        "step_s": 3600,
        "houses": found,
        "max_iterations": MAX_ITERATIONS,
        **settings,
    }


def run_pycity(python: Path, problem: dict[str, Any]) -> dict[str, Any]:
    """What `pycity_program` gives.

    Raises
    ------
    EndedShortError
        It failed, with its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "problem.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(problem), encoding="utf-8")
        done = subprocess.run(
            # Isolated: this folder's modules are none of its environment's.
            [str(python), "-I", str(PYCITY_PROGRAM), str(asked), str(answer)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise EndedShortError(f"pycity_scheduling failed: {lines[-1]}")
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def tolerances(central: CentralResult, options: ClearingOptions, n: int) -> tuple[float, float]:
    """Primal [kW] and dual [currency/kWh] tolerance of thesis 4.8 at the optimum of n agents."""
    absolute = np.sqrt(n * PERIODS) * options.absolute_tolerance
    p_norm = float(np.linalg.norm(central.dispatch.p_kw))
    price_norm = np.sqrt(n) * float(np.linalg.norm(central.lmp_per_kwh[0]))
    relative = options.relative_tolerance
    return absolute + relative * p_norm, absolute + relative * price_norm


def pycity_rows(
    people: Population, k: float, central: CentralResult, settings: Settings
) -> list[dict[str, Any]]:
    """Exchange-ADMM at its own penalty and at the best of others, or why there is nothing."""
    peer = "pycity_scheduling, own penalty"
    if not settings.pycity_python.is_file():
        return [{"peer": peer, "status": NOT_INSTALLED, **NOT_MEASURED}]
    n = len(people) + 1
    primal, dual = tolerances(central, ClearingOptions(), n)
    found = run_pycity(
        settings.pycity_python,
        pycity_problem(
            people,
            # Its residuals are those of thesis 4.8. In its currency the supply costs P^2.
            eps_primal=primal,
            eps_dual=dual / k,
            rhos=[PYCITY_RHO, *settings.pycity_rhos],
            repeats=settings.repeats,
        ),
    )
    rows = {rho: pycity_row(runs, k, n, central) for rho, runs in found["runs"].items()}
    own = rows.pop(str(PYCITY_RHO))
    converged = {rho: row for rho, row in rows.items() if row["status"] == "converged"}
    listed = [{"peer": peer, **own}]
    if converged:
        best = min(converged, key=lambda rho: converged[rho]["iterations"])
        listed.append({"peer": f"pycity_scheduling, best penalty ({best})", **converged[best]})
    return listed


def pycity_row(
    runs: list[dict[str, Any]], cost: float, n: int, central: CentralResult
) -> dict[str, Any]:
    """What runs of Exchange-ADMM gave; its supply gives what the houses take."""
    last = runs[-1]
    bought_kw = np.sum(last["houses_kw"], axis=0)
    welfare = -cost * float(bought_kw @ bought_kw)
    seconds = Spread.of(run["solve_s"] for run in runs)
    return {
        "status": "converged" if last["converged"] else "iteration_limit",
        "iterations": last["iterations"],
        "seconds": seconds,
        "us_per_house_and_iteration": 1e6 * seconds.median / last["iterations"] / n,
        "gap_percent": 100 * (central.welfare - welfare) / abs(central.welfare),
        "bound_gap_percent": None,
        "set_up_s": Spread.of(run["set_up_s"] for run in runs),
    }


def central_row(solves: list[CentralResult]) -> dict[str, Any]:
    """The central solve: no iterations of anybody's to count, and the optimum itself."""
    return {
        **NOT_MEASURED,
        "status": str(solves[-1].status),
        "seconds": Spread.of(solve.seconds for solve in solves),
        "gap_percent": 0.0,
    }


def compare_on(
    table: Table,
    facts: dict[str, Any],
    case: Case,
    options: ClearingOptions,
    session: Session,
    repeats: int,
) -> CentralResult:
    """Rows of raygrid, of the OSQP loop and of the central solve on one case."""
    n = len(case.community) + (case.grid is not None)
    limited = options.network_constrained
    solves = repeat(repeats, lambda: solve_central(case, network_constrained=limited))
    central = solves[-1]
    ways: dict[str, Callable[[], tuple[ClearingResult, float]]] = {
        "raygrid, in one process": lambda: cleared_in_process(case, options, osqp=False),
        "OSQP loop": lambda: cleared_in_process(case, options, osqp=True),
    }
    for peer, way in ways.items():
        table.add({**facts, "peer": peer, **our_row(repeat(repeats, way), n, central)})
    with session.market(case, PlacementPolicy.parse("2")) as market:
        runs = [(r, market.start_s) for r in repeat(repeats, lambda: market.clear(options))]
    table.add({**facts, "peer": "raygrid, two Ray actors", **our_row(runs, n, central)})
    table.add({**facts, "peer": "central, CVXPY and Clarabel", **central_row(solves)})
    return central


class Settings(SuiteSettings):
    """What can be set.

    Attributes
    ----------
    houses : tuple of int
        Houses that all peers clear.
    community : int
        Prosumers of `community`, with tariff, elastic demand and limits, which only some can.
    pycity_python : Path
        Python of an environment with pycity_scheduling; `make peers` makes the default.
    pycity_rhos : tuple of float
        Penalties that it is tried with beside its own.
    """

    houses: tuple[PositiveInt, ...] = (10, 20)
    community: PositiveInt = 100
    repeats: PositiveInt = 3
    pycity_python: Path = Path(".peers/bin/python")
    pycity_rhos: tuple[PositiveFloat, ...] = (4.0, 8.0)


QUICK = Settings(houses=(3,), community=10, repeats=1, pycity_rhos=())

NOT_INSTALLED = (
    f"not installed: `make peers`, or give pip {' and then '.join(PYCITY)} in a virtual "
    "environment and name its Python by --set pycity_python=PATH"
)
NOT_MEASURED: dict[str, Any] = {
    "iterations": None,
    "seconds": None,
    "us_per_house_and_iteration": None,
    "gap_percent": None,
    "bound_gap_percent": None,
    "set_up_s": None,
}


def run(report: Report, settings: Settings) -> None:
    """Clear the same houses by everybody."""
    keys = ("houses", "peer")
    table = report.table(f"Houses that all can state, {PERIODS} periods", keys)
    wide = report.table("community, 24 periods, with limits", ("prosumers", "peer"))
    options = ClearingOptions(network_constrained=False, max_iterations=MAX_ITERATIONS)
    with Session(ClusterOptions()) as session:
        for n in settings.houses:
            people = houses(n)
            case, k = supplied(people)
            central = compare_on(table, {"houses": n}, case, options, session, settings.repeats)
            for row in pycity_rows(people, k, central, settings):
                table.add({"houses": n, **row})
        case, own = load("community", settings.community)
        compare_on(wide, {"prosumers": settings.community}, case, own, session, settings.repeats)
    report.targets(
        Target(
            f"{row['prosumers']} prosumers, {row['peer']}: gap [%]",
            row["gap_percent"],
            at_most=0.01,
        )
        for row in wide.rows
        if row["peer"].startswith("raygrid")
    )
