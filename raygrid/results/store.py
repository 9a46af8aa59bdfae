"""The folder of a run: its tables with their exact columns, its summary and its scenario."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raygrid.errors import InputError
from raygrid.results.files import PTDF, SCENARIO, SUMMARY, json_text, write_atomically
from raygrid.results.folder import FolderWriter
from raygrid.results.summary import Summary
from raygrid.schemas import SORT_KEYS, conform

MERGE_ROWS = 500_000
"""Parts of fewer rows in all become one file; they are sorted here, in some 150 MB."""

PTDF_CELLS = 1_000_000
"""A PTDF with more cells is not stored; the network table gives it back."""


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run when its folder is made.

    Attributes
    ----------
    command : str
        The command line that made it.
    period_hours : float
        Length of a period [h].
    slack_bus : int
        Number of the slack bus, as tables show it.
    network_constrained : bool
        Whether line (and voltage) limits were enforced.
    currency : str
        Name of the money unit.
    seeds : mapping of str to int
        Every seed that was drawn from.
    cluster : mapping
        Resources of the Ray cluster (nodes, CPUs, memory); empty without Ray.
    notes : tuple of str
        What a reader of the results must know ('reconstructed data', ...).
    """

    command: str
    period_hours: float
    slack_bus: int
    network_constrained: bool
    currency: str
    seeds: Mapping[str, int] = field(default_factory=dict)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartRecord:
    """A part of a table, as the actor that wrote it reports it."""

    file: str
    sha256: str
    rows: int


class RunWriter(FolderWriter):
    """Writes one run into its own new folder ``<out>/<scenario>/<run_id>/``.

    Parameters
    ----------
    out : Path
        Folder of all results; made if it does not exist.
    scenario : str
        The scenario's name, a plain file name.
    info : RunInfo
        What the manifest says from the start.

    Raises
    ------
    InputError
        If the folder cannot be written or the name is not a plain file name.
    """

    def __init__(self, out: Path, scenario: str, info: RunInfo) -> None:
        facts = {"scenario": scenario, **asdict(info), "welfare_bound": None}
        super().__init__(out, scenario, facts)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write one table (`name` is its file without `.parquet`) with the schema it must have."""
        table = conform(name, table)
        self.write_file(
            f"{name}.parquet",
            lambda stream: pq.write_table(table, stream, compression="zstd"),
            table.nbytes,
        )

    def write_pieces(self, name: str, tables: Iterable[pa.Table]) -> None:
        """Write a table from pieces in its order: one file if there is one piece, else parts."""
        rest = iter(tables)
        first, second = next(rest), next(rest, None)
        if second is None:
            self.write_table(name, first)
            return
        folder = self.part_folder(name)
        self.add_parts(
            name,
            [
                write_part(folder, name, index, piece)
                for index, piece in enumerate(chain((first, second), rest))
            ],
        )

    def replace_table(self, name: str, table: pa.Table) -> None:
        """Write a table, in place of an earlier version if there is one; as `write_table`."""
        self._files.pop(f"{name}.parquet", None)
        self.write_table(name, table)

    def part_folder(self, name: str) -> Path:
        """Folder into which actors write their parts of a table with `write_part`."""
        self._new(f"{name}.parquet")
        folder = self.path / f"{name}.parquet"
        folder.mkdir(exist_ok=True)
        return folder

    def add_parts(self, name: str, records: Iterable[PartRecord]) -> None:
        """Take the parts of a table over; few rows become one sorted file; as `join_parts`."""
        left_over = self.join_parts(name, records)
        if left_over is not None:
            shutil.rmtree(left_over)

    def join_parts(self, name: str, records: Iterable[PartRecord]) -> Path | None:
        """Take the parts of a table over; few rows become one sorted file, which leaves parts over.

        Parameters
        ----------
        name : str
            The table's name.
        records : iterable of PartRecord
            What `write_part` returned for each part.

        Returns
        -------
        Path or None
            Folder that the parts were put `aside` to, where they became one file.

        Raises
        ------
        InputError
            If a part cannot be seen from here: the results folder is not shared storage.
        """
        folder = self.path / f"{name}.parquet"
        parts = sorted(records, key=lambda record: record.file)
        for part in parts:
            if not (folder / part.file).is_file():
                raise InputError(
                    f"{folder / part.file} was written on another machine and is not seen here",
                    "results folder",
                    "use an --out folder that every node of the cluster shares",
                )
        if sum(part.rows for part in parts) > MERGE_ROWS:
            self._files |= {f"{folder.name}/{part.file}": part.sha256 for part in parts}
            return None
        tables = [pq.read_table(folder / part.file) for part in parts]
        left_over = folder.rename(aside(folder))
        keys = [(key, "ascending") for key in SORT_KEYS[name]]
        # An interruption between the two leaves the parts, under the name of `aside`.
        self.write_table(name, pa.concat_tables(tables).sort_by(keys))
        return left_over

    def write_ptdf(self, ptdf: Any, bus_id: Any, line_id: Any) -> None:
        """Write ptdf.npz with `ptdf` (L, B), `line` (L,) and `bus` (B,), where it is small."""
        if len(line_id) * len(bus_id) > PTDF_CELLS:
            return
        import numpy as np

        self.write_file(
            PTDF, lambda stream: np.savez_compressed(stream, ptdf=ptdf, line=line_id, bus=bus_id)
        )

    def write_scenario(self, resolved_yaml: str) -> None:
        """Write scenario.resolved.yaml."""
        self.write_text(SCENARIO, resolved_yaml)

    def write_summary(self, summary: Summary) -> None:
        """Write summary.json."""
        self.write_text(SUMMARY, json_text(asdict(summary)))


def aside(folder: Path) -> Path:
    """Where the parts of a table are put while one file takes their place."""
    return folder.with_name(f".{folder.name}.parts")


def write_part(folder: Path, name: str, index: int, table: pa.Table) -> PartRecord:
    """Write one part of a table; called by the actor that owns its rows.

    Writing the same part again (after a restart) replaces it.

    Parameters
    ----------
    folder : Path
        `RunWriter.part_folder(name)`, on storage that the driver sees as well.
    name : str
        The table's name.
    index : int
        The writer's number; unique per table.
    table : pyarrow.Table
        Its rows.
    """
    file = f"part-{index:05d}.parquet"
    table = conform(name, table)
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_atomically(
        folder / file,
        lambda stream: pq.write_table(table, stream, compression="zstd"),
        table.nbytes,
    )
    return PartRecord(file, digest, table.num_rows)
