"""Reading a run folder, and only one that is finished and unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raygrid.errors import InputError
from raygrid.results.files import MANIFEST, SUMMARY, RunStatus
from raygrid.results.update import is_half_updated
from raygrid.schemas import SCHEMA_VERSION

_KEYS = {
    *("run_id", "scenario", "status", "reason", "created", "finished", "seconds", "files"),
    *("versions", "machine", "git_commit", "command", "period_hours", "slack_bus"),
    *("network_constrained", "currency", "seeds", "cluster", "notes", "welfare_bound"),
}
"""What the manifest of every run says, a finished one or not."""


class RunReader:
    """Reads a finished run; every file is checked against the manifest's hash when read.

    Parameters
    ----------
    path : Path
        The run's folder, or the folder of a scenario's runs, which means its newest.
    allow_unfinished : bool
        Read what is there of a run that is running, failed or was interrupted.

    Attributes
    ----------
    path : Path
        The run's folder.
    manifest : dict
        What manifest.json says.
    status : RunStatus
        Its status.

    Raises
    ------
    InputError
        If there is no run, it is unfinished, or a newer raygrid wrote it.
    """

    def __init__(self, path: Path, allow_unfinished: bool = False) -> None:
        self.path = find_run(path)
        if is_half_updated(self.path):
            raise InputError(
                "a change of the run was interrupted",
                str(self.path),
                f"'raygrid settle {self.path}' finishes it",
            )
        self.manifest: dict[str, Any] = self._json(MANIFEST)
        if not isinstance(self.manifest, dict):
            raise self._no_run("it is no mapping")
        version = self.manifest.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"its layout is version {version}, this raygrid reads {SCHEMA_VERSION}",
                str(self.path / MANIFEST),
                "use the raygrid version that wrote it",
            )
        self.status = self._status()
        if not self.status.finished and not allow_unfinished:
            raise InputError(
                f"the run is unfinished ('{self.status}')",
                str(self.path),
                "wait for its end, run the scenario again, or allow unfinished runs",
            )

    def _status(self) -> RunStatus:
        missing = sorted(_KEYS - self.manifest.keys())
        if missing:
            raise self._no_run(f"it lacks {', '.join(missing)}")
        if self.manifest["status"] not in list(RunStatus):
            raise self._no_run(f"its status is {self.manifest['status']!r}")
        return RunStatus(self.manifest["status"])

    def _no_run(self, what: str) -> InputError:
        return InputError(what, str(self.path / MANIFEST), "name the folder of a raygrid run")

    @property
    def summary(self) -> dict[str, Any] | None:
        """What summary.json says; None where an unfinished run has none."""
        return self._json(SUMMARY) if self.has(SUMMARY) else None

    def has(self, file: str) -> bool:
        """Whether the run wrote this file (or folder of parts)."""
        files = self.manifest["files"]
        if self.status.finished:
            return file in files or any(name.startswith(f"{file}/") for name in files)
        return (self.path / file).exists()

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One table, from its file or its parts.

        Parameters
        ----------
        name : str
            The table's name, without `.parquet`.
        columns : sequence of str or None
            Columns to read; None reads all of them.

        Raises
        ------
        InputError
            If the run has no such table or a file is not the one that the run wrote.
        """
        return pa.concat_tables(list(self.iter_table(name, columns)))

    def iter_table(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts of a table one by one, for those that only need sums; as `read_table`."""
        file = f"{name}.parquet"
        if not self.has(file):
            raise InputError("the run has no such table", str(self.path / file), "see the manifest")
        path = self.path / file
        parts = [file]
        if self.status.finished:
            parts = [known for known in self.manifest["files"] if known.split("/")[0] == file]
        elif path.is_dir():
            parts = [
                str(part.relative_to(self.path)) for part in sorted(path.rglob("part-*.parquet"))
            ]
        for part in parts:
            self._check(part)
            try:
                yield pq.read_table(self.path / part, columns=columns)
            except (OSError, pa.ArrowException, KeyError) as error:
                raise InputError(
                    f"it cannot be read ({error})", str(self.path / part), "run the scenario again"
                ) from error

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises
        ------
        InputError
            Naming the first file that is missing or changed.
        """
        for file in self.manifest["files"]:
            self._check(file)

    def _check(self, file: str) -> None:
        expected = self.manifest["files"].get(file)
        if expected is None:
            return
        path = self.path / file
        if not path.is_file():
            raise InputError("the file is missing", str(path), "copy the whole run folder")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected:
            raise InputError(
                "the file is not the one that the run wrote (its hash differs)",
                str(path),
                "restore it, or run the scenario again",
            )

    def _json(self, file: str) -> Any:
        path = self.path / file
        if file != MANIFEST:
            self._check(file)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"it cannot be read ({reason})", str(path), "name the folder of a raygrid run"
            ) from error


def find_run(path: Path) -> Path:
    """The run that a path means: itself, or the newest within the folder of a scenario's runs."""
    if (path / MANIFEST).is_file() or not path.is_dir():
        return path
    runs = [folder for folder in path.iterdir() if (folder / MANIFEST).is_file()]
    return max(runs, key=lambda folder: folder.name, default=path)
