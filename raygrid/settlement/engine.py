"""The settlement engine: a chain, a contract on it, and batches settled exactly once.

Everything is planned from what the chain holds. A batch's group and period settle once, for
ever, and batches are numbered without gaps: so a kill, a resend or a second engine can leave
something undone, never done twice, and doing it again completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from raygrid.arrays import IntArray
from raygrid.errors import EndedShortError
from raygrid.settlement import contract
from raygrid.settlement.artifacts import load_artifact
from raygrid.settlement.chain.base import Log
from raygrid.settlement.chain.keys import Role
from raygrid.settlement.contract import NETWORK_ACCOUNT
from raygrid.settlement.deployment import Deployment
from raygrid.settlement.ledger import PeriodState
from raygrid.settlement.plan import PlannedBatch, batch_id, pack
from raygrid.settlement.sender import Job

MAX_COMMITMENTS = 500
"""Groups and periods whose readings one transaction commits, 23,000 gas each."""
FUNDED_AT_ONCE = 2_000
"""Participants whose escrows one transaction funds, a quarter of 23,000 gas each."""


@dataclass(frozen=True)
class EncodedBatch:
    """A batch as it goes to the contract.

    Attributes
    ----------
    planned : PlannedBatch
        Whose.
    payload : bytes
        Header, readings and trades.
    readings_hash : bytes
        What the meter authority commits.
    commitment : bytes
        What the contract keeps of that until the batch settles.
    """

    planned: PlannedBatch
    payload: bytes
    readings_hash: bytes
    commitment: bytes

    @property
    def batch_id(self) -> int:
        """Group and period in one number."""
        return self.planned.batch_id


@dataclass(frozen=True)
class BatchOutcome:
    """What became of a batch.

    Attributes
    ----------
    batch : EncodedBatch
        The batch.
    sequence : int or None
        Its number; None, as all that follows, where it is not settled.
    tx_hash : bytes or None
        The transaction that carried it.
    block : int or None
        Its block.
    gas : int or None
        Its part of the transaction's gas, by bytes.
    record : bytes or None
        What the contract keeps of it.
    void_reason : (K,) int64
        Why each trade is void, as the contract says; 0 where it settled.
    trouble : str
        Why it is not settled.
    """

    batch: EncodedBatch
    void_reason: IntArray
    sequence: int | None = None
    tx_hash: bytes | None = None
    block: int | None = None
    gas: int | None = None
    record: bytes | None = None
    trouble: str = ""

    @property
    def size(self) -> int:
        """Number of its trades."""
        return len(self.batch.planned)

    @property
    def is_settled(self) -> bool:
        """Whether the chain has it."""
        return self.sequence is not None


@dataclass(frozen=True)
class Needs:
    """What escrows must hold at least before some trades settle.

    Attributes
    ----------
    participants : (M,) int64
        By participant [1e-6 currency].
    network : int
        Of the network account [1e-6 currency].
    """

    participants: IntArray
    network: int = 0


class SettlementEngine:
    """Settles batches on one deployment.

    Parameters
    ----------
    deployment : Deployment
        Open and prepared.

    Attributes
    ----------
    seconds : float
        Time spent in `settle` [s].
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stages = deployment.stages
        self._ledger = deployment.ledger
        self.seconds = 0.0

    def fund(self, needs: Needs) -> None:
        """Bring escrows up to what is needed, with the token for tests.

        Parameters
        ----------
        needs : Needs
            Least balances.

        Raises
        ------
        EndedShortError
            The chain would not take it.
        """
        count = len(needs.participants)

        def short() -> list[tuple[int, IntArray]]:
            lacks = np.maximum(needs.participants - self._ledger.balances(count), 0)
            parts = [
                (first, lacks[first : first + FUNDED_AT_ONCE])
                for first in range(0, count, FUNDED_AT_ONCE)
            ]
            network = max(needs.network - self._ledger.balance(NETWORK_ACCOUNT), 0)
            parts.append((NETWORK_ACCOUNT, np.array([network])))
            return [(first, amounts) for first, amounts in parts if amounts.any()]

        left = self._stages.complete(short, lambda parts: map(self._fund_job, parts))
        if left:
            raise EndedShortError(f"escrows cannot be funded: {self._deployment.last_trouble()}")

    def _fund_job(self, part: tuple[int, IntArray]) -> Job:
        first, amounts = part
        if first == NETWORK_ACCOUNT:
            data = load_artifact().call("deposit(uint32,uint256)", first, int(amounts[0]))
        else:
            data = contract.fund_call(first, amounts)
        gas = 150_000 + 8_000 * len(amounts)
        return Job(f"fund:{first}", Role.OPERATOR, self._ledger.address, data, gas)

    def settle(
        self,
        batches: Iterable[PlannedBatch],
        needs: Callable[[Sequence[PlannedBatch]], Needs] | None = None,
    ) -> list[BatchOutcome]:
        """Settle batches, those that the chain has already left out.

        Parameters
        ----------
        batches : iterable of PlannedBatch
            In the order in which they are to settle.
        needs : callable, optional
            What escrows must hold for batches; they are funded so far before any settles.

        Returns
        -------
        list of BatchOutcome
            In the same order, read back from the chain.

        Raises
        ------
        ChainDownError, ChainSlowError
            The chain does not answer at all.
        EndedShortError
            Escrows cannot be funded.
        """
        started = perf_counter()
        encoded = [encode(planned) for planned in batches]
        by_id = {batch.batch_id: batch for batch in encoded}

        def states() -> Mapping[int, PeriodState]:
            return dict(zip(by_id, self._ledger.periods(list(by_id)), strict=True))

        def uncommitted() -> list[EncodedBatch]:
            return [by_id[k] for k, s in states().items() if s == PeriodState(None, None)]

        def unsettled() -> list[EncodedBatch]:
            ours = (by_id[k].commitment for k in by_id)
            return [
                by_id[k]
                for (k, state), commitment in zip(states().items(), ours, strict=True)
                if state.record is None and state.commitment in (None, commitment)
            ]

        def supported() -> None:
            """Escrows hold what is due and readings are committed, also after a chain lost some."""
            if needs is not None:
                open_ones = self._deployment.sender.ask(unsettled)
                self.fund(needs([batch.planned for batch in open_ones]))
            self._stages.complete(uncommitted, self._commit_jobs)

        if by_id:
            supported()
            self._stages.complete(unsettled, self._settle_jobs, before=supported)
        outcomes = self.read_back(encoded)
        self.seconds += perf_counter() - started
        return outcomes

    def _commit_jobs(self, batches: Sequence[EncodedBatch]) -> Iterator[Job]:
        for first in range(0, len(batches), MAX_COMMITMENTS):
            part = batches[first : first + MAX_COMMITMENTS]
            data = contract.commit_call(
                [b.planned.input.group for b in part],
                [b.planned.input.period for b in part],
                [b.readings_hash for b in part],
            )
            gas = 60_000 + 26_000 * len(part)
            yield Job(
                f"commit:{part[0].batch_id}",
                Role.METER_AUTHORITY,
                self._ledger.address,
                data,
                gas,
                {"batches": len(part)},
            )

    def _settle_jobs(self, batches: Sequence[EncodedBatch]) -> Iterator[Job]:
        sequence = self._deployment.sender.ask(self._ledger.next_sequence)
        by_id = {batch.batch_id: batch for batch in batches}
        sized = ((b.planned, len(b.payload), settle_gas(b.planned)) for b in batches)
        for carried in pack(sized, self._deployment.limits):
            part = [by_id[planned.batch_id] for planned in carried]
            yield Job(
                f"settle:{sequence}",
                Role.OPERATOR,
                self._ledger.address,
                contract.settle_call([b.payload for b in part], sequence),
                TRANSACTION_GAS + sum(map(settle_gas, carried)),
                {"batches": [b.batch_id for b in part]},
            )
            sequence += len(part)

    def read_back(self, batches: Sequence[EncodedBatch]) -> list[BatchOutcome]:
        """The last pass: what the chain has of every batch.

        A batch counts as settled only if the contract's record is the hash of these very bytes.
        """
        if not batches:
            return []
        sender, ledger = self._deployment.sender, self._ledger
        states = sender.ask(lambda: ledger.periods([batch.batch_id for batch in batches]))
        events = {} if not any(state.record for state in states) else self._events()
        gas = self._gas_shares(batches, events)
        outcomes = []
        for batch, state in zip(batches, states, strict=True):
            log = events.get(batch.batch_id)
            nothing = np.zeros(len(batch.planned), dtype=np.int64)
            if state.record is None or log is None:
                trouble = self._deployment.last_trouble() or "not settled"
                outcomes.append(BatchOutcome(batch, nothing, trouble=trouble))
                continue
            event = contract.decode_settled(log)
            record = contract.batch_record(batch.payload, event.sequence, event.voids)
            if record != state.record:
                trouble = "the chain settled other trades or readings for this period"
                outcomes.append(BatchOutcome(batch, nothing, trouble=trouble))
                continue
            void = nothing.copy()
            void[event.void_index] = event.void_reason
            outcomes.append(
                BatchOutcome(
                    batch,
                    void,
                    event.sequence,
                    log.tx_hash,
                    log.block_number,
                    gas.get(batch.batch_id),
                    state.record,
                )
            )
        return outcomes

    def _events(self) -> dict[int, Log]:
        """The contract's report of each settled batch, by batch id."""
        sender, address = self._deployment.sender, self._ledger.address
        topics = [load_artifact().topic("BatchSettled")]
        first = self._deployment.first_block()
        logs = sender.ask(
            lambda: sender.chain.logs(address, first, sender.chain.block_number(), topics)
        )
        events = ((contract.decode_settled(log), log) for log in logs)
        return {batch_id(event.group, event.period): log for event, log in events}

    def _gas_shares(
        self, batches: Sequence[EncodedBatch], events: Mapping[int, Log]
    ) -> dict[int, int]:
        """Each batch's part of its transaction's gas, by its bytes."""
        carried: dict[bytes, list[EncodedBatch]] = {}
        for batch in batches:
            if batch.batch_id in events:
                carried.setdefault(events[batch.batch_id].tx_hash, []).append(batch)
        sender = self._deployment.sender
        hashes = list(carried)
        receipts = sender.ask(lambda: sender.chain.receipts(hashes))
        shares: dict[int, int] = {}
        for tx_hash, receipt in zip(hashes, receipts, strict=True):
            if receipt is not None:
                sizes = [len(batch.payload) for batch in carried[tx_hash]]
                parts = split(receipt.gas_used, sizes)
                shares |= dict(zip((b.batch_id for b in carried[tx_hash]), parts, strict=True))
        return shares


TRANSACTION_GAS = 60_000
"""What a transaction costs whatever it carries."""


def settle_gas(batch: PlannedBatch) -> int:
    """An upper bound of the gas that a batch takes.

    Parameters
    ----------
    batch : PlannedBatch
        With K trades and readings of M members.

    Returns
    -------
    int
        Calldata, a new balance word of four members each, all trades void and listed.
    """
    members, trades = len(batch.input.readings_wh), len(batch)
    return 100_000 + 7_000 * members + 3_000 * trades


def split(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole parts of a total in proportion to sizes, which sum up to it exactly."""
    ends = np.cumsum(sizes) * total // max(sum(sizes), 1)
    return [int(part) for part in np.diff(ends, prepend=0)]


def encode(planned: PlannedBatch) -> EncodedBatch:
    """Make the bytes of a batch and the hash of its readings."""
    payload = contract.encode_batch(planned.input)
    readings = contract.readings_of(payload)
    return EncodedBatch(
        planned, payload, contract.readings_hash(readings), contract.committed_hash(readings)
    )
