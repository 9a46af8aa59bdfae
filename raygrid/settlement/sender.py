"""Sends transactions: signs with local nonces, journals, hands over many at a time, watches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import Any, TypeVar

from raygrid.settlement.chain.base import Chain, ChainDownError, ChainError, ChainSlowError, Fees
from raygrid.settlement.chain.keys import Key, Role, SignedTransaction, sign_transaction
from raygrid.settlement.flights import Flight, Flights, FlightStatus, Observation
from raygrid.settlement.journal import Journal, JournalEntry
from raygrid.settlement.policy import RetryDecision, RetryPolicy

_Answer = TypeVar("_Answer")

LOCAL_FEE_FACTOR = 50
"""Gas of a local chain costs nothing, and full blocks raise its base fee fast."""
MAX_RAISES = 8
"""Times that a fee is raised at once, each time by a quarter."""
GROUP = 16
"""Transactions that are journaled with one sync and handed over in one request."""


@dataclass(frozen=True)
class Job:
    """A transaction to make.

    Attributes
    ----------
    step : str
        What it does; its name in the journal.
    role : Role
        Whose key signs it.
    to : bytes or None
        Contract; None deploys `data`.
    data : bytes
        Calldata.
    gas : int
        Most gas that it may use.
    facts : mapping
        What the journal keeps with it.
    """

    step: str
    role: Role
    to: bytes | None
    data: bytes
    gas: int
    facts: Mapping[str, Any] = field(default_factory=dict)


class Sender:
    """Everything that a settlement sends goes through here.

    Parameters
    ----------
    chain : Chain
        Where to.
    journal : Journal
        Gets every transaction before the chain does.
    keys : mapping of Role to Key
        Who signs.
    policy : RetryPolicy
        What to do when there is no news.
    confirmations : int
        Blocks that make a result final.
    window : int
        Most transactions in no block at the same time.
    reopen : callable, optional
        Starts the chain anew where it is a node of ours that died.

    Attributes
    ----------
    chain : Chain
        The chain, a new one after `reopen`.
    """

    def __init__(
        self,
        chain: Chain,
        journal: Journal,
        keys: Mapping[Role, Key],
        policy: RetryPolicy,
        confirmations: int = 1,
        window: int = 64,
        reopen: Callable[[], Chain] | None = None,
    ) -> None:
        self.chain = chain
        self.journal = journal
        self._keys = keys
        self._policy = policy
        self._confirmations = confirmations
        self._window = window
        self._reopen = reopen

    def address(self, role: Role) -> bytes:
        """The account of a role."""
        return self._keys[role].address

    def run(self, jobs: Iterable[Job]) -> list[Flight]:
        """Carry jobs out, in order for each role.

        The next ones are signed while the chain works on those before; none are signed after
        one has failed. Ends when all are over or the policy gives up.

        Parameters
        ----------
        jobs : iterable of Job
            Taken as there is room for them.

        Returns
        -------
        list of Flight
            What became of those that were signed.

        Raises
        ------
        ChainDownError, ChainSlowError
            The chain does not answer, for longer than the policy bears.
        """
        flights = Flights(self._confirmations, self._window)
        signer = _Signer(
            self.chain, self._keys, self.ask(self._nonces), self.ask(lambda: self.chain.fees())
        )
        self._carry(flights, map(signer.sign, jobs))
        return flights.all()

    def replay(self) -> list[Flight]:
        """Send all journaled transactions again that the chain does not have, and watch them.

        Returns
        -------
        list of Flight
            What became of them.

        Raises
        ------
        ChainDownError, ChainSlowError
            As `run`.
        """
        done = []
        for part in self.ask(self._late):
            flights = Flights(self._confirmations, self._window)
            for entry in part:
                flights.add(entry)
            self._carry(flights, iter(()))
            done += flights.all()
        return done

    def _late(self) -> list[list[JournalEntry]]:
        """What the chain lacks of the journal, cut where the sender changes.

        One sender's nonces keep its transactions in order; a chain may put another's first, and a
        deposit before the registration of its account would be lost.
        """
        nonces = self._nonces()
        late = [e for e in self.journal.entries if e.nonce >= nonces[e.sender]]
        return [list(part) for _, part in groupby(late, key=lambda entry: entry.sender)]

    def _carry(self, flights: Flights, entries: Iterator[JournalEntry]) -> None:
        patience = _Patience(self._policy)
        signing = True
        while True:
            problem: ChainError | None = None
            changed = False
            try:
                signing = signing and not flights.failed and self._sign(flights, entries)
                self._send(flights)
                if signing and flights.room > 0:
                    continue
                changed = flights.observe(self._look(flights))
            except (ChainDownError, ChainSlowError) as error:
                problem = error
            if problem is None and flights.is_quiet and (flights.failed or not signing):
                return
            if changed:
                patience = _Patience(self._policy)
                continue
            decision = patience.decide(self._has_died(problem))
            if decision is RetryDecision.RESEND:
                self._again(flights, problem, patience.resends)
            elif decision is RetryDecision.GIVE_UP:
                if problem is not None:
                    raise problem
                return

    def _sign(self, flights: Flights, entries: Iterator[JournalEntry]) -> bool:
        """Sign and journal one group, if there is room; False when there are no more."""
        room = min(GROUP, flights.room)
        if room <= 0:
            return True
        group = list(islice(entries, room))
        self.journal.append(group)
        for entry in group:
            flights.add(entry)
        return bool(group)

    def _send(self, flights: Flights) -> None:
        entries = flights.to_send()
        for _ in range(MAX_RAISES):
            if not entries:
                return
            outcomes = self.chain.send_raw([entry.raw for entry in entries])
            underpriced = flights.sent(outcomes)
            entries = self._raise_fees(flights, underpriced) if underpriced else []

    def _raise_fees(self, flights: Flights, which: Iterable[Flight]) -> list[JournalEntry]:
        """A new form, with a higher fee, of each of these transactions."""
        fees = self.chain.fees()
        keys = {key.address: key for key in self._keys.values()}
        group = []
        for flight in which:
            form = flight.forms[-1]
            if form.sender in keys:
                raised = raise_fee(form.raw, keys[form.sender], fees)
                group.append(replace(form, tx_hash=raised.tx_hash, raw=raised.raw))
        self.journal.append(group)
        for entry in group:
            flights.add(entry)
        return group

    def _again(self, flights: Flights, problem: ChainError | None, resends: int) -> None:
        """Have what is in no block sent again, to a node started anew where ours died."""
        flights.doubt()
        try:
            if self._reopen is not None and self._has_died(problem):
                self.chain = self._reopen()
                # It may have lost its last blocks, and with them what was final before.
                for part in self._late():
                    self.chain.send_raw([entry.raw for entry in part])
                    self._await(part[-1])
            elif problem is None and resends > 1 and not self.chain.is_local:
                self._raise_fees(flights, flights.of(FlightStatus.UNSENT))
        except (ChainDownError, ChainSlowError):
            return  # the next look says so again, and the policy counts

    def _await(self, entry: JournalEntry) -> None:
        """Wait until a sender's nonces up to this one are used, as long as the policy bears."""
        patience = _Patience(self._policy)
        while self.chain.nonce(entry.sender) <= entry.nonce:
            if patience.decide(False) is not RetryDecision.WAIT:
                return

    def _has_died(self, problem: ChainError | None) -> bool:
        """Whether a node of ours is gone, which waiting does not mend."""
        return self._reopen is not None and isinstance(problem, ChainDownError)

    def _look(self, flights: Flights) -> Observation:
        chain = self.chain
        block = chain.block_number()
        nonces = self._nonces()
        watched = flights.watched()
        receipts = dict(zip(watched, chain.receipts(watched), strict=True))
        if chain.is_local and self._confirmations > 1 and any(receipts.values()):
            chain.mine(self._confirmations - 1)
        return Observation(block, nonces, receipts)

    def _nonces(self) -> dict[bytes, int]:
        senders = {key.address for key in self._keys.values()}
        senders |= {entry.sender for entry in self.journal.entries}
        return {sender: self.chain.nonce(sender) for sender in senders}

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Ask the chain until there is an answer, as long as the policy bears.

        Parameters
        ----------
        question : callable
            Reads `chain`, whichever that is by then.

        Raises
        ------
        ChainDownError, ChainSlowError
            There was none.
        """
        patience = _Patience(self._policy)
        while True:
            try:
                return question()
            except (ChainDownError, ChainSlowError) as error:
                decision = patience.decide(self._has_died(error))
                if decision is RetryDecision.GIVE_UP:
                    raise
                if decision is RetryDecision.RESEND:
                    self._again(Flights(), error, patience.resends)


class _Patience:
    """How long there was no news, and what the policy makes of it; sleeps where it says wait."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._since = time.monotonic()
        self._looks = 0
        self.resends = 0

    def decide(self, has_died: bool) -> RetryDecision:
        silent_s = math.inf if has_died else time.monotonic() - self._since
        decision = self._policy.decide(silent_s, self.resends)
        if decision is RetryDecision.WAIT:
            time.sleep(self._policy.poll_s(self._looks))
            self._looks += 1
        elif decision is RetryDecision.RESEND:
            self._since, self._looks = time.monotonic(), 0
            self.resends += 1
        return decision


class _Signer:
    """Signs jobs with nonces that are counted here, not asked for."""

    def __init__(
        self, chain: Chain, keys: Mapping[Role, Key], nonces: Mapping[bytes, int], fees: Fees
    ) -> None:
        self._chain_id = chain.chain_id
        self._keys = keys
        self._nonces = dict(nonces)
        self._max_fee_wei = fees.max_fee_wei * (LOCAL_FEE_FACTOR if chain.is_local else 1)
        self._priority_fee_wei = fees.priority_fee_wei

    def sign(self, job: Job) -> JournalEntry:
        key = self._keys[job.role]
        nonce = self._nonces[key.address]
        signed = sign_transaction(
            key,
            chain_id=self._chain_id,
            nonce=nonce,
            gas=job.gas,
            to=job.to,
            data=job.data,
            max_fee_wei=self._max_fee_wei,
            priority_fee_wei=self._priority_fee_wei,
        )
        self._nonces[key.address] = nonce + 1
        return JournalEntry(job.step, key.address, nonce, signed.tx_hash, signed.raw, job.facts)


def raise_fee(raw: bytes, key: Key, fees: Fees) -> SignedTransaction:
    """The same transaction with a fee a quarter higher, or today's where that is more.

    Parameters
    ----------
    raw : bytes
        A signed EIP-1559 transaction.
    key : Key
        Its signer's.
    fees : Fees
        What the chain asks at present.

    Returns
    -------
    SignedTransaction
        Another form of the same nonce; nodes take one in place of the other from 10 % more on.
    """
    import rlp

    chain_id, nonce, priority, fee, gas, to, value, data, *_ = rlp.decode(raw[1:])
    old_priority, old_fee = (int.from_bytes(field, "big") for field in (priority, fee))
    return sign_transaction(
        key,
        chain_id=int.from_bytes(chain_id, "big"),
        nonce=int.from_bytes(nonce, "big"),
        gas=int.from_bytes(gas, "big"),
        to=to or None,
        data=data,
        value_wei=int.from_bytes(value, "big"),
        max_fee_wei=max(fees.max_fee_wei, -(-old_fee * 5 // 4)),
        priority_fee_wei=max(fees.priority_fee_wei, -(-old_priority * 5 // 4)),
    )
