"""Checkpoints: what is there after a kill, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.checkpoint import CheckpointWriter, for_hosts, read_checkpoint
from raygrid.errors import InputError
from raygrid.market.clearing import IterationRecord
from raygrid.market.messages import PriceMessage, RoundDecision, RoundOutcome

DIGEST = bytes(range(32))
BUSES = [np.array([0, 2]), np.array([1, 2])]


def outcome(iteration: int) -> RoundOutcome:
    pi = np.arange(6.0).reshape(3, 2) + iteration
    messages = tuple(PriceMessage(iteration, pi[buses], 0.1, 1.0) for buses in BUSES)
    record = IterationRecord(iteration, 1.0, 2.0, 0.1, 0.2, 0.1, 0.5) if iteration else None
    return RoundOutcome(RoundDecision.CONTINUE, record, 0.25, messages)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.bin"
    writer = CheckpointWriter(path, DIGEST)
    for iteration in range(4):
        writer.add(outcome(iteration), BUSES, 3)
    writer.close()
    return path


def test_there_and_back_for_any_placement(path: Path) -> None:
    past = read_checkpoint(path, DIGEST)
    assert [one.messages[0].iteration for one in past] == [0, 1, 2, 3]
    assert [one.record for one in past] == [outcome(k).record for k in range(4)]
    again = for_hosts(past[3], BUSES)
    for mine, theirs in zip(again.messages, outcome(3).messages, strict=True):
        assert np.array_equal(mine.pi_kw, theirs.pi_kw)
    whole = for_hosts(past[2], [np.arange(3)]).messages[0]
    assert np.array_equal(whole.pi_kw, np.arange(6.0).reshape(3, 2) + 2)


def test_a_round_that_was_cut_is_left_out(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data) - 120, len(data)):
        path.write_bytes(data[:length])
        assert len(read_checkpoint(path, DIGEST)) in (2, 3)


def test_a_file_that_grows_too_large_stops(tmp_path: Path) -> None:
    path = tmp_path / "small"
    writer = CheckpointWriter(path, DIGEST, limit_bytes=500)
    for iteration in range(10):
        writer.add(outcome(iteration), BUSES, 3)
    writer.close()
    assert path.stat().st_size <= 500
    past = read_checkpoint(path, DIGEST)
    assert [one.messages[0].iteration for one in past] == list(range(len(past)))
    assert past


def test_what_is_no_checkpoint_of_this_scenario_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="belongs to another scenario"):
        read_checkpoint(path, bytes(32))
    with pytest.raises(InputError, match="no checkpoint"):
        read_checkpoint(path.parent / "none", DIGEST)
    data = path.read_bytes()
    path.write_bytes(b"something else" + data)
    with pytest.raises(InputError, match="this is no checkpoint"):
        read_checkpoint(path, DIGEST)
    broken = bytearray(data)
    # The decision of the first round, behind what tells whose file it is and its length.
    broken[len(b"raygrid rounds 2") + 32 + 8] = 77
    path.write_bytes(bytes(broken))
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(path, DIGEST)


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    with pytest.raises(FileExistsError):
        CheckpointWriter(path, DIGEST)


def test_messages_are_not_changed(path: Path) -> None:
    one = outcome(1)
    before = [m.pi_kw.copy() for m in one.messages]
    writer = CheckpointWriter(path.parent / "other", DIGEST)
    writer.add(replace(one), BUSES, 3)
    writer.close()
    assert all(np.array_equal(a, m.pi_kw) for a, m in zip(before, one.messages, strict=True))
