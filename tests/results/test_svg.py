"""Scales, ticks, numbers, layouts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.results import svg
from raygrid.results.layout import bus_positions


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 0.12, [0, 0.025, 0.05, 0.075, 0.1]), (-3, 3, [-2, 0, 2])],
)
def test_ticks_are_round(low, high, ticks):
    np.testing.assert_allclose(svg.nice_ticks(low, high), ticks, rtol=0, atol=1e-12)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_lie_within_and_are_few(low, span):
    ticks = svg.nice_ticks(low, low + span)
    slack = 1e-6 * span + 1e-12 * abs(low)
    assert 1 <= len(ticks) <= 8
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


def test_log_ticks_are_powers_of_ten():
    assert svg.log_ticks(0.004, 30) == [0.01, 0.1, 1, 10]
    assert len(svg.log_ticks(1e-12, 1e6)) <= 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1234.5, "1\u2009234"), (-0.01234, "\u22120.0123"), (12.345, "12.3"),
        (float("inf"), "∞"), (float("nan"), "–"), (1e-9, "1.00e-09"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, text):
    assert svg.number(value) == text


def test_scale_maps_ends_and_logs():
    scale = svg.Scale(0, 10, 100, 0)
    np.testing.assert_allclose(scale([0, 5, 10]), [100, 50, 0], rtol=0, atol=1e-12)
    log = svg.Scale(0.1, 1000, 0, 4, log=True)
    np.testing.assert_allclose(log([0.1, 1, 1000, 0]), [0, 1, 4, 0], rtol=0, atol=1e-12)


def test_a_range_is_never_empty():
    for values in ([], [3.0], [0.0], [np.nan, -2.0], [np.inf]):
        low, high = svg.padded(values)
        assert high > low


def test_texts_and_titles_are_escaped():
    canvas = svg.Canvas('a "label" & <b>', 50)
    canvas.text(0, 0, "<i>")
    canvas.rect(0, 0, 1, 1, "blue", title="<u>")
    assert not any(tag in canvas.render() for tag in ("<b>", "<i>", "<u>"))


def test_a_standalone_picture_carries_its_style():
    picture = svg.Canvas("empty", 50).render(standalone=True)
    assert 'xmlns="http://www.w3.org/2000/svg"' in picture
    assert "<style>" in picture


def test_a_feeder_is_drawn_in_layers():
    # 0 - 1 - 2 - 3 with a branch 1 - 4.
    xy = bus_positions(5, np.array([0, 1, 2, 1]), np.array([1, 2, 3, 4]), slack=0)
    np.testing.assert_allclose(xy[:, 0], [0, 1 / 3, 2 / 3, 1, 2 / 3], rtol=0, atol=1e-12)
    assert xy[0, 1] == xy[1, 1] == xy[2, 1] == xy[3, 1]
    assert xy[4, 1] != xy[3, 1]


@pytest.mark.parametrize("n", [3, 14, 118, 500])
def test_a_ring_is_drawn_with_its_buses_apart(n):
    ring = np.arange(n)
    xy = bus_positions(n, ring, np.roll(ring, -1), slack=0)
    assert np.isfinite(xy).all()
    assert xy.min() >= 0
    assert xy.max() <= 1
    neighbours = np.linalg.norm(xy - np.roll(xy, -1, axis=0), axis=1)
    across = np.linalg.norm(xy - np.roll(xy, n // 2, axis=0), axis=1)
    assert n < 4 or neighbours.mean() < 0.75 * across.mean()
    assert neighbours.min() > 1e-6


def test_parallel_lines_do_not_make_a_tree_meshed():
    xy = bus_positions(3, np.array([0, 0, 1]), np.array([1, 1, 2]), slack=0)
    np.testing.assert_allclose(xy[:, 0], [0, 0.5, 1], rtol=0, atol=1e-12)


def test_one_bus_has_a_place():
    empty = np.zeros(0, dtype=np.int64)
    assert bus_positions(1, empty, empty, slack=0).shape == (1, 2)
