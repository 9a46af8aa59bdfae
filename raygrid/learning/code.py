"""Which code made a result: what is stored and taken up again must be of the same."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

MODULES = ("baselines", "comparison", "dataset", "direct", "features", "federated", "hosted",
           "inference", "metrics", "network", "preprocessing", "training", "weather")  # fmt: skip
"""Modules of this package that decide what a forecaster learns and scores."""


@cache
def code_digest() -> str:
    """SHA-256 of the text of `MODULES`."""
    found = hashlib.sha256()
    for name in MODULES:
        found.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return found.hexdigest()
