"""The thesis' cases cleared on Ray and set beside its tables."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.cluster import Cluster, ClusterOptions
from actors.placement import PlacementPolicy
from actors.reproduce import ReproduceOptions, WarmMarkets, clearing_record, reproduce
from actors.session import Session
from raygrid import cli
from raygrid.errors import InputError
from raygrid.market.clearing import ClearingResult
from raygrid.scenario.case import Case

TINY = Path(__file__).resolve().parents[2] / "scenarios" / "tiny" / "scenario.yaml"


def test_a_clearing_in_the_tables_own_words(case: Case, reference: ClearingResult) -> None:
    record = clearing_record(case, reference)
    use = np.abs(reference.flow_kw) / case.network.limit_kw[:, None]
    assert record.status == "converged"
    assert record.iterations == len(reference.records)
    assert record.primal_residual == reference.records[-1].primal_residual
    assert record.lines == case.network.n_lines
    assert record.max_line_utilisation == pytest.approx(use.max(), rel=1e-12, abs=0)
    assert record.lines_above_80 == sum(line.max() > 0.8 for line in use)
    assert record.line_violations == 0


def test_a_clearing_without_rounds_has_no_residuals(case: Case, reference: ClearingResult) -> None:
    record = clearing_record(case, replace(reference, records=()))
    assert (record.iterations, record.primal_residual, record.dual_residual) == (0, None, None)


@pytest.mark.ray
@pytest.mark.slow
def test_actors_stay_from_clearing_to_clearing(cluster: Cluster) -> None:
    told: list[str] = []
    with (
        Session(ClusterOptions("local")) as session,
        WarmMarkets(session, PlacementPolicy.parse("2"), told.append, (str(TINY),)) as markets,
    ):
        free = markets.measure(str(TINY), network_constrained=False, rho=0.1, central=True)
        limited = markets.measure(str(TINY), network_constrained=True, rho=0.3, central=False)
    assert len(told) == 1
    assert limited.central is None
    assert free.admm.status == limited.admm.status == "converged"
    assert free.central is not None
    assert free.admm.welfare == pytest.approx(free.central.welfare, rel=1e-3, abs=0)
    assert limited.admm.welfare <= free.central.welfare
    assert limited.admm.line_violations == 0
    assert any("2 prosumer actors" in note for note in markets.notes)


@pytest.mark.ray
@pytest.mark.slow
def test_the_thesis_again_with_a_short_sweep(cluster: Cluster, tmp_path: Path) -> None:
    done = reproduce(
        ReproduceOptions(
            tmp_path, "raygrid reproduce thesis", PlacementPolicy.parse("2"), rhos=(0.1, 0.3)
        )
    )
    assert done.converged
    manifest = json.loads((done.path / "manifest.json").read_text())
    assert manifest["status"] == "ok"
    assert manifest["notes"].count("reconstructed data") == 1
    with (done.path / "comparison.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if row["quantity"] == "welfare":
            # The thesis prints two digits; its ADMM without limits is 0.01 below its optimum.
            assert abs(float(row["difference"])) < 0.015, row
        if row["quantity"] == "gap_percent":
            assert float(row["ours"]) <= 0.01, row
        if row["method"] == "admm" and row["network_constrained"] == "true":
            if row["quantity"] == "max_line_utilisation_percent":
                assert float(row["ours"]) <= 100 * (1 + 1e-6), row
            if row["quantity"] == "iterations":
                assert float(row["ours"]) <= 20, row
    first, second = done.sweep
    assert (first.rho, second.rho) == (0.1, 0.3)
    assert first.gap is not None
    assert first.gap <= 1e-4


def test_results_that_cannot_be_written_cost_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="results cannot be written there"):
        reproduce(ReproduceOptions(file / "below", "raygrid reproduce thesis"))


def test_the_command_refuses_a_wrong_placement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "sys.argv",
        ["raygrid", "reproduce", "thesis", "--actors", "none", "--out", str(tmp_path / "out")],
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "'none' is no placement" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
