"""AI-TEM's tables and figure from days that are made up."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from raygrid.results import ai_tem
from raygrid.results.ai_tem import Bound, ForecastScore, Reproduction
from raygrid.results.ai_tem_figure import figure7
from raygrid.results.ai_tem_printed import CaseName, Quantity, printed
from raygrid.results.case_days import (
    CaseDay,
    by_case,
    case_days_table,
    quantities,
    saving_share,
    utilisation,
)
from raygrid.results.paired import Spread

BASE = CaseDay(
    case="grid_only", day=150, cost=100.0, wear=0.0, fees=0.0, load_kwh=300.0, pv_kwh=200.0,
    curtailed_kwh=0.0, import_kwh=400.0, export_kwh=100.0, peak_kw=80.0, clearing_s=0.01,
    lowest_voltage_pu=0.97, highest_voltage_pu=1.02, highest_loading=0.5,
)  # fmt: skip


def some_days(case: CaseName, costs: list[float], **more: object) -> list[CaseDay]:
    return [
        replace(BASE, case=str(case), day=150 + k, cost=cost, **more)
        for k, cost in enumerate(costs)
    ]


@pytest.fixture
def done() -> Reproduction:
    days = [
        *some_days(CaseName.GRID_ONLY, [100.0, 120.0, 80.0]),
        *some_days(CaseName.RULE, [90.0, 96.0, 76.0], cleared_kwh=50.0, delivered_kwh=40.0),
        *some_days(
            CaseName.FULL, [80.0, 90.0, 68.0], export_kwh=20.0, import_kwh=300.0, wear=3.0,
            cleared_kwh=50.0, delivered_kwh=45.0, settlement_s=0.02, trades=9,
            submitted=12, settled=12,
        ),
        *some_days(CaseName.FORESIGHT, [60.0, 70.0, 50.0], export_kwh=10.0),
    ]  # fmt: skip
    stages = (("Case", "Stores"), [("Grid-only", "rest")])
    score = ForecastScore("lstm", 2, np.array([5.0, 6.0]), np.array([3.0, 4.0]))
    return Reproduction(tuple(days), Bound(179.0, 1.0), (score,), stages, "EUR")


def test_printed_cells_are_those_of_the_paper() -> None:
    assert printed("IV")[CaseName.FULL, Quantity.UTILISATION] == Spread(87.5, 1.2)
    assert printed("IV")[CaseName.BLOCKCHAIN, Quantity.PEAK] == Spread(88.6, 1.1)
    assert printed("V")[CaseName.FULL, Quantity.LATENCY] == Spread(0.84, 0.06)
    assert (CaseName.RULE, Quantity.LATENCY) not in printed("V")
    assert printed("VI")[CaseName.NO_CHAIN, Quantity.COST] == Spread(78.3, 1.4)
    assert [len(printed(table)) for table in ("IV", "V", "VI")] == [20, 10, 15]


def test_shares_are_of_the_same_day_of_grid_only(done: Reproduction) -> None:
    found = quantities(done.cases)
    np.testing.assert_allclose(found[CaseName.FULL, Quantity.COST], [80.0, 75.0, 85.0])
    np.testing.assert_allclose(found[CaseName.FULL, Quantity.IMPORT], 75.0)
    np.testing.assert_allclose(found[CaseName.FULL, Quantity.UTILISATION], 90.0)
    np.testing.assert_allclose(found[CaseName.GRID_ONLY, Quantity.COST], 100.0)
    np.testing.assert_allclose(found[CaseName.FULL, Quantity.SUCCESS], 90.0)
    assert (CaseName.RULE, Quantity.LATENCY) not in found
    assert (CaseName.GRID_ONLY, Quantity.SUCCESS) not in found
    assert (CaseName.FORESIGHT, Quantity.CLEARING) not in found


def test_curtailed_pv_is_not_used() -> None:
    day = replace(BASE, curtailed_kwh=20.0)
    np.testing.assert_allclose(utilisation([day, replace(BASE, pv_kwh=0.0)]), [0.4, 1.0])


def test_without_grid_only_nothing_is_normalised(done: Reproduction) -> None:
    cases = by_case(day for day in done.days if day.case != "grid_only")
    assert {quantity for _, quantity in quantities(cases)} == {
        Quantity.UTILISATION, Quantity.CLEARING, Quantity.LATENCY, Quantity.SUCCESS,
    }  # fmt: skip
    assert saving_share(cases, 100.0) == {}


def test_share_of_the_possible_saving(done: Reproduction) -> None:
    """300 less 179 are possible; the full case saves 62, the rule 38."""
    share = saving_share(done.cases, 179.0)
    assert share[CaseName.FULL] == pytest.approx(62 / 121)
    assert share[CaseName.RULE] == pytest.approx(38 / 121)
    assert share[CaseName.GRID_ONLY] == 0.0
    assert share[CaseName.FORESIGHT] == pytest.approx(120 / 121)


def test_days_of_a_case_come_in_order() -> None:
    rows = some_days(CaseName.FULL, [1.0, 2.0, 3.0])
    assert [row.day for row in by_case(reversed(rows))[CaseName.FULL]] == [150, 151, 152]


def test_the_full_case_is_paired_with_every_other(done: Reproduction) -> None:
    found = ai_tem.pairings(done)
    assert [(p.quantity, p.other) for p in found[:2]] == [
        ("cost", CaseName.GRID_ONLY),
        ("cost", CaseName.RULE),
    ]
    assert found[0].difference.mean == pytest.approx(-62 / 3)
    assert found[1].difference.mean == pytest.approx(-8.0)
    # -10, -6 and -8: standard error 2 / sqrt(3), t with 2 degrees of freedom 4.3027.
    assert found[1].difference.high == pytest.approx(-8 + 4.30265 * 2 / np.sqrt(3), abs=1e-4)
    assert found[1].corrected_p == pytest.approx(2 * min(p.difference.p_value for p in found[:2]))
    assert ai_tem.pairings_table(found).num_rows == 6
    assert ai_tem.pairings(replace(done, days=done.days[:3])) == []
    alike = tuple(replace(d, case="no_rl") if d.case == "ai_tem" else d for d in done.days)
    assert [p.difference for p in ai_tem.pairings(replace(done, days=alike))] == [
        p.difference for p in found
    ]
    assert "## without RL less each other" in ai_tem.markdown(replace(done, days=alike), "x")
    assert ai_tem.pairings_table([]).num_rows == 0


def test_every_printed_cell_is_in_the_comparison(done: Reproduction) -> None:
    rows = ai_tem.comparison_table(done).to_pylist()
    at = {(r["table"], r["row"], r["quantity"]): r for r in rows}
    cost = at["IV", "ai_tem", "cost_percent"]
    assert (cost["printed"], cost["printed_deviation"]) == (78.5, 1.5)
    assert (cost["ours"], cost["our_deviation"]) == (80.0, 5.0)
    assert at["IV", "optimisation_p2p", "cost_percent"]["ours"] is None
    assert at["III", "lstm", "pv_rmse_percent"]["printed"] == 2.68
    assert at["III", "lstm", "load_rmse_percent"]["ours"] == 5.5
    for table in ("IV", "V", "VI"):
        for case, quantity in printed(table):
            assert at[table, str(case), str(quantity)]["printed"] is not None


def test_the_page_sets_printed_beside_ours(done: Reproduction) -> None:
    page = ai_tem.markdown(done, "raygrid reproduce ai-tem")
    assert "| AI-TEM in full | 80.0 ± 5.0 | 78.5 ± 1.5 | 90.0 ± 0.0 | 87.5 ± 1.2 |" in page
    assert "| AI-TEM in full | 36 | 36 | 100.00 |" in page
    assert "Table III" in page
    assert "59.67 EUR a day" in page
    assert "59.7 % of what grid-only costs" in page
    text = ai_tem.text(done)
    assert "Table VI: what each part is worth" in text
    assert "nan" not in page + text
    alone = replace(done, days=done.days[:3], bound=None, forecasters=())
    assert "Table III" not in ai_tem.text(alone)


def test_one_day_has_no_deviation(done: Reproduction) -> None:
    days = tuple(day for day in done.days if day.day == 150)
    page = ai_tem.markdown(replace(done, days=days), "x")
    assert "| AI-TEM in full | 80.0 | 78.5 ± 1.5 |" in page
    assert "nan" not in page


def test_the_figure_is_valid_svg_with_a_bar_for_each_case(done: Reproduction) -> None:
    picture = ElementTree.fromstring(figure7(done))
    titles = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert "AI-TEM in full: 80.0" in titles
    assert "AI-TEM in full: 90.0" in titles
    assert titles.count("printed: 78.5") == 1
    assert float(picture.attrib["viewBox"].split()[3]) > 300


def test_days_survive_parquet(done: Reproduction) -> None:
    rows = case_days_table(done.days).to_pylist()
    assert CaseDay(**rows[-1]).cost == 50.0
    assert rows[0]["settlement_s"] is None
