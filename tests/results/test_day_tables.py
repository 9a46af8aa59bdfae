"""Tables of several days: parts while the run goes on, one table at its end."""

import numpy as np
import pyarrow as pa
import pytest

from raygrid.errors import InputError
from raygrid.results import store
from raygrid.results.day_tables import DayTables
from raygrid.results.files import RunStatus
from raygrid.results.reader import RunReader
from raygrid.results.store import RunInfo, RunWriter
from raygrid.results.update import RunUpdate

T = 4


def tariffs(day):
    price = np.full(T, 0.1 + day)
    names = ("import_price_per_kwh", "export_price_per_kwh", "import_limit_kw", "export_limit_kw")
    return pa.table({"period": day * T + np.arange(T)} | dict.fromkeys(names, price))


def flows(day):
    """Two lines, of which each day brings all periods."""
    columns = {"line": np.repeat([1, 2], T), "period": np.tile(day * T + np.arange(T), 2)}
    return pa.table(columns | dict.fromkeys(("flow_kw", "limit_kw"), np.full(2 * T, 1.0 + day)))


@pytest.fixture
def writer(tmp_path):
    with RunWriter(tmp_path, "made_up", RunInfo("test", 1.0, 1, True, "EUR")) as writer:
        yield writer


def finished(writer):
    writer.finish(RunStatus.OK, {})
    run = RunReader(writer.path)
    run.verify()
    return run


@pytest.mark.parametrize("n_days", [1, 3])
def test_small_tables_are_one_sorted_file(writer, n_days):
    tables = DayTables(writer, n_days)
    for day in range(n_days):
        tables.write("flows", day, flows(day))
        tables.write("tariffs", day, tariffs(day))
        assert set(tables.read("flows", day)["period"].to_pylist()) == {
            day * T + k for k in range(T)
        }
    assert tables.read("flows", columns=["period"]).num_rows == 2 * T * n_days
    tables.close()
    run = finished(writer)
    assert (run.path / "flows.parquet").is_file()
    found = run.read_table("flows")
    assert found["line"].to_pylist() == [1] * T * n_days + [2] * T * n_days
    assert found["period"].to_pylist() == 2 * list(range(T * n_days))
    assert run.read_table("tariffs")["period"].to_pylist() == list(range(T * n_days))


def test_large_tables_stay_in_parts_in_the_order_of_days(writer, monkeypatch):
    monkeypatch.setattr(store, "MERGE_ROWS", 5)
    tables = DayTables(writer, 12)
    for day in range(12):
        tables.write_pieces("tariffs", day, [tariffs(day).slice(0, 2), tariffs(day).slice(2)])
    tables.close()
    run = finished(writer)
    assert (run.path / "tariffs.parquet").is_dir()
    assert run.read_table("tariffs")["period"].to_pylist() == list(range(12 * T))


def test_a_table_may_be_replaced_as_a_whole(writer):
    tables = DayTables(writer, 2)
    for day in range(2):
        tables.write("tariffs", day, tariffs(day))
    tables.replace("tariffs", tariffs(7))
    tables.close()
    assert finished(writer).read_table("tariffs")["period"].to_pylist() == [28, 29, 30, 31]


def interrupted(writer):
    with writer:
        tables = DayTables(writer, 3)
        tables.write("tariffs", 0, tariffs(0))
        tables.write("tariffs", 1, tariffs(1))
        raise KeyboardInterrupt


def test_what_an_ended_run_wrote_is_read(tmp_path):
    writer = RunWriter(tmp_path, "made_up", RunInfo("test", 1.0, 1, True, "EUR"))
    with pytest.raises(KeyboardInterrupt):
        interrupted(writer)
    run = RunReader(writer.path, allow_unfinished=True)
    assert run.read_table("tariffs")["period"].to_pylist() == list(range(2 * T))


def test_a_finished_run_s_parts_are_replaced_by_one_file(writer, monkeypatch):
    monkeypatch.setattr(store, "MERGE_ROWS", 5)
    tables = DayTables(writer, 2)
    for day in range(2):
        tables.write("tariffs", day, tariffs(day))
    tables.close()
    path = finished(writer).path
    update = RunUpdate(path)
    update.write_table("tariffs", tariffs(5))
    update.commit()
    run = RunReader(path)
    run.verify()
    assert run.read_table("tariffs")["period"].to_pylist() == [20, 21, 22, 23]


@pytest.mark.parametrize("joined", [False, True])
def test_an_earlier_run_s_days_are_taken_over(tmp_path, writer, joined):
    """Whether that run was killed before or after its parts had become one file."""
    earlier = RunWriter(tmp_path / "earlier", "made_up", RunInfo("test", 1.0, 1, True, "EUR"))
    tables = DayTables(earlier, 3)
    for day in range(2):
        tables.write("tariffs", day, tariffs(day))
        tables.write("flows", day, flows(day))
    parts = [tables.parts_of(day) for day in range(2)]
    assert [part.file for part in parts[1]["flows"]] == ["day-00001/part-00000.parquet"]
    if joined:
        tables.replace("flows", flows(7))
        tables.close()
    mine = DayTables(writer, 3)
    for day in range(2):
        mine.take_over(earlier.path, day, parts[day])
    for name, rows in (("tariffs", tariffs(2)), ("flows", flows(2))):
        mine.write(name, 2, rows)
    assert mine.read("flows", 1).to_pydict() == flows(1).to_pydict()
    mine.close()
    mine.discard()
    run = finished(writer)
    assert run.read_table("tariffs")["period"].to_pylist() == list(range(3 * T))
    assert sorted(path.name for path in run.path.iterdir()) == [
        "flows.parquet", "manifest.json", "tariffs.parquet",
    ]  # fmt: skip
    assert earlier.path.joinpath(".flows.parquet.parts").exists() == joined


def test_a_changed_part_of_an_earlier_run_is_refused(tmp_path, writer):
    earlier = RunWriter(tmp_path / "earlier", "made_up", RunInfo("test", 1.0, 1, True, "EUR"))
    tables = DayTables(earlier, 3)
    tables.write("tariffs", 0, tariffs(0))
    parts = tables.parts_of(0)
    part = earlier.path / "tariffs.parquet" / parts["tariffs"][0].file
    part.write_bytes(part.read_bytes() + b" ")
    with pytest.raises(InputError, match="not the file that the run wrote"):
        DayTables(writer, 3).take_over(earlier.path, 0, parts)
    part.unlink()
    with pytest.raises(InputError, match="the file is missing"):
        DayTables(writer, 3).take_over(earlier.path, 0, parts)
