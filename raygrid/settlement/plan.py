"""From trades and readings to batches, and from batches to the transactions that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.errors import InputError
from raygrid.market.sessions import slots
from raygrid.market.trades import micro_value
from raygrid.settlement.rules import BatchInput
from raygrid.settlement.statements import buyer_price_micro

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BITS = 32
"""A batch id is its group, shifted by so many bits, plus its period."""


def batch_id(group: int, period: int) -> int:
    """The id of the batch of a group and period: the same whenever it is planned."""
    return (group << GROUP_BITS) + period


@dataclass(frozen=True)
class ClearedTrades:
    """What was cleared and is to be settled; K trades.

    Attributes
    ----------
    trade_id, seller_id, buyer_id, energy_wh, price_micro_per_kwh, network_micro : (K,) int64
        Columns of `trades.parquet`; the price is the seller's.
    slot : (K,) int64
        Which session of which period, `raygrid.market.sessions.slots`: the period itself where
        there is one session. It is the contract's period.
    buyer_price_micro_per_kwh : (K,) int64
        The buyer's price, the seller's own where one price holds for both.
    """

    trade_id: IntArray
    seller_id: IntArray
    buyer_id: IntArray
    slot: IntArray
    energy_wh: IntArray
    price_micro_per_kwh: IntArray
    network_micro: IntArray
    buyer_price_micro_per_kwh: IntArray

    def __len__(self) -> int:
        return len(self.trade_id)

    def take(self, rows: IntArray) -> ClearedTrades:
        """Only these trades."""
        return ClearedTrades(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def from_table(cls, trades: pa.Table) -> ClearedTrades:
        """Read rows of `trades.parquet`."""
        column = {
            name: trades[name].to_numpy()
            for name in (*cls.__dataclass_fields__, "value_micro")
            if name in trades.column_names
        }
        value = column.pop("value_micro")
        column["slot"] = slots(trades)
        buyer_price = buyer_price_micro(
            column["energy_wh"], column["price_micro_per_kwh"], value, column["network_micro"]
        )
        return cls(**column, buyer_price_micro_per_kwh=buyer_price)


@dataclass(frozen=True)
class Group:
    """Participants that settle together, for good: contiguous ids on the chain.

    Attributes
    ----------
    number : int
        Its number.
    first_id : int
        Chain id of its first member.
    size : int
        Number of members.
    """

    number: int
    first_id: int
    size: int


@dataclass(frozen=True)
class Registry:
    """Who stands under which id on the chain: prosumers in order of their ids, from 0.

    All are one group: who trades with the grid connection trades, through it, with everybody.

    Attributes
    ----------
    prosumer_id : (M,) int64
        Ids of the run, sorted; the position is the id on the chain.
    """

    prosumer_id: IntArray

    @classmethod
    def of(cls, prosumer_id: Iterable[int]) -> Registry:
        """A registry of these prosumers."""
        return cls(np.unique(np.asarray(list(prosumer_id), dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.prosumer_id)

    @property
    def group(self) -> Group:
        """The one group."""
        return Group(0, 0, len(self))

    def chain_id(self, prosumer_id: IntArray) -> IntArray:
        """Ids on the chain.

        Raises
        ------
        InputError
            If a prosumer is not registered.
        """
        found = np.searchsorted(self.prosumer_id, prosumer_id)
        found = np.minimum(found, len(self) - 1)
        wrong = np.flatnonzero(self.prosumer_id[found] != prosumer_id)
        if len(wrong):
            raise InputError(
                f"prosumer {prosumer_id[wrong[0]]} trades and is no participant",
                "trades.parquet",
                "run the scenario again",
            )
        return np.asarray(found)


@dataclass(frozen=True)
class PlannedBatch:
    """All trades of one group and period, with the readings that they are checked against.

    Attributes
    ----------
    batch_id : int
        From `batch_id`.
    rows : (K,) int64
        Positions of its trades among all.
    input : BatchInput
        What the contract gets.
    """

    batch_id: int
    rows: IntArray
    input: BatchInput

    def __len__(self) -> int:
        return len(self.rows)


def plan_batches(
    trades: ClearedTrades,
    registry: Registry,
    periods: IntArray,
    readings_wh: IntArray,
    reading_valid: BoolArray,
) -> list[PlannedBatch]:
    """One batch for each slot that has trades, in order of time.

    Parameters
    ----------
    trades : ClearedTrades
        K trades.
    registry : Registry
        M participants.
    periods : (T,) int64
        Slots of the readings, rising.
    readings_wh : (M, T) int64
        Accepted net readings, in the registry's order [Wh].
    reading_valid : (M, T) bool
        Where there is one.

    Returns
    -------
    list of PlannedBatch
        Trades of a batch stand in the order of their ids.

    Raises
    ------
    InputError
        A trade has a party or a period that nobody knows.
    """
    if not len(trades):
        return []
    group = registry.group
    seller, buyer = registry.chain_id(trades.seller_id), registry.chain_id(trades.buyer_id)
    order = np.lexsort((trades.trade_id, trades.slot))
    present, starts = np.unique(trades.slot[order], return_index=True)
    unknown = np.setdiff1d(present, periods)
    if len(unknown):
        raise InputError(
            f"trades of period {unknown[0]} have no readings",
            "trades.parquet",
            "run the scenario again",
        )
    column = np.searchsorted(periods, present)
    planned = []
    for period, at, rows in zip(present, column, np.split(order, starts[1:]), strict=True):
        batch = BatchInput(
            group=group.number,
            period=int(period),
            first_id=group.first_id,
            seller=seller[rows],
            buyer=buyer[rows],
            energy_wh=trades.energy_wh[rows],
            seller_price_micro_per_kwh=trades.price_micro_per_kwh[rows],
            buyer_price_micro_per_kwh=trades.buyer_price_micro_per_kwh[rows],
            readings_wh=readings_wh[:, at],
            reading_valid=reading_valid[:, at],
        )
        planned.append(PlannedBatch(batch_id(group.number, int(period)), rows, batch))
    return planned


@dataclass(frozen=True)
class PackingLimits:
    """How much one transaction may carry.

    Attributes
    ----------
    gas : int
        Gas, as `settle_gas` bounds it.
    bytes : int
        Calldata of several batches [B].
    alone_bytes : int
        Calldata of one batch by itself [B]; nodes of public chains refuse transactions above
        128 KiB.
    """

    gas: int
    bytes: int = 120 * 1024
    alone_bytes: int = 120 * 1024


def pack(
    batches: Iterable[tuple[PlannedBatch, int, int]], limits: PackingLimits
) -> Iterator[list[PlannedBatch]]:
    """Put batches that follow one another into one transaction, as long as it fits.

    Parameters
    ----------
    batches : iterable of (PlannedBatch, int, int)
        Each with its calldata [B] and a bound of its gas.
    limits : PackingLimits
        How much fits.

    Yields
    ------
    list of PlannedBatch
        The batches of one transaction.

    Raises
    ------
    InputError
        If one batch alone does not fit.
    """
    carried: list[PlannedBatch] = []
    size = gas = 0
    for batch, its_bytes, its_gas in batches:
        if its_bytes > limits.alone_bytes or its_gas > limits.gas:
            raise InputError(
                f"a batch of {len(batch)} trades among {len(batch.input.readings_wh)} participants "
                f"needs {its_bytes} B and up to {its_gas} gas, a transaction takes "
                f"{limits.alone_bytes} B and {limits.gas} gas",
                f"period {batch.input.period}",
                "use --chain embedded, which has no such limits, or fewer prosumers",
            )
        if carried and (size + its_bytes > limits.bytes or gas + its_gas > limits.gas):
            yield carried
            carried, size, gas = [], 0, 0
        carried.append(batch)
        size += its_bytes
        gas += its_gas
    if carried:
        yield carried


def purchases_micro(trades: ClearedTrades, registry: Registry) -> IntArray:
    """What each participant can at most have to pay over all trades: its gross debits.

    Parameters
    ----------
    trades : ClearedTrades
        Trades.
    registry : Registry
        M participants.

    Returns
    -------
    (M,) int64
        In the registry's order [1e-6 currency]; a seller pays where the price is negative.
    """
    paid = micro_value(trades.energy_wh, trades.buyer_price_micro_per_kwh)
    earned = micro_value(trades.energy_wh, trades.price_micro_per_kwh)
    total = np.zeros(len(registry), dtype=np.int64)
    np.add.at(total, registry.chain_id(trades.buyer_id), np.maximum(paid, 0))
    np.add.at(total, registry.chain_id(trades.seller_id), np.maximum(-earned, 0))
    return total
