"""All cases on the same days: what is kept, taken over, written and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raygrid.errors import InputError
from raygrid.learning.cases import CASES, stages_table
from raygrid.learning.compare_cases import (
    CHECKPOINT,
    CasesOptions,
    Errand,
    Played,
    Weights,
    compare_cases,
    named_cases,
    open_community,
    play_here,
    table_three,
)
from raygrid.learning.environment import FEATURES
from raygrid.learning.market_day_result import DayCase, ForecastRule, MarketDays, StoreRule
from raygrid.results.ai_tem import Reproduction
from raygrid.results.ai_tem_printed import CaseName

SETTINGS = (
    "population.agents=8",
    "history.train_days=8",
    "history.validation_days=1",
    "history.test_days=2",
    "horizon.start=2016-03-25",
)
UNTRAINED = (
    CaseName.GRID_ONLY, CaseName.SELF_CONSUMPTION, CaseName.RULE, CaseName.OPTIMISATION,
    CaseName.BLOCKCHAIN, CaseName.FORESIGHT,
)  # fmt: skip


def options(out: Path, **more: object) -> CasesOptions:
    base = CasesOptions(out, "raygrid reproduce ai-tem", settings=SETTINGS, cases=UNTRAINED)
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, Path, list[str]]:
    lines: list[str] = []
    done, path = compare_cases(options(tmp_path_factory.mktemp("runs")), play_here, lines.append)
    return done, path, lines


def test_all_files_are_written_and_the_manifest_says_how(
    compared: tuple[Reproduction, Path, list[str]],
) -> None:
    done, path, lines = compared
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["status"] == "ok"
    assert manifest["days"] == [9, 10]
    assert manifest["bound"]["cost"] == done.bound.cost  # type: ignore[union-attr]
    assert set(manifest["files"]) == {
        "case_days.csv", "case_days.parquet", "comparison.csv", "comparison.parquet",
        "differences.csv", "differences.parquet", "figure7.svg", "scenario.resolved.yaml",
        "tables.md",
    }  # fmt: skip
    rows = pq.read_table(path / "case_days.parquet").to_pylist()
    assert [(row["case"], row["day"]) for row in rows[:3]] == [
        ("grid_only", 9), ("grid_only", 10), ("self_consumption", 9),
    ]  # fmt: skip
    assert "grid_only: day 2 of 2" in "\n".join(lines)


def test_no_case_costs_less_than_foresight(
    compared: tuple[Reproduction, Path, list[str]],
) -> None:
    done, _, _ = compared
    assert done.bound is not None
    costs = {case: sum(row.cost for row in rows) for case, rows in done.cases.items()}
    assert costs[CaseName.FORESIGHT] == pytest.approx(done.bound.cost, rel=1e-6)
    others = {c: cost for c, cost in costs.items() if c is not CaseName.FORESIGHT}
    assert min(others.values()) > done.bound.cost
    assert others[CaseName.SELF_CONSUMPTION] < others[CaseName.GRID_ONLY]


def test_only_who_trades_has_trades_and_only_chains_settle_them(
    compared: tuple[Reproduction, Path, list[str]],
) -> None:
    cases = compared[0].cases
    for case in (CaseName.GRID_ONLY, CaseName.SELF_CONSUMPTION):
        assert all(row.trades == 0 and row.cleared_kwh == 0 for row in cases[case])
    assert all(row.settlement_s is None for row in cases[CaseName.OPTIMISATION])
    for row in cases[CaseName.BLOCKCHAIN]:
        assert row.settled == row.submitted > row.trades > 0
        assert (row.settlement_s or 0) > 0


def test_energy_balances_every_day(compared: tuple[Reproduction, Path, list[str]]) -> None:
    """What goes in beside PV covers at least the fixed loads, where nothing is stored for long."""
    for rows in compared[0].cases.values():
        pv = sum(row.pv_kwh - row.curtailed_kwh for row in rows)
        net = sum(row.import_kwh - row.export_kwh for row in rows)
        assert pv + net > sum(row.load_kwh for row in rows)


def nobody(errands: Sequence[Errand]) -> Iterator[tuple[CaseName, Played]]:
    assert not errands, [errand.case for errand in errands]
    yield from ()


def test_an_earlier_comparison_is_taken_over(
    compared: tuple[Reproduction, Path, list[str]], tmp_path: Path
) -> None:
    done, path, _ = compared
    again, _ = compare_cases(options(tmp_path, resume=path), nobody)
    assert repr(again.days) == repr(done.days)  # nan differs from itself


def test_an_interrupted_comparison_goes_on_where_it_ended(tmp_path: Path) -> None:
    def interrupted(errands: Sequence[Errand]) -> Iterator[tuple[CaseName, Played]]:
        for count, played in enumerate(play_here(errands)):
            if count == 3:
                raise KeyboardInterrupt
            yield played

    cases = (CaseName.GRID_ONLY, CaseName.OPTIMISATION)
    with pytest.raises(KeyboardInterrupt):
        compare_cases(options(tmp_path, cases=cases), interrupted)
    (path,) = (tmp_path / "ai_tem-cases").iterdir()
    assert json.loads((path / "manifest.json").read_text())["status"] == "interrupted"
    kept = json.loads((path / CHECKPOINT / "optimisation_p2p.json").read_text())
    assert [day["day"] for day in kept["days"]] == [9]

    seen: list[tuple[CaseName, int]] = []

    def rest(errands: Sequence[Errand]) -> Iterator[tuple[CaseName, Played]]:
        for name, played in play_here(errands):
            seen.append((name, played[0].day))
            yield name, played

    resumed, _ = compare_cases(options(tmp_path, cases=cases, resume=path), rest)
    assert seen == [(CaseName.OPTIMISATION, 10)]
    whole, _ = compare_cases(options(tmp_path / "whole", cases=cases))
    for one, other in zip(resumed.days, whole.days, strict=True):
        assert replace(one, clearing_s=0.0) == replace(other, clearing_s=0.0)


def test_other_settings_are_other_days(
    compared: tuple[Reproduction, Path, list[str]], tmp_path: Path
) -> None:
    changed = options(
        tmp_path, settings=(*SETTINGS, "seed=2"), cases=(CaseName.GRID_ONLY,), resume=compared[1]
    )
    with pytest.raises(AssertionError, match="grid_only"):
        compare_cases(changed, nobody)


def test_fewer_days_are_the_first_ones(tmp_path: Path) -> None:
    done, _ = compare_cases(options(tmp_path, days=1, cases=(CaseName.GRID_ONLY,)))
    assert [row.day for row in done.days] == [9]


def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path) -> None:
    trained = options(tmp_path, cases=(CaseName.GRID_ONLY, CaseName.FULL))
    with pytest.raises(InputError, match=r"case 'ai_tem'.*needs weights that are missing"):
        compare_cases(trained, nobody)
    with pytest.raises(InputError, match="3 days, of 2 test days"):
        compare_cases(options(tmp_path, days=3), nobody)
    with pytest.raises(InputError, match="has no days to compare on"):
        compare_cases(options(tmp_path, scenario="community", settings=()), nobody)
    with pytest.raises(InputError, match="holds no days of a comparison"):
        compare_cases(options(tmp_path, resume=tmp_path), nobody)
    with pytest.raises(InputError, match="no case 'best'"):
        named_cases(["grid_only", "best"])
    assert named_cases(["ai_tem"]) == (CaseName.FULL,)


def test_the_rule_can_stand_for_bidders(tmp_path: Path) -> None:
    by_rule = options(tmp_path, cases=(CaseName.NO_FORECAST,), days=1, rule=True)
    done, path = compare_cases(by_rule)
    assert [row.case for row in done.days] == ["no_forecast"]
    assert "**No bidders were trained" in (path / "tables.md").read_text()
    assert "DQN" not in str(stages_table(rule=True))
    assert "DQN" in str(stages_table())


def test_the_stages_table_has_every_case() -> None:
    columns, rows = stages_table()
    assert len(rows) == len(CASES) == len(CaseName) - 1
    assert all(len(row) == len(columns) for row in rows)


def test_table_three_reads_what_train_compare_wrote(tmp_path: Path) -> None:
    scores = {
        "model": "lstm", "task": "step", "seed": 1, "load_rmse_percent": [5.0, 6.0],
        "pv_rmse_percent": [3.0, 4.0], "load_skill": [], "pv_skill": [],
    }  # fmt: skip
    for seed in (1, 2):
        text = json.dumps({"key": {}, "scores": scores | {"seed": seed}})
        (tmp_path / f"step-lstm-{seed}.json").write_text(text)
    (found,) = table_three(tmp_path)
    assert (found.model, found.seeds) == ("lstm", 2)
    assert found.load_percent.tolist() == [5.0, 6.0, 5.0, 6.0]
    assert table_three(None) == ()
    (tmp_path / "step-lstm-3.json").write_text("{}")
    with pytest.raises(InputError, match="no scores of a forecaster"):
        table_three(tmp_path)


def test_bidders_observe_what_was_planned() -> None:
    """The feed that plans are written into is the one that observations are made of."""
    community = open_community("ai_tem", SETTINGS, Weights(), 9, 2)
    case = DayCase("bids", forecast=ForecastRule.PERFECT, stores=StoreRule.POLICY, chain=False)
    days = MarketDays(community.found, case)
    done = days.run_day(9)
    assert days.bidder is not None
    assert done.plan is not None
    days.market.reset(np.array([9 * 96 + 40]))
    seen = days.bidder.observer.observe(days.market, None)[0, :, FEATURES.index("position")]
    scales = days.bidder.observer.scales
    wanted = done.plan.position_kw[40] / (scales.load_kw + scales.pv_kw)
    np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-7)


def test_a_community_is_built_once() -> None:
    one = open_community("ai_tem", SETTINGS, Weights(), 9, 2)
    assert open_community("ai_tem", SETTINGS, Weights(), 9, 2) is one
