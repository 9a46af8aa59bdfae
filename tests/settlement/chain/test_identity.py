"""Which chain is which, and what is refused as another one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from raygrid.errors import InputError
from raygrid.settlement.chain.base import ChainKind
from raygrid.settlement.chain.embedded import STATE_FILE, EmbeddedChain
from raygrid.settlement.chain.identity import (
    IDENTITY_FILE,
    ChainIdentity,
    IdentityCheck,
    check_identity,
    identify,
    is_instance,
    load_identity,
    parse_address,
    require_contract,
    save_identity,
)
from raygrid.settlement.chain.opening import open_chain
from tests.settlement.chain.programs import COUNTER
from tests.settlement.chain.test_embedded import deploy


def test_a_chain_is_known_by_genesis_contract_and_code() -> None:
    chain = EmbeddedChain()
    contract = deploy(chain)
    identity = identify(chain, contract)
    assert identity == ChainIdentity(
        ChainKind.EMBEDDED, 1337, chain.genesis_hash(), contract, keccak(COUNTER)
    )
    assert check_identity(identity, chain) is IdentityCheck.SAME


def test_a_chain_started_anew_lost_the_contract() -> None:
    chain = EmbeddedChain()
    identity = identify(chain, deploy(chain))
    anew = EmbeddedChain()
    assert check_identity(identity, anew) is IdentityCheck.LOST_CONTRACT
    deploy(anew)  # the same key and nonce: the same address
    assert check_identity(identity, anew) is IdentityCheck.OTHER_CHAIN


def test_another_chain_id_is_a_mistake() -> None:
    chain = EmbeddedChain()
    identity = identify(chain, deploy(chain))
    with pytest.raises(InputError, match="the chain has id 1, this run was settled on 1337"):
        check_identity(identity, EmbeddedChain(chain_id=1))


def test_another_code_is_a_mistake() -> None:
    chain = EmbeddedChain()
    identity = replace(identify(chain, deploy(chain)), code_hash=bytes(32))
    with pytest.raises(InputError, match="another contract stands at this address"):
        check_identity(identity, chain)


def test_an_address_without_a_contract() -> None:
    with pytest.raises(InputError, match=r"0x0909.*: there is no contract at this address"):
        identify(EmbeddedChain(), b"\x09" * 20)


def test_a_contract_must_be_the_artifacts() -> None:
    chain = EmbeddedChain()
    contract = deploy(chain)
    assert require_contract(chain, contract, COUNTER) == COUNTER
    with pytest.raises(InputError, match="not the one that this version of raygrid talks to"):
        require_contract(chain, contract, COUNTER[:-1] + b"\0")


def test_immutables_may_differ_and_nothing_else() -> None:
    runtime = b"\x60\x01\x7f" + bytes(32) + b"\x55\x7f" + bytes(32) + b"\x00"
    filled = b"\x60\x01\x7f" + b"\x7f" * 32 + b"\x55\x7f" + bytes(31) + b"\x09\x00"
    assert is_instance(runtime, runtime)
    assert is_instance(filled, runtime)
    assert not is_instance(filled[:-1] + b"\x01", runtime)
    assert not is_instance(b"\x61" + filled[1:], runtime)
    assert not is_instance(filled + b"\0", runtime)
    assert not is_instance(b"", runtime)


def test_an_identity_is_kept_with_the_run(tmp_path: Path) -> None:
    assert load_identity(tmp_path) is None
    chain = EmbeddedChain()
    identity = identify(chain, deploy(chain))
    save_identity(identity, tmp_path)
    assert load_identity(tmp_path) == identity
    assert set(json.loads((tmp_path / IDENTITY_FILE).read_text())) == {
        "kind", "chain_id", "genesis_hash", "contract", "code_hash",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"kind": "bitcoin"}, {"chain_id": "1"}, {"contract": "0x12"}, {"contract": 7},
     {"code_hash": "zz"}, {"genesis_hash": None}],
)  # fmt: skip
def test_a_damaged_identity_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    chain = EmbeddedChain()
    save_identity(identify(chain, deploy(chain)), tmp_path)
    path = tmp_path / IDENTITY_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="does not say which chain"):
        load_identity(tmp_path)
    path.write_text("[")
    with pytest.raises(InputError, match="does not say which chain"):
        load_identity(tmp_path)


def test_addresses_from_outside() -> None:
    assert parse_address("0x" + "aB" * 20, "contract") == b"\xab" * 20
    for text in ("", "0x12", "ab" * 20, "0x" + "g" * 40, "0x" + "ab" * 20 + "\n"):
        with pytest.raises(InputError, match="is not an address"):
            parse_address(text, "contract")


def test_the_embedded_chain_lives_in_the_run_folder(tmp_path: Path) -> None:
    chain = open_chain("embedded", tmp_path)
    genesis = chain.genesis_hash()
    chain.mine()
    chain.close()
    assert (tmp_path / STATE_FILE).is_file()
    again = open_chain("embedded", tmp_path, read_only=True)
    assert again.genesis_hash() == genesis
    again.close()


def test_a_chain_nobody_knows() -> None:
    with pytest.raises(InputError, match="'ganache' is not the address of a node"):
        open_chain("ganache")
