"""Participants' accounts: energy bought and sold, paid, earned and rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.settlement.participants import Participants

if TYPE_CHECKING:
    import pyarrow as pa

SETTLED, REJECTED = "settled", "rejected"
"""Trades of any other status are neither: they are unsettled."""


def statements_table(participants: Participants, trades: pa.Table) -> pa.Table:
    """Rows of `statements.parquet`: the account of each participant over the trades' periods.

    Only settled trades move money: the seller earns `value_micro`, and the buyer pays that and
    `network_micro`. At negative prices both are negative.

    Parameters
    ----------
    participants : Participants
        Who takes part, and what its escrow held at first.
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from raygrid.schemas import conform

    ids = participants.prosumer_id
    column = {
        name: trades[name].to_numpy()
        for name in ("seller_id", "buyer_id", "energy_wh", "value_micro", "network_micro")
    }
    settled = pc.equal(trades["status"], SETTLED).to_numpy()
    rejected = pc.equal(trades["status"], REJECTED).to_numpy()
    seller, buyer = (np.searchsorted(ids, column[name]) for name in ("seller_id", "buyer_id"))

    def total(who: IntArray, what: IntArray, rows: BoolArray) -> IntArray:
        out = np.zeros(len(ids), dtype=np.int64)
        np.add.at(out, who[rows], what[rows])
        return out

    energy, value, network = (
        column[name] for name in ("energy_wh", "value_micro", "network_micro")
    )
    one = np.ones_like(energy)
    every, neither = np.ones_like(settled), ~(settled | rejected)
    paid, earned = total(buyer, value + network, settled), total(seller, value, settled)
    columns = {
        "prosumer_id": ids,
        "bought_wh": total(buyer, energy, settled),
        "sold_wh": total(seller, energy, settled),
        "paid_micro": paid,
        "earned_micro": earned,
        "network_micro": total(buyer, network, settled),
        "rejected_bought_wh": total(buyer, energy, rejected),
        "rejected_sold_wh": total(seller, energy, rejected),
        "unsettled_bought_wh": total(buyer, energy, neither),
        "unsettled_sold_wh": total(seller, energy, neither),
        "trades": total(buyer, one, every) + total(seller, one, every),
        "rejected_trades": total(buyer, one, rejected) + total(seller, one, rejected),
        "opening_micro": participants.funded_micro,
        "closing_micro": participants.funded_micro + earned - paid,
    }
    return conform("statements", pa.table(columns))


def network_account_micro(trades: pa.Table) -> int:
    """What the network account ends with: the difference of locational prices [1e-6 currency].

    Parameters
    ----------
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    """
    import pyarrow.compute as pc

    settled = trades.filter(pc.equal(trades["status"], SETTLED))
    return int(settled["network_micro"].to_numpy().sum())


def person_table(trades: pa.Table, prosumer_id: int) -> pa.Table:
    """One participant's trades in its own terms, by period: the statement per person.

    Parameters
    ----------
    trades : pyarrow.Table
        Rows of `trades.parquet`.
    prosumer_id : int
        The participant.

    Returns
    -------
    pyarrow.Table
        trade_id, period, partner_id, energy_wh (sold positive), price_micro_per_kwh (the
        trade's), money_micro (received positive; 0 unless settled), status, reason.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    sold = pc.equal(trades["seller_id"], prosumer_id)
    own = trades.filter(pc.or_(sold, pc.equal(trades["buyer_id"], prosumer_id)))
    own = own.sort_by([("period", "ascending"), ("trade_id", "ascending")])
    is_seller = own["seller_id"].to_numpy() == prosumer_id
    settled = pc.equal(own["status"], SETTLED).to_numpy()
    value, network = own["value_micro"].to_numpy(), own["network_micro"].to_numpy()
    energy = own["energy_wh"].to_numpy()
    money = np.where(is_seller, value, -value - network)
    return pa.table(
        {
            "trade_id": own["trade_id"],
            "period": own["period"],
            "partner_id": np.where(
                is_seller, own["buyer_id"].to_numpy(), own["seller_id"].to_numpy()
            ),
            "energy_wh": np.where(is_seller, energy, -energy),
            "price_micro_per_kwh": own["price_micro_per_kwh"],
            "money_micro": np.where(settled, money, 0),
            "status": own["status"],
            "reason": own["reason"],
        }
    )


def buyer_price_micro(
    energy_wh: IntArray,
    price_micro_per_kwh: IntArray,
    value_micro: IntArray,
    network_micro: IntArray,
) -> IntArray:
    """Prices that buyers pay, from what trades.parquet keeps of them.

    Where nothing goes to the network account it is the trade's price. Else it is the least whole
    price at which the buyer's value, rounded to the nearest micro-unit with halves upwards, is
    `value_micro + network_micro`: the money of the locational price, to the micro-unit.

    Parameters
    ----------
    energy_wh, price_micro_per_kwh, value_micro, network_micro : (K,) int64
        Columns of trades; energies are positive.

    Returns
    -------
    (K,) int64
        Prices [1e-6 currency/kWh].
    """
    paid = value_micro + network_micro
    # floor((e p + 500) / 1000) >= v  is  e p >= 1000 v - 500.
    least = -((500 - 1000 * paid) // energy_wh)
    return np.where(network_micro == 0, price_micro_per_kwh, least)
