"""One process at a time works on the chain of a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from raygrid.errors import InputError

LOCK_FILE = ".chain.lock"


class FolderLock:
    """An exclusive lock on a folder's chain, which ends with the process however that ends.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Raises
    ------
    InputError
        If another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise InputError(
                "another process settles this run at the moment",
                str(folder),
                "wait until it is done",
            ) from None

    def release(self) -> None:
        """Let others have it. May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
