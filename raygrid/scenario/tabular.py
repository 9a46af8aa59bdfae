"""Strict reading of CSV and Parquet tables into numpy columns, with errors that name the cell."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError

Columns = dict[str, str]
"""Column name to kind: 'int', 'float', 'nonnegative', 'limit' (non-negative, empty: none), 'text'.
"""


@dataclass(frozen=True)
class TableData:
    """Columns of a table that was read, and where it came from.

    Attributes
    ----------
    path : Path
        The file.
    columns : dict of str to (n,) array
        int64, float64 or text columns.
    first_row : int
        Number that the first row has for a reader of the file.
    """

    path: Path
    columns: dict[str, Any]
    first_row: int

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def floats(self, name: str, default: float = 0.0) -> FloatArray:
        """A float64 column, or `default` in every row where the table lacks it."""
        if name not in self.columns:
            return np.full(len(self), default)
        return np.asarray(self.columns[name], dtype=np.float64)

    def ints(self, name: str) -> IntArray:
        """An int64 column."""
        return np.asarray(self.columns[name], dtype=np.int64)

    def texts(self, name: str) -> list[str]:
        """A text column."""
        return list(self.columns[name])

    def refuse(self, row: int, column: str, what: str, cure: str) -> NoReturn:
        """Refuse a cell, by its position."""
        where = f"{self.path}: row {row + self.first_row}, column {column}"
        raise InputError(what, where, cure)

    def keys_unique(self, *names: str) -> None:
        """Refuse two rows with the same key columns, naming the second one."""
        keys = np.stack([self.ints(n) for n in names], axis=1)
        order = np.lexsort(keys.T[::-1])
        same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
        if same.any():
            row = int(order[1:][same][0])
            shown = ", ".join(f"{n} {v}" for n, v in zip(names, keys[row], strict=True))
            self.refuse(row, names[0], f"a second row for {shown}", "leave one of them")


def read_table(path: Path, required: Columns, optional: Columns | None = None) -> TableData:
    """Read a table and check columns, types, signs and gaps.

    Parameters
    ----------
    path : Path
        A `.csv` file (leading lines that start with # are skipped) or a `.parquet` file.
    required, optional : dict
        Columns and their kinds.

    Returns
    -------
    TableData
        The columns.

    Raises
    ------
    InputError
        Names file, row and column of what is wrong.
    """
    optional = optional or {}
    raw, first_row = _read_arrow(path)
    known = required | optional
    names = raw.column_names
    where = str(path)
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"column '{twice[0]}' stands twice", where, "leave one of them")
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, [k for k in known if k not in names], n=1)
            cure = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
            raise InputError(f"unknown column '{name}'", where, cure)
    missing = [name for name in required if name not in names]
    if missing:
        raise InputError(f"missing column '{missing[0]}'", where, "add it")
    if raw.num_rows == 0:
        raise InputError("no rows", where, "add rows, or leave the table out")
    table = TableData(path, {}, first_row)
    for name in names:
        table.columns[name] = _column(table, name, known[name], raw.column(name).combine_chunks())
    return table


def _read_arrow(path: Path) -> tuple[pa.Table, int]:
    """The raw table, and the number that its first row has in the file."""
    where = str(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InputError(f"'{suffix}' is no table format", where, "use .csv or .parquet")
    if not path.is_file():
        raise InputError("no such file", where, "check the path; it is relative to the scenario")
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path), 1
        from pyarrow import csv

        with path.open("rb") as file:
            comments = 0
            while file.readline(4096).startswith(b"#"):
                comments += 1
        header = csv.open_csv(path, read_options=csv.ReadOptions(skip_rows=comments)).schema.names
        raw = csv.read_csv(
            path,
            read_options=csv.ReadOptions(skip_rows=comments),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
        return raw, comments + 2
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"cannot be read ({lines[0]})", where, "mend the file") from None


def _column(table: TableData, name: str, kind: str, values: Any) -> Any:
    """One column as a numpy array (a list for texts), checked."""
    if kind == "text":
        return [str(v) if v is not None else "" for v in values.to_pylist()]
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _numbers(table, name, kind, pc.utf8_trim_whitespace(values))
    if values.null_count:
        if kind == "limit":
            values = pc.fill_null(values, float("inf"))
        else:
            row = values.is_null().index(True).as_py()
            table.refuse(row, name, "empty", "give a number")
    wanted = pa.int64() if kind == "int" else pa.float64()
    try:
        array = values.cast(wanted).to_numpy()
    except pa.ArrowException:
        table.refuse(0, name, f"cells of type {values.type}", f"give {wanted} numbers")
    if kind != "int":
        bad = np.isnan(array) if kind == "limit" else ~np.isfinite(array)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            table.refuse(row, name, f"{array[row]} is not a number", "give a finite number")
        if kind in ("nonnegative", "limit") and (array < 0).any():
            row = int(np.flatnonzero(array < 0)[0])
            table.refuse(row, name, f"{array[row]:g} is negative", "give zero or more")
    return array


def _numbers(table: TableData, name: str, kind: str, texts: Any) -> Any:
    """Texts as numbers; an empty limit becomes null."""
    if kind == "limit":
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    wanted = pa.int64() if kind == "int" else pa.float64()
    try:
        return texts.cast(wanted)
    except pa.ArrowException:
        for row, text in enumerate(texts):
            try:
                text.cast(wanted)
            except pa.ArrowException:
                shown = text.as_py()
                what = f"'{shown[:40]}' is not a {'whole ' * (kind == 'int')}number"
                table.refuse(row, name, what if shown else "empty", "give a number")
        raise
