"""Figures printed in AI-TEM (Eke 2026, Tables III to VI), by case or forecaster and quantity."""

from __future__ import annotations

from enum import StrEnum

from raygrid.results.paired import Spread


class CaseName(StrEnum):
    """The compared cases; the value is their name in files and on the command line."""

    GRID_ONLY = "grid_only"
    SELF_CONSUMPTION = "self_consumption"
    RULE = "rule_p2p"
    OPTIMISATION = "optimisation_p2p"
    BLOCKCHAIN = "blockchain_p2p"
    FULL = "ai_tem"
    NO_FORECAST = "no_forecast"
    NO_RL = "no_rl"
    PLAN_ALONE = "plan_alone"
    NO_GRID = "no_grid_penalty"
    NO_CHAIN = "no_chain"
    PERFECT = "perfect_forecast"
    FORESIGHT = "perfect_foresight"


class Quantity(StrEnum):
    """What a cell says; the value is its name in files, with the unit."""

    COST = "cost_percent"
    UTILISATION = "utilisation_percent"
    IMPORT = "import_percent"
    PEAK = "peak_percent"
    CLEARING = "clearing_s"
    LATENCY = "settlement_s"
    SUCCESS = "delivered_percent"


_C, _Q = CaseName, Quantity

COMPARED = {
    _C.GRID_ONLY: "100.0 0.0|69.0 1.6|100.0 0.0|100.0 0.0",
    _C.RULE: "90.8 2.1|76.0 1.8|91.5 1.7|94.2 1.4",
    _C.OPTIMISATION: "84.2 1.8|82.1 1.5|85.3 1.3|89.0 1.2",
    _C.BLOCKCHAIN: "83.5 1.7|83.0 1.4|84.7 1.2|88.6 1.1",
    _C.FULL: "78.5 1.5|87.5 1.2|80.0 1.1|86.3 1.0",
}
"""Table IV: cost, use of PV, grid import and peak demand, means and deviations."""

SETTLED = {
    _C.RULE: "0.31 0.04|-|99.1 0.3",
    _C.OPTIMISATION: "1.06 0.09|-|99.4 0.2",
    _C.BLOCKCHAIN: "0.78 0.07|0.82 0.05|99.6 0.2",
    _C.FULL: "1.42 0.11|0.84 0.06|99.8 0.1",
}
"""Table V: clearing time, settlement latency, success of transactions."""

ABLATED = {
    _C.FULL: "78.5 1.5|87.5 1.2|1.42 0.11",
    _C.NO_FORECAST: "81.4 1.7|84.0 1.5|1.31 0.10",
    _C.NO_RL: "80.8 1.6|85.2 1.4|1.18 0.08",
    _C.NO_GRID: "79.2 1.5|86.1 1.3|1.10 0.08",
    _C.NO_CHAIN: "78.3 1.4|87.4 1.2|1.15 0.07",
}
"""Table VI: cost, use of PV, clearing time."""

FORECAST = {
    "persistence": "3.18 0.17|3.44 0.21",
    "random_forest": "2.76 0.14|3.02 0.19",
    "lstm": "2.42 0.12|2.68 0.16",
    "cnn_lstm": "2.18 0.10|2.39 0.13",
    "transformer": "2.05 0.09|2.22 0.11",
    "hybrid_shared": "1.94 0.08|2.11 0.10",
}
"""Table III: RMSE of load and PV [%]."""

QUANTITIES = {
    "IV": (_Q.COST, _Q.UTILISATION, _Q.IMPORT, _Q.PEAK),
    "V": (_Q.CLEARING, _Q.LATENCY, _Q.SUCCESS),
    "VI": (_Q.COST, _Q.UTILISATION, _Q.CLEARING),
}
"""Columns of each table of cases."""


def cells(row: str) -> tuple[Spread | None, ...]:
    """A row's cells; None where nothing is printed."""
    return tuple(
        None if cell == "-" else Spread(*(float(word) for word in cell.split()))
        for cell in row.split("|")
    )


def printed(table: str) -> dict[tuple[CaseName, Quantity], Spread]:
    """The printed cells of Table IV, V or VI."""
    rows = {"IV": COMPARED, "V": SETTLED, "VI": ABLATED}[table]
    return {
        (case, quantity): cell
        for case, row in rows.items()
        for quantity, cell in zip(QUANTITIES[table], cells(row), strict=True)
        if cell is not None
    }
