"""The actors' classes without Ray: repeated, stale and lost calls; the log; the policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayChannelError,
    RayError,
    RayTaskError,
)

from actors.benchmarks.common import load
from actors.errors import LostStateError
from actors.failure import FailureDecision, FailurePolicy, is_mendable
from actors.link import LinkError
from actors.log import RoundLog
from actors.operator import NetworkOperatorActor, OperatorData
from actors.prosumer import HostData, OutOfStepError, ProsumerActor
from raygrid.grid.limits import empty_rows
from raygrid.market.clearing import ClearingOptions
from raygrid.market.messages import Aggregate, PriceMessage, RoundOutcome
from raygrid.market.operator import MEAN_ROUNDS
from raygrid.market.session import initial_pi
from raygrid.prosumer.community import GivenPart
from raygrid.scenario.case import Case


def host_data(case: Case) -> HostData:
    return HostData(
        0, GivenPart(case.population), 1.0, case.grid, case.network.slack, case.period_hours
    )


def operator_data(case: Case) -> OperatorData:
    none = empty_rows(case.network, case.n_periods)
    return OperatorData(case.rows, none, case.network.n_buses, case.n_periods)


@pytest.fixture
def pair(
    case: Case, options: ClearingOptions
) -> tuple[ProsumerActor, NetworkOperatorActor, RoundOutcome]:
    host, operator = ProsumerActor(), NetworkOperatorActor()
    host.load(host_data(case))
    operator.load(operator_data(case))
    pi = initial_pi(case, options)
    summary = host.start(options.relaxation, pi)
    return host, operator, operator.start([summary], options, pi)


def rounds(
    host: ProsumerActor, operator: NetworkOperatorActor, outcome: RoundOutcome, n: int
) -> list[RoundOutcome]:
    """The outcomes that opened the first n rounds, and the one that opens the next."""
    outcomes = [outcome]
    for _ in range(n):
        outcomes.append(operator.handle(host.step(outcomes[-1].messages[0])))
    return outcomes


def same_sums(one: Aggregate, other: Aggregate) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("iteration", "host", "p_quanta", "phat_quanta", "norm_quanta")
    )


def test_a_repeated_step_does_nothing_twice(pair: tuple) -> None:
    host, operator, outcome = pair
    outcomes = rounds(host, operator, outcome, 3)
    for message in (outcomes[2].messages[0], outcomes[1].messages[0]):
        assert host.step(message) is host.step(message)
    assert operator.handle(host.step(outcomes[2].messages[0])) is outcomes[3]
    with pytest.raises(OutOfStepError, match="host 0 waits for round 3, got 0"):
        host.step(outcomes[0].messages[0])


def test_sums_of_different_rounds_are_not_mixed(pair: tuple) -> None:
    host, operator, outcome = pair
    part = host.step(outcome.messages[0])
    with pytest.raises(OutOfStepError, match=r"round 0 is open, got sums of \{0, 1\}"):
        operator.handle(part, replace(part, iteration=1))


@pytest.mark.parametrize("actor", [ProsumerActor(), NetworkOperatorActor()])
def test_a_new_process_says_that_it_knows_nothing(
    actor: ProsumerActor | NetworkOperatorActor, options: ClearingOptions
) -> None:
    assert actor.ping().incarnation == actor.ping().incarnation
    assert actor.ping().incarnation != type(actor)().ping().incarnation
    if isinstance(actor, ProsumerActor):
        with pytest.raises(LostStateError, match="no prosumers loaded"):
            actor.start(1.0, np.zeros(2))
        with pytest.raises(LostStateError, match="no clearing is open"):
            actor.step(PriceMessage(0, np.zeros((1, 2)), 1.0, 1.0))
    else:
        with pytest.raises(LostStateError, match="no network loaded"):
            actor.start([], options, np.zeros(2))
        with pytest.raises(LostStateError, match="no clearing is open"):
            actor.handle()


def test_the_operator_sees_sums_alone(case: Case, options: ClearingOptions) -> None:
    """Of two hosts at the same buses: neither its part, before, during nor after the rounds."""
    masked = replace(options, masked_sums=True)
    pi = initial_pi(case, options)
    seats = [np.array([0, 2, 4]), np.array([1, 3, 5])]
    population = replace(case.population, bus=np.array([1, 1, 2, 2, 3, 3]))
    hosts = []
    for k, rows in enumerate(seats):
        part = GivenPart(population.take(rows))
        data = HostData(k, part, 1.0, None, case.network.slack, case.period_hours)
        hosts.append(ProsumerActor())
        hosts[k].load(data)
    open_summaries = [host.start(options.relaxation, pi) for host in hosts]
    plain = [host.block.step(PriceMessage(0, np.tile(pi, (3, 1)), 0.1, 1.0)) for host in hosts]
    rooms = [host.block.headroom() for host in hosts]
    for host in hosts:
        host.start(options.relaxation, pi)
    identities = [host.make_masks() for host in hosts]
    summaries = [host.meet(identities) for host in hosts]
    operator = NetworkOperatorActor()
    operator.load(operator_data(case))
    outcome = operator.start(summaries, masked, pi)
    answers = [h.step(m) for h, m in zip(hosts, outcome.messages, strict=True)]
    hidden = [host.headroom() for host in hosts]
    for name in ("p_quanta", "phat_quanta", "norm_quanta"):
        true, seen = ([getattr(a, name) for a in side] for side in (plain, answers))
        assert not np.any(true[0] == seen[0])
        assert np.array_equal(true[0] + true[1], seen[0] + seen[1])
    for name in ("p_quanta", "up_quanta", "marginal_up_quanta", "up_cost_quanta"):
        true, seen = ([getattr(a, name) for a in side] for side in (rooms, hidden))
        assert not np.any(true[0] == seen[0])
        assert np.array_equal(true[0] + true[1], seen[0] + seen[1])
    assert not np.any(open_summaries[0].weight_quanta == summaries[0].weight_quanta)
    weights = NetworkOperatorActor()
    weights.load(operator_data(case))
    weights.start(open_summaries, options, pi)
    assert np.array_equal(operator.operator.bus_weight, weights.operator.bus_weight)


def test_read_only_arrays_are_taken(case: Case, options: ClearingOptions) -> None:
    """What comes from the object store or a channel cannot be written to."""
    frozen = case.population.take(slice(None))
    arrays = [value for value in vars(frozen).values() if isinstance(value, np.ndarray)]
    for array in arrays:
        array.flags.writeable = False
    host = ProsumerActor()
    host.load(replace(host_data(case), prosumers=GivenPart(frozen)))
    pi = initial_pi(case, options)
    buses = host.start(options.relaxation, pi).buses
    duals = np.tile(pi, (len(buses), 1))
    duals.flags.writeable = False
    assert host.step(PriceMessage(0, duals, options.rho, 1.0)).iteration == 0
    for array in arrays:
        array.flags.writeable = True


@pytest.mark.parametrize("n_rounds", [0, 1, 5])
def test_an_operator_is_rebuilt_from_the_last_messages(
    n_rounds: int, pair: tuple, case: Case
) -> None:
    host, operator, _ = pair
    options = ClearingOptions(residual_balancing=True)
    pi = initial_pi(case, options)
    summary = host.start(options.relaxation, pi)
    outcomes = rounds(host, operator, operator.start([summary], options, pi), n_rounds)
    log = RoundLog()
    for known in outcomes:
        log.add(known)
    successor = NetworkOperatorActor()
    successor.load(operator_data(case))
    successor.start([summary], options, pi)
    before = log.before
    sums = [] if before is None else [host.step(before.messages[0])]
    successor.resume(log.opening, before, sums, 1.0)
    part = host.step(log.opening.messages[0])
    mine, theirs = successor.handle(part), operator.handle(part)
    assert replace(mine.record, seconds=0.0) == replace(theirs.record, seconds=0.0)
    assert mine.decision is theirs.decision
    assert np.array_equal(mine.messages[0].pi_kw, theirs.messages[0].pi_kw)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_successor_finds_the_same_of_several_sets_of_limits(remembers: bool) -> None:
    """Prices where nobody stands, and the bound, depend on which limits were full before."""
    case, options = load("community", agents=24)
    host, operator = ProsumerActor(), NetworkOperatorActor()
    host.load(host_data(case))
    operator.load(operator_data(case))
    pi = initial_pi(case, options)
    summary = host.start(options.relaxation, pi)
    known = rounds(host, operator, operator.start([summary], options, pi), 77)
    log = RoundLog(limit_bytes=0)
    for outcome in known:
        log.add(outcome)
    before = log.before
    assert before is not None
    assert len(log.memories) == MEAN_ROUNDS
    successor = NetworkOperatorActor()
    successor.load(operator_data(case))
    successor.start([summary], options, pi)
    memories = log.memories if remembers else ()
    sums = [host.step(before.messages[0])]
    successor.resume(log.opening, before, sums, 1.0, memories)
    part = host.step(log.opening.messages[0])
    assert same_prices(successor.handle(part), operator.handle(part)) == remembers
    finals = [one.finish(host.block.headroom()) for one in (successor, operator)]
    for name in ("lmp_per_kwh", "balance_price_per_kwh", "row_price"):
        one, other = (getattr(final, name) for final in finals)
        assert np.array_equal(one, other) == remembers, name


def same_prices(one: RoundOutcome, other: RoundOutcome) -> bool:
    return np.array_equal(one.messages[0].pi_kw, other.messages[0].pi_kw)


def test_a_host_is_rebuilt_from_all_messages(pair: tuple, case: Case) -> None:
    host, operator, outcome = pair
    outcomes = rounds(host, operator, outcome, 4)
    log = RoundLog()
    for known in outcomes:
        log.add(known)
    assert log.is_complete
    successor = ProsumerActor()
    successor.load(host_data(case))
    options = ClearingOptions()
    successor.start(options.relaxation, initial_pi(case, options))
    for message in log.done(0):
        successor.step(message)
    message = log.opening.messages[0]
    assert same_sums(successor.step(message), host.step(message))


def test_a_full_log_keeps_the_last_two_rounds(pair: tuple) -> None:
    log = RoundLog(limit_bytes=0)
    outcomes = rounds(*pair, 3)
    for known in outcomes:
        log.add(known)
    assert not log.is_complete
    assert (log.before, log.opening) == (outcomes[2], outcomes[3])
    assert log.done(0) == [outcomes[2].messages[0]]


def test_the_same_round_again_replaces_its_outcome(pair: tuple) -> None:
    log = RoundLog()
    _, operator, outcome = pair
    log.add(outcome)
    again = operator.tighten(0.1)
    log.add(again)
    assert log.opening is again
    assert log.before is None


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("step", "trace", cause, "actor", 1, "127.0.0.1")


@pytest.mark.parametrize(
    ("error", "mendable"),
    [
        (ActorUnavailableError("gone", None), True),
        (RayChannelError("closed"), True),
        (GetTimeoutError("late"), True),
        (task_error(RayChannelError("closed")), True),
        (LinkError("closed"), True),
        (task_error(LinkError("closed")), True),
        (task_error(LostStateError("new")), True),
        (task_error(OutOfStepError("stale")), False),
        (task_error(ValueError("wrong")), False),
        (ValueError("wrong"), False),
    ],
)
def test_what_a_restart_can_mend(error: Exception, mendable: bool) -> None:
    assert is_mendable(error) is mendable


def test_the_policy_retries_then_goes_on_with_plain_calls_then_gives_up() -> None:
    policy = FailurePolicy(retries=1, failures=3)
    closed: RayError = RayChannelError("closed")
    assert [policy.decide(closed, k) for k in (1, 2, 3, 4)] == [
        FailureDecision.RETRY,
        FailureDecision.PLAIN_CALLS,
        FailureDecision.PLAIN_CALLS,
        FailureDecision.GIVE_UP,
    ]
    assert policy.decide(task_error(ValueError("wrong")), 1) is FailureDecision.GIVE_UP
