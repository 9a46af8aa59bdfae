"""Make the network tables of community, ieee118 and village from pandapower and SimBench.

    pip install 'raygrid[data]'
    python scenarios/data/make_networks.py

Shipped tables spare a run the import of pandapower. A test holds them against
`network_from_pandapower`. The village is data of the SimBench database (ODbL, see README.md).
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.grid.pandapower_files import builtin_net
from raygrid.scenario.build import pandapower_network

SCENARIOS = Path(__file__).resolve().parent.parent
VILLAGE = "1-LV-rural3--2-no_sw"


def simbench_net() -> Any:
    """The village's net from the simbench package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        return simbench.get_simbench_net(VILLAGE)


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, numbers in the shortest form that reads back the same."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def number(value: float) -> str:
    """Shortest form; empty for no limit."""
    if np.isinf(value):
        return ""
    return repr(int(value)) if value == int(value) else repr(float(value))


def write_network(folder: Path, net: Any, name: str) -> None:
    """Write network.csv and buses.csv of a pandapower net."""
    network, weight = pandapower_network(net, name)
    write(
        folder / "network.csv",
        (
            {
                "line": network.line_id[k],
                "from_bus": network.bus_id[network.from_bus[k]],
                "to_bus": network.bus_id[network.to_bus[k]],
                "r_pu": number(network.r_pu[k]),
                "x_pu": number(network.x_pu[k]),
                "limit_kw": number(network.limit_kw[k]),
                "flow_offset_kw": number(network.flow_offset_kw[k]),
            }
            for k in range(network.n_lines)
        ),
    )
    write(
        folder / "buses.csv",
        (
            {
                "bus": network.bus_id[b],
                "x": number(network.bus_xy[b, 0]),
                "y": number(network.bus_xy[b, 1]),
                "weight": number(round(float(weight[b]), 9)),
            }
            for b in range(network.n_buses)
        ),
    )
    print(
        f"{name}: {network.n_buses} buses, {network.n_lines} lines, slack bus "
        f"{network.bus_id[network.slack]}, base {network.base_kva:g} kVA, load {weight.sum():g} kW"
    )


def write_village_units(folder: Path, net: Any) -> None:
    """Write units.csv: the loads, PV and batteries of the village, one prosumer a bus."""
    rows: list[dict[str, object]] = []

    def add(bus: int, kind: str, shape: str, power_kw: float, more: tuple[float, float]) -> None:
        rows.append(
            {
                "unit": len(rows) + 1,
                "prosumer_id": 0,
                "bus": bus,
                "kind": kind,
                "shape": shape,
                "power_kw": number(round(power_kw, 6)),
                "capacity_kwh": number(round(more[0], 6)),
                "efficiency": number(more[1]),
            }
        )

    for load in net.load.itertuples():
        kind = "household" if load.profile.startswith("H0") else "load"
        add(load.bus, kind, load.profile, 1e3 * load.p_mw, (0, 0))
    for pv in net.sgen.itertuples():
        add(pv.bus, "pv", pv.profile, 1e3 * pv.p_mw, (0, 0))
    for battery in net.storage.to_dict("records"):
        size = 1e3 * battery["max_e_mwh"], battery["efficiency_percent"]
        add(battery["bus"], "battery", "", 1e3 * battery["sn_mva"], size)
    buses = sorted({int(str(row["bus"])) for row in rows})
    for row in rows:
        row["prosumer_id"] = buses.index(int(str(row["bus"]))) + 1
    write(folder / "units.csv", rows)


def main() -> None:
    """Write all tables."""
    write_network(SCENARIOS / "community", builtin_net("case33bw"), "community")
    write_network(SCENARIOS / "ieee118", builtin_net("case118"), "ieee118")
    village = simbench_net()
    write_network(SCENARIOS / "village", village, "village")
    write_village_units(SCENARIOS / "village", village)


if __name__ == "__main__":
    main()
