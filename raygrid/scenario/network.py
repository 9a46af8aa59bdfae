"""Network sections of a scenario file: where the grid comes from, and how its limits are set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raygrid.scenario.fields import Count, DataPath, NonNegative, Positive, Section, Text

Margin = Annotated[float, Field(strict=True, ge=1.05)]
"""A limit over the greatest flow under the fixed loads, which so never overload a line."""


class LineLimit(Section):
    """A limit for one line, in place of the network's own."""

    line: Annotated[int, Field(strict=True)] = Field(description="line number")
    limit_kw: NonNegative = Field(description="thermal limit [kW]")


class LineLimits(Section):
    """How line limits are set; without this section the network's own stand."""

    fixed_load_margin: Margin | None = Field(
        None,
        description="limit every line at this multiple of its greatest flow under the fixed loads "
        "alone (1.05 or more, so that they never overload a line), EVs and shiftable loads "
        "counted as if they charged evenly",
    )
    floor_kw_per_prosumer: NonNegative = Field(
        0.0, description="with fixed_load_margin: least limit, times the number of prosumers [kW]"
    )
    scale: Positive = Field(1.0, description="multiplies the network's own limits")
    reference_prosumers: Positive | None = Field(
        None,
        description="number of prosumers that the network's own limits are made for; with more, "
        "N, they are multiplied by N / reference_prosumers",
    )
    lines: tuple[LineLimit, ...] = Field((), description="limits of single lines, applied last")


class NetworkBase(Section):
    """What every kind of network may say."""

    limits: LineLimits | None = Field(None, description="line limits set by the scenario")
    reference_prosumers: Positive | None = Field(
        None,
        description="number of prosumers that the impedances are made for; with N prosumers they "
        "are multiplied by reference_prosumers / N (voltages and losses then stay alike)",
    )


class TablesNetwork(NetworkBase):
    """A network from CSV or Parquet tables with the columns of a run's `network` table."""

    source: Literal["tables"]
    lines: DataPath = Field(
        description="table: line, from_bus, to_bus, x_pu, limit_kw, flow_offset_kw, and "
        "optionally r_pu"
    )
    buses: DataPath | None = Field(
        None, description="optional table: bus, x, y (for drawing), weight (share of prosumers)"
    )
    slack_bus: Annotated[int, Field(strict=True)] = Field(
        description="bus where the grid connection stands"
    )
    base_kva: Positive = Field(1000.0, description="common base of the per-unit values [kVA]")


class BuiltinNetwork(NetworkBase):
    """A network that pandapower carries."""

    source: Literal["builtin"]
    name: Text = Field(description="pandapower's name: case14, case33bw, case118, ...")


class PandapowerFile(NetworkBase):
    """A pandapower network file (JSON)."""

    source: Literal["pandapower"]
    path: DataPath


class TownNetwork(NetworkBase):
    """Low-voltage grids, all like the one in the tables, along medium-voltage feeders."""

    source: Literal["town"]
    grids: Count = Field(20, description="number of low-voltage grids")
    lines: DataPath = Field(description="one low-voltage grid: a table as of source `tables`")
    buses: DataPath | None = Field(None, description="optional table of its buses, likewise")
    slack_bus: Annotated[int, Field(strict=True)] = Field(
        description="its bus at the medium-voltage side of its transformer"
    )
    base_kva: Positive = Field(1000.0, description="common base of the per-unit values [kVA]")
    grids_per_feeder: Count = Field(
        10, description="stations along one medium-voltage feeder, each with a low-voltage grid"
    )
    transformer_margin: Margin | None = Field(
        None,
        description="limit every transformer at this multiple of its greatest flow under the "
        "fixed loads alone, at most its rating; left out: its rating",
    )
    trunk_margin: Margin | None = Field(
        None, description="the same for the cables along a feeder, not for the spurs off it"
    )


NetworkConfig = Annotated[
    TablesNetwork | BuiltinNetwork | PandapowerFile | TownNetwork, Field(discriminator="source")
]
