"""A chain behind a node's JSON-RPC interface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raygrid.settlement.chain.base import (
    ADDRESS_BYTES,
    ChainKind,
    ChainRefusedError,
    Fees,
    Log,
    Receipt,
    Reverted,
    SendOutcome,
    SendStatus,
    Transaction,
)
from raygrid.settlement.chain.keys import transaction_hash
from raygrid.settlement.chain.transport import MAX_BATCH, Fault, Request, Transport, fault_bytes

if TYPE_CHECKING:
    from raygrid.settlement.chain.nodes import Node

LOG_BLOCKS = 2_000
"""Blocks per query of logs; public nodes refuse longer ranges."""

ENDOWMENT_WEI = 10**22

KNOWN = re.compile(r"already known|known transaction|already imported|already in (the )?pool", re.I)
NONCE_TOO_LOW = re.compile(r"nonce (is )?too low|nonce has already been used|old nonce", re.I)
UNDERPRICED = re.compile(
    r"underpriced|fee ?cap|too low for the next block|less than (the )?block base ?fee"
    r"|(gas price|max ?fee ?per ?gas).*(too low|less than|below)",
    re.I,
)
REVERT_CODES = {3, -32000, -32003, -32015, -32603}
"""Codes that nodes give a call which a contract refused."""


class RpcChain:
    """A chain that a node serves.

    Parameters
    ----------
    transport : Transport
        The connection.
    kind : ChainKind
        Which kind it is.
    node : Node, optional
        The process, if it was started for this chain; `close` stops it.

    Raises
    ------
    ChainDownError, ChainSlowError, ChainRefusedError
        If the node does not answer as one.
    """

    def __init__(
        self, transport: Transport, kind: ChainKind = ChainKind.RPC, node: Node | None = None
    ) -> None:
        self.transport = transport
        self.kind = kind
        self.node = node
        chain_id, version = transport.batch([Request("eth_chainId"), Request("web3_clientVersion")])
        if not isinstance(chain_id, str):
            raise ChainRefusedError(f"{transport.where}: this is no Ethereum node")
        self.chain_id = int(chain_id, 16)
        self.client = "" if isinstance(version, Fault) else str(version)
        """What the node calls itself."""

    @property
    def is_local(self) -> bool:
        """Whether it is a development node, with well-known keys and free gas."""
        return self.client.lower().startswith(("anvil", "hardhat"))

    @property
    def _is_hardhat(self) -> bool:
        return self.client.lower().startswith("hardhat")

    def genesis_hash(self) -> bytes:
        """Hash of block 0."""
        found = self.block_hash(0)
        if found is None:
            raise ChainRefusedError(f"{self.transport.where}: the chain has no block 0")
        return found

    def block_number(self) -> int:
        """Number of the latest block."""
        return int(self.transport.call("eth_blockNumber"), 16)

    def block_hash(self, number: int) -> bytes | None:
        """Hash of a block, None if there is none of that number."""
        block = self.transport.call("eth_getBlockByNumber", hex(number), False)
        return None if block is None else _data(block["hash"])

    def gas_limit(self) -> int:
        """Gas limit of the latest block."""
        return int(self.transport.call("eth_getBlockByNumber", "latest", False)["gasLimit"], 16)

    def fees(self) -> Fees:
        """The latest base fee, and what the node suggests on top of it; nothing on a local one."""
        block, tip = self.transport.batch(
            [
                Request("eth_getBlockByNumber", ("latest", False)),
                Request("eth_maxPriorityFeePerGas"),
            ]
        )
        if isinstance(block, Fault):
            raise block.error()
        priority = 0 if self.is_local or isinstance(tip, Fault) else int(tip, 16)
        return Fees(int(block.get("baseFeePerGas", "0x0"), 16), priority)

    def nonce(self, address: bytes) -> int:
        """The account's next nonce, counting what is in blocks only."""
        return int(self.transport.call("eth_getTransactionCount", _hex(address), "latest"), 16)

    def balance(self, address: bytes) -> int:
        """The account's coin in wei."""
        return int(self.transport.call("eth_getBalance", _hex(address), "latest"), 16)

    def code(self, address: bytes) -> bytes:
        """Runtime code of a contract, empty where there is none."""
        return _data(self.transport.call("eth_getCode", _hex(address), "latest"))

    def call(
        self, to: bytes, data: bytes, sender: bytes | None = None, block: int | None = None
    ) -> bytes:
        """Run a view on the latest block, or on an older one if the node has its state."""
        answer = self.transport.batch([_view(to, data, sender, block)])[0]
        result = _view_result(answer)
        if isinstance(result, Reverted):
            raise result
        return result

    def calls(self, requests: Sequence[tuple[bytes, bytes]]) -> list[bytes | Reverted]:
        """Many views on the latest block; refusals are returned."""
        answers = self.transport.batch([_view(to, data, None, None) for to, data in requests])
        return [_view_result(answer) for answer in answers]

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes) -> int:
        """Gas that a transaction would need now."""
        fields = {"from": _hex(sender), "data": _hex(data)}
        if to is not None:
            fields["to"] = _hex(to)
        answer = self.transport.batch([Request("eth_estimateGas", (fields,))])[0]
        if isinstance(answer, Fault):
            raise _refusal(answer)
        return int(answer, 16)

    def send_raw(self, transactions: Sequence[bytes]) -> list[SendOutcome]:
        """Hand over signed transactions; asks again after what the node would not take.

        Raises
        ------
        ChainDownError, ChainSlowError
            If the node fails on the way: some may have arrived.
        """
        requests = [Request("eth_sendRawTransaction", (_hex(raw),)) for raw in transactions]
        # Hardhat works on a batch's calls all at once, and refuses a nonce that is early.
        size = 1 if self._is_hardhat else MAX_BATCH
        answers = self.transport.batch(requests, repeatable=False, size=size)
        outcomes = [
            _send_outcome(transaction_hash(raw), answer)
            for raw, answer in zip(transactions, answers, strict=True)
        ]
        # A transaction that is in a block already comes back as 'nonce too low', like any other
        # of that nonce: only its hash tells the two apart.
        doubtful = [k for k, o in enumerate(outcomes) if not o.is_on_chain_or_waiting]
        found = self.transactions([outcomes[k].tx_hash for k in doubtful])
        for k, transaction in zip(doubtful, found, strict=True):
            if transaction is not None:
                outcomes[k] = SendOutcome(
                    SendStatus.KNOWN, outcomes[k].tx_hash, outcomes[k].message
                )
        return outcomes

    def receipts(self, tx_hashes: Sequence[bytes]) -> list[Receipt | None]:
        """Receipts in the order asked for, None for what is in no block."""
        return [
            None if answer is None else _receipt(answer)
            for answer in self._results("eth_getTransactionReceipt", tx_hashes)
        ]

    def transaction(self, tx_hash: bytes) -> Transaction | None:
        """A transaction by hash, None if the node knows none."""
        return self.transactions([tx_hash])[0]

    def transactions(self, tx_hashes: Sequence[bytes]) -> list[Transaction | None]:
        """Many of them in one request."""
        return [
            None if answer is None else _transaction(answer)
            for answer in self._results("eth_getTransactionByHash", tx_hashes)
        ]

    def _results(self, method: str, tx_hashes: Sequence[bytes]) -> list[Any]:
        answers = self.transport.batch([Request(method, (_hex(h),)) for h in tx_hashes])
        for answer in answers:
            if isinstance(answer, Fault):
                raise answer.error()
        return answers

    def logs(
        self,
        address: bytes,
        from_block: int,
        to_block: int,
        topics: Sequence[bytes | None] = (),
    ) -> list[Log]:
        """Events of a contract in a range of blocks, both ends included, in order."""
        wanted = [None if topic is None else _hex(topic) for topic in topics]
        requests = [
            Request(
                "eth_getLogs",
                (
                    {
                        "address": _hex(address),
                        "fromBlock": hex(first),
                        "toBlock": hex(min(first + LOG_BLOCKS - 1, to_block)),
                        "topics": wanted,
                    },
                ),
            )
            for first in range(max(from_block, 0), to_block + 1, LOG_BLOCKS)
        ]
        found: list[Log] = []
        for answer in self.transport.batch(requests):
            if isinstance(answer, Fault):
                raise answer.error()
            found += map(_log, answer)
        return found

    def _development(self, method: str, *params: Any) -> Any:
        """A call that only development nodes know, under their own prefix."""
        if not self.is_local:
            raise ChainRefusedError(f"{self.transport.where}: not a development chain")
        prefix = "hardhat" if self._is_hardhat else "anvil"
        return self.transport.call(f"{prefix}_{method}", *params)

    def endow(self, addresses: Sequence[bytes]) -> None:
        """Give accounts of a development chain money for gas."""
        for address in addresses:
            self._development("setBalance", _hex(address), hex(ENDOWMENT_WEI))

    def mine(self, blocks: int = 1) -> None:
        """Add empty blocks to a development chain."""
        self._development("mine", hex(blocks))

    def revive(self) -> bool:
        """Start the node again, with its stored state if it keeps one, if it was ours and died."""
        if self.node is None or self.node.is_running():
            return False
        self.transport.close()
        self.node.start()
        return True

    def save(self) -> None:
        """Nothing: a node keeps its own state, a started Anvil within `STATE_INTERVAL_S`."""

    def close(self) -> None:
        """Close the connection, and stop the node if it was started for this chain."""
        self.transport.close()
        if self.node is not None:
            self.node.close()


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"


def _data(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _optional_address(text: str | None) -> bytes | None:
    return None if text is None else _data(text)


def _view(to: bytes, data: bytes, sender: bytes | None, block: int | None) -> Request:
    fields = {
        "from": _hex(sender or bytes(ADDRESS_BYTES)),
        "to": _hex(to),
        "data": _hex(data),
    }
    return Request("eth_call", (fields, "latest" if block is None else hex(block)))


def _view_result(answer: Any) -> bytes | Reverted:
    if not isinstance(answer, Fault):
        return _data(answer)
    refusal = _refusal(answer)
    if isinstance(refusal, Reverted):
        return refusal
    raise refusal


def _refusal(fault: Fault) -> Reverted | ChainRefusedError:
    """A contract's refusal, told from a node's own."""
    data = fault_bytes(fault.data)
    if data or (fault.code in REVERT_CODES and "revert" in fault.message.lower()):
        return Reverted(data)
    return fault.error()


def _send_outcome(tx_hash: bytes, answer: Any) -> SendOutcome:
    if not isinstance(answer, Fault):
        return SendOutcome(SendStatus.ACCEPTED, tx_hash)
    if isinstance(answer.data, dict) and answer.data.get("txHash") == _hex(tx_hash):
        # Hardhat's way of saying that it mined a transaction which reverted.
        return SendOutcome(SendStatus.ACCEPTED, tx_hash, answer.message)
    return SendOutcome(send_status(answer.message), tx_hash, " ".join(answer.message.split()))


def send_status(message: str) -> SendStatus:
    """What a node means by the words with which it turns a transaction away."""
    if KNOWN.search(message):
        return SendStatus.KNOWN
    if NONCE_TOO_LOW.search(message):
        return SendStatus.NONCE_TOO_LOW
    if UNDERPRICED.search(message):
        return SendStatus.UNDERPRICED
    return SendStatus.REFUSED


def _log(item: dict[str, Any]) -> Log:
    return Log(
        address=_data(item["address"]),
        topics=tuple(map(_data, item["topics"])),
        data=_data(item["data"]),
        block_number=int(item["blockNumber"], 16),
        tx_hash=_data(item["transactionHash"]),
        log_index=int(item["logIndex"], 16),
    )


def _receipt(item: dict[str, Any]) -> Receipt:
    return Receipt(
        tx_hash=_data(item["transactionHash"]),
        block_number=int(item["blockNumber"], 16),
        block_hash=_data(item["blockHash"]),
        tx_index=int(item["transactionIndex"], 16),
        succeeded=item["status"] == "0x1",
        gas_used=int(item["gasUsed"], 16),
        gas_price_wei=int(item.get("effectiveGasPrice", "0x0"), 16),
        contract_address=_optional_address(item.get("contractAddress")),
        logs=tuple(map(_log, item["logs"])),
    )


def _transaction(item: dict[str, Any]) -> Transaction:
    block = item.get("blockNumber")
    return Transaction(
        tx_hash=_data(item["hash"]),
        sender=_data(item["from"]),
        to=_optional_address(item.get("to")),
        nonce=int(item["nonce"], 16),
        data=_data(item["input"]),
        value_wei=int(item["value"], 16),
        gas=int(item["gas"], 16),
        block_number=None if block is None else int(block, 16),
    )
