"""Rows of radial networks against their dense PTDF rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.grid import limits as limits_module
from raygrid.grid.limits import empty_rows, line_rows, stack_rows, voltage_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.grid.tree_rows import TreeRows, hang_up

TREES = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 12))


def limited(network, rng):
    limit = rng.uniform(0.1, 6.0, network.n_lines)
    limit[rng.random(network.n_lines) < 0.2] = np.inf
    ends = network.from_bus, network.to_bus
    turned = rng.random(network.n_lines) < 0.5
    return replace(
        network,
        from_bus=np.where(turned, *ends),
        to_bus=np.where(turned, *ends[::-1]),
        limit_kw=limit,
        flow_offset_kw=rng.uniform(-0.3, 0.3, network.n_lines),
    )


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_flows_prices_and_matrix_are_those_of_the_ptdf(build_random, draw):
    rng = np.random.default_rng(draw[0])
    network = limited(build_random(*draw, 0), rng)
    dense = line_rows(network, PtdfFactor(network), 2, as_tree=False)
    tree = line_rows(network, PtdfFactor(network), 2, as_tree=True)
    assert isinstance(tree, TreeRows)
    np.testing.assert_array_equal(tree.index, dense.index)
    np.testing.assert_array_equal(tree.kind, dense.kind)
    np.testing.assert_array_equal(tree.lower, dense.lower)
    np.testing.assert_array_equal(tree.upper, dense.upper)
    p = rng.normal(size=(network.n_buses, 2))
    m = rng.normal(size=(tree.n_rows, 2))
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(tree.flows(p), dense.flows(p), **close)
    np.testing.assert_allclose(tree.prices(m), dense.prices(m), **close)
    np.testing.assert_allclose(tree.sparse().toarray(), dense.sparse().toarray(), **close)
    np.testing.assert_allclose(tree.dense().matrix, dense.matrix, **close)
    np.testing.assert_allclose(tree.sizes(), dense.sizes(), **close)


@settings(max_examples=60, deadline=None)
@given(TREES, st.booleans())
def test_the_same_lines_are_kept_as_by_the_knapsack(build_random, draw, unbalanced):
    rng = np.random.default_rng(draw[0])
    network = limited(build_random(*draw, 0), rng)
    low = -rng.uniform(0, 2, (network.n_buses, 2)) + 2.0 * unbalanced
    high = low + rng.uniform(0, 3, (network.n_buses, 2))
    if rng.random() < 0.5:
        low[network.slack], high[network.slack] = -np.inf, np.inf
    dense = line_rows(network, PtdfFactor(network), 2, low, high, as_tree=False)
    tree = line_rows(network, PtdfFactor(network), 2, low, high, as_tree=True)
    np.testing.assert_array_equal(tree.index, dense.index)
    np.testing.assert_array_equal(tree.upper, dense.upper)


def test_large_radial_networks_have_tree_rows(build_random, monkeypatch):
    network = replace(build_random(5, 12, 0), limit_kw=np.ones(11))
    assert not isinstance(line_rows(network, PtdfFactor(network), 1), TreeRows)
    monkeypatch.setattr(limits_module, "MAX_DENSE_TREE_ENTRIES", 100)
    assert isinstance(line_rows(network, PtdfFactor(network), 1), TreeRows)
    meshed = replace(build_random(5, 12, 2), limit_kw=np.ones(13))
    assert not isinstance(line_rows(meshed, PtdfFactor(meshed), 1), TreeRows)
    with pytest.raises(ValueError, match="not radial"):
        line_rows(meshed, PtdfFactor(meshed), 1, as_tree=True)


def test_the_next_limited_line_above(build):
    """0 - 1 - 2 - 3 with 4 at 1; all lines but 1-2 are limited."""
    ends = [(0, 1), (1, 2), (3, 2), (1, 4)]
    network = build(5, ends, [1.0] * 4, limit_kw=[1.0, np.inf, 1.0, 1.0])
    rows = line_rows(network, PtdfFactor(network), 1, as_tree=True)
    assert rows.below.tolist() == [1, 3, 4]
    assert rows.sign.tolist() == [-1.0, 1.0, -1.0]
    assert rows.row_above.tolist() == [-1, 0, 0]
    assert hang_up(network).below(2).tolist() == [2, 3]


def test_voltage_rows_beside_them_make_them_dense(build, monkeypatch):
    network = build(3, [(0, 1), (1, 2)], [1.0, 1.0], r_pu=[1.0, 1.0], limit_kw=[1.0, 2.0])
    lines = line_rows(network, PtdfFactor(network), 2, as_tree=True)
    volts = voltage_rows(network, 0.9, 1.1, np.zeros((3, 2)))
    assert stack_rows(lines, empty_rows(network, 2)) is lines
    both = stack_rows(lines, volts)
    assert both.kind.tolist() == ["line", "line", "voltage", "voltage"]
    np.testing.assert_allclose(both.flows(np.ones((3, 2)))[:2], lines.flows(np.ones((3, 2))))
    monkeypatch.setattr(limits_module, "MAX_DENSE_ENTRIES", 5)
    with pytest.raises(InputError, match="beside voltage limits"):
        stack_rows(lines, volts)
