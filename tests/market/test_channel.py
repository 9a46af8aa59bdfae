"""The modelled channel: draws, rates, and the formulas of TES (6) to (8)."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.market.channel import (
    Channel,
    Direction,
    NoisyLink,
    achievable_rate,
    communication_cost,
    utilisation,
)


def test_draws_follow_the_seed_the_sending_and_the_way() -> None:
    channel = Channel(0.02, 0.01, 0.1, seed=3)
    size = np.full(6, 100.0)
    one = channel.delay_s(0, Direction.TO_HOST, 6, size)
    assert np.array_equal(one, channel.delay_s(0, Direction.TO_HOST, 6, size))
    for other in (
        channel.delay_s(1, Direction.TO_HOST, 6, size),
        channel.delay_s(0, Direction.TO_OPERATOR, 6, size),
        Channel(0.02, 0.01, 0.1, seed=4).delay_s(0, Direction.TO_HOST, 6, size),
    ):
        assert not np.array_equal(one, other)


def test_mean_delay_and_loss_are_those_asked_for() -> None:
    n = 200_000
    channel = Channel(latency_s=0.02, jitter_s=0.01, loss=0.05, rate_bits_per_s=8e5)
    delay = channel.delay_s(0, Direction.TO_HOST, n, np.full(n, 1000.0))
    there = np.isfinite(delay)
    # Four standard deviations of the sample mean and of the sample share.
    assert abs(1 - there.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / n)
    assert delay[there].mean() == pytest.approx(0.02 + 0.01 + 0.01, abs=4 * 0.01 / np.sqrt(n))
    assert delay[there].min() >= 0.03


def test_a_perfect_channel_takes_no_time() -> None:
    assert np.array_equal(Channel().delay_s(5, Direction.TO_HOST, 3, np.full(3, 1e9)), np.zeros(3))


def test_rate_of_a_noisy_channel() -> None:
    """A signal as strong as the noise carries one bit a hertz; TES (8)."""
    assert achievable_rate(1e6, 2.0, 5e5) == pytest.approx(1e6, rel=1e-12)
    assert achievable_rate(1e6, 6.0, 5e5) == pytest.approx(2e6, rel=1e-12)
    # With bandwidth without end the rate tends to sigma PC / ln 2.
    assert achievable_rate(1e12, 1.0, 1e5) == pytest.approx(1e5 / np.log(2), rel=1e-6)


def test_utilisation_and_cost() -> None:
    """TES (7) and (6), by hand."""
    assert utilisation(1.0, 4.0, 3e6, 4e6) == pytest.approx(0.5)
    assert utilisation(1.0, 4.0, 3e6, 4e6, power_share=1.0) == pytest.approx(0.25)
    assert communication_cost(0.5, 2.0, 8.0) == pytest.approx(3.0)


def test_a_link_costs_by_how_much_it_takes_and_how_long() -> None:
    """TES (6) to (8) together, by hand: half the cloudlet at 1 Mbit/s, an hour and a second."""
    link = NoisyLink(
        bandwidth_hz=1e6, power_w=2.0, bit_rate_coefficient=5e5, bandwidth_max_hz=4e6,
        power_max_w=2.0, power_share=1 / 3, cost_per_hour=2.0, penalty_per_hour=8.0,
    )  # fmt: skip
    assert link.rate_bits_per_s == pytest.approx(1e6, rel=1e-12)
    assert link.use == pytest.approx(1 / 3 + 2 / 3 / 4, rel=1e-12)
    assert link.cost(3600.0) == pytest.approx(0.5 * 2.0 + 0.25 * 8.0, rel=1e-12)
    assert link.cost(1.0) == pytest.approx(3.0 / 3600, rel=1e-12)
    assert link.cost(0.0) == 0.0


def test_a_link_of_a_cloudlet_without_end_is_free() -> None:
    link = NoisyLink(1e6, 2.0, 5e5, cost_per_hour=2.0, penalty_per_hour=8.0)
    assert (link.use, link.cost(3600.0)) == (0.0, 0.0)
