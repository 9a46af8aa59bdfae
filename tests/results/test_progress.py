"""Progress line and the words at the end of a run."""

import io
from dataclasses import replace
from pathlib import Path

from raygrid.market.clearing import IterationRecord
from raygrid.results.progress import ProgressLine, summary_text
from raygrid.results.summary import (
    CentralSummary,
    ClearingSummary,
    Seconds,
    SettlementSummary,
    Summary,
)

RECORD = IterationRecord(7, 0.5, 0.25, 0.02, 0.01, 0.1, 0.001)
CLEARING = ClearingSummary(
    "converged", 12, 1e-3, 1e-3, 2e-3, 2e-3, 13.97, 276.05, 0.0, 1.0, True, 0, 1e-9, 0.0, None,
    0.41, None, 0.05,
)  # fmt: skip
SUMMARY = Summary(
    "ieee14", "id", "ok", 25, 25, 24, 14, 20, CLEARING, CentralSummary(13.9703, 2e-5, 0.4),
    Seconds(1.9, 0.2, 0.05, 3.0),
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_shows_residuals_and_clears_itself():
    stream = Terminal()
    with ProgressLine(stream) as line:
        line.update(RECORD, 0.0612)
    text = stream.getvalue()
    assert "iteration    7  primal 5.0e-01/2.0e-02  dual 2.5e-01/1.0e-02  price 0.0612" in text
    assert text.endswith("\r\x1b[K")


def test_progress_is_silent_where_nobody_looks():
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        line.update(RECORD, 0.06)
    assert stream.getvalue() == ""


def test_progress_does_not_flood():
    stream = Terminal()
    line = ProgressLine(stream)
    for _ in range(100):
        line.update(RECORD, 0.06)
    assert stream.getvalue().count("iteration") <= 3


def test_summary_says_what_a_new_user_wants_to_see():
    text = summary_text(
        SUMMARY, Path("results/ieee14/x"), "$", notes=["reconstructed data"], trades=2795,
        mean_price_per_kwh=0.06,
    )  # fmt: skip
    for words in (
        "ieee14: ok", "25 prosumers, 14 buses, 20 lines, 24 periods", "converged (12 iterations",
        "13.97 $ (gap to the central optimum 0.002 %)", "276.05 kWh in 2,795 trades",
        "100.0 % of its limit (limits enforced)", "0.06 $/kWh", "reconstructed data",
        "raygrid report results/ieee14/x",
    ):  # fmt: skip
        assert words in text, words
    assert all(len(line) <= 80 for line in text.splitlines())


def test_summary_of_a_run_without_clearing():
    text = summary_text(replace(SUMMARY, clearing=None, central=None), Path("r"), "$")
    assert "welfare" not in text
    assert "25 prosumers" in text


def test_summary_says_why_it_ended_short_and_gives_the_bound():
    clearing = replace(
        CLEARING, status="iteration_limit", line_violations=3, network_constrained=False
    )
    short = replace(SUMMARY, status="ended_short", clearing=clearing, central=None)
    text = summary_text(short, Path("r"), "$", reason="raise max_iterations", welfare_bound=14.0)
    assert "ieee14: ended short" in text
    assert "iteration limit (12" in text
    assert "(at most 0.21 % below the optimum)" in text
    assert "limits not enforced, 3 line-periods above" in text
    assert "raise max_iterations" in text


def test_trades_that_were_not_matched_are_no_trades_of_nothing():
    clearing = replace(CLEARING, energy_traded_kwh=None)
    note = "no trades were matched: 118000 prosumers are more than the 100000 of x"
    text = summary_text(replace(SUMMARY, clearing=clearing), Path("r"), "$", notes=[note])
    assert "traded       no trades were matched, see the note\n" in text
    assert f"note         {note}\n" in text
    assert "0 kWh in" not in text


def test_a_market_without_a_schedule_has_no_welfare():
    infeasible = replace(
        CLEARING, status="infeasible", welfare=float("nan"), energy_traded_kwh=None, iterations=1
    )
    text = summary_text(replace(SUMMARY, clearing=infeasible, actors=1), Path("r"), "$")
    assert "infeasible (1 iteration," in text
    assert "1 actor\n" in text
    assert "nan" not in text
    assert "traded" not in text


def test_settlement_is_told_in_a_line():
    done = SettlementSummary(
        "anvil", 2795, 2795, 0, 2795, 0, 276.05, 16.56, 0.0, 24, 2, 2_795_000, 1000.0, 5e4, 0.06
    )
    text = summary_text(replace(SUMMARY, settlement=done), Path("run"), "$")
    assert "settled      2,795 of 2,795 trades on anvil, 1,000 gas a trade\n" in text
    short = replace(done, settled=0, rejected=95, failed=2700, gas_per_trade=None)
    text = summary_text(replace(SUMMARY, settlement=short), Path("run"), "$")
    assert "settled      0 of 2,795 trades on anvil; 95 rejected; 2,700 unsettled\n" in text
    assert "settled" not in summary_text(SUMMARY, Path("run"), "$")
