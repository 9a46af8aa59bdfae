"""The energy that a day leaves in batteries and stores, as a file of all prosumers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raygrid.errors import InputError
from raygrid.prosumer.carried import Charge
from raygrid.results.files import write_atomically

_SCHEMA = pa.schema(
    [("position", pa.int64()), ("is_store", pa.bool_()), ("energy_kwh", pa.float64())]
)
"""Positions count the prosumers by bus and id; each has one row without `is_store`."""


def write_charge(path: Path, parts: Iterable[Charge]) -> str:
    """Write what a day leaves, atomically; the file's SHA-256.

    Parameters
    ----------
    path : Path
        The file.
    parts : iterable of Charge
        Of all prosumers in the order of bus and id; one part at a time is held here.

    Raises
    ------
    FullDiskError
        There is no room.
    """
    # How large it gets is known only at its end.
    return write_atomically(path, lambda stream: _write(stream, parts))


def _write(stream: IO[bytes], parts: Iterable[Charge]) -> None:
    first = 0
    with pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
        for part in parts:
            n = len(part.soc_kwh)
            position = np.concatenate([np.arange(n), part.owner]) + first
            is_store = np.arange(len(position)) >= n
            energy = np.concatenate([part.soc_kwh, part.store_kwh])
            writer.write_table(pa.table([position, is_store, energy], schema=_SCHEMA))
            first += n


class StoredCharge:
    """What a day has left, read from its file as far as it is asked for.

    Parameters
    ----------
    path : Path
        File of `write_charge`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, start: int, stop: int) -> Charge:
        """That of the prosumers at positions start to stop - 1, whose first row becomes 0.

        Raises
        ------
        InputError
            The file is missing, damaged, or has not all of them.
        """
        within = [("position", ">=", start), ("position", "<", stop)]
        try:
            table = pq.read_table(self.path, schema=_SCHEMA, filters=within)
        except (OSError, pa.ArrowException) as error:
            raise self._unusable(str(error)) from error
        position, is_store, energy = (table[name].to_numpy() for name in _SCHEMA.names)
        if not np.array_equal(position[~is_store], np.arange(start, stop)):
            raise self._unusable("it has not the prosumers of the run")
        return Charge(energy[~is_store], position[is_store] - start, energy[is_store])

    def _unusable(self, why: str) -> InputError:
        return InputError(
            f"no charge to begin the day with ({why})",
            str(self.path),
            "simulate the scenario.resolved.yaml of its run again",
        )
