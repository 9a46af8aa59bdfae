"""Ours before py-evm: it raises Python's recursion limit where it is loaded first."""

from __future__ import annotations

import raygrid.settlement.chain.interpreter  # noqa: F401
