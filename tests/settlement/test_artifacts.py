"""The compiled contracts that are committed, and the words that their calls are made of."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from raygrid.errors import InputError
from raygrid.settlement import artifacts
from raygrid.settlement.artifacts import decode_error, load_artifact

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
NAMES = ("Settlement", "TestToken", "StoredTrades")


def source_hash() -> str:
    """What contracts/tools/build.js writes: sources, locked packages and settings."""
    lock = json.loads((CONTRACTS / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    parts = sorted(
        (path.relative_to(CONTRACTS).as_posix(), path.read_text(encoding="utf-8"))
        for path in (CONTRACTS / "src").rglob("*.sol")
    )
    for name in ("@openzeppelin/contracts", "solc"):
        parts.append((name, lock[f"node_modules/{name}"]["integrity"]))
    text = (CONTRACTS / "foundry.toml").read_text(encoding="utf-8")

    def setting(name: str) -> str:
        found = re.search(rf'^{name} *= *"?([\w.]+)"?', text, flags=re.M)
        assert found
        return found[1]

    settings = {
        "evmVersion": setting("evm_version"),
        "optimizer": {"enabled": True, "runs": int(setting("optimizer_runs"))},
        "viaIR": setting("via_ir") == "true",
        "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    }
    parts.append(("settings", json.dumps(settings, separators=(",", ":"))))
    whole = "".join(f"{name}\0{content}\0" for name, content in parts)
    return hashlib.sha256(whole.encode()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_artifacts_are_of_these_sources(name: str) -> None:
    assert load_artifact(name).source_hash == source_hash(), "run 'make contracts'"


@pytest.mark.parametrize("name", NAMES)
def test_compiler_is_the_pinned_one(name: str) -> None:
    package = json.loads((CONTRACTS / "package.json").read_text(encoding="utf-8"))
    pinned = package["devDependencies"]["solc"]
    assert load_artifact(name).compiler.startswith(f"{pinned}+commit.")
    for path in (CONTRACTS / "src").rglob("*.sol"):
        assert f"pragma solidity {pinned};" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_code_fits_a_chain(name: str) -> None:
    artifact = load_artifact(name)
    assert 0 < len(artifact.runtime) < 24_576
    assert len(artifact.runtime) < len(artifact.bytecode) < 49_152


@pytest.mark.parametrize("name", NAMES)
def test_selectors_are_hashes_of_signatures(name: str) -> None:
    artifact = load_artifact(name)
    for signature, selector in {**artifact.functions, **artifact.errors}.items():
        assert selector == keccak(signature.encode())[:4]
    for signature, topic in artifact.events.items():
        assert topic == keccak(signature.encode())
        assert artifact.topic(signature.partition("(")[0]) == topic


def test_lock_file_names_no_registry() -> None:
    assert "://" not in (CONTRACTS / "package-lock.json").read_text(encoding="utf-8")


def test_missing_artifacts_are_refused() -> None:
    with pytest.raises(InputError, match="no such compiled contract"):
        load_artifact("Nothing")


def test_broken_artifacts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "artifacts").mkdir()
    monkeypatch.setattr(artifacts, "data_root", lambda _: tmp_path)
    for content in ("{", "[]", '{"identifiers": {"functions": {"f()": "zz"}}}'):
        (tmp_path / "artifacts" / "Broken.json").write_text(content)
        with pytest.raises(InputError, match="cannot be read"):
            load_artifact("Broken")


def test_calls_are_words() -> None:
    call = load_artifact().call("deposit(uint32,uint256)", 7, 10**6)
    assert call.hex() == "aaf10398" + f"{7:064x}" + f"{10**6:064x}"
    address = bytes(range(1, 21))
    call = load_artifact().call("withdraw(uint32,uint256,address)", 1, 2, address)
    assert call[-32:] == bytes(12) + address
    call = load_artifact().call("settle(uint64,bytes)", 3, tail=b"\xff" * 33)
    words = [call[4 + 32 * k : 36 + 32 * k] for k in range(5)]
    assert [int.from_bytes(word, "big") for word in words[:3]] == [3, 64, 33]
    assert words[3] + words[4] == b"\xff" * 33 + bytes(31)


def test_refusals_are_told_in_words() -> None:
    errors = load_artifact().errors
    data = (
        errors["WrongSequence(uint64,uint64)"] + (3).to_bytes(32, "big") + (2).to_bytes(32, "big")
    )
    assert decode_error(data) == "WrongSequence(3, 2)"
    data = errors["NotOwner(uint32,address)"] + bytes(32) + bytes(12) + bytes([0xAB]) * 20
    assert decode_error(data) == f"NotOwner(0, 0x{'ab' * 20})"
    role = keccak(b"OPERATOR_ROLE")
    signature = "AccessControlUnauthorizedAccount(address,bytes32)"
    data = errors[signature] + bytes(32) + role
    assert decode_error(data).endswith(f"0x{role.hex()})")
    assert decode_error(errors["IsPaused()"]) == "IsPaused()"
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (4).to_bytes(32, "big") + b"nope"
    assert decode_error(text) == "nope"
    assert decode_error(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big")) == "Panic(17)"
    assert decode_error(b"") == "no reason given"
    assert decode_error(b"\1\2") == "0x0102"


def test_gas_figures_in_the_readme_are_those_measured() -> None:
    """contracts/snapshots is checked against the code by forge, the README against it here."""
    text = (CONTRACTS / "README.md").read_text(encoding="utf-8")
    for path in (CONTRACTS / "snapshots").glob("*.json"):
        for name, gas in json.loads(path.read_text(encoding="utf-8")).items():
            assert f"{int(gas):,}" in text, f"{name}: {gas}"
