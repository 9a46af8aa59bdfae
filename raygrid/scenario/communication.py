"""The scenario section `communication`: a model of slow and lossy links."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from raygrid.scenario.fields import Count, NonNegative, Positive, Section


class NoisyChannel(Section):
    """A link's rate from its bandwidth and power, TES (8)."""

    bandwidth_hz: Positive = Field(description="bandwidth BW_T of a host's link [Hz]")
    power_w: Positive = Field(description="communication power PC_T [W]")
    bit_rate_coefficient: Positive = Field(description="sigma, gain over noise density [Hz/W]")


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
