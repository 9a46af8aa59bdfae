"""Which chain and which contract a run was settled on, and whether they are still there.

The chain id does not tell a development chain from one started anew with the same command: the
genesis hash, the contract's address and the hash of its code together do.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from raygrid.errors import InputError
from raygrid.results.files import json_text, write_atomically
from raygrid.settlement.chain.base import ADDRESS_BYTES, HASH_BYTES, Chain, ChainKind

IDENTITY_FILE = "chain.json"
HEX_LENGTHS = {"genesis_hash": HASH_BYTES, "contract": ADDRESS_BYTES, "code_hash": HASH_BYTES}


@dataclass(frozen=True)
class ChainIdentity:
    """What a run folder keeps of its chain; nothing in it is secret, no URL and no key."""

    kind: ChainKind
    chain_id: int
    genesis_hash: bytes
    contract: bytes
    """Address of the settlement contract."""
    code_hash: bytes
    """Keccak hash of the contract's code on the chain."""


class IdentityCheck(StrEnum):
    """What became of a run's chain."""

    SAME = "same"
    LOST_CONTRACT = "lost_contract"
    """The contract is gone: the chain was started anew, or lost its latest blocks."""
    OTHER_CHAIN = "other_chain"
    """There is a contract at the address, but the genesis block is another one."""


def code_hash(code: bytes) -> bytes:
    """Keccak hash of a contract's code."""
    from eth_hash.auto import keccak

    return keccak(code)


def identify(chain: Chain, contract: bytes) -> ChainIdentity:
    """Note which chain and contract this is.

    Parameters
    ----------
    chain : Chain
        The chain.
    contract : bytes
        Address of a contract on it.

    Returns
    -------
    ChainIdentity
        To be kept with the run.

    Raises
    ------
    InputError
        If there is no contract at that address.
    """
    code = require_contract(chain, contract)
    return ChainIdentity(
        chain.kind, chain.chain_id, chain.genesis_hash(), contract, code_hash(code)
    )


def check_identity(identity: ChainIdentity, chain: Chain) -> IdentityCheck:
    """Whether a chain is the one that a run was settled on, its contract included.

    Parameters
    ----------
    identity : ChainIdentity
        What the run noted.
    chain : Chain
        The chain as it is now.

    Returns
    -------
    IdentityCheck
        What became of it.

    Raises
    ------
    InputError
        If the chain id or the code at the contract's address is another one: then this chain
        was named by mistake.
    """
    if chain.chain_id != identity.chain_id:
        raise InputError(
            f"the chain has id {chain.chain_id}, this run was settled on {identity.chain_id}",
            "chain",
            "name the chain of the run, or start anew with settle --redeploy",
        )
    code = chain.code(identity.contract)
    if not code:
        return IdentityCheck.LOST_CONTRACT
    if chain.genesis_hash() != identity.genesis_hash:
        return IdentityCheck.OTHER_CHAIN
    if code_hash(code) != identity.code_hash:
        raise InputError(
            "another contract stands at this address than the run was settled with",
            f"0x{identity.contract.hex()}",
            "name the chain of the run, or start anew with settle --redeploy",
        )
    return IdentityCheck.SAME


def require_contract(chain: Chain, address: bytes, runtime: bytes | None = None) -> bytes:
    """Code of the contract at an address.

    Parameters
    ----------
    chain : Chain
        The chain.
    address : bytes
        Where the contract should be.
    runtime : bytes, optional
        The artifact's runtime code, which it must be an instance of.

    Returns
    -------
    bytes
        The code on the chain.

    Raises
    ------
    InputError
        If there is no contract, or another one.
    """
    code = chain.code(address)
    where = f"0x{address.hex()}"
    if not code:
        raise InputError(
            f"there is no contract at this address of chain {chain.chain_id}",
            where,
            "check the address and the chain",
        )
    if runtime is not None and not is_instance(code, runtime):
        raise InputError(
            "the contract at this address is not the one that this version of raygrid talks to",
            where,
            "check the address, or deploy anew with settle --redeploy",
        )
    return code


def is_instance(code: bytes, runtime: bytes) -> bool:
    """Whether deployed code is an artifact's, whatever its immutables hold.

    The compiler leaves each immutable as a PUSH32 of zeros, which deployment fills in.
    """
    masked = bytearray(code)
    for hole in re.finditer(rb"\x7f\x00{32}", runtime):
        masked[hole.start() + 1 : hole.end()] = bytes(HASH_BYTES)
    return masked == runtime


def save_identity(identity: ChainIdentity, folder: Path) -> None:
    """Write `IDENTITY_FILE` into a run folder."""
    content = asdict(identity)
    for name in HEX_LENGTHS:
        content[name] = f"0x{content[name].hex()}"
    text = json_text(content)
    write_atomically(folder / IDENTITY_FILE, lambda file: file.write(text.encode()))


def load_identity(folder: Path) -> ChainIdentity | None:
    """Read `IDENTITY_FILE` of a run folder, None if it was never settled.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    path = folder / IDENTITY_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, chain_id = ChainKind(content["kind"]), content["chain_id"]
        if not isinstance(chain_id, int):
            raise ValueError("chain_id")
        values = [_hex_field(content, name, length) for name, length in HEX_LENGTHS.items()]
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", str(path), "check its permissions"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            "does not say which chain this run was settled on",
            str(path),
            "restore it, or start anew with settle --redeploy",
        ) from None
    return ChainIdentity(kind, chain_id, *values)


def _hex_field(content: dict[str, object], name: str, length: int) -> bytes:
    text = content[name]
    if not isinstance(text, str) or not re.fullmatch(rf"0x[0-9a-f]{{{2 * length}}}", text):
        raise ValueError(name)
    return bytes.fromhex(text[2:])


def parse_address(text: str, where: str) -> bytes:
    """Read an address from outside.

    Raises
    ------
    InputError
        If it is none.
    """
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise InputError(f"{text!r} is not an address", where, "give 0x and 40 hexadecimal digits")
    return bytes.fromhex(text[2:])
