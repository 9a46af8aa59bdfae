"""The authored scenario: what a scenario file may say, with units in every name.

The JSON schema (`raygrid scenario schema`) is generated from these models; reading files,
overrides and error lines live in `raygrid.scenario.load`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NaiveDatetime,
    Tag,
    field_validator,
    model_validator,
)

from raygrid.scenario.communication import Communication, Stragglers
from raygrid.scenario.fields import (
    Count,
    DataPath,
    Flag,
    NonNegative,
    Positive,
    PricePerKwh,
    Section,
    Share,
    Span,
    Text,
    Whole,
)
from raygrid.scenario.history import History
from raygrid.scenario.intraday import Intraday
from raygrid.scenario.metering import Metering
from raygrid.scenario.network import NetworkConfig, TownNetwork
from raygrid.scenario.settlement import Settlement
from raygrid.scenario.stages import Stages
from raygrid.scenario.store_sections import ElectricVehicles, ShiftableLoads

HOURS_PER_DAY = 24.0


# --- horizon ---------------------------------------------------------------------------------


class Horizon(Section):
    """The market horizon; any number of periods of any length."""

    periods: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(
        24, description="number of periods T"
    )
    period_hours: Annotated[float, Field(strict=True, gt=0, le=24)] | None = Field(
        None, description="length of a period [h]; left out: one day divided by `periods`"
    )
    start: NaiveDatetime = Field(
        datetime(2016, 6, 9), description="local standard time at which the first period begins"
    )
    days: Annotated[int, Field(strict=True, ge=1, le=3660)] = Field(
        1, description="market days in a row, each of `periods` periods"
    )

    @property
    def dt(self) -> float:
        """Length of a period [h]."""
        return self.period_hours if self.period_hours is not None else HOURS_PER_DAY / self.periods

    @property
    def day_hours(self) -> float:
        """Length of a market day [h]."""
        return self.periods * self.dt

    def begin(self, day: int) -> datetime:
        """When one of the days in a row begins, counted from 0."""
        return self.start + timedelta(hours=day * self.day_hours)


# --- population and profiles -----------------------------------------------------------------


class PopulationBase(Section):
    """What every kind of population may say."""

    power_factor: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        1.0, description="inductive power factor of the fixed loads, for voltages and AC check"
    )


class TablesPopulation(PopulationBase):
    """A population from tables with the columns of a run's `prosumers` and `profiles`."""

    source: Literal["tables"]
    prosumers: DataPath
    profiles: DataPath
    stores: DataPath | None = Field(
        None,
        description="optional table of EVs and shiftable loads with the columns of a run's "
        "`stores`; the same stays on every day",
    )
    period_hours: Positive = Field(
        1.0, description="length of a period in the profiles table [h]; averaged to the horizon's"
    )
    repeat: Flag = Field(
        False, description="begin the profiles anew after their end, where there are more `days`"
    )
    agents: Count | None = Field(
        None, description="take only the first so many prosumers of the table"
    )
    copy_size: Span | None = Field(
        None,
        description="with it, more agents than the table has are copies of its prosumers in turn, "
        "the profiles and battery of each times a size drawn from this range",
    )


class ShapedPopulation(PopulationBase):
    """What populations share whose loads and PV follow shape tables of a whole year."""

    load_shapes: DataPath = Field(
        "raygrid:data/simbench_profiles.parquet",
        description="Parquet table of 15-min load shapes, one column a shape, from 1 January",
    )
    max_week_shift: Annotated[int, Field(strict=True, ge=0, le=8)] = Field(
        4, description="a household's shape is taken up to so many weeks earlier or later"
    )
    max_quarter_hour_shift: Annotated[int, Field(strict=True, ge=0, le=16)] = Field(
        2, description="and up to so many quarter hours earlier or later"
    )
    flexible_share: Share = Field(
        0.2, description="part of the household load that is elastic instead of fixed"
    )
    elastic_headroom: Positive = Field(
        2.0, description="limit of the elastic demand, as a multiple of the flexible part"
    )
    willingness_per_kwh: Span = Field(
        Span(low=0.15, high=0.45),
        description="marginal utility of the first elastic kW [currency/kWh] (omega - delta)",
    )
    delta_per_kwh: Span = Field(
        Span(low=0.0, high=0.05), description="marginal disutility delta of (3-10) [currency/kWh]"
    )
    pv_cost_per_kwh: Span = Field(
        Span(low=0.0, high=0.02), description="linear cost beta of PV [currency/kWh]"
    )
    pv_cost_per_kw2h: Span = Field(
        Span(low=0.001, high=0.003), description="quadratic cost alpha of PV [currency/kW^2/h]"
    )
    battery_cycle_cost_per_kwh: Span = Field(
        Span(low=0.01, high=0.03), description="cycle cost of (3-15) [currency/kWh]"
    )


class CommunityPopulation(ShapedPopulation):
    """Households drawn from a seed; shares as in AI-TEM, Table II."""

    source: Literal["community"]
    agents: Count = Field(1000, description="number of prosumers N")
    pv_shapes: DataPath = Field(
        "raygrid:data/pv_shapes.parquet",
        description="Parquet table of 15-min PV output per kWp, one column an orientation",
    )
    household_shapes: tuple[Text, ...] = Field(
        ("H0-A", "H0-B", "H0-C", "H0-G", "H0-L"),
        description="load shapes that households are drawn from",
        min_length=1,
    )
    pv_systems: tuple[Text, ...] = Field(
        ("east", "southeast", "south", "southwest", "west"),
        description="PV shapes that systems are drawn from",
        min_length=1,
    )
    distinct: Flag = Field(
        False,
        description="take shapes, shifts and PV systems in turn instead of drawing them, so that "
        "no two households are alike while there are enough of them",
    )
    household_peak_kw: Span = Field(
        Span(low=2.0, high=4.0), description="what a load shape is multiplied by [kW]"
    )
    pv_share: Share = Field(0.6, description="share of prosumers with PV")
    pv_peak_kw: Span = Field(Span(low=3.0, high=8.0), description="PV size [kWp]")
    pv_clearness: Share = Field(1.0, description="PV output as a share of the clear-sky output")
    battery_share: Share = Field(
        0.4, description="share of prosumers with a battery; those with PV get it first"
    )
    battery_capacity_kwh: Span = Field(Span(low=5.0, high=13.5), description="battery size [kWh]")
    battery_hours: Positive = Field(2.7, description="capacity over greatest power [h]")
    soc_min_share: Share = Field(0.2, description="least state of charge, of the capacity")
    soc_max_share: Share = Field(0.9, description="greatest state of charge, of the capacity")
    soc_initial_share: Share = Field(
        0.5, description="state of charge at the start, and least at the end, of the capacity"
    )
    battery_efficiency: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        0.95, description="of charging and of discharging"
    )
    evs: ElectricVehicles = Field(ElectricVehicles(), description="electric vehicles")
    shiftable: ShiftableLoads = Field(ShiftableLoads(), description="shiftable loads")

    @model_validator(mode="after")
    def _charge_within_bounds(self) -> Self:
        if not self.soc_min_share <= self.soc_initial_share <= self.soc_max_share:
            raise ValueError(
                f"soc_initial_share {self.soc_initial_share:g} is outside soc_min_share "
                f"{self.soc_min_share:g} and soc_max_share {self.soc_max_share:g}; put it between"
            )
        return self


class HouseholdsPopulation(ShapedPopulation):
    """Given households, each with the names and sizes of its shapes (a SimBench extract)."""

    source: Literal["households"]
    units: DataPath = Field(
        description="table: unit, prosumer_id, bus, kind (household, load, pv, battery, ev, "
        "shiftable), shape, power_kw, capacity_kwh, efficiency; of EVs and shiftable loads also "
        "from_hour, to_hour, energy_kwh, trip_kwh, discharge_kw, constant_kw"
    )
    soc_initial_share: Share = Field(
        0.5, description="state of charge at the start, and least at the end, of the capacity"
    )
    agents: Count | None = Field(None, description="take only the first so many households")


class TownPopulation(ShapedPopulation):
    """The given households in every low-voltage grid of a town, each a seeded variant."""

    source: Literal["town"]
    units: DataPath = Field(
        description="table of the households of one grid, as of source `households`"
    )
    soc_initial_share: Share = Field(
        0.5, description="state of charge at the start, and least at the end, of the capacity"
    )
    grid_size: Span = Field(
        Span(low=0.8, high=1.2), description="size of all households of a grid over those given"
    )
    load_size: Span = Field(
        Span(low=0.7, high=1.3), description="size of a household's loads over those given"
    )
    pv_size: Span = Field(
        Span(low=0.7, high=1.3), description="size of its PV, if it has any, likewise"
    )
    battery_size: Span = Field(
        Span(low=0.7, high=1.3), description="size of its battery, if it has one, likewise"
    )


PopulationConfig = Annotated[
    TablesPopulation | CommunityPopulation | HouseholdsPopulation | TownPopulation,
    Field(discriminator="source"),
]


# --- tariffs ---------------------------------------------------------------------------------


class PriceBlock(Section):
    """A time-of-use block of every day; the hours wrap at midnight."""

    from_hour: Annotated[float, Field(strict=True, ge=0, lt=24)] = Field(description="start [h]")
    to_hour: Annotated[float, Field(strict=True, gt=0, le=24)] = Field(description="end [h]")
    price_per_kwh: PricePerKwh = Field(description="price in the block [currency/kWh]")

    @model_validator(mode="after")
    def _whole_minutes(self) -> Self:
        for hour in (self.from_hour, self.to_hour):
            if abs(hour * 60 - round(hour * 60)) > 1e-6:
                raise ValueError(f"{hour:g} h is no whole number of minutes; round it")
        if self.from_hour == self.to_hour:
            raise ValueError(f"the block from {self.from_hour:g} h to {self.to_hour:g} h is empty")
        return self


def _price_kind(value: Any) -> str:
    """Tell a constant, a list of prices and time-of-use blocks apart."""
    if isinstance(value, (list, tuple)):
        first = value[0] if value else None
        return "blocks" if isinstance(first, (dict, PriceBlock)) else "list"
    return "constant"


Price = Annotated[
    Annotated[PricePerKwh, Tag("constant")]
    | Annotated[tuple[PricePerKwh, ...], Field(min_length=1), Tag("list")]
    | Annotated[tuple[PriceBlock, ...], Field(min_length=1), Tag("blocks")],
    Discriminator(_price_kind),
]


class Tariffs(Section):
    """The grid connection: what the upstream grid asks, pays and can carry."""

    table: DataPath | None = Field(
        None,
        description="table with the columns of a run's `tariffs`, in place of the keys below",
    )
    table_period_hours: Positive = Field(1.0, description="length of a period in the table [h]")
    import_price_per_kwh: Price | None = Field(
        None,
        description="[currency/kWh]: one price, a list with one price a period, or blocks",
    )
    export_price_per_kwh: Price = Field(
        0.0, description="[currency/kWh], in the same forms; never above the import price"
    )
    import_limit_kw: NonNegative | None = Field(
        None, description="[kW]; left out: more than all prosumers can draw"
    )
    export_limit_kw: NonNegative | None = Field(
        0.0, description="[kW]; 0: no export; null: more than all prosumers can feed in"
    )
    import_is_penalty: Flag = Field(
        False, description="the import price is a penalty (C^imp of 3-20), not a tariff"
    )
    size_weight: Positive | None = Field(
        None, description="ADMM size weight; left out: that of all prosumers together"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.table is None) == (self.import_price_per_kwh is None):
            raise ValueError("give either `table` or `import_price_per_kwh`, one of them")
        return self

    @field_validator("import_price_per_kwh", "export_price_per_kwh")
    @classmethod
    def _blocks_fill_the_day(cls, value: Any) -> Any:
        if isinstance(value, tuple) and isinstance(value[0], PriceBlock):
            covered = 0.0
            edges: list[tuple[float, float]] = []
            for block in value:
                wraps = block.to_hour < block.from_hour
                edges += (
                    [(block.from_hour, 24.0), (0.0, block.to_hour)]
                    if wraps
                    else [(block.from_hour, block.to_hour)]
                )
            for start, end in sorted(edges):
                if start > covered:
                    raise ValueError(f"no block covers {covered:g} h to {start:g} h; add one")
                if start < covered:
                    raise ValueError(f"two blocks cover {start:g} h; let one end there")
                covered = end
            if covered < HOURS_PER_DAY:
                raise ValueError(f"no block covers {covered:g} h to 24 h; add one")
        return value


# --- market, voltage, results ----------------------------------------------------------------


class Voltage(Section):
    """Voltage limits as rows of the projection (AI-TEM 9)."""

    v_min_pu: Annotated[float, Field(strict=True, gt=0, lt=1.5)] = Field(
        0.95, description="least voltage [p.u.]"
    )
    v_max_pu: Annotated[float, Field(strict=True, gt=0, lt=1.5)] = Field(
        1.05, description="greatest voltage [p.u.]"
    )
    v_slack_pu: Annotated[float, Field(strict=True, gt=0, lt=1.5)] = Field(
        1.0, description="voltage of the slack bus [p.u.]"
    )
    model: Literal["auto", "lindistflow", "jacobian"] = Field(
        "auto",
        description="how voltages follow injections: LinDistFlow (radial networks), or the AC "
        "Jacobian at the mean fixed loads; auto: LinDistFlow where the network is radial",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.v_min_pu <= self.v_slack_pu <= self.v_max_pu:
            raise ValueError(
                f"v_slack_pu {self.v_slack_pu:g} is outside v_min_pu {self.v_min_pu:g} and "
                f"v_max_pu {self.v_max_pu:g}; put it between"
            )
        return self


class Market(Section):
    """Consensus ADMM (thesis 4.8, 4.9) and what follows from its result."""

    rho: Positive = Field(0.1, description="penalty parameter [currency/kW^2/h]")
    relaxation: Annotated[float, Field(strict=True, gt=0, lt=2)] = Field(
        1.7, description="over-relaxation alpha; 1 is none"
    )
    absolute_tolerance: Positive = Field(1e-4, description="eps_abs of thesis 4.8 [kW]")
    relative_tolerance: NonNegative = Field(1e-3, description="eps_rel of thesis 4.8")
    max_iterations: Count = Field(500, description="K_max of thesis Algorithm 1")
    network_constrained: Flag = Field(True, description="enforce line (and voltage) limits")
    residual_balancing: Flag = Field(False, description="let rho follow the residuals")
    initial_price_per_kwh: PricePerKwh | None = Field(
        None, description="price the duals start from; left out: the import price if a tariff"
    )
    masked_sums: Flag = Field(
        False, description="hosts mask their sums, so that the operator learns the totals alone"
    )
    trade_matching: Literal["proportional", "sparse"] = Field(
        "sparse", description="bilateral trades: proportional (5-3), or few and electrically near"
    )
    match_up_to_prosumers: Whole = Field(
        100_000, description="no trades are matched of more prosumers"
    )
    minimum_trade_wh: Whole = Field(1, description="smaller trades are dropped [Wh]")
    settlement_price: Literal["average_marginal_cost", "locational"] = Field(
        "average_marginal_cost", description="price of trades: thesis (5-2), or that of the bus"
    )


class Results(Section):
    """What a run computes beside the clearing."""

    powerflow: Flag = Field(True, description="check the cleared day by an AC load flow")
    central_up_to_prosumers: Whole = Field(
        100, description="solve the central benchmark too, up to so many prosumers"
    )


class Scenario(Section):
    """A scenario file."""

    name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = Field(
        description="name of the scenario and of its folder of results"
    )
    description: str = Field("", description="one line for `raygrid scenario list`")
    notes: tuple[Text, ...] = Field(
        (), description="what a reader of the results must know; shown with every result"
    )
    currency: Text = Field("EUR", description="name of the money unit")
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = Field(
        1, description="seed of every random draw"
    )
    network: NetworkConfig = Field(description="the grid")
    horizon: Horizon = Field(Horizon(), description="periods of the market")
    population: PopulationConfig = Field(description="the prosumers")
    history: History | None = Field(
        None, description="days to learn from, and their split; left out: nothing is learnt"
    )
    tariffs: Tariffs | None = Field(
        None, description="the grid connection; left out: an islanded community"
    )
    voltage: Voltage | None = Field(None, description="voltage limits; left out: none")
    market: Market = Field(Market(), description="clearing and trades")
    communication: Communication | None = Field(
        None, description="a model of slow and lossy links; left out: rounds wait for everybody"
    )
    stragglers: Stragglers | None = Field(
        None, description="patience with slow hosts; left out: they are waited for while they live"
    )
    metering: Metering = Field(Metering(), description="smart meters and their verification")
    settlement: Settlement = Field(Settlement(), description="settlement on a chain")
    intraday: Intraday | None = Field(
        None, description="the double auction of every period; left out: the day ahead alone"
    )
    stages: Stages = Field(Stages(), description="stages of a market day in raygrid simulate")
    results: Results = Field(Results(), description="what a run computes besides")

    @model_validator(mode="after")
    def _town_has_grids(self) -> Self:
        town = isinstance(self.population, TownPopulation)
        if town and not isinstance(self.network, TownNetwork):
            raise ValueError(
                "population.source 'town' needs network.source 'town', whose grids it fills; "
                "take population.source 'households' for a single grid"
            )
        return self

    @model_validator(mode="after")
    def _masks_need_everybody(self) -> Self:
        if self.market.masked_sums and self.communication is not None:
            raise ValueError(
                "market.masked_sums needs every host in every round, which `communication` does "
                "not wait for; leave one of them away"
            )
        return self

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        if self.communication is not None and self.stragglers is not None:
            raise ValueError(
                "`communication` goes by the time of its model, `stragglers` by the clock; leave "
                "one of them away"
            )
        return self
