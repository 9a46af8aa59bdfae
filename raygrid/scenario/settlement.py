"""The settlement section of a scenario: which chain, how sure, and whose money."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from raygrid.errors import InputError
from raygrid.scenario.fields import Count, NonNegative, Section

AUTO = "auto"
"""Chain that is `EMBEDDED` up to `embedded_up_to_prosumers`, else `NONE`."""
EMBEDDED = "embedded"
NONE = "none"
CHAIN_PATTERN = r"^(auto|embedded|anvil|hardhat|none|https?://\S+)$"


class Settlement(Section):
    """Settlement of the verified trades on an EVM chain."""

    chain: Annotated[str, Field(strict=True, pattern=CHAIN_PATTERN)] = Field(
        AUTO,
        description="embedded: inside the process; anvil, hardhat: a node started for the run; the "
        "URL of a running node; none; auto: embedded up to `embedded_up_to_prosumers`, else none",
    )
    embedded_up_to_prosumers: Count = Field(2_000, description="community up to which auto settles")
    confirmations: Count | None = Field(
        None,
        description="blocks that make a settlement final, its own included; left out: 1 on a local "
        "chain, 3 on any other",
    )
    token: Annotated[str, Field(strict=True, pattern=r"^0x[0-9a-fA-F]{40}$")] | None = Field(
        None,
        description="address of the ERC-20 token with 6 decimals that is held in escrow; left out: "
        "a token for tests is deployed, which anybody may mint, and the operator funds the escrows",
    )
    deposit: NonNegative | None = Field(
        None,
        description="what the operator puts into each escrow at the start, with a token for tests "
        "[currency]; left out: as much as the day's purchases need",
    )

    def chain_for(self, n_prosumers: int) -> str:
        """The chain in force for a community of this size."""
        if self.chain != AUTO:
            return self.chain
        return EMBEDDED if n_prosumers <= self.embedded_up_to_prosumers else NONE


def check_chain(chain: str) -> None:
    """Refuse what names no chain.

    Raises
    ------
    InputError
        It is none of the names, and no URL.
    """
    if not re.match(CHAIN_PATTERN, chain):
        raise InputError(
            f"{chain!r} names no chain",
            "--chain",
            "give embedded, anvil, hardhat, the URL of a node (http://host:port), or none",
        )


def public_name(chain: str) -> str:
    """A chain's name without what a URL may hold in confidence: user, password, path and query."""
    if "://" not in chain:
        return chain
    parts = urlsplit(chain)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
