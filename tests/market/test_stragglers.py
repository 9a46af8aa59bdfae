"""Bounded staleness by the clock: late hosts, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.market.clearing import ClearingOptions
from raygrid.market.messages import Aggregate, PriceMessage, RoundDecision, RoundOutcome
from raygrid.market.patience import Patience
from raygrid.market.session import LocalExchange, clear, local_exchange
from raygrid.market.stragglers import PatientRounds, SilentHostError
from raygrid.scenario.case import Case
from tests.cases import small_case

OPTIONS = ClearingOptions()


@pytest.fixture(scope="module")
def case() -> Case:
    """Six prosumers, so that one host each is affordable; a line binds."""
    return small_case(n=6, n_periods=8, seed=3, limit_kw=2.0)


def exchange_of(case: Case) -> LocalExchange:
    return local_exchange(case, OPTIONS, [np.array([k]) for k in range(len(case.population))])


class Slow:
    """Hosts whose answers take as long as a function of host and round says; its own clock."""

    def __init__(self, exchange: LocalExchange, delay_s: Callable[[int, int], float]) -> None:
        self.exchange, self.delay_s = exchange, delay_s
        self.now_s = 0.0
        self.due: dict[int, tuple[float, Aggregate]] = {}
        self.got: list[list[int]] = [[] for _ in exchange.blocks]
        self.ages: list[list[int]] = []

    def send(self, host: int, message: PriceMessage) -> None:
        assert host not in self.due
        self.got[host].append(message.iteration)
        answer = self.exchange.blocks[host].step(message)
        self.due[host] = self.now_s + self.delay_s(host, message.iteration), answer

    def collect(self, timeout_s: float) -> Sequence[tuple[int, Aggregate]]:
        assert timeout_s > 0
        self.now_s = np.nextafter(min(self.now_s + timeout_s, max(self.now_s, self._next())), 1e99)
        ready = [k for k, (at, _) in self.due.items() if at <= self.now_s]
        return [(k, self.due.pop(k)[1]) for k in ready]

    def _next(self) -> float:
        return min(at for at, _ in self.due.values())

    def handle(self, aggregates: Sequence[Aggregate], all_fresh: bool) -> RoundOutcome:
        now = self.exchange.operator.iteration
        self.ages.append([now - part.iteration for part in aggregates])
        assert all_fresh == (max(self.ages[-1]) == 0)
        return self.exchange.operator.handle(aggregates, all_fresh)

    def rounds(self, patience: Patience) -> PatientRounds:
        n_hosts = len(self.exchange.blocks)
        return PatientRounds(n_hosts, patience, self, self.handle, clock=lambda: self.now_s)


def run(slow: Slow, patience: Patience) -> tuple[RoundOutcome, PatientRounds]:
    rounds, outcome = slow.rounds(patience), slow.exchange.open()
    while outcome.decision is RoundDecision.CONTINUE:
        outcome = rounds.round(outcome)
    return outcome, rounds


def test_with_punctual_hosts_no_bit_changes(case: Case) -> None:
    expected = clear(case, OPTIONS, exchange_of(case))
    slow = Slow(exchange_of(case), lambda host, iteration: 0.01 * host)
    outcome, rounds = run(slow, Patience(1.0))
    assert outcome.record is not None
    assert replace(outcome.record, seconds=0.0) == replace(expected.records[-1], seconds=0.0)
    assert np.array_equal(slow.exchange.operator.lmp_per_kwh, expected.lmp_per_kwh)
    assert (rounds.waits.rounds, rounds.waits.short_rounds, rounds.waits.late) == (
        expected.iterations, 0, 0,
    )  # fmt: skip
    # As long as the slowest, not as long as the patience.
    assert slow.now_s == pytest.approx(0.05 * expected.iterations)


@settings(max_examples=25, deadline=None)
@given(
    most=st.integers(1, 8), seed=st.integers(0, 10**6), slow_hosts=st.integers(0, 6),
    delay_s=st.floats(0.05, 3.0),
)  # fmt: skip
def test_every_delay_ends_in_the_same_market(
    case: Case, most: int, seed: int, slow_hosts: int, delay_s: float
) -> None:
    """Prices come in the order of rounds, nobody misses too many, the end is with everybody."""
    reference = clear(case, OPTIONS, exchange_of(case))
    draw = np.random.default_rng(seed)

    def delay(host: int, iteration: int) -> float:
        return 0.01 + (delay_s * draw.random() if host < slow_hosts else 0.0)

    slow = Slow(exchange_of(case), delay)
    outcome, _ = run(slow, Patience(0.1, most))
    assert outcome.decision is RoundDecision.CONVERGED
    assert max(map(max, slow.ages)) <= most
    assert max(slow.ages[-1]) == 0
    assert all(np.all(np.diff(rounds) > 0) for rounds in slow.got)
    final, hosts = slow.exchange.finish()
    assert not final.faults
    welfare = sum(host.welfare_quanta for host in hosts) * 1e-9 * case.period_hours
    assert welfare == pytest.approx(reference.welfare, rel=2e-3)


def test_who_owes_an_answer_is_not_waited_for(case: Case) -> None:
    """A host that stops for five seconds holds up one patience, then the rounds it may miss."""
    slow = Slow(
        exchange_of(case), lambda host, iteration: 5.0 if (host, iteration) == (2, 3) else 0.001
    )
    rounds, outcome = slow.rounds(Patience(0.1, 10)), slow.exchange.open()
    ends = []
    for _ in range(14):
        outcome = rounds.round(outcome)
        ends.append(slow.now_s)
    took = np.diff([0.0, *ends])
    assert took[3] == pytest.approx(0.1)
    np.testing.assert_allclose(took[[0, 1, 2, *range(4, 13)]], 0.001)
    # Round 13 cannot go on without it: its late answer comes, then the one to these prices.
    assert took[13] == pytest.approx(5.0 - 0.1 - 9 * 0.001 + 0.001)
    assert [age[2] for age in slow.ages] == [0, 0, 0, *range(1, 11), 0]
    assert (rounds.waits.late, rounds.waits.short_rounds, rounds.waits.forced_rounds) == (1, 10, 1)


def test_a_host_that_is_always_late_is_waited_for(case: Case) -> None:
    """After three answers in vain, so that it costs few more rounds, until it is punctual again."""
    reference = clear(case, OPTIONS, exchange_of(case))
    slow = Slow(exchange_of(case), lambda host, iteration: 0.5 if host == 0 else 0.001)
    _, rounds = run(slow, Patience(0.1, 3))
    assert rounds.waits.late == 3
    assert rounds.waits.rounds <= reference.iterations + 3 * (3 + 1)
    slow = Slow(
        exchange_of(case),
        lambda host, iteration: 0.5 if host == 0 and iteration < 13 else 0.001,
    )
    rounds, outcome = slow.rounds(Patience(0.1, 3)), slow.exchange.open()
    for _ in range(14):
        outcome = rounds.round(outcome)
    slow.delay_s = lambda host, iteration: 0.5
    begun = slow.now_s
    rounds.round(outcome)
    assert slow.now_s - begun == pytest.approx(0.1)


def test_a_silent_host_is_named_after_a_bound(case: Case) -> None:
    slow = Slow(exchange_of(case), lambda host, iteration: 1e9 if host == 4 else 0.001)
    rounds, outcome = slow.rounds(Patience(0.1, 10, lost_after_s=7.0)), slow.exchange.open()
    with pytest.raises(SilentHostError, match="host 4 gave no answer for 7 s"):
        rounds.round(outcome)
    assert slow.now_s == pytest.approx(7.0)


def test_where_nobody_may_be_missing_rounds_wait_for_all(case: Case) -> None:
    """As with masked sums: the bits of rounds without stragglers."""
    expected = clear(case, OPTIONS, exchange_of(case))
    slow = Slow(exchange_of(case), lambda host, iteration: 2.0 if host == 1 else 0.001)
    _, rounds = run(slow, Patience(0.1, 0))
    assert np.array_equal(slow.exchange.operator.lmp_per_kwh, expected.lmp_per_kwh)
    assert (rounds.waits.late, rounds.waits.short_rounds) == (0, 0)
    assert rounds.waits.forced_rounds == expected.iterations
