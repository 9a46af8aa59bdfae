"""The run folder: round trips, exact schemas, and what happens when something goes wrong."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raygrid import schemas
from raygrid.errors import FullDiskError, InputError
from raygrid.results import folder, frames, store
from raygrid.results.files import RunStatus, json_safe
from raygrid.results.folder import check_writable
from raygrid.results.reader import RunReader
from raygrid.results.store import RunInfo, RunWriter, write_part

INFO = RunInfo("raygrid simulate tiny", 1.0, 1, True, "$", notes=("reconstructed data",))


def price_table(value=0.1):
    return pa.table(
        {"bus": [1], "period": [0], "lmp_per_kwh": [value], "settlement_price_per_kwh": [0.2]}
    )


def test_every_table_comes_back_with_its_exact_schema(make_run):
    run = RunReader(make_run(settled=True))
    tables = set(schemas.TABLES) - {"buses", "stores", "forecasts", "intraday", "calibration"}
    assert {file.removesuffix(".parquet") for file in run.manifest["files"]} == tables | {
        "ptdf.npz",
        "scenario.resolved.yaml",
        "summary.json",
    }
    for name in tables:
        exact = schemas.TABLES[name]
        # A case's tables may add columns (size_weight, r_pu) after the exact ones.
        for found in (run.read_table(name).schema, pq.read_schema(run.path / f"{name}.parquet")):
            further = found.names[len(exact) :]
            assert list(found)[: len(exact)] == list(exact), name
            assert not further or name in schemas.EXTENSIBLE
    run.verify()


def test_ptdf_comes_back(make_run):
    path = make_run(n_buses=5)
    with np.load(path / "ptdf.npz") as stored:
        assert set(stored) == {"ptdf", "line", "bus"}
        assert stored["ptdf"].shape == (len(stored["line"]), len(stored["bus"]))


def test_manifest_has_what_readers_rely_on(make_run):
    manifest = RunReader(make_run()).manifest
    assert set(manifest) == {
        "schema_version", "scenario", "run_id", "status", "reason", "command", "period_hours",
        "slack_bus", "network_constrained", "currency", "seeds", "cluster", "notes", "created",
        "finished", "versions", "machine", "git_commit", "job", "welfare_bound", "seconds", "files",
    }  # fmt: skip
    assert manifest["status"] == "ok"
    assert manifest["command"] == "raygrid simulate toy"
    for package in ("python", "raygrid", "ray", "numpy", "scipy", "numba", "pyarrow"):
        assert manifest["versions"][package], package
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in manifest["files"].values())


def test_summary_has_exactly_the_keys_of_the_design(make_run):
    summary = RunReader(make_run(settled=True)).summary
    assert list(summary["clearing"]) == [
        "status", "iterations", "primal_residual", "dual_residual", "primal_tolerance",
        "dual_tolerance", "welfare", "energy_traded_kwh", "grid_import_kwh",
        "max_line_utilisation", "network_constrained", "line_violations",
        "max_balance_error_kw", "settlement_price_surplus", "settlement_price_tariff_difference",
        "locational_price_surplus", "locational_price_tariff_difference", "seconds",
    ]  # fmt: skip
    assert list(summary["central"]) == ["welfare", "gap", "seconds"]
    assert list(summary["settlement"]) == [
        "chain", "trades", "verified", "rejected", "settled", "failed", "energy_kwh", "value",
        "network_value", "batches", "transactions", "gas_total", "gas_per_trade",
        "trades_per_second", "seconds",
    ]  # fmt: skip
    assert list(summary["seconds"]) == ["ray_start", "build", "clear", "total"]
    assert set(summary) == {
        "schema_version", "scenario", "run_id", "status", "prosumers", "actors", "periods",
        "buses", "lines", "clearing", "central", "settlement", "forecast", "intraday",
        "powerflow", "memory", "communication", "days", "seconds",
    }  # fmt: skip
    np.testing.assert_allclose(summary["central"]["gap"], 4e-5, rtol=1e-3)


def test_stages_that_did_not_run_are_null(make_run):
    summary = RunReader(make_run(stages=False)).summary
    stages = ("clearing", "central", "settlement", "forecast", "intraday", "powerflow")
    assert [summary[stage] for stage in stages] == [None] * 6


def test_two_runs_never_share_a_folder(tmp_path):
    writers = [RunWriter(tmp_path, "tiny", INFO) for _ in range(20)]
    assert len({writer.path for writer in writers}) == 20
    ids = [writer.run_id for writer in writers]
    assert [name[:19] for name in sorted(ids)] == [name[:19] for name in ids]


def test_a_taken_run_id_is_not_reused(tmp_path, monkeypatch):
    first = RunWriter(tmp_path, "tiny", INFO)
    tokens = iter([first.run_id[-6:], "ffffff"])
    frozen = folder.datetime.strptime(first.run_id[:19] + "000Z", "%Y%m%dT%H%M%S-%f%z")

    class Clock(folder.datetime):
        @classmethod
        def now(cls, tz=None):
            return frozen

    monkeypatch.setattr(folder, "datetime", Clock)
    monkeypatch.setattr(folder.secrets, "token_hex", lambda n: next(tokens))
    assert RunWriter(tmp_path, "tiny", INFO).run_id == first.run_id[:-6] + "ffffff"


def test_a_run_under_way_says_running_and_is_refused(tmp_path):
    writer = RunWriter(tmp_path, "tiny", INFO)
    assert json.loads((writer.path / "manifest.json").read_text())["status"] == "running"
    with pytest.raises(InputError, match="unfinished \\('running'\\)"):
        RunReader(writer.path)
    writer.write_table("prices", price_table())
    run = RunReader(writer.path, allow_unfinished=True)
    assert run.read_table("prices").num_rows == 1
    assert run.summary is None


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "stopped by the user"),
        (RuntimeError("host died"), "failed", "host died"),
    ],
)
def test_a_run_cut_short_keeps_what_it_had(tmp_path, error, status, reason):
    with pytest.raises(type(error)), RunWriter(tmp_path, "tiny", INFO) as writer:  # noqa: PT012
        writer.write_table("prices", price_table())
        raise error
    run = RunReader(writer.path, allow_unfinished=True)
    assert (run.status, run.manifest["reason"]) == (status, reason)
    assert run.read_table("prices").num_rows == 1
    with pytest.raises(InputError, match=f"unfinished \\('{status}'\\)"):
        RunReader(writer.path)


def test_a_run_that_is_interrupted_while_it_finishes_says_so(tmp_path, monkeypatch):
    """Not 'running', however late it is: everything is there but the word that it is."""
    whole = folder.write_atomically

    def interrupted(path, write, about_bytes=0):
        monkeypatch.setattr(folder, "write_atomically", whole)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), RunWriter(tmp_path, "tiny", INFO) as writer:  # noqa: PT012
        monkeypatch.setattr(folder, "write_atomically", interrupted)
        writer.finish(RunStatus.OK, {})
    assert RunReader(writer.path, allow_unfinished=True).status is RunStatus.INTERRUPTED


def test_a_run_that_is_left_without_a_result_failed(tmp_path):
    with RunWriter(tmp_path, "tiny", INFO) as writer:
        pass
    assert RunReader(writer.path, allow_unfinished=True).status is RunStatus.FAILED


def test_a_run_that_ended_short_is_finished(tmp_path):
    writer = RunWriter(tmp_path, "tiny", INFO)
    writer.finish(RunStatus.ENDED_SHORT, {}, "iteration limit", welfare_bound=3.0)
    run = RunReader(writer.path)
    assert run.manifest["reason"] == "iteration limit"
    assert run.manifest["welfare_bound"] == 3.0


def test_a_run_cannot_finish_unfinished(tmp_path):
    with pytest.raises(ValueError, match="cannot finish as 'running'"):
        RunWriter(tmp_path, "tiny", INFO).finish(RunStatus.RUNNING, {})


def test_files_are_written_once(tmp_path):
    writer = RunWriter(tmp_path, "tiny", INFO)
    writer.write_table("prices", price_table())
    with pytest.raises(ValueError, match=r"prices\.parquet: a run's file is written once"):
        writer.write_table("prices", price_table())
    writer.finish(RunStatus.OK, {})
    with pytest.raises(ValueError, match="before it is finished"):
        writer.write_scenario("name: tiny")


def test_a_changed_file_is_detected(make_run):
    path = make_run()
    pq.write_table(price_table(9.9), path / "prices.parquet")
    run = RunReader(path)
    with pytest.raises(InputError, match=r"prices\.parquet: .*hash differs"):
        run.read_table("prices")
    with pytest.raises(InputError, match="hash differs"):
        run.verify()


def test_a_missing_file_is_detected(make_run):
    path = make_run()
    (path / "flows.parquet").unlink()
    with pytest.raises(InputError, match=r"flows\.parquet: the file is missing"):
        RunReader(path).read_table("flows")


def test_the_manifest_is_replaced_atomically(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path, "tiny", INFO)
    before = (writer.path / "manifest.json").read_bytes()

    def broken(source, target):
        # Everything is on disk under another name before the old manifest goes.
        assert json.loads(Path(source).read_text())["status"] == "ok"
        assert (writer.path / "manifest.json").read_bytes() == before
        raise OSError("disk pulled")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk pulled"):
        writer.finish(RunStatus.OK, {})
    assert (writer.path / "manifest.json").read_bytes() == before
    assert [path.name for path in writer.path.iterdir()] == ["manifest.json"]


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    blocked = tmp_path / "a-file"
    blocked.write_text("here first")
    for out in (blocked, blocked / "below"):
        with pytest.raises(InputError, match=f"--out {out}: results cannot be written") as caught:
            check_writable(out)
        assert caught.value.exit_code == 2
        with pytest.raises(InputError, match="results cannot be written"):
            RunWriter(out, "tiny", INFO)


def test_checking_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
def test_scenario_names_stay_inside_the_results_folder(tmp_path, name):
    with pytest.raises(InputError, match="cannot name a folder"):
        RunWriter(tmp_path, name, INFO)
    assert list(tmp_path.iterdir()) == []


def test_no_run_newer_layout_and_broken_manifest_are_refused(tmp_path, make_run):
    with pytest.raises(InputError, match="name the folder of a raygrid run"):
        RunReader(tmp_path / "nowhere")
    path = make_run()
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(InputError, match="layout is version 99"):
        RunReader(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        RunReader(path)


def test_a_scenario_folder_means_its_newest_run(make_run):
    make_run(n=5, n_buses=4)
    newest = make_run(n=5, n_buses=4)
    assert RunReader(newest.parent).path == newest


def test_a_full_disk_is_said(tmp_path):
    def full(stream):
        raise OSError(28, "No space left on device")

    writer = RunWriter(tmp_path, "tiny", INFO)
    said = r"big\.bin was not written: No space left on device; it takes up to .* GB are free there"
    with pytest.raises(FullDiskError, match=said):
        writer.write_file("big.bin", full)
    assert [path.name for path in writer.path.iterdir()] == ["manifest.json"]


def test_parts_become_one_sorted_file_when_few(tmp_path, case_and_dispatch):
    case, dispatch = case_and_dispatch
    whole = frames.schedule_table(case.population, case.network.bus_id, dispatch)
    writer = RunWriter(tmp_path, "tiny", INFO)
    parts = writer.part_folder("schedule")
    records = [
        write_part(parts, "schedule", 1, whole.slice(0, 8)),
        write_part(parts, "schedule", 0, whole.slice(8)),
    ]
    writer.add_parts("schedule", records)
    writer.finish(RunStatus.OK, {})
    assert (writer.path / "schedule.parquet").is_file()
    assert RunReader(writer.path).read_table("schedule").equals(whole)
    assert {path.name for path in writer.path.iterdir()} == {"manifest.json", "schedule.parquet"}


def test_pieces_become_parts_where_there_are_several(
    tmp_path, case_and_dispatch, result_of, monkeypatch
):
    case, dispatch = case_and_dispatch
    result, network = result_of(case, dispatch), case.network
    whole = frames.prices_table(network, result)
    for rows, n_files in ((whole.num_rows, 1), (8, 3)):
        monkeypatch.setattr(store, "MERGE_ROWS", rows)
        writer = RunWriter(tmp_path / str(rows), "tiny", INFO)
        some = frames.pieces(network.n_buses, case.n_periods, rows)
        writer.write_pieces(
            "prices", (frames.prices_table(network, result, buses=part) for part in some)
        )
        writer.finish(RunStatus.OK, {})
        run = RunReader(writer.path)
        assert run.read_table("prices").equals(whole)
        assert len(run.manifest["files"]) == n_files


def test_many_rows_stay_a_folder_of_hashed_parts(tmp_path, case_and_dispatch, monkeypatch):
    monkeypatch.setattr(store, "MERGE_ROWS", 10)
    case, dispatch = case_and_dispatch
    whole = frames.schedule_table(case.population, case.network.bus_id, dispatch)
    writer = RunWriter(tmp_path, "tiny", INFO)
    parts = writer.part_folder("schedule")
    records = [write_part(parts, "schedule", k, whole.slice(8 * k, 8)) for k in (2, 0, 1)]
    # A host that was restarted writes its part again.
    records[0] = write_part(parts, "schedule", 2, whole.slice(16, 8))
    writer.add_parts("schedule", records)
    writer.finish(RunStatus.OK, {})
    run = RunReader(writer.path)
    assert run.has("schedule.parquet")
    assert run.read_table("schedule").equals(whole)
    assert run.read_table("schedule", ["p_kw"]).column_names == ["p_kw"]
    assert list(run.manifest["files"]) == [
        f"schedule.parquet/part-0000{k}.parquet" for k in (0, 1, 2)
    ]
    pq.write_table(whole, parts / "part-00001.parquet")
    with pytest.raises(InputError, match=r"part-00001\.parquet: .*hash differs"):
        run.read_table("schedule")


def test_parts_of_an_unfinished_run_can_be_read(tmp_path, case_and_dispatch):
    case, dispatch = case_and_dispatch
    whole = frames.schedule_table(case.population, case.network.bus_id, dispatch)
    writer = RunWriter(tmp_path, "tiny", INFO)
    write_part(writer.part_folder("schedule"), "schedule", 0, whole)
    run = RunReader(writer.path, allow_unfinished=True)
    assert run.read_table("schedule").equals(whole)


def test_parts_that_lie_elsewhere_are_named(tmp_path):
    writer = RunWriter(tmp_path, "tiny", INFO)
    writer.part_folder("schedule")
    with pytest.raises(InputError, match="written on another machine"):
        writer.add_parts("schedule", [store.PartRecord("part-00000.parquet", "0" * 64, 3)])


def test_numbers_that_json_lacks_become_null(make_run):
    assert json_safe({"a": float("nan"), 1: [np.inf, np.float64(2.0), np.int64(3)]}) == {
        "a": None,
        "1": [None, 2.0, 3],
    }


def test_nan_in_the_summary_is_null(tmp_path, make_run):
    from raygrid.results.summary import Seconds, Summary

    writer = RunWriter(tmp_path, "tiny", INFO)
    nan = float("nan")
    seconds = Seconds(nan, 0.0, 0.0, 1.0)
    summary = Summary("tiny", writer.run_id, "ok", 1, 1, 1, 1, 0, None, None, seconds)
    writer.write_summary(replace(summary, forecast={"mape": float("inf")}))
    text = (writer.path / "summary.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["seconds"]["ray_start"] is None
    assert json.loads(text)["forecast"] == {"mape": None}
