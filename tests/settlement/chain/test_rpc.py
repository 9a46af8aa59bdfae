"""Reading what nodes say, from answers as they give them."""

from __future__ import annotations

import pytest

from raygrid.errors import InputError
from raygrid.settlement.chain.base import (
    Chain,
    ChainRefusedError,
    Reverted,
    SendStatus,
    revert_reason,
)
from raygrid.settlement.chain.keys import Role, development_key, sign_transaction
from raygrid.settlement.chain.nodes import free_port
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.chain.rpc import RpcChain, send_status
from raygrid.settlement.chain.transport import Transport
from tests.settlement.chain.test_transport import Answer, Server, serving

HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "cd" * 20


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("already known", SendStatus.KNOWN),
        ("transaction already imported", SendStatus.KNOWN),
        (f"Known transaction: {HASH}", SendStatus.KNOWN),
        ("ALREADY_EXISTS: already known", SendStatus.KNOWN),
        ("nonce too low", SendStatus.NONCE_TOO_LOW),
        ("nonce too low: next nonce 5, tx nonce 3", SendStatus.NONCE_TOO_LOW),
        ("Nonce too low. Expected nonce to be 101 but got 4.", SendStatus.NONCE_TOO_LOW),
        ("replacement transaction underpriced", SendStatus.UNDERPRICED),
        ("transaction underpriced: gas tip cap 0", SendStatus.UNDERPRICED),
        ("max fee per gas less than block base fee: address 0x1", SendStatus.UNDERPRICED),
        (
            "Transaction maxFeePerGas (0) is too low for the next block, which has a baseFeePerGas",
            SendStatus.UNDERPRICED,
        ),
        ("intrinsic gas too low", SendStatus.REFUSED),
        ("insufficient funds for gas * price + value", SendStatus.REFUSED),
        ("invalid chain id for signer", SendStatus.REFUSED),
        ("Nonce too high. Expected nonce to be 2 but got 4.", SendStatus.REFUSED),
        ("exceeds block gas limit", SendStatus.REFUSED),
    ],
)
def test_the_words_of_nodes(message: str, status: SendStatus) -> None:
    assert send_status(message) is status


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no reason"),
        (bytes.fromhex("12345678"), "0x12345678"),
        (bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big"), "panic 0x11"),
        (
            bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (2).to_bytes(32, "big") + b"no",
            "'no'",
        ),
        (bytes.fromhex("08c379a0"), "0x08c379a0"),
    ],
)
def test_why_a_contract_reverted(data: bytes, reason: str) -> None:
    assert revert_reason(data) == reason


def node(client: str = "anvil/v1", **methods: object) -> Answer:
    """A node that answers each method with a fixed value, or with the error that it is."""
    known = {"eth_chainId": "0x7a69", "web3_clientVersion": client, **methods}

    def answer(handler: object, calls: list[dict[str, object]]) -> list[dict[str, object]]:
        return [
            {"id": call["id"], **value}
            if isinstance(value := known[str(call["method"])], dict) and "error" in value
            else {"id": call["id"], "result": value}
            for call in calls
        ]

    return answer


def asked(server: Server, method: str) -> list[dict[str, object]]:
    return [call for calls in server.seen for call in calls if call["method"] == method]


def test_a_node_is_a_chain() -> None:
    with serving(node()) as server:
        chain = RpcChain(Transport(server.url))
        assert isinstance(chain, Chain)
        assert chain.chain_id == 31337
        assert chain.is_local
        chain.close()


def test_only_development_nodes_give_money() -> None:
    with serving(node("Geth/v1", eth_maxPriorityFeePerGas="0x2",
                      eth_getBlockByNumber={"baseFeePerGas": "0x5"})) as server:  # fmt: skip
        chain = RpcChain(Transport(server.url))
        assert not chain.is_local
        with pytest.raises(ChainRefusedError, match="not a development chain"):
            chain.endow([bytes(20)])
        fees = chain.fees()
        assert (fees.base_fee_wei, fees.priority_fee_wei, fees.max_fee_wei) == (5, 2, 12)
        chain.close()


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted: nope", "data": "0x08c379a0"},
        {"code": -32603, "message": "Error: VM Exception: reverted with reason string 'nope'",
         "data": {"message": "x", "data": "0x08c379a0"}},
        {"code": -32000, "message": "execution reverted"},
    ],
)  # fmt: skip
def test_a_contracts_refusal_is_told_from_the_nodes(error: dict[str, object]) -> None:
    with serving(node(eth_call={"error": error}, eth_estimateGas={"error": error})) as server:
        chain = RpcChain(Transport(server.url))
        with pytest.raises(Reverted):
            chain.call(bytes(20), b"")
        with pytest.raises(Reverted):
            chain.estimate_gas(bytes(20), None, b"")
        assert isinstance(chain.calls([(bytes(20), b"")])[0], Reverted)
        chain.close()


def test_a_nodes_own_refusal_is_no_revert() -> None:
    error = {"error": {"code": -32000, "message": "missing trie node"}}
    with serving(node(eth_call=error)) as server:
        chain = RpcChain(Transport(server.url))
        with pytest.raises(ChainRefusedError, match="missing trie node"):
            chain.call(bytes(20), b"", block=3)
        assert asked(server, "eth_call")[0]["params"][1] == "0x3"  # type: ignore[index]
        chain.close()


def signed() -> tuple[bytes, bytes]:
    made = sign_transaction(
        development_key(Role.OPERATOR), chain_id=31337, nonce=0, gas=21_000, to=bytes(20),
        max_fee_wei=0,
    )  # fmt: skip
    return made.raw, made.tx_hash


def kept_transaction(tx_hash: bytes) -> dict[str, object]:
    return {
        "hash": f"0x{tx_hash.hex()}", "from": ADDRESS, "to": ADDRESS, "nonce": "0x0", "input": "0x",
        "value": "0x0", "gas": "0x5208", "blockNumber": "0x2",
    }  # fmt: skip


@pytest.mark.parametrize("landed", [True, False])
def test_a_used_nonce_is_ours_or_anothers(landed: bool) -> None:
    raw, tx_hash = signed()
    refusal = {"error": {"code": -32003, "message": "nonce too low"}}
    kept = kept_transaction(tx_hash) if landed else None
    with serving(node(eth_sendRawTransaction=refusal, eth_getTransactionByHash=kept)) as server:
        chain = RpcChain(Transport(server.url))
        (outcome,) = chain.send_raw([raw])
        assert outcome.status is (SendStatus.KNOWN if landed else SendStatus.NONCE_TOO_LOW)
        assert outcome.tx_hash == tx_hash
        chain.close()


def test_hardhat_reports_a_reverted_transaction_as_an_error() -> None:
    raw, tx_hash = signed()
    refusal = {
        "error": {"code": -32603, "message": "reverted", "data": {"txHash": f"0x{tx_hash.hex()}"}}
    }
    with serving(node("HardhatNetwork/2", eth_sendRawTransaction=refusal)) as server:
        chain = RpcChain(Transport(server.url))
        outcomes = chain.send_raw([raw, raw])
        assert [o.status for o in outcomes] == [SendStatus.ACCEPTED] * 2
        sends = [calls for calls in server.seen if calls[0]["method"] == "eth_sendRawTransaction"]
        assert [len(calls) for calls in sends] == [1, 1]
        chain.close()


def test_a_receipt_is_read_whole() -> None:
    item = {
        "transactionHash": HASH, "blockNumber": "0x10", "blockHash": HASH,
        "transactionIndex": "0x1",
        "status": "0x0", "gasUsed": "0x5208", "effectiveGasPrice": "0x7", "contractAddress": None,
        "logs": [{"address": ADDRESS, "topics": [HASH], "data": "0x01", "blockNumber": "0x10",
                  "transactionHash": HASH, "logIndex": "0x3"}],
    }  # fmt: skip
    with serving(node(eth_getTransactionReceipt=item)) as server:
        chain = RpcChain(Transport(server.url))
        (receipt,) = chain.receipts([bytes(32)])
        assert receipt is not None
        assert (receipt.block_number, receipt.tx_index, receipt.succeeded) == (16, 1, False)
        assert (receipt.gas_used, receipt.gas_price_wei) == (21_000, 7)
        assert receipt.contract_address is None
        (log,) = receipt.logs
        assert (log.data, log.log_index, log.topics) == (b"\1", 3, (bytes.fromhex("ab" * 32),))
        chain.close()


def test_long_ranges_of_logs_are_asked_for_in_pieces() -> None:
    with serving(node(eth_getLogs=[])) as server:
        chain = RpcChain(Transport(server.url))
        assert chain.logs(bytes(20), 5, 4_500, [None, bytes(32)]) == []
        asks = [call["params"][0] for call in asked(server, "eth_getLogs")]  # type: ignore[index]
        assert [(int(a["fromBlock"], 16), int(a["toBlock"], 16)) for a in asks] == [
            (5, 2_004), (2_005, 4_004), (4_005, 4_500),
        ]  # fmt: skip
        assert asks[0]["topics"] == [None, "0x" + "00" * 32]
        chain.close()


def test_a_url_where_nobody_answers() -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+: nobody listens there; start the node"):
        open_chain(f"http://127.0.0.1:{free_port()}")


def test_a_url_that_is_no_chain() -> None:
    error = {"error": {"code": -32601, "message": "method not found"}}
    with (
        serving(node(eth_chainId=error)) as server,
        pytest.raises(InputError, match="no Ethereum node"),
    ):
        open_chain(server.url)
