"""Changing a finished run: all of the change or none of it, wherever it is interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raygrid.errors import InputError
from raygrid.results import update
from raygrid.results.files import MANIFEST
from raygrid.results.reader import RunReader
from raygrid.results.update import UPDATE, RunUpdate, finish_update


class Killed(Exception):
    pass


def new_trades(path: Path) -> pa.Table:
    """The run's trades, all settled."""
    trades = RunReader(path).read_table("trades")
    column = pa.repeat("settled", len(trades))
    return trades.set_column(trades.column_names.index("status"), "status", column)


def change(path: Path) -> None:
    trades = new_trades(path)
    changed = RunUpdate(path)
    changed.write_table("trades", trades)
    changed.write_text("summary.json", json.dumps({"status": "changed"}))
    changed.manifest["reason"] = "changed"
    changed.commit()


def states(path: Path) -> tuple[bool, ...]:
    """Which parts of the change a reader sees."""
    run = RunReader(path)
    run.verify()
    settled = pc.all(pc.equal(run.read_table("trades")["status"], "settled")).as_py()
    assert run.summary is not None
    return (settled, run.summary["status"] == "changed", run.manifest["reason"] == "changed")


def test_a_change_is_whole(make_run):
    path = make_run()
    assert not any(states(path))
    change(path)
    assert all(states(path))
    assert not (path / UPDATE).exists()


@pytest.mark.parametrize("killed_at", range(6))
def test_killed_anywhere_the_run_is_the_old_or_the_new_one(make_run, monkeypatch, killed_at):
    path = make_run()
    calls = 0

    def replace(source, target):
        nonlocal calls
        calls += 1
        if calls > killed_at:
            raise Killed
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            change(path)
    # Three new files (trades, summary, manifest) are staged first, then take their places.
    if killed_at < 3:
        assert not any(states(path))
        assert not finish_update(path)
        assert not any(states(path))
    else:
        with pytest.raises(InputError, match="interrupted"):
            RunReader(path)
        assert finish_update(path)
        assert all(states(path))
    assert not (path / UPDATE).exists()
    assert not finish_update(path)


def test_the_next_change_finishes_the_one_before(make_run, monkeypatch):
    path = make_run()
    with monkeypatch.context() as patch:
        patch.setattr(update, "finish_update", lambda _: False)
        change(path)
    assert (path / UPDATE / MANIFEST).is_file()
    RunUpdate(path).drop()
    assert all(states(path))


def test_a_run_that_cannot_be_changed_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be changed"):
        RunUpdate(tmp_path / "none")
