"""The day-ahead stage of a market day: what was forecast is cleared, and what that commits to.

Only trades between prosumers are commitments: who sold a day ahead owes that energy, whatever its
meter then shows. What the grid delivers is at tariff on what is metered, so it commits nobody. What
stores were planned to do stands until an action of the intraday stage says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.marketplace import match_trades
from raygrid.market.messages import HostFinal, OperatorFinal
from raygrid.market.session import LocalExchange, clear, local_exchange
from raygrid.market.trades import WH_PER_KWH, Trades
from raygrid.market.units import N_SLOTS, Correction, Feed, Slot, Units
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GRID_ID, Population
from raygrid.prosumer.stores import StoreKind, Stores
from raygrid.scenario.case import Case
from raygrid.scenario.config import Horizon, Market, Voltage

if TYPE_CHECKING:
    from raygrid.learning.market_days import LearningScenario, Predictions

OPTIONS = ClearingOptions(rho=1.0, relative_tolerance=1e-4, max_iterations=3000)
"""Settings of the day-ahead clearing. All costs are linear here, since elastic demand stays at its
level: prices stand at tariffs and stored values for hours, and a penalty of 1 moves schedules less
between them than the default 0.1. Most days take 200 to 400 rounds, one in ten more than 500."""

CURTAILED_KW = 1e-3
"""Planned PV this far below what was forecast is curtailed."""


@dataclass(frozen=True)
class DayAheadPlan:
    """What the day-ahead market of a day decided; N prosumers in the market's order.

    Attributes
    ----------
    first_period : int
        Global period at which the day begins.
    status : ClearingStatus
        How the clearing ended.
    reason : str
        One line: why it ended short; empty otherwise.
    trades : Trades
        Trades between prosumers, with global periods; the grid connection's are none.
    price_per_kwh : (B, T) float64
        Locational prices, kept between export and import price [currency/kWh].
    position_wh : (T, N) int64
        Net energy sold to peers [Wh].
    position_kw : (T, N) float64
        The same as power, `Feed.position_kw` [kW].
    plan_kw : (T, N, 3) float64
        Powers of the stores, discharge positive, `Feed.plan_kw` [kW].
    planned_kw : (T, N) float64
        What the plan leaves for the grid [kW].
    pv_max_kw : (T, N) float64
        What may be fed in of PV where the plan curtails it for a limit, else infinite [kW].
    stored_value_per_kwh : (T, N) float64
        Value of a kWh in the battery, the multiplier of its energy [currency/kWh].
    money_micro : (N,) int64
        What the trades earn less what they pay [1e-6 currency].
    network_micro : int
        What the network account takes; all money sums to zero [1e-6 currency].
    cost : float
        Of the whole plan at tariff, wear included (AI-TEM 2) [currency].
    iterations : int
        Rounds of ADMM.
    seconds : float
        Wall time of clearing and matching [s].
    """

    first_period: int
    status: ClearingStatus
    reason: str
    trades: Trades
    price_per_kwh: FloatArray
    position_wh: IntArray
    position_kw: FloatArray
    plan_kw: FloatArray
    planned_kw: FloatArray
    pv_max_kw: FloatArray
    stored_value_per_kwh: FloatArray
    money_micro: IntArray
    network_micro: int
    cost: float
    iterations: int
    seconds: float

    def correction(self, units: Units, feed: Feed, *, correct: bool = True) -> Correction:
        """When batteries make up for forecast errors: where that is cheaper than the tariff.

        A kWh that is left over is worth ``eta_charge mu - c`` in the battery and the export price
        outside; one that lacks costs ``mu / eta_discharge + c`` or the import price, mu being the
        value of a stored kWh and c the cycle cost.

        Parameters
        ----------
        units, feed
            The market's.
        correct : bool
            Whether they do at all.
        """
        rows = slice(self.first_period, self.first_period + len(self.position_kw))
        battery = (slice(None), Slot.BATTERY)
        cycle, mu = units.cycle_cost_per_kwh[battery], self.stored_value_per_kwh
        buy, sell = feed.import_price_per_kwh[rows, None], feed.export_price_per_kwh[rows, None]
        return Correction(
            self.planned_kw,
            np.asarray(correct & (units.eta_charge[battery] * mu - cycle > sell)),
            np.asarray(correct & (mu / units.eta_discharge[battery] + cycle < buy)),
            self.pv_max_kw,
            mu,
        )


def forecast_case(
    found: LearningScenario,
    day: int,
    forecast: Predictions | None = None,
    energy_kwh: FloatArray | None = None,
    *,
    voltages: bool = True,
) -> Case:
    """The case of one day, as it is known a day ahead.

    Loads are those of the shapes, elastic demand at the level that it has without a price, and PV
    costs nothing: the costs of AI-TEM (2), which are those that the intraday stage counts. Stores
    end the day at least where the scenario has them end it, or where full charging gets them.

    Parameters
    ----------
    found : LearningScenario
        The community over all of its days.
    day : int
        Which day of the history.
    forecast : Predictions, optional
        Loads and PV limits of all periods, as forecast a day ahead; those measured without it.
    energy_kwh : (N, 3) float64, optional
        Energy in the stores when the day begins, as the day before left it; by default their
        initial energy [kWh].
    voltages : bool
        Whether voltages are kept where the scenario has no limits for them, as the intraday stage
        keeps them; on radial networks alone.

    Raises
    ------
    InputError
        If the day cannot be served, or a prosumer has no forecast.
    """
    from raygrid.learning.market_days import voltage_limits
    from raygrid.prosumer.community import GivenCommunity

    market = found.days.market
    feed, n = market.feed, len(market.units)
    periods = feed.day_periods
    rows = slice(day * periods, (day + 1) * periods)
    load, pv = feed.load_kw[rows].T, feed.pv_kw[rows].T
    if forecast is not None:
        where = f"scenario {found.scenario.name!r}"
        load, pv = forecast.of(market.units.prosumer_id, where)
        load, pv = load[:, rows], pv[:, rows]
    start = start_energy(feed, market.units, rows.start, energy_kwh)
    whole = found.case.population
    none, nothing = np.zeros(n), np.zeros((n, periods))
    people = Population(
        **{name: getattr(whole, name) for name in _KEPT},
        alpha=none,
        beta=none,
        gamma=none,
        omega=none,
        delta=none,
        soc_initial_kwh=start[:, Slot.BATTERY],
        generation_min_kw=nothing,
        generation_limit_kw=np.ascontiguousarray(pv),
        demand_min_kw=nothing,
        demand_limit_kw=nothing,
        fixed_load_kw=np.ascontiguousarray(load),
        stores=_stores_of_day(whole.stores, feed, rows, start),
    )
    scenario = found.draft.scenario
    changes: dict[str, object] = {
        "horizon": Horizon(
            periods=periods, period_hours=feed.period_hours, start=scenario.horizon.start
        )
    }
    if voltages and scenario.voltage is None and found.network.is_radial:
        v_min, v_max, v_slack = voltage_limits(scenario)
        changes["voltage"] = Voltage(v_min_pu=v_min, v_max_pu=v_max, v_slack_pu=v_slack)
    tariffs = found.draft.tariffs
    return replace(
        found.draft,
        scenario=scenario.model_copy(update=changes),
        network=found.network,
        community=GivenCommunity(people),
        other_days=(),
        tariffs=None if tariffs is None else {k: v[rows] for k, v in tariffs.items()},
        limits_known=True,
    ).surveyed()


_KEPT = (
    "prosumer_id", "bus", "size_weight", "soc_min_kwh", "soc_max_kwh", "soc_final_min_kwh",
    "charge_max_kw", "discharge_max_kw", "eta_charge", "eta_discharge", "cycle_cost_per_kwh",
)  # fmt: skip


def start_energy(
    feed: Feed, units: Units, period: int, energy_kwh: FloatArray | None = None
) -> FloatArray:
    """Energy (N, 3) in the stores before a period, raised to what later needs ask for [kWh].

    What is used when the period begins is still in it, as `IntradayMarket.reset` takes it.
    """
    energy = units.initial_kwh if energy_kwh is None else energy_kwh
    used = feed.used_kwh[period]
    gain = units.eta_charge * feed.charge_max_kw[period] * feed.period_hours
    least = np.maximum(feed.floor_kwh[period] - gain, units.min_kwh)
    return np.asarray(np.clip(energy - used, least, units.max_kwh) + used)


def _stores_of_day(whole: Stores, feed: Feed, rows: slice, start_kwh: FloatArray) -> Stores:
    """The stores with the stays of one day, cut off at its ends."""
    if not len(whole):
        return whole
    first, periods = rows.start, rows.stop - rows.start
    arrival, departure = whole.arrival - first, whole.departure - first
    here = whole.is_stay & (departure > 0) & (arrival < periods)
    most = max(int(here.sum(axis=1).max(initial=0)), 1)
    order = np.argsort(~here, axis=1, kind="stable")[:, :most]

    def of_day(values: FloatArray) -> FloatArray:
        return np.take_along_axis(np.where(here, values, 0.0), order, axis=1)

    slot = np.where(whole.kind == StoreKind.EV, Slot.EV, Slot.SHIFTABLE)
    day = replace(
        whole,
        initial_kwh=start_kwh[whole.owner, slot],
        arrival=of_day(np.maximum(arrival, 0.0)),
        departure=of_day(np.minimum(departure, periods)),
        needed_kwh=of_day(np.where(departure <= periods, whole.needed_kwh, 0.0)),
        used_kwh=of_day(np.where(arrival >= 0, whole.used_kwh, 0.0)),
    )
    floor = np.maximum(feed.floor_kwh[rows.stop - 1][whole.owner, slot], _even_at(whole, rows.stop))
    limits = day.limits(periods)
    energy = day.initial_kwh
    for t in range(periods):
        gain = day.eta_charge * limits.charge_kw[:, t] * feed.period_hours
        energy = np.minimum(energy - limits.used_kwh[:, t] + gain, day.max_kwh)
    return replace(day, final_min_kwh=np.minimum(floor, energy))


def _even_at(stores: Stores, period: int) -> FloatArray:
    """Energy (M,) at a period's start of EVs that charge evenly over their stays; 0 of others."""
    during = stores.is_stay & (stores.arrival < period) & (stores.departure > period)
    length = np.where(during, stores.departure - stores.arrival, 1.0)
    left = (stores.departure - period) / length
    even = np.where(during, stores.needed_kwh - left * stores.used_kwh, 0.0).sum(axis=1)
    return np.where(stores.kind == StoreKind.EV, even, 0.0)


def clear_day_ahead(
    case: Case,
    first_period: int = 0,
    *,
    options: ClearingOptions | None = None,
    market: Market | None = None,
) -> DayAheadPlan:
    """Clear a day in this process by consensus ADMM, and match its trades.

    Parameters
    ----------
    case : Case
        As `forecast_case` makes it.
    first_period : int
        Global period at which the day begins.
    options : ClearingOptions, optional
        Settings of the clearing.
    market : Market, optional
        How trades are matched, and the smallest of them. Prices are locational, kept between the
        tariffs, so that nobody is worse off than with the grid.

    Raises
    ------
    ValueError
        If the case has no grid connection.
    """
    if case.grid is None:
        raise ValueError("a day-ahead market balances with the grid")
    started = perf_counter()
    options = options or OPTIONS
    result, dispatch = _cleared(case, options)
    if dispatch is None and options.network_constrained:
        # Whoever cannot keep the limits a day ahead leaves them to re-dispatch.
        short = result.reason
        result, dispatch = _cleared(case, replace(options, network_constrained=False))
        result = replace(
            result, status=ClearingStatus.INFEASIBLE, reason=f"cleared without limits: {short}"
        )
    if dispatch is None:
        return _no_plan(case, first_period, result, perf_counter() - started)
    tariff = case.grid.export_price_per_kwh, case.grid.import_price_per_kwh
    result = replace(result, lmp_per_kwh=np.clip(result.lmp_per_kwh, *tariff))
    how = (market or Market()).model_copy(update={"settlement_price": "locational"})
    matched = match_trades(case, result, dispatch.p_kw, how).trades
    trades = between_peers(matched, first_period)
    return plan_of(case, result, dispatch, trades, first_period, perf_counter() - started)


def plan_of(
    case: Case,
    result: ClearingResult,
    dispatch: Dispatch,
    trades: Trades,
    first_period: int,
    seconds: float,
) -> DayAheadPlan:
    """What a cleared day commits to.

    Parameters
    ----------
    case : Case
        What was cleared.
    result : ClearingResult
        How.
    dispatch : Dispatch
        The final schedule, in the population's order.
    trades : Trades
        From `between_peers`.
    first_period : int
        Global period at which the day begins.
    seconds : float
        Wall time of clearing and matching [s].
    """
    ids = case.population.prosumer_id
    position = net_sales_wh(trades, ids, first_period, case.n_periods)
    position_kw = position / (WH_PER_KWH * case.period_hours)
    return DayAheadPlan(
        first_period=first_period,
        status=result.status,
        reason=result.reason,
        trades=trades,
        price_per_kwh=result.lmp_per_kwh,
        position_wh=position,
        position_kw=position_kw,
        plan_kw=_store_powers(dispatch),
        planned_kw=np.ascontiguousarray(dispatch.p_kw.T) - position_kw,
        pv_max_kw=_pv_max(case, dispatch),
        stored_value_per_kwh=np.ascontiguousarray(dispatch.stored_value_per_kwh.T),
        money_micro=money_micro(trades, ids),
        network_micro=int(trades.network_micro.sum()),
        cost=-result.welfare,
        iterations=result.iterations,
        seconds=seconds,
    )


class _Remembered:
    """An exchange in this process that remembers its final schedule."""

    def __init__(self, inner: LocalExchange) -> None:
        self.inner, self.past = inner, inner.past
        self.open, self.round, self.tighten = inner.open, inner.round, inner.tighten
        self.dual_value_quanta = inner.dual_value_quanta
        self.final: tuple[OperatorFinal, Sequence[HostFinal]] | None = None

    def finish(self) -> tuple[OperatorFinal, Sequence[HostFinal]]:
        """Final schedule and its sums."""
        self.final = self.inner.finish()
        return self.final


def _cleared(case: Case, options: ClearingOptions) -> tuple[ClearingResult, Dispatch | None]:
    """A clearing, and its final schedule in the population's order, if there is one."""
    exchange = _Remembered(local_exchange(case, options))
    result = clear(case, options, exchange)
    assert exchange.final is not None  # every clearing ends with one attempt
    operator, hosts = exchange.final
    if not hosts:
        return result, None
    block = exchange.inner.blocks[0]
    whole = Dispatch.joined([part for _, _, part in block.final_chunks(operator.messages[0])])
    place = {int(i): k for k, i in enumerate(block.population.prosumer_id)}
    return result, whole.take(np.array([place[int(i)] for i in case.population.prosumer_id]))


def _store_powers(dispatch: Dispatch) -> FloatArray:
    """Powers (T, N, 3) of battery, EV and shiftable load, discharge positive [kW]."""
    n, periods = dispatch.p_kw.shape
    powers = np.zeros((periods, n, N_SLOTS))
    powers[..., Slot.BATTERY] = (dispatch.discharge_kw - dispatch.charge_kw).T
    if dispatch.stores is not None:
        powers[..., Slot.EV] = -dispatch.stores.net_kw(n, StoreKind.EV).T
        powers[..., Slot.SHIFTABLE] = -dispatch.stores.net_kw(n, StoreKind.SHIFTABLE).T
    return powers


def _pv_max(case: Case, dispatch: Dispatch) -> FloatArray:
    """(T, N) planned PV where it is below what was forecast, else infinite [kW]."""
    planned, forecast = dispatch.generation_kw.T, case.population.generation_limit_kw.T
    return np.where(planned < forecast - CURTAILED_KW, planned, np.inf)


def _no_plan(case: Case, first_period: int, result: ClearingResult, seconds: float) -> DayAheadPlan:
    """Nothing was agreed on; stores wait until they must."""
    n, shape = len(case.population), (case.n_periods, len(case.population))
    assert case.grid is not None
    price = np.broadcast_to(case.grid.import_price_per_kwh, result.lmp_per_kwh.shape)
    none = np.zeros(0, dtype=np.int64)
    return DayAheadPlan(
        first_period=first_period,
        status=ClearingStatus.INFEASIBLE,
        reason=result.reason,
        trades=Trades(none, none, none, none, none, none, none, none),
        price_per_kwh=price,
        position_wh=np.zeros(shape, dtype=np.int64),
        position_kw=np.zeros(shape),
        plan_kw=np.zeros((*shape, N_SLOTS)),
        planned_kw=np.zeros(shape),
        pv_max_kw=np.full(shape, np.inf),
        stored_value_per_kwh=np.zeros(shape),
        money_micro=np.zeros(n, dtype=np.int64),
        network_micro=0,
        cost=float("nan"),
        iterations=result.iterations,
        seconds=seconds,
    )


def between_peers(trades: Trades, first_period: int) -> Trades:
    """The trades without the grid connection, numbered anew, with global periods."""
    rows = np.flatnonzero((trades.seller_id != GRID_ID) & (trades.buyer_id != GRID_ID))
    columns = {f.name: getattr(trades, f.name)[rows] for f in fields(Trades)}
    columns["trade_id"] = np.arange(len(rows), dtype=np.int64)
    columns["period"] = columns["period"] + first_period
    return Trades(**columns)


def net_sales_wh(
    trades: Trades, prosumer_id: IntArray, first_period: int, n_periods: int
) -> IntArray:
    """(T, N) what each prosumer's trades sell less what they buy [Wh].

    Parameters
    ----------
    trades : Trades
        Trades between prosumers, with global periods.
    prosumer_id : (N,) int64
        The prosumers.
    first_period, n_periods : int
        Global period at which the day begins, and its length T.
    """
    net = np.zeros((n_periods, len(prosumer_id)), dtype=np.int64)
    at = trades.period - first_period
    np.add.at(net, (at, rows_of(trades.seller_id, prosumer_id)), trades.energy_wh)
    np.subtract.at(net, (at, rows_of(trades.buyer_id, prosumer_id)), trades.energy_wh)
    return net


def money_micro(trades: Trades, prosumer_id: IntArray) -> IntArray:
    """(N,) what each prosumer's trades earn less what they pay [1e-6 currency]."""
    money = np.zeros(len(prosumer_id), dtype=np.int64)
    np.add.at(money, rows_of(trades.seller_id, prosumer_id), trades.value_micro)
    paid = trades.value_micro + trades.network_micro
    np.subtract.at(money, rows_of(trades.buyer_id, prosumer_id), paid)
    return money


def rows_of(wanted_id: IntArray, prosumer_id: IntArray) -> IntArray:
    """Rows of these prosumers, each of whom is there."""
    order = np.argsort(prosumer_id)
    return np.asarray(order[np.searchsorted(prosumer_id, wanted_id, sorter=order)])
