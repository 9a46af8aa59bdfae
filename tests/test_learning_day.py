"""Days with a forecast, an intraday auction and settlement of all sessions, as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raygrid.market.sessions import SESSIONS
from raygrid.results.reader import RunReader
from raygrid.results.run_data import load_run
from raygrid.scenario.build import draft_case
from raygrid.scenario.load import load_scenario
from raygrid.settlement.stored import audit_stored

ROOT = Path(__file__).resolve().parent.parent
DAYS, T, AGENTS = 2, 24, 16
RESERVE = 0.1
SETTINGS = (
    "stages.forecast=persistence", "stages.intraday=plan", "population.evs.share=0.4",
    f"stages.reserve.line_share={RESERVE}",
)  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def raygrid(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "raygrid", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def simulate(out, *arguments):
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    done = raygrid(
        "simulate", "community", "--agents", AGENTS, "--days", DAYS, *settings, "--quiet",
        "--no-central", "--chain", "embedded", "--out", out, *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("one"), "--actors", "2")


def table(run, name):
    return pq.read_table(run / f"{name}.parquet")


def test_all_sessions_of_all_days_are_settled_and_audited(run):
    trades = table(run, "trades")
    assert set(trades["session"].to_pylist()) == set(SESSIONS)
    assert set(trades["status"].to_pylist()) == {"settled"}
    assert set(trades["period"].to_numpy() // T) == set(range(DAYS))
    np.testing.assert_array_equal(trades["trade_id"], np.arange(trades.num_rows))
    assert audit_stored(run).differences == ()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["settlement"]["settled"] == trades.num_rows
    again = raygrid("settle", run)
    assert again.returncode == 0, again.stderr
    assert table(run, "trades").equals(trades)


def test_accounts_are_what_the_stage_says_everybody_earned(run):
    """Trades and balance of every prosumer, to what whole watt-hours and micro-units leave."""
    rows, statements = table(run, "intraday"), table(run, "statements").sort_by("prosumer_id")
    paid = np.asarray(statements["paid_micro"]) - np.asarray(statements["earned_micro"])
    ahead = table(run, "trades").filter(pc.equal(table(run, "trades")["session"], "day_ahead"))
    cost = np.zeros(AGENTS + 1)
    who = rows["prosumer_id"].to_numpy()
    np.add.at(cost, who, 1e6 * rows["grid_cost"].to_numpy() - rows["money_micro"].to_numpy())
    value, network = ahead["value_micro"].to_numpy(), ahead["network_micro"].to_numpy()
    np.subtract.at(cost, ahead["seller_id"].to_numpy(), value)
    np.add.at(cost, ahead["buyer_id"].to_numpy(), value + network)
    # Less than a watt-hour a period at tariff.
    np.testing.assert_allclose(paid[1:], cost[1:], atol=DAYS * T * 400)
    assert np.abs(paid[1:]).max() > 1e5


def test_meters_show_what_was_delivered_over_all_sessions(run):
    keys = [("prosumer_id", "ascending"), ("period", "ascending")]
    readings, rows = (table(run, name).sort_by(keys) for name in ("readings", "intraday"))
    of_people = readings.filter(pc.greater(readings["prosumer_id"], 0))
    traded = of_people["traded_wh"].to_numpy()
    np.testing.assert_allclose(traded, 1e3 * rows["p_kw"].to_numpy(), atol=2.5)
    net = readings["traded_wh"].to_numpy().reshape(AGENTS + 1, -1).sum(axis=0)
    np.testing.assert_array_equal(net, 0)


def test_lines_are_held_against_their_own_limits_not_what_the_reserve_leaves(run):
    scenario, base_dir = load_scenario("community", agents=AGENTS, days=DAYS, settings=SETTINGS)
    limit = draft_case(scenario, base_dir=base_dir).surveyed().network.limit_kw
    lines, flows = table(run, "network"), table(run, "flows")
    np.testing.assert_array_equal(lines["limit_kw"], limit)
    np.testing.assert_allclose(lines["market_limit_kw"], (1 - RESERVE) * limit, rtol=1e-12)
    row = np.searchsorted(lines["line"].to_numpy(), flows["line"].to_numpy())
    np.testing.assert_array_equal(flows["limit_kw"], limit[row])
    use = np.abs(flows["flow_kw"].to_numpy()) / limit[row]
    clearing = json.loads((run / "summary.json").read_text())["clearing"]
    assert clearing["max_line_utilisation"] == pytest.approx(use.max(), rel=1e-12)
    # A line binds day ahead, and is as full as the reserve lets it be.
    assert use.max() == pytest.approx(1 - RESERVE, rel=1e-6)
    assert clearing["line_violations"] == 0
    assert load_run(RunReader(run)).lines.kept_free == pytest.approx(RESERVE, rel=1e-9)
    assert "Markets kept 10 % of each free." in (run / "report.html").read_text()


def test_the_report_shows_the_stages(run):
    data = load_run(RunReader(run))
    rows, trades = table(run, "intraday"), table(run, "trades")
    assert data.learning is not None
    assert data.learning.load_kw["measured"].sum() == pytest.approx(pc.sum(rows["load_kw"]).as_py())
    wh = pc.sum(trades.filter(pc.equal(trades["session"], "intraday"))["energy_wh"]).as_py()
    assert data.learning.traded_kwh["intraday"].sum() == pytest.approx(wh / 1e3)
    page = (run / "report.html").read_text()
    assert "Sessions of the day" in page
    assert "Forecast and measured" in page


def test_the_default_community_is_forecast_by_learned_weights_and_trades_on_what_they_missed(
    tmp_path,
):
    done = raygrid("simulate", "community", "--agents", 100, "--quiet", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip())
    summary = json.loads((run / "summary.json").read_text())
    assert summary["forecast"]["rule"] == "learned"
    assert summary["forecast"]["day_ahead_pv_rmse_kw"] < 0.01
    assert summary["intraday"]["bidders"] == "rule"
    assert summary["powerflow"]["overloads"] == 0
    settlement = summary["settlement"]
    assert settlement["settled"] == settlement["trades"] > summary["intraday"]["trades"] > 0
    assert audit_stored(run).differences == ()


def test_a_large_community_goes_without_stages_and_says_so(tmp_path):
    done = raygrid(
        "simulate", "community", "--agents", 12, "--no-central", "--chain", "none",
        "--out", tmp_path, "--set", "stages.up_to_prosumers=11",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "12 prosumers, more than stages.up_to_prosumers (11)" in done.stderr
    (run,) = (tmp_path / "community").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["forecast"] is summary["intraday"] is None
    notes = json.loads((run / "manifest.json").read_text())["notes"]
    assert any("without an intraday market" in note for note in notes)
