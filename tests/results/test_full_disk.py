"""A disk that is full: one line, nothing half-written, what was done is kept."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.checkpoint import CheckpointWriter, read_checkpoint
from raygrid import cli
from raygrid.errors import ExitCode, FullDiskError
from raygrid.market.messages import PriceMessage, RoundDecision, RoundOutcome
from raygrid.results.files import MANIFEST, RunStatus, going_on, room_for, write_atomically
from raygrid.results.folder import FolderWriter
from raygrid.results.store import write_part
from raygrid.results.study_folder import StudyFolder
from raygrid.schemas import CONVERGENCE

LIMIT_BYTES = 20_000


@contextmanager
def small_disk(limit_bytes: int = LIMIT_BYTES) -> Iterator[None]:
    """The kernel refuses to let files of this process grow further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def big_table() -> pa.Table:
    rows = 20_000
    values = np.random.default_rng(1).random(rows)
    return pa.table(
        {
            field.name: pa.array(np.arange(rows) if pa.types.is_integer(field.type) else values)
            for field in CONVERGENCE
        },
        schema=CONVERGENCE,
    )


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, lambda stream: stream.write(b"before"))
    told = r"a was not written: File too large; it takes up to 5 MB, .* are free there; what was"
    with small_disk(), pytest.raises(FullDiskError, match=told):
        write_atomically(path, lambda stream: stream.write(bytes(5_000_000)), 5_000_000)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_read_alike(tmp_path: Path, code: int) -> None:
    def full(_: object) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(FullDiskError, match=os.strerror(code)) as raised:
        write_atomically(tmp_path / "a", full)
    assert raised.value.exit_code is ExitCode.ENDED_SHORT
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    with pytest.raises(PermissionError), room_for(tmp_path / "a", 1):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(FullDiskError, match=r"make room and try again$"), going_on("try again"):
        write_atomically(tmp_path / "a", full)


def fill(out: Path, limit_bytes: int) -> None:
    """A run whose second file does not fit, on a disk that is small from its first file on."""
    with ExitStack() as stack, FolderWriter(out, "run", {}) as writer:
        stack.enter_context(small_disk(limit_bytes))
        writer.write_text("small", "done")
        writer.write_file("big", lambda stream: stream.write(bytes(LIMIT_BYTES + 1)))


def test_a_folder_says_how_it_ended_where_there_is_room_for_that(tmp_path: Path) -> None:
    with pytest.raises(FullDiskError, match="big was not written"):
        fill(tmp_path, LIMIT_BYTES)
    (run,) = (tmp_path / "run").iterdir()
    manifest = json.loads((run / MANIFEST).read_text())
    assert manifest["status"] == RunStatus.FAILED
    assert "big was not written" in manifest["reason"]
    assert {path.name for path in run.iterdir()} == {MANIFEST, "small"}


def test_a_folder_stays_running_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FullDiskError, match="big was not written"):
        fill(tmp_path, 10)
    (run,) = (tmp_path / "run").iterdir()
    assert json.loads((run / MANIFEST).read_text())["status"] == RunStatus.RUNNING
    assert {path.name for path in run.iterdir()} == {MANIFEST, "small"}


def test_a_host_s_part_and_a_study_s_record(tmp_path: Path) -> None:
    with small_disk(), pytest.raises(FullDiskError, match=r"part-00003\.parquet was not written"):
        write_part(tmp_path / "convergence.parquet", "convergence", 3, big_table())
    assert list((tmp_path / "convergence.parquet").iterdir()) == []
    with (
        StudyFolder(tmp_path, "study", {}) as folder,
        small_disk(10),
        pytest.raises(FullDiskError, match="was not written"),
    ):
        folder.finish(RunStatus.OK, [], 0, "name: a longer study than that")


def test_a_checkpoint_keeps_the_rounds_that_fitted(tmp_path: Path) -> None:
    path, digest = tmp_path / "checkpoint.bin", bytes(32)
    message = PriceMessage(0, np.ones((50, 24)), 1.0, 1.0)
    outcome = RoundOutcome(RoundDecision.CONTINUE, None, 0.0, (message,))
    writer = CheckpointWriter(path, digest)
    with small_disk(), pytest.raises(FullDiskError, match=r"checkpoint\.bin was not written"):
        list(map(writer.put, 10 * [outcome]))
    writer.close()
    past = read_checkpoint(path, digest)
    assert len(past) == LIMIT_BYTES // (50 * 24 * 8)
    assert np.array_equal(past[-1].messages[0].pi_kw, message.pi_kw)


def test_what_nobody_had_in_mind_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/file")

    monkeypatch.setattr(sys, "argv", ["raygrid", "scenario", "list"])
    monkeypatch.setattr("raygrid.files.list_scenarios", full)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "raygrid: /somewhere/file: No space left on device; what was written before is kept, "
        "make room and give the command again\n"
    )
