"""The intraday double auction of one interval (AI-TEM III.D, Algorithm 1, steps 5 to 8).

Offers and bids cross in merit order at a provisional price between the last accepted offer and
bid. Whoever accepts that price is matched, orders of one zone first, each trade only as large as
lines and voltages allow; a trade that loads one near its limit pays the network account a
congestion fee. What is left over balances with the grid at tariff, outside of the auction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.grid.network import NetworkRows
from raygrid.market.auction_kernels import (
    BUYER,
    ENERGY,
    FEE,
    PRICE,
    SELLER,
    TRADE_COLUMNS,
    clear_many,
)
from raygrid.market.feeder_limits import without_noise
from raygrid.market.trades import WH_PER_KWH, Trades, micro_value

MAX_MICRO = 2**31 - 1
"""Largest magnitude of a price, as a settlement batch carries it [1e-6 currency/kWh]."""
MAX_WH = 2**40 - 1
"""Largest energy of an order, as a settlement batch carries it [Wh]."""


@dataclass(frozen=True)
class AuctionRules:
    """How an auction clears.

    Attributes
    ----------
    price_rule : {'uniform', 'pay_as_bid'}
        All trades at the provisional price, or every seller at its offer and every buyer at its
        bid, where the network account takes the difference.
    same_zone_first : bool
        Whether orders of one zone are matched before those of different zones.
    congestion_micro_per_kwh : int
        Fee of a trade that leaves the row it loads most at its limit [1e-6 currency/kWh].
    congestion_start : float
        Loading from which on the fee rises from zero, as a share of the limit in [0, 1).
    """

    price_rule: Literal["uniform", "pay_as_bid"] = "uniform"
    same_zone_first: bool = True
    congestion_micro_per_kwh: int = 50_000
    congestion_start: float = 0.8

    def __post_init__(self) -> None:
        if self.price_rule not in ("uniform", "pay_as_bid"):
            raise InputError(
                f"unknown price rule {self.price_rule!r}", "auction", "take uniform or pay_as_bid"
            )
        if not (0 <= self.congestion_start < 1 and 0 <= self.congestion_micro_per_kwh <= MAX_MICRO):
            raise InputError(
                f"congestion fee {self.congestion_micro_per_kwh} from "
                f"{self.congestion_start:g} of the limit on",
                "auction",
                "give a fee of 0 or more that starts between 0 and 1",
            )


@dataclass(frozen=True)
class Orders:
    """K orders of one interval; a participant may have several, all on one side.

    Attributes
    ----------
    quantity_wh : (K,) int64
        Offered positive, bid negative, 0: no order [Wh].
    price_micro_per_kwh : (K,) int64
        Least price of an offer, greatest of a bid [1e-6 currency/kWh].
    participant : (K,) int64
        Who it is.
    bus, zone : (K,) int64
        Position of the bus, and the zone's number.
    moves : (K,) bool
        Whether the network feels what is accepted. Not where the energy flows in any case (a
        surplus that is exported if no peer takes it): who is paid for it loads no line.
    """

    quantity_wh: IntArray
    price_micro_per_kwh: IntArray
    participant: IntArray
    bus: IntArray
    zone: IntArray
    moves: BoolArray

    def __post_init__(self) -> None:
        shape = np.shape(self.quantity_wh)
        if len(shape) != 1 or any(
            np.shape(getattr(self, name)) != shape for name in self.__dataclass_fields__
        ):
            raise ValueError("orders are arrays of one length")
        if (np.abs(self.price_micro_per_kwh) > MAX_MICRO).any() or (
            np.abs(self.quantity_wh) > MAX_WH
        ).any():
            raise ValueError("an order's price or energy is larger than settlement can carry")

    def __len__(self) -> int:
        return len(self.quantity_wh)


@dataclass(frozen=True)
class Feeder:
    """Limits of lines and voltages as positions: 0 midway between a row's bounds, 1 at a bound.

    Attributes
    ----------
    per_kw : (B, M) float64
        Change of the rows' positions per kW fed in at each bus.
    offset : (M, T) float64
        Middle between the bounds, in units of half the room between them.
    """

    per_kw: FloatArray
    offset: FloatArray

    @classmethod
    def of(cls, rows: NetworkRows) -> Feeder:
        """Rows as positions.

        Raises
        ------
        InputError
            A row without a bound on one side.
        """
        half = (rows.upper - rows.lower) / 2
        if not (np.isfinite(half).all() and (half > 0).all()):
            bad = int(np.flatnonzero(~(np.isfinite(half) & (half > 0)).all(axis=1))[0])
            raise InputError(
                f"the bounds of {rows.kind[bad]} {rows.index[bad]} leave no room or have no end",
                "network limits",
                "give every limit a lower and an upper bound, apart from each other",
            )
        if not np.allclose(half, half[:, :1], rtol=1e-9, atol=0):
            raise InputError(
                "limits change their width from period to period",
                "network limits",
                "give every period the same room",
            )
        width = half[:, :1]
        return cls(
            np.ascontiguousarray(without_noise((rows.matrix / width).T)),
            (rows.upper + rows.lower) / 2 / width,
        )

    def position(self, p_bus_kw: FloatArray, period: int) -> FloatArray:
        """(..., M): positions of the rows with injections (..., B) [kW]."""
        return np.asarray(p_bus_kw @ self.per_kw - self.offset[:, period])


@dataclass(frozen=True)
class AuctionResult:
    """Trades of an interval, in whole watt-hours and micro-currency; R trades of K orders.

    Attributes
    ----------
    seller, buyer : (R,) int64
        Orders.
    energy_wh : (R,) int64
        Energy, positive [Wh].
    price_micro_per_kwh : (R,) int64
        What the seller gets [1e-6 currency/kWh].
    network_micro_per_kwh : (R,) int64
        What the buyer pays on top, to the network account; 0 or more [1e-6 currency/kWh].
    provisional_micro_per_kwh : int or None
        Price at which offers and bids cross; None where they do not.
    position : (M,) float64
        Positions of the rows with the trades.
    """

    seller: IntArray
    buyer: IntArray
    energy_wh: IntArray
    price_micro_per_kwh: IntArray
    network_micro_per_kwh: IntArray
    provisional_micro_per_kwh: int | None
    position: FloatArray

    def __len__(self) -> int:
        return len(self.energy_wh)

    def surplus_micro(self, orders: Orders) -> float:
        """Bids less offers over all trades: what all parties and the network gain [1e-6]."""
        price = orders.price_micro_per_kwh
        gain = (price[self.buyer] - price[self.seller]) * self.energy_wh
        return float(gain.sum()) / WH_PER_KWH

    def trades(
        self, participant_id: IntArray, orders: Orders, period: int, first_id: int = 0
    ) -> Trades:
        """The trades as they are settled, one for each pair of participants and price.

        Parameters
        ----------
        participant_id : (N,) int64
            Ids of the participants.
        orders : Orders
            What was cleared.
        period : int
            Position of the period.
        first_id : int
            Id of the first trade.
        """
        price, fee = self.price_micro_per_kwh, self.network_micro_per_kwh
        seller = participant_id[orders.participant[self.seller]]
        buyer = participant_id[orders.participant[self.buyer]]
        order = np.lexsort((fee, price, buyer, seller))
        value = micro_value(self.energy_wh, price)
        paid = micro_value(self.energy_wh, price + fee)
        return Trades(
            np.arange(first_id, first_id + len(order), dtype=np.int64),
            seller[order],
            buyer[order],
            np.full(len(order), period, dtype=np.int64),
            self.energy_wh[order],
            price[order],
            value[order],
            (paid - value)[order],
        )


def clear_auction(
    orders: Orders,
    rules: AuctionRules,
    period_hours: float,
    feeder: Feeder | None = None,
    p_bus_kw: FloatArray | None = None,
    period: int = 0,
) -> AuctionResult:
    """Clear the double auction of one interval.

    Parameters
    ----------
    orders : Orders
        Offers and bids.
    rules : AuctionRules
        Price rule, zones, congestion fee.
    period_hours : float
        Length of the interval [h].
    feeder : Feeder, optional
        Limits of lines and voltages; without it none is looked at.
    p_bus_kw : (B,) float64, optional
        Injections before the trades, all that flows in any case among them [kW]. Where they
        break a limit already, no trade may add to that.
    period : int
        Position of the period, for the limits, and for who goes first where prices tie.

    Returns
    -------
    AuctionResult
        Trades. Nobody sells below its offer nor pays more than its bid, fees counted.
    """
    k = len(orders)
    effect, position = np.zeros((k, 0)), np.zeros((1, 0))
    largest = np.zeros(0)
    if feeder is not None and p_bus_kw is not None:
        kw_per_wh = 1 / (WH_PER_KWH * period_hours)
        effect = np.ascontiguousarray(feeder.per_kw[orders.bus] * kw_per_wh)
        largest = np.abs(feeder.per_kw).max(axis=0, initial=0.0) * kw_per_wh
        position = feeder.position(p_bus_kw, period)[None].copy()
    sellers = int((orders.quantity_wh > 0).sum())
    trades = np.empty((1, 2 * sellers * (k - sellers) + 1, TRADE_COLUMNS), dtype=np.int64)
    count, provisional = np.zeros(1, dtype=np.int64), np.zeros((1, 2), dtype=np.int64)
    clear_many(
        orders.quantity_wh[None],
        orders.price_micro_per_kwh[None],
        orders.participant,
        orders.zone,
        orders.moves[None],
        effect,
        largest,
        position,
        np.array([period % k if k else 0], dtype=np.int64),
        rules.price_rule == "uniform",
        rules.same_zone_first,
        rules.congestion_micro_per_kwh,
        rules.congestion_start,
        trades,
        count,
        provisional,
    )
    done = trades[0, : count[0]]
    return AuctionResult(
        done[:, SELLER].copy(),
        done[:, BUYER].copy(),
        done[:, ENERGY].copy(),
        done[:, PRICE].copy(),
        done[:, FEE].copy(),
        int(provisional[0, 1]) if provisional[0, 0] else None,
        position[0],
    )


def largest_surplus_micro(
    orders: Orders,
    period_hours: float,
    feeder: Feeder | None = None,
    p_bus_kw: FloatArray | None = None,
    period: int = 0,
) -> float:
    """Most that all parties together could gain within the limits, by linear programming.

    The bound that `AuctionResult.surplus_micro` is held against: accepted energies x maximise
    bids less offers such that sales equal purchases and positions stay within -1 and 1. A row
    beyond its limit already may stay where it is, as in the auction.

    Parameters
    ----------
    orders, period_hours, feeder, p_bus_kw, period
        As `clear_auction`.

    Returns
    -------
    float
        Greatest surplus [1e-6 currency].

    Raises
    ------
    ValueError
        If the program is not solved.
    """
    from scipy.optimize import linprog

    if not len(orders):
        return 0.0
    sign = np.sign(orders.quantity_wh).astype(np.float64)
    left, right = np.zeros((0, len(orders))), np.zeros(0)
    if feeder is not None and p_bus_kw is not None:
        move = sign * orders.moves / (WH_PER_KWH * period_hours)
        change = (feeder.per_kw[orders.bus] * move[:, None]).T
        at = feeder.position(p_bus_kw, period)
        left = np.vstack([change, -change])
        right = np.concatenate([np.maximum(1 - at, 0), np.maximum(1 + at, 0)])
    done = linprog(
        sign * orders.price_micro_per_kwh / WH_PER_KWH,
        A_ub=left if len(left) else None,
        b_ub=right if len(left) else None,
        A_eq=sign[None],
        b_eq=[0.0],
        bounds=[(0.0, float(abs(q))) for q in orders.quantity_wh],
    )
    if done.status != 0:
        raise ValueError(f"the bound's linear program: {done.message}")
    return float(-done.fun)
