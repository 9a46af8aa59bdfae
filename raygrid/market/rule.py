"""The rule that acts where nobody has learned to: thresholds on surplus and tariff."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.actions import LEAST_KW, Action
from raygrid.market.intraday import Outlook
from raygrid.market.units import Feed, Slot

LEAST_SHARED_KW = 0.05
"""Room or stock of a battery below this is not offered to others [kW]."""


def dear(feed: Feed, share: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(K,) bool: periods whose import price is above a share of the way through its day's range.

    Where the tariff never changes every period is dear, so that batteries still discharge.
    """
    whole = feed.n_days * feed.day_periods
    days = feed.import_price_per_kwh[:whole].reshape(feed.n_days, -1)
    limit = days.min(axis=1) + share * np.ptp(days, axis=1)
    is_dear = (days > limit[:, None]) | (np.ptp(days, axis=1) == 0)[:, None]
    rest = np.ones(feed.n_periods - whole, dtype=np.bool_)
    return np.concatenate([is_dear.ravel(), rest])


def rule_action(outlook: Outlook, is_dear: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> IntArray:
    """Actions (E, N) of the stated rule.

    With a surplus: run what can be shifted, else charge, else sell. Without one: discharge where
    power is dear, else charge the EV by shifting where it is cheap, else buy. Whatever a rule
    names must have something to move, or the next one counts.

    Parameters
    ----------
    outlook : Outlook
        What prosumers know.
    is_dear : (K,) bool
        `dear` periods.
    """
    mask = outlook.mask
    k = np.minimum(outlook.period, len(is_dear) - 1)
    costly = is_dear[k][:, None]
    surplus = outlook.surplus_kw > 0
    chosen = np.where(mask[..., Action.BUY], Action.BUY, Action.WAIT)
    cheap = mask[..., Action.SHIFT] & ~costly & ~surplus
    chosen = np.where(cheap & _has_slack(outlook), Action.SHIFT, chosen)
    chosen = np.where(mask[..., Action.DISCHARGE] & costly & ~surplus, Action.DISCHARGE, chosen)
    chosen = np.where(surplus & mask[..., Action.SELL], Action.SELL, chosen)
    chosen = np.where(surplus & mask[..., Action.CHARGE], Action.CHARGE, chosen)
    return np.where(surplus & mask[..., Action.SHIFT], Action.SHIFT, chosen).astype(np.int64)


def plan_action(outlook: Outlook) -> IntArray:
    """Actions (E, N) of who follows its day-ahead plan (optimisation only).

    Stores do as planned, corrected where forecasts were wrong (`raygrid.market.units.Correction`);
    what is then left over is offered to peers and what lacks is bid for, and the grid balances
    the rest.

    Parameters
    ----------
    outlook : Outlook
        What prosumers know.
    """
    mask = outlook.mask
    chosen = np.where(mask[..., Action.BUY], Action.BUY, Action.WAIT)
    return np.where(mask[..., Action.SELL], Action.SELL, chosen).astype(np.int64)


def sharing_action(outlook: Outlook, takes: BoolArray, gives: BoolArray) -> IntArray:
    """Actions (E, N) of who follows its plan and lends its battery to the community beyond it.

    As `plan_action`, but where all forecasts together leave a surplus, batteries whose stored
    energy is worth more than the export price bid for it with the room that they have; where they
    lack, those whose energy is worth less than the import price offer it. Who has to sell, or to
    buy, for itself does that, and EVs that could be drained do not discharge.

    Parameters
    ----------
    outlook : Outlook
        What prosumers know.
    takes, gives : (E, N) bool
        For whom charging and discharging is cheaper than the tariff
        (`raygrid.market.units.Correction`).
    """
    chosen, stores, mask = plan_action(outlook), outlook.stores, outlook.mask
    room = (stores.plan_kw - stores.least_kw)[..., Slot.BATTERY] > LEAST_SHARED_KW
    stock = (stores.most_kw - stores.plan_kw)[..., Slot.BATTERY] > LEAST_SHARED_KW
    drains_ev = (stores.most_kw - stores.plan_kw)[..., Slot.EV] > LEAST_KW
    left = outlook.surplus_kw
    together = left.sum(axis=-1, keepdims=True)
    charge = (together > 0) & takes & room & (left <= LEAST_KW) & mask[..., Action.CHARGE]
    discharge = (together < 0) & gives & stock & ~drains_ev & (left >= -LEAST_KW)
    discharge &= mask[..., Action.DISCHARGE]
    chosen = np.where(charge, Action.CHARGE, chosen)
    return np.where(discharge, Action.DISCHARGE, chosen).astype(np.int64)


def stated_action(
    outlook: Outlook, feed: Feed, is_dear: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> IntArray:
    """Actions (E, N) of who has not learned: shared plans where days were planned, else the rule.

    Parameters
    ----------
    outlook : Outlook
        What prosumers know.
    feed : Feed
        The market's; its correction says that a day was planned ahead.
    is_dear : (K,) bool
        `dear` periods.
    """
    plan = feed.correction
    if plan is None:
        return rule_action(outlook, is_dear)
    k = np.minimum(outlook.period, feed.n_periods - 1)
    return sharing_action(outlook, plan.takes[k], plan.gives[k])


def _has_slack(outlook: Outlook) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(E, N): whose EV, beside shiftable load, can still take power."""
    stores: FloatArray = outlook.stores.plan_kw - outlook.stores.least_kw
    return np.asarray(stores[..., Slot.EV] > 0)
