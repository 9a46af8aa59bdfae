"""Settlement in the report: figures 6.14 to 6.16, Table 6.8, statements and findings."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from raygrid.prosumer.population import GRID_ID
from raygrid.results.reader import RunReader
from raygrid.results.report import render_report
from raygrid.results.run_data import load_run
from raygrid.results.settlement_figures import activity, sellers, volume
from raygrid.results.summary import settlement_summary


@pytest.fixture
def run(make_run):
    return RunReader(make_run(settled=True))


def rows_of(page, key):
    found = re.search(rf'id="table-{key}".*?</section>', page, flags=re.S)
    if found is None:
        return None
    body = found.group().split("<tbody>")[1]
    return [re.findall(r"<td>(.*?)</td>", row, flags=re.S) for row in body.split("</tr>")[:-1]]


def plain(cell):
    return float(cell.replace("\u2009", "").replace("\u2212", "-"))


def test_sums_by_period_and_seller_are_those_of_the_trades(run):
    data, trades = load_run(run), run.read_table("trades")
    a = data.activity
    for status in ("settled", "rejected"):
        rows = trades.filter(pc.equal(trades["status"], status))
        assert rows.num_rows
        period = rows["period"].to_numpy()
        np.testing.assert_array_equal(a.trades[status], np.bincount(period, minlength=24))
        kwh = np.bincount(period, weights=rows["energy_wh"].to_numpy(), minlength=24) / 1e3
        np.testing.assert_allclose(a.energy_kwh[status], kwh, rtol=1e-12, atol=1e-12)
    assert not a.trades["unsettled"].any()
    kept = trades.filter(pc.equal(trades["status"], "settled"))
    np.testing.assert_allclose(
        a.seller_kwh.sum(), sum(kept["energy_wh"].to_pylist()) / 1e3, rtol=1e-12, atol=0
    )
    first = a.seller_kwh[a.seller == GRID_ID].sum()
    grid = kept.filter(pc.equal(kept["seller_id"], GRID_ID))
    np.testing.assert_allclose(first, sum(grid["energy_wh"].to_pylist()) / 1e3, rtol=1e-12)


def test_figures_name_what_was_settled_and_rejected(run):
    data = load_run(run)
    settlement = data.summary["settlement"]
    first, second, third = activity(data), volume(data), sellers(data)
    assert f"{settlement['rejected']} rejected" in first.caption
    assert "The settled trades move" in second.caption
    assert "<svg" in third.svg
    assert "participants sell" in third.caption


def test_a_run_without_settlement_shows_what_was_cleared(make_run):
    data = load_run(RunReader(make_run()))
    assert "cleared, not settled" in activity(data).caption
    assert "The trades move" in volume(data).caption
    page = render_report(data)
    for key in ("settlement", "statements", "findings", "batches"):
        assert rows_of(page, key) is None


def test_table_6_8(run):
    page = render_report(load_run(run))
    cells = dict(rows_of(page, "settlement"))
    s = run.summary["settlement"]
    assert plain(cells["Bilateral trades (market output)"]) == s["trades"]
    assert plain(cells["Trades settled"]) == s["settled"]
    assert plain(cells["Failed"]) == 0
    assert cells["Success rate, of the verified ones"] == "100 %"
    assert plain(cells["Gas of all transactions"]) == 1_200_000


def test_table_6_8_stands_beside_the_printed_one_for_the_thesis_case(make_run):
    data = load_run(RunReader(make_run(settled=True, name="ieee14")))
    rows = {row[0]: row[2] for row in rows_of(render_report(data), "settlement")}
    assert rows["Trades settled"] == "2\u2009795"
    assert rows["Success rate, of the verified ones"] == "100 %"
    free = replace(data, manifest=data.manifest | {"network_constrained": False})
    assert len(rows_of(render_report(free), "settlement")[0]) == 2


def test_statements_are_those_of_the_table(run):
    table = run.read_table("statements").to_pylist()
    rows = rows_of(render_report(load_run(run)), "statements")
    assert len(rows) == len(table) == 26
    for shown, row in zip(rows, table, strict=True):
        assert shown[0] == ("grid" if row["prosumer_id"] == 0 else str(row["prosumer_id"]))
        assert plain(shown[1]) == row["bought_wh"] / 1e3
        assert plain(shown[5]) == row["paid_micro"] / 1e6
        assert plain(shown[7]) == row["closing_micro"] / 1e6


def test_findings_name_who_when_and_why(run):
    data = load_run(run)
    f = data.accounts.findings
    readings = run.read_table("readings").to_pylist()
    void = [row for row in readings if row["reason"] and row["traded_wh"]]
    assert f.count == len(void)
    assert {"report of another day", "not signed by the registered meter"} <= set(f.reasons)
    rows = rows_of(render_report(data), "findings")
    assert [row[0] for row in rows] == [str(row["prosumer_id"]) for row in void][:100]
    assert {row[-1] for row in rows} == set(f.reasons)
    assert data.accounts.estimated == sum(row["estimated"] for row in readings) > 0


def test_many_participants_show_the_largest_accounts(make_run):
    path = make_run(settled=True, n=260, n_buses=33, meshed=False)
    page = render_report(load_run(RunReader(path)))
    assert len(rows_of(page, "statements")) == 200
    assert "(200 of 261, those that trade most)" in page
    assert len(page.encode()) < 1_500_000


def test_an_ended_settlement_in_figures(run):
    trades = run.read_table("trades")
    got = settlement_summary("anvil", trades, 24, 24, 240_000, 0.25)
    settled = trades.filter(pc.equal(trades["status"], "settled"))
    assert got.settled == settled.num_rows
    assert got.verified == got.trades - got.rejected == got.settled
    np.testing.assert_allclose(got.gas_per_trade, 240_000 / got.settled, rtol=1e-12)
    np.testing.assert_allclose(got.trades_per_second, got.settled / 0.25, rtol=1e-12)
    nothing = settlement_summary("anvil", trades.slice(0, 0), 0, 0, 0, 0.0)
    assert (nothing.gas_per_trade, nothing.trades_per_second, nothing.failed) == (None, None, 0)
    assert json.dumps(vars(nothing))
