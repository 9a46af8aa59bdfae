"""The metering section of a scenario: simulated smart meters and attacks on them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raygrid.scenario.fields import NonNegative, Section, Share, Whole


class MeterAttack(Section):
    """Meters that lie, to see that settlement finds them."""

    kind: Literal["scaling", "shifting", "stuck", "sign_flip", "replay", "forged_identity"] = Field(
        description="scaling: readings times `factor`; shifting: readings of so many periods "
        "earlier; stuck: the counter stands still; sign_flip: sold for bought; replay: the day "
        "before's report again; forged_identity: a report signed with another key"
    )
    prosumers: tuple[Whole, ...] = Field(
        (), description="ids of the meters; 0 is that of the grid connection"
    )
    share: Share = Field(
        0.0, description="share of all prosumers, drawn from the seed, in place of `prosumers`"
    )
    factor: Annotated[float, Field(strict=True, ge=-100, le=100)] = Field(
        1.2, description="of scaling"
    )
    shift_periods: Annotated[int, Field(strict=True, ge=1)] = Field(1, description="of shifting")
    from_period: Whole = Field(0, description="first attacked period, counted over all days")
    to_period: Whole | None = Field(
        None,
        description="first period after the attack; left out: until the end. Replay and "
        "forged identity take the whole days that the attack touches",
    )

    @model_validator(mode="after")
    def _somebody_and_some_time(self) -> Self:
        if bool(self.prosumers) == (self.share > 0):
            raise ValueError("name the meters by `prosumers` or by a `share` above 0, one of them")
        if self.to_period is not None and self.to_period <= self.from_period:
            raise ValueError(f"to_period {self.to_period} is not after from_period; raise it")
        return self


class Metering(Section):
    """Simulated smart meters, and what verification (5-7) forgives."""

    accuracy_class_percent: Annotated[float, Field(strict=True, ge=0, le=10)] = Field(
        1.0, description="largest relative error of a prosumer's meter [%]"
    )
    grid_accuracy_class_percent: Annotated[float, Field(strict=True, ge=0, le=10)] = Field(
        0.2, description="largest relative error of the grid connection's meter [%]"
    )
    max_clock_offset_s: NonNegative = Field(
        0.0, description="prosumers' clocks are off by up to so much either way [s]"
    )
    drop_rate: Share = Field(0.0, description="share of the readings that are lost")
    attacks: tuple[MeterAttack, ...] = Field((), description="meters that lie")
    estimation: Literal["register", "none"] = Field(
        "register",
        description="a lost reading: the difference of the registers around it where it stands "
        "alone, or no reading, which voids the trades",
    )
    tolerance_wh: Whole = Field(
        5, description="epsilon of (5-7), the part that does not grow with the reading [Wh]"
    )
    tolerance_ppm: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = Field(
        None,
        description="epsilon of (5-7), the part that does [1e-6 of the reading]; left out: one and "
        "a half times the largest accuracy class",
    )

    @property
    def tolerance_ppm_in_force(self) -> int:
        """The relative tolerance, the derived one where none is given [1e-6]."""
        if self.tolerance_ppm is not None:
            return self.tolerance_ppm
        largest = max(self.accuracy_class_percent, self.grid_accuracy_class_percent)
        return round(1.5 * largest * 1e4)
