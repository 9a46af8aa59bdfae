"""The market as an environment to learn in: observations, rewards and episodes (AI-TEM III.E, V.C).

An episode is one day of the feed; E of them run side by side, and each of the N prosumers is an
agent of its own that sees its own row. Everything is an array: observations (E, N, S), actions
(E, N), rewards (E, N). A day's end truncates an episode, it is no end of the world: what stores
then hold keeps its value.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.actions import mean_price_per_kwh
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.trades import MICRO, WH_PER_KWH
from raygrid.market.units import Feed, Slot, Units

Float32Array = NDArray[np.float32]

HOURS_SCALE = 4.0
"""What batteries' hours are divided by in observations [h]."""

FEATURES = (
    "predicted_load", "predicted_pv", "surplus", "battery", "ev", "ev_must", "shiftable",
    "import_price", "export_price", "highest_price_ahead", "market_price", "peer_offers",
    "community_surplus", "sine_of_day", "cosine_of_day", "feeder_loading",
    "planned_battery", "planned_ev", "position", "plan_takes", "plan_gives", "plan_value",
    "pv_share", "battery_hours", "ev_gives",
)  # fmt: skip
"""The observation, in this order: that of III.E, what the day-ahead plan says, and what the home
has, by which one network can tell prosumers apart."""


@dataclass(frozen=True)
class RewardWeights:
    """Terms of V.C, in currency over the prosumer's own scale (`Scales.money`).

    Attributes
    ----------
    cost_reduction : float
        What load and PV alone would have cost at tariff, less what was paid to grid and peers.
    stored_energy : float
        What the stores' energy gained in value at its opportunity price, see `Worth`.
    trading_profit : float
        On top: what peers' prices gain over the tariffs.
    renewable_use : float
        PV that is not exported, times the mean import price.
    voltage_feasibility : float
        What each period within all limits earns, times the scale.
    degradation : float
        Wear of the stores.
    community_cost : float
        The prosumer's own effect on what the community pays the grid (`community_effect`), a
        penalty: the difference reward of Wolpert and Tumer (2002), in place of its own money.
    unmet_demand, violation, failed_settlement : float
        What stores lack [kWh] and trades that meters did not bear out [kWh], times the mean
        import price; how far rows are beyond their limits, times the scale.
    """

    cost_reduction: float = 1.0
    stored_energy: float = 1.0
    trading_profit: float = 0.1
    renewable_use: float = 0.05
    voltage_feasibility: float = 0.01
    degradation: float = 1.0
    unmet_demand: float = 10.0
    violation: float = 1.0
    failed_settlement: float = 0.1
    community_cost: float = 0.0


@dataclass(frozen=True)
class Scales:
    """What observations and rewards are divided by, from training days alone.

    Attributes
    ----------
    load_kw, pv_kw : (N,) float64
        Greatest load and PV; 1 for who has none [kW].
    money : (N,) float64
        Mean load and PV of a period at the mean import price [currency].
    price_per_kwh : float
        Mean import price [currency/kWh].
    """

    load_kw: FloatArray
    pv_kw: FloatArray
    money: FloatArray
    price_per_kwh: float

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As they are kept beside weights."""
        return {f"scale_{f.name}": np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Scales:
        """The inverse of `arrays`."""
        rows = [arrays[f"scale_{name}"] for name in ("load_kw", "pv_kw", "money")]
        return cls(rows[0], rows[1], rows[2], float(arrays["scale_price_per_kwh"]))


def training_scales(feed: Feed, days: IntArray) -> Scales:
    """Scales of some days of a feed."""
    k = day_periods(feed, days)
    return _scales(feed, feed.load_kw[k], feed.pv_kw[k])


def foreseen_scales(feed: Feed) -> Scales:
    """Scales of prosumers that nobody trained with, from what is forecast of them."""
    return _scales(feed, feed.predicted_load_kw, feed.predicted_pv_kw)


def _scales(feed: Feed, load: FloatArray, pv: FloatArray) -> Scales:
    price = mean_price_per_kwh(feed)
    mean_kw = np.maximum((load + pv).mean(axis=0), 1e-3)

    def peak(values: FloatArray) -> FloatArray:
        most = values.max(axis=0)
        return np.where(most > 0, most, 1.0)

    return Scales(
        peak(load),
        peak(pv),
        mean_kw * feed.period_hours * price,
        price,
    )


@dataclass(frozen=True)
class Worth:
    """What stored energy is worth, as a potential over states: ``Phi = sum v(t) (e - e_min)``.

    Rewards hold its differences, so that what is stored now for later is credited now (Ng, Harada
    and Russell 1999). The differences are not discounted: with a discount of 0.95 a quarter hour
    and a bidder would otherwise never keep noon's energy until the evening.

    Where days were planned, a battery's energy counts at the multiplier of that very day's plan: on
    a day whose sun fills the batteries a kWh more is worth less than on others. What is gained is
    then ``mu(t) (e(t+1) - e(t))``, the term of the plan's Lagrangian.

    Attributes
    ----------
    per_kwh : (P, N, 3) float64
        Value of a kWh when each period of the day begins [currency/kWh], such as
        `raygrid.learning.opportunity.opportunity_price`.
    planned_per_kwh : (K, N) float64, optional
        Multipliers of the batteries' energy in each period of the feed [currency/kWh].
    """

    per_kwh: FloatArray
    planned_per_kwh: FloatArray | None = None

    def gained(
        self, period: IntArray, before_kwh: FloatArray, after_kwh: FloatArray, min_kwh: FloatArray
    ) -> FloatArray:
        """(E, N) what stored energy (E, N, 3) gained in value over a period [currency].

        Parameters
        ----------
        period : (E,) int64
            The period.
        before_kwh, after_kwh : (E, N, 3) float64
            Energy when it began and when it ended [kWh].
        min_kwh : (N, 3) float64
            Energy that is never used [kWh].
        """
        now = self.per_kwh[period % len(self.per_kwh)]
        then = self.per_kwh[(period + 1) % len(self.per_kwh)]
        gain = then * (after_kwh - min_kwh) - now * (before_kwh - min_kwh)
        if self.planned_per_kwh is not None:
            change = (after_kwh - before_kwh)[..., Slot.BATTERY]
            gain[..., Slot.BATTERY] = self.planned_per_kwh[period] * change
        return np.asarray(gain.sum(axis=-1))


def day_periods(feed: Feed, days: IntArray) -> IntArray:
    """Periods of some days, in their order."""
    start = np.asarray(days, dtype=np.int64)[:, None] * feed.day_periods
    return np.asarray(start + np.arange(feed.day_periods)).ravel()


class Observer:
    """Observations of a market, from its outlook and what came before.

    Parameters
    ----------
    units, feed
        The market's.
    scales : Scales
        What values are divided by.
    lookahead_hours : float
        How far ahead the highest import price is looked for [h].
    """

    def __init__(
        self, units: Units, feed: Feed, scales: Scales, lookahead_hours: float = 12.0
    ) -> None:
        self.units, self.scales = units, scales
        price = feed.import_price_per_kwh
        ahead = max(1, round(lookahead_hours / feed.period_hours))
        padded = np.concatenate([price, np.full(ahead - 1, price[-1])])
        self._highest = np.lib.stride_tricks.sliding_window_view(padded, ahead).max(axis=1)
        self._room = np.maximum(units.max_kwh - units.min_kwh, 1e-9)
        both_kw = scales.load_kw + scales.pv_kw
        has_pv = feed.pv_kw.any(axis=0)
        hours = (units.max_kwh - units.min_kwh)[:, Slot.BATTERY] / both_kw
        self._both_kw = both_kw
        self._home = np.stack(
            [
                np.where(has_pv, scales.pv_kw / both_kw, 0.0),
                hours / HOURS_SCALE,
                feed.discharge_max_kw[..., Slot.EV].any(axis=0),
            ],
            axis=-1,
        ).astype(np.float32)

    def observe(self, market: IntradayMarket, last: Outcome | None) -> Float32Array:
        """(E, N, S) observations; without a last outcome peers are taken to be silent.

        Parameters
        ----------
        market : IntradayMarket
            Where the prosumers stand.
        last : Outcome or None
            The period before.
        """
        # The market's own: plans are written into it day by day.
        feed, scales, view = market.feed, self.scales, market.outlook
        k = np.minimum(view.period, feed.n_periods - 1)
        shape = view.surplus_kw.shape
        out = np.empty((*shape, len(FEATURES)), dtype=np.float32)
        out[..., 0] = feed.predicted_load_kw[k] / scales.load_kw
        out[..., 1] = feed.predicted_pv_kw[k] / scales.pv_kw
        out[..., 2] = view.surplus_kw / self._both_kw
        stored = np.clip((market.energy_kwh - self.units.min_kwh) / self._room, 0.0, 1.0)
        connected = feed.charge_max_kw[k] > 0
        out[..., 3] = stored[..., Slot.BATTERY]
        away = np.where(connected[..., Slot.EV], stored[..., Slot.EV], -1.0)
        out[..., 4] = away
        out[..., 5] = view.stores.most_kw[..., Slot.EV] < 0
        out[..., 6] = np.where(connected[..., Slot.SHIFTABLE], 1 - stored[..., Slot.SHIFTABLE], 0)
        buy, sell = feed.import_price_per_kwh[k], feed.export_price_per_kwh[k]
        out[..., 7] = (buy / scales.price_per_kwh)[:, None]
        out[..., 8] = (sell / scales.price_per_kwh)[:, None]
        out[..., 9] = (self._highest[k] / scales.price_per_kwh)[:, None]
        if last is None:
            out[..., 10] = ((buy + sell) / 2 / scales.price_per_kwh)[:, None]
            out[..., 11] = 0.5
            out[..., 15] = 0.0
        else:
            out[..., 10] = (last.price_micro / MICRO / scales.price_per_kwh)[:, None]
            both = last.offered_wh + last.bid_wh
            out[..., 11] = (np.where(both > 0, last.offered_wh, 0.5) / np.maximum(both, 1))[:, None]
            loading = np.abs(last.position).max(axis=1, initial=0.0)
            out[..., 15] = loading[:, None]
        total = view.surplus_kw.sum(axis=1) / self._both_kw.sum()
        out[..., 12] = total[:, None]
        angle = 2 * np.pi * (view.period % feed.day_periods) / feed.day_periods
        out[..., 13], out[..., 14] = np.sin(angle)[:, None], np.cos(angle)[:, None]
        out[..., 16] = view.stores.plan_kw[..., Slot.BATTERY] / self._both_kw
        out[..., 17] = view.stores.plan_kw[..., Slot.EV] / self._both_kw
        out[..., 18] = feed.position_kw[k] / self._both_kw
        if feed.correction is None:
            out[..., 19:22] = 0.0
        else:
            out[..., 19], out[..., 20] = feed.correction.takes[k], feed.correction.gives[k]
            out[..., 21] = feed.correction.stored_value_per_kwh[k] / scales.price_per_kwh
        out[..., 22:] = self._home
        return out


def community_effect(outcome: Outcome, feed: Feed) -> FloatArray:
    """(E, N) what the community pays the grid because of each prosumer [currency].

    ``C(X) - C(X - s_i)`` with X the community's net injection, s_i that of the prosumer's stores
    and C the cost of a net energy at tariff, plus what is paid because it did not trade: spread of
    the tariffs times its import or export, as far as others exported or imported at once.

    Parameters
    ----------
    outcome : Outcome
        What the period came to.
    feed : Feed
        Tariffs.
    """
    k = outcome.period
    buy, sell = feed.import_price_per_kwh[k][:, None], feed.export_price_per_kwh[k][:, None]
    imported, exported = outcome.import_kwh, outcome.export_kwh
    all_in, all_out = imported.sum(axis=1)[:, None], exported.sum(axis=1)[:, None]

    def at_tariff(net_kwh: FloatArray) -> FloatArray:
        return np.where(net_kwh < 0, -buy, -sell) * net_kwh

    stores = outcome.store_kw.sum(axis=-1) * feed.period_hours
    net = all_out - all_in
    untraded = np.minimum(imported, all_out) + np.minimum(exported, all_in)
    return np.asarray(at_tariff(net) - at_tariff(net - stores) + (buy - sell) * untraded)


def reward(
    outcome: Outcome, gained: FloatArray, scales: Scales, weights: RewardWeights, feed: Feed
) -> Float32Array:
    """Rewards (E, N) of a period, in units of each prosumer's own scale.

    Parameters
    ----------
    outcome : Outcome
        What the period came to.
    gained : (E, N) float64
        What the stores gained in value, as `Worth.gained` [currency].
    scales, weights
        Scales and weights of the terms.
    feed : Feed
        Tariffs.
    """
    k, price = outcome.period, scales.price_per_kwh
    trading = outcome.money_micro / MICRO
    buy, sell = feed.import_price_per_kwh[k][:, None], feed.export_price_per_kwh[k][:, None]
    at_tariff = (sell * outcome.sold_wh - buy * outcome.bought_wh) / WH_PER_KWH
    used = (outcome.pv_kw - outcome.curtailed_kw) * feed.period_hours - outcome.export_kwh
    money = (
        weights.cost_reduction * (outcome.baseline_cost - outcome.grid_cost + trading)
        + weights.stored_energy * gained
        + weights.trading_profit * (trading - at_tariff)
        + weights.renewable_use * price * np.maximum(used, 0.0)
        - weights.degradation * outcome.cycle_cost
        - weights.community_cost * community_effect(outcome, feed)
        - weights.unmet_demand * price * outcome.unmet_kwh
        - weights.failed_settlement * price * outcome.failed_wh / WH_PER_KWH
    )
    within = np.where(outcome.overload > 0, 0.0, weights.voltage_feasibility)
    of_limits = within - weights.violation * outcome.overload
    return np.asarray(money / scales.money + of_limits[:, None], dtype=np.float32)


@dataclass(frozen=True)
class Step:
    """What a step of the environment gives back.

    Attributes
    ----------
    observation : (E, N, S) float32
        Of the period that follows; of the day's last one, the period after it.
    mask : (E, N, 8) bool
        Actions that have something to move then.
    reward : (E, N) float32
        Of the period that ended.
    truncated : bool
        Whether the day is over.
    outcome : Outcome
        The period in full.
    """

    observation: Float32Array
    mask: BoolArray
    reward: Float32Array
    truncated: bool
    outcome: Outcome


class MarketEnvironment:
    """E days of an intraday market at once, for N agents that learn.

    Parameters
    ----------
    market : IntradayMarket
        The market, which it steps.
    scales : Scales
        Of the training days.
    worth : Worth
        Of stored energy.
    weights : RewardWeights
        Of the reward's terms.
    start_kwh : (D, N, 3) float64, optional
        Energy in the stores when each day of the feed begins, as its plan has it; their initial
        energy by default [kWh].
    """

    def __init__(
        self,
        market: IntradayMarket,
        scales: Scales,
        worth: Worth,
        weights: RewardWeights | None = None,
        start_kwh: FloatArray | None = None,
    ) -> None:
        self.start_kwh = start_kwh
        self.market, self.scales, self.worth = market, scales, worth
        self.weights = weights or RewardWeights()
        self.observer = Observer(market.units, market.feed, scales)
        self._left = 0
        self._last: Outcome | None = None

    def reset(
        self, days: IntArray, rng: np.random.Generator | None = None
    ) -> tuple[Float32Array, BoolArray]:
        """Begin these days: observations (E, N, S) and masks (E, N, 8).

        Parameters
        ----------
        days : (E,) int64
            A day of the feed each.
        rng : Generator, optional
            Draws how full the batteries are, of every second day where days were planned;
            without it they start as they do in the scenario or in the plan.
        """
        units = self.market.units
        energy = np.repeat(units.initial_kwh[None], len(days), axis=0)
        if self.start_kwh is not None:
            energy = self.start_kwh[days]
        if rng is not None:
            low, high = units.min_kwh[:, Slot.BATTERY], units.max_kwh[:, Slot.BATTERY]
            drawn = low + rng.random((len(days), len(units))) * (high - low)
            every = 1 if self.start_kwh is None else 2
            energy[::every, :, Slot.BATTERY] = drawn[::every]
        self.market.reset(np.asarray(days, np.int64) * self.market.feed.day_periods, energy)
        self._left, self._last = self.market.feed.day_periods, None
        return self.observer.observe(self.market, None), self.market.outlook.mask

    def step(self, action: IntArray) -> Step:
        """One period of every day; actions (E, N) that move nothing become waiting.

        Raises
        ------
        RuntimeError
            If the day is over.
        """
        if self._left == 0:
            raise RuntimeError("the day is over; call reset")
        market = self.market
        before = market.energy_kwh
        outcome = market.step(action)
        self._left -= 1
        self._last = outcome
        gained = self.worth.gained(outcome.period, before, outcome.energy_kwh, market.units.min_kwh)
        earned = reward(outcome, gained, self.scales, self.weights, market.feed)
        observation = self.observer.observe(market, outcome)
        return Step(observation, market.outlook.mask, earned, self._left == 0, outcome)
