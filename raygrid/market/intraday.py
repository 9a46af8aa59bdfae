"""The intraday stage: N prosumers act, trade and are metered, period by period (AI-TEM III).

A period goes: forecast surplus and feasible quantities; one action each (`raygrid.market.actions`);
orders on the forecast; the double auction; delivery with what is measured; re-dispatch where a
limit would break; meters, by which trades are cut; the grid balances the rest at tariff. E
communities or days run side by side as the first axis of all arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.actions import (
    LEAST_KW,
    Action,
    OrderPricing,
    Range,
    action_mask,
    action_quantity,
    correction_kw,
    firm_power,
    power_with,
    price_table,
    store_range,
    with_battery,
)
from raygrid.market.auction import AuctionRules
from raygrid.market.auction_kernels import (
    TRADE_COLUMNS,
    clear_many,
    deliver_many,
    matched_many,
    money_many,
)
from raygrid.market.feeder_limits import FeederLimits
from raygrid.market.redispatch import TOLERANCE, relieve_many
from raygrid.market.trades import MICRO, WH_PER_KWH
from raygrid.market.units import N_SLOTS, Correction, Feed, Slot, Units

TRADES_PER_ORDER = 4
"""Room for trades, over the number of orders; matching of a period ends where it is used up."""

_IN_FULL = (Action.IMPORT, Action.EXPORT)
_PEER_ACTIONS = (Action.BUY, Action.SELL, Action.CHARGE, Action.DISCHARGE, Action.SHIFT)


@dataclass(frozen=True)
class Outlook:
    """What prosumers know when they act; E communities.

    Attributes
    ----------
    period : (E,) int64
        Period of each community.
    surplus_kw : (E, N) float64
        Forecast PV less load, stores as planned, less what was sold a day ahead [kW].
    stores : Range
        What the stores can do.
    quantity_kw : (E, N, 8) float64
        Feasible quantity of each action [kW].
    mask : (E, N, 8) bool
        Which actions have something to move.
    """

    period: IntArray
    surplus_kw: FloatArray
    stores: Range
    quantity_kw: FloatArray
    mask: BoolArray


@dataclass(frozen=True)
class Outcome:
    """What a period came to; E communities of N prosumers.

    Energy balance (AI-TEM 1), exact but for rounding of floats, in kWh over the period:
    ``pv - curtailed + bought + imported + discharge = load + sold + exported + charge``, where
    charge and discharge are those of battery, EV and shiftable load, and a day-ahead position
    stands beside ``sold``.

    Attributes
    ----------
    period : (E,) int64
        Period that ended.
    action : (E, N) int64
        What was done, after masking.
    pv_kw, load_kw, curtailed_kw : (E, N) float64
        Measured PV before curtailment, fixed load, and PV that plan or operator curtailed [kW].
    store_kw : (E, N, 3) float64
        Powers of the stores, discharge positive [kW].
    energy_kwh : (E, N, 3) float64
        Their energy at the period's end [kWh].
    unmet_kwh : (E, N) float64
        What stores lack at the period's end for their needs to be met [kWh].
    sold_wh, bought_wh : (E, N) int64
        Delivered trades with peers [Wh].
    failed_wh : (E, N) int64
        Energy of its trades that its own or its partner's meter did not bear out [Wh].
    money_micro : (E, N) int64
        What the trades earn less what they pay [1e-6 currency].
    network_micro : (E,) int64
        What the network account takes; all money sums to zero [1e-6 currency].
    import_kwh, export_kwh : (E, N) float64
        Balance with the grid at tariff [kWh].
    grid_cost, cycle_cost : (E, N) float64
        Imports less exports at tariff, and wear of the stores [currency].
    baseline_cost : (E, N) float64
        What load and PV alone would have cost at tariff [currency].
    price_micro : (E,) int64
        Provisional price; the middle of the tariffs where nothing crossed [1e-6 currency/kWh].
    offered_wh, bid_wh : (E,) int64
        All offers and bids [Wh].
    trades : (E, R, 5) int64
        Trades as `raygrid.market.auction_kernels` has them, after delivery.
    n_trades : (E,) int64
        Their number; those cut to 0 Wh among them.
    position : (E, M) float64
        Positions of lines and voltages.
    overload : (E,) float64
        Sum of how far rows are beyond their limits, where re-dispatch could not help.
    """

    period: IntArray
    action: IntArray
    pv_kw: FloatArray
    load_kw: FloatArray
    curtailed_kw: FloatArray
    store_kw: FloatArray
    energy_kwh: FloatArray
    unmet_kwh: FloatArray
    sold_wh: IntArray
    bought_wh: IntArray
    failed_wh: IntArray
    money_micro: IntArray
    network_micro: IntArray
    import_kwh: FloatArray
    export_kwh: FloatArray
    grid_cost: FloatArray
    cycle_cost: FloatArray
    baseline_cost: FloatArray
    price_micro: IntArray
    offered_wh: IntArray
    bid_wh: IntArray
    trades: IntArray
    n_trades: IntArray
    position: FloatArray
    overload: FloatArray

    @property
    def cost(self) -> FloatArray:
        """(E, N) grid and peers together, wear included [currency]."""
        return self.grid_cost + self.cycle_cost - self.money_micro / MICRO


class IntradayMarket:
    """E intraday markets of the same N prosumers, stepped together.

    Parameters
    ----------
    units : Units
        The prosumers.
    feed : Feed
        Their days.
    limits : FeederLimits
        Lines and voltages.
    rules : AuctionRules
        How auctions clear.
    pricing : OrderPricing
        Reservation prices.
    peers : bool
        Whether prosumers trade with each other; otherwise orders stay with the grid.
    """

    def __init__(
        self,
        units: Units,
        feed: Feed,
        limits: FeederLimits,
        rules: AuctionRules | None = None,
        pricing: OrderPricing | None = None,
        *,
        peers: bool = True,
    ) -> None:
        self.units, self.feed, self.limits, self.peers = units, feed, limits, peers
        self.rules, self.pricing = rules or AuctionRules(), pricing or OrderPricing()
        self.prices = price_table(units, feed, self.pricing)
        n = len(units)
        kw_per_wh = 1 / (WH_PER_KWH * feed.period_hours)
        self._owner = np.concatenate([np.arange(n), np.arange(n)])
        self._zone = np.concatenate([units.zone, units.zone])
        self._effect = np.ascontiguousarray(limits.per_kw[self._owner] * kw_per_wh)
        self._largest = np.abs(limits.per_kw).max(axis=0, initial=0.0) * kw_per_wh
        self._store_effect = np.repeat(limits.per_kw, N_SLOTS, axis=0)
        self._committed: Correction | None = None
        self.reset(np.zeros(1, dtype=np.int64))

    def over(self, feed: Feed) -> IntradayMarket:
        """The same prosumers, limits and rules over another feed."""
        return IntradayMarket(
            self.units, feed, self.limits, self.rules, self.pricing, peers=self.peers
        )

    def commit(
        self,
        first: int,
        position_kw: FloatArray,
        plan_kw: FloatArray,
        correction: Correction | None = None,
    ) -> None:
        """Take up what a day-ahead market decided for some periods in a row.

        Parameters
        ----------
        first : int
            The first of D periods.
        position_kw : (D, N) float64
            Net injections sold a day ahead [kW].
        plan_kw : (D, N, 3) float64
            Powers of the stores, discharge positive [kW].
        correction : Correction, optional
            How batteries correct that plan, (D, N); not at all by default.
        """
        if self._committed is None:
            feed = self.feed
            own = {f.name: _own(feed.correction, f.name, feed) for f in fields(Correction)}
            self._committed = Correction(**own)
            self.feed = replace(
                feed,
                position_kw=feed.position_kw.copy(),
                plan_kw=feed.plan_kw.copy(),
                correction=self._committed,
            )
        rows = slice(first, first + len(position_kw))
        self.feed.position_kw[rows], self.feed.plan_kw[rows] = position_kw, plan_kw
        for f in fields(Correction):
            value = _NO_CORRECTION[f.name] if correction is None else getattr(correction, f.name)
            getattr(self._committed, f.name)[rows] = value
        self.outlook = self._look_ahead()

    def reset(self, period: IntArray, energy_kwh: FloatArray | None = None) -> None:
        """Begin at these periods, one a community.

        Parameters
        ----------
        period : (E,) int64
            First period of each.
        energy_kwh : (E, N, 3) float64, optional
            Energy of the stores; their initial energy by default. It is raised to what later
            needs ask for [kWh].
        """
        units, feed = self.units, self.feed
        self.period = np.array(period, dtype=np.int64)
        if energy_kwh is None:
            energy_kwh = np.broadcast_to(units.initial_kwh, (len(period), *units.min_kwh.shape))
        gain = units.eta_charge * feed.charge_max_kw[self.period] * feed.period_hours
        least = np.maximum(feed.floor_kwh[self.period] - gain, units.min_kwh)
        start = energy_kwh - feed.used_kwh[self.period]
        self.energy_kwh = np.clip(start, least, units.max_kwh)
        self.outlook = self._look_ahead()

    def _look_ahead(self) -> Outlook:
        feed, k = self.feed, np.minimum(self.period, self.feed.n_periods - 1)
        stores = store_range(self.units, feed, k, self.energy_kwh)
        pv = self._fed_in(feed.predicted_pv_kw[k], k)
        surplus = pv - feed.predicted_load_kw[k] - feed.position_kw[k]
        surplus = surplus + stores.plan_kw.sum(axis=-1)
        if feed.correction is not None:
            change = self._correction(stores, surplus - feed.correction.planned_kw[k], k)
            stores = replace(stores, plan_kw=with_battery(stores.plan_kw, change))
            surplus = surplus + change
        quantity = action_quantity(surplus, stores)
        return Outlook(self.period, surplus, stores, quantity, action_mask(quantity))

    def _fed_in(self, pv_kw: FloatArray, period: IntArray) -> FloatArray:
        """(E, N) PV without what the day-ahead plan curtails [kW]."""
        rule = self.feed.correction
        return pv_kw if rule is None else np.minimum(pv_kw, rule.pv_max_kw[period])

    def _correction(self, stores: Range, error_kw: FloatArray, period: IntArray) -> FloatArray:
        """(E, N) what the batteries make up for of an error beyond their plan [kW]."""
        rule = self.feed.correction
        if rule is None:
            return np.zeros_like(error_kw)
        return correction_kw(stores, error_kw, rule.takes[period], rule.gives[period])

    def step(self, action: IntArray) -> Outcome:
        """Let everybody act, clear, deliver, meter, and go on to the next period.

        Parameters
        ----------
        action : (E, N) int64
            An `Action` each; one that has nothing to move is repaired to waiting.

        Raises
        ------
        IndexError
            If the feed has no such period.
        """
        view, feed, units, k = self.outlook, self.feed, self.units, self.period
        if (k >= feed.n_periods).any():
            raise IndexError(f"the feed ends after period {feed.n_periods - 1}")
        allowed = np.take_along_axis(view.mask, action[..., None], axis=-1)[..., 0]
        action = np.where(allowed, action, Action.WAIT)
        firm = firm_power(action, view.stores)
        from_plan = (firm - view.stores.plan_kw).sum(axis=-1)
        trades, count, provisional, book = self._clear(action, firm, view.surplus_kw + from_plan)

        matched = np.empty_like(book)
        matched_many(trades, count, matched)
        hours = feed.period_hours
        with_stores_kw = matched[:, len(units) :] / (WH_PER_KWH * hours)
        available, load, position_kw = feed.pv_kw[k], feed.load_kw[k], feed.position_kw[k]
        pv = self._fed_in(available, k)
        expected = view.surplus_kw + from_plan
        surplus = pv - load - position_kw + firm.sum(axis=-1)
        as_told = power_with(action, view.stores, firm, expected, with_stores_kw)
        power = power_with(action, view.stores, firm, surplus, with_stores_kw)
        # What meters show beyond the forecast that orders were placed on, own use counted.
        missed = surplus - expected + (power - as_told).sum(axis=-1)
        missed = np.where(np.isin(action, _IN_FULL), 0.0, missed)
        power = with_battery(
            power, self._correction(replace(view.stores, plan_kw=power), missed, k)
        )
        power, curtailed, at = self._relieve(view.stores, power, pv, load)

        net_kwh = (pv - curtailed - load - position_kw + power.sum(axis=-1)) * hours
        meter = np.floor(np.abs(net_kwh) * WH_PER_KWH).astype(np.int64)
        fed_in, drawn = np.where(net_kwh > 0, meter, 0), np.where(net_kwh < 0, meter, 0)
        sold, bought = np.empty_like(meter), np.empty_like(meter)
        money, network = np.empty_like(meter), np.empty(len(k), dtype=np.int64)
        cleared = matched[:, : len(units)] + matched[:, len(units) :]
        deliver_many(trades, count, self._owner, fed_in, drawn, sold, bought)
        money_many(trades, count, self._owner, money, network)
        with_grid = net_kwh - (sold - bought) / WH_PER_KWH
        # Rounding must not turn what is left of a sale into a purchase.
        with_grid = np.where(net_kwh > 0, np.maximum(with_grid, 0.0), np.minimum(with_grid, 0.0))
        imported, exported = np.maximum(-with_grid, 0.0), np.maximum(with_grid, 0.0)

        buy, sell = feed.import_price_per_kwh[k], feed.export_price_per_kwh[k]
        alone = (available - load - position_kw) * hours
        self.energy_kwh = self.energy_kwh + np.where(
            power < 0, -power * units.eta_charge, -power / units.eta_discharge
        ) * hours  # fmt: skip
        energy = self.energy_kwh
        unmet = np.maximum(feed.floor_kwh[k] - energy, 0.0).sum(axis=-1)
        middle = (self.prices.bid[k] + self.prices.offer[k]) // 2
        outcome = Outcome(
            period=k,
            action=action,
            pv_kw=available,
            load_kw=load,
            curtailed_kw=available - pv + curtailed,
            store_kw=power,
            energy_kwh=energy,
            unmet_kwh=np.where(unmet > TOLERANCE, unmet, 0.0),
            sold_wh=sold,
            bought_wh=bought,
            failed_wh=cleared - sold - bought,
            money_micro=money,
            network_micro=network,
            import_kwh=imported,
            export_kwh=exported,
            grid_cost=_at_tariff(with_grid, buy, sell),
            cycle_cost=(np.abs(power) * units.cycle_cost_per_kwh).sum(axis=-1) * hours,
            baseline_cost=_at_tariff(alone, buy, sell),
            price_micro=np.where(provisional[:, 0] > 0, provisional[:, 1], middle),
            offered_wh=np.maximum(book, 0).sum(axis=1),
            bid_wh=np.maximum(-book, 0).sum(axis=1),
            trades=trades,
            n_trades=count,
            position=at,
            overload=np.maximum(np.abs(at) - 1 - TOLERANCE, 0.0).sum(axis=1),
        )
        self.period = k + 1
        after = np.minimum(self.period, feed.n_periods - 1)
        used = np.where((self.period < feed.n_periods)[:, None, None], feed.used_kwh[after], 0.0)
        self.energy_kwh = energy - used
        self.outlook = self._look_ahead()
        return outcome

    def _clear(
        self, action: IntArray, firm: FloatArray, surplus: FloatArray
    ) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Orders on the forecast, and the auction: trades, their number, price, quantities."""
        view, feed, k, rules = self.outlook, self.feed, self.period, self.rules
        own = power_with(action, view.stores, firm, surplus, 0.0)
        left = surplus + (own - firm).sum(axis=-1)
        stores = view.stores
        to_charge = (own - stores.least_kw)[..., [Slot.BATTERY, Slot.EV]].sum(axis=-1)
        to_give = (stores.most_kw - own)[..., [Slot.BATTERY, Slot.EV]].sum(axis=-1)
        flexible = np.where(action == Action.CHARGE, -to_charge, 0.0)
        flexible = np.where(action == Action.DISCHARGE, to_give, flexible)
        # What own use left of rounding is no order, and nobody stands on both sides.
        left = np.where(np.abs(left) > LEAST_KW, left, 0.0)
        flexible = np.where(flexible * left < 0, 0.0, flexible)
        peers = np.isin(action, _PEER_ACTIONS) & self.peers
        flexible = np.where(self.peers, flexible, 0.0)
        wh = WH_PER_KWH * feed.period_hours
        book = np.trunc(np.concatenate([np.where(peers, left, 0.0), flexible], axis=1) * wh)
        quantity = book.astype(np.int64)
        charge, discharge = self.prices.charge_bid[k], self.prices.discharge_offer[k]
        price = np.concatenate(
            [
                np.where(left > 0, self.prices.offer[k][:, None], self.prices.bid[k][:, None]),
                np.where(flexible > 0, discharge, charge),
            ],
            axis=1,
        )
        n = len(self.units)
        moves = np.zeros(quantity.shape, dtype=np.bool_)
        moves[:, n:] = True
        injection = left + feed.position_kw[k]
        at = self.limits.position(injection, feed.predicted_load_kw[k])
        trades = np.zeros((len(k), TRADES_PER_ORDER * 2 * n, TRADE_COLUMNS), dtype=np.int64)
        count, provisional = np.zeros(len(k), np.int64), np.zeros((len(k), 2), np.int64)
        clear_many(
            quantity,
            price,
            self._owner,
            self._zone,
            moves,
            self._effect,
            self._largest,
            at,
            k % (2 * n),
            rules.price_rule == "uniform",
            rules.same_zone_first,
            rules.congestion_micro_per_kwh,
            rules.congestion_start,
            trades,
            count,
            provisional,
        )
        return trades, count, provisional, quantity

    def _relieve(
        self, stores: Range, power: FloatArray, pv: FloatArray, load: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Stores first, then PV, where measured injections break a limit: powers, PV, positions."""
        at = self.limits.position(pv - load + power.sum(axis=-1), load)
        curtailed = np.zeros_like(pv)
        broken = np.flatnonzero((np.abs(at) > 1 + TOLERANCE).any(axis=1))
        if not len(broken):
            return power, curtailed, at
        part, flat = at[broken], power[broken].reshape(len(broken), -1)
        change = np.zeros_like(flat)
        fall = np.maximum(flat - stores.least_kw[broken].reshape(flat.shape), 0.0)
        rise = np.maximum(stores.most_kw[broken].reshape(flat.shape) - flat, 0.0)
        relieve_many(part, self._store_effect, fall, rise, change)
        power = power.copy()
        power[broken] = (flat + change).reshape(power[broken].shape)
        cut = np.zeros_like(pv[broken])
        relieve_many(part, self.limits.per_kw, pv[broken].copy(), cut.copy(), cut)
        curtailed[broken] = -cut
        return (
            power,
            curtailed,
            self.limits.position(pv - curtailed - load + power.sum(axis=-1), load),
        )


_NO_CORRECTION: dict[str, Any] = {
    "planned_kw": 0.0, "takes": False, "gives": False, "pv_max_kw": np.inf,
    "stored_value_per_kwh": 0.0,
}  # fmt: skip


def _own(given: Correction | None, name: str, feed: Feed) -> NDArray[Any]:
    """A field of a correction as an array of one's own."""
    if given is None:
        return np.full(feed.load_kw.shape, _NO_CORRECTION[name])
    return np.array(getattr(given, name))


def _at_tariff(net_kwh: FloatArray, buy: FloatArray, sell: FloatArray) -> FloatArray:
    """Cost of net energies (E, N) fed in at tariffs (E,) [currency]."""
    return np.asarray(
        np.maximum(-net_kwh, 0.0) * buy[:, None] - np.maximum(net_kwh, 0.0) * sell[:, None]
    )
