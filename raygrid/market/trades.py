"""Bilateral trades in integer watt-hours and micro-currency, so that all sums are exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.matching import match_along, match_pairs

if TYPE_CHECKING:
    import pyarrow as pa

WH_PER_KWH = 1000
MICRO = 1_000_000
"""Micro-units of the currency in one unit."""


@dataclass(frozen=True)
class Matching:
    """Who sells how much to whom; K trades ordered by period, seller and buyer.

    Attributes
    ----------
    seller_id, buyer_id : (K,) int64
        Agents; 0 is the grid connection.
    period : (K,) int64
        Position of the period.
    energy_wh : (K,) int64
        Energy, positive [Wh].
    dropped_wh : (T,) int64
        Energy of the matches below the minimum trade size, which are left out [Wh].
    """

    seller_id: IntArray
    buyer_id: IntArray
    period: IntArray
    energy_wh: IntArray
    dropped_wh: IntArray

    def __len__(self) -> int:
        return len(self.energy_wh)


@dataclass(frozen=True)
class Trades:
    """Priced trades as columns of `trades.parquet`; all arrays are (K,) int64.

    What the buyer pays is what the seller gets: ``energy_wh * price_micro_per_kwh / 1000``
    rounded to the nearest micro-unit, halves upwards, once per trade. The difference to the
    unrounded price, less than half a micro-unit a trade, is the two parties' own.

    Attributes
    ----------
    trade_id, seller_id, buyer_id, period : (K,) int64
        Identifiers and position of the period.
    energy_wh : (K,) int64
        Energy [Wh].
    price_micro_per_kwh : (K,) int64
        Price [1e-6 currency/kWh].
    value_micro : (K,) int64
        Value [1e-6 currency].
    network_micro : (K,) int64
        What the buyer pays on top, to the network account, where locational prices differ
        between buyer and seller; negative where that account pays; zeros for a uniform price.
    """

    trade_id: IntArray
    seller_id: IntArray
    buyer_id: IntArray
    period: IntArray
    energy_wh: IntArray
    price_micro_per_kwh: IntArray
    value_micro: IntArray
    network_micro: IntArray

    def __len__(self) -> int:
        return len(self.trade_id)

    def later(self, first_id: int, first_period: int) -> Trades:
        """The same trades where so many trades and periods came before them."""
        return replace(self, trade_id=self.trade_id + first_id, period=self.period + first_period)

    def table(self) -> pa.Table:
        """The trades as cleared rows of `trades.parquet`."""
        import pyarrow as pa

        from raygrid.schemas import conform

        n = len(self)
        columns: dict[str, object] = {
            name: getattr(self, name)
            for name in (
                "trade_id", "seller_id", "buyer_id", "period", "energy_wh",
                "price_micro_per_kwh", "value_micro", "network_micro",
            )
        }  # fmt: skip
        columns["status"] = pa.repeat("cleared", n)
        columns["reason"] = pa.repeat("", n)
        for name, kind in (
            ("batch_id", pa.int64()), ("sequence", pa.int64()),
            ("tx_hash", pa.string()), ("block", pa.int64()),
        ):  # fmt: skip
            columns[name] = pa.nulls(n, kind)
        return conform("trades", pa.table(columns))


def energy_wh(agent_id: IntArray, p_kw: FloatArray, period_hours: float) -> IntArray:
    """Whole watt-hours per agent and period that sum to exactly zero in each period.

    Largest remainders: every energy is rounded down, then those with the largest fractions, the
    lower id first, are raised by one until the sum is zero. Nobody is off by a whole watt-hour
    and no seller becomes a buyer. Depends on schedules and ids alone, not on their order.

    Parameters
    ----------
    agent_id : (N,) int64
        Unique ids, the grid connection's included.
    p_kw : (N, T) float64
        Net injections of the final schedule, the grid's included [kW].
    period_hours : float
        Length of a period [h].

    Returns
    -------
    (N, T) int64
        Net energies, sold positive [Wh].

    Raises
    ------
    ValueError
        If a period's injections are further from balance than rounding can close, one
        watt-hour in two agents.
    """
    order = np.argsort(agent_id)
    exact = p_kw[order] * (period_hours * WH_PER_KWH)
    down = np.floor(exact)
    fraction = exact - down
    whole = down.astype(np.int64)
    missing = -whole.sum(axis=0)
    can_rise = (fraction > 0).sum(axis=0)
    for t in range(p_kw.shape[1]):
        rise = int(min(max(missing[t], 0), can_rise[t]))
        whole[_largest(fraction[:, t], rise), t] += 1
        rest = int(missing[t]) - rise
        if rest == 0:
            continue
        # Schedules balance to rounding of floats only, so all may be whole and yet not sum up.
        if abs(rest) > 1 + len(order) // 2:
            raise ValueError(f"period {t}: injections are {rest} Wh from balance")
        b = int(np.argmax(np.abs(whole[:, t])))
        if abs(whole[b, t]) <= abs(rest):
            raise ValueError(f"period {t}: injections are {rest} Wh from balance")
        whole[b, t] += rest
    result = np.empty_like(whole)
    result[order] = whole
    return result


def _largest(values: FloatArray, count: int) -> IntArray:
    """Positions of the `count` largest values, the first ones where they tie."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    least = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > least)
    return np.concatenate([above, np.flatnonzero(values == least)[: count - len(above)]])


def proportional_trades(agent_id: IntArray, energy_wh: IntArray, minimum_wh: int = 1) -> Matching:
    """Every buyer buys from every seller in proportion to its sales (5-3), in whole watt-hours.

    The shares ``s_i d_j / sum s`` are rounded down; what rows and columns then lack is handed
    out one watt-hour a pair, to the buyers that lack most (Gale and Ryser's construction, which
    always comes out even). Each trade is within one watt-hour of its share, and all sales and
    purchases are met exactly, but for trades below the minimum, which are dropped.

    Parameters
    ----------
    agent_id : (N,) int64
        Unique ids.
    energy_wh : (N, T) int64
        Net energies that sum to zero in each period, as from `energy_wh` [Wh].
    minimum_wh : int
        Least energy of a trade [Wh].

    Returns
    -------
    Matching
        Trades and dropped energy.

    References
    ----------
    Emeruom 2026 (the thesis), (5-3), generalised to net injections.
    """
    _check_balance(energy_wh)
    order = np.argsort(agent_id)
    ids, energy = agent_id[order], energy_wh[order]
    parts = []
    for t in range(energy.shape[1]):
        sellers, buyers = np.flatnonzero(energy[:, t] > 0), np.flatnonzero(energy[:, t] < 0)
        if not len(sellers):
            continue
        share = _even_shares(energy[sellers, t], -energy[buyers, t])
        i, j = np.nonzero(share)
        parts.append((ids[sellers[i]], ids[buyers[j]], np.full(len(i), t), share[i, j]))
    return _matching(parts, energy.shape[1], minimum_wh)


def _even_shares(sold: IntArray, bought: IntArray) -> IntArray:
    """Integers next to ``sold_i bought_j / sum`` with exact row and column sums."""
    total = int(sold.sum())
    if int(sold.max()) * int(bought.max()) >= 2**62:
        raise ValueError("energies too large for proportional trades; use sparse trades")
    share = np.multiply.outer(sold, bought) // total
    lacking = bought - share.sum(axis=0)
    for i, missing in enumerate(sold - share.sum(axis=1)):
        most = np.argsort(-lacking, kind="stable")[:missing]
        share[i, most] += 1
        lacking[most] -= 1
    return np.asarray(share)


def sparse_trades(
    agent_id: IntArray,
    bus: IntArray,
    energy_wh: IntArray,
    distance: FloatArray,
    minimum_wh: int = 1,
) -> Matching:
    """Few trades that meet the same totals, between electrically near partners first.

    Per period, sellers and buyers of one bus trade first, in order of id; then what buses have
    left is traded bus by bus, the nearest pair of buses first. Each trade uses up its seller or
    its buyer, so there are at most sellers + buyers - 1 of them in a period.

    Parameters
    ----------
    agent_id : (N,) int64
        Unique ids.
    bus : (N,) int64
        Position of each agent's bus.
    energy_wh : (N, T) int64
        Net energies that sum to zero in each period, as from `energy_wh` [Wh].
    distance : (B, B) float64
        Electrical distance between buses.
    minimum_wh : int
        Least energy of a trade; smaller matches are dropped [Wh].

    Returns
    -------
    Matching
        Trades and dropped energy.
    """
    ids, energy, start, present = _by_bus(agent_id, bus, energy_wh)
    trades = matched_nearest(energy, start, present, distance)
    return _matching(_columns(ids, trades), energy.shape[0], minimum_wh)


def matched_nearest(
    energy_wh: IntArray, start: IntArray, present: IntArray, distance: FloatArray
) -> IntArray:
    """Match agents within their bus, then pairs of buses, the nearest first.

    Parameters
    ----------
    energy_wh : (T, N) int64
        Net energies, agents sorted by bus [Wh].
    start : (nb + 1,) int64
        First agent of each bus that has some, and N.
    present : (nb,) int64
        Positions of these buses.
    distance : (B, B) float64
        Electrical distance between buses.

    Returns
    -------
    (K, 4) int64
        Seller, buyer, period and energy, as they were matched.
    """
    one, other = np.triu_indices(len(present), 1)
    nearest = np.argsort(distance[present[one], present[other]], kind="stable")
    trades = _room(energy_wh)
    used = np.array(energy_wh, order="C")
    return trades[: match_pairs(used, start, one[nearest], other[nearest], trades)]


def ordered_trades(
    agent_id: IntArray,
    bus: IntArray,
    energy_wh: IntArray,
    bus_order: IntArray,
    minimum_wh: int = 1,
) -> Matching:
    """`sparse_trades` for networks too large for all distances: along an order of the buses.

    What a bus has left after its own trades goes to the last buses before it in the order that
    have the opposite left; as few trades as `sparse_trades`.

    Parameters
    ----------
    agent_id, bus : (N,) int64
        Unique ids and positions of the agents' buses.
    energy_wh : (N, T) int64
        Net energies that sum to zero in each period, as from `energy_wh` [Wh].
    bus_order : (B,) int64
        Bus positions in which neighbours are electrically near.
    minimum_wh : int
        Least energy of a trade; smaller matches are dropped [Wh].

    Returns
    -------
    Matching
        Trades and dropped energy.
    """
    ids, energy, start, present = _by_bus(agent_id, bus, energy_wh)
    trades = matched_along(energy, start, present, bus_order)
    return _matching(_columns(ids, trades), energy.shape[0], minimum_wh)


def matched_along(
    energy_wh: IntArray, start: IntArray, present: IntArray, bus_order: IntArray
) -> IntArray:
    """Match agents within their bus, then along an order of all buses; as `matched_nearest`."""
    rank = np.empty(len(bus_order), dtype=np.int64)
    rank[bus_order] = np.arange(len(bus_order))
    trades = _room(energy_wh)
    used = np.array(energy_wh, order="C")
    return trades[: match_along(used, start, np.argsort(rank[present]), trades)]


def _by_bus(
    agent_id: IntArray, bus: IntArray, energy_wh: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Agents sorted by bus and id: ids, (T, N) energies, start of each bus, buses with agents."""
    _check_balance(energy_wh)
    order = np.lexsort((agent_id, bus))
    present, first = np.unique(bus[order], return_index=True)
    energy = np.ascontiguousarray(energy_wh[order].T)
    return agent_id[order], energy, np.append(first, len(order)).astype(np.int64), present


def _room(energy: IntArray) -> IntArray:
    """Room for the most trades there can be: seller, buyer, period, energy."""
    return np.empty((int(np.maximum((energy != 0).sum(axis=1) - 1, 0).sum()), 4), dtype=np.int64)


def _columns(
    ids: IntArray, trades: IntArray
) -> list[tuple[IntArray, IntArray, IntArray, IntArray]]:
    seller, buyer, period, traded = trades.T
    return [(ids[seller], ids[buyer], period, traded)]


def _check_balance(energy: IntArray) -> None:
    """Refuse energies that do not sum to zero."""
    off = np.flatnonzero(energy.sum(axis=0))
    if len(off):
        raise ValueError(f"period {int(off[0])}: energies do not sum to zero")


def _matching(
    parts: list[tuple[IntArray, IntArray, IntArray, IntArray]], n_periods: int, minimum_wh: int
) -> Matching:
    """Put trades in order and leave out those below the minimum."""
    empty = np.zeros(0, dtype=np.int64)
    seller, buyer, period, energy = (
        np.concatenate([empty, *(part[k] for part in parts)]) for k in range(4)
    )
    small = energy < minimum_wh
    dropped = np.zeros(n_periods, dtype=np.int64)
    np.add.at(dropped, period[small], energy[small])
    keep = np.flatnonzero(~small)
    keep = keep[np.lexsort((buyer[keep], seller[keep], period[keep]))]
    return Matching(seller[keep], buyer[keep], period[keep], energy[keep], dropped)


def micro_price(price_per_kwh: FloatArray) -> IntArray:
    """Prices in whole micro-units per kWh, to the nearest."""
    return np.rint(np.asarray(price_per_kwh) * MICRO).astype(np.int64)


def micro_value(energy_wh: IntArray, price_micro_per_kwh: IntArray) -> IntArray:
    """Values in whole micro-units, to the nearest, halves upwards."""
    return (energy_wh * price_micro_per_kwh + WH_PER_KWH // 2) // WH_PER_KWH


def uniform_trades(matching: Matching, price_per_kwh: FloatArray, first_id: int = 0) -> Trades:
    """Price all trades of a period alike (5-4).

    Parameters
    ----------
    matching : Matching
        Who trades with whom.
    price_per_kwh : (T,) float64
        Settlement price (5-2) [currency/kWh].
    first_id : int
        Id of the first trade.

    Returns
    -------
    Trades
        Priced trades.
    """
    price = micro_price(price_per_kwh)[matching.period]
    return _priced(matching, price, np.zeros_like(price), first_id)


def locational_trades(
    matching: Matching,
    lmp_per_kwh: FloatArray,
    agent_id: IntArray,
    bus: IntArray,
    first_id: int = 0,
) -> Trades:
    """Price every trade at its seller's bus; the buyer pays the rest of its own bus's price.

    That rest goes to, or where negative comes from, the network account, which thereby ends
    with the congestion surplus: each party trades at the price of its own bus.

    Parameters
    ----------
    matching : Matching
        Who trades with whom.
    lmp_per_kwh : (B, T) float64
        Locational prices [currency/kWh].
    agent_id, bus : (N,) int64
        Ids of the agents and positions of their buses.
    first_id : int
        Id of the first trade.

    Returns
    -------
    Trades
        Priced trades, with the network account's part in `network_micro`.
    """
    order = np.argsort(agent_id)

    def bus_of(ids: IntArray) -> IntArray:
        return np.asarray(bus[order[np.searchsorted(agent_id, ids, sorter=order)]])

    sells, buys = bus_of(matching.seller_id), bus_of(matching.buyer_id)
    return priced_at_buses(matching, lmp_per_kwh, sells, buys, first_id)


def priced_at_buses(
    matching: Matching,
    lmp_per_kwh: FloatArray,
    seller_bus: IntArray,
    buyer_bus: IntArray,
    first_id: int = 0,
) -> Trades:
    """`locational_trades` where the buses of each trade's seller and buyer are known."""
    price = micro_price(lmp_per_kwh)
    at_seller = price[seller_bus, matching.period]
    at_buyer = price[buyer_bus, matching.period]
    paid, earned = (micro_value(matching.energy_wh, p) for p in (at_buyer, at_seller))
    return _priced(matching, at_seller, paid - earned, first_id)


def _priced(matching: Matching, price: IntArray, network: IntArray, first_id: int) -> Trades:
    ids = np.arange(first_id, first_id + len(matching), dtype=np.int64)
    value = micro_value(matching.energy_wh, price)
    return Trades(
        ids,
        matching.seller_id,
        matching.buyer_id,
        matching.period,
        matching.energy_wh,
        price,
        value,
        network,
    )
