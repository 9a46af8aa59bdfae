"""From a final schedule to priced bilateral trades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray
from raygrid.grid.distance import MAX_BUSES, electrical_distance, neighbour_order
from raygrid.market.clearing import ClearingResult
from raygrid.market.trades import (
    Matching,
    Trades,
    energy_wh,
    locational_trades,
    ordered_trades,
    proportional_trades,
    sparse_trades,
    uniform_trades,
)
from raygrid.prosumer.population import GRID_ID
from raygrid.scenario.case import Case
from raygrid.scenario.config import Market

MAX_MATCHED_PROSUMERS = 20_000
"""Prosumers up to which the driver gathers schedules to match trades; of more the hosts do."""


@dataclass(frozen=True)
class TradeTotals:
    """What a market's trades come to.

    Attributes
    ----------
    trades : int
        Their number.
    energy_wh, dropped_wh : int
        Their energy, and that of the matches below the minimum trade size [Wh].
    """

    trades: int
    energy_wh: int
    dropped_wh: int


def unmatched(n_prosumers: int, market: Market) -> str:
    """Why hosts match no trades of so many prosumers, in one line; empty where they do."""
    if n_prosumers > market.match_up_to_prosumers:
        return (
            f"no trades were matched: {n_prosumers} prosumers are more than the "
            f"{market.match_up_to_prosumers} of market.match_up_to_prosumers"
        )
    if market.trade_matching == "proportional":
        return (
            f"no trades were matched: {n_prosumers} prosumers are more than the "
            f"{MAX_MATCHED_PROSUMERS} that trade in proportion; set market.trade_matching: sparse"
        )
    return ""


@dataclass(frozen=True)
class MatchedMarket:
    """Trades of a cleared market and what was left out.

    Attributes
    ----------
    trades : Trades
        Priced trades.
    dropped_wh : int
        Energy of the matches below the minimum trade size [Wh].
    """

    trades: Trades
    dropped_wh: int

    @property
    def totals(self) -> TradeTotals:
        """What they come to."""
        return TradeTotals(len(self.trades), int(self.trades.energy_wh.sum()), self.dropped_wh)


def match_trades(
    case: Case, result: ClearingResult, p_kw: FloatArray, market: Market
) -> MatchedMarket:
    """Match sellers and buyers of a final schedule and price their trades.

    Net injections are sold and bought, the grid connection's included, so that meters and
    trades agree and batteries trade at night.

    Parameters
    ----------
    case : Case
        The market.
    result : ClearingResult
        Prices and the grid connection's schedule.
    p_kw : (N, T) float64
        Net injections of the final schedule, in the population's order [kW].
    market : Market
        How to match, to price, and the minimum trade size.

    Returns
    -------
    MatchedMarket
        Trades.
    """
    ids, bus, injection = case.population.prosumer_id, case.population.bus, p_kw
    if case.grid is not None:
        ids = np.append(ids, GRID_ID)
        bus = np.append(bus, case.network.slack)
        injection = np.vstack([injection, result.grid_kw])
    energy = energy_wh(ids, injection, case.period_hours)
    minimum = market.minimum_trade_wh
    matching: Matching
    if market.trade_matching == "proportional":
        matching = proportional_trades(ids, energy, minimum)
    elif case.network.n_buses <= MAX_BUSES:
        matching = sparse_trades(ids, bus, energy, electrical_distance(case.network), minimum)
    else:
        matching = ordered_trades(ids, bus, energy, neighbour_order(case.network), minimum)
    if market.settlement_price == "locational":
        trades = locational_trades(matching, result.lmp_per_kwh, ids, bus)
    else:
        trades = uniform_trades(matching, result.settlement_price_per_kwh)
    return MatchedMarket(trades, int(matching.dropped_wh.sum()))
