"""What can be checked of a chain before anything is sent: keys, token, programs, an answer."""

from __future__ import annotations

from raygrid.errors import InputError
from raygrid.settlement import contract
from raygrid.settlement.chain.base import Chain, ChainKind
from raygrid.settlement.chain.identity import parse_address, require_contract
from raygrid.settlement.chain.keys import Key, Role, load_key
from raygrid.settlement.chain.nodes import find_anvil, find_hardhat
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.ledger import token_decimals


def load_keys(*, allow_development: bool) -> dict[Role, Key]:
    """The keys of all roles.

    Parameters
    ----------
    allow_development : bool
        Whether the well-known keys of local chains may be used.

    Raises
    ------
    InputError
        One is missing or wrong, or operator and meter authority share one.
    """
    keys = {role: load_key(role, allow_development=allow_development) for role in Role}
    if keys[Role.OPERATOR].address == keys[Role.METER_AUTHORITY].address:
        raise InputError(
            "operator and meter authority have the same key",
            "RAYGRID_METER_AUTHORITY_KEY",
            "give them different ones: what is settled takes two",
        )
    return keys


def find_token(chain: Chain, address: str | None) -> bytes | None:
    """The token that a scenario names, if it is one that the escrow can hold.

    Parameters
    ----------
    chain : Chain
        The chain.
    address : str or None
        '0x...'; None where a token for tests will do.

    Raises
    ------
    InputError
        There is no contract, or one without or with other decimals.
    """
    if address is None:
        return None
    token = parse_address(address, "settlement.token")
    require_contract(chain, token)
    decimals, wanted = token_decimals(chain, token), contract.TOKEN_DECIMALS
    if decimals != wanted:
        says = "no decimals" if decimals is None else f"{decimals} decimals"
        raise InputError(
            f"the token has {says}, the escrow counts {wanted}",
            address,
            f"give the address of an ERC-20 token with {wanted} decimals",
        )
    return token


def check_ready(chain: str, token: str | None) -> None:
    """Refuse a chain that cannot be used, before any work is done for it; starts no node.

    Parameters
    ----------
    chain : str
        'embedded', 'anvil', 'hardhat' or the URL of a node.
    token : str or None
        Address of the escrow's token.

    Raises
    ------
    InputError
        Nobody answers, a program is not installed, a key is missing or wrong, or a token is
        named on a chain that begins without any.
    """
    if chain in set(ChainKind):
        if token is not None:
            raise InputError(
                f"a new {chain} chain holds no token", token, "leave settlement.token away there"
            )
        if chain == ChainKind.ANVIL:
            find_anvil()
        elif chain == ChainKind.HARDHAT:
            find_hardhat()
        load_keys(allow_development=True)
        return
    opened = open_chain(chain)
    try:
        load_keys(allow_development=opened.is_local)
        find_token(opened, token)
    finally:
        opened.close()
