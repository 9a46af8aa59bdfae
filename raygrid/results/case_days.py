"""What each case came to on each day, and what the tables take from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from raygrid.arrays import FloatArray
from raygrid.results.ai_tem_printed import CaseName, Quantity


@dataclass(frozen=True)
class CaseDay:
    """One day of one case; sums over the community.

    Attributes
    ----------
    case : str
        A `CaseName`.
    day : int
        Day of the scenario's history.
    cost : float
        What all prosumers pay: grid at tariff, fees to the network account, wear [currency].
    wear, fees : float
        Of that, wear of the stores and fees [currency].
    load_kwh : float
        Energy that loads, EVs and shiftable loads took [kWh].
    pv_kwh, curtailed_kwh : float
        PV available, and of that curtailed [kWh].
    import_kwh, export_kwh : float
        What is bought from and sold to the grid at tariff, prosumer by prosumer [kWh]; what one
        feeds in while another draws counts unless they traded it.
    peak_kw : float
        Greatest net power that the community draws from the grid [kW].
    cleared_kwh, delivered_kwh : float
        Trades between peers as cleared, and as meters bore them out [kWh].
    unmet_kwh : float
        What stores lacked for their needs [kWh].
    stored_kwh : float
        Energy in batteries at the day's end [kWh].
    clearing_s : float
        Wall time of a period: forecast read, actions, auction, re-dispatch, and the day-ahead
        clearing's share [s].
    settlement_s : float or None
        Wall time in which the trades of a period are settled on the chain [s]; None without one.
    trades : int
        Trades between peers.
    submitted, settled : int
        Trades with peers and grid that went to the chain, and those that it settled.
    lowest_voltage_pu, highest_voltage_pu, highest_loading : float
        Of the AC load flow; loading 1 is the line's limit.
    voltage_violations, current_violations : int
        Pairs of bus or line and period beyond their limits in the AC load flow.
    note : str
        What went short on this day; empty otherwise.
    """

    case: str
    day: int
    cost: float
    wear: float
    fees: float
    load_kwh: float
    pv_kwh: float
    curtailed_kwh: float
    import_kwh: float
    export_kwh: float
    peak_kw: float
    cleared_kwh: float = 0.0
    delivered_kwh: float = 0.0
    unmet_kwh: float = 0.0
    stored_kwh: float = 0.0
    clearing_s: float = 0.0
    settlement_s: float | None = None
    trades: int = 0
    submitted: int = 0
    settled: int = 0
    lowest_voltage_pu: float = float("nan")
    highest_voltage_pu: float = float("nan")
    highest_loading: float = float("nan")
    voltage_violations: int = 0
    current_violations: int = 0
    note: str = ""

    def facts(self) -> dict[str, Any]:
        """As it is kept in JSON."""
        return asdict(self)


def case_days_table(days: Iterable[CaseDay]) -> pa.Table:
    """All days of all cases as columns."""
    return pa.Table.from_pylist([day.facts() for day in days], schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        (f.name, {"str": pa.string(), "int": pa.int64()}.get(str(f.type), pa.float64()))
        for f in fields(CaseDay)
    ]
)


def by_case(days: Iterable[CaseDay]) -> dict[CaseName, list[CaseDay]]:
    """Days of each case in order, cases in the order of `CaseName`."""
    found: dict[CaseName, list[CaseDay]] = {}
    rows = list(days)
    for case in CaseName:
        mine = sorted((row for row in rows if row.case == case), key=lambda row: row.day)
        if mine:
            found[case] = mine
    return found


def column(rows: Sequence[CaseDay], name: str) -> FloatArray:
    """One figure of all days (D,); nan where there is none."""
    values = [getattr(row, name) for row in rows]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def utilisation(rows: Sequence[CaseDay]) -> FloatArray:
    """(D,) PV used locally over PV available; 1 where there is none."""
    pv = column(rows, "pv_kwh")
    used = pv - column(rows, "curtailed_kwh") - column(rows, "export_kwh")
    return np.divide(used, pv, out=np.ones_like(used), where=pv > 0)


def quantities(
    cases: Mapping[CaseName, Sequence[CaseDay]],
) -> dict[tuple[CaseName, Quantity], FloatArray]:
    """Every quantity of the tables by case, one value a day (D,).

    Cost, import and peak are in percent of the same day of grid-only; without that case they are
    left out.
    """
    found: dict[tuple[CaseName, Quantity], FloatArray] = {}
    reference = cases.get(CaseName.GRID_ONLY)
    shares = (
        (Quantity.COST, "cost"), (Quantity.IMPORT, "import_kwh"), (Quantity.PEAK, "peak_kw"),
    )  # fmt: skip
    for case, rows in cases.items():
        for quantity, name in shares if reference is not None else ():
            assert reference is not None  # else nothing is looped over
            found[case, quantity] = 100 * column(rows, name) / column(reference, name)
        found[case, Quantity.UTILISATION] = 100 * utilisation(rows)
        if case is CaseName.FORESIGHT:
            continue
        found[case, Quantity.CLEARING] = column(rows, "clearing_s")
        settlement = column(rows, "settlement_s")
        if not np.isnan(settlement).any():
            found[case, Quantity.LATENCY] = settlement
        cleared = column(rows, "cleared_kwh")
        if (cleared > 0).all():
            found[case, Quantity.SUCCESS] = 100 * column(rows, "delivered_kwh") / cleared
    return found


def saving_share(
    cases: Mapping[CaseName, Sequence[CaseDay]], bound: float | None
) -> dict[CaseName, float]:
    """Which part of the possible saving each case takes, over all days together.

    Possible is what grid-only costs beyond the bound.

    Parameters
    ----------
    cases : mapping
        Days of each case.
    bound : float or None
        What no case can cost less than, over all these days [currency].
    """
    reference = cases.get(CaseName.GRID_ONLY)
    if reference is None or bound is None:
        return {}
    most = column(reference, "cost").sum()
    return {
        case: float((most - column(rows, "cost").sum()) / (most - bound))
        for case, rows in cases.items()
    }
