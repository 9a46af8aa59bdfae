"""A results folder of its own: made new, filled once, and declared finished last."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from raygrid.errors import FullDiskError, InputError
from raygrid.results import provenance
from raygrid.results.files import (
    MANIFEST,
    RunStatus,
    copy_file,
    json_text,
    write_atomically,
)
from raygrid.schemas import SCHEMA_VERSION

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""'s3://bucket/runs', of which a path keeps one slash."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_writable(out: Path) -> None:
    """Refuse a results folder that cannot be written, before any work is done; leaves nothing.

    Raises
    ------
    InputError
        If `out`, or the nearest folder above it that exists, takes no new file.
    """
    if _ADDRESS.match(str(out)):
        raise InputError(
            "a run replaces its files atomically, which object storage cannot",
            f"--out {out}",
            "mount it and name the folder, or copy the run when it is finished",
        )
    try:
        folder = out.absolute()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


class FolderWriter:
    """Writes results into their own new folder ``<out>/<name>/<run_id>/``.

    The manifest is there from the start with status 'running'; `finish` replaces it, last and
    atomically. As a context manager it marks a folder that is left by an exception 'failed' (or
    'interrupted' on Ctrl-C) and keeps what was written so far.

    Parameters
    ----------
    out : Path
        Folder of all results; made if it does not exist.
    name : str
        Name of the folder in it, a plain file name.
    facts : mapping
        What the manifest says from the start, beside versions, machine and commit.

    Attributes
    ----------
    run_id : str
        Unique, and sorts by time.
    path : Path
        The folder.

    Raises
    ------
    InputError
        If the folder cannot be written or the name is not a plain file name.
    """

    def __init__(self, out: Path, name: str, facts: Mapping[str, Any]) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"'{name}' cannot name a folder",
                "scenario name",
                "use letters, digits, '-', '_' and '.', and start with a letter or digit",
            )
        self._files: dict[str, str] = {}
        self._finished = False
        try:
            self.run_id, self.path = _new_folder(out / name)
        except OSError as error:
            raise _unwritable(out, error) from error
        self._manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "status": RunStatus.RUNNING,
            "reason": "",
            **facts,
            "created": _now(),
            "finished": None,
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "git_commit": provenance.git_commit(),
            "job": provenance.job(),
            "seconds": {},
            "files": {},
        }
        self._write_manifest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._finished:
            return
        # Where there is no room for this either, the manifest goes on to say 'running'.
        with suppress(FullDiskError):
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._close(RunStatus.INTERRUPTED, "stopped by the user")
            else:
                self._close(RunStatus.FAILED, str(error) if error else "left without a result")

    def write_file(
        self, file: str, write: Callable[[IO[bytes]], Any], about_bytes: int = 0
    ) -> None:
        """Write one file with a function that gets it open for bytes; see `write_atomically`.

        Raises
        ------
        ValueError
            If the file was written before, or the folder is finished.
        InputError
            If it cannot be written (no right, storage gone).
        FullDiskError
            If there is no room.
        """
        self._new(file)
        try:
            self._files[file] = write_atomically(self.path / file, write, about_bytes)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def write_text(self, file: str, text: str) -> None:
        """Write one file of UTF-8 text; as `write_file`."""
        self.write_file(file, lambda stream: stream.write(text.encode("utf-8")))

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of the files written so far, by their names in the folder."""
        return dict(self._files)

    def take_over(self, earlier: Path, files: Mapping[str, str]) -> None:
        """Copy files of an earlier folder.

        Parameters
        ----------
        earlier : Path
            The folder.
        files : mapping of str to str
            Of its `files`, those to copy.

        Raises
        ------
        InputError
            A file is missing or is not the one that was written.
        """
        for file, sha256 in files.items():
            self._new(file)
            path = self.path / file
            path.parent.mkdir(exist_ok=True)
            copy_file(earlier / file, path, sha256)
            self._files[file] = sha256

    def finish(
        self, status: RunStatus, seconds: Mapping[str, float], reason: str = "", **facts: Any
    ) -> None:
        """Declare the folder finished: replace the manifest, last and atomically.

        Parameters
        ----------
        status : RunStatus
            'ok' or 'ended_short'.
        seconds : mapping of str to float
            Wall time of each step [s].
        reason : str
            One line: why it ended short.
        **facts
            What else the manifest has to say.
        """
        if not status.finished:
            raise ValueError(f"a run cannot finish as '{status}'")
        self._manifest |= {"seconds": dict(seconds), **facts}
        self._close(status, reason)

    def _close(self, status: RunStatus, reason: str) -> None:
        self._manifest |= {
            "status": status,
            "reason": reason,
            "finished": _now(),
            "files": dict(sorted(self._files.items())),
        }
        self._write_manifest()
        self._finished = True

    def _new(self, file: str) -> None:
        if self._finished or file in self._files:
            raise ValueError(f"{file}: a run's file is written once, before it is finished")

    def _write_manifest(self) -> None:
        text = json_text(self._manifest).encode("utf-8")
        write_atomically(self.path / MANIFEST, lambda stream: stream.write(text))


def _new_folder(parent: Path) -> tuple[str, Path]:
    """A folder that nobody else has; its name sorts by time (UTC, to the millisecond)."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%dT%H%M%S}-{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
        folder = parent / run_id
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return run_id, folder


def _unwritable(out: Path, error: OSError) -> InputError:
    return InputError(
        f"results cannot be written there ({error.strerror or error})",
        f"--out {out}",
        "name a folder that can be written",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
