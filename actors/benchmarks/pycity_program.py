"""Houses scheduled by Exchange-ADMM of pycity_scheduling; runs in that package's environment.

`python -I pycity_program.py PROBLEM.json RESULT.json`. Imports nothing of raygrid, which is not
installed there.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any


def district(problem: dict[str, Any]) -> Any:
    """A fresh district: one building a house, with fixed load, PV that may be curtailed, battery.

    Its objective 'peak-shaving' is the sum of its squared power, which is the cost of a supply
    with a linear marginal cost. Buildings have none of their own.
    """
    import numpy as np
    import pycity_scheduling.classes as city
    from pycity_scheduling.util import factory

    environment = factory.generate_standard_environment(
        step_size=problem["step_s"],
        op_horizon=problem["periods"],
        mpc_horizon=None,
        mpc_step_width=None,
        # Load curves are cut at the position of this day in its year.
        initial_date=(2018, 1, 1),
        initial_time=(0, 0, 0),
    )
    whole = city.CityDistrict(environment=environment, objective="peak-shaving")
    for k, house in enumerate(problem["houses"]):
        building = city.Building(environment=environment, objective="none")
        whole.addEntity(entity=building, position=[k, 0])
        apartment = city.Apartment(environment=environment)
        building.addEntity(apartment)
        load = np.array(house["load_kw"])
        apartment.addEntity(city.FixedLoad(environment=environment, method=0, demand=load))
        system = city.BuildingEnergySystem(environment=environment)
        building.addEntity(system)
        if house["pv_kw"] is not None:
            pv = city.Photovoltaic(
                environment=environment, method=1, peak_power=1.0, force_renewables=False
            )
            pv.p_el_supply = np.array(house["pv_kw"])
            system.addDevice(pv)
        if house["battery"] is not None:
            system.addDevice(city.Battery(environment=environment, **house["battery"]))
    return whole


def schedule(problem: dict[str, Any], rho: float) -> dict[str, Any]:
    """Set up and solve once."""
    from pycity_scheduling.algorithms import ExchangeADMM

    started = time.perf_counter()
    whole = district(problem)
    algorithm = ExchangeADMM(
        city_district=whole,
        rho=rho,
        eps_primal=problem["eps_primal"],
        eps_dual=problem["eps_dual"],
        max_iterations=problem["max_iterations"],
    )
    set_up = time.perf_counter()
    results = algorithm.solve()
    solved = time.perf_counter()
    houses = [list(b.p_el_schedule) for b in whole.get_lower_entities()]
    return {
        "iterations": len(results["iterations"]),
        "converged": len(results["iterations"]) < problem["max_iterations"],
        "objective": float(results["obj_value"][-1]),
        "set_up_s": set_up - started,
        "solve_s": solved - set_up,
        "houses_kw": [[float(p) for p in house] for house in houses],
    }


def main() -> None:
    """Solve a problem for every rho and repetition that it asks for."""
    with open(sys.argv[1], encoding="utf-8") as file:
        problem = json.load(file)
    runs = {
        str(rho): [schedule(problem, rho) for _ in range(problem["repeats"])]
        for rho in problem["rhos"]
    }
    packages = ("pycity_scheduling", "pyomo", "gurobipy", "numpy")
    found = {"versions": {name: version(name) for name in packages}, "runs": runs}
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
