"""The section of a scenario file that says which stages a market day has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raygrid.scenario.fields import DataPath, NonNegative, Section, Share


class Reserve(Section):
    """How much narrower than they are the market of a day takes its limits.

    Its rows are linear: they know neither losses nor what reactive power adds to a line's current.
    The AC load flow of what was measured is held against the limits themselves.
    """

    line_share: Share = Field(0.0, description="share of each line's limit that stays free")
    voltage_pu: NonNegative = Field(
        0.0, description="free at either end of the scenario's voltage band [p.u.]"
    )


class Stages(Section):
    """Stages of a market day beside its clearing, in `raygrid simulate`."""

    forecast: Literal["perfect", "persistence", "seasonal", "learned"] = Field(
        "perfect",
        description="what the day-ahead market is cleared on: what will be measured, the day "
        "before, the day a week before, or forecasts by learned weights",
    )
    forecaster: DataPath | None = Field(
        None,
        description="folder of the weights of `learned`; left out: those beside the scenario, "
        "and `persistence` where there are none",
    )
    step_forecaster: DataPath | None = Field(
        None,
        description="folder of the weights that forecast a period when its orders are due, with "
        "`learned`; left out: those beside the scenario, else the period before is the forecast",
    )
    intraday: Literal["none", "plan", "rule", "policy"] = Field(
        "none",
        description="who bids in the intraday auction: nobody, so that there is none; followers "
        "of the day-ahead plan; the stated rule, which also lends batteries to the community; "
        "learned policies",
    )
    policy: DataPath | None = Field(
        None,
        description="folder of the policies of `policy`; left out: those beside the scenario, "
        "and `rule` where there are none",
    )
    reserve: Reserve = Field(
        default_factory=Reserve,
        description="narrower limits, day ahead and intraday, where there is an intraday stage",
    )
    update: Literal["none", "intervals"] = Field(
        "intervals",
        description="what learns from a day's meters before the next one is forecast: nothing, or "
        "the intervals of learned forecasts, by how much of the day fell out of them",
    )

    @model_validator(mode="after")
    def _errors_are_balanced(self) -> Self:
        if self.forecast != "perfect" and self.intraday == "none":
            raise ValueError(
                f"forecast '{self.forecast}' leaves errors that nobody balances; set "
                "stages.intraday to plan, rule or policy, or stages.forecast to perfect"
            )
        return self
