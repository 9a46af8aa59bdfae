"""Metrics and warm-up: they run, and leave the market as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.cluster import Cluster
from actors.metrics import ClearingMetrics
from raygrid.market.clearing import IterationRecord
from raygrid.market.messages import RoundDecision, RoundOutcome


@pytest.mark.ray
def test_metrics_take_every_round(cluster: Cluster) -> None:
    metrics = ClearingMetrics("tiny")
    record = IterationRecord(1, 0.5, 0.25, 0.1, 0.1, 0.1, 0.0)
    metrics.observe(RoundOutcome(RoundDecision.CONTINUE, record, 0.06, ()))
    metrics.observe(RoundOutcome(RoundDecision.CONTINUE, None, 0.06, ()))
    again = ClearingMetrics("tiny")
    again.observe(RoundOutcome(RoundDecision.CONVERGED, record, 0.06, ()))


def test_warm_up_fills_the_cache_of_an_empty_folder(tmp_path: Path) -> None:
    """Both compilers end well, and the next run finds everything there."""
    code = (
        "from actors.warm import WarmUp, is_warm\n"
        "assert not is_warm()\n"
        "first = WarmUp(); first.wait()\n"
        "assert len(first._processes) == 2\n"
        "assert is_warm()\n"
        "assert not WarmUp()._processes\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)


def test_an_interrupted_warm_up_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "from actors.warm import WarmUp\n"
        "first = WarmUp(); first.close()\n"
        "assert all(p.poll() is not None for p in first._processes)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
