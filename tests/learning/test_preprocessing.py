"""Readings become even series; what cannot be mended is refused in one line."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.learning.dataset import Dataset, build_dataset
from raygrid.learning.preprocessing import (
    Clock,
    DataReport,
    align,
    check_load,
    check_pv,
    clip,
    fences,
    fill_gaps,
    read_readings,
    runs,
)
from raygrid.scenario.load import load_scenario
from tests.learning.conftest import SMALL

CLOCK = Clock(datetime(2016, 3, 16), 0.25)
NAN = float("nan")


def test_fine_readings_are_averaged() -> None:
    hours = np.arange(0, 1, 1 / 12)
    np.testing.assert_allclose(align(hours, np.arange(12.0), 4, 0.25), [1, 4, 7, 10])


def test_coarse_readings_hold_until_the_next() -> None:
    found = align(np.array([0.0, 1.0]), np.array([5.0, 7.0]), 12, 0.25)
    np.testing.assert_array_equal(found, [5] * 4 + [7] * 4 + [NAN] * 4)


def test_readings_before_and_after_do_not_count() -> None:
    found = align(np.array([-0.25, 0.0, 0.25, 0.5]), np.array([9.0, 1.0, 2.0, 9.0]), 2, 0.25)
    np.testing.assert_array_equal(found, [1, 2])


@given(st.lists(st.booleans(), max_size=30))
def test_runs_are_the_stretches(mask: list[bool]) -> None:
    found = np.zeros(len(mask), dtype=bool)
    for first, last in runs(np.array(mask, dtype=bool)):
        assert first < last
        assert not found[max(first - 1, 0) : last].any()
        found[first:last] = True
    np.testing.assert_array_equal(found, np.array(mask, dtype=bool))


def test_short_gaps_get_the_rolling_median() -> None:
    series = np.array([1.0, 2, NAN, NAN, NAN, 10, 3, 4])
    filled, count = fill_gaps(series, "x", CLOCK)
    assert count == 3
    np.testing.assert_array_equal(filled, [1, 2, 3, 3, 3, 10, 3, 4])


def test_a_gap_of_an_hour_is_refused() -> None:
    series = np.array([1.0, NAN, NAN, NAN, NAN, 2])
    with pytest.raises(InputError, match=r"^prosumer 3: nothing measured from 2016-03-16T00:15:00"):
        fill_gaps(series, "prosumer 3", CLOCK)


def test_faulty_loads_are_refused() -> None:
    check_load(np.array([0.0, 0.0, 1.0]), "x", CLOCK)
    with pytest.raises(InputError, match="a load of -2 kW at 2016-03-16T00:15:00"):
        check_load(np.array([1.0, -2.0]), "x", CLOCK)
    still = np.concatenate([[1.0], np.full(96, 0.4), [1.0]])
    check_load(np.delete(still, 5), "x", CLOCK)
    with pytest.raises(InputError, match=r"stays at 0\.4 kW for 24 h"):
        check_load(still, "x", CLOCK)


def test_noise_of_pv_is_mended_and_faults_are_refused() -> None:
    night = np.array([True, False, False])
    mended, count = check_pv(np.array([0.03, -0.02, 2.0]), 5.0, night, "x", CLOCK)
    np.testing.assert_array_equal(mended, [0, 0, 2])
    assert count == 2
    for series, fault in (
        ([0.5, 0, 0], "0.5 kW at night at 2016-03-16T00:00:00"),
        ([0, -1, 0], "is negative"),
        ([0, 0, 9], "with 5 kWp"),
    ):
        with pytest.raises(InputError, match=fault):
            check_pv(np.array(series, dtype=float), 5.0, night, "x", CLOCK)


def test_fences_by_hand() -> None:
    # Quartiles 2 and 4: three times their distance beyond.
    assert fences(np.array([1.0, 2, 3, 4, 5]), logarithmic=False) == (-4, 10)
    values = np.exp([1.0, 2, 3, 4, 5])
    low, high = fences(values, logarithmic=True)
    assert low == 0
    assert high == pytest.approx(np.exp(10))
    assert fences(np.full(9, 2.0), logarithmic=False) == (-np.inf, np.inf)
    clipped, count = clip(np.array([-9.0, 3, 11]), (-4, 10))
    np.testing.assert_array_equal(clipped, [-4, 3, 10])
    assert count == 2


def test_a_report_says_what_was_mended() -> None:
    report = DataReport(filled=2) + DataReport(filled=1, night_pv=4)
    assert report.lines() == [
        "3 missing values filled by the rolling median",
        "4 small PV readings at night or below zero set to zero",
    ]
    assert DataReport().lines() == []


def write_csv(path: Path, data: Dataset, *, drop: range = range(0), at_night: float = 0.0) -> Path:
    """The first two prosumers' series as a meter would have written them."""
    lines = ["time,prosumer_id,load_kw,pv_kw"]
    for row in range(2):
        for k in range(data.n_periods):
            time = data.clock.start + timedelta(hours=k * 0.25)
            pv = data.pv_kw[row, k] + at_night * (k == 8)
            load = "" if k in drop else f"{data.load_kw[row, k]:.6g}"
            lines.append(f"{time.isoformat()},{row + 1},{load},{pv:.6g}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_readings_take_the_place_of_the_shapes(small_data: Dataset, tmp_path: Path) -> None:
    scenario, base_dir = load_scenario("ai_tem", agents=10, settings=SMALL)
    path = write_csv(tmp_path / "meters.csv", small_data, drop=range(40, 42))
    found = build_dataset(scenario, base_dir, path)
    assert found.report.filled == 4
    np.testing.assert_allclose(found.load_kw[1, 42:], small_data.load_kw[1, 42:], rtol=1e-5)
    assert (found.prosumer_id == [1, 2]).all()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"drop": range(40, 46)}, r"prosumer 1, load_kw: nothing measured from 2016-03-16T10:00"),
        ({"at_night": 3.0}, r"prosumer 1, pv_kw: PV output of 3 kW at night"),
    ],
)
def test_faulty_readings_are_refused(
    small_data: Dataset, tmp_path: Path, options: dict[str, object], fault: str
) -> None:
    scenario, base_dir = load_scenario("ai_tem", agents=10, settings=SMALL)
    path = write_csv(tmp_path / "meters.csv", small_data, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=fault):
        build_dataset(scenario, base_dir, path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("time,load_kw\n", "no column 'prosumer_id'"),
        ("time,prosumer_id,load_kw\n2016-03-16T00:00:00,1,x\n", "cannot be read"),
        ("time,prosumer_id,load_kw\n2016-03-16T00:00:00,,1\n", "empty cell in 'prosumer_id'"),
    ],
)
def test_tables_that_are_no_readings_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "meters.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=fault):
        read_readings(path, CLOCK, 96)
    with pytest.raises(InputError, match="cannot be read"):
        read_readings(tmp_path / "none.csv", CLOCK, 96)
