"""Masked sums: exact together, random alone."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.arrays import IntArray
from raygrid.errors import EndedShortError
from raygrid.market.masking import Masks
from raygrid.market.messages import Aggregate, HostHeadroom, HostSummary

N_BUSES, N_PERIODS = 5, 3
LARGE = 2**58


def meet(buses: list[list[int]]) -> list[Masks]:
    masks = [Masks(k, np.array(own, dtype=np.int64)) for k, own in enumerate(buses)]
    for one in masks:
        one.meet([other.identity for other in masks])
    return masks


def aggregate(host: int, buses: list[int], rng: np.random.Generator) -> Aggregate:
    shape = (len(buses), N_PERIODS)
    draw = lambda size: rng.integers(-LARGE, LARGE, size)  # noqa: E731
    return Aggregate(4, host, draw(shape), draw(shape), draw(4))


def total(messages: list, buses: list[list[int]], name: str) -> IntArray:
    """Sum over hosts as the operator forms it."""
    first = getattr(messages[0], name)
    if name == "norm_quanta":
        return np.sum([m.norm_quanta for m in messages], axis=0)
    result = np.zeros((N_BUSES, *first.shape[1:]), dtype=np.int64)
    for message, own in zip(messages, buses, strict=True):
        result[own] += getattr(message, name)
    return result


hosts = st.lists(
    st.lists(st.integers(0, N_BUSES - 1), min_size=1, unique=True).map(sorted),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(buses=hosts, seed=st.integers(0, 2**32 - 1))
def test_masked_sums_are_exact(buses: list[list[int]], seed: int) -> None:
    """Whoever shares which bus with whom."""
    rng = np.random.default_rng(seed)
    masks = meet(buses)
    true = [aggregate(k, own, rng) for k, own in enumerate(buses)]
    hidden = [one.hide(message, 4) for one, message in zip(masks, true, strict=True)]
    for name in ("p_quanta", "phat_quanta", "norm_quanta"):
        assert np.array_equal(total(hidden, buses, name), total(true, buses, name))
    assert [m.host for m in hidden] == [m.host for m in true]


def test_summaries_and_headrooms_too() -> None:
    buses = [[0, 1], [1, 2], [0, 1, 2]]
    rng = np.random.default_rng(1)
    masks = meet(buses)
    for kind in (HostSummary, HostHeadroom):
        names = [f.name for f in fields(kind) if f.name.endswith("_quanta")]
        true = []
        for k, own in enumerate(buses):
            shapes = {n: (len(own),) if n == "weight_quanta" else (len(own), 3) for n in names}
            sums = {n: rng.integers(0, LARGE, shape) for n, shape in shapes.items()}
            rest = {"buses": np.array(own), "agents": 2} if kind is HostSummary else {"host": k}
            true.append(kind(**rest, **sums))
        hidden = [one.hide(message, 0) for one, message in zip(masks, true, strict=True)]
        for name in names:
            assert np.array_equal(total(hidden, buses, name), total(true, buses, name))
            assert not np.array_equal(getattr(hidden[0], name), getattr(true[0], name))


def test_a_message_alone_tells_nothing() -> None:
    """All bits of a masked zero are fair coins, and nothing repeats between rounds or kinds."""
    masks = meet([[0], [0]])
    zero = Aggregate(
        0, 0, np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64), np.zeros(4, np.int64)
    )
    words = np.concatenate(
        [
            np.concatenate([m.p_quanta.ravel(), m.phat_quanta.ravel(), m.norm_quanta])
            for m in (masks[0].hide(zero, r) for r in range(400))
        ]
    )
    assert len(np.unique(words)) == len(words) == 4000
    bits = np.unpackbits(words.view(np.uint8))
    # 256,000 fair coins: four standard deviations.
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(bits))


def test_the_same_round_is_masked_alike_and_a_new_clearing_otherwise() -> None:
    rng = np.random.default_rng(0)
    message = aggregate(0, [0], rng)
    masks = meet([[0], [0]])
    one, again = masks[0].hide(message, 4), masks[0].hide(message, 4)
    assert np.array_equal(one.p_quanta, again.p_quanta)
    assert not np.array_equal(one.p_quanta, masks[0].hide(message, 5).p_quanta)
    assert not np.array_equal(one.p_quanta, meet([[0], [0]])[0].hide(message, 4).p_quanta)


def test_without_one_host_the_rest_stays_hidden() -> None:
    """What the operator holds when a host drops out still carries that host's masks."""
    buses = [[0], [0], [0]]
    rng = np.random.default_rng(2)
    masks = meet(buses)
    true = [aggregate(k, own, rng) for k, own in enumerate(buses)]
    hidden = [one.hide(message, 4) for one, message in zip(masks, true, strict=True)]
    partial = total(hidden[:2], buses[:2], "p_quanta") - total(true[:2], buses[:2], "p_quanta")
    assert np.all(partial[0] != 0)


def test_a_bus_of_ones_own_is_not_hidden() -> None:
    """Nobody else is there to cancel a mask; the docs say so."""
    masks = meet([[0, 1], [1]])
    message = aggregate(0, [0, 1], np.random.default_rng(3))
    hidden = masks[0].hide(message, 4)
    assert np.array_equal(hidden.p_quanta[0], message.p_quanta[0])
    assert not np.array_equal(hidden.p_quanta[1], message.p_quanta[1])


def test_totals_that_could_wrap_are_refused() -> None:
    masks = meet([[0], [0]])
    message = aggregate(0, [0], np.random.default_rng(4))
    message.p_quanta[0, 0] = 2**61 + 2**60
    with pytest.raises(EndedShortError, match="sums can hold"):
        masks[0].hide(message, 4)


def test_strangers_do_not_mask() -> None:
    one, other = Masks(0, np.array([0])), Masks(1, np.array([0]))
    with pytest.raises(ValueError, match="not among"):
        one.meet([other.identity])
