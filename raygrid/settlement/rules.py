"""Which trades of a batch settle, and what money moves: the contract's rules in numpy.

The contract is `contracts/src`. Both are held together by the vectors in `contracts/vectors`
and by a differential fuzz test, so that an audit can recompute a chain's balances from trades
and readings alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from raygrid.arrays import BoolArray, IntArray

MAX_ENERGY_WH = 2**40 - 1
"""Largest energy of one trade that a batch can carry [Wh]."""
MAX_READING_WH = 2**47 - 1
"""Largest magnitude of a reading that a batch can carry [Wh]."""
MAX_PRICE_MICRO = 2**31 - 1
"""Largest magnitude of a price that a batch can carry [1e-6 currency/kWh]."""
MAX_MEMBERS = 2**24 - 1
"""Most participants of a group."""
MAX_TRADES = 2**22 - 1
"""Most trades of a batch here: their energies then add up in 64 bits."""

_WH_PER_KWH = 1000
_PPM = 1_000_000


class VoidReason(IntEnum):
    """Why a participant's trades, or one trade, are void; numbered as in the contract."""

    NONE = 0
    """They settle."""
    NO_READING = 1
    """The participant's reading is missing."""
    MISMATCH = 2
    """Its net trades are further from its reading than the tolerance (5-7)."""
    BOTH_SIDES = 3
    """It both sells and buys, which no net reading can bear out."""
    NO_FUNDS = 4
    """Its balance does not cover all that its trades debit."""
    NETWORK_FUNDS = 5
    """The network account cannot pay the difference between the trade's two prices."""


BUYER = 0x80
"""Added to the reason of a trade that is void because of its buyer rather than its seller."""


@dataclass(frozen=True)
class Tolerance:
    """How far net trades may be from a reading (5-7): ``wh + ppm / 1e6 * |reading|``.

    Attributes
    ----------
    wh : int
        The same for every reading [Wh].
    ppm : int
        Part of the reading [1e-6].
    """

    wh: int
    ppm: int

    def __post_init__(self) -> None:
        if not (0 <= self.wh < 2**62 and 0 <= self.ppm < 2**32):
            raise ValueError(f"tolerance {self.wh} Wh and {self.ppm} ppm is out of range")


@dataclass(frozen=True)
class BatchInput:
    """All trades of one group of participants in one period, with the readings; K trades.

    Attributes
    ----------
    group, period : int
        Whose trades and of when; both fit 32 bits.
    first_id : int
        Id of the group's first participant.
    seller, buyer : (K,) int64
        Ids of participants.
    energy_wh : (K,) int64
        Energy [Wh].
    seller_price_micro_per_kwh, buyer_price_micro_per_kwh : (K,) int64
        What the seller gets and the buyer pays [1e-6 currency/kWh].
    readings_wh : (M,) int64
        Net readings of the group's first M participants, fed in positive [Wh].
    reading_valid : (M,) bool
        Where there is a reading.

    Raises
    ------
    ValueError
        If a number is outside of what a batch can carry.
    """

    group: int
    period: int
    first_id: int
    seller: IntArray
    buyer: IntArray
    energy_wh: IntArray
    seller_price_micro_per_kwh: IntArray
    buyer_price_micro_per_kwh: IntArray
    readings_wh: IntArray
    reading_valid: BoolArray

    def __post_init__(self) -> None:
        members, trades = len(self.readings_wh), len(self.energy_wh)
        last = self.first_id + members - 1
        _check_range("group", np.array([self.group]), 0, 2**32 - 1)
        _check_range("period", np.array([self.period]), 0, 2**32 - 1)
        _check_range("number of members", np.array([members]), 0, MAX_MEMBERS)
        _check_range("number of trades", np.array([trades]), 0, MAX_TRADES)
        _check_range("seller", self.seller, self.first_id, last)
        _check_range("buyer", self.buyer, self.first_id, last)
        _check_range("energy [Wh]", self.energy_wh, 0, MAX_ENERGY_WH)
        for price in (self.seller_price_micro_per_kwh, self.buyer_price_micro_per_kwh):
            _check_range("price [1e-6/kWh]", price, -MAX_PRICE_MICRO - 1, MAX_PRICE_MICRO)
        readings = self.readings_wh[self.reading_valid]
        _check_range("reading [Wh]", readings, -MAX_READING_WH, MAX_READING_WH)

    def __len__(self) -> int:
        return len(self.energy_wh)


@dataclass(frozen=True)
class BatchOutcome:
    """What a batch does; K trades among M participants.

    Attributes
    ----------
    void_reason : (K,) int64
        `VoidReason` of each trade, plus `BUYER` where the buyer is the reason; 0 if it settles.
    member_reason : (M,) int64
        `VoidReason` of each participant.
    delta_micro : (M,) int64
        Change of each balance [1e-6 currency].
    network_micro : int
        Change of the network account's balance [1e-6 currency]; all changes sum to zero.
    energy_wh : int
        Energy of the trades that settle [Wh].
    """

    void_reason: IntArray
    member_reason: IntArray
    delta_micro: IntArray
    network_micro: int
    energy_wh: int

    @property
    def settled(self) -> BoolArray:
        """(K,) bool, which trades settle."""
        return np.asarray(self.void_reason == VoidReason.NONE)


@dataclass(frozen=True)
class _Sums:
    """What participants trade and owe; (M,) int64 each."""

    sold_wh: IntArray
    bought_wh: IntArray
    credit_micro: IntArray
    debit_micro: IntArray

    @property
    def network_micro(self) -> int:
        return int(self.debit_micro.sum()) - int(self.credit_micro.sum())


def exact_value(energy_wh: IntArray, price_micro_per_kwh: IntArray) -> IntArray:
    """`raygrid.market.trades.micro_value` over all energies and prices that a batch can carry.

    To the nearest micro-unit, halves upwards (towards plus infinity); the product alone would
    not fit 64 bits.
    """
    kwh, wh = np.divmod(energy_wh, _WH_PER_KWH)
    rest = (wh * price_micro_per_kwh + _WH_PER_KWH // 2) // _WH_PER_KWH
    return np.asarray(kwh * price_micro_per_kwh + rest)


def settle_batch(
    batch: BatchInput,
    balance_micro: IntArray,
    tolerance: Tolerance,
    network_balance_micro: int = 0,
) -> BatchOutcome:
    """Verify (5-7) and settle (5-8) one batch.

    A participant is void whose reading is missing, who both sells and buys, or whose net trades
    are further from its reading than the tolerance; then, of what is left, one whose balance
    does not cover all that it is debited. A trade with a void party is void. If the network
    account could not bear the rest, the trades that it would pay for are void too. What is left
    moves money from buyers to sellers, each side's value rounded on its own, and the network
    account takes or bears the difference.

    Parameters
    ----------
    batch : BatchInput
        Trades and readings.
    balance_micro : (M,) int64
        Balances of the participants that have a place in `readings_wh` [1e-6 currency].
    tolerance : Tolerance
        Of the contract.
    network_balance_micro : int
        Balance of the network account [1e-6 currency].

    Returns
    -------
    BatchOutcome
        Void trades and changes of balances.

    Raises
    ------
    ValueError
        If the values of all trades add up to 2^63 or more, which the contract refuses too.
    """
    earned = exact_value(batch.energy_wh, batch.seller_price_micro_per_kwh)
    paid = exact_value(batch.energy_wh, batch.buyer_price_micro_per_kwh)
    if _magnitude(earned) + _magnitude(paid) >= 2**63:
        raise ValueError("the values of the batch's trades add up to 2^63 or more")
    seller, buyer = batch.seller - batch.first_id, batch.buyer - batch.first_id
    members = len(batch.readings_wh)

    def add_up(void: IntArray) -> _Sums:
        live = void == VoidReason.NONE
        sold, bought, credit, debit = np.zeros((4, members), dtype=np.int64)
        for party, value, energy in ((seller, earned, sold), (buyer, -paid, bought)):
            np.add.at(energy, party[live], batch.energy_wh[live])
            np.add.at(credit, party[live], np.maximum(value[live], 0))
            np.add.at(debit, party[live], np.maximum(-value[live], 0))
        return _Sums(sold, bought, credit, debit)

    def void_trades(reason: IntArray) -> IntArray:
        by_buyer = np.where(reason[buyer] != VoidReason.NONE, reason[buyer] | BUYER, 0)
        return np.asarray(np.where(reason[seller] != VoidReason.NONE, reason[seller], by_buyer))

    sums = add_up(np.zeros(len(batch), dtype=np.int64))
    reason = meter_faults(
        sums.sold_wh, sums.bought_wh, batch.readings_wh, batch.reading_valid, tolerance
    )
    void = void_trades(reason)
    sums = add_up(void)
    reason = np.where(sums.debit_micro > balance_micro, VoidReason.NO_FUNDS, reason)
    void = void_trades(reason)
    sums = add_up(void)
    if network_balance_micro + sums.network_micro < 0:
        short = (void == VoidReason.NONE) & (paid < earned)
        void = np.where(short, VoidReason.NETWORK_FUNDS, void)
        sums = add_up(void)
    return BatchOutcome(
        void_reason=void.astype(np.int64),
        member_reason=reason.astype(np.int64),
        delta_micro=sums.credit_micro - sums.debit_micro,
        network_micro=sums.network_micro,
        energy_wh=int(sums.sold_wh.sum()),
    )


def meter_faults(
    sold_wh: IntArray,
    bought_wh: IntArray,
    readings_wh: IntArray,
    reading_valid: BoolArray,
    tolerance: Tolerance,
) -> IntArray:
    """Why readings do not bear out trades (5-7), per participant.

    Parameters
    ----------
    sold_wh, bought_wh : (M,) int64
        What each participant sold and bought [Wh]; one without trades is not verified.
    readings_wh : (M,) int64
        Net readings, fed in positive [Wh].
    reading_valid : (M,) bool
        Where there is a reading.
    tolerance : Tolerance
        Of the contract.

    Returns
    -------
    (M,) int64
        `VoidReason.NONE`, `NO_READING`, `BOTH_SIDES` or `MISMATCH`.
    """
    magnitude = np.where(reading_valid, np.abs(readings_wh), 0)
    whole, rest = np.divmod(magnitude, _PPM)
    limit = tolerance.wh + whole * tolerance.ppm + rest * tolerance.ppm // _PPM
    off = np.abs(sold_wh - bought_wh - np.where(reading_valid, readings_wh, 0))
    both = (sold_wh > 0) & (bought_wh > 0)
    reason = np.where(off > limit, VoidReason.MISMATCH, VoidReason.NONE)
    reason = np.where(both, VoidReason.BOTH_SIDES, reason)
    reason = np.where(reading_valid, reason, VoidReason.NO_READING)
    traded = (sold_wh > 0) | (bought_wh > 0)
    return np.where(traded, reason, VoidReason.NONE).astype(np.int64)


def _magnitude(values: IntArray) -> int:
    """Exact sum of magnitudes, which may exceed 64 bits."""
    size = np.abs(values)
    return (int((size >> 32).sum()) << 32) + int((size & 0xFFFFFFFF).sum())


def _check_range(what: str, values: IntArray, least: int, most: int) -> None:
    wrong = values[(values < least) | (values > most)]
    if len(wrong):
        raise ValueError(f"{what} {wrong[0]} is outside of {least} to {most}")
