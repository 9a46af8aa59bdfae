"""What all sections of a scenario file are made of: checked numbers, texts and their base."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PricePerKwh = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
Whole = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
DataPath = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        json_schema_extra={"format": "data-path"},
        description="file, relative to the scenario file's folder; 'raygrid:...' means the "
        "folder of the shipped scenarios",
    ),
]


class Section(BaseModel):
    """Base of all sections: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Span(Section):
    """A range that values are drawn from, uniformly."""

    low: NonNegative = Field(description="least value")
    high: NonNegative = Field(description="greatest value")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; swap them")
        return self
