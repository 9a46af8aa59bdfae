"""What a chain's history says of a deployment: the audit's view of it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement import contract
from raygrid.settlement.artifacts import WORD, load_artifact, read_number
from raygrid.settlement.chain.base import Chain, Log, Reverted
from raygrid.settlement.evidence import SettledBatch, Transfer
from raygrid.settlement.ledger import Ledger


class History:
    """Reads the contract's events and the transactions that made them; changes nothing.

    Parameters
    ----------
    chain : Chain
        The chain.
    address : bytes
        The settlement contract.
    first_block : int
        Block from which on it exists.
    """

    def __init__(self, chain: Chain, address: bytes, first_block: int = 0) -> None:
        self._chain = chain
        self._ledger = Ledger(lambda: chain, address)
        self._first_block = first_block

    @cached_property
    def _logs(self) -> list[Log]:
        last = self._chain.block_number()
        return self._chain.logs(self._ledger.address, self._first_block, last)

    @cached_property
    def _settled(self) -> dict[int, Log]:
        settled = load_artifact().topic("BatchSettled")
        logs = [log for log in self._logs if log.topics[0] == settled]
        return {contract.decode_settled(log).sequence: log for log in logs}

    def next_sequence(self) -> int:
        """How many batches have settled."""
        return self._ledger.next_sequence()

    def balances(self, count: int) -> IntArray:
        """Escrow balances of the first `count` participants [1e-6 currency]."""
        return self._ledger.balances(count)

    def network_balance(self) -> int:
        """Balance of the network account [1e-6 currency]."""
        return self._ledger.balance(contract.NETWORK_ACCOUNT)

    def transfers(self) -> list[Transfer]:
        """All money that came in or left, in order."""
        names = ("BatchSettled", "Deposited", "Withdrawn", "Funded")
        settled, deposited, withdrawn, funded = map(load_artifact().topic, names)
        found: list[Transfer] = []
        sequence = 0
        for log in self._logs:
            kind = log.topics[0]
            if kind == settled:
                sequence = contract.decode_settled(log).sequence + 1
            elif kind in (deposited, withdrawn):
                amount = read_number(log.data, 0)
                who = int.from_bytes(log.topics[1], "big")
                found.append(Transfer(sequence, who, amount if kind == deposited else -amount))
            elif kind == funded:
                first = int.from_bytes(log.topics[1], "big")
                amounts = self._funded(log, first)
                found += [
                    Transfer(sequence, first + k, amount)
                    for k, amount in enumerate(amounts.tolist())
                    if amount
                ]
        return found

    def _funded(self, log: Log, first: int) -> IntArray:
        """The amounts of a funding call, from the transaction that made it."""
        transaction = self._chain.transaction(log.tx_hash)
        data = b"" if transaction is None else transaction.data
        is_ours = data[:4] == load_artifact().functions["fund(uint32,bytes)"]
        if not is_ours or read_number(data, 4) != first:
            # Called by another contract: only its sum is in the open.
            return np.zeros(0, dtype=np.int64)
        start = 4 + read_number(data, 4 + WORD)
        size = read_number(data, start)
        packed = data[start + WORD : start + WORD + size]
        return np.frombuffer(packed, dtype=">u8").astype(np.int64)

    def record(self, group: int, period: int) -> bytes | None:
        """What the contract keeps of a settled group and period; None where it has not."""
        return self._ledger.periods([(group << 32) + period])[0].record

    def batch(self, sequence: int) -> SettledBatch | None:
        """A settled batch; None where the chain's history does not have it."""
        log = self._settled.get(sequence)
        transaction = None if log is None else self._chain.transaction(log.tx_hash)
        if log is None or transaction is None:
            return None
        event = contract.decode_settled(log)
        try:
            first, payloads = contract.batches_of_call(transaction.data)
        except ValueError:
            return None
        if not 0 <= sequence - first < len(payloads):
            return None
        payload = payloads[sequence - first]
        return SettledBatch(sequence, event.group, event.period, payload, event.voids)

    def prove(self, batch: SettledBatch, index: int) -> contract.ProvenTrade | None:
        """A trade of a batch, proven by the contract; None where it refuses."""
        data = contract.prove_call(batch.payload, batch.sequence, batch.voids, index)
        try:
            answer = self._chain.call(self._ledger.address, data)
        except Reverted:
            return None
        return contract.decode_proof(answer)
