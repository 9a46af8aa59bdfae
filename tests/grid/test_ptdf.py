"""PTDF against hand-worked values, a dense pseudo-inverse and its own invariants."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.grid import ptdf as ptdf_module
from raygrid.grid.ptdf import PtdfFactor, ptdf

NETWORKS = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(0, 8))


def pseudo_inverse_ptdf(network):
    """B_line A B^+ with the Moore-Penrose inverse, made to withdraw at the slack bus."""
    incidence = np.zeros((network.n_lines, network.n_buses))
    lines = np.arange(network.n_lines)
    np.add.at(incidence, (lines, network.from_bus), 1.0)
    np.add.at(incidence, (lines, network.to_bus), -1.0)
    weighted = incidence / network.x_pu[:, None]
    factors = weighted @ np.linalg.pinv(incidence.T @ weighted)
    return factors - factors[:, [network.slack]]


def test_triangle_by_hand(build):
    network = build(3, [(0, 1), (1, 2), (0, 2)], [1.0, 1.0, 1.0])
    expected = [[0, -2 / 3, -1 / 3], [0, 1 / 3, -1 / 3], [0, -1 / 3, -2 / 3]]
    np.testing.assert_allclose(ptdf(network), expected, rtol=1e-12, atol=1e-14)


def test_reactances_too_far_apart_are_refused(build):
    ends = [(0, 1), (1, 2), (2, 3)]
    ptdf(build(4, ends, [1e-3, 1e-8, 1e2]))
    with pytest.raises(InputError, match=r"x_pu from 1e-300 \(line 2\) to 0.002 \(line 3\)"):
        ptdf(build(4, ends, [1e-3, 1e-300, 2e-3]))


def test_one_bus_and_no_line(build):
    network = build(1, [], [])
    assert ptdf(network).shape == (0, 1)
    assert PtdfFactor(network).flows(np.ones((1, 3))).shape == (0, 3)


def test_dtype_and_shape(build_random):
    factors = ptdf(build_random(1, 6, 3))
    assert factors.shape == (8, 6)
    assert factors.dtype == np.float64


@settings(max_examples=60, deadline=None)
@given(NETWORKS)
def test_matches_the_pseudo_inverse(build_random, draw):
    network = build_random(*draw)
    np.testing.assert_allclose(ptdf(network), pseudo_inverse_ptdf(network), rtol=1e-8, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(NETWORKS)
def test_kirchhoff_current_law_at_every_bus(build_random, draw):
    network = build_random(*draw)
    factors = ptdf(network)
    out = np.zeros((network.n_buses, network.n_buses))
    np.add.at(out, network.from_bus, factors)
    np.subtract.at(out, network.to_bus, factors)
    expected = np.eye(network.n_buses)
    expected[network.slack] -= 1.0
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(NETWORKS)
def test_factors_lie_within_one_for_positive_reactances(build_random, draw):
    assert np.abs(ptdf(build_random(*draw))).max() <= 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(NETWORKS, st.data())
def test_balanced_flows_do_not_depend_on_the_slack(build_random, draw, data):
    network = build_random(*draw)
    p = np.random.default_rng(draw[0]).normal(size=(network.n_buses, 3))
    p -= p.mean(axis=0)
    other = replace(network, slack=data.draw(st.integers(0, network.n_buses - 1)))
    np.testing.assert_allclose(
        PtdfFactor(other).flows(p), PtdfFactor(network).flows(p), rtol=1e-8, atol=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(NETWORKS)
def test_flows_are_factors_times_injections_plus_offset(build_random, draw):
    rng = np.random.default_rng(draw[0])
    network = build_random(*draw)
    network = replace(network, flow_offset_kw=rng.normal(size=network.n_lines))
    p = rng.normal(size=(network.n_buses, 4))
    np.testing.assert_allclose(
        PtdfFactor(network).flows(p),
        ptdf(network) @ p + network.flow_offset_kw[:, None],
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("name", ["case14", "case33bw", "case118"])
def test_slack_invariance_on_published_cases(case, oracle, name):
    net, converted = case(name)
    p = oracle(net, converted).p_bus_kw
    assert abs(p.sum()) < 1e-6
    flows = [
        PtdfFactor(replace(converted.network, slack=slack)).flows(p[:, None])
        for slack in range(0, converted.network.n_buses, 5)
    ]
    for flow in flows[1:]:
        np.testing.assert_allclose(flow, flows[0], rtol=1e-8, atol=1e-5)


def test_tree_factors_are_signs(case):
    _, converted = case("case33bw")
    factors = ptdf(converted.network)
    np.testing.assert_allclose(factors, np.rint(factors), rtol=0, atol=1e-9)


def test_rows_are_those_of_the_full_matrix(build_random):
    network = build_random(3, 10, 6)
    rows = PtdfFactor(network).rows(np.array([4, 0, 4]))
    np.testing.assert_allclose(rows, ptdf(network)[[4, 0, 4]], rtol=1e-12, atol=1e-14)
    assert PtdfFactor(network).rows(np.zeros(0, dtype=np.int64)).shape == (0, 10)


def test_a_factor_survives_pickling(build_random):
    factor = PtdfFactor(build_random(4, 7, 2))
    p = np.arange(7.0)[:, None]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(factor)).flows(p), factor.flows(p))


def test_too_large_a_matrix_is_refused(build_random, monkeypatch):
    monkeypatch.setattr(ptdf_module, "MAX_DENSE_ENTRIES", 20)
    with pytest.raises(InputError, match="ask PtdfFactor for fewer rows"):
        ptdf(build_random(5, 6, 0))


def test_reactances_that_cancel_are_refused(build):
    network = build(2, [(0, 1), (0, 1)], [0.5, -0.5])
    with pytest.raises(InputError, match="singular"):
        PtdfFactor(network)


@pytest.mark.slow
def test_9241_buses_without_a_dense_matrix(case, oracle):
    import tracemalloc

    net, converted = case("case9241pegase")
    network = converted.network
    dc = oracle(net, converted)
    tracemalloc.start()
    factor = PtdfFactor(network)
    lines = np.linspace(0, network.n_lines - 1, 20).astype(np.int64)
    rows = factor.rows(lines)
    flow = factor.flows(dc.p_bus_kw[:, None])[:, 0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    scale = np.abs(dc.flow_kw).max()
    np.testing.assert_allclose(flow, dc.flow_kw, rtol=1e-8, atol=1e-9 * scale)
    np.testing.assert_allclose(
        rows @ dc.p_bus_kw + network.flow_offset_kw[lines], dc.flow_kw[lines],
        rtol=1e-7, atol=1e-8 * scale,
    )  # fmt: skip
    assert peak < 100e6, "a dense PTDF would take 1.2 GB"
    with pytest.raises(InputError, match=r"would take 1\.2 GB"):
        ptdf(network)
