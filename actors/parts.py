"""Tables of a run that hosts write themselves, in parts of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.results.store import PartRecord

PART_ROWS = 500_000
"""Rows after which a host begins its next part: some 45 MB in memory."""
MAX_PARTS_PER_HOST = 1000
"""Room in the numbering of parts: a host's parts start at its number times this."""


class PartWriter:
    """One host's parts of one table; writing them again replaces them.

    Parameters
    ----------
    folder : Path
        The table's folder, on storage that the driver sees as well.
    name : str
        The table's name.
    host : int
        Number of the host.

    Attributes
    ----------
    records : list of PartRecord
        What was written.
    """

    def __init__(self, folder: Path, name: str, host: int) -> None:
        self._folder, self._name, self._host = folder, name, host
        self._waiting: list[pa.Table] = []
        self.records: list[PartRecord] = []

    def add(self, rows: pa.Table) -> None:
        """Write rows as soon as there are enough for a part."""
        self._waiting.append(rows)
        if sum(table.num_rows for table in self._waiting) >= PART_ROWS:
            self.flush()

    def flush(self) -> list[PartRecord]:
        """Write what waits; all that was written."""
        import pyarrow as pa

        from raygrid.results.store import write_part

        if self._waiting:
            index = self._host * MAX_PARTS_PER_HOST + len(self.records)
            rows = pa.concat_tables(self._waiting)
            self._waiting = []
            self.records.append(write_part(self._folder, self._name, index, rows))
        return self.records
