"""Moving batteries in a large radial network: only below the lines that are at fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.grid.tree_rows import LimitRows, Tree, TreeRows
from raygrid.market.battery_schedule import Batteries, BatterySchedule, battery_schedule
from raygrid.market.final_schedule import StagedSchedule, staged_schedule
from raygrid.market.projection import RowFault
from raygrid.market.tree_final import Rooms

MAX_CELLS = 50_000
"""Buses times periods up to which one problem moves all batteries of a network."""


def divides(rows: LimitRows) -> bool:
    """Whether batteries are moved region by region: below each line at fault, the rest at once."""
    return isinstance(rows, TreeRows) and rows.n_buses * rows.lower.shape[1] > MAX_CELLS


def lines_at_fault(rows: TreeRows, faults: Sequence[RowFault]) -> IntArray:
    """Buses below the uppermost of the lines that faults name, one for each region."""
    named = {row for fault in faults for row in fault.rows}
    above: list[int] = rows.row_above.tolist()

    def uppermost(row: int) -> bool:
        up = above[row]
        while up >= 0 and up not in named:
            up = above[up]
        return up < 0

    return rows.below[[row for row in sorted(named) if uppermost(row)]]


def buses_at_fault(rows: LimitRows, faults: Sequence[RowFault]) -> IntArray | None:
    """Buses whose batteries may move; None for all of them."""
    if not isinstance(rows, TreeRows) or not divides(rows):
        return None
    tops = lines_at_fault(rows, faults)
    return np.concatenate([np.zeros(0, np.int64), *(rows.tree.below(int(b)) for b in tops)])


def regional_battery_schedule(
    rooms: Rooms,
    bus_weight: FloatArray,
    rows: TreeRows,
    row_price: FloatArray,
    faults: Sequence[RowFault],
    batteries: Batteries,
    period_hours: float,
) -> tuple[BatterySchedule, StagedSchedule]:
    """Move batteries below the lines at fault, and make the final schedule anew.

    For each of these lines one `battery_schedule` of what lies below it, in which the rest of the
    network is one bus without lines; whether that can do what is asked of it is seen in the end.

    Parameters
    ----------
    rooms : Rooms
        Injections with the batteries' present schedules, and rooms of the other devices.
    bus_weight, rows, row_price
        As in `staged_schedule`.
    faults : sequence of RowFault
        Of the final schedule with the batteries where they are.
    batteries : Batteries
        The batteries that may move.
    period_hours : float
        Length of a period [h].

    Returns
    -------
    moved : BatterySchedule
        New schedules of the batteries below the lines at fault.
    staged : StagedSchedule
        The final schedule with them.
    """
    arrays = rooms.p_kw, rooms.up_kw, rooms.down_kw, bus_weight
    change = np.zeros_like(rooms.p_kw)
    moved = [batteries.take(np.zeros(0, dtype=np.int64))]
    soc = [np.zeros((0, change.shape[1]))]
    for top in lines_at_fault(rows, faults).tolist():
        region = rows.tree.below(top)
        own = batteries.take(np.isin(batteries.bus, region))
        if not len(own) or (len(region) + 1) * change.shape[1] > MAX_CELLS:
            continue
        place = np.zeros(rows.n_buses, dtype=np.int64)
        place[region] = np.arange(1, len(region) + 1)
        rest = [[array.sum(axis=0) - array[region].sum(axis=0)] for array in arrays]
        p, up, down, weight = (
            np.concatenate([other, array[region]])
            for other, array in zip(rest, arrays, strict=True)
        )
        # Rounding of large sums must leave no room negative.
        up, down, weight = (np.maximum(array, 0.0) for array in (up, down, weight))
        result = battery_schedule(
            p, up, down, weight, _region_rows(rows, top),
            replace(own, bus=place[own.bus]), period_hours,
        )  # fmt: skip
        moved.append(replace(result.batteries, bus=own.bus))
        soc.append(result.soc_kwh)
        change[region] = result.battery_delta_kw[1:]
    staged = staged_schedule(replace(rooms, p_kw=rooms.p_kw + change), bus_weight, rows, row_price)
    joined = Batteries(
        **{f.name: np.concatenate([getattr(b, f.name) for b in moved]) for f in fields(Batteries)}
    )
    return BatterySchedule(staged.final, joined, np.concatenate(soc), change), staged


def _region_rows(rows: TreeRows, top: int) -> TreeRows:
    """Rows of the subtree of a bus, hung below one bus that stands for the rest."""
    tree = rows.tree
    start = int(tree.place[top])
    stop = int(tree.end[start])
    count = stop - start
    parent = np.concatenate([[-1], tree.parent_place[start:stop] - start + 1])
    parent[1] = 0
    end = np.concatenate([[count + 1], tree.end[start:stop] - start + 1])
    place = tree.place[rows.below]
    own = np.flatnonzero((place >= start) & (place < stop))
    region = Tree(parent, np.arange(count + 1), end)
    return TreeRows(
        region, place[own] - start + 1, rows.sign[own], rows.lower[own], rows.upper[own],
        rows.kind[own], rows.index[own],
    )  # fmt: skip
