"""The rules in numpy against the trade-by-trade model, on random batches of every kind."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.settlement.contract import NETWORK_ACCOUNT, encode_batch
from raygrid.settlement.rules import BatchInput, Tolerance, settle_batch
from tests.settlement.model import ModelChain

MEMBERS, FIRST = 6, 8


@st.composite
def batches(draw):
    """Sellers are the first half, but for some trades; readings are near the trades or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 12))
    seller = rng.integers(0, MEMBERS // 2, n)
    buyer = rng.integers(MEMBERS // 2, MEMBERS, n)
    if draw(st.booleans()):
        seller, buyer = rng.integers(0, MEMBERS, (2, n))
    energy = rng.integers(0, draw(st.sampled_from([3, 5000])), n)
    price = rng.integers(-300_000, 600_000, n)
    pricing = draw(st.sampled_from(["uniform", "own", "locational"]))
    if pricing == "uniform" and n:
        price[:] = price[0]
    at_buyer = price + rng.integers(-50_000, 90_000, n) * (pricing == "locational")
    net = np.zeros(MEMBERS, dtype=np.int64)
    np.add.at(net, seller, energy)
    np.subtract.at(net, buyer, energy)
    off = rng.integers(-9, 10, MEMBERS) * rng.integers(0, 2, MEMBERS)
    valid = rng.random(MEMBERS) < draw(st.sampled_from([0.8, 1.0]))
    balance = rng.integers(0, draw(st.sampled_from([1000, 10**7])), MEMBERS)
    batch = BatchInput(0, 3, FIRST, FIRST + seller, FIRST + buyer, energy, price, at_buyer,
                       net + off, valid)  # fmt: skip
    return batch, balance, int(rng.integers(0, draw(st.sampled_from([10, 10**6]))))


@given(batches(), st.integers(0, 8), st.sampled_from([0, 10_000]))
@settings(max_examples=150)
def test_the_same_trades_are_void_and_the_same_money_moves(drawn, wh, ppm):
    batch, balance, network = drawn
    chain = ModelChain(wh, ppm, {0: FIRST})
    for k, micro in enumerate(balance.tolist()):
        chain.transfer(FIRST + k, micro)
    chain.transfer(NETWORK_ACCOUNT, network)
    reasons = chain.settle(encode_batch(batch))
    got = settle_batch(batch, balance, Tolerance(wh, ppm), network)
    assert got.void_reason.tolist() == reasons
    after = [chain.balance[FIRST + k] for k in range(MEMBERS)]
    assert (balance + got.delta_micro).tolist() == after
    assert min(after) >= 0
    assert network + got.network_micro == chain.balance[NETWORK_ACCOUNT] >= 0
    assert got.delta_micro.sum() + got.network_micro == 0
