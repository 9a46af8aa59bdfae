"""Placement: everybody has one seat, seats are even, and plans that cannot fit are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster import ClusterOrigin, ClusterResources, NodeResources
from actors.placement import (
    BUS_PERIOD_BYTES,
    PROCESS_BYTES,
    PROCESS_START_CPU_S,
    START_BUDGET_S,
    Placement,
    PlacementKind,
    PlacementPolicy,
    plan_placement,
)
from raygrid.errors import InputError

GIB = 1024**3


def cluster(*cpus: int, memory_bytes: int = 16 * GIB) -> ClusterResources:
    nodes = tuple(
        NodeResources(f"n{k}", f"10.0.0.{k}", c, memory_bytes) for k, c in enumerate(cpus)
    )
    return ClusterResources(ClusterOrigin.JOINED, "2.60.0", nodes)


def plan(text: str, n: int, resources: ClusterResources) -> Placement:
    return plan_placement(PlacementPolicy.parse(text), n, 1000.0, resources)


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        ("each", PlacementKind.EACH, 0),
        ("auto", PlacementKind.AUTO, 0),
        ("7", PlacementKind.COUNT, 7),
    ],
)
def test_policy_is_read(text: str, kind: PlacementKind, count: int) -> None:
    policy = PlacementPolicy.parse(text)
    assert (policy.kind, policy.count) == (kind, count)
    assert str(policy) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "Each", "all", "²", "count"])
def test_policy_refuses_other_words(text: str) -> None:
    with pytest.raises(InputError, match="no placement; give 'each'"):
        PlacementPolicy.parse(text)


@given(
    n=st.integers(1, 60),
    hosts=st.integers(1, 60),
    cpus=st.lists(st.integers(1, 64), min_size=1, max_size=4),
)
def test_everybody_has_one_seat(n: int, hosts: int, cpus: list[int]) -> None:
    hosts = min(n, hosts)
    resources = cluster(*cpus)
    made = plan_placement(PlacementPolicy(PlacementKind.COUNT, hosts), n, 1000.0, resources)
    taken = [position for seat in made.seats for position in range(seat.start, seat.stop)]
    assert taken == list(range(n))
    sizes = [len(seat) for seat in made.seats]
    assert max(sizes) - min(sizes) <= 1
    assert [seat.host for seat in made.seats] == list(range(hosts))
    assert sum(seat.carries_grid for seat in made.seats) == 1
    assert made.num_cpus * hosts <= resources.cpus
    if made.num_cpus:
        assert sum(c // made.num_cpus for c in cpus) >= hosts


def test_each_shares_the_cpus() -> None:
    made = plan("each", 25, cluster(2))
    assert (made.n_hosts, made.num_cpus, made.threads) == (25, 0, 1)
    assert made.describe().startswith("25 prosumer actors, 1 prosumer each, sharing the CPUs")


def test_auto_takes_each_while_start_up_fits() -> None:
    most = int(START_BUDGET_S * 2 / PROCESS_START_CPU_S)
    assert plan("auto", most, cluster(2)).kind is PlacementKind.EACH
    packed = plan("auto", most + 1, cluster(2))
    assert (packed.kind, packed.n_hosts, packed.num_cpus) == (PlacementKind.COUNT, 2, 1)


def test_auto_packs_where_memory_is_short() -> None:
    packed = plan("auto", 20, cluster(8, memory_bytes=10 * PROCESS_BYTES))
    assert (packed.kind, packed.n_hosts) == (PlacementKind.COUNT, 8)


@pytest.mark.parametrize(
    ("cpus", "hosts", "threads"),
    [((2,), 2, 1), ((1,), 1, 1), ((8,), 8, 1), ((64,), 8, 8), ((16, 4), 6, 3)],
)
def test_auto_packs_over_all_cpus(cpus: tuple[int, ...], hosts: int, threads: int) -> None:
    packed = plan("auto", 5000, cluster(*cpus))
    assert (packed.n_hosts, packed.num_cpus, packed.threads) == (hosts, threads, threads)


def test_more_packed_hosts_than_cpus_share_them() -> None:
    packed = plan("10", 100, cluster(2))
    assert (packed.n_hosts, packed.num_cpus, packed.threads) == (10, 0, 1)


def test_a_cluster_without_cpus_still_has_a_plan() -> None:
    assert plan("auto", 1000, cluster(0)).n_hosts == 1


def test_more_actors_than_prosumers_are_refused() -> None:
    with pytest.raises(InputError, match="30 actors for 25 prosumers; ask for at most 25"):
        plan("30", 25, cluster(2))


def test_a_large_network_takes_memory_too() -> None:
    """The town's 129,001 buses over 24 periods, beside two small actors."""
    policy, size = PlacementPolicy.parse("2"), 129_001 * 24
    made = plan_placement(policy, 118_000, 1000.0, cluster(2), size)
    assert made.network_bytes == size * BUS_PERIOD_BYTES
    bare = plan_placement(policy, 118_000, 1000.0, cluster(2))
    assert made.memory_bytes == bare.memory_bytes
    assert "about 1.0 GiB in all" in bare.describe()
    assert "about 3.3 GiB in all" in made.describe()
    with pytest.raises(InputError, match=r"need about 23\.4 GiB, 23\.1 of it for the buses"):
        plan_placement(policy, 118_000, 1000.0, cluster(2), 10 * size)


def test_a_plan_that_does_not_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(InputError, match=r"1000 prosumer actors need about 107\.\d GiB.*16\.0 GiB"):
        plan("each", 1000, cluster(2))
