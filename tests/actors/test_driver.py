"""The market on Ray: the same bits for every placement, transport and death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import raygrid
from actors.carriers import Transport
from actors.checkpoint import CheckpointWriter, read_checkpoint
from actors.cluster import Cluster, ClusterOrigin, ClusterResources, connect
from actors.crew import Crew
from actors.driver import RayMarket, place
from actors.exchange import RayExchange
from actors.placement import PlacementPolicy
from actors.prosumer import OutOfStepError
from raygrid.errors import EndedShortError
from raygrid.market.channel import Channel, Staleness
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.messages import RoundOutcome
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.dispatch import Dispatch
from raygrid.scenario.case import Case
from tests.cases import battery_behind_a_line

pytestmark = pytest.mark.ray


def assert_same_market(got: ClearingResult, expected: ClearingResult) -> None:
    """Equal bit for bit in everything but wall times."""
    assert got.status is expected.status
    for mine, theirs in zip(got.records, expected.records, strict=True):
        assert replace(mine, seconds=0.0) == replace(theirs, seconds=0.0)
    for name in ("lmp_per_kwh", "settlement_price_per_kwh", "p_bus_kw", "flow_kw", "grid_kw"):
        assert np.array_equal(getattr(got, name), getattr(expected, name)), name
    assert (got.welfare, got.bound) == (expected.welfare, expected.bound)


def open_market(text: str, case: Case, resources: ClusterResources) -> RayMarket:
    return RayMarket(case, place(case, PlacementPolicy.parse(text), resources), resources)


@pytest.fixture(scope="module")
def market(case: Case, resources: ClusterResources) -> Iterator[RayMarket]:
    """Two packed hosts, used by all tests that do not kill them for good."""
    with open_market("2", case, resources) as opened:
        yield opened


def test_the_case_binds(case: Case, reference: ClearingResult) -> None:
    """Else the other tests would not see the limits."""
    assert reference.status is ClearingStatus.CONVERGED
    assert np.ptp(reference.lmp_per_kwh, axis=0).max() > 1e-3


@pytest.mark.parametrize("placement", ["each", "1"])
def test_every_placement_gives_the_same_market(
    placement: str, case: Case, options: ClearingOptions, resources: ClusterResources,
    reference: ClearingResult,
) -> None:  # fmt: skip
    with open_market(placement, case, resources) as market:
        assert_same_market(market.clear(options), reference)
        assert market.failures == ()


@pytest.mark.parametrize("transport", list(Transport))
def test_all_transports_give_the_same_market(
    transport: Transport, market: RayMarket, options: ClearingOptions, reference: ClearingResult
) -> None:
    shown: list[RoundOutcome] = []
    assert_same_market(market.clear(options, shown.append, transport), reference)
    assert [outcome.record for outcome in shown] != []
    assert len(shown) == reference.iterations
    assert market.failures == ()


def test_a_crew_clears_again_under_other_settings(market: RayMarket, case: Case) -> None:
    for options in (
        ClearingOptions(network_constrained=False),
        ClearingOptions(rho=0.5, residual_balancing=True),
        ClearingOptions(max_iterations=3),
    ):
        expected = clear(case, options, local_exchange(case, options))
        assert_same_market(market.clear(options), expected)


def test_a_warm_start_needs_few_rounds_and_survives_a_death(
    options: ClearingOptions, case: Case, resources: ClusterResources
) -> None:
    local = local_exchange(case, options)
    before = clear(case, options, local)
    again = ClearingOptions(rho=0.05)
    assert before.warm_start is not None
    expected = clear(case, again, local.again(case, again, before.warm_start))
    assert expected.iterations < before.iterations
    tight = ClearingOptions(relative_tolerance=1e-5, absolute_tolerance=1e-6)
    with open_market("2", case, resources) as market:
        market.clear(options)
        assert_same_market(market.clear(again, warm=True), expected)
        after = market.clear(tight, KillAt(market.pulses[0].pid, {1}), warm=True)
    assert after.status is ClearingStatus.CONVERGED
    assert after.welfare == pytest.approx(before.welfare, rel=1e-3)


@pytest.mark.parametrize("placement", ["each", "2"])
def test_masks_change_no_bit_of_the_market(
    placement: str, case: Case, resources: ClusterResources, reference: ClearingResult
) -> None:
    masked = ClearingOptions(masked_sums=True)
    with open_market(placement, case, resources) as market:
        assert_same_market(market.clear(masked), reference)
        killed = market.clear(masked, KillAt(market.pulses[0].pid, {4}))
        assert_same_market(killed, reference)
        assert market.failures != ()
        assert_same_market(market.clear(ClearingOptions()), reference)


def test_a_market_over_lossy_links_survives_deaths(
    case: Case, resources: ClusterResources, reference: ClearingResult
) -> None:
    lossy = ClearingOptions(staleness=Staleness(Channel(0.02, 0.05, 0.2, seed=7), 0.1, 3))
    with open_market("each", case, resources) as market:
        first = market.clear(lossy)
        assert first.status is ClearingStatus.CONVERGED
        assert first.iterations > reference.iterations
        assert first.welfare == pytest.approx(reference.welfare, rel=2e-3)
        assert market.traffic is not None
        assert market.traffic.lost > 0
        assert_same_market(market.clear(lossy), first)
        for pulse in (market.pulses[1], market.pulses[-1]):
            after = market.clear(lossy, KillAt(pulse.pid, {4}))
            assert after.status is ClearingStatus.CONVERGED
            assert after.welfare == pytest.approx(reference.welfare, rel=2e-3)
            assert market.failures != ()


@pytest.mark.parametrize("rounds", [0, 1, 5, 100])
def test_another_driver_goes_on_from_a_checkpoint(
    rounds: int, market: RayMarket, case: Case, options: ClearingOptions,
    resources: ClusterResources, reference: ClearingResult, tmp_path: Path,
) -> None:  # fmt: skip
    """Under another placement, with the same bits; also when killed after the last round."""
    shown: list[RoundOutcome] = []

    def die(outcome: RoundOutcome) -> None:
        shown.append(outcome)
        if len(shown) >= rounds:
            raise ConnectionAbortedError

    path, digest = tmp_path / "checkpoint", bytes(32)
    writer = CheckpointWriter(path, digest)
    if rounds <= reference.iterations:
        with pytest.raises(ConnectionAbortedError):
            market.clear(options, die, checkpoint=writer)
    else:
        market.clear(options, checkpoint=writer)
    writer.close()
    past = read_checkpoint(path, digest)
    # The opening comes before the first round, and the callback after each.
    assert len(past) == 1 + min(max(rounds, 1), reference.iterations)
    with open_market("1", case, resources) as other:
        result = other.clear(options, past=past)
    assert_same_market(result, reference)


def test_batteries_move_where_nothing_else_makes_a_final_schedule(
    resources: ClusterResources, options: ClearingOptions
) -> None:
    stuck = battery_behind_a_line()
    local = local_exchange(stuck, options)
    expected = clear(stuck, options, local)
    assert local.operator.finish([block.headroom() for block in local.blocks]).faults
    with open_market("2", stuck, resources) as market:
        assert_same_market(market.clear(options), expected)


def test_the_schedule_comes_back_in_the_case_s_order(
    market: RayMarket, case: Case, options: ClearingOptions
) -> None:
    local = local_exchange(case, options, [np.arange(len(case.population))])
    clear(case, options, local)
    final, _ = local.finish()
    expected = local.blocks[0].final_chunks(final.messages[0])
    market.clear(options)
    got = market.dispatch()
    (start, stop, dispatch), *rest = expected
    assert (start, stop, rest) == (0, len(case.population), [])
    for field in fields(Dispatch):
        assert np.array_equal(getattr(got, field.name), getattr(dispatch, field.name))


@pytest.mark.parametrize(("part_rows", "files"), [(10**6, 2), (10, 2)])
def test_the_schedule_is_written_whole(
    part_rows: int, files: int, market: RayMarket, case: Case, options: ClearingOptions,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By the driver where it is small, else by the hosts."""
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("actors.driver.PART_ROWS", part_rows)
    result = market.clear(options)
    folder = tmp_path / "schedule.parquet"
    monkeypatch.setattr(market, "day", 1)
    records = market.write_schedule(folder)
    assert len({record.file for record in records}) == len(records) == files
    rows = pq.read_table(folder).to_pandas()
    assert len(rows) == sum(record.rows for record in records) == (6 + 1) * 8
    assert sorted(rows.period.unique()) == list(range(8, 16))
    by_bus = rows.groupby(["bus", "period"]).p_kw.sum().unstack(fill_value=0.0)
    expected = result.p_bus_kw[np.isin(case.network.bus_id, by_bus.index)]
    np.testing.assert_allclose(by_bus.to_numpy(), expected, rtol=1e-9, atol=1e-7)


class KillAt:
    """A round callback that kills a process after a given round."""

    def __init__(self, pid: int, rounds: set[int]) -> None:
        self.pid, self.rounds, self.seen = pid, rounds, 0

    def __call__(self, outcome: RoundOutcome) -> None:
        self.seen += 1
        if self.seen in self.rounds:
            os.kill(self.pid, signal.SIGKILL)


@pytest.mark.parametrize("member", ["host", "operator"])
@pytest.mark.parametrize("transport", list(Transport))
def test_a_death_in_the_middle_changes_no_bit(
    member: str, transport: Transport, market: RayMarket, options: ClearingOptions,
    reference: ClearingResult,
) -> None:  # fmt: skip
    pulse = market.pulses[0 if member == "host" else -1]
    result = market.clear(options, KillAt(pulse.pid, {4}), transport)
    assert_same_market(result, reference)
    assert len(market.failures) >= 1
    assert market.pulses[0 if member == "host" else -1].pid != pulse.pid


def test_a_death_after_the_last_round_changes_no_bit(
    market: RayMarket, options: ClearingOptions, reference: ClearingResult
) -> None:
    kill = KillAt(market.pulses[1].pid, {reference.iterations})
    assert_same_market(market.clear(options, kill), reference)
    expected = market.dispatch()
    os.kill(market.pulses[0].pid, signal.SIGKILL)
    assert np.array_equal(market.dispatch().p_kw, expected.p_kw)


def test_without_the_log_a_dead_host_starts_from_the_duals(
    case: Case, options: ClearingOptions, resources: ClusterResources, reference: ClearingResult
) -> None:
    crew = Crew(case, place(case, PlacementPolicy.parse("2"), resources), resources)
    try:
        with RayExchange(crew, case, options, Transport.PLAIN, log_bytes=0) as exchange:
            result = clear(case, options, exchange, KillAt(crew.pulses[0].pid, {4}))
    finally:
        crew.dismiss()
    assert result.status is ClearingStatus.CONVERGED
    assert result.welfare == pytest.approx(reference.welfare, rel=1e-3)


@pytest.mark.parametrize("transport", list(Transport))
def test_an_interrupt_leaves_warm_actors(
    transport: Transport, market: RayMarket, options: ClearingOptions, reference: ClearingResult
) -> None:
    shown: list[RoundOutcome] = []

    def interrupt(outcome: RoundOutcome) -> None:
        shown.append(outcome)
        if len(shown) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        market.clear(options, interrupt, transport)
    assert len(shown) == 3
    assert_same_market(market.clear(options, transport=transport), reference)


def test_an_error_of_the_program_is_not_retried(
    market: RayMarket, case: Case, options: ClearingOptions
) -> None:
    """A host that refuses a round says so at once, with its own error."""
    with RayExchange(market._crew, case, options, Transport.PLAIN) as exchange:
        outcome = exchange.open()
        messages = tuple(replace(m, iteration=m.iteration + 5) for m in outcome.messages)
        with pytest.raises(OutOfStepError, match="waits for round 0, got 5"):
            exchange.round(replace(outcome, messages=messages))
        assert len(exchange.failures) == 1


def test_there_is_no_schedule_before_a_clearing(case: Case, resources: ClusterResources) -> None:
    with (
        open_market("1", case, resources) as market,
        pytest.raises(RuntimeError, match="not clear"),
    ):
        market.dispatch()


def test_a_full_cluster_is_named_with_its_numbers(case: Case, resources: ClusterResources) -> None:
    planned = place(case, PlacementPolicy.parse("2"), resources)
    greedy = replace(planned, num_cpus=64)
    with pytest.raises(
        EndedShortError, match=r"[23] of 3 actors were not scheduled within 2 s.*2 CPUs"
    ):
        Crew(case, greedy, resources, timeout_s=2.0)


def test_a_running_cluster_is_joined_and_left(cluster: Cluster) -> None:
    """Another process joins our Ray, passes the preflight, and leaves it running."""
    import ray

    address = ray.get_runtime_context().gcs_address
    code = (
        "import sys\n"
        "from actors.cluster import ClusterOptions, connect\n"
        "from actors.preflight import node_versions\n"
        "with connect(ClusterOptions(sys.argv[1])) as c:\n"
        "    print(c.origin, node_versions(c.resources()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, address], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("joined (NodeVersions(")
    assert f"raygrid='{raygrid.__version__}'" in done.stdout
    assert len(ray.nodes()) == 1


def test_a_ray_that_was_here_before_stays(cluster: Cluster) -> None:
    import ray

    with connect() as found:
        assert found.origin is ClusterOrigin.FOUND
    assert ray.is_initialized()
