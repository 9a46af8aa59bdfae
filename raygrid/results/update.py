"""Changing a finished run: new files beside the old ones, then all in their place, manifest last.

A kill leaves the old run, or one whose new files are all on disk and whose change the next update
finishes; a reader refuses it until then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from raygrid.errors import InputError
from raygrid.results.files import MANIFEST, json_text, write_atomically
from raygrid.schemas import conform

UPDATE = ".update"
"""Folder within a run's that holds new files until all of them are there."""


def is_half_updated(path: Path) -> bool:
    """Whether a run's change was interrupted after its new files were on disk."""
    return (path / UPDATE / MANIFEST).is_file()


def finish_update(path: Path) -> bool:
    """Finish an interrupted change of a run, or drop one that never came together.

    Parameters
    ----------
    path : Path
        The run's folder.

    Returns
    -------
    bool
        Whether there was a change to finish.
    """
    staged = path / UPDATE
    whole = is_half_updated(path)
    if whole:
        for file in sorted(staged.iterdir()):
            if file.name != MANIFEST:
                if (path / file.name).is_dir():
                    shutil.rmtree(path / file.name)
                os.replace(file, path / file.name)
        os.replace(staged / MANIFEST, path / MANIFEST)
    shutil.rmtree(staged, ignore_errors=True)
    return whole


class RunUpdate:
    """New versions of some files of a finished run.

    Parameters
    ----------
    path : Path
        The run's folder; an interrupted change of it is finished first.

    Attributes
    ----------
    manifest : dict
        What the manifest will say; to be changed before `commit`.

    Raises
    ------
    InputError
        If nothing can be written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            finish_update(path)
            self.manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text("utf-8"))
            self._staged = path / UPDATE
            self._staged.mkdir()
        except OSError as error:
            raise InputError(
                f"the run cannot be changed ({error.strerror or error})",
                str(path),
                "give the run folder back its rights and room on its disk",
            ) from error

    def write_table(self, name: str, table: pa.Table) -> None:
        """A new version of a table, in one file also where there were parts of it."""
        table = conform(name, table)
        files: dict[str, str] = self.manifest["files"]
        for part in [file for file in files if file.startswith(f"{name}.parquet/")]:
            del files[part]
        self._write(
            f"{name}.parquet", lambda stream: pq.write_table(table, stream, compression="zstd")
        )

    def write_text(self, file: str, text: str) -> None:
        """A new version of a text file."""
        self._write(file, lambda stream: stream.write(text.encode("utf-8")))

    def commit(self) -> None:
        """Put everything in its place."""
        self.manifest["files"] = dict(sorted(self.manifest["files"].items()))
        text = json_text(self.manifest).encode("utf-8")
        write_atomically(self._staged / MANIFEST, lambda stream: stream.write(text))
        finish_update(self.path)

    def drop(self) -> None:
        """Leave the run as it was."""
        shutil.rmtree(self._staged, ignore_errors=True)

    def _write(self, file: str, write: Callable[[IO[bytes]], Any]) -> None:
        self.manifest["files"][file] = write_atomically(self._staged / file, write)
