"""The sessions of a period: day ahead, intraday, and what the grid balances at tariff.

Each is settled apart, since nobody may both sell and buy in one. A participant may sell a day ahead
and buy intraday; the grid connection supplies some and takes from others in the same period.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.market.trades import WH_PER_KWH, Trades, micro_price, micro_value
from raygrid.prosumer.population import GRID_ID

if TYPE_CHECKING:
    import pyarrow as pa

SESSIONS = ("day_ahead", "intraday", "import", "export")
"""In their order. The last two are the balance at tariff: energy from the grid, and into it."""


def balance_trades(
    import_kwh: FloatArray,
    export_kwh: FloatArray,
    prosumer_id: IntArray,
    import_price_per_kwh: FloatArray,
    export_price_per_kwh: FloatArray,
    first_period: int = 0,
) -> tuple[Trades, Trades]:
    """What prosumers get from the grid and give to it, as trades at tariff.

    Parameters
    ----------
    import_kwh, export_kwh : (T, N) float64
        Balance of each prosumer with the grid [kWh]; in whole watt-hours here (`whole_wh`).
    prosumer_id : (N,) int64
        The prosumers.
    import_price_per_kwh, export_price_per_kwh : (T,) float64
        Tariff [currency/kWh].
    first_period : int
        Global index of the first period.

    Returns
    -------
    tuple of Trades
        Imports and exports, with global periods, by period and prosumer.
    """
    found = []
    for energy_kwh, tariff, imports in (
        (import_kwh, import_price_per_kwh, True),
        (export_kwh, export_price_per_kwh, False),
    ):
        energy = whole_wh(energy_kwh)
        at, who = np.nonzero(energy)
        wh, price = energy[at, who], micro_price(tariff[at])
        people, grid = prosumer_id[who], np.full(len(who), GRID_ID, dtype=np.int64)
        seller, buyer = (grid, people) if imports else (people, grid)
        number, value = np.arange(len(wh), dtype=np.int64), micro_value(wh, price)
        nothing = np.zeros_like(value)
        found.append(Trades(number, seller, buyer, first_period + at, wh, price, value, nothing))
    return found[0], found[1]


def whole_wh(energy_kwh: FloatArray) -> IntArray:
    """Energies (T, N) in whole watt-hours whose sum over N is that of the energies, rounded.

    By largest remainders, so that each is less than 1 Wh off and the grid connection, which is the
    other side of all of them, half a watt-hour: rounded one by one, they would add up to more than
    its meter's tolerance.

    Parameters
    ----------
    energy_kwh : (T, N) float64
        0 or more [kWh].
    """
    wh = energy_kwh * WH_PER_KWH
    whole = np.floor(wh)
    over = np.rint(wh.sum(axis=1)) - whole.sum(axis=1)
    by_remainder = np.argsort(whole - wh, axis=1, kind="stable")
    rank = np.empty_like(by_remainder)
    np.put_along_axis(rank, by_remainder, np.arange(wh.shape[1])[None], axis=1)
    return np.asarray(whole + (rank < over[:, None]), dtype=np.int64)


def session_table(sessions: Sequence[Trades], first_id: int, first_period: int) -> pa.Table:
    """Rows of `trades.parquet` of a day with sessions, numbered by period, then by session.

    Parameters
    ----------
    sessions : sequence of Trades
        Of each of `SESSIONS`, their periods counted from 0.
    first_id, first_period : int
        Id of the first trade, and global index of the first period.
    """
    import pyarrow as pa

    parts = [trades.later(0, first_period).table() for trades in sessions]
    names = [pa.repeat(name, len(part)) for name, part in zip(SESSIONS, parts, strict=True)]
    rows = pa.concat_tables(
        part.append_column("session", name) for part, name in zip(parts, names, strict=True)
    )
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    period = rows["period"].to_numpy()
    rows = rows.take(np.lexsort((rows["trade_id"].to_numpy(), number, period)))
    ids = pa.array(first_id + np.arange(len(rows)))
    return rows.set_column(rows.column_names.index("trade_id"), "trade_id", ids)


def n_sessions(trades: pa.Table) -> int:
    """How many sessions a period of these rows of `trades.parquet` has: one without the column."""
    return len(SESSIONS) if "session" in trades.column_names else 1


def slots(trades: pa.Table) -> IntArray:
    """(K,) which session of which period trades are of: ``period * n_sessions + session``."""
    period = trades["period"].to_numpy()
    if n_sessions(trades) == 1:
        return np.asarray(period)
    number = {name: k for k, name in enumerate(SESSIONS)}
    session = np.array([number[name] for name in trades["session"].to_pylist()], dtype=np.int64)
    return np.asarray(len(SESSIONS) * period + session)
