"""Addresses: the rule that picks one, and refusals that do not wait for Ray."""

from __future__ import annotations

import platform
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import ray

import raygrid
from actors.cluster import (
    LOCAL,
    ClusterOptions,
    ClusterOrigin,
    ClusterResources,
    NodeResources,
    connect,
    probe,
    resolve_address,
)
from actors.preflight import NodeVersions, check_shared, check_versions
from raygrid.errors import EndedShortError, ExitCode, InputError


@pytest.mark.parametrize(
    ("given", "variable", "used"),
    [
        (None, None, LOCAL),
        ("auto", None, LOCAL),
        ("local", "10.1.1.1:6379", LOCAL),
        (None, "10.1.1.1:6379", "10.1.1.1:6379"),
        ("auto", "auto", LOCAL),
        (None, "", LOCAL),
        ("head:6380", "10.1.1.1:6379", "head:6380"),
        ("[fd00::1]:6379", None, "[fd00::1]:6379"),
    ],
)
def test_the_address_in_force(
    given: str | None, variable: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert resolve_address(given) == used


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "head", "head:", ":1"])
def test_other_forms_are_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"--address: .* is not an address of a Ray cluster"):
        resolve_address(address)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(InputError, match=r"^RAY_ADDRESS: 'ray://head:10001' is not an address"):
        resolve_address(None)


def test_a_dead_address_is_refused_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(InputError, match="no Ray cluster answers") as caught:
        connect(ClusterOptions(address=address))
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert caught.value.where == address


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="no Ray cluster answers"):
        probe("127.0.0.1:99999")


def test_another_server_is_not_taken_for_ray() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        started = monotonic()
        with pytest.raises(InputError, match="what listens there is not Ray"):
            probe(address, timeout_s=1.0)
        assert monotonic() - started < 30.0


SAME = NodeVersions(
    "10.0.0.1", platform.python_version(), ray.__version__,
    raygrid.__version__, "",
)  # fmt: skip


def test_equal_versions_pass() -> None:
    check_versions((SAME, replace(SAME, node="10.0.0.2")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "3.8.1"}, "10.0.0.1: runs Python 3.8, this process 3"),
        ({"ray": "2.9.0"}, "runs Ray 2.9.0, this process"),
        ({"raygrid": "0.0.1"}, "runs raygrid 0.0.1, this process"),
        ({"raygrid": None}, "raygrid is not installed there"),
        ({"actors": None}, "raygrid is not installed there"),
    ],
)
def test_other_versions_are_refused(change: dict[str, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_versions((replace(SAME, **change),))


def test_a_ray_that_does_not_come_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(EndedShortError, match="a local Ray: Ray did not start: The current node"):
        connect(ClusterOptions(address=LOCAL))


def test_another_ray_than_the_cluster_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says so in six lines, of which the first holds no version."""

    def init(**_: object) -> None:
        with monkeypatch.context() as patched:
            other = {"ray_version": "2.9.0", "python_version": "3.9.1"}
            patched.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
            ray._private.utils.check_version_info(other, "node 10.0.0.1")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError) as caught:
        connect(ClusterOptions(address=LOCAL))
    line = str(caught.value)
    assert "started with: Ray: 2.9.0 Python: 3.9.1 This process on node 10.0.0.1" in line
    assert f"Ray: {ray.__version__}" in line
    assert "use one image for all nodes" in line
    assert "\n" not in line


def test_a_cluster_with_a_token_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for twenty seconds, in as many lines; so it would with a stranger."""
    import grpc

    code = grpc.StatusCode.UNAUTHENTICATED

    def answer(_: bytes, context: Any) -> bytes:
        context.abort(code, "no token")
        return b""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        address = f"127.0.0.1:{port}"
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        with pytest.raises(InputError, match="the cluster asks for a token; set RAY_AUTH_MODE"):
            probe(address)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        probe(address)  # whether the token is the right one is for Ray to say
        code = grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(InputError, match="what listens there is not Ray"):
            probe(address)
    finally:
        server.stop(None)


def resources_of(*cpus: int) -> ClusterResources:
    nodes = tuple(NodeResources(f"n{k}", f"10.0.0.{k}", c, 1 << 30) for k, c in enumerate(cpus))
    return ClusterResources(ClusterOrigin.JOINED, ray.__version__, nodes)


def test_a_part_of_a_cluster() -> None:
    whole = resources_of(4, 2, 8)
    assert [node.cpus for node in whole.at_most(5).nodes] == [4, 1, 0]
    assert whole.at_most(None) == whole
    assert whole.at_most(14) == whole
    with pytest.raises(InputError, match=r"15 CPUs: the cluster has 14 CPUs on 3 node\(s\); ask"):
        whole.at_most(15)


def test_a_folder_need_not_be_shared_by_one_node_or_for_a_small_run(tmp_path: Path) -> None:
    check_shared(tmp_path, 10**9, resources_of(2))
    check_shared(tmp_path, 1000, resources_of(2, 2))


def test_a_large_run_needs_a_folder_that_all_nodes_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def ask(function: Any, resources: ClusterResources, _: float) -> list[Any]:
        looked.extend(str(path) for path in tmp_path.iterdir())
        return [function(resources.nodes[0].address), (resources.nodes[1].address, False)]

    monkeypatch.setattr("actors.preflight._ask_every_node", ask)
    with pytest.raises(InputError, match=r"node 10\.0\.0\.1: the prosumer hosts"):
        check_shared(tmp_path / "new" / "runs", 10**9, resources_of(2, 2))
    assert len(looked) == 1
    assert list(tmp_path.iterdir()) == []
