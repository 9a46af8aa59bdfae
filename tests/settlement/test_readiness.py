"""What is refused of a chain before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raygrid.errors import InputError
from raygrid.settlement.readiness import check_ready, find_token, load_keys
from tests.settlement.deployed import Deployed


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    one = Deployed()
    yield one
    one.chain.close()


def answers(word: int) -> bytes:
    """Code that deploys a contract which answers every call with one number."""
    runtime = bytes([0x60, word, 0x5F, 0x52, 0x60, 0x20, 0x5F, 0xF3])
    return bytes([0x67, *runtime, 0x5F, 0x52, 0x60, 8, 0x60, 24, 0xF3])


def test_a_token_of_six_decimals_is_taken(deployed: Deployed) -> None:
    assert find_token(deployed.chain, "0x" + deployed.token.hex()) == deployed.token
    assert find_token(deployed.chain, None) is None


def test_a_token_with_other_decimals_is_refused(deployed: Deployed) -> None:
    address = "0x" + deployed.create(answers(18)).hex()
    before = deployed.chain.block_number()
    with pytest.raises(InputError, match=r"the token has 18 decimals, the escrow counts 6.*give"):
        find_token(deployed.chain, address)
    # Nothing was sent.
    assert deployed.chain.block_number() == before


def test_what_is_no_token_is_refused(deployed: Deployed) -> None:
    with pytest.raises(InputError, match="no contract at this address"):
        find_token(deployed.chain, "0x" + "09" * 20)
    with pytest.raises(InputError, match="no decimals"):
        find_token(deployed.chain, "0x" + deployed.address.hex())


def test_a_new_chain_holds_no_token() -> None:
    with pytest.raises(InputError, match="a new embedded chain holds no token"):
        check_ready("embedded", "0x" + "09" * 20)


def test_operator_and_authority_must_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERATOR", "METER_AUTHORITY"):
        monkeypatch.setenv(f"RAYGRID_{name}_KEY", "0x" + "17" * 32)
    with pytest.raises(InputError, match="have the same key"):
        load_keys(allow_development=True)
