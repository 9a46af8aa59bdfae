"""A settlement contract on an embedded chain of its own, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement import contract
from raygrid.settlement.artifacts import load_artifact
from raygrid.settlement.chain.base import Receipt, Reverted
from raygrid.settlement.chain.embedded import EmbeddedChain
from raygrid.settlement.chain.keys import Key, Role, development_key, sign_transaction
from raygrid.settlement.rules import BatchInput, Tolerance

OPERATOR = development_key(Role.OPERATOR)
AUTHORITY = development_key(Role.METER_AUTHORITY)
REGISTRAR = development_key(Role.REGISTRAR)
PAUSER = development_key(Role.PAUSER)
GAS = 400_000_000


class RefusedError(Exception):
    """A transaction was refused; says why in the contract's words."""


@dataclass
class Deployed:
    """Token and settlement contract, with all roles in the development keys."""

    tolerance: Tolerance = field(default_factory=lambda: Tolerance(10, 20_000))
    chain: EmbeddedChain = field(default_factory=EmbeddedChain)

    def __post_init__(self) -> None:
        self.token = self.create(load_artifact("TestToken").bytecode)
        parties = contract.Parties(
            admin=REGISTRAR.address,
            registrar=REGISTRAR.address,
            operator=OPERATOR.address,
            meter_authority=AUTHORITY.address,
            pauser=PAUSER.address,
            network_owner=OPERATOR.address,
        )
        self.address = self.create(contract.settlement_code(self.token, parties, self.tolerance))
        token = load_artifact("TestToken")
        for signature, to, amount in (
            ("mint(address,uint256)", OPERATOR.address, 2**64),
            ("approve(address,uint256)", self.address, 2**64),
        ):
            self.send(OPERATOR, token.call(signature, to, amount), to=self.token)

    def create(self, code: bytes) -> bytes:
        created = self.send(OPERATOR, code, to=None).contract_address
        assert created is not None
        return created

    def send(self, key: Key, data: bytes, to: bytes | None = b"") -> Receipt:
        """Send a transaction, to the settlement contract unless told otherwise."""
        target = self.address if to == b"" else to
        signed = sign_transaction(
            key, chain_id=self.chain.chain_id, nonce=self.chain.nonce(key.address), gas=GAS,
            to=target, data=data, max_fee_wei=0,
        )  # fmt: skip
        (outcome,) = self.chain.send_raw([signed.raw])
        assert outcome.tx_hash is not None, outcome
        (receipt,) = self.chain.receipts([outcome.tx_hash])
        assert receipt is not None, outcome
        if not receipt.succeeded:
            try:
                self.chain.call(target or b"", data, key.address)
            except Reverted as reverted:
                raise RefusedError(contract.decode_error(reverted.data)) from None
            raise RefusedError("no reason found")
        return receipt

    def view(self, signature: str, *words: int | bytes, tail: bytes | None = None) -> bytes:
        return self.chain.call(self.address, load_artifact().call(signature, *words, tail=tail))

    def number(self, signature: str, *words: int | bytes) -> int:
        return int.from_bytes(self.view(signature, *words), "big")

    def register(self, members: int, group: int = 0) -> None:
        owners = [bytes([1]) * 16 + k.to_bytes(4, "big") for k in range(members)]
        meters = [bytes([2]) * 16 + k.to_bytes(4, "big") for k in range(members)]
        for call in contract.register_calls(group, owners, meters):
            self.send(REGISTRAR, call)

    def fund(self, amounts: IntArray | Sequence[int], first: int = 0) -> None:
        self.send(OPERATOR, contract.fund_call(first, np.asarray(amounts)))

    def fund_network(self, amount: int) -> None:
        data = load_artifact().call("deposit(uint32,uint256)", contract.NETWORK_ACCOUNT, amount)
        self.send(OPERATOR, data)

    def empty_network(self) -> None:
        account = contract.NETWORK_ACCOUNT
        amount, owner = self.balance(account), OPERATOR.address
        call = load_artifact().call("withdraw(uint32,uint256,address)", account, amount, owner)
        self.send(OPERATOR, call)

    def commit(self, *batches: BatchInput) -> Receipt:
        hashes = [
            contract.readings_hash(contract.encode_readings(b.readings_wh, b.reading_valid))
            for b in batches
        ]
        call = contract.commit_call([b.group for b in batches], [b.period for b in batches], hashes)
        return self.send(AUTHORITY, call)

    def settle(self, *batches: BatchInput) -> Receipt:
        sequence = self.number("nextSequence()")
        payloads = [contract.encode_batch(batch) for batch in batches]
        return self.send(OPERATOR, contract.settle_call(payloads, sequence))

    def balances(self, members: int, first: int = 0) -> IntArray:
        """Balances of participants from `first` on."""
        word = first // 4
        words = (first + members + 3) // 4 - word
        answer = self.view("balanceWords(uint256,uint256)", word, words)
        return contract.decode_balances(answer)[first - 4 * word :][:members]

    def balance(self, participant: int) -> int:
        return self.number("balanceOf(uint32)", participant)
