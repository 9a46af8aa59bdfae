"""The scenario sections on links and hosts: a model of slow links, and patience with slow hosts."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from raygrid.scenario.fields import Count, NonNegative, Positive, Section, Share


class Cloudlet(Section):
    """What a link costs by how much of the operator's cloudlet it takes, TES (6) and (7)."""

    power_max_w: Positive = Field(description="most communication power PC_max of a link [W]")
    bandwidth_max_hz: Positive = Field(description="greatest bandwidth BW_max of a link [Hz]")
    power_share: Share = Field(0.5, description="weight eps_s of power; bandwidth has the rest")
    cost_per_hour: NonNegative = Field(
        description="cost eps_c1 of full utilisation [currency/h, each link]"
    )
    penalty_per_hour: NonNegative = Field(
        0.0, description="penalty eps_c2 on its square [currency/h, each link]"
    )


class NoisyChannel(Section):
    """A link's rate from its bandwidth and power, TES (8), and its cost."""

    bandwidth_hz: Positive = Field(description="bandwidth BW_T of a host's link [Hz]")
    power_w: Positive = Field(description="communication power PC_T [W]")
    bit_rate_coefficient: Positive = Field(description="sigma, gain over noise density [Hz/W]")
    cloudlet: Cloudlet | None = Field(None, description="what the link costs; left out: nothing")

    @model_validator(mode="after")
    def _within_the_cloudlet(self) -> Self:
        if (cloudlet := self.cloudlet) is None:
            return self
        for name, value, most in (
            ("power_w", self.power_w, cloudlet.power_max_w),
            ("bandwidth_hz", self.bandwidth_hz, cloudlet.bandwidth_max_hz),
        ):
            if value > most:
                raise ValueError(f"{name} {value:g} is above its maximum {most:g} in `cloudlet`")
        return self


class Communication(Section):
    """Delay and loss of messages between hosts and operator, and how long it waits."""

    latency_s: NonNegative = Field(0.0, description="least delay of a message [s]")
    jitter_s: NonNegative = Field(0.0, description="mean of the exponential delay on top [s]")
    loss: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.0, description="probability that a message is lost, from 0 to below 1"
    )
    rate_bits_per_s: Positive | None = Field(
        None, description="rate of a host's link [bit/s]; left out: no limit, or that of `noisy`"
    )
    noisy: NoisyChannel | None = Field(None, description="the rate by TES (8) instead")
    patience_s: Positive = Field(
        1.0, description="longest wait of the operator for answers in a round [s]"
    )
    max_staleness: Count = Field(
        10, description="rounds in a row that a host may miss; then it is waited for"
    )

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.rate_bits_per_s is not None and self.noisy is not None:
            raise ValueError("give either `rate_bits_per_s` or `noisy`, not both")
        return self


class Stragglers(Section):
    """How long rounds wait for hosts that are slow or silent, by the clock."""

    patience_s: Positive = Field(
        description="longest wait for answers in a round, then it goes on without late ones [s]"
    )
    max_staleness: Count = Field(
        5, description="rounds in a row that a host may miss; then it is waited for"
    )
    lost_after_s: Positive = Field(
        60.0, description="silence of a host that is waited for, after which it is replaced [s]"
    )

    @model_validator(mode="after")
    def _lost_after_late(self) -> Self:
        if self.lost_after_s <= self.patience_s:
            raise ValueError(
                f"lost_after_s {self.lost_after_s:g} is not above patience_s {self.patience_s:g}; "
                "a host is late before it is lost"
            )
        return self
