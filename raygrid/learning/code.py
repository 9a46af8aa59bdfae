"""Which code made a result: what is stored and taken up again must be of the same."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

MODULES = (
    *("baselines", "calibration", "comparison", "dataset", "direct", "features", "federated"),
    *("hosted", "inference", "lines", "metrics", "network", "preprocessing", "training", "weather"),
)
"""Modules of this package that decide what a forecaster learns and scores."""
MARKET = ("grid", "market", "prosumer", "scenario")
"""Packages that decide what a market's day comes to."""
PLANNING = (*MARKET, "learning/market_day.py", "learning/market_day_intraday.py",
            "learning/market_day_result.py", "learning/market_days.py",
            "learning/planned_days.py")  # fmt: skip
"""What decides day-ahead plans, forecasts given."""
CASES = (*MARKET, "learning", "settlement", "results/case_days.py")
"""What decides a compared case."""


@cache
def code_digest(parts: tuple[str, ...] = tuple(f"learning/{name}.py" for name in MODULES)) -> str:
    """SHA-256 of the text of modules and whole packages.

    Parameters
    ----------
    parts : tuple of str
        Modules and packages below `raygrid`; by default the `MODULES`.
    """
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for part in parts:
        path = root / part
        for module in sorted(path.glob("*.py")) if path.is_dir() else (path,):
            found.update(module.read_bytes())
    return found.hexdigest()
