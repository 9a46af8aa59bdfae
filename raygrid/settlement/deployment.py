"""A chain of a run with the settlement contract on it: opened, recovered, deployed, registered."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from raygrid.errors import EndedShortError, InputError
from raygrid.settlement import contract
from raygrid.settlement.chain.base import Chain, ChainError, ChainKind
from raygrid.settlement.chain.identity import (
    IDENTITY_FILE,
    ChainIdentity,
    IdentityCheck,
    check_identity,
    identify,
    load_identity,
    require_contract,
    save_identity,
)
from raygrid.settlement.chain.keys import Role
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.journal import Journal, JournalEntry, copy_journal
from raygrid.settlement.ledger import Ledger, created_address
from raygrid.settlement.participants import Participants
from raygrid.settlement.plan import PackingLimits
from raygrid.settlement.policy import RetryPolicy
from raygrid.settlement.readiness import find_token, load_keys
from raygrid.settlement.rules import Tolerance
from raygrid.settlement.sender import Job, Sender
from raygrid.settlement.stages import Stages

CHAIN_FOLDER = "chain"
"""Folder within a run's that keeps the chain's state, its identity and the journal."""
JOURNAL_FILE = "journal"

PRINTED_MICRO = 2**63
"""What the operator prints of the token for tests: more than all escrows may hold is no use."""
LOCAL_CONFIRMATIONS = 1
REMOTE_CONFIRMATIONS = 3
REMOTE_WINDOW = 12
"""Nodes of public chains keep 16 waiting transactions of a sender for sure."""
LOCAL_WINDOW = 64
LOCAL_BATCH_BYTES = 900_000
"""Anvil takes requests of up to 2 MB, in hexadecimal."""
DEPLOY_TOKEN, DEPLOY_SETTLEMENT = "deploy:token", "deploy:settlement"


class LostContractError(EndedShortError):
    """The chain of a run has its contract no more: nothing of the run is settled."""


@dataclass(frozen=True)
class DeploymentSettings:
    """Which chain, and what is deployed on it.

    Attributes
    ----------
    folder : Path
        Where the chain's state, its identity and the journal are kept.
    chain : str
        'embedded', 'anvil', 'hardhat' or the URL of a node.
    tolerance : Tolerance
        Epsilon of (5-7), which a contract keeps for good.
    confirmations : int or None
        Blocks that make a result final; None chooses by the kind of chain.
    token : str or None
        Address of the escrow's token; None deploys one for tests.
    redeploy : bool
        Leave an earlier deployment behind and start anew.
    """

    folder: Path
    chain: str
    tolerance: Tolerance
    confirmations: int | None = None
    token: str | None = None
    redeploy: bool = False


class Deployment:
    """An open chain, its journal and its contract; a context manager.

    What an earlier process journaled is sent again first, so that what it left half done is
    known. Nothing is deployed before `prepare`.

    Parameters
    ----------
    settings : DeploymentSettings
        Which chain.
    policy : RetryPolicy, optional
        What to do when there is no news; by default what suits the kind of chain.
    open_it : callable
        Opens the chain, as `open_chain`.

    Attributes
    ----------
    sender : Sender
        Sends.
    stages : Stages
        Carries stages to their end.
    ledger : Ledger
        The contract, once there is one.

    Raises
    ------
    InputError
        The chain, a key or the token is not what it should be; nothing was sent.
    EndedShortError
        The chain lost the contract, or another process settles this run.
    """

    ledger: Ledger

    def __init__(
        self,
        settings: DeploymentSettings,
        policy: RetryPolicy | None = None,
        open_it: Callable[[str, Path], Chain] = open_chain,
    ) -> None:
        self.settings = settings
        self._first_block: int | None = None
        self._was_restarted = False
        self.journal = Journal(settings.folder / JOURNAL_FILE)
        try:
            chain = open_it(settings.chain, settings.folder)
        except BaseException:
            self.journal.close()
            raise
        try:
            self._begin(chain, policy or RetryPolicy.fitting(chain.is_local))
        except BaseException:
            self.journal.close()
            chain.close()
            raise

    def _begin(self, chain: Chain, policy: RetryPolicy) -> None:
        folder = self.settings.folder
        keys = load_keys(allow_development=chain.is_local)
        local = chain.is_local
        default = LOCAL_CONFIRMATIONS if local else REMOTE_CONFIRMATIONS
        node = getattr(chain, "node", None)
        self.sender = Sender(
            chain,
            self.journal,
            keys,
            policy,
            self.settings.confirmations or default,
            LOCAL_WINDOW if local else REMOTE_WINDOW,
            reopen=None if node is None else self._restart,
        )
        self.stages = Stages(self.sender, policy)
        # A block gas limit bounds a transaction's too; half of it leaves room for others.
        self.limits = PackingLimits(
            chain.gas_limit() // (1 if local else 2),
            alone_bytes=LOCAL_BATCH_BYTES if local else PackingLimits.alone_bytes,
        )
        if self.settings.redeploy:
            self.journal.archive()
            (folder / IDENTITY_FILE).unlink(missing_ok=True)
        self._token = find_token(chain, self.settings.token)
        # An embedded chain that never was on disk could not be rebuilt after a kill.
        chain.save()
        self._recover(load_identity(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close chain and journal; a node that was started for this run ends."""
        if self._was_restarted and hasattr(self, "ledger"):
            # Begun without a saved state it has another genesis block, and all of the journal.
            with suppress(ChainError, InputError):
                save_identity(identify(self.chain, self.ledger.address), self.settings.folder)
        self.chain.close()
        self.journal.close()

    @property
    def chain(self) -> Chain:
        """The chain as it is now."""
        return self.sender.chain

    def last_trouble(self) -> str:
        """What went wrong last; empty where nothing did."""
        troubles = self.stages.tally.troubles
        return troubles[-1] if troubles else ""

    def prepare(self, participants: Participants) -> None:
        """Deploy and register what is missing on the chain.

        Parameters
        ----------
        participants : Participants
            Their position is their id on the chain.

        Raises
        ------
        InputError
            The contract that is there is not this run's.
        EndedShortError
            The chain would not take it.
        """
        if not hasattr(self, "ledger"):
            self._deploy()
        if self.funds_escrows:
            self._print_money(self.ledger.token())
        self._register(participants)

    def first_block(self) -> int:
        """The block from which on the contract may have said something."""
        if self._first_block is None:
            self._first_block = self.sender.ask(
                lambda: deployed_block(self.chain, self.journal.entries)
            )
        return self._first_block

    def spent(self, steps: tuple[str, ...]) -> tuple[int, int]:
        """Transactions and gas of all journaled steps whose names begin so, as the chain has it.

        Returns
        -------
        tuple of int
            Number of transactions in blocks, and what they used.
        """
        hashes = [e.tx_hash for e in self.journal.entries if e.step.startswith(steps)]
        receipts = self.sender.ask(lambda: self.chain.receipts(hashes))
        used = [receipt.gas_used for receipt in receipts if receipt is not None]
        return len(used), sum(used)

    # --- chain ---------------------------------------------------------------------------------

    def _restart(self) -> Chain:
        """Start a node of ours anew after its death, with the state that it last saved."""
        chain = self.chain
        chain.node.start()  # type: ignore[attr-defined]
        self._was_restarted = True
        return chain

    def _recover(self, identity: ChainIdentity | None) -> None:
        """Find the contract again, and bring what was journaled to the chain."""
        if identity is None:
            # A kill may have come after deploying and before noting where.
            if self.journal.entries and self.settings.chain in set(ChainKind):
                self.stages.replay()
                self._adopt()
            return
        check = check_identity(identity, self.chain)
        same_start = self.chain.genesis_hash() == identity.genesis_hash
        if check is IdentityCheck.LOST_CONTRACT and same_start:
            # The same chain, short of its last blocks: the journal has them.
            self.stages.replay()
            check = check_identity(identity, self.chain)
        if check is not IdentityCheck.SAME:
            raise LostContractError(
                f"{self.settings.chain}: the chain lost the contract of this run, so all its "
                "trades are unsettled; 'raygrid settle RUN --redeploy' starts anew"
            )
        self._use(identity.contract)
        self.stages.replay()

    def _adopt(self) -> None:
        """Take a contract that an earlier process deployed, if the chain has it."""
        address = self._deployed(DEPLOY_SETTLEMENT)
        if address is not None:
            self._use(address)
            save_identity(identify(self.chain, address), self.settings.folder)

    def _use(self, address: bytes) -> None:
        """Take the contract at this address, if it is what this run needs."""
        runtime = contract.load_artifact("Settlement").runtime
        require_contract(self.chain, address, runtime)
        ledger = Ledger(lambda: self.sender.chain, address)
        wanted = (self.settings.tolerance.wh, self.settings.tolerance.ppm)
        if ledger.tolerance() != wanted:
            raise InputError(
                f"the contract's tolerance is {ledger.tolerance()} (Wh, ppm), the run's {wanted}",
                f"0x{address.hex()}",
                "settle the run as it was cleared, or start anew with settle --redeploy",
            )
        for role in (Role.OPERATOR, Role.METER_AUTHORITY):
            if not ledger.has_role(f"{role.upper()}_ROLE", self.sender.address(role)):
                raise InputError(
                    f"the key of the {role} does not have that role in the contract",
                    f"0x{address.hex()}",
                    "give the keys that it was deployed with",
                )
        self.ledger = ledger

    # --- contract ------------------------------------------------------------------------------

    @property
    def funds_escrows(self) -> bool:
        """Whether the operator funds all escrows: only with a token for tests."""
        return self.settings.token is None

    def _deployed(self, step: str) -> bytes | None:
        """Address of a contract that the journal deploys and the chain has."""
        for entry in reversed(self.journal.entries):
            address = created_address(entry.sender, entry.nonce)
            if entry.step == step and self.chain.code(address):
                return address
        return None

    def _deploy(self) -> None:
        token = self._token
        if token is None:
            artifact = contract.load_artifact("TestToken")
            token = self._deploy_one(DEPLOY_TOKEN, Role.OPERATOR, artifact.bytecode)
        of = self.sender.address
        # Who registers administers: an operator could make a meter authority of its own.
        parties = contract.Parties(
            admin=of(Role.REGISTRAR),
            registrar=of(Role.REGISTRAR),
            operator=of(Role.OPERATOR),
            meter_authority=of(Role.METER_AUTHORITY),
            pauser=of(Role.PAUSER),
            network_owner=of(Role.REGISTRAR),
        )
        code = contract.settlement_code(token, parties, self.settings.tolerance)
        address = self._deploy_one(DEPLOY_SETTLEMENT, Role.REGISTRAR, code)
        self._use(address)
        save_identity(identify(self.chain, address), self.settings.folder)

    def _deploy_one(self, step: str, role: Role, code: bytes) -> bytes:
        def missing() -> Sequence[bytes]:
            return [] if self._deployed(step) else [code]

        def jobs(codes: Sequence[bytes]) -> Iterator[Job]:
            for each in codes:
                gas = self.chain.estimate_gas(self.sender.address(role), None, each)
                yield Job(step, role, None, each, gas * 5 // 4)

        if self.stages.complete(missing, jobs):
            raise EndedShortError(f"the contract cannot be deployed: {self.last_trouble()}")
        address = self._deployed(step)
        assert address is not None
        return address

    def _print_money(self, token: bytes) -> None:
        """Have the operator hold the token for tests, and the contract take it from there."""
        operator, escrow = self.sender.address(Role.OPERATOR), self.ledger.address
        make = contract.load_artifact("TestToken").call
        calls = {
            "mint": make("mint(address,uint256)", operator, PRINTED_MICRO),
            "approve": make("approve(address,uint256)", escrow, 2**256 - 1),
        }

        def missing() -> Sequence[str]:
            asked = make("allowance(address,address)", operator, escrow)
            allowance = self.chain.call(token, asked)
            return [] if any(allowance) else ["mint", "approve"]

        def jobs(names: Sequence[str]) -> Iterator[Job]:
            for name in names:
                yield Job(f"token:{name}", Role.OPERATOR, token, calls[name], 150_000)

        if self.stages.complete(missing, jobs):
            raise EndedShortError(f"the token cannot be printed: {self.last_trouble()}")

    def _register(self, participants: Participants) -> None:
        total = len(participants)

        def missing() -> Sequence[int]:
            known = self.ledger.participants()
            if known > total:
                raise InputError(
                    f"the contract knows {known} participants, the run has {total}",
                    f"0x{self.ledger.address.hex()}",
                    "start anew with settle --redeploy",
                )
            return range(known, total)

        def jobs(ids: Sequence[int]) -> Iterator[Job]:
            owners, meters = participants.owner_address, participants.meter_address
            first = ids[0]
            for data in contract.register_calls(0, owners[first:], meters[first:]):
                gas = 250_000 + 300 * len(data)
                yield Job(f"register:{first}", Role.REGISTRAR, self.ledger.address, data, gas)
                first += contract.MAX_REGISTERED_AT_ONCE

        if self.stages.complete(missing, jobs):
            raise EndedShortError(f"participants cannot be registered: {self.last_trouble()}")


def deployed_block(chain: Chain, entries: Sequence[JournalEntry]) -> int:
    """The block from which on the contract that a journal deploys may have said something."""
    hashes = [entry.tx_hash for entry in entries if entry.step == DEPLOY_SETTLEMENT]
    blocks = [r.block_number for r in chain.receipts(hashes) if r is not None]
    return min(blocks, default=0)


def take_over(earlier: Path, folder: Path, patience_s: float = 0.0) -> bool:
    """Let another run go on with the contract of an earlier one, on a node that outlived that.

    Whatever the chain has of the earlier run is then only read back, and nothing settles twice.

    Parameters
    ----------
    earlier, folder : Path
        `CHAIN_FOLDER` of that run, which stays as it is, and of the other one.
    patience_s : float
        How long to wait for the end of a process that settles the earlier run still [s].

    Returns
    -------
    bool
        Whether that run had begun to settle.

    Raises
    ------
    EndedShortError
        Another process settles that run.
    """
    if not (earlier / JOURNAL_FILE).exists():
        return False
    folder.mkdir()
    copy_journal(earlier / JOURNAL_FILE, folder / JOURNAL_FILE, patience_s)
    # What is journaled is known without it, but not the chain that it is on.
    if (earlier / IDENTITY_FILE).exists():
        shutil.copyfile(earlier / IDENTITY_FILE, folder / IDENTITY_FILE)
    return True
