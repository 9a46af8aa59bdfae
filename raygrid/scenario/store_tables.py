"""EVs and shiftable loads as a table, a row per stay: read strictly and written back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raygrid import schemas
from raygrid.arrays import IntArray
from raygrid.prosumer.population import Population
from raygrid.prosumer.stores import STORE_FIELDS, StoreKind, Stores
from raygrid.scenario.tabular import Columns, read_table

KIND_NAMES = {StoreKind.EV: "ev", StoreKind.SHIFTABLE: "shiftable"}
STAY_COLUMNS = {
    "arrival_period": "arrival",
    "departure_period": "departure",
    "needed_kwh": "needed_kwh",
    "used_kwh": "used_kwh",
}
"""Column of each field of a stay."""

_STORES: Columns = {
    "prosumer_id": "int",
    "store": "int",
    "stay": "int",
    "kind": "text",
    **dict.fromkeys(STAY_COLUMNS, "nonnegative"),
    **{name: "nonnegative" for name in STORE_FIELDS if name != "size_weight"},
}


def read_stores(
    path: Path, prosumer_id: IntArray, *, period_hours: float, table_hours: float
) -> Stores:
    """Read the EVs and shiftable loads of some prosumers.

    Parameters
    ----------
    path : Path
        Table with the columns of a run's `stores` table; rows of prosumers that are not asked for
        are passed over.
    prosumer_id : (N,) int64
        The prosumers, ascending.
    period_hours, table_hours : float
        Length of a period of the horizon, and of the table's arrivals and departures [h].

    Returns
    -------
    Stores
        By owner, whose rows are positions in `prosumer_id`.

    Raises
    ------
    InputError
        If the table is wrong; what no schedule could serve is found when prosumers are surveyed.
    """
    table = read_table(path, _STORES, {"size_weight": "nonnegative"})
    table.keys_unique("prosumer_id", "store", "stay")
    names = {name: kind for kind, name in KIND_NAMES.items()}
    kinds = table.texts("kind")
    for row, kind in enumerate(kinds):
        if kind not in names:
            table.refuse(row, "kind", f"'{kind}' is no kind", f"one of {', '.join(names)}")
    arrival, departure = table.floats("arrival_period"), table.floats("departure_period")
    backwards = departure < arrival
    if backwards.any():
        row = int(np.argmax(backwards))
        what = f"the departure {departure[row]:g} is before the arrival {arrival[row]:g}"
        table.refuse(row, "departure_period", what, "depart after the arrival")
    owner, number = table.ints("prosumer_id"), table.ints("store")
    order = np.lexsort((arrival, number, owner))
    order = order[np.isin(owner[order], prosumer_id)]
    if not len(order):
        return Stores.empty(0)
    keys = np.stack([owner[order], number[order]], axis=1)
    starts = np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
    which = np.cumsum(starts) - 1
    stay = np.arange(len(order)) - np.flatnonzero(starts)[which]
    first = order[starts]
    stores = Stores.empty(len(first), int(stay.max()) + 1)
    arrays: dict[str, Any] = {
        "owner": np.searchsorted(prosumer_id, owner[first]).astype(np.int64),
        "kind": np.array([names[kinds[row]] for row in first], dtype=np.int64),
    }
    for name in STORE_FIELDS:
        values = table.floats(name)
        apart = values[order] != values[first][which]
        if apart.any():
            row = int(order[np.argmax(apart)])
            what = f"{name} is not that of the same store's first stay"
            table.refuse(row, name, what, "give a store one value, or another number")
        arrays[name] = values[first]
    scale = table_hours / period_hours
    for column, name in STAY_COLUMNS.items():
        values = table.floats(column)[order]
        getattr(stores, name)[which, stay] = values * (scale if name in _TIMES else 1.0)
    return replace(stores, **arrays)


_TIMES = ("arrival", "departure")


def store_rows(population: Population, day: int = 0) -> pa.Table:
    """Rows of the stores table for these prosumers, whose size weights stand last.

    Parameters
    ----------
    population : Population
        The prosumers on one day.
    day : int
        Which of the days in a row, from 0: stays are counted on from it.
    """
    stores = population.stores
    first_period, first_stay = day * population.n_periods, day * stores.arrival.shape[1]
    stays = stores.is_stay
    stays[:, 0] |= ~stays.any(axis=1)
    which, k = np.nonzero(stays)
    owner = stores.owner[which]
    nth = np.arange(len(stores)) - np.searchsorted(stores.owner, stores.owner)
    before = np.cumsum(stays, axis=1) - 1
    columns: dict[str, Any] = {
        "prosumer_id": population.prosumer_id[owner],
        "store": 1 + nth[which],
        "stay": first_stay + 1 + before[which, k],
        "kind": [KIND_NAMES[StoreKind(kind)] for kind in stores.kind[which].tolist()],
    }
    columns |= {
        column: getattr(stores, name)[which, k] + (first_period if name in _TIMES else 0)
        for column, name in STAY_COLUMNS.items()
    }
    names = (*STORE_FIELDS[1:], "size_weight")
    columns |= {name: getattr(stores, name)[which] for name in names}
    return schemas.conform("stores", pa.table(columns))
