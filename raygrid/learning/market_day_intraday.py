"""The intraday stage of a market day: its periods one by one on top of the day-ahead plan."""

from __future__ import annotations

from dataclasses import dataclass, fields
from time import perf_counter
from typing import Protocol

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.learning.market_day import DayAheadPlan
from raygrid.market.auction_kernels import BUYER, ENERGY, FEE, PRICE, SELLER
from raygrid.market.intraday import IntradayMarket, Outcome
from raygrid.market.rule import plan_action, sharing_action
from raygrid.market.sessions import balance_trades
from raygrid.market.trades import MICRO, Trades, micro_value


class Acts(Protocol):
    """Who chooses everybody's actions."""

    def act(self, last: Outcome | None = None) -> IntArray:
        """Actions (1, N) of the market's next period; `last` is the outcome of the one before."""
        ...


class PlanFollower:
    """Everybody does as planned and trades what is left over (`plan_action`).

    Parameters
    ----------
    market : IntradayMarket
        The market that it acts in.
    shares : bool
        Whether batteries also take and give for others (`sharing_action`).
    """

    def __init__(self, market: IntradayMarket, *, shares: bool = False) -> None:
        self.market, self.shares = market, shares

    def act(self, last: Outcome | None = None) -> IntArray:
        """Actions (E, N) of the next period."""
        view, rule = self.market.outlook, self.market.feed.correction
        if not self.shares or rule is None:
            return plan_action(view)
        return sharing_action(view, rule.takes[view.period], rule.gives[view.period])


@dataclass(frozen=True)
class IntradayDay:
    """What the periods of a day came to; N prosumers in the market's order, T periods.

    Attributes
    ----------
    outcomes : tuple of Outcome
        Each period, one community.
    trades : Trades
        What peers traded and meters bore out, with global periods.
    money_micro : (N,) int64
        What these trades earn less what they pay [1e-6 currency].
    network_micro : int
        What the network account takes; all money sums to zero [1e-6 currency].
    grid_cost, wear : (N,) float64
        Balance at tariff, positions taken off, and wear of the stores [currency].
    injection_kw : (T, N) float64
        Measured net injections, positions included [kW].
    energy_kwh : (N, 3) float64
        Energy in the stores at the day's end, for the next day to begin with [kWh].
    seconds : (T,) float64
        Wall time of each period, the decision included [s].
    """

    outcomes: tuple[Outcome, ...]
    trades: Trades
    money_micro: IntArray
    network_micro: int
    grid_cost: FloatArray
    wear: FloatArray
    injection_kw: FloatArray
    energy_kwh: FloatArray
    seconds: FloatArray

    def of(self, name: str) -> FloatArray:
        """A field of the outcomes, period by period (T, ...)."""
        return np.stack([getattr(outcome, name)[0] for outcome in self.outcomes])

    @property
    def cost(self) -> FloatArray:
        """(N,) what the day cost beside day-ahead trades [currency]."""
        return self.grid_cost + self.wear - self.money_micro / MICRO


def run_intraday(
    market: IntradayMarket,
    bidder: Acts,
    plan: DayAheadPlan | None = None,
    *,
    day: int = 0,
    energy_kwh: FloatArray | None = None,
    correct: bool = True,
    first_trade: int = 0,
) -> IntradayDay:
    """Run the periods of a day.

    Parameters
    ----------
    market : IntradayMarket
        The market, which takes up the plan and is reset to the day's first period.
    bidder : Acts
        Who acts in it.
    plan : DayAheadPlan, optional
        Positions and powers of the stores; without it the market's feed stays as it is.
    day : int
        Which day of the feed.
    energy_kwh : (N, 3) float64, optional
        Energy in the stores as the day before left it; their initial energy by default [kWh].
    correct : bool
        Whether batteries make up for forecast errors (`DayAheadPlan.correction`).
    first_trade : int
        Id of the first trade; by default that after the plan's trades.

    Raises
    ------
    ValueError
        If the plan is for another day.
    """
    feed, units = market.feed, market.units
    first = day * feed.day_periods
    if plan is not None:
        if plan.first_period != first:
            raise ValueError(f"the plan begins at period {plan.first_period}, the day at {first}")
        rule = plan.correction(units, feed, correct=correct)
        market.commit(first, plan.position_kw, plan.plan_kw, rule)
        first_trade = first_trade or len(plan.trades)
    market.reset(np.array([first]), None if energy_kwh is None else energy_kwh[None])
    outcomes: list[Outcome] = []
    seconds = np.zeros(feed.day_periods)
    for t in range(feed.day_periods):
        started = perf_counter()
        outcomes.append(market.step(bidder.act(outcomes[-1] if outcomes else None)))
        seconds[t] = perf_counter() - started

    def sums(name: str) -> FloatArray:
        return np.asarray(np.sum([getattr(outcome, name)[0] for outcome in outcomes], axis=0))

    injection = np.stack(
        [(o.pv_kw - o.curtailed_kw - o.load_kw + o.store_kw.sum(axis=-1))[0] for o in outcomes]
    )
    return IntradayDay(
        outcomes=tuple(outcomes),
        trades=intraday_trades(outcomes, units.prosumer_id, first_trade),
        money_micro=np.asarray(sums("money_micro"), dtype=np.int64),
        network_micro=sum(int(o.network_micro[0]) for o in outcomes),
        grid_cost=sums("grid_cost"),
        wear=sums("cycle_cost"),
        injection_kw=injection,
        energy_kwh=outcomes[-1].energy_kwh[0],
        seconds=seconds,
    )


def sessions_of(
    plan: DayAheadPlan | None, day: IntradayDay, market: IntradayMarket
) -> tuple[Trades, ...]:
    """Trades of each of `raygrid.market.sessions.SESSIONS` of a day.

    Parameters
    ----------
    plan : DayAheadPlan or None
        Firm trades, if there was a day-ahead market.
    day : IntradayDay
        Trades that meters bore out, and what was balanced at tariff.
    market : IntradayMarket
        Prosumers and tariffs.

    Returns
    -------
    tuple of Trades
        With global periods.
    """
    feed, first = market.feed, int(day.outcomes[0].period[0])
    rows = slice(first, first + len(day.outcomes))
    balance = balance_trades(
        day.of("import_kwh"),
        day.of("export_kwh"),
        market.units.prosumer_id,
        feed.import_price_per_kwh[rows],
        feed.export_price_per_kwh[rows],
        first,
    )
    nothing = np.zeros(0, dtype=np.int64)
    firm = Trades(*[nothing] * len(fields(Trades))) if plan is None else plan.trades
    return (firm, day.trades, *balance)


def intraday_trades(outcomes: list[Outcome], prosumer_id: IntArray, first_trade: int = 0) -> Trades:
    """The delivered trades of some periods as settlement takes them.

    Parameters
    ----------
    outcomes : list of Outcome
        Periods of one community.
    prosumer_id : (N,) int64
        The prosumers.
    first_trade : int
        Id of the first trade.
    """
    n = len(prosumer_id)
    parts = []
    for outcome in outcomes:
        rows = outcome.trades[0, : int(outcome.n_trades[0])]
        rows = rows[rows[:, ENERGY] > 0]
        seller, buyer = prosumer_id[rows[:, SELLER] % n], prosumer_id[rows[:, BUYER] % n]
        order = np.lexsort((rows[:, FEE], rows[:, PRICE], buyer, seller))
        period = np.full(len(rows), outcome.period[0], dtype=np.int64)
        parts.append(np.column_stack([seller, buyer, period, rows[:, [ENERGY, PRICE, FEE]]])[order])
    seller, buyer, period, energy, price, fee = np.concatenate(parts).T.copy()
    value = micro_value(energy, price)
    return Trades(
        np.arange(first_trade, first_trade + len(seller), dtype=np.int64),
        seller,
        buyer,
        period,
        energy,
        price,
        value,
        micro_value(energy, price + fee) - value,
    )
