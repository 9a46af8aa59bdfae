"""Which chain a scenario settles on."""

import pytest
from pydantic import ValidationError

from raygrid.errors import InputError
from raygrid.scenario.settlement import Settlement, check_chain, public_name


def test_auto_is_embedded_up_to_a_size():
    section = Settlement()
    assert section.chain_for(2000) == "embedded"
    assert section.chain_for(2001) == "none"


@pytest.mark.parametrize("chain", ["embedded", "anvil", "hardhat", "none", "http://127.0.0.1:8545"])
def test_a_named_chain_is_taken_at_any_size(chain):
    assert Settlement(chain=chain).chain_for(10**6) == chain


@pytest.mark.parametrize(
    "wrong",
    [
        {"chain": "geth"},
        {"chain": "ftp://x"},
        {"token": "0x12"},
        {"confirmations": 0},
        {"deposit": -1.0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Settlement(**wrong)


def test_a_chain_of_the_command_line_is_checked():
    check_chain("http://127.0.0.1:8545")
    with pytest.raises(InputError, match="'geth' names no chain"):
        check_chain("geth")


def test_a_urls_secrets_stay_out_of_the_run():
    assert public_name("https://user:secret@node.example:443/key?x=1") == "https://node.example:443"
    assert public_name("http://node/v3/secret") == "http://node"
    assert public_name("embedded") == "embedded"
