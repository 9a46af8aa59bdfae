"""Three machines in miniature with addresses of their own: a market over two, a cut cable, a job.

Needs the right to make network namespaces (root on Linux). Takes about two minutes:
`python -m pytest tests/test_namespaces.py -m optional`.
"""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from actors.benchmarks.ray_nodes import clean_environment, ray_head, ray_worker
from tests.namespaces import Switch, available

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tests" / "node_program.py"
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
"""As in cluster/: a silent node counts as lost after about 15 s."""

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.optional,
    pytest.mark.skipif(not available(), reason="network namespaces need root on Linux"),
]


def test_three_machines() -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = clean_environment(sys.executable) | token | {"PYTHONPATH": str(ROOT)}

    def run(machine: int, *arguments: str) -> str:
        done = subprocess.run(
            [*switch.on(machine), sys.executable, *arguments], env=environment, check=False,
            capture_output=True, text=True, timeout=200, cwd=tempfile.gettempdir(),
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def clear(*event: str) -> dict[str, Any]:
        out = run(0, str(PROGRAM), head.address, "2", *event)
        told: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return told

    with (
        Switch(3) as switch,
        tempfile.TemporaryDirectory(prefix="ray") as name,
        ray_head(
            sys.executable, Path(name), switch.addresses[0], switch.on(0), PYTHONPATH=str(ROOT),
            **token, **HEALTH,
        ) as head,
        ray_worker(
            head, sys.executable, Path(name), "worker", switch.addresses[1], switch.on(1), 2,
            PYTHONPATH=str(ROOT), **token,
        ),
    ):  # fmt: skip
        whole = clear()
        assert (whole["nodes"], whole["nodes_used"]) == (2, 2)
        assert (whole["status"], whole["transport"]) == ("converged", "links")
        # A third machine that is no part of the cluster reaches it by its dashboard only.
        shown = run(2, "-m", "raygrid", "submit", "tiny", "--address", head.dashboard, "--wait",
                    "--no-central")  # fmt: skip
        assert "tiny: ok" in shown
        cut = clear("run", shlex.join(switch.cut(1)))
        assert cut["failures"]
        assert cut["welfare"] == whole["welfare"]
        assert cut["iterations"] == whole["iterations"]
        # 20 s of silence until the links know, then the health check; some 22 s when idle.
        assert cut["seconds"] < 90
