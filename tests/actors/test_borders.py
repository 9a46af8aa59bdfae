"""What is kept at day borders: what comes back, what is refused, and how much it is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.borders import Borders, DoneDay, interrupted_run
from raygrid.errors import InputError
from raygrid.market.messages import PriceMessage, RoundDecision, RoundOutcome
from raygrid.results.day_totals import DaySummary
from raygrid.results.files import CHECKPOINT, SCENARIO, RunStatus
from raygrid.results.store import PartRecord, RunInfo, RunWriter
from raygrid.results.summary import CentralSummary, ClearingSummary

CLEARING = ClearingSummary(
    "converged", 30, 1e-3, 0.1, 0.3, 1 / 3, -math.pi, 0.1 + 0.2, 5e-324, math.inf, True, 0, 1e-15,
    1.0, None, None, math.nan, 0.5,
)  # fmt: skip


def done(day: int) -> DoneDay:
    """A day with numbers that rounding, or JSON, could lose."""
    summary = DaySummary(
        day,
        "2016-03-16T00:00:00",
        CLEARING,
        CentralSummary(-math.pi, None, 0.1),
        {"losses_kwh": np.float64(0.1), "overloads": np.int64(3), "voltage_limits_pu": [0.9, 1.1]},
        12,
        1 / 3,
        None,
        {"rule": "learned", "step_pv_coverage": None},
    )
    return DoneDay(
        summary,
        2 / 3,
        0.171,
        "",
        (f"note of {day}",),
        10 * day,
        10**15 + day,
        0,
        {} if day else {"network.parquet": "ab"},
        {"trades": [PartRecord(f"day-{day:05d}/part-00000.parquet", "cd", 12)]},
        {"step": np.float32([[1.1, 0.7]]).tolist()},
        "ef",
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that nobody has finished."""
    writer = RunWriter(tmp_path, "made_up", RunInfo("test", 1.0, 1, True, "EUR"))
    writer.write_scenario("name: made_up\n")
    Borders(writer.path).begin()
    return writer.path


def add_rounds(run: Path, day: int, count: int) -> None:
    writer = Borders(run).new_rounds(day)
    for k in range(count):
        message = PriceMessage(k, np.ones((3, 2)), 0.1, 1.0)
        writer.put(RoundOutcome(RoundDecision.CONTINUE, None, 0.2, (message,)))
    writer.close()


def test_every_number_comes_back_as_it_was(run: Path) -> None:
    for day in range(3):
        Borders(run).add(done(day))
    found = interrupted_run(run)
    assert found.scenario == run / SCENARIO
    for day, back in enumerate(found.days):
        assert back.day == day
        assert math.isnan(back.summary.clearing.locational_price_tariff_difference)
        known = (replace(d.summary.clearing, locational_price_tariff_difference=0.0)
                 for d in (back, done(day)))  # fmt: skip
        back, own = (replace(d, summary=replace(d.summary, clearing=c))
                     for d, c in zip((back, done(day)), known, strict=True))  # fmt: skip
        assert back == own
    assert np.float32(found.days[0].spreads["step"]).tolist() == done(0).spreads["step"]


def test_a_run_goes_on_with_the_rounds_of_the_day_after(run: Path) -> None:
    def found() -> tuple[int, int]:
        earlier = interrupted_run(run)
        return len(earlier.days), len(earlier.rounds)

    add_rounds(run, 0, 4)
    assert found() == (0, 4)
    Borders(run).add(done(0))
    # The rounds of a day that is done count no more, whether they are removed yet or not.
    assert found() == (1, 0)
    add_rounds(run, 1, 2)
    assert found() == (1, 2)


def test_a_border_is_as_large_as_what_its_day_adds(run: Path) -> None:
    borders = Borders(run)
    for day in range(12):
        borders.charge_file(day).write_bytes(b"charge")
        borders.add(done(day))
    sizes = {path.stat().st_size for path in (run / CHECKPOINT).glob("*.json")}
    assert max(sizes) - min(sizes) < 50
    assert [path.name for path in (run / CHECKPOINT).glob("*.parquet")] == ["day-00011.parquet"]


def test_another_scenario_and_damage_are_refused(run: Path) -> None:
    Borders(run).add(done(0))
    record = run / CHECKPOINT / "day-00000.json"
    text = record.read_text()
    (run / SCENARIO).write_text("name: made_up\nseed: 2\n")
    with pytest.raises(InputError, match="belongs to another scenario") as refused:
        interrupted_run(run)
    assert "\n" not in str(refused.value)
    (run / SCENARIO).write_text("name: made_up\n")
    for broken in (text[:-40], text.replace("welfare", "warfare"), text.replace('"parts"', '"p"')):
        record.write_text(broken)
        with pytest.raises(InputError, match="the checkpoint is damaged") as refused:
            interrupted_run(run)
        assert "\n" not in str(refused.value)


def test_a_run_with_nothing_to_go_on_from_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        interrupted_run(run)
    with RunWriter(tmp_path, "ended", RunInfo("test", 1.0, 1, True, "EUR")) as writer:
        writer.finish(RunStatus.OK, {})
    with pytest.raises(InputError, match="has come to its end"):
        interrupted_run(writer.path)
