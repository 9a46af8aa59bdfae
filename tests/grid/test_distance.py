"""Electrical distance: hand-worked values and the axioms of a metric."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.grid import distance as distance_module
from raygrid.grid.distance import electrical_distance, neighbour_order

NETWORKS = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 8))


def test_series_and_parallel_by_hand(build):
    # |3 + 4j| = 5 twice in parallel, then 1 in series.
    network = build(3, [(0, 1), (1, 0), (1, 2)], [4.0, 4.0, 1.0], r_pu=[3.0, 3.0, 0.0])
    expected = [[0, 2.5, 3.5], [2.5, 0, 1.0], [3.5, 1.0, 0]]
    np.testing.assert_allclose(electrical_distance(network), expected, rtol=1e-12, atol=1e-14)


def test_tree_distance_is_the_length_of_the_path(case):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    _, converted = case("case33bw")
    network = converted.network
    graph = coo_array(
        (np.hypot(network.r_pu, network.x_pu), (network.from_bus, network.to_bus)), shape=(33, 33)
    )
    expected = shortest_path(graph.tocsr(), directed=False)
    np.testing.assert_allclose(electrical_distance(network), expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(NETWORKS)
def test_it_is_a_metric_whatever_the_slack(build_random, draw):
    from dataclasses import replace

    network = build_random(*draw[:2], draw[2] if draw[1] > 1 else 0)
    distance = electrical_distance(network)
    np.testing.assert_array_equal(np.diag(distance), 0.0)
    np.testing.assert_allclose(distance, distance.T, rtol=1e-12, atol=1e-14)
    through = (distance[:, :, None] + distance[None, :, :]).min(axis=1)
    assert (distance <= through + 1e-9).all()
    assert (distance[~np.eye(network.n_buses, dtype=bool)] > 0).all()
    other = electrical_distance(replace(network, slack=network.n_buses - 1))
    np.testing.assert_allclose(distance, other, rtol=1e-7, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(NETWORKS)
def test_order_is_a_permutation_that_starts_at_the_slack(build_random, draw):
    network = build_random(*draw[:2], draw[2] if draw[1] > 1 else 0)
    order = neighbour_order(network)
    assert order[0] == network.slack
    np.testing.assert_array_equal(np.sort(order), np.arange(network.n_buses))


def test_feeders_stay_together(build):
    network = build(5, [(0, 1), (0, 2), (1, 3), (2, 4)], [1.0, 1.0, 1.0, 1.0])
    order = neighbour_order(network).tolist()
    assert abs(order.index(1) - order.index(3)) == 1
    assert abs(order.index(2) - order.index(4)) == 1


def test_order_follows_the_stronger_of_parallel_lines(build):
    ends = [(0, 1), (1, 2), (2, 1), (0, 2)]
    network = build(3, ends, [1.0, 9.0, 1.0, 2.0])
    assert neighbour_order(network).tolist() == [0, 1, 2]


def test_too_many_buses_are_refused(build_random, monkeypatch):
    monkeypatch.setattr(distance_module, "MAX_BUSES", 5)
    with pytest.raises(InputError, match="use neighbour_order"):
        electrical_distance(build_random(0, 6, 0))
