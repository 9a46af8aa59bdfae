"""Columns of every table of a run folder: one place, for those that write and those that read.

Identifiers, periods and integer money are int64, physical quantities float64 with the unit in
the column's name. Bus and line numbers are those of the outside world (`Network.bus_id`,
`Network.line_id`), never positions. A column that may be empty says so (nullable).
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of the run folder's layout, in `manifest.json` and `summary.json`."""

ROLE_PROSUMER = "prosumer"
ROLE_GRID = "grid"


def _schema(
    integers: Iterable[str] = (), floats: Iterable[str] = (), strings: Iterable[str] = ()
) -> list[pa.Field]:
    """Required columns of each type, in that order."""
    return [
        *(pa.field(name, pa.int64(), nullable=False) for name in integers),
        *(pa.field(name, pa.float64(), nullable=False) for name in floats),
        *(pa.field(name, pa.string(), nullable=False) for name in strings),
    ]


CONVERGENCE = pa.schema(
    _schema(
        ["iteration", "day"],
        [
            "primal_residual",
            "dual_residual",
            "primal_tolerance",
            "dual_tolerance",
            "rho",
            "seconds",
        ],
    )
)

SCHEDULE = pa.schema(
    _schema(
        ["prosumer_id", "bus", "period"],
        [
            "p_kw",
            "generation_kw",
            "demand_kw",
            "charge_kw",
            "discharge_kw",
            "soc_kwh",
            "ev_kw",
            "shifted_kw",
        ],
    )
)

PROSUMERS = pa.schema(
    [
        *_schema(["prosumer_id", "bus"]),
        *_schema(strings=["role"]),
        *_schema(
            floats=[
                "alpha",
                "beta",
                "gamma",
                "omega",
                "delta",
                "soc_min_kwh",
                "soc_max_kwh",
                "soc_initial_kwh",
                "soc_final_min_kwh",
                "charge_max_kw",
                "discharge_max_kw",
                "eta_charge",
                "eta_discharge",
                "cycle_cost_per_kwh",
            ]
        ),
    ]
)

PROFILES = pa.schema(
    _schema(
        ["prosumer_id", "period"],
        [
            "generation_min_kw",
            "generation_limit_kw",
            "demand_min_kw",
            "demand_limit_kw",
            "fixed_load_kw",
        ],
    )
)

STORES = pa.schema(
    [
        *_schema(["prosumer_id", "store", "stay"], strings=["kind"]),
        *_schema(
            floats=[
                "arrival_period",
                "departure_period",
                "needed_kwh",
                "used_kwh",
                "initial_kwh",
                "min_kwh",
                "max_kwh",
                "final_min_kwh",
                "charge_max_kw",
                "discharge_max_kw",
                "eta_charge",
                "eta_discharge",
                "cycle_cost_per_kwh",
            ]
        ),
    ]
)
"""EVs and shiftable loads (`kind` 'ev' or 'shiftable'), a row per stay or window; written only
where there are any. The stay lasts from `arrival_period` to `departure_period`, counted from the
start of the horizon in parts of periods (1.5 is the middle of the second one), within which a
period has as much of the power as the stay covers. `used_kwh` leaves the store in the period of
arrival; `needed_kwh` is the least energy at the end of the period of departure. A store that never
stays has one row with both 0.
"""

STORE_SCHEDULE = ("ev_soc_kwh",)
"""What schedule.parquet has besides where there are EVs or shiftable loads: the energy in a
prosumer's EVs at the period's end. `ev_kw` is their charge less their discharge, `shifted_kw` what
its shiftable loads draw.
"""

TARIFFS = pa.schema(
    _schema(
        ["period"],
        [
            "import_price_per_kwh",
            "export_price_per_kwh",
            "import_limit_kw",
            "export_limit_kw",
        ],
    )
)

NETWORK = pa.schema(
    _schema(["line", "from_bus", "to_bus"], ["x_pu", "limit_kw", "flow_offset_kw"]),
)
"""Lines with their true limits. Where markets keep a reserve (scenario section `stages.reserve`)
`market_limit_kw` says what they take a limit for.
"""

BUSES = pa.schema(_schema(["bus"], ["x", "y"]))
"""Positions for drawing, written only where the network has them."""

FLOWS = pa.schema(_schema(["line", "period"], ["flow_kw", "limit_kw"]))

PRICES = pa.schema(_schema(["bus", "period"], ["lmp_per_kwh", "settlement_price_per_kwh"]))

TRADES = pa.schema(
    [
        *_schema(
            [
                "trade_id",
                "seller_id",
                "buyer_id",
                "period",
                "energy_wh",
                "price_micro_per_kwh",
                "value_micro",
                "network_micro",
            ]
        ),
        *_schema(strings=["status", "reason"]),
        pa.field("batch_id", pa.int64()),
        pa.field("sequence", pa.int64()),
        pa.field("tx_hash", pa.string()),
        pa.field("block", pa.int64()),
    ]
)
"""`value_micro` is what the seller gets, and `network_micro` what the buyer pays on top to the
network account; `reason` is empty where there is none; the last four are null until a trade is on
chain.
"""

PARTICIPANTS = pa.schema(
    _schema(
        ["prosumer_id", "group", "funded_micro"],
        strings=["role", "owner_address", "meter_address", "meter_key"],
    )
)
"""Who is registered for settlement: prosumers and the grid connection. The owner withdraws, the
meter signs; addresses are 0x and 40, `meter_key` (the compressed public key) 66 hexadecimal
digits; `funded_micro` is what was paid into the escrow until the last batch settled.
"""

METERS = pa.schema(
    _schema(
        ["prosumer_id", "day", "opening_wh", "closing_wh"],
        strings=["nonce", "commitment", "signature", "fault", "attack"],
    )
)
"""The day's report of each meter: registers at its start and end, and nonce, commitment (SHA-3)
and signature in hexadecimal digits. `fault` says why it was refused, `attack` is the simulation's
own knowledge; both are empty where there is none.
"""

READINGS = pa.schema(
    [
        *_schema(["prosumer_id", "period", "traded_wh"]),
        pa.field("reported_wh", pa.int64()),
        pa.field("register_wh", pa.int64()),
        pa.field("accepted_wh", pa.int64()),
        pa.field("estimated", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""What each meter reported, what was accepted of it (null: nothing), and what the participant
traded, net and sold positive. `reason` says why trades are void and is empty where they stand.
"""

BATCHES = pa.schema(
    [
        *_schema(
            [
                "sequence",
                "group",
                "period",
                "trades",
                "settled",
                "rejected",
                "energy_wh",
                "value_micro",
                "network_micro",
                "payload_bytes",
            ]
        ),
        *_schema(strings=["status", "readings_hash", "payload_hash"]),
        pa.field("tx_hash", pa.string()),
        pa.field("block", pa.int64()),
        pa.field("gas", pa.int64()),
    ]
)
"""Batches by their gap-free sequence number: energy and money are those of the settled trades;
`gas` is the batch's part of its transaction's. The last three are null until it is on chain.
"""

STATEMENTS = pa.schema(
    _schema(
        [
            "prosumer_id",
            "bought_wh",
            "sold_wh",
            "paid_micro",
            "earned_micro",
            "network_micro",
            "rejected_bought_wh",
            "rejected_sold_wh",
            "unsettled_bought_wh",
            "unsettled_sold_wh",
            "trades",
            "rejected_trades",
            "opening_micro",
            "closing_micro",
        ]
    )
)
"""A participant's account over the run. `paid_micro` is all that it paid as a buyer, of which
`network_micro` went to the network account; opening + earned - paid = closing balance,
where opening is all that was paid into its escrow, top-ups between days included.
"""

FORECASTS = pa.schema(
    _schema(
        ["prosumer_id", "period"],
        [
            "load_kw",
            "pv_kw",
            "fixed_load_kw",
            "demand_limit_kw",
            "step_load_kw",
            "step_pv_kw",
        ],
    )
)
"""What loads and PV were forecast to be: a day ahead, with the fixed load and the limit of elastic
demand that the day-ahead market was cleared on, and when the orders of the period were due. Elastic
demand is in `load_kw` as that market planned it. Learned forecasts of quarter hours add their
intervals of 80 %: `fixed_load_low_kw`, `fixed_load_high_kw`, `pv_low_kw`, `pv_high_kw`, and with
`step_` before them those of the period.
"""

INTRADAY = pa.schema(
    _schema(
        [
            "prosumer_id",
            "period",
            "position_wh",
            "sold_wh",
            "bought_wh",
            "failed_wh",
            "money_micro",
        ],
        [
            "p_kw",
            "pv_kw",
            "load_kw",
            "curtailed_kw",
            "battery_kw",
            "ev_kw",
            "shifted_kw",
            "battery_kwh",
            "ev_kwh",
            "shifted_kwh",
            "unmet_kwh",
            "import_kwh",
            "export_kwh",
            "grid_cost",
            "cycle_cost",
        ],
        ["action"],
    )
)
"""What was measured, and traded on top of the net sales of the day ahead (`position_wh`): powers
of stores are positive where they feed in, `p_kw` = pv - curtailed - load + battery + ev + shifted;
the balance at tariff is `import_kwh` and `export_kwh`, its cost `grid_cost`, wear `cycle_cost`.
"""

CALIBRATION = pa.schema(
    [
        *_schema(["day"]),
        *_schema(strings=["horizon", "target"]),
        *_schema(["sun", "outside", "counted"], ["spread"]),
    ]
)
"""What each day did to the intervals of 80 % (`raygrid.learning.adapting`): samples outside of
them, of so many, and by what their widths are multiplied from then on; by horizon (`day_ahead`,
`step`), target (`load`, `pv`) and height of the sun, which tells PV apart.
"""

TABLES = {
    "convergence": CONVERGENCE,
    "schedule": SCHEDULE,
    "prosumers": PROSUMERS,
    "profiles": PROFILES,
    "stores": STORES,
    "tariffs": TARIFFS,
    "network": NETWORK,
    "buses": BUSES,
    "flows": FLOWS,
    "prices": PRICES,
    "trades": TRADES,
    "participants": PARTICIPANTS,
    "meters": METERS,
    "readings": READINGS,
    "batches": BATCHES,
    "statements": STATEMENTS,
    "forecasts": FORECASTS,
    "intraday": INTRADAY,
    "calibration": CALIBRATION,
}
"""Schema of each table by its file's name without `.parquet`."""

SORT_KEYS = {
    "schedule": ("prosumer_id", "period"),
    "prosumers": ("prosumer_id",),
    "profiles": ("prosumer_id", "period"),
    "stores": ("prosumer_id", "store", "stay"),
    "convergence": ("day", "iteration"),
    "tariffs": ("period",),
    "flows": ("line", "period"),
    "prices": ("bus", "period"),
    "trades": ("trade_id",),
    "participants": ("prosumer_id",),
    "meters": ("day", "prosumer_id"),
    "readings": ("prosumer_id", "period"),
    "batches": ("sequence",),
    "statements": ("prosumer_id",),
    "forecasts": ("prosumer_id", "period"),
    "intraday": ("prosumer_id", "period"),
    "calibration": ("day", "horizon", "target", "sun"),
}
"""Row order of the tables that several writers or days share, so that placement does not show."""

EXTENSIBLE = frozenset(
    {"schedule", "prosumers", "profiles", "stores", "network", "trades", "batches", "forecasts"}
)
"""Tables to which devices and stages added later may add columns after those listed here.
`session` is one of trades and batches where a period has several: one of
`raygrid.market.sessions.SESSIONS`.
"""


def conform(name: str, table: pa.Table) -> pa.Table:
    """The table with the exact columns, order and types of its schema.

    Parameters
    ----------
    name : str
        Key of `TABLES`.
    table : pyarrow.Table
        Columns by name, in any order.

    Returns
    -------
    pyarrow.Table
        Same rows; further columns of `EXTENSIBLE` tables stand last, elsewhere they are refused.

    Raises
    ------
    ValueError
        If a column is missing, unknown, of a type that cannot be cast without loss, or empty
        where it must not be.
    """
    schema = TABLES[name]
    missing = [column for column in schema.names if column not in table.column_names]
    extra = [column for column in table.column_names if column not in schema.names]
    if missing or (extra and name not in EXTENSIBLE):
        raise ValueError(f"table {name}: missing columns {missing}, unknown columns {extra}")
    fields = [*schema, *(table.schema.field(column) for column in extra)]
    columns = []
    for wanted in fields:
        column = table.column(wanted.name)
        if column.null_count and not wanted.nullable:
            raise ValueError(f"table {name}: column {wanted.name} has empty cells")
        columns.append(column.cast(wanted.type))
    return pa.table(columns, schema=pa.schema(fields))
