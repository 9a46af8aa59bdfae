"""The sections of a scenario file about EVs and shiftable loads."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from raygrid.scenario.fields import Section, Share, Span

HOURS_PER_DAY = 24.0


class ElectricVehicles(Section):
    """EVs drawn from the seed, at home between arrival and departure of every day."""

    share: Share = Field(0.0, description="share of prosumers with an EV")
    v2g_share: Share = Field(
        0.0, description="part of the EVs that can discharge too, at their charging power"
    )
    capacity_kwh: Span = Field(Span(low=40.0, high=60.0), description="battery size [kWh]")
    charge_kw: Span = Field(Span(low=3.7, high=7.4), description="charging power [kW]")
    efficiency: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        0.95, description="of charging and of discharging"
    )
    cycle_cost_per_kwh: Span = Field(
        Span(low=0.03, high=0.06),
        description="degradation cost of charge and discharge alike [currency/kWh]",
    )
    arrival_hour: Span = Field(Span(low=16.0, high=20.0), description="arrival [h of the day]")
    departure_hour: Span = Field(Span(low=6.0, high=9.0), description="departure [h of the day]")
    trip_kwh: Span = Field(
        Span(low=4.0, high=12.0), description="energy used between departure and arrival [kWh]"
    )
    needed_share: Share = Field(0.8, description="energy needed at departure, of the capacity")
    soc_min_share: Share = Field(0.2, description="least energy, of the capacity")
    soc_max_share: Share = Field(0.9, description="greatest energy, of the capacity")

    @model_validator(mode="after")
    def _can_be_charged(self) -> Self:
        for name in ("arrival_hour", "departure_hour"):
            if getattr(self, name).high >= HOURS_PER_DAY:
                raise ValueError(f"{name} is not below 24; give hours of the day")
        if not self.soc_min_share <= self.needed_share <= self.soc_max_share:
            raise ValueError(
                f"needed_share {self.needed_share:g} is outside soc_min_share "
                f"{self.soc_min_share:g} and soc_max_share {self.soc_max_share:g}; put it between"
            )
        left = (self.needed_share - self.soc_min_share) * self.capacity_kwh.low
        if self.trip_kwh.high > left:
            raise ValueError(
                f"trip_kwh up to {self.trip_kwh.high:g} is above the {left:g} kWh that the "
                "smallest EV has above soc_min_share; lower it"
            )
        stay = (self.departure_hour.low - self.arrival_hour.high) % HOURS_PER_DAY
        energy = stay * self.charge_kw.low * self.efficiency
        if self.trip_kwh.high > energy:
            raise ValueError(
                f"an EV cannot be charged in its stay: {self.trip_kwh.high:g} kWh in "
                f"{stay:g} h, at most {energy:g} kWh; allow more power or time"
            )
        return self


class ShiftableLoads(Section):
    """Loads drawn from the seed that may run at any time in their window, every day."""

    share: Share = Field(0.0, description="share of prosumers with shiftable loads")
    loads: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        1, description="how many each of them has"
    )
    energy_kwh: Span = Field(
        Span(low=0.8, high=2.5), description="energy of one load a day, on top of the others [kWh]"
    )
    power_kw: Span = Field(Span(low=1.0, high=2.2), description="its greatest power [kW]")
    earliest_hour: Span = Field(
        Span(low=7.0, high=12.0), description="start of the window [h of the day]"
    )
    window_hours: Span = Field(Span(low=4.0, high=10.0), description="length of the window [h]")

    @model_validator(mode="after")
    def _window_is_long_enough(self) -> Self:
        if self.earliest_hour.high >= HOURS_PER_DAY:
            raise ValueError("earliest_hour is not below 24; give hours of the day")
        if not 0 < self.window_hours.low <= self.window_hours.high < HOURS_PER_DAY:
            raise ValueError("window_hours is not between 0 and 24; give a window within a day")
        energy = self.power_kw.low * self.window_hours.low
        if self.energy_kwh.high > energy:
            raise ValueError(
                f"the window is too short: {self.energy_kwh.high:g} kWh in "
                f"{self.window_hours.low:g} h, at most {energy:g} kWh; allow more power or time"
            )
        return self
