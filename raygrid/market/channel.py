"""A seeded model of slow and lossy links between the network operator and prosumer hosts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import inf, log2

import numpy as np

from raygrid.arrays import FloatArray


class Direction(IntEnum):
    """Which way a message goes."""

    TO_HOST = 0
    TO_OPERATOR = 1


@dataclass(frozen=True)
class Channel:
    """Delay and loss of a message, drawn anew for each but the same for the same seed.

    A message takes latency, an exponential jitter, and its length over the rate; it is lost with
    a fixed probability, independent of all others.

    Attributes
    ----------
    latency_s : float
        Least delay [s].
    jitter_s : float
        Mean of the exponential delay on top [s].
    loss : float
        Probability that a message never arrives, in [0, 1).
    rate_bits_per_s : float
        Rate of one host's link [bit/s]; inf for none.
    seed : int
        Seed of all draws.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bits_per_s: float = inf
    seed: int = 1

    def delay_s(
        self, attempt: int, direction: Direction, n_hosts: int, n_bytes: FloatArray
    ) -> FloatArray:
        """Delays of one message to or from every host.

        Parameters
        ----------
        attempt : int
            Number of the sending; each has draws of its own.
        direction : Direction
            Which way.
        n_hosts : int
            Number of hosts.
        n_bytes : (n_hosts,) float64
            Length of each message [B].

        Returns
        -------
        (n_hosts,) float64
            Delays [s]; inf where the message is lost.
        """
        draw = np.random.default_rng([self.seed, attempt, int(direction)])
        delay = self.latency_s + self.jitter_s * draw.standard_exponential(n_hosts)
        delay += 8.0 * n_bytes / self.rate_bits_per_s
        return np.where(draw.random(n_hosts) < self.loss, inf, delay)


@dataclass(frozen=True)
class NoisyLink:
    """Power and bandwidth of one host's link for the length of a clearing: TES (6) to (8).

    The paper gives its cost no unit of time; here it is per hour that the link is kept.

    Attributes
    ----------
    bandwidth_hz, power_w, bit_rate_coefficient : float
        As in `achievable_rate`.
    bandwidth_max_hz, power_max_w, power_share : float
        As in `utilisation`; infinite maxima make the link free.
    cost_per_hour, penalty_per_hour : float
        Coefficients of `communication_cost` [currency/h].

    References
    ----------
    Tooki 2026 (TES), (6) to (8), with one cloudlet, the operator's, so that the totals of (8) are
    the power and bandwidth of (7).
    """

    bandwidth_hz: float
    power_w: float
    bit_rate_coefficient: float
    bandwidth_max_hz: float = inf
    power_max_w: float = inf
    power_share: float = 0.5
    cost_per_hour: float = 0.0
    penalty_per_hour: float = 0.0

    @property
    def rate_bits_per_s(self) -> float:
        """Its rate, TES (8) [bit/s]."""
        return achievable_rate(self.bandwidth_hz, self.power_w, self.bit_rate_coefficient)

    @property
    def use(self) -> float:
        """Its utilisation of the cloudlet, TES (7)."""
        return utilisation(
            self.power_w, self.power_max_w, self.bandwidth_hz, self.bandwidth_max_hz,
            self.power_share,
        )  # fmt: skip

    def cost(self, seconds: float) -> float:
        """What keeping it for so long costs, TES (6) [currency]."""
        per_hour = communication_cost(self.use, self.cost_per_hour, self.penalty_per_hour)
        return per_hour * seconds / 3600.0


@dataclass(frozen=True)
class Staleness:
    """A channel, and how long the operator waits for whom.

    Attributes
    ----------
    channel : Channel
        Delays and losses.
    patience_s : float
        Longest wait for answers in a round [s].
    max_staleness : int
        Rounds that a host may miss in a row; then it is waited for.
    link : NoisyLink or None
        Power and bandwidth behind the channel's rate, and their cost, where TES (6) to (8) are
        the model.
    """

    channel: Channel
    patience_s: float
    max_staleness: int = 10
    link: NoisyLink | None = None


def achievable_rate(bandwidth_hz: float, power_w: float, bit_rate_coefficient: float) -> float:
    """Best rate of a channel with white noise, TES (8): ``BW log2(1 + sigma PC / BW)``.

    Parameters
    ----------
    bandwidth_hz : float
        BW_T [Hz].
    power_w : float
        Communication power PC_T [W].
    bit_rate_coefficient : float
        sigma, signal gain over the noise's power density [Hz/W].

    Returns
    -------
    float
        Rate [bit/s].

    References
    ----------
    Tooki 2026 (TES), (8).
    """
    return bandwidth_hz * log2(1.0 + bit_rate_coefficient * power_w / bandwidth_hz)


def utilisation(
    power_w: float,
    power_max_w: float,
    bandwidth_hz: float,
    bandwidth_max_hz: float,
    power_share: float = 0.5,
) -> float:
    """Utilisation of a cloudlet, TES (7): power and bandwidth over their maxima, weighted.

    Parameters
    ----------
    power_w, power_max_w : float
        Communication power and its maximum [W].
    bandwidth_hz, bandwidth_max_hz : float
        Bandwidth and its maximum [Hz].
    power_share : float
        Weight of power, in [0, 1]; bandwidth has the rest.

    Returns
    -------
    float
        Fraction.

    References
    ----------
    Tooki 2026 (TES), (7).
    """
    return power_share * power_w / power_max_w + (1.0 - power_share) * (
        bandwidth_hz / bandwidth_max_hz
    )


def communication_cost(use: float, cost: float, penalty: float) -> float:
    """Cost of communication at a utilisation, TES (6): linear and quadratic part.

    Parameters
    ----------
    use : float
        Utilisation of `utilisation`.
    cost, penalty : float
        Coefficients of use and of its square [currency, or currency/h].

    Returns
    -------
    float
        Cost, in the unit of its coefficients.

    References
    ----------
    Tooki 2026 (TES), (6).
    """
    return cost * use + penalty * use**2
