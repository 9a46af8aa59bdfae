"""Sends a job's results home through its log; runs on the cluster as `python -m actors.pack`.

The Jobs API carries no files but what a job prints. Standard library only, so that it runs
wherever a job ran.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MANIFEST = "manifest.json"
BEGIN, END = "raygrid-pack-begin", "raygrid-pack-end"
NONE_FOUND, TOO_LARGE = "raygrid-pack-none", "raygrid-pack-too-large"
MAX_BYTES = 256 * 1024**2
"""Largest archive that is sent: the log goes through the memory of two of Ray's processes [B]."""
_CHUNK = 57 * 1024


def folders_of(out: Path, job: str) -> list[Path]:
    """The outermost folders under `out` whose manifest says that the job made them.

    Parameters
    ----------
    out : Path
        Folder of all results.
    job : str
        Identifier of the job.
    """
    return sorted(_search(out, job))


def _search(folder: Path, job: str) -> Iterator[Path]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if isinstance(manifest, dict) and manifest.get("job") == job:
        yield folder
        return
    if folder.is_dir():
        for child in folder.iterdir():
            if child.is_dir() and not child.is_symlink():
                yield from _search(child, job)


def send(out: Path, job: str, stream: IO[str]) -> None:
    """Write the job's folders as one archive in base64 between two marks.

    Parameters
    ----------
    out : Path
        Folder of all results; names in the archive are relative to it.
    job : str
        Identifier of the job.
    stream : text stream
        Where to.
    """
    folders = folders_of(out, job)
    if not folders:
        print(NONE_FOUND, file=stream)
        return
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
            for folder in folders:
                archive.add(folder, folder.relative_to(out).as_posix())
        size = packed.tell()
        if size > MAX_BYTES:
            print(TOO_LARGE, size, out.absolute(), file=stream)
            return
        packed.seek(0)
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
        packed.seek(0)
        print(BEGIN, digest, file=stream)
        while chunk := packed.read(_CHUNK):
            print(base64.b64encode(chunk).decode("ascii"), file=stream)
        print(END, file=stream)


def receive(log: str, out: Path) -> list[Path]:
    """Unpack what `send` wrote to a log; folders that are there already stay as they are.

    Parameters
    ----------
    log : str
        The whole log.
    out : Path
        Folder of all results here.

    Returns
    -------
    list of Path
        The folders of the job, whether new or there before.

    Raises
    ------
    ValueError
        If the archive is incomplete or damaged.
    """
    lines = log.splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith(BEGIN)]
    if not starts or END not in lines[starts[0] :]:
        raise ValueError("the archive in the job's log is incomplete")
    start = starts[0]
    body = lines[start + 1 : lines.index(END, start)]
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile() as packed,
        tempfile.TemporaryDirectory(dir=out, prefix=".fetch-") as aside,
    ):
        for line in body:
            packed.write(base64.b64decode(line, validate=True))
        packed.seek(0)
        if hashlib.file_digest(packed, "sha256").hexdigest() != lines[start].split()[1]:
            raise ValueError("the archive in the job's log is damaged")
        packed.seek(0)
        with tarfile.open(fileobj=packed, mode="r:gz") as archive:
            archive.extractall(aside, filter="data")
        return [_move(folder, Path(aside), out) for folder in _outermost(Path(aside))]


def _outermost(folder: Path) -> list[Path]:
    if (folder / MANIFEST).is_file():
        return [folder]
    return [found for child in sorted(folder.iterdir()) if child.is_dir()
            for found in _outermost(child)]  # fmt: skip


def _move(folder: Path, aside: Path, out: Path) -> Path:
    target = out / folder.relative_to(aside)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    return target


if __name__ == "__main__":
    send(Path(sys.argv[1]), sys.argv[2], sys.stdout)
