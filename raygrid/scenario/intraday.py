"""The sections of a scenario file about the intraday market and those who learn to bid in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raygrid.scenario.fields import Count, Flag, NonNegative, Positive, Section, Share

Weight = Annotated[float, Field(strict=True, ge=0, le=1e6)]


class Reward(Section):
    """Weights of the terms of AI-TEM V.C; see `raygrid.learning.environment.RewardWeights`."""

    cost_reduction: Weight = Field(1.0, description="cost at tariff less what was paid")
    stored_energy: Weight = Field(1.0, description="what stores gained, between the tariffs")
    trading_profit: Weight = Field(0.1, description="on top: what peers' prices gain")
    renewable_use: Weight = Field(0.05, description="PV that is not exported")
    voltage_feasibility: Weight = Field(0.01, description="each period within all limits")
    degradation: Weight = Field(1.0, description="wear of the stores, a penalty")
    unmet_demand: Weight = Field(10.0, description="what stores lack for their needs, a penalty")
    violation: Weight = Field(1.0, description="how far limits are broken, a penalty")
    failed_settlement: Weight = Field(
        0.1, description="trades that meters do not bear out, a penalty"
    )
    community_cost: Weight = Field(
        0.0, description="own effect on what the community pays the grid, a penalty"
    )


class Bidders(Section):
    """How bidders are trained (AI-TEM V.C); see `raygrid.learning.dqn.DqnOptions`."""

    episodes: Count = Field(2000, description="days to learn from")
    copies: Count = Field(16, description="days that run side by side")
    hidden: Count = Field(64, description="width of both hidden layers")
    replay: Count = Field(20_000, description="transitions kept of each prosumer")
    batch: Count = Field(64, description="transitions of an update")
    discount: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.95, description="of the next period's value"
    )
    learning_rate: Positive = Field(1e-3, description="of Adam")
    epsilon_start: Share = Field(1.0, description="share of random actions at first")
    epsilon_end: Share = Field(0.05, description="share of random actions at last")
    exploration: Share = Field(0.5, description="share of the episodes until then")
    target_every: Count = Field(250, description="updates between copies to the target networks")
    double: Flag = Field(True, description="double DQN")


class Intraday(Section):
    """The double auction of every period, and the bidders in it (AI-TEM III.D, III.E)."""

    price_rule: Literal["uniform", "pay_as_bid"] = Field(
        "uniform", description="one price for all trades, or each side at its own reservation price"
    )
    zones: Count = Field(5, description="feeder zones")
    same_zone_first: Flag = Field(True, description="match orders of one zone first")
    congestion_price_per_kwh: NonNegative = Field(
        0.05,
        description="fee of a trade that leaves a line or voltage at its limit [currency/kWh]; "
        "0: no penalty",
    )
    congestion_start: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.8, description="share of the limit from which on the fee rises"
    )
    bid_share: Share = Field(
        1.0, description="bids for a deficit: this far from export to import price"
    )
    offer_share: Share = Field(0.0, description="offers of a surplus: as bid_share")
    lookahead_hours: Positive = Field(
        12.0, description="how far ahead the value of stored energy looks [h]"
    )
    reward: Reward = Field(Reward(), description="what bidders learn from")
    bidders: Bidders = Field(Bidders(), description="how they are trained")
