"""The tables that a host writes of its prosumers, in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actors.parts import PartWriter
from raygrid.arrays import IntArray
from raygrid.prosumer.population import GridConnection, Prosumers

if TYPE_CHECKING:
    from raygrid.market.block import ProsumerBlock
    from raygrid.market.messages import FinalMessage
    from raygrid.results.store import PartRecord


@dataclass(frozen=True)
class TablePlace:
    """Where a day's rows stand in the tables of a run.

    Attributes
    ----------
    bus_id : (B,) int64
        Bus numbers as tables show them.
    slack : int
        Position of the bus of the grid connection.
    day : int
        Which of the days in a row, from 0.
    n_periods : int
        Periods T of a day.
    with_stores : bool
        As for `raygrid.results.frames.schedule_table`.
    """

    bus_id: IntArray
    slack: int
    day: int
    n_periods: int
    with_stores: bool

    @property
    def first_period(self) -> int:
        """Global index of the day's first period."""
        return self.day * self.n_periods

    @property
    def slack_bus(self) -> int:
        """Number of the bus of the grid connection."""
        return int(self.bus_id[self.slack])


def write_schedule(
    block: ProsumerBlock, message: FinalMessage, folder: Path, place: TablePlace
) -> list[PartRecord]:
    """Write a host's rows of `schedule.parquet` as parts.

    Parameters
    ----------
    block : ProsumerBlock
        With the last round solved.
    message : FinalMessage
        How the operator moved the host's buses.
    folder : Path
        The table's folder, on storage that the driver sees as well.
    place : TablePlace
        Which day's rows they are.

    Returns
    -------
    list of PartRecord
        What was written; writing again replaces it.
    """
    from raygrid.results.frames import grid_schedule_table, schedule_table

    bus_id, first, with_stores = place.bus_id, place.first_period, place.with_stores
    writer = PartWriter(folder, "schedule", block.host)
    grid_kw = block.final_grid_kw(message)
    if grid_kw is not None:
        writer.add(grid_schedule_table(grid_kw, place.slack_bus, first, with_stores))
    for start, stop, dispatch in block.final_chunks(message):
        rows = block.population.rows(start, stop)
        writer.add(schedule_table(rows, bus_id, dispatch, first, with_stores))
    return writer.flush()


def write_population(
    host: int,
    prosumers: Prosumers,
    grid: GridConnection | None,
    folders: Mapping[str, Path],
    place: TablePlace,
) -> dict[str, list[PartRecord]]:
    """Write a host's rows of the tables that describe prosumers, as parts.

    Parameters
    ----------
    host : int
        Its number.
    prosumers : Prosumers
        Its prosumers.
    grid : GridConnection or None
        The grid connection, where this host carries it.
    folders : mapping of str to Path
        Folders of those of `prosumers`, `profiles` and `stores` that are wanted, on storage that
        the driver sees as well.
    place : TablePlace
        Which day's rows they are.

    Returns
    -------
    dict of str to list of PartRecord
        What was written of each; writing again replaces it.
    """
    from raygrid.scenario.store_tables import store_rows
    from raygrid.scenario.tables import grid_row, profile_rows, unit_rows

    parts = {name: PartWriter(path, name, host) for name, path in folders.items()}
    if grid is not None and "prosumers" in parts:
        parts["prosumers"].add(grid_row(grid, place.slack_bus))
    for rows in prosumers.blocks():
        if "prosumers" in parts:
            parts["prosumers"].add(unit_rows(rows, place.bus_id))
        if "profiles" in parts:
            parts["profiles"].add(profile_rows(rows, place.first_period))
        if "stores" in parts and len(rows.stores):
            parts["stores"].add(store_rows(rows, place.day))
    return {name: writer.flush() for name, writer in parts.items()}
