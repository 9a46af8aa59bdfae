"""The section of a scenario file that says which stages a market day has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

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
        "`learned`; left out: those beside the scenario, and `step` where there are none",
    )
    step: Literal["corrected", "persistence"] = Field(
        "corrected",
        description="how a period is forecast when its orders are due, where no weights do: as the "
        "day ahead was, moved by a part of what the period before was missed by, or as that "
        "period was where this has erred less on the day so far; or always as that period was",
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
    update: Literal["none", "intervals", "typical"] = Field(
        "typical",
        description="what learns from a day's meters before the next one is forecast: nothing; "
        "the intervals of learned forecasts, by how much of the day fell out of them; or these "
        "and what is typical of each load, of which weights that know their prosumers know the "
        "days of training alone",
    )

    up_to_prosumers: PositiveInt | None = Field(
        None,
        description="of more prosumers a day has none of these stages and is cleared on what will "
        "be measured; left out: they are refused where they cannot be",
    )

    def left_out(self, n_prosumers: int) -> str:
        """Why so many prosumers go without the stages that are asked for; empty where they do not.

        Parameters
        ----------
        n_prosumers : int
            Size of the community.
        """
        bound = self.up_to_prosumers
        if self.intraday == "none" or bound is None or n_prosumers <= bound:
            return ""
        return (
            f"cleared on what will be measured, without an intraday market: {n_prosumers} "
            f"prosumers, more than stages.up_to_prosumers ({bound})"
        )

    @model_validator(mode="after")
    def _errors_are_balanced(self) -> Self:
        if self.forecast != "perfect" and self.intraday == "none":
            raise ValueError(
                f"forecast '{self.forecast}' leaves errors that nobody balances; set "
                "stages.intraday to plan, rule or policy, or stages.forecast to perfect"
            )
        return self
