"""One local Ray for all tests that need one: starting it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from actors.cluster import Cluster, ClusterOptions, ClusterResources, connect
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.case import Case
from tests.cases import small_case


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ray of our own with room for two markets at once."""
    with connect(ClusterOptions(address="local", num_cpus=4)) as started:
        yield started


@pytest.fixture(scope="session")
def resources(cluster: Cluster) -> ClusterResources:
    """What a market may plan with: half of the CPUs."""
    whole = cluster.resources()
    return replace(whole, nodes=tuple(replace(node, cpus=2) for node in whole.nodes))


@pytest.fixture(scope="session")
def case() -> Case:
    """Six prosumers, so that one process each is affordable; a line binds."""
    return small_case(n=6, n_periods=8, seed=3, limit_kw=2.0)


@pytest.fixture(scope="session")
def options() -> ClearingOptions:
    return ClearingOptions()


@pytest.fixture(scope="session")
def reference(case: Case, options: ClearingOptions) -> ClearingResult:
    """The market cleared in this process, without Ray."""
    return clear(case, options, local_exchange(case, options))
