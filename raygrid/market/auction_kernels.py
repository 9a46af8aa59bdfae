"""Compiled loops of the double auction, in whole watt-hours and micro-currency.

Everything here is an integer but the network: a row's position x is 0 midway between its bounds
and 1 or -1 at them, and `effect` is what a watt-hour fed in by an order adds to it.
"""

from __future__ import annotations

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.prosumer.compiled import compiled, inner

SELLER, BUYER, ENERGY, PRICE, FEE = range(5)
"""Columns of the kernels' trades: orders, [Wh], seller's price, what the buyer adds [1e-6/kWh]."""
TRADE_COLUMNS = 5


@inner
def _provisional(
    quantity: IntArray, price: IntArray, asks: IntArray, bids: IntArray
) -> tuple[bool, int]:
    """Price between the last accepted offer and bid in merit order, by supply and demand.

    The scarcer the supply, the nearer the bid: share demand / (supply + demand) of the way.
    """
    supply, demand = np.int64(0), np.int64(0)
    for i in asks:
        supply += quantity[i]
    for j in bids:
        demand -= quantity[j]
    crossed = False
    lowest = highest = np.int64(0)
    i, j, left_ask, left_bid = 0, 0, np.int64(0), np.int64(0)
    if len(asks) > 0 and len(bids) > 0:
        left_ask, left_bid = quantity[asks[0]], -quantity[bids[0]]
    while i < len(asks) and j < len(bids) and price[asks[i]] <= price[bids[j]]:
        crossed = True
        lowest, highest = price[asks[i]], price[bids[j]]
        traded = min(left_ask, left_bid)
        left_ask -= traded
        left_bid -= traded
        if left_ask == 0:
            i += 1
            if i < len(asks):
                left_ask = quantity[asks[i]]
        if left_bid == 0:
            j += 1
            if j < len(bids):
                left_bid = -quantity[bids[j]]
    if not crossed:
        return False, 0
    # A float share: the products of energies and prices could leave 64 bits.
    share = demand / (supply + demand)
    return True, int(lowest + np.int64(np.floor(share * (highest - lowest))))


@inner
def _room(
    position: FloatArray,
    effect: FloatArray,
    i: int,
    j: int,
    moves_i: bool,
    moves_j: bool,
    end: float,
) -> float:
    """Energy that i can sell to j before a row's position leaves -end to end [Wh]."""
    room = np.inf
    for m in range(len(position)):
        change = 0.0
        if moves_i:
            change += effect[i, m]
        if moves_j:
            change -= effect[j, m]
        if change > 0.0:
            room = min(room, max(0.0, (end - position[m]) / change))
        elif change < 0.0:
            room = min(room, max(0.0, (-end - position[m]) / change))
    return room


@inner
def _congestion(
    position: FloatArray,
    effect: FloatArray,
    largest: FloatArray,
    i: int,
    j: int,
    moves_i: bool,
    moves_j: bool,
    energy: int,
    start: float,
) -> float:
    """0 to 1: how near to a limit the trade leaves the row that it loads most."""
    worst = 0.0
    for m in range(len(position)):
        change = 0.0
        if moves_i:
            change += effect[i, m]
        if moves_j:
            change -= effect[j, m]
        after = position[m] + change * energy
        if change * after > 0.0 and abs(after) > start:
            level = min(1.0, (abs(after) - start) / (1.0 - start))
            worst = max(worst, level * min(1.0, abs(change) / largest[m]))
    return worst


@inner
def _sorted_orders(
    quantity: IntArray, price: IntArray, first: int, side: int, order: IntArray
) -> int:
    """Orders of one side, best price first; where prices tie, those from `first` on go first."""
    n, count = len(quantity), 0
    for step in range(n):
        k = (first + step) % n
        if quantity[k] * side > 0:
            at = count
            while at > 0 and (price[order[at - 1]] - price[k]) * side > 0:
                order[at] = order[at - 1]
                at -= 1
            order[at] = k
            count += 1
    return count


@compiled
def clear_many(
    quantity: IntArray,
    price: IntArray,
    owner: IntArray,
    zone: IntArray,
    moves: BoolArray,
    effect: FloatArray,
    largest: FloatArray,
    position: FloatArray,
    first: IntArray,
    uniform: bool,
    same_zone_first: bool,
    congestion_micro: int,
    congestion_start: float,
    trades: IntArray,
    count: IntArray,
    provisional: IntArray,
) -> None:
    """Clear E double auctions of K orders each; see `raygrid.market.auction.clear_auction`.

    Parameters
    ----------
    quantity : (E, K) int64
        Offered positive, bid negative [Wh].
    price : (E, K) int64
        Reservation prices [1e-6 currency/kWh].
    owner, zone : (K,) int64
        Whose order it is, and in which zone.
    moves : (E, K) bool
        Whether the network feels what is accepted: not where it flows in any case.
    effect : (K, M) float64
        Change of the rows' positions per watt-hour fed in.
    largest : (M,) float64
        Largest magnitude that an order's effect can have.
    position : (E, M) float64
        Positions of the rows; updated.
    first : (E,) int64
        Order that goes first where prices tie.
    uniform : bool
        All trades at the provisional price; otherwise the seller's offer and the buyer's bid.
    same_zone_first : bool
        Whether orders of one zone trade before those of different zones.
    congestion_micro : int
        What a trade pays that leaves the row it loads most at its limit [1e-6 currency/kWh].
    congestion_start : float
        Position from which on loading costs, in [0, 1).
    trades : (E, R, 5) int64
        Filled with the trades; matching ends where the room for them does.
    count : (E,) int64
        Set to the number of trades.
    provisional : (E, 2) int64
        Set to whether offers and bids cross and at what price.
    """
    n = quantity.shape[1]
    asks_room, bids_room = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    left = np.empty(n, dtype=np.int64)
    for e in range(quantity.shape[0]):
        asks = asks_room[: _sorted_orders(quantity[e], price[e], first[e], 1, asks_room)]
        bids = bids_room[: _sorted_orders(quantity[e], price[e], first[e], -1, bids_room)]
        crossed, middle = _provisional(quantity[e], price[e], asks, bids)
        provisional[e, 0], provisional[e, 1] = int(crossed), middle
        count[e] = 0
        if not crossed:
            continue
        for k in range(n):
            left[k] = abs(quantity[e, k])
        at = position[e]
        for step in range(0 if same_zone_first else 1, 2):
            for j in bids:
                if price[e, j] < middle:
                    break
                for i in asks:
                    if left[j] == 0 or price[e, i] > middle or count[e] == trades.shape[1]:
                        break
                    if left[i] == 0 or owner[i] == owner[j]:
                        continue
                    if step == 0 and zone[i] != zone[j]:
                        continue
                    both = min(left[i], left[j])
                    paid = middle if uniform else price[e, i]
                    energy, fee = int(both), 0
                    if moves[e, i] or moves[e, j]:
                        room = _room(at, effect, i, j, moves[e, i], moves[e, j], 1.0)
                        energy = int(min(float(both), np.floor(room)))
                        share = _congestion(
                            at, effect, largest, i, j, moves[e, i], moves[e, j], energy,
                            congestion_start,
                        )  # fmt: skip
                        fee = int(np.ceil(share * congestion_micro))
                        if paid + fee > price[e, j]:
                            # Too dear for all of it: what fits below where loading costs.
                            room = _room(
                                at, effect, i, j, moves[e, i], moves[e, j], congestion_start
                            )
                            energy = int(min(float(energy), np.floor(room)))
                            fee = 0
                        for m in range(len(at)):
                            if moves[e, i]:
                                at[m] += energy * effect[i, m]
                            if moves[e, j]:
                                at[m] -= energy * effect[j, m]
                    if energy == 0:
                        continue
                    if not uniform:
                        fee = price[e, j] - paid
                    row = trades[e, count[e]]
                    row[SELLER], row[BUYER], row[ENERGY] = i, j, energy
                    row[PRICE], row[FEE] = paid, fee
                    count[e] += 1
                    left[i] -= energy
                    left[j] -= energy


@compiled
def deliver_many(
    trades: IntArray,
    count: IntArray,
    owner: IntArray,
    fed_in: IntArray,
    drawn: IntArray,
    sold: IntArray,
    bought: IntArray,
) -> None:
    """Cut E markets' trades down to what meters bear out, in proportion.

    A trade keeps the smaller of its seller's share fed in / sold and its buyer's share
    drawn / bought, rounded down, so that nobody's trades exceed its meter.

    Parameters
    ----------
    trades, count
        As `clear_many`; energies are updated, down to 0.
    owner : (K,) int64
        Participants of the orders.
    fed_in, drawn : (E, N) int64
        Net energies of the meters; of a participant only one is above 0 [Wh].
    sold, bought : (E, N) int64
        Set to what each participant's trades sell and buy after the cut [Wh].
    """
    for e in range(len(count)):
        sold[e, :] = 0
        bought[e, :] = 0
        for k in range(count[e]):
            sold[e, owner[trades[e, k, SELLER]]] += trades[e, k, ENERGY]
            bought[e, owner[trades[e, k, BUYER]]] += trades[e, k, ENERGY]
        for k in range(count[e]):
            row = trades[e, k]
            i, j = owner[row[SELLER]], owner[row[BUYER]]
            share = min(1.0, min(fed_in[e, i] / sold[e, i], drawn[e, j] / bought[e, j]))
            if share < 1.0:
                row[ENERGY] = np.int64(np.floor(share * row[ENERGY]))
        sold[e, :] = 0
        bought[e, :] = 0
        for k in range(count[e]):
            sold[e, owner[trades[e, k, SELLER]]] += trades[e, k, ENERGY]
            bought[e, owner[trades[e, k, BUYER]]] += trades[e, k, ENERGY]


@compiled
def money_many(
    trades: IntArray,
    count: IntArray,
    owner: IntArray,
    money_micro: IntArray,
    network_micro: IntArray,
) -> None:
    """What E markets' trades pay and earn: as `raygrid.market.trades.micro_value`.

    Parameters
    ----------
    trades, count, owner
        As `deliver_many`.
    money_micro : (E, N) int64
        Set to what each participant earns less what it pays [1e-6 currency].
    network_micro : (E,) int64
        Set to what the network account takes; all money of a market sums to zero.
    """
    for e in range(len(count)):
        money_micro[e, :] = 0
        network_micro[e] = 0
        for k in range(count[e]):
            row = trades[e, k]
            earned = (row[ENERGY] * row[PRICE] + 500) // 1000
            paid = (row[ENERGY] * (row[PRICE] + row[FEE]) + 500) // 1000
            money_micro[e, owner[row[SELLER]]] += earned
            money_micro[e, owner[row[BUYER]]] -= paid
            network_micro[e] += paid - earned


@compiled
def matched_many(trades: IntArray, count: IntArray, matched: IntArray) -> None:
    """Energy of each order's trades in E markets.

    Parameters
    ----------
    trades, count
        As `clear_many`.
    matched : (E, K) int64
        Set to the energies, 0 or more [Wh].
    """
    for e in range(len(count)):
        matched[e, :] = 0
        for k in range(count[e]):
            matched[e, trades[e, k, SELLER]] += trades[e, k, ENERGY]
            matched[e, trades[e, k, BUYER]] += trades[e, k, ENERGY]
