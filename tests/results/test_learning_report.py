"""Forecasts and the intraday auction in the report and in a run's last lines."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.market.sessions import SESSIONS
from raygrid.results.learning_data import FORECASTS, LearningData
from raygrid.results.learning_figures import learning_figures, learning_tables
from raygrid.results.reader import RunReader
from raygrid.results.report import render_report
from raygrid.results.run_data import load_run
from raygrid.results.stage_lines import stage_lines

FORECAST = {"rule": "learned"} | {
    f"{horizon}_{what}_{name}": value
    for horizon in ("day_ahead", "step")
    for what in ("load", "pv")
    for name, value in (("rmse_kw", 0.25), ("bias_kw", -0.01), ("coverage", 0.755))
}
INTRADAY = {
    "bidders": "rule", "fallbacks": 0, "day_ahead_trades": 1234, "day_ahead_kwh": 300.0,
    "trades": 5678, "traded_kwh": 70.5, "failed_kwh": 1.5, "billed_import_kwh": 600.25,
    "billed_export_kwh": 80.0, "curtailed_kwh": 0.5, "unmet_kwh": 0.0, "limited_periods": 0,
    "grid_cost": 150.0, "wear": 14.0, "cost": 164.0, "network_value": 0.01,
}  # fmt: skip
POWERFLOW = {"voltage_violations": 3, "overloads": 7}


@pytest.fixture
def data(make_run):
    plain = load_run(RunReader(make_run()))
    n = len(plain.period)
    rising = np.arange(n, dtype=float)
    price = np.where(rising % 3 == 0, np.nan, 0.2)
    learning = LearningData(
        {name: rising + k for k, name in enumerate(FORECASTS)},
        {name: rising + k for k, name in enumerate(FORECASTS)},
        dict.fromkeys(SESSIONS, rising),
        price,
        np.full(n, 0.5),
    )
    summary = plain.summary | {"forecast": FORECAST, "intraday": INTRADAY, "powerflow": POWERFLOW}
    return replace(plain, learning=learning, summary=summary)


def test_a_run_without_the_stages_shows_nothing_of_them(make_run):
    data = load_run(RunReader(make_run()))
    assert data.learning is None
    assert learning_figures(data) == []
    assert learning_tables(data) == []
    assert stage_lines(None, None, None, "EUR") == []


def test_figures_say_how_far_forecasts_were_off_and_who_traded_when(data):
    forecasts, sessions = learning_figures(data)
    assert "of load 1.00 kW day ahead and 2.00 kW step ahead" in forecasts.caption
    assert forecasts.svg.count("<path") >= 6
    total = float(np.arange(len(data.period)).sum())
    assert f"{total:.4g}" in sessions.caption.replace("\u2009", "")
    for words in ("measured", "day ahead", "step ahead"):
        assert words in forecasts.svg
    for words in ("intraday", "import", "export"):
        assert words in sessions.svg


def test_a_line_of_prices_has_gaps_where_nobody_traded(data):
    whole = replace(data.learning, price_per_kwh=np.full(len(data.period), 0.2))
    with_gaps = learning_figures(data)[1].svg.count("<path")
    assert with_gaps > learning_figures(replace(data, learning=whole))[1].svg.count("<path")


def test_tables_have_errors_coverage_and_violations(data):
    errors, intraday = learning_tables(data)
    assert errors.rows[0] == ["A day ahead, load", "0.250", "\u22120.0100", "75.5 %"]
    said = dict(intraday.rows)
    assert said["Traded intraday"] == "70.50 kWh"
    assert said["Currents beyond their limits in the AC load flow"] == "7"
    page = render_report(data)
    assert "Errors of the forecasts (learned)" in page
    assert "Sessions of the day" in page


def test_forecasts_without_intervals_leave_their_cells_empty(data):
    plain = FORECAST | {key: None for key in FORECAST if key.endswith("coverage")}
    errors = learning_tables(replace(data, summary=data.summary | {"forecast": plain}))[0]
    assert [row[-1] for row in errors.rows] == ["–"] * 4
    assert not any("within" in words for _, words in stage_lines(plain, None, None, "EUR"))


def test_the_lines_of_a_run_are_short_and_complete():
    lines = stage_lines(FORECAST, INTRADAY, POWERFLOW, "EUR")
    assert all(len(f"  {name:<13}{words}") <= 80 for name, words in lines)
    said = " ".join(words for _, words in lines)
    for words in ("76 % within", "70.5 kWh in 5,678 trades", "164 EUR", "3 voltages"):
        assert words in said
