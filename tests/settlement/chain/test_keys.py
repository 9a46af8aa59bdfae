"""Keys against published addresses, signatures against py-evm's own decoder."""

from __future__ import annotations

import json
from pathlib import Path

import eth_keyfile
import pytest
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_hash.auto import keccak

from raygrid.errors import InputError
from raygrid.settlement.chain.keys import (
    CURVE_ORDER,
    DEVELOPMENT_SECRETS,
    Key,
    Role,
    development_key,
    integer_bytes,
    load_key,
    recover_address,
    sign_transaction,
)

PUBLISHED = (
    "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "90F79bf6EB2c4f870365E785982E1f101E93b906",
    "15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    "9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
)
"""What `anvil` and `npx hardhat node` print for these keys."""

SECRET = "11" * 32


def test_development_keys_are_the_published_ones() -> None:
    addresses = [Key(bytes.fromhex(secret)).address.hex() for secret in DEVELOPMENT_SECRETS]
    assert addresses == [address.lower() for address in PUBLISHED]


def test_every_role_has_a_development_key_of_its_own() -> None:
    keys = [development_key(role) for role in Role]
    assert len({key.address for key in keys}) == len(Role)
    assert all(key.is_development for key in keys)


def test_a_secret_is_never_printed() -> None:
    key = Key(bytes.fromhex(SECRET))
    assert SECRET not in repr(key)
    assert SECRET not in str(key)


@pytest.mark.parametrize("to", [None, b"\x07" * 20])
@pytest.mark.parametrize(("nonce", "data"), [(0, b""), (300, b"\0\1" * 700)])
def test_py_evm_reads_what_we_sign(to: bytes | None, nonce: int, data: bytes) -> None:
    key = development_key(Role.OPERATOR)
    signed = sign_transaction(
        key, chain_id=31337, nonce=nonce, gas=10**6, to=to, data=data, value_wei=5,
        max_fee_wei=10**9, priority_fee_wei=3,
    )  # fmt: skip
    read = PragueTransactionBuilder.decode(signed.raw)
    read.validate()
    assert read.sender == key.address == signed.sender
    assert read.hash == signed.tx_hash
    assert (read.chain_id, read.nonce, read.gas, read.value) == (31337, nonce, 10**6, 5)
    assert (read.to, read.data) == (to or b"", data)
    assert (read.max_fee_per_gas, read.max_priority_fee_per_gas) == (10**9, 3)


def test_a_signature_names_its_signer() -> None:
    key, digest = development_key(Role.METER_AUTHORITY), keccak(b"reading")
    assert recover_address(digest, key.sign_digest(digest)) == key.address
    with pytest.raises(ValueError, match="not a signature"):
        recover_address(digest, b"\xff" * 64 + b"\0")


@pytest.mark.parametrize(("value", "expected"), [(0, b""), (1, b"\1"), (256, b"\1\0")])
def test_integers_have_no_leading_zeros(value: int, expected: bytes) -> None:
    assert integer_bytes(value) == expected


def test_a_key_from_the_environment() -> None:
    environment = {"RAYGRID_METER_AUTHORITY_KEY": f"0x{SECRET}\n"}
    key = load_key(Role.METER_AUTHORITY, allow_development=True, environment=environment)
    assert key.secret.hex() == SECRET
    assert not key.is_development


def test_a_development_key_is_recognised_wherever_it_comes_from() -> None:
    environment = {"RAYGRID_OPERATOR_KEY": DEVELOPMENT_SECRETS[4]}
    assert load_key(Role.OPERATOR, allow_development=False, environment=environment).is_development


def test_development_keys_serve_local_chains_only() -> None:
    key = load_key(Role.PAUSER, allow_development=True, environment={})
    assert key == development_key(Role.PAUSER)
    with pytest.raises(InputError, match="RAYGRID_PAUSER_KEY: no key for the role 'pauser'"):
        load_key(Role.PAUSER, allow_development=False, environment={})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("zz" * 32, "not a key in hexadecimal"),
        ("11" * 31, "has 31"),
        ("00" * 32, "not a key of the curve"),
        (f"{CURVE_ORDER:064x}", "not a key of the curve"),
    ],
)
def test_a_wrong_key_is_refused_and_not_repeated(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_key(Role.OPERATOR, allow_development=True, environment={"RAYGRID_OPERATOR_KEY": text})
    assert text not in str(caught.value)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = eth_keyfile.create_keyfile_json(
        bytes.fromhex(SECRET), b"a password", kdf="pbkdf2", iterations=2
    )
    path = tmp_path_factory.mktemp("keys") / "operator.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def from_keystore(path: Path, password: str | None) -> Key:
    environment = {"RAYGRID_OPERATOR_KEYSTORE": str(path)}
    if password is not None:
        environment["RAYGRID_OPERATOR_PASSWORD"] = password
    return load_key(Role.OPERATOR, allow_development=True, environment=environment)


def test_a_key_from_a_keystore(keystore: Path) -> None:
    assert from_keystore(keystore, "a password").secret.hex() == SECRET


def test_a_keystore_wants_its_password(keystore: Path) -> None:
    with pytest.raises(InputError, match="no password; set RAYGRID_OPERATOR_PASSWORD"):
        from_keystore(keystore, None)
    with pytest.raises(InputError, match="wrong password"):
        from_keystore(keystore, "another")


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such key file"):
        from_keystore(tmp_path / "none.json", "x")


def test_an_unreadable_key_file(keystore: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(eth_keyfile, "load_keyfile", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        from_keystore(keystore, "x")


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "7", '{"version": 3}', '{"version": 9, "crypto": {}}', "\udce9".encode(
        "utf-8", "surrogateescape").decode("latin-1"), '{"version": 3, "crypto": []}'],
)  # fmt: skip
def test_a_file_that_is_no_keystore(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="keystore"):
        from_keystore(path, "x")
