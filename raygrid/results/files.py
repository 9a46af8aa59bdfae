"""Files of a run folder: their names, and writing them so that nobody sees half of one."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
SCENARIO = "scenario.resolved.yaml"
PTDF = "ptdf.npz"
REPORT = "report.html"
CHECKPOINT = "checkpoint.bin"
"""Rounds of a clearing that has not ended; gone once it has."""


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


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> str:
    """Write beside, flush to disk, replace: nobody ever sees half a file. Returns the SHA-256."""
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
