"""Where a result comes from: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import raygrid

PACKAGES = (
    "ray",
    "numpy",
    "scipy",
    "numba",
    "pyarrow",
    "pandapower",
    "cvxpy",
    "clarabel",
    "osqp",
    "daqp",
)
"""Packages whose version can change a result."""

JOB_VARIABLE = "RAYGRID_JOB"
"""Environment variable by which a job on a cluster knows its name there."""


def versions() -> dict[str, str | None]:
    """Versions of Python, raygrid and what it computes with; None where not installed."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "raygrid": raygrid.__version__,
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, str | int | None]:
    """The driver's machine, without which wall times say little."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3),
    }


def _processor() -> str | None:
    """Model of the first CPU; None where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), None)


def job() -> str | None:
    """Name of the job on a cluster that this process is part of; None outside jobs."""
    return os.environ.get(JOB_VARIABLE) or None


def git_commit() -> str | None:
    """Commit of the checkout that raygrid runs from, with '-dirty' if changed; else None."""
    root = Path(raygrid.__file__).resolve().parent.parent
    # An installed raygrid may lie within somebody else's repository.
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
