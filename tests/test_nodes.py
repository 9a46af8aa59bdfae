"""A cluster of two nodes on this machine: markets over both, jobs, and a node that dies."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from actors.benchmarks.ray_nodes import Head, clean_environment, ray_head, ray_worker, raylet_of
from raygrid.files import scenario_path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tests" / "node_program.py"
WORKER = "127.0.0.2"

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Nodes:
    """A running cluster and the environment of its users."""

    head: Head
    worker: subprocess.Popen[bytes]
    environment: dict[str, str]

    def clear(self, *event: str) -> dict[str, Any]:
        """A market over both nodes, disturbed in its fifth round."""
        out = self.run(str(PROGRAM), self.head.address, "2", *event)
        told: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return told

    def run(self, *arguments: str, code: int = 0) -> str:
        """Standard output, or the errors of a command that must end with `code`."""
        done = subprocess.run(
            [sys.executable, *arguments], env=self.environment, capture_output=True, text=True,
            check=False, timeout=200, cwd=tempfile.gettempdir(),
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = clean_environment(sys.executable) | token | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="ray") as name, contextlib.ExitStack() as stack:
        head = stack.enter_context(
            ray_head(sys.executable, Path(name), PYTHONPATH=str(ROOT), **token)
        )
        worker = stack.enter_context(
            ray_worker(
                head, sys.executable, Path(name), "worker", host=WORKER, cpus=2,
                PYTHONPATH=str(ROOT), **token,
            )
        )  # fmt: skip
        yield Nodes(head, worker, environment)


def test_a_market_over_both_nodes_and_one_whose_node_dies(nodes: Nodes) -> None:
    """The last of this file but for jobs: it leaves the cluster with one node."""
    whole = nodes.clear()
    assert (whole["nodes"], whole["nodes_used"]) == (2, 2)
    assert whole["status"] == "converged"
    assert whole["transport"] == "links"
    assert whole["failures"] == []
    host = nodes.clear("host")
    assert host["failures"]
    assert host["welfare"] == whole["welfare"]
    assert host["iterations"] == whole["iterations"]
    node = nodes.clear("kill", str(raylet_of(nodes.worker)))
    assert node["failures"]
    assert node["status"] == "converged"
    assert node["welfare"] == whole["welfare"]
    # On an idle machine some 17 s, most of it until Ray believes that the node is gone.
    assert node["seconds"] < 60


def test_a_job_and_its_results(nodes: Nodes, tmp_path: Path) -> None:
    from actors import pack

    address = ("--address", nodes.head.dashboard)
    shown = nodes.run(
        "-m", "raygrid", "submit", "tiny", *address, "--wait", "--actors", "1", "--no-central"
    )
    assert "tiny: ok" in shown
    job = nodes.run("-m", "raygrid", "jobs", "list", *address).splitlines()[-1].split()
    assert job[1] == "SUCCEEDED"
    assert "converged" in nodes.run("-m", "raygrid", "jobs", "logs", job[0], *address)
    # The head's folder is on this machine too: through Ray the results come by this only.
    hidden = "import actors.pack, sys; actors.pack.folders_of = lambda *_: []; "
    hidden += "from raygrid.cli import main; sys.argv = ['raygrid', *sys.argv[1:]]; main()"
    out = nodes.run(
        "-c", hidden, "jobs", "fetch", job[0], *address, "--out", str(tmp_path / "runs")
    )
    (folder,) = [Path(line) for line in out.splitlines()]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["status"], manifest["job"]) == ("ok", job[0])
    from raygrid.results.reader import RunReader

    RunReader(folder).verify()
    assert folder.is_relative_to(tmp_path / "runs")
    (there,) = pack.folders_of(Path("/tmp/raygrid-jobs") / job[0], job[0])
    assert there.name == folder.name
    assert "is no such job" in nodes.run("-m", "raygrid", "jobs", "stop", "x", *address, code=2)


def test_a_study_as_a_job(nodes: Nodes, tmp_path: Path) -> None:
    shutil.copytree(Path(scenario_path("tiny")).parent, tmp_path / "own")
    study = tmp_path / "pair.yaml"
    study.write_text(
        "name: pair\nscenarios: [own]\nsettings: {results.powerflow: false}\n"
        "axes: {market.rho: [0.1, 0.2]}\npoints: [{actors: 1}]\nconcurrency: 2\ncentral: false\n"
    )
    shown = nodes.run(
        "-m", "raygrid", "study", str(study), "--address", nodes.head.dashboard, "--wait"
    )
    assert "[2/2] tiny" in shown
    assert "failed" not in shown


def test_a_token_that_is_another(nodes: Nodes) -> None:
    other = replace(nodes, environment=nodes.environment | {"RAY_AUTH_TOKEN": "b" * 64})
    line = other.run("-m", "raygrid", "jobs", "list", "--address", nodes.head.dashboard, code=2)
    assert "the cluster asks for another token; set RAY_AUTH_MODE=token" in line
