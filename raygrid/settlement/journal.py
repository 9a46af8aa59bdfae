"""The journal: every signed transaction, on disk before it is sent.

A file of frames that only grows, one frame for each group of transactions that is synced and
sent together. A frame is the length and the CRC-32 of its body (two little-endian 32-bit
numbers) and the body: one line of JSON, then the raw transactions. What a kill cut off at the end
is dropped when the file is opened again: a group whose frame is not whole was never sent.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter, sleep
from types import TracebackType
from typing import Any, Self

from raygrid.errors import EndedShortError, InputError

MAGIC = b"raygrid journal 1\n"
_HEAD = struct.Struct("<II")
LOOK_S = 0.1
"""Time between two looks at a journal that somebody holds [s]."""


@dataclass(frozen=True)
class JournalEntry:
    """One signed transaction.

    Attributes
    ----------
    step : str
        What it does, unique among the steps of a run: 'settle:17'.
    sender : bytes
        Address of its signer.
    nonce : int
        Its number among the sender's transactions.
    tx_hash : bytes
        Its hash.
    raw : bytes
        The signed transaction.
    facts : mapping
        What else a restart needs to know of the step.
    """

    step: str
    sender: bytes
    nonce: int
    tx_hash: bytes
    raw: bytes
    facts: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """An open journal; a context manager. Only one process at a time may hold it.

    Parameters
    ----------
    path : Path
        The file; made if it does not exist.

    Attributes
    ----------
    entries : list of JournalEntry
        All of them in the order in which they were written.
    sync_s : float
        Time spent waiting for the disk [s].
    syncs : int
        How often.

    Raises
    ------
    InputError
        The file is no journal, was changed in the middle, or cannot be written.
    EndedShortError
        Another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sync_s = 0.0
        self.syncs = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise InputError(
                f"the journal cannot be written ({error.strerror})",
                str(path),
                "give the run folder back its rights and room on its disk",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.entries: list[JournalEntry] = self._read()
        except BlockingIOError:
            self._file.close()
            raise _held(path) from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which lets others settle the run; idempotent."""
        self._file.close()

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Write a group of transactions and wait until the disk has them.

        Parameters
        ----------
        entries : sequence of JournalEntry
            Transactions that are sent only after this returns.

        Raises
        ------
        EndedShortError
            The disk is full or gone; nothing of the group may be sent.
        """
        if not entries:
            return
        started = perf_counter()
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(_frame(entries))
            self._sync()
        except OSError as error:
            self._file.truncate(end)
            raise EndedShortError(f"{self.path}: the journal takes no more: {error}") from error
        self.entries += entries
        self.sync_s += perf_counter() - started
        self.syncs += 1

    def archive(self) -> Path:
        """Put the journal aside, for a new deployment, and begin an empty one.

        Returns
        -------
        Path
            Where the old one is kept.
        """
        number = 1
        while (old := self.path.with_suffix(f".{number}{self.path.suffix}")).exists():
            number += 1
        old.write_bytes(self.path.read_bytes())
        self._file.truncate(len(MAGIC))
        self._sync()
        self.entries = []
        return old

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> list[JournalEntry]:
        self._file.seek(0)
        data = self._file.read()
        if MAGIC.startswith(data):
            self._file.truncate(0)
            self._file.write(MAGIC)
            self._sync()
            return []
        entries, whole = _parse(data, self.path)
        self._file.truncate(whole)
        return entries


def read_journal(path: Path) -> list[JournalEntry]:
    """The entries of a journal that is left as it is; none where there is no file.

    Raises
    ------
    InputError
        The file is no journal or was changed.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return [] if MAGIC.startswith(data) else _parse(data, path)[0]


def copy_journal(path: Path, to: Path, patience_s: float = 0.0) -> None:
    """Copy a journal that no process writes any more.

    Parameters
    ----------
    path, to : Path
        The journal, which stays as it is, and the copy.
    patience_s : float
        How long to wait for a process that holds it [s].

    Raises
    ------
    EndedShortError
        A process holds it still.
    """
    deadline = monotonic() + patience_s
    with path.open("rb") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() >= deadline:
                    raise _held(path) from None
                sleep(LOOK_S)
        shutil.copyfile(path, to)


def _held(path: Path) -> EndedShortError:
    return EndedShortError(f"{path}: another process is settling this run")


def _parse(data: bytes, path: Path) -> tuple[list[JournalEntry], int]:
    """All whole entries, and where the last of them ends."""
    if not data.startswith(MAGIC):
        raise InputError("it is no journal of raygrid", str(path), "restore the file of the run")
    entries: list[JournalEntry] = []
    at = len(MAGIC)
    while at < len(data):
        body = _body(data, at)
        if body is None:
            break
        entries += _entries(body)
        at += _HEAD.size + len(body)
    if at < len(data) and _later(data, at):
        raise InputError(f"it was changed at byte {at}", str(path), "restore the file of the run")
    return entries, at


def _frame(entries: Sequence[JournalEntry]) -> bytes:
    heads = [
        {
            "step": entry.step,
            "sender": entry.sender.hex(),
            "nonce": entry.nonce,
            "tx_hash": entry.tx_hash.hex(),
            "facts": dict(entry.facts),
            "size": len(entry.raw),
        }
        for entry in entries
    ]
    line = json.dumps(heads, separators=(",", ":")).encode()
    body = b"\n".join([line, b"".join(entry.raw for entry in entries)])
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _body(data: bytes, at: int) -> bytes | None:
    """The body of the frame at this byte; None where there is no whole one."""
    if len(data) - at < _HEAD.size:
        return None
    length, check = _HEAD.unpack_from(data, at)
    body = data[at + _HEAD.size : at + _HEAD.size + length]
    return body if length and len(body) == length and zlib.crc32(body) == check else None


def _later(data: bytes, at: int) -> bool:
    """Whether a whole frame follows a broken one: then no kill, but a change broke it."""
    if len(data) - at < _HEAD.size:
        return False
    return _body(data, at + _HEAD.size + _HEAD.unpack_from(data, at)[0]) is not None


def _entries(body: bytes) -> Iterator[JournalEntry]:
    line, raws = body.split(b"\n", 1)
    at = 0
    for head in json.loads(line):
        size = head["size"]
        yield JournalEntry(
            head["step"],
            bytes.fromhex(head["sender"]),
            head["nonce"],
            bytes.fromhex(head["tx_hash"]),
            raws[at : at + size],
            head["facts"],
        )
        at += size
