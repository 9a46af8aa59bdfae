"""Fits as a JSON file, and a fit as the tables of a scenario."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS
from scripts.thesis_fit.community import SCALARS, Placement, build_population
from scripts.thesis_fit.printed import Setup, network_of

FITS = Path(__file__).with_name("fits.json")
SCENARIOS = Path(__file__).parents[2] / "scenarios"
DIGITS = 6


def fit_record(scalars: FloatArray, placement: Placement, seed: int, cost: float) -> dict[str, Any]:
    """A fit as plain values; scalars are rounded to what the tables can carry."""
    return {
        "seed": seed,
        "cost": float(f"{cost:.3g}"),
        "scalars": {
            scalar.name: float(f"{value:.{DIGITS}g}")
            for scalar, value in zip(SCALARS, scalars, strict=True)
        },
        "seller_bus": [int(b) for b in placement.seller_bus],
        "buyer_bus": [int(b) for b in placement.buyer_bus],
        "cost_rank": [int(r) for r in placement.cost_rank],
    }


def parse_fit(record: dict[str, Any]) -> tuple[FloatArray, Placement]:
    """Scalars and placement of a record."""
    scalars = np.array([record["scalars"][scalar.name] for scalar in SCALARS])
    buses = (np.array(record[name]) for name in ("seller_bus", "buyer_bus", "cost_rank"))
    return scalars, Placement(*buses)


def load_fits(name: str) -> list[dict[str, Any]]:
    """Fits of a scenario, the committed one first."""
    fits: dict[str, list[dict[str, Any]]] = json.loads(FITS.read_text())
    return fits.get(name, [])


def save_fits(name: str, records: list[dict[str, Any]]) -> None:
    """Replace the fits of a scenario."""
    fits = json.loads(FITS.read_text()) if FITS.exists() else {}
    fits[name] = records
    FITS.write_text(json.dumps(fits, indent=1) + "\n")


def write_tables(setup: Setup, record: dict[str, Any]) -> None:
    """Write network.csv, prosumers.csv and profiles.csv of a fit."""
    folder = SCENARIOS / setup.name
    folder.mkdir(parents=True, exist_ok=True)
    population = build_population(setup, *parse_fit(record))
    network = network_of(setup)

    def number(value: float) -> str:
        return f"{value:.{DIGITS}g}"

    lines = zip(
        network.line_id,
        network.from_bus + 1,
        network.to_bus + 1,
        map(number, network.r_pu),
        map(number, network.x_pu),
        map(number, network.limit_kw),
        map(number, network.flow_offset_kw),
        strict=True,
    )
    header = ["line", "from_bus", "to_bus", "r_pu", "x_pu", "limit_kw", "flow_offset_kw"]
    _write(folder / "network.csv", header, lines)

    names = [name for name in UNIT_FIELDS if name not in ("prosumer_id", "bus", "size_weight")]
    stores = population.has_battery
    units = []
    for k, prosumer_id in enumerate(population.prosumer_id):
        values = [getattr(population, name)[k] for name in names]
        # What an agent lacks is 0 in tables, its efficiencies too.
        shown = [
            0.0 if name.startswith("eta_") and not stores[k] else value
            for name, value in zip(names, values, strict=True)
        ]
        units.append([prosumer_id, population.bus[k] + 1, "prosumer", *map(number, shown)])
    _write(folder / "prosumers.csv", ["prosumer_id", "bus", "role", *names], units)

    profiles = [
        [prosumer_id, t, *(number(getattr(population, name)[k, t]) for name in PROFILE_FIELDS)]
        for k, prosumer_id in enumerate(population.prosumer_id)
        for t in range(population.n_periods)
    ]
    _write(folder / "profiles.csv", ["prosumer_id", "period", *PROFILE_FIELDS], profiles)


def _write(path: Path, header: list[str], rows: Any) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
