"""Screening against linear programs; no row that can bind may be missing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from raygrid.errors import InputError
from raygrid.grid import limits as limits_module
from raygrid.grid.limits import (
    empty_rows,
    largest_values,
    line_rows,
    stack_rows,
    voltage_rows,
)
from raygrid.grid.ptdf import PtdfFactor, ptdf
from raygrid.grid.voltage import lindistflow

NETWORKS = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(0, 5))


def program_value(row, low, high):
    """max row p over the box and the balance by HiGHS; None where infeasible."""
    result = linprog(
        -row, A_eq=np.ones((1, len(row))), b_eq=[0.0], bounds=list(zip(low, high, strict=True))
    )
    if result.status == 3:
        return np.inf
    return None if result.status == 2 else -result.fun


def test_knapsack_by_hand():
    row = np.array([[0.0, 1.0, -0.5]])
    low, high = np.array([[-1.0], [-2.0], [-4.0]]), np.array([[5.0], [3.0], [0.0]])
    # bus 2 gives 3, bus 3 takes 3: 3 * 1 + 3 * 0.5; bus 1 at 1 lets bus 3 take 4.
    np.testing.assert_allclose(largest_values(row, low, high), [[3 + 2.0]], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.booleans())
def test_knapsack_matches_a_linear_program(seed, n_buses, infinite):
    rng = np.random.default_rng(seed)
    matrix = rng.choice([-1.0, -0.3, 0.0, 0.4, 1.0], size=(3, n_buses))
    low = -rng.uniform(0, 3, (n_buses, 4))
    high = low + rng.choice([0.0, 1.0, 4.0], size=(n_buses, 4))
    if infinite:
        high[0], low[0] = np.inf, -np.inf
    values = largest_values(matrix, low, high)
    for m in range(3):
        for t in range(4):
            expected = program_value(matrix[m], low[:, t], high[:, t])
            if expected is None:
                loose = np.maximum(matrix[m] * low[:, t], matrix[m] * high[:, t]).sum()
                assert values[m, t] == pytest.approx(loose, rel=1e-9, abs=1e-9)
            else:
                assert values[m, t] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_two_unbounded_buses_leave_every_row_unbounded():
    low, high = np.full((3, 1), -np.inf), np.full((3, 1), np.inf)
    assert np.isinf(largest_values(np.array([[0.0, 1.0, 0.5]]), low, high)).all()


def test_line_rows_without_ranges_are_all_finite_limits(build_random):
    network = build_random(2, 6, 3)
    limit = np.array([1.0, np.inf, 2.0, 3.0, np.inf, 4.0, 5.0, 0.0])
    offset = np.linspace(-0.5, 0.5, 8)
    network = replace(network, limit_kw=limit, flow_offset_kw=offset)
    rows = line_rows(network, PtdfFactor(network), 3)
    kept = np.flatnonzero(np.isfinite(limit))
    np.testing.assert_array_equal(rows.index, kept)
    np.testing.assert_allclose(rows.matrix, ptdf(network)[kept], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(rows.upper, np.tile((limit - offset)[kept, None], 3), rtol=1e-15)
    np.testing.assert_allclose(rows.lower, np.tile((-limit - offset)[kept, None], 3), rtol=1e-15)
    assert set(rows.kind) == {"line"}
    assert rows.n_rows == 6


@settings(max_examples=30, deadline=None)
@given(NETWORKS)
def test_only_lines_that_can_bind_are_kept_and_all_of_them(build_random, draw):
    rng = np.random.default_rng(draw[0])
    network = build_random(*draw)
    network = replace(
        network,
        limit_kw=rng.uniform(0.1, 6.0, network.n_lines),
        flow_offset_kw=rng.uniform(-0.3, 0.3, network.n_lines),
    )
    low = -rng.uniform(0, 2, (network.n_buses, 2))
    high = rng.uniform(0, 2, (network.n_buses, 2))
    rows = line_rows(network, PtdfFactor(network), 2, low, high)
    factors = ptdf(network)
    for line, row in enumerate(factors):
        offset, limit = network.flow_offset_kw[line], network.limit_kw[line]
        highest = max(program_value(row, low[:, t], high[:, t]) for t in range(2)) + offset
        lowest = max(program_value(-row, low[:, t], high[:, t]) for t in range(2)) - offset
        if max(highest, lowest) > limit:
            assert line in rows.index
        if max(highest, lowest) < limit * (1 - 3 * limits_module.SCREEN_MARGIN):
            assert line not in rows.index


def test_the_grid_connection_may_be_unbounded(build):
    network = build(3, [(0, 1), (1, 2)], [1.0, 1.0], limit_kw=[10.0, 10.0])
    low = np.array([[-np.inf], [-6.0], [-5.0]])
    high = np.array([[np.inf], [0.0], [0.0]])
    rows = line_rows(network, PtdfFactor(network), 1, low, high)
    assert rows.index.tolist() == [0]


def test_many_lines_are_taken_a_few_at_a_time(build_random, monkeypatch):
    network = build_random(8, 12, 8)
    network = replace(network, limit_kw=np.full(network.n_lines, 0.7))
    low, high = np.full((12, 2), -1.0), np.full((12, 2), 1.0)
    factor = PtdfFactor(network)
    whole = line_rows(network, factor, 2, low, high)
    monkeypatch.setattr(limits_module, "ROWS_AT_A_TIME", 3)
    parts = line_rows(network, factor, 2, low, high)
    np.testing.assert_array_equal(whole.index, parts.index)
    np.testing.assert_allclose(whole.matrix, parts.matrix, rtol=1e-12, atol=1e-14)


def test_too_many_rows_are_refused(build_random, monkeypatch):
    network = build_random(8, 12, 8)
    network = replace(network, limit_kw=np.full(network.n_lines, 0.7))
    factor = PtdfFactor(network)
    monkeypatch.setattr(limits_module, "MAX_DENSE_ENTRIES", 50)
    with pytest.raises(InputError, match="too many for dense rows"):
        line_rows(network, factor, 2)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (np.zeros((2, 1)), np.zeros((3, 1)), r"p_min_kw has shape \(2, 1\)"),
        (np.zeros((3, 1)), np.full((3, 1), np.nan), "p_max_kw has shape .* or holds NaN"),
        (np.array([[0.0], [2.0], [0.0]]), np.ones((3, 1)), "range of bus 2 is empty"),
        (np.full((3, 1), np.inf), np.full((3, 1), np.inf), "range of bus 1 is empty"),
    ],
)
def test_bad_ranges_are_refused(build, low, high, message):
    network = build(3, [(0, 1), (1, 2)], [1.0, 1.0], limit_kw=[1.0, 1.0])
    with pytest.raises(InputError, match=message):
        line_rows(network, PtdfFactor(network), 1, low, high)


def test_stack_rows_keeps_order_and_refuses_a_misfit(build):
    network = build(3, [(0, 1), (1, 2)], [1.0, 1.0], r_pu=[1.0, 1.0], limit_kw=[1.0, 2.0])
    lines = line_rows(network, PtdfFactor(network), 2)
    volts = voltage_rows(network, 0.9, 1.1, np.zeros((3, 2)))
    both = stack_rows(lines, volts)
    assert both.kind.tolist() == ["line", "line", "voltage", "voltage"]
    assert both.index.tolist() == [0, 1, 1, 2]
    assert stack_rows(empty_rows(network, 2), lines).n_rows == 2
    with pytest.raises(InputError, match="3 buses and 5 periods do not fit"):
        stack_rows(empty_rows(network, 5), lines)


def test_voltage_rows_bound_the_model_voltage(build):
    network = build(3, [(0, 1), (1, 2)], [0.05, 0.05], r_pu=[0.1, 0.1])
    rng = np.random.default_rng(0)
    q = rng.uniform(-50, 50, (3, 4))
    rows = voltage_rows(network, 0.95, 1.04, q, v_slack_pu=1.02)
    p = rng.uniform(-900, 900, (3, 4))
    voltage = lindistflow(network, 1.02).voltages(p, q)[rows.index]
    value = rows.matrix @ p
    np.testing.assert_array_equal(value < rows.lower, voltage < 0.95)
    np.testing.assert_array_equal(value > rows.upper, voltage > 1.04)
    assert 0 < (voltage < 0.95).sum() < voltage.size


def test_only_voltages_that_can_bind_are_kept(build):
    network = build(4, [(0, 1), (1, 2), (2, 3)], [0.05] * 3, r_pu=[0.1] * 3)
    low, high = np.full((4, 1), -np.inf), np.full((4, 1), np.inf)
    low[1:], high[1:] = [[0.0], [0.0], [-200.0]], 0.0
    rows = voltage_rows(network, 0.95, 1.05, np.zeros((4, 1)), p_min_kw=low, p_max_kw=high)
    assert rows.index.tolist() == [3]
    none = voltage_rows(network, 0.9, 1.1, np.zeros((4, 1)), p_min_kw=low, p_max_kw=high)
    assert none.n_rows == 0
    assert none.matrix.shape == (0, 4)


def test_bad_voltage_limits_are_refused(build):
    network = build(3, [(0, 1), (1, 2)], [1.0, 1.0])
    with pytest.raises(InputError, match="lower limit is not positive or not below"):
        voltage_rows(network, 1.1, 0.9, np.zeros((3, 1)))
    with pytest.raises(InputError, match="q_bus_kvar has shape"):
        voltage_rows(network, 0.9, 1.1, np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"voltage of bus 1, .* outside 0\.9 to 1\.1"):
        voltage_rows(network, 0.9, 1.1, np.zeros((3, 1)), v_slack_pu=1.2)
    meshed = build(3, [(0, 1), (1, 2), (0, 2)], [1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="are not a tree"):
        voltage_rows(meshed, 0.9, 1.1, np.zeros((3, 1)))
