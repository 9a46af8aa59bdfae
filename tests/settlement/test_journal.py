"""The journal: whole after a kill, refused after a change, held by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import EndedShortError, InputError
from raygrid.settlement.journal import MAGIC, Journal, JournalEntry


def entry(k: int, size: int = 100) -> JournalEntry:
    raw = bytes((k + i) % 256 for i in range(size))
    return JournalEntry(f"settle:{k}", b"\x01" * 20, k, k.to_bytes(32, "big"), raw, {"first": k})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chain" / "journal"


def write(path: Path, *groups: int) -> list[JournalEntry]:
    """Write groups of so many entries each; returns all entries."""
    with Journal(path) as journal:
        for size in groups:
            journal.append([entry(len(journal.entries) + i) for i in range(size)])
        return list(journal.entries)


def test_what_is_written_is_read_back_and_grows_on(path: Path) -> None:
    written = write(path, 2, 1)
    with Journal(path) as journal:
        assert journal.entries == written
        journal.append([entry(9, size=0)])
        assert journal.syncs == 1
        assert journal.sync_s > 0
    with Journal(path) as journal:
        assert journal.entries == [*written, entry(9, size=0)]


def test_an_empty_group_costs_nothing(path: Path) -> None:
    with Journal(path) as journal:
        journal.append([])
        assert journal.syncs == 0
    assert path.read_bytes() == MAGIC


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_off_anywhere_holds_its_whole_groups(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    written = write(path, 2, 1, 3)
    ends = []
    for groups in ((), (2,), (2, 1), (2, 1, 3)):
        other = path.with_name(f"whole{len(groups)}")
        write(other, *groups)
        ends.append(other.stat().st_size)
    cut %= ends[-1] + 1
    os.truncate(path, cut)
    whole = (0, 2, 3, 6)[sum(end <= cut for end in ends[1:])]
    with Journal(path) as journal:
        assert journal.entries == written[:whole]
        journal.append([entry(50)])
    with Journal(path) as journal:
        assert journal.entries == [*written[:whole], entry(50)]


def test_a_tampered_byte_before_the_end_is_refused(path: Path) -> None:
    write(path, 2, 1)
    data = bytearray(path.read_bytes())
    data[len(MAGIC) + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="changed at byte"):
        Journal(path)


def test_another_file_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else altogether")
    with pytest.raises(InputError, match="no journal"):
        Journal(path)


def test_a_second_holder_is_refused_even_in_another_process(path: Path) -> None:
    with Journal(path):
        with pytest.raises(EndedShortError, match="another process is settling"):
            Journal(path)
        code = (
            "import sys; from pathlib import Path\n"
            "from raygrid.settlement.journal import Journal\n"
            "Journal(Path(sys.argv[1]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
        assert "another process is settling" in done.stderr
    Journal(path).close()


def test_a_new_deployment_keeps_the_old_journal(path: Path) -> None:
    written = write(path, 2)
    with Journal(path) as journal:
        old = journal.archive()
        assert journal.entries == []
        journal.append([entry(7)])
    with Journal(path) as journal:
        assert journal.entries == [entry(7)]
    with Journal(old) as journal:
        assert journal.entries == written


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal")
