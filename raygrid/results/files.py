"""Files of a run folder: their names, and writing them so that nobody sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from raygrid.errors import FullDiskError, InputError

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
SCENARIO = "scenario.resolved.yaml"
PTDF = "ptdf.npz"
REPORT = "report.html"
CHECKPOINT = "checkpoint"
"""Folder of what another driver needs to go on with a run; gone once its results are written."""
_COPY_CURE = "restore it, or simulate the scenario.resolved.yaml of its run again"
BLOCK_BYTES = 100_000
"""Room for a small file, where nobody knows better [B]."""


class RunStatus(StrEnum):
    """What a manifest says of its run."""

    RUNNING = "running"
    OK = "ok"
    ENDED_SHORT = "ended_short"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """Whether everything that the run had to write is there."""
        return self in (RunStatus.OK, RunStatus.ENDED_SHORT)


def json_safe(value: Any) -> Any:
    """The value with NaN and infinities, which JSON does not have, as None."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_text(value: Any) -> str:
    """JSON for people and programs, NaN and infinities as null."""
    return json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, a limit on the size of files."""


def is_full(error: OSError) -> bool:
    """Whether there was no room, rather than no right or no storage at all."""
    return error.errno in _FULL


@contextmanager
def room_for(path: Path, about_bytes: int) -> Iterator[None]:
    """Turn a full disk into one line: what was not written, where, and what it takes.

    Parameters
    ----------
    path : Path
        The file that is written.
    about_bytes : int
        Room that it takes at most, roughly [B].

    Raises
    ------
    FullDiskError
        The disk or a quota is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        free = ""
        with suppress(OSError):
            free = f", {_size(shutil.disk_usage(path.parent).free)} are free there"
        raise FullDiskError(
            f"{path} was not written: {error.strerror}; it takes up to {_size(about_bytes)}{free}; "
            "what was written before is kept, make room"
        ) from error


@contextmanager
def going_on(cure: str) -> Iterator[None]:
    """Say after a full disk how to go on with what is kept."""
    try:
        yield
    except FullDiskError as error:
        raise FullDiskError(f"{error} and {cure}") from error


def _size(n_bytes: int) -> str:
    unit, name = next((u for u in ((1e9, "GB"), (1e6, "MB")) if n_bytes >= u[0] / 10), (1e3, "kB"))
    return f"{n_bytes / unit:.3g} {name}"


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], about_bytes: int = 0) -> str:
    """Write beside, flush to disk, replace: nobody ever sees half a file. Returns the SHA-256.

    Parameters
    ----------
    path : Path
        The file.
    write : callable
        Gets a stream open for bytes.
    about_bytes : int
        Room that it takes at most, roughly, for the message where there is none [B].

    Raises
    ------
    FullDiskError
        The disk or a quota is full; the file is as it was.
    """
    with room_for(path, about_bytes or BLOCK_BYTES):
        return _write_atomically(path, write)


def _write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> str:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return digest


def copy_file(source: Path, path: Path, sha256: str) -> None:
    """Copy a file of an earlier run, atomically, and see that it is the one that was written.

    Raises
    ------
    InputError
        It is missing, or its hash differs.
    FullDiskError
        There is no room; no file is left.
    """
    try:
        with source.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            found = write_atomically(path, lambda copy: shutil.copyfileobj(stream, copy), size)
    except FileNotFoundError as error:
        raise InputError("the file is missing", str(source), _COPY_CURE) from error
    if found != sha256:
        path.unlink()
        raise InputError("it is not the file that the run wrote", str(source), _COPY_CURE)
