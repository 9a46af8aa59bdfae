"""Draws: known values, uniformity, independence of who draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raygrid.scenario import draws

IDS = np.arange(1, 100_001)


def test_splitmix64_published_values():
    # First outputs of the reference generator started at state 1234567 (Steele et al. 2014).
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        states = np.uint64(1234567) + golden * np.arange(5, dtype=np.uint64)
    assert draws.splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_uniform_is_uniform(seed):
    u = draws.uniform(seed, "pv", IDS)
    assert u.dtype == np.float64
    assert (u >= 0).all()
    assert (u < 1).all()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    # Neighbouring ids, other streams and other seeds are unrelated.
    for other in (u[1:], draws.uniform(seed, "battery", IDS)[:-1]):
        assert abs(np.corrcoef(u[:-1], other)[0, 1]) < 0.02
    assert abs(np.corrcoef(u, draws.uniform(seed ^ 1, "pv", IDS))[0, 1]) < 0.02


@given(
    seed=st.integers(0, 2**63 - 1),
    first=st.integers(1, 10**9),
    n=st.integers(2, 60),
    data=st.data(),
)
def test_who_draws_does_not_matter(seed, first, n, data):
    ids = np.arange(first, first + n)
    cut = data.draw(st.integers(1, n - 1))
    order = data.draw(st.permutations(range(n)))
    for draw in (
        lambda i: draws.uniform(seed, "s", i),
        lambda i: draws.stratified(seed, "s", i),
        lambda i: draws.integers(seed, "s", i, -3, 7),
        lambda i: draws.choice(seed, "s", i, np.array([1.0, 2.0, 0.0, 3.0])),
    ):
        whole = draw(ids)
        np.testing.assert_array_equal(whole, np.concatenate([draw(ids[:cut]), draw(ids[cut:])]))
        np.testing.assert_array_equal(whole[order], draw(ids[order]))


def test_each_block_has_one_draw_in_every_stratum():
    u = draws.stratified(7, "pv", np.arange(1, 51))
    strata = np.floor(u * 10).astype(int).reshape(5, 10)
    np.testing.assert_array_equal(np.sort(strata, axis=1), np.tile(np.arange(10), (5, 1)))
    assert (u < 0.6).sum() == 30
    assert stats.kstest(draws.stratified(7, "pv", IDS), "uniform").pvalue > 1e-3


def test_integers_and_choice_cover_what_they_may():
    k = draws.integers(3, "shift", IDS, -2, 2)
    assert np.unique(k).tolist() == [-2, -1, 0, 1, 2]
    weights = np.array([1.0, 0.0, 3.0])
    share = np.bincount(draws.choice(3, "bus", IDS, weights), minlength=3) / len(IDS)
    np.testing.assert_allclose(share, [0.25, 0.0, 0.75], atol=0.01)
