"""Keys of the settlement's roles, and the transactions they sign.

A key comes from the environment or from an encrypted keystore file, and is never written
anywhere. Local development chains may use their well-known keys, which are no secrets: they are
printed by every Anvil and Hardhat node that starts, and hold nothing of value on any real chain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from raygrid.errors import InputError

if TYPE_CHECKING:
    import coincurve

SECRET_BYTES = 32
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

TYPE_DYNAMIC_FEE = b"\x02"
"""EIP-2718 type of EIP-1559 transactions, the only one that raygrid signs."""


class Role(StrEnum):
    """Who signs what; each role has a key of its own."""

    OPERATOR = "operator"
    METER_AUTHORITY = "meter_authority"
    REGISTRAR = "registrar"
    PAUSER = "pauser"


DEVELOPMENT_SECRETS = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
)
"""Public knowledge: the first accounts of the mnemonic 'test test ... test junk', with which
Anvil and Hardhat start, each holding 10,000 coins of no value."""


@dataclass(frozen=True)
class Key:
    """A secp256k1 key that signs transactions; its secret never shows when printed."""

    secret: bytes = field(repr=False)
    is_development: bool = False
    """Whether it is one of the well-known keys of local chains."""

    @cached_property
    def _private(self) -> coincurve.PrivateKey:
        import coincurve

        return coincurve.PrivateKey(self.secret)

    @cached_property
    def address(self) -> bytes:
        """The account's address (20 bytes)."""
        return public_key_address(self._private.public_key.format(compressed=False))

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: r, s (low) and recovery id, 65 bytes."""
        return self._private.sign_recoverable(digest, hasher=None)


def public_key_address(public_key: bytes) -> bytes:
    """Address of an uncompressed public key (65 bytes, 0x04 first)."""
    from eth_hash.auto import keccak

    return keccak(public_key[1:])[-20:]


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """Address whose key signed a digest.

    Parameters
    ----------
    digest : bytes
        32 bytes.
    signature : bytes
        r, s and recovery id, 65 bytes.

    Returns
    -------
    bytes
        Address.

    Raises
    ------
    ValueError
        If no key could have made that signature.
    """
    import coincurve

    try:
        key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception as error:  # coincurve raises a bare Exception for a bad recovery
        raise ValueError(f"not a signature: {error}") from error
    return public_key_address(key.format(compressed=False))


@dataclass(frozen=True)
class SignedTransaction:
    """A transaction ready to be sent, as often as needed: its bytes and hash never change."""

    raw: bytes = field(repr=False)
    tx_hash: bytes
    sender: bytes
    nonce: int


def sign_transaction(
    key: Key,
    *,
    chain_id: int,
    nonce: int,
    gas: int,
    to: bytes | None,
    data: bytes = b"",
    value_wei: int = 0,
    max_fee_wei: int,
    priority_fee_wei: int = 0,
) -> SignedTransaction:
    """Make and sign an EIP-1559 transaction.

    Parameters
    ----------
    key : Key
        Signs, and pays the gas.
    chain_id : int
        EIP-155 id of the one chain on which it is valid.
    nonce : int
        The sender's count of transactions before this one.
    gas : int
        Most gas that it may use.
    to : bytes or None
        Address called; None deploys `data` as a contract.
    data : bytes
        Calldata, or the code that deploys a contract.
    value_wei : int
        Coin sent along [wei].
    max_fee_wei, priority_fee_wei : int
        Most paid per unit of gas in all, and on top of the base fee [wei].

    Returns
    -------
    SignedTransaction
        Its bytes, hash, sender and nonce.

    References
    ----------
    EIP-1559, EIP-2718.
    """
    import rlp
    from eth_hash.auto import keccak

    fields: list[bytes | list[bytes]] = [
        *map(integer_bytes, (chain_id, nonce, priority_fee_wei, max_fee_wei, gas)),
        to or b"",
        integer_bytes(value_wei),
        data,
        [],
    ]
    signature = key.sign_digest(keccak(TYPE_DYNAMIC_FEE + rlp.encode(fields)))
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    fields += map(integer_bytes, (signature[64], r, s))
    raw: bytes = TYPE_DYNAMIC_FEE + rlp.encode(fields)
    return SignedTransaction(raw, keccak(raw), key.address, nonce)


def integer_bytes(value: int) -> bytes:
    """RLP's form of an integer: big-endian without leading zeros, empty for 0."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def transaction_hash(raw: bytes) -> bytes:
    """Hash by which a chain knows a signed transaction."""
    from eth_hash.auto import keccak

    return keccak(raw)


def development_key(role: Role) -> Key:
    """The well-known key that a role has on local chains."""
    secret = DEVELOPMENT_SECRETS[list(Role).index(role)]
    return Key(bytes.fromhex(secret), is_development=True)


def load_key(
    role: Role,
    *,
    allow_development: bool,
    environment: Mapping[str, str] | None = None,
) -> Key:
    """Find the key of a role.

    `RAYGRID_<ROLE>_KEY` holds it in hexadecimal; else `RAYGRID_<ROLE>_KEYSTORE` names an
    encrypted keystore file (Web3 Secret Storage, version 3) whose password is in
    `RAYGRID_<ROLE>_PASSWORD`; else, on local chains only, it is the role's well-known key.

    Parameters
    ----------
    role : Role
        Whose key.
    allow_development : bool
        Whether the well-known keys may be used: `Chain.is_local`.
    environment : mapping, optional
        In place of `os.environ`.

    Returns
    -------
    Key
        The key.

    Raises
    ------
    InputError
        If there is none, or what there is cannot be read.
    """
    environment = os.environ if environment is None else environment
    prefix = f"RAYGRID_{role.upper()}"
    if text := environment.get(f"{prefix}_KEY"):
        return key_from_hex(text, f"{prefix}_KEY")
    if path := environment.get(f"{prefix}_KEYSTORE"):
        return key_from_keystore(
            Path(path), environment.get(f"{prefix}_PASSWORD"), f"{prefix}_PASSWORD"
        )
    if allow_development:
        return development_key(role)
    raise InputError(
        f"no key for the role '{role}' on a chain that is not a local one",
        f"{prefix}_KEY",
        f"set {prefix}_KEY, or {prefix}_KEYSTORE and {prefix}_PASSWORD",
    )


def key_from_hex(text: str, where: str) -> Key:
    """Read a key in hexadecimal; the message of a refusal does not repeat it."""
    cure = "give 64 hexadecimal digits, with or without 0x before them"
    try:
        secret = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        raise InputError("not a key in hexadecimal", where, cure) from None
    return key_from_bytes(secret, where, cure)


def key_from_bytes(secret: bytes, where: str, cure: str) -> Key:
    """Check that bytes are a secp256k1 key."""
    if len(secret) != SECRET_BYTES:
        raise InputError(f"a key has {SECRET_BYTES} bytes, this has {len(secret)}", where, cure)
    if not 0 < int.from_bytes(secret, "big") < CURVE_ORDER:
        raise InputError("not a key of the curve secp256k1", where, cure)
    return Key(secret, is_development=secret.hex() in DEVELOPMENT_SECRETS)


def key_from_keystore(path: Path, password: str | None, password_variable: str) -> Key:
    """Read an encrypted keystore file.

    Parameters
    ----------
    path : Path
        The file.
    password : str or None
        Its password.
    password_variable : str
        Where the password comes from, for messages.

    Returns
    -------
    Key
        The key.

    Raises
    ------
    InputError
        If the file is missing, unreadable or no keystore, or the password missing or wrong.
    """
    cure = "give the path of an encrypted keystore file (Web3 Secret Storage, version 3)"
    if not path.is_file():
        raise InputError("no such key file", str(path), cure)
    if password is None:
        raise InputError("the key file has no password", str(path), f"set {password_variable}")
    # Imported late: it costs half a second.
    import eth_keyfile

    try:
        content = eth_keyfile.load_keyfile(str(path))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", str(path), "check its permissions"
        ) from None
    except ValueError:
        raise InputError("not a keystore file", str(path), cure) from None
    try:
        secret = eth_keyfile.decode_keyfile_json(content, password.encode())
    except ValueError as error:
        if "MAC" in str(error):
            raise InputError(
                "wrong password for this key file", str(path), f"check {password_variable}"
            ) from None
        raise InputError("a damaged keystore file", str(path), cure) from None
    except (KeyError, TypeError, AttributeError, NotImplementedError):
        raise InputError("a damaged keystore file", str(path), cure) from None
    return key_from_bytes(secret, str(path), cure)
