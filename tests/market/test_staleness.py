"""Bounded staleness: the same market over slow and lossy links, in more rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.market.channel import Channel, NoisyLink, Staleness
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.messages import Aggregate, RoundDecision, RoundOutcome
from raygrid.market.session import LocalExchange, clear, local_exchange
from raygrid.market.staleness import Traffic
from raygrid.scenario.case import Case
from tests.cases import small_case

OPTIONS = ClearingOptions()


@pytest.fixture(scope="module")
def case() -> Case:
    """Six prosumers, so that one host each is affordable; a line binds."""
    return small_case(n=6, n_periods=8, seed=3, limit_kw=2.0)


def exchange_of(case: Case, staleness: Staleness | None = None) -> LocalExchange:
    """One host a prosumer."""
    hosts = [np.array([k]) for k in range(len(case.population))]
    return local_exchange(case, replace(OPTIONS, staleness=staleness), hosts)


def clear_over(case: Case, staleness: Staleness) -> tuple[ClearingResult, Traffic]:
    exchange = exchange_of(case, staleness)
    result = clear(case, OPTIONS, exchange)
    assert exchange.lossy is not None
    return result, exchange.lossy.traffic


def test_a_perfect_channel_changes_no_bit(case: Case) -> None:
    expected = clear(case, OPTIONS, exchange_of(case))
    got, traffic = clear_over(case, Staleness(Channel(), patience_s=1.0))
    assert [replace(r, seconds=0.0) for r in got.records] == [
        replace(r, seconds=0.0) for r in expected.records
    ]
    assert np.array_equal(got.p_bus_kw, expected.p_bus_kw)
    assert (traffic.lost, traffic.late, traffic.seconds, traffic.waited_rounds) == (0, 0, 0.0, 0)
    assert traffic.messages == 2 * 6 * got.iterations


@settings(max_examples=25, deadline=None)
@given(
    loss=st.floats(0, 0.5), jitter=st.floats(0, 0.3), patience=st.floats(0.05, 0.5),
    most=st.integers(1, 6), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_every_channel_ends_in_the_same_market(
    case: Case, loss: float, jitter: float, patience: float, most: int, seed: int
) -> None:
    reference = clear(case, OPTIONS, exchange_of(case))
    channel = Channel(0.02, jitter, loss, 1e6, seed)
    got, traffic = clear_over(case, Staleness(channel, patience, most))
    assert got.status is ClearingStatus.CONVERGED
    assert got.welfare == pytest.approx(reference.welfare, rel=2e-3)
    assert got.bound is not None
    assert got.welfare <= got.bound
    assert traffic.lost <= traffic.messages


def test_nobody_misses_more_rounds_than_allowed(case: Case) -> None:
    """And convergence is declared in a round of which everybody's answer was used."""
    exchange = exchange_of(case, Staleness(Channel(0.02, 0.0, 0.6, seed=5), 0.1, max_staleness=3))
    stale: list[list[int]] = []

    def handle(aggregates: Sequence[Aggregate], all_fresh: bool) -> RoundOutcome:
        now = exchange.operator.iteration
        stale.append([now - part.iteration for part in aggregates])
        assert all_fresh == (max(stale[-1]) == 0)
        return exchange.operator.handle(aggregates, all_fresh)

    assert exchange.lossy is not None
    exchange.lossy._book._handle = handle
    outcome = exchange.open()
    while outcome.decision is RoundDecision.CONTINUE:
        outcome = exchange.round(outcome)
    assert outcome.decision is RoundDecision.CONVERGED
    assert max(map(max, stale)) == 3
    assert max(stale[0]) == max(stale[-1]) == 0


def test_an_unused_step_is_taken_back(case: Case) -> None:
    """A host that hears that its answer was not used answers as if it had not stepped."""
    one, other = exchange_of(case).blocks[0], exchange_of(case).blocks[0]
    opening = exchange_of(case).open().messages[0]
    prices = [
        replace(opening, iteration=k, pi_kw=opening.pi_kw - 0.1 * k, used=used)
        for k, used in enumerate((True, True, False, False))
    ]
    for message in prices:
        answer = one.step(message)
    other.step(prices[0])
    expected = other.step(replace(prices[3], used=True))
    assert np.array_equal(answer.p_quanta, expected.p_quanta)
    assert np.array_equal(answer.phat_quanta, expected.phat_quanta)
    assert np.array_equal(answer.norm_quanta, expected.norm_quanta)


def test_time_is_that_of_the_slowest_answer_waited_for(case: Case) -> None:
    got, traffic = clear_over(case, Staleness(Channel(latency_s=0.03), patience_s=0.1))
    assert traffic.seconds == pytest.approx(0.06 * got.iterations, rel=1e-12)
    assert "patience_s" not in traffic.describe("EUR")
    # Nobody ever answers in time: each is waited for in the rounds in which it must answer.
    got, traffic = clear_over(case, Staleness(Channel(latency_s=0.06), 0.1, max_staleness=1))
    assert got.status is ClearingStatus.CONVERGED
    assert traffic.waited_rounds > 0
    assert traffic.late > 0
    assert traffic.describe("EUR").endswith("raise communication.patience_s")


def test_links_cost_for_as_long_as_the_clearing_takes(case: Case) -> None:
    """Six links of TES (6) to (8); the cost changes no bit of the market."""
    link = NoisyLink(1e6, 2.0, 5e5, 4e6, 4.0, 0.5, cost_per_hour=36.0, penalty_per_hour=72.0)
    channel = Channel(0.02, rate_bits_per_s=link.rate_bits_per_s)
    free, without = clear_over(case, Staleness(channel, 0.1))
    got, traffic = clear_over(case, Staleness(channel, 0.1, link=link))
    assert np.array_equal(got.p_bus_kw, free.p_bus_kw)
    assert without.cost is None
    # The slowest host has two buses of 8 periods, its own and the grid's: 128 bytes and 256.
    seconds = got.iterations * (2 * 0.02 + 8 * 384 / 1e6)
    assert traffic.seconds == pytest.approx(seconds, rel=1e-9)
    use = 0.5 * 2 / 4 + 0.5 * 1 / 4
    per_second = (36 * use + 72 * use**2) / 3600
    assert traffic.cost == pytest.approx(6 * per_second * seconds, rel=1e-9)
    assert f"; they cost {traffic.cost:.3g} EUR" in traffic.describe("EUR")
    assert "cost" not in without.describe("EUR")
