"""The contract on an EVM against the same rules in numpy, over random batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raygrid.settlement import contract
from raygrid.settlement.rules import BatchInput, BatchOutcome, Tolerance, VoidReason, settle_batch
from tests.settlement.deployed import Deployed

MEMBERS = 13
"""Of each group; odd, so that groups begin anywhere within a word of four balances."""
TOLERANCE = Tolerance(wh=10, ppm=20_000)


def ints(values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@st.composite
def batches(draw: st.DrawFn) -> BatchInput:
    """Trades among a few, with readings that mostly bear them out; prices of either sign."""
    members = draw(st.integers(1, MEMBERS))
    count = draw(st.integers(0, 24))
    party = st.integers(0, members - 1)
    one_sided = draw(st.booleans()) and members > 1
    sellers = st.integers(0, members // 2 - 1) if one_sided else party
    buyers = st.integers(members // 2, members - 1) if one_sided else party
    energy = st.one_of(st.integers(0, 9), st.integers(0, 5_000), st.integers(0, 2**40 - 1))
    price = st.one_of(
        st.integers(0, 500_000),
        st.integers(-500_000, 500_000),
        st.integers(-(2**31), 2**31 - 1),
        st.builds(lambda k, d: 500 * k + d, st.integers(0, 40), st.sampled_from((-1, 0))),  # halves
    )
    seller, buyer, energy_wh = (
        ints(draw(st.lists(of, min_size=count, max_size=count)))
        for of in (sellers, buyers, energy if draw(st.booleans()) else st.integers(0, 3_000))
    )
    several = st.lists(price, min_size=count, max_size=count)
    pricing = draw(st.sampled_from(["uniform", "per trade", "locational"]))
    seller_price = ints([draw(price)] * count) if pricing == "uniform" else ints(draw(several))
    buyer_price = ints(draw(several)) if pricing == "locational" else seller_price
    net = np.zeros(members, dtype=np.int64)
    np.add.at(net, seller, energy_wh)
    np.add.at(net, buyer, -energy_wh)
    noise = st.one_of(st.just(0), st.integers(-12, 12), st.integers(-(2**40), 2**40))
    valid = st.one_of(st.just(True), st.booleans())
    return BatchInput(
        group=0,
        period=draw(st.integers(0, 2**32 - 1)),
        first_id=0,
        seller=seller,
        buyer=buyer,
        energy_wh=energy_wh,
        seller_price_micro_per_kwh=seller_price,
        buyer_price_micro_per_kwh=buyer_price,
        readings_wh=net + ints(draw(st.lists(noise, min_size=members, max_size=members))),
        reading_valid=np.array(
            draw(st.lists(valid, min_size=members, max_size=members)), dtype=bool
        ),
    )


BALANCE = st.one_of(st.integers(0, 100), st.integers(0, 10**7), st.integers(0, 2**48))


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    return Deployed(TOLERANCE)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batch=batches(),
    balances=st.lists(BALANCE, min_size=MEMBERS, max_size=MEMBERS),
    network=BALANCE,
)
def test_contract_and_numpy_agree(
    deployed: Deployed, batch: BatchInput, balances: list[int], network: int
) -> None:
    """Every example settles in a new group, with the network account emptied."""
    first = deployed.number("participants()")
    group = 1 + first // MEMBERS
    deployed.register(MEMBERS, group)
    deployed.empty_network()
    moved = replace(
        batch, group=group, first_id=first, seller=first + batch.seller, buyer=first + batch.buyer
    )
    compare(deployed, moved, ints(balances), network)


def compare(
    deployed: Deployed, batch: BatchInput, balances: np.ndarray[Any, Any], network: int
) -> None:
    """Settle a batch both ways, on the balances given."""
    first = batch.first_id
    lead = first % 4
    deployed.fund(np.concatenate([np.zeros(lead, dtype=np.int64), balances]), first - lead)
    deployed.fund_network(network)
    deployed.commit(batch)
    try:
        expected = settle_batch(batch, balances[: len(batch.readings_wh)], TOLERANCE, network)
    except ValueError:
        with pytest.raises(Exception, match="ValueTooLarge"):
            deployed.settle(batch)
        return
    (log,) = deployed.settle(batch).logs
    event = contract.decode_settled(log)
    after = deployed.balances(MEMBERS, first)
    check_event(event, batch, expected)
    members = len(batch.readings_wh)
    np.testing.assert_array_equal(after[:members], balances[:members] + expected.delta_micro)
    np.testing.assert_array_equal(after[members:], balances[members:])
    assert deployed.balance(contract.NETWORK_ACCOUNT) == network + expected.network_micro
    assert after.min() >= 0
    assert int(after.sum()) + network + expected.network_micro == int(balances.sum()) + network
    record = deployed.view("recordOf(uint32,uint32)", batch.group, batch.period)
    assert record == event.record


def check_event(event: contract.SettledEvent, batch: BatchInput, expected: BatchOutcome) -> None:
    assert event.voids == contract.encode_voids(expected.void_reason)
    assert event.settled == int(np.sum(expected.void_reason == VoidReason.NONE))
    assert event.energy_wh == expected.energy_wh
    assert event.network_micro == expected.network_micro
    payload = contract.encode_batch(batch)
    assert event.record == contract.batch_record(payload, event.sequence, event.voids)
