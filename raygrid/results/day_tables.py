"""Tables that every day of a run adds rows to: in the run's folder day by day, whole at its end."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raygrid.results.files import copy_file
from raygrid.results.store import PartRecord, RunWriter, aside, write_part


class DayTables:
    """Takes the rows of each day as parts, and joins the parts of tables that are small.

    A run of one day writes each table at once. Of several days, nothing is kept here: what a day
    has written is in the folder, also where a later day ends the run.

    Parameters
    ----------
    writer : RunWriter
        The run's.
    n_days : int
        Number of days in a row.
    """

    def __init__(self, writer: RunWriter, n_days: int) -> None:
        self._writer = writer
        self._several = n_days > 1
        self._records: dict[str, dict[int, list[PartRecord]]] = {}
        self._left_over: list[Path] = []

    def folder(self, name: str, day: int) -> Path:
        """Folder into which the parts of a day's rows are written with `write_part`."""
        folder = self._writer.part_folder(name)
        return folder / _day_folder(day) if self._several else folder

    def add(self, name: str, day: int, records: Iterable[PartRecord]) -> None:
        """Take over the parts of a day that lie in its `folder`."""
        if not self._several:
            self._writer.add_parts(name, records)
            return
        known = self._records.setdefault(name, {}).setdefault(day, [])
        known += [replace(part, file=f"{_day_folder(day)}/{part.file}") for part in records]

    def parts_of(self, day: int) -> dict[str, list[PartRecord]]:
        """The parts of a day by table, of a run of several days."""
        return {name: days[day] for name, days in self._records.items() if day in days}

    def take_over(self, earlier: Path, day: int, parts: Mapping[str, Sequence[PartRecord]]) -> None:
        """Copy what an earlier run wrote of a day.

        Parameters
        ----------
        earlier : Path
            Its folder.
        day : int
            The day.
        parts : mapping of str to sequence of PartRecord
            From its `parts_of`.

        Raises
        ------
        InputError
            A part is missing or is not the one that the earlier run wrote.
        """
        for name, records in parts.items():
            self.folder(name, day).mkdir(exist_ok=True)
            there = earlier / f"{name}.parquet"
            there = there if there.is_dir() else aside(there)
            for part in records:
                to = self._writer.path / f"{name}.parquet" / part.file
                copy_file(there / part.file, to, part.sha256)
            self._records.setdefault(name, {})[day] = list(records)

    def write(self, name: str, day: int, table: pa.Table) -> None:
        """Write the rows of a day."""
        self.write_pieces(name, day, [table])

    def write_pieces(self, name: str, day: int, tables: Iterable[pa.Table]) -> None:
        """Write the rows of a day from pieces in their order."""
        if not self._several:
            self._writer.write_pieces(name, tables)
            return
        folder = self.folder(name, day)
        self.add(name, day, [write_part(folder, name, k, piece) for k, piece in enumerate(tables)])

    def has(self, name: str) -> bool:
        """Whether a day has written rows of a table."""
        return (self._writer.path / f"{name}.parquet").exists()

    def read(
        self, name: str, day: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows so far, of one day or of all."""
        path = self._writer.path / f"{name}.parquet"
        if path.is_file():
            return pq.read_table(path, columns=columns)
        within = path if day is None or not self._several else path / _day_folder(day)
        parts = sorted(within.rglob("part-*.parquet"))
        return pa.concat_tables([pq.read_table(part, columns=columns) for part in parts])

    def replace(self, name: str, table: pa.Table) -> None:
        """Write a table in place of what all days have written of it."""
        if self._records.pop(name, None) is not None:
            folder = self._writer.path / f"{name}.parquet"
            self._left_over.append(folder.rename(aside(folder)))
        self._writer.replace_table(name, table)

    def close(self) -> None:
        """Join the parts of small tables, and let the manifest know all of them.

        The parts stay, for a run that goes on with this one if it comes to no end, until `discard`.
        """
        for name in list(self._records):
            parts = chain.from_iterable(self._records.pop(name).values())
            left_over = self._writer.join_parts(name, parts)
            self._left_over += [] if left_over is None else [left_over]

    def discard(self) -> None:
        """Remove the parts that one file has taken the place of: the run is finished."""
        for folder in self._left_over:
            shutil.rmtree(folder)
        self._left_over = []


def _day_folder(day: int) -> str:
    return f"day-{day:05d}"
