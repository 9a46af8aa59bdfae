"""Feeder operators on Ray: the bits of one operator, also after a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.checkpoint import CheckpointWriter, PastRounds, read_checkpoint
from actors.cluster import ClusterOrigin, ClusterResources, NodeResources
from actors.driver import RayMarket, place
from actors.feeders import lost_round, near
from actors.placement import PlacementPolicy, plan_feeders
from raygrid.errors import InputError
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.messages import PriceMessage, RoundDecision, RoundOutcome
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.build import load_case
from raygrid.scenario.case import Case
from tests.actors.test_driver import KillAt, assert_same_market


@pytest.fixture(scope="module")
def town() -> Case:
    """Nine grids on an evening, when limits bind."""
    evening = "horizon={periods: 6, period_hours: 1, start: 2016-06-09T18:00:00}"
    return load_case("town", settings=["network.grids=9", evening])


@pytest.fixture(scope="module")
def alone(town: Case, options: ClearingOptions) -> ClearingResult:
    return clear(town, options, local_exchange(town, options))


def open_town(town: Case, resources: ClusterResources, hosts: int, feeders: int) -> RayMarket:
    placement = place(town, PlacementPolicy.parse(str(hosts)), resources, feeders)
    assert not feeders or f"{feeders} feeder operator" in placement.describe()
    return RayMarket(town, placement, resources)


@pytest.fixture(scope="module")
def market(town: Case, resources: ClusterResources) -> Iterator[RayMarket]:
    with open_town(town, resources, 2, 2) as opened:
        yield opened


@pytest.mark.ray
def test_feeder_operators_give_the_market_of_one(
    town: Case,
    market: RayMarket,
    alone: ClearingResult,
    options: ClearingOptions,
    resources: ClusterResources,
) -> None:
    assert alone.status is ClearingStatus.CONVERGED
    assert np.ptp(alone.lmp_per_kwh, axis=0).max() > 1e-3
    assert_same_market(market.clear(options), alone)
    assert market.failures == ()
    assert len(market.pulses) == 5
    with open_town(town, resources, 3, 1) as other:
        assert_same_market(other.clear(options), alone)


@pytest.mark.ray
@pytest.mark.parametrize("changed", [{"masked_sums": True}, {"network_constrained": False}])
def test_other_settings_too(town: Case, market: RayMarket, changed: dict[str, bool]) -> None:
    options = ClearingOptions(**changed)  # type: ignore[arg-type]
    expected = clear(town, options, local_exchange(town, replace(options, masked_sums=False)))
    assert_same_market(market.clear(options), expected)


@pytest.mark.ray
@pytest.mark.parametrize("member", ["feeder", "host", "operator"])
def test_a_killed_member_is_replaced(
    member: str,
    market: RayMarket,
    alone: ClearingResult,
    options: ClearingOptions,
) -> None:
    position = {"host": 1, "feeder": 2, "operator": -1}[member]
    before = market.take_pulses()[position].pid
    result = market.clear(options, KillAt(before, {5}))
    assert result.status is ClearingStatus.CONVERGED
    assert len(market.failures) == 1
    assert market.take_pulses()[position].pid != before
    assert result.iterations <= alone.iterations + 10
    assert result.welfare == pytest.approx(alone.welfare, rel=1e-3)
    if member == "feeder":
        # All hosts are there, and with them all that the rounds had come to.
        np.testing.assert_array_equal(result.lmp_per_kwh, alone.lmp_per_kwh)


@pytest.mark.ray
def test_a_host_and_its_feeder_operator_die_together(
    market: RayMarket, alone: ClearingResult, options: ClearingOptions
) -> None:
    host, feeder = (market.take_pulses()[k].pid for k in (0, 2))
    killed: list[int] = []

    def kill(outcome: RoundOutcome) -> None:
        if outcome.record is not None and outcome.record.iteration == 7 and not killed:
            for pid in (host, feeder):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    result = market.clear(options, kill)
    assert killed
    assert result.status is ClearingStatus.CONVERGED
    assert result.welfare == pytest.approx(alone.welfare, rel=1e-3)


@pytest.mark.ray
@pytest.mark.parametrize(("rounds", "hosts", "feeders"), [(1, 2, 2), (7, 3, 1), (14, 1, 0)])
def test_another_driver_goes_on_after_the_last_round(
    rounds: int, hosts: int, feeders: int, town: Case, market: RayMarket, alone: ClearingResult,
    options: ClearingOptions, resources: ClusterResources, tmp_path: Path,
) -> None:  # fmt: skip
    """Under any placement, with the same bits; a third driver too, after the second one died."""
    path, digest = tmp_path / "checkpoint.bin", bytes(32)
    past = die_after(rounds, market, options, path)
    # The operator is up to two rounds ahead of its feeder operators' files.
    assert rounds - 1 <= len(past) - 1 <= rounds
    with open_town(town, resources, hosts, feeders) as other:
        (tmp_path / "second").mkdir()
        again = die_after(5, other, options, tmp_path / "second" / path.name, past)
        assert len(again) > len(past)
        assert_same_market(other.clear(options, past=again), alone)
    third = CheckpointWriter(tmp_path / "third.bin", digest)
    result = market.clear(options, checkpoint=third, past=again)
    assert_same_market(result, alone)
    third.close()
    whole = read_checkpoint(tmp_path / "third.bin", digest)
    assert len(whole) == 1 + alone.iterations
    # Killed after the last round: the final schedule is all that is left to do.
    assert_same_market(market.clear(options, past=whole), alone)
    third.discard()
    assert not list(tmp_path.glob("third*"))


def die_after(
    rounds: int, market: RayMarket, options: ClearingOptions, path: Path,
    past: PastRounds | None = None,
) -> PastRounds:  # fmt: skip
    """What a driver leaves that dies after so many rounds of its own."""
    left = rounds

    def die(outcome: RoundOutcome) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise ConnectionAbortedError

    writer = CheckpointWriter(path, bytes(32))
    with pytest.raises(ConnectionAbortedError):
        market.clear(options, die, checkpoint=writer, past=past)
    writer.close()
    return read_checkpoint(path, bytes(32))


def message(iteration: int, value: float) -> PriceMessage:
    return PriceMessage(iteration, np.full((1, 1), value), 0.1 * (iteration + 1), 1.0)


OPENING = RoundOutcome(
    RoundDecision.CONTINUE, None, 0.0, (message(0, -1.0), message(0, -2.0), message(0, -3.0))
)


def test_the_round_that_all_have_begun_is_done_again() -> None:
    hosts = [{4: message(4, 1.0), 5: message(5, 1.5)}, {3: message(3, 2.0), 4: message(4, 2.5)}]
    hosts.append({4: message(4, 3.0), 5: message(5, 3.5)})
    again = lost_round(hosts, [], OPENING)
    assert [m.iteration for m in again.messages] == [4, 4, 4]
    assert [float(m.pi_kw[0, 0]) for m in again.messages] == [1.0, 2.5, 3.0]
    # A feeder operator that has gone further alone does not matter.
    assert lost_round(hosts, [{1: {5: message(5, 9.0)}}], OPENING) == again


def test_a_lost_host_goes_on_with_the_last_prices_that_anybody_knows() -> None:
    hosts = [{4: message(4, 1.0), 5: message(5, 1.5)}, None, {4: message(4, 3.0)}]
    sent = [{0: {5: message(5, 1.5)}, 1: {4: message(4, 2.0), 5: message(5, 2.5)}}]
    for feeders, second in ((sent, 2.5), ([], -2.0)):
        again = lost_round(hosts, feeders, OPENING)
        assert {m.iteration for m in again.messages} == {5}
        assert {m.rho for m in again.messages} == {message(5, 0.0).rho}
        assert [float(m.pi_kw[0, 0]) for m in again.messages] == [1.5, second, 3.0]


def test_before_the_first_round_the_opening_stands() -> None:
    again = lost_round([{}, {}, {}], [], OPENING)
    assert again.messages == OPENING.messages


def test_feeder_operators_are_hired_near_their_hosts() -> None:
    assert near(["a", "a", "b", "b", "b"], 2) == ["a", "b"]
    assert near(["a", "b", "b"], 1) == ["b"]


def test_how_many_there_are(town: Case) -> None:
    machine = ClusterResources(ClusterOrigin.JOINED, "", (NodeResources("n", "", 4, 2**34),))
    small = town.network
    large = load_case("town", settings=["network.grids=160"], periods=1).network
    assert plan_feeders(None, small, 2, machine) == 0
    assert plan_feeders(None, large, 2, machine) == 2
    assert plan_feeders(None, large, 9, machine) == 4
    assert plan_feeders(0, large, 2, machine) == 0
    with pytest.raises(InputError, match="3 feeder operators for 2 prosumer actors"):
        plan_feeders(3, large, 2, machine)
    with pytest.raises(InputError, match="large radial networks, not one of 5 buses"):
        plan_feeders(1, load_case("tiny").network, 2, machine)
