"""The report page: every figure, nothing from outside, nothing unescaped."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raygrid.errors import InputError
from raygrid.results import figure as drawing
from raygrid.results import figures, run_data
from raygrid.results.files import RunStatus
from raygrid.results.reader import RunReader
from raygrid.results.report import render_report, write_report
from raygrid.results.run_data import load_run
from raygrid.results.store import RunInfo, RunWriter

KEYS = ["dispatch", "prices", "line-use", "map", "storage", "trades", "activity", "volume",
        "sellers", "convergence", "welfare"]  # fmt: skip


class Balanced(HTMLParser):
    """Collects tags and texts and checks that tags close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parse(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def page_of(path):
    return write_report(RunReader(path)).read_text(encoding="utf-8")


def figure_svgs(page):
    return {
        key: "<svg" in body
        for key, body in re.findall(r'<figure class="card" id="fig-([\w-]+)">(.*?)</figure>', page)
    }


def test_report_has_every_figure_and_stands_alone(make_run):
    path = make_run()
    page = page_of(path)
    assert (path / "report.html").read_text(encoding="utf-8") == page
    assert figure_svgs(page) == dict.fromkeys(KEYS, True)
    parsed = parse(page)
    assert not re.search(r"https?://|//cdn|@import|url\(", page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object"}
    assert all(not {"src", "href", "onclick"} & set(attrs) for _, attrs in parsed.tags)
    assert 'name="viewport"' in page
    assert "@media print" in page


def test_report_says_what_when_and_how(make_run):
    run = RunReader(make_run())
    text = " ".join(parse(page_of(run.path)).texts)
    assert "25 prosumers in 2 Ray actors on a grid of 14 buses" in text
    assert "converged in 18 iterations, with network limits" in text
    assert "0.0040\u2009%" in text.replace(" %", "\u2009%")
    for fact in (run.manifest["command"], run.manifest["run_id"], run.manifest["created"]):
        assert fact in text
    assert run.manifest["files"]["prices.parquet"] in text


def test_money_that_prices_leave_over_is_shown(make_run):
    data = load_run(RunReader(make_run()))
    clearing = data.summary["clearing"] | {
        "settlement_price_surplus": 3e-12,
        "settlement_price_tariff_difference": -1.25,
        "locational_price_surplus": 2.5,
        "locational_price_tariff_difference": None,
    }
    page = render_report(replace(data, summary=data.summary | {"clearing": clearing}))
    table = re.search(r'id="table-money".*?</section>', page, flags=re.S).group()
    cells = re.findall(r"<td>(.*?)</td>", table)
    assert cells == [
        "Settlement price, one for all", "0", "−1.250", "−1.250",
        "Local prices", "2.500", "–", "2.500",
    ]  # fmt: skip
    assert 'id="table-money"' not in page_of(make_run(stages=False))


def test_reconstructed_data_is_said_beside_iterations_and_times(make_run):
    page = page_of(make_run(notes=["Reconstructed data: see the scenario's page."]))
    for name in ("Iterations", "Time to clear", "Whole run"):
        assert re.search(rf"<small>{name}</small><b>[^<]*</b><small>reconstructed data", page), name
    assert "Iterations: reconstructed data." in page
    assert "<small>reconstructed data" not in page_of(make_run(name="own"))


def test_texts_of_a_run_are_escaped(make_run):
    evil = '<script>alert("x")</script>'
    path = make_run(notes=[evil])
    page = page_of(path)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    data = load_run(RunReader(path))
    data = replace(data, manifest=data.manifest | {"currency": evil, "scenario": evil})
    page = render_report(data)
    assert "<script" not in page
    parse(page)


def test_stages_that_did_not_run_leave_their_reason(make_run):
    page = page_of(make_run(stages=False))
    assert figure_svgs(page) == {key: key == "map" for key in KEYS}
    assert "The market was not cleared." in page
    assert "There are no trades." in page


def test_no_trades_at_all(make_run):
    page = page_of(make_run(trades=False))
    empty = {"trades", "activity", "volume", "sellers"}
    assert figure_svgs(page) == {key: key not in empty for key in KEYS}
    assert "Nobody traded" in page


@pytest.mark.parametrize("shape", [(3, 2, False, 1), (4, 1, False, 4), (30, 118, True, 96)])
def test_small_and_odd_shapes(make_run, shape):
    n, n_buses, meshed, n_periods = shape
    page = page_of(make_run(n=n, n_buses=n_buses, meshed=meshed, n_periods=n_periods))
    parse(page)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S).lower().split()
    assert not re.search(r'="[^"]*\b(nan|inf)\b', page)


def test_a_thousand_prosumers_make_a_page_below_two_megabytes(make_run):
    page = page_of(make_run(n=1000, n_buses=33, meshed=False))
    assert len(page.encode()) < 2_000_000
    assert "Seller&#39;s bus" in page or "Seller&#x27;s bus" in page


def test_many_batteries_are_shown_by_a_sample_and_counted_in_full(make_run, monkeypatch):
    run = RunReader(make_run(n=60))
    every = load_run(run).storage
    monkeypatch.setattr(run_data, "SHOWN_BATTERIES", 4)
    some = load_run(run).storage
    assert 1 < len(some.prosumer_id) <= 4 < every.count == len(every.prosumer_id)
    assert some.count == every.count
    assert some.total_kwh == pytest.approx(every.capacity_kwh.sum())
    np.testing.assert_array_equal(some.charge_kw, every.charge_kw)
    np.testing.assert_array_equal(
        some.soc_kwh, every.soc_kwh[np.isin(every.prosumer_id, some.prosumer_id)]
    )
    assert f"are those of {len(some.prosumer_id)} of them" in render_report(load_run(run))


def test_an_unfinished_run_shows_what_it_has(tmp_path, make_run):
    finished = RunReader(make_run(n=5, n_buses=4))
    writer = RunWriter(tmp_path, "cut", RunInfo("raygrid simulate cut", 1.0, 1, True, "$"))
    writer.write_table("network", finished.read_table("network"))
    page = write_report(RunReader(writer.path, allow_unfinished=True)).read_text()
    assert "did not get far enough" in page
    assert figure_svgs(page)["map"]


def test_reasons_of_a_run_that_ended_short_are_shown(tmp_path, make_run):
    finished = RunReader(make_run(n=5, n_buses=4))
    writer = RunWriter(tmp_path, "cut", RunInfo("raygrid simulate cut", 1.0, 1, True, "$"))
    writer.write_table("network", finished.read_table("network"))
    writer.finish(RunStatus.ENDED_SHORT, {}, "line 3 is full in period 18")
    page = page_of(writer.path)
    assert "line 3 is full in period 18" in page
    assert ">ended short<" in page


def test_a_changed_table_is_not_reported(make_run):
    path = make_run()
    table = pq.read_table(path / "flows.parquet")
    pq.write_table(table.slice(1), path / "flows.parquet")
    with pytest.raises(InputError, match="hash differs"):
        write_report(RunReader(path))


def test_a_report_that_cannot_be_written_is_refused(make_run, tmp_path):
    with pytest.raises(InputError, match="the report cannot be written there"):
        write_report(RunReader(make_run()), tmp_path / "nowhere" / "report.html")


def test_dispatch_sums_are_those_of_the_schedule(make_run):
    run = RunReader(make_run(n=12, n_buses=6))
    data = load_run(run)
    schedule, profiles = run.read_table("schedule"), run.read_table("profiles")
    supply = sum(data.supply_kw.values())
    use = sum(data.use_kw.values())
    np.testing.assert_allclose(supply, use, rtol=1e-9, atol=1e-9)
    fixed = profiles.group_by("period").aggregate([("fixed_load_kw", "sum")]).sort_by("period")
    np.testing.assert_allclose(
        data.use_kw["fixed load"], fixed["fixed_load_kw_sum"].to_numpy(), rtol=1e-9, atol=1e-9
    )
    people = schedule.filter(pa.compute.field("prosumer_id") > 0)
    np.testing.assert_allclose(
        data.supply_kw["generation"].sum(),
        sum(people["generation_kw"].to_pylist()),
        rtol=1e-9,
        atol=0,
    )


def test_trading_pairs_are_those_of_the_trades(make_run):
    run = RunReader(make_run())
    pairs = load_run(run).pairs
    trades = run.read_table("trades").to_pylist()
    assert pairs.trades == len(trades)
    np.testing.assert_allclose(
        pairs.energy_kwh.sum(), sum(row["energy_wh"] for row in trades) / 1000, rtol=1e-12, atol=0
    )
    assert len(pairs.seller) == len({(row["seller_id"], row["buyer_id"]) for row in trades})


def test_given_positions_are_used(tmp_path, make_run):
    finished = RunReader(make_run(n=5, n_buses=4))
    writer = RunWriter(tmp_path, "map", RunInfo("raygrid simulate map", 1.0, 1, True, "$"))
    writer.write_table("network", finished.read_table("network"))
    xy = {"bus": [4, 1, 2, 3], "x": [3.0, 0.0, 1.0, 2.0], "y": [1.0, 0.0, 0.0, 5.0]}
    writer.write_table("buses", pa.table(xy))
    writer.finish(RunStatus.OK, {})
    data = load_run(RunReader(writer.path))
    assert not data.schematic
    np.testing.assert_array_equal(data.bus_xy, [[0, 0], [1, 0], [2, -5], [3, -1]])


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (0.9999999, "100 %"),
        (1.01, "101 %"),
        (2.11, "211 %"),
        (np.inf, "∞ %"),
        (0, "0 %"),
    ],
)
def test_percentages(share, text):
    assert drawing.percent(share) == text


def test_line_colours_follow_the_limits():
    shares = (0.5, 0.8, 1.0, 1.0 + 1e-7, 1.001)
    assert [drawing.use_colour(share) for share in shares] == [
        "blue", "orange", "orange", "orange", "red",
    ]  # fmt: skip


def test_summary_with_null_figures_still_makes_a_page(make_run):
    path = make_run(n=5, n_buses=4)
    summary = json.loads((path / "summary.json").read_text())
    summary["clearing"] |= dict.fromkeys(("welfare", "seconds", "max_line_utilisation"))
    summary["central"] |= {"welfare": None, "gap": None}
    page = render_report(replace(load_run(RunReader(path)), summary=summary))
    assert not figure_svgs(page)["welfare"]


def test_trades_that_were_not_matched_are_not_shown_as_none(make_run):
    path = make_run(n=5, n_buses=4)
    data = load_run(RunReader(path))
    matched = "".join(parse(render_report(data)).texts)
    assert "no trades were matched" not in matched
    summary = dict(data.summary, clearing=data.summary["clearing"] | {"energy_traded_kwh": None})
    unmatched = "".join(parse(render_report(replace(data, summary=summary))).texts)
    assert "no trades were matched" in unmatched
    assert "– kWh" not in unmatched


def test_line_use_beside_another_run(make_run):
    one, other = RunReader(make_run()), RunReader(make_run())
    data = load_run(other)
    free = replace(data, manifest=data.manifest | {"network_constrained": False})
    page = render_report(load_run(one), free)
    assert f"Run {other.manifest['run_id']} (without limits, dashes) fills line" in page
    assert ">without limits<" in page


def test_of_very_many_lines_the_fullest_are_drawn(make_run, monkeypatch):
    data = load_run(RunReader(make_run()))
    monkeypatch.setattr(figures, "MAX_BARS", 1)
    monkeypatch.setattr(figures, "MAX_LINES_SHOWN", 2)
    figure = figures.line_use(data)
    assert "Shown are the 2 fullest lines." in figure.caption
    fullest = data.lines.line[np.argsort(-data.lines.busiest)[:2]]
    drawn = re.findall(r"line (\d+) \(", figure.svg)
    assert drawn == [str(line) for line in fullest]


@pytest.mark.parametrize("order", ["as written", "shuffled"])
def test_tables_are_read_in_any_order(order):
    row, period = np.repeat([2, 5, 9], 4), np.tile(np.arange(24, 28), 3)
    at = np.arange(12) if order == "as written" else np.random.default_rng(1).permutation(12)
    columns = {"bus": row[at], "period": period[at], "value": np.arange(12.0)[at]}
    rows, periods, values = run_data._pivot(columns, "bus", "value")
    assert rows.tolist() == [2, 5, 9]
    assert periods.tolist() == [24, 25, 26, 27]
    np.testing.assert_array_equal(values, np.arange(12.0).reshape(3, 4))


def test_runs_on_different_networks_are_not_compared(make_run):
    with pytest.raises(InputError, match="its network has other lines"):
        write_report(RunReader(make_run()), compare=RunReader(make_run(n_buses=5)))
