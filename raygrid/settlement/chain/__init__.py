"""EVM chains: one interface, the embedded chain, nodes over JSON-RPC, keys and identities."""

from __future__ import annotations

import sys

RECURSION_LIMIT = sys.getrecursionlimit()
"""Python's, noted before py-evm is loaded, which raises it for the whole process: so deep, the
parsers of JSON and YAML overflow the stack on malicious files rather than raise."""
