"""Calls and events of the settlement contract, on an EVM."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.settlement import contract
from raygrid.settlement.rules import VoidReason
from tests.settlement.deployed import OPERATOR, PAUSER, Deployed, RefusedError
from tests.settlement.test_rules import batch, ints

ROWS = [(0, 2, 1000, 200_000, 210_000), (1, 2, 500, 200_000, 210_000)]
READINGS = [1000, 400, -1500]


@pytest.fixture
def deployed() -> Deployed:
    made = Deployed()
    made.register(3, group=1)
    made.fund([10**6] * 3)
    return made


def test_a_batch_settles_and_its_event_tells(deployed: Deployed) -> None:
    one = batch(ROWS, READINGS)
    deployed.commit(one)
    receipt = deployed.settle(one)
    event = contract.decode_settled(receipt.logs[0])
    assert (event.sequence, event.group, event.period) == (0, 1, 2)
    assert (event.settled, event.energy_wh, event.network_micro) == (1, 1000, 10_000)
    assert event.void_index.tolist() == [1]
    assert event.void_reason.tolist() == [VoidReason.MISMATCH]
    assert deployed.balances(3).tolist() == [1_200_000, 1_000_000, 790_000]
    assert deployed.balance(contract.NETWORK_ACCOUNT) == 10_000
    assert event.record == contract.batch_record(contract.encode_batch(one), 0, event.voids)


def test_a_transaction_leads_back_to_its_batches(deployed: Deployed) -> None:
    one, two = batch(ROWS, READINGS), batch([], [0, 0, 0])
    payloads = [contract.encode_batch(b) for b in (one, two)]
    call = contract.settle_call(payloads, 4)
    assert contract.batches_of_call(call) == (4, payloads)
    for bad in (b"", call[:90], b"\0" + call, call[:-64]):
        with pytest.raises(ValueError, match=r"no call of settle|cut short"):
            contract.batches_of_call(bad)


def test_trades_are_proven(deployed: Deployed) -> None:
    one = batch(ROWS, READINGS)
    deployed.commit(one)
    (log,) = deployed.settle(one).logs
    event = contract.decode_settled(log)
    payload = contract.encode_batch(one)

    def prove(index: int) -> contract.ProvenTrade:
        call = contract.prove_call(payload, event.sequence, event.voids, index)
        return contract.decode_proof(deployed.chain.call(deployed.address, call))

    assert prove(0) == contract.ProvenTrade(0, 0, 2, 1000, 200_000, 210_000)
    assert prove(1) == contract.ProvenTrade(VoidReason.MISMATCH, 1, 2, 500, 100_000, 105_000)


def test_refusals_have_names(deployed: Deployed) -> None:
    one = batch(ROWS, READINGS)
    with pytest.raises(RefusedError, match=r"ReadingsNotCommitted\(1, 2\)"):
        deployed.settle(one)
    deployed.commit(one)
    with pytest.raises(RefusedError, match=r"AlreadyCommitted\(1, 2\)"):
        deployed.commit(one)
    with pytest.raises(RefusedError, match=r"WrongSequence\(0, 1\)"):
        deployed.send(OPERATOR, contract.settle_call([contract.encode_batch(one)], 1))
    deployed.settle(one)
    with pytest.raises(RefusedError, match=r"AlreadySettled\(1, 2\)"):
        deployed.settle(one)
    deployed.send(PAUSER, contract.load_artifact().call("setPaused(bool)", 1))
    with pytest.raises(RefusedError, match=r"IsPaused\(\)"):
        deployed.settle(one)


def test_many_participants_take_several_calls() -> None:
    owners, meters = ([bytes([kind]) * 20] * 1001 for kind in (1, 2))
    calls = contract.register_calls(0, owners, meters)
    assert [len(call) for call in calls] == [4 + 96 + 24_000, 4 + 96 + 16_064]
    deployed = Deployed()
    deployed.register(1001)
    deployed.fund(np.arange(1001))
    assert deployed.number("participants()") == 1001
    assert deployed.balances(1001).tolist() == list(range(1001))
    assert deployed.number("ownerOf(uint32)", 777) % 2**32 == 777


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        contract.register_calls(0, [b"short"], [bytes(20)])
    with pytest.raises(ValueError, match="32 bytes"):
        contract.commit_call([1], [2], [b"short"])
    for first, amounts in ((2, ints(1)), (0, ints(-1))):
        with pytest.raises(ValueError, match="escrows"):
            contract.fund_call(first, amounts)


def test_other_events_are_told_apart(deployed: Deployed) -> None:
    receipt = deployed.commit(batch(ROWS, READINGS))
    with pytest.raises(ValueError, match="not of a settled batch"):
        contract.decode_settled(receipt.logs[0])
