"""The eight actions of AI-TEM III.E: what each can move, and the orders that follow from it.

An action is a type. Its quantity is all that is feasible, and its price follows a rule. With b
the prosumer's surplus of a period (PV less load, its stores doing as planned, less what it sold
a day ahead):

========= ==================================================== ================================
action    stores                                               market
========= ==================================================== ================================
wait      as planned                                           none: b balances with the grid
buy       as planned                                           bids for the deficit -b
sell      as planned                                           offers the surplus b
charge    EV, then battery take b, then what peers sell        bids for the room left
discharge battery, then EV cover -b, then sell to peers        offers what is left
import    EV and battery charge in full                        none: from the grid
export    battery and EV discharge in full                     none: to the grid
shift     EV and shiftable load run in full                    offers or bids what is left of b
========= ==================================================== ================================

Charging and discharging prosumers also offer or bid what is left of b. Where a day was planned
ahead, "as planned" has the battery make up for forecast errors where `Correction` says that this
is cheaper than the tariff. What meters show beyond the orders' forecast it makes up for likewise,
whatever the action, import and export excepted: its home's meter keeps to what was traded. A
store never charges and discharges at once: its power is one signed number. What must be charged
in this period, so that an EV departs and a window closes with what it needs, is charged whatever
the action.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.trades import MICRO, micro_price
from raygrid.market.units import Feed, Slot, Units

LEAST_KW = 1e-6
"""Quantities below this are no reason to act [kW]."""


class Action(IntEnum):
    """What a prosumer does in a period."""

    WAIT = 0
    BUY = 1
    SELL = 2
    CHARGE = 3
    DISCHARGE = 4
    IMPORT = 5
    EXPORT = 6
    SHIFT = 7


N_ACTIONS = len(Action)

_STORAGE = [Slot.BATTERY, Slot.EV]
_FLEXIBLE = [Slot.EV, Slot.SHIFTABLE]
CHARGE_ORDER = (Slot.EV, Slot.BATTERY)
DISCHARGE_ORDER = (Slot.BATTERY, Slot.EV)


@dataclass(frozen=True)
class Range:
    """What the stores can do in a period; all arrays (..., N, 3), discharge positive [kW].

    Attributes
    ----------
    least_kw : full charge, 0 or below.
    most_kw : full discharge; below 0 where there is something that must be charged.
    plan_kw : what they do unless told otherwise.
    """

    least_kw: FloatArray
    most_kw: FloatArray
    plan_kw: FloatArray

    @property
    def charge_kw(self) -> FloatArray:
        """(..., N) what EV and battery can charge beyond their plan [kW]."""
        return np.asarray((self.plan_kw - self.least_kw)[..., _STORAGE].sum(axis=-1))

    @property
    def discharge_kw(self) -> FloatArray:
        """(..., N) what battery and EV can discharge beyond their plan [kW]."""
        return np.asarray((self.most_kw - self.plan_kw)[..., _STORAGE].sum(axis=-1))

    @property
    def shift_kw(self) -> FloatArray:
        """(..., N) what EV and shiftable load can take beyond their plan [kW]."""
        return np.asarray((self.plan_kw - self.least_kw)[..., _FLEXIBLE].sum(axis=-1))


def store_range(units: Units, feed: Feed, period: IntArray, energy_kwh: FloatArray) -> Range:
    """Range of the stores' powers (AI-TEM 3 to 5), needs of later periods looked ahead.

    Parameters
    ----------
    units, feed
        The prosumers and their days.
    period : (E,) int64
        Period of each community.
    energy_kwh : (E, N, 3) float64
        Energy when the period begins, what was used taken off [kWh].
    """
    hours = feed.period_hours
    floor = np.maximum(feed.floor_kwh[period], units.min_kwh)
    room = (units.max_kwh - energy_kwh) / (units.eta_charge * hours)
    charge = np.clip(room, 0.0, feed.charge_max_kw[period])
    must = np.clip((floor - energy_kwh) / (units.eta_charge * hours), 0.0, charge)
    stored = (energy_kwh - floor) * units.eta_discharge / hours
    discharge = np.clip(stored, 0.0, feed.discharge_max_kw[period])
    most = np.where(must > 0, -must, discharge)
    return Range(-charge, most, np.clip(feed.plan_kw[period], -charge, most))


def action_quantity(surplus_kw: FloatArray, stores: Range) -> FloatArray:
    """Feasible quantity of each action (..., N, 8) [kW]; 0 where it can move nothing.

    Parameters
    ----------
    surplus_kw : (..., N) float64
        b of the module's table, as forecast [kW].
    stores : Range
        What the stores can do.
    """
    surplus, deficit = np.maximum(surplus_kw, 0.0), np.maximum(-surplus_kw, 0.0)
    quantity = np.zeros((*surplus.shape, N_ACTIONS))
    quantity[..., Action.BUY] = deficit
    quantity[..., Action.SELL] = surplus
    quantity[..., Action.CHARGE] = stores.charge_kw
    quantity[..., Action.DISCHARGE] = stores.discharge_kw
    quantity[..., Action.IMPORT] = deficit + stores.charge_kw
    quantity[..., Action.EXPORT] = surplus + stores.discharge_kw
    quantity[..., Action.SHIFT] = stores.shift_kw
    return quantity


def action_mask(quantity_kw: FloatArray) -> BoolArray:
    """(..., N, 8): which actions have something to move; waiting always has."""
    mask = np.asarray(quantity_kw > LEAST_KW)
    mask[..., Action.WAIT] = True
    return mask


def correction_kw(
    stores: Range, error_kw: FloatArray, takes: BoolArray, gives: BoolArray
) -> FloatArray:
    """How a battery changes its planned power (..., N) because of a forecast error [kW].

    Parameters
    ----------
    stores : Range
        What the stores can do.
    error_kw : (..., N) float64
        What is left beyond the plan; below 0 where it lacks [kW].
    takes, gives : (..., N) bool
        As in `raygrid.market.units.Correction`.
    """
    plan = stores.plan_kw[..., Slot.BATTERY]
    room, stock = (
        plan - stores.least_kw[..., Slot.BATTERY],
        stores.most_kw[..., Slot.BATTERY] - plan,
    )
    taken = np.where(takes, np.clip(error_kw, 0.0, room), 0.0)
    given = np.where(gives, np.clip(-error_kw, 0.0, stock), 0.0)
    return np.asarray(given - taken)


def with_battery(power_kw: FloatArray, change_kw: FloatArray) -> FloatArray:
    """Powers of the stores (..., N, 3) with a change (..., N) of the battery's [kW]."""
    changed = power_kw.copy()
    changed[..., Slot.BATTERY] += change_kw
    return changed


def filled_in_order(
    base_kw: FloatArray, room_kw: FloatArray, amount_kw: FloatArray, order: tuple[Slot, ...]
) -> FloatArray:
    """Add an amount (..., N) to stores (..., N, 3), each up to its room, one after the other."""
    result, left = base_kw.copy(), amount_kw
    for slot in order:
        here = np.minimum(left, room_kw[..., slot])
        result[..., slot] += here
        left = left - here
    return result


def firm_power(action: IntArray, stores: Range) -> FloatArray:
    """What the stores do whatever peers trade (..., N, 3), own use of b not counted yet [kW]."""
    act = action[..., None]
    kind = np.arange(stores.plan_kw.shape[-1])
    storage = np.isin(kind, _STORAGE)
    flexible = np.isin(kind, _FLEXIBLE)
    power = np.where((act == Action.IMPORT) & storage, stores.least_kw, stores.plan_kw)
    power = np.where((act == Action.EXPORT) & storage, stores.most_kw, power)
    return np.where((act == Action.SHIFT) & flexible, stores.least_kw, power)


def power_with(
    action: IntArray,
    stores: Range,
    firm_kw: FloatArray,
    surplus_kw: FloatArray,
    traded_kw: FloatArray | float,
) -> FloatArray:
    """What the stores do (..., N, 3) once own use and what peers traded with them are known [kW].

    Parameters
    ----------
    action : (..., N) int64
        Actions.
    stores : Range
        What the stores can do.
    firm_kw : (..., N, 3) float64
        `firm_power`.
    surplus_kw : (..., N) float64
        b with firm powers [kW].
    traded_kw : (..., N) float64
        What peers sold to charging, or bought from discharging stores, 0 or more [kW].
    """
    charging = action == Action.CHARGE
    amount = np.where(charging, np.maximum(surplus_kw, 0.0) + traded_kw, 0.0)
    taken = filled_in_order(
        np.zeros_like(firm_kw), stores.plan_kw - stores.least_kw, amount, CHARGE_ORDER
    )
    discharging = action == Action.DISCHARGE
    amount = np.where(discharging, np.maximum(-surplus_kw, 0.0) + traded_kw, 0.0)
    given = filled_in_order(
        np.zeros_like(firm_kw), stores.most_kw - stores.plan_kw, amount, DISCHARGE_ORDER
    )
    return np.asarray(firm_kw - taken + given)


@dataclass(frozen=True)
class OrderPricing:
    """At what prices actions become orders, between export and import tariff.

    Attributes
    ----------
    bid_share, offer_share : float
        Bids for a deficit and offers of a surplus: export price plus this share of the way to
        the import price. 1 and 0 are what each has to gain from: its own tariff.
    lookahead_hours : float
        How far ahead the price of stored energy looks [h].
    """

    bid_share: float = 1.0
    offer_share: float = 0.0
    lookahead_hours: float = 12.0


@dataclass(frozen=True)
class PriceTable:
    """Reservation prices of every period, in micro-units between export and import tariff.

    Attributes
    ----------
    bid, offer : (K,) int64
        For what is left of b [1e-6 currency/kWh].
    charge_bid, discharge_offer : (K, N) int64
        For stores: what a kWh bought now saves at the dearest tariff ahead, and what it costs to
        have one back, both less losses and cycle cost [1e-6 currency/kWh].
    """

    bid: IntArray
    offer: IntArray
    charge_bid: IntArray
    discharge_offer: IntArray


def price_table(units: Units, feed: Feed, pricing: OrderPricing) -> PriceTable:
    """Reservation prices from tariffs, batteries' losses and cycle costs.

    A charging battery bids ``eta v - c (1 + eta)`` with v the highest import price within the
    look-ahead, eta its efficiency there and back, c its cycle cost; a discharging one asks
    ``r / eta + c (1 + 1 / eta)``, where r is what refills it: the export price where it has PV,
    else the lowest import price ahead. Both are kept between the tariffs.
    """
    buy, sell = feed.import_price_per_kwh, feed.export_price_per_kwh
    spread = buy - sell
    ahead = max(1, round(pricing.lookahead_hours / feed.period_hours))
    padded = np.concatenate([buy, np.full(ahead - 1, buy[-1])])
    window = np.lib.stride_tricks.sliding_window_view(padded, ahead)
    eta = (units.eta_charge * units.eta_discharge)[:, Slot.BATTERY]
    cycle = units.cycle_cost_per_kwh[:, Slot.BATTERY]
    has_pv = (feed.pv_kw > 0).any(axis=0)
    refill = np.where(has_pv, sell[:, None], window.min(axis=1)[:, None])
    low, high = micro_price(sell), micro_price(buy)

    def within(price: FloatArray) -> IntArray:
        return np.clip(micro_price(price), low[:, None], high[:, None])

    return PriceTable(
        np.clip(micro_price(sell + pricing.bid_share * spread), low, high),
        np.clip(micro_price(sell + pricing.offer_share * spread), low, high),
        within(eta * window.max(axis=1)[:, None] - cycle * (1 + eta)),
        within(refill / eta + cycle * (1 + 1 / eta)),
    )


def mean_price_per_kwh(feed: Feed) -> float:
    """Mean import price, the scale of prices in observations and rewards [currency/kWh]."""
    return float(max(feed.import_price_per_kwh.mean(), 1 / MICRO))
