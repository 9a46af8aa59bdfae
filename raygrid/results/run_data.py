"""What a report shows of a run, gathered from its tables; none of it grows with prosumers
but places and the trading pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.population import GRID_ID
from raygrid.results.layout import bus_positions
from raygrid.results.learning_data import LearningData, load_learning
from raygrid.results.reader import RunReader
from raygrid.results.settlement_data import Accounts, Activity, load_accounts, load_activity
from raygrid.results.summary import line_utilisation

SUPPLY = ("generation", "import", "discharge")
USE = ("elastic demand", "fixed load", "charge", "EV", "shifted load", "export")


SHOWN_BATTERIES = 2000
"""Batteries whose states of charge are read at most; of more, every so-manieth."""


@dataclass(frozen=True)
class Storage:
    """Batteries: how many and their capacity in all [kWh], (T,) powers of all of them [kW].

    Of at most `SHOWN_BATTERIES` of them (S,) ids, capacities and first states of charge [kWh],
    and (S, T) states of charge at period end [kWh].
    """

    count: int
    total_kwh: float
    charge_kw: FloatArray
    discharge_kw: FloatArray
    prosumer_id: IntArray
    capacity_kwh: FloatArray
    initial_kwh: FloatArray
    soc_kwh: FloatArray


@dataclass(frozen=True)
class Lines:
    """Lines of the network, with the flows where the market cleared."""

    line: IntArray
    from_bus: IntArray
    to_bus: IntArray
    limit_kw: FloatArray
    utilisation: FloatArray | None
    flow_kw: FloatArray | None
    market_limit_kw: FloatArray | None = None
    """What markets take limits for, where they keep a reserve."""

    @property
    def kept_free(self) -> float:
        """Largest share of its limit that markets keep free of a line."""
        if self.market_limit_kw is None:
            return 0.0
        has_limit = np.isfinite(self.limit_kw) & (self.limit_kw > 0)
        taken = self.market_limit_kw[has_limit] / self.limit_kw[has_limit]
        return float((1.0 - taken).max(initial=0.0))

    @property
    def busiest(self) -> FloatArray:
        """(L,) largest utilisation over the day; zeros without flows."""
        if self.utilisation is None:
            return np.zeros(len(self.line))
        return np.asarray(self.utilisation.max(axis=1, initial=0.0))


@dataclass(frozen=True)
class Prices:
    """Locational prices over the buses and the settlement price, (T,) each [currency/kWh]."""

    bus: IntArray
    lmp: FloatArray
    settlement: FloatArray


@dataclass(frozen=True)
class Pairs:
    """Energy by seller and buyer over the horizon."""

    seller: IntArray
    buyer: IntArray
    energy_kwh: FloatArray
    trades: int
    value: float


@dataclass(frozen=True)
class RunData:
    """All that figures and tables of a report are made of; None where a stage did not run."""

    manifest: dict[str, Any]
    summary: dict[str, Any]
    period: IntArray
    convergence: dict[str, FloatArray] | None
    supply_kw: dict[str, FloatArray] | None
    use_kw: dict[str, FloatArray] | None
    storage: Storage | None
    lines: Lines
    bus: IntArray
    slack: int
    bus_xy: FloatArray
    schematic: bool
    prosumers_at_bus: IntArray
    prosumer_id: IntArray
    prosumer_bus: IntArray
    prices: Prices | None
    tariffs: dict[str, FloatArray] | None
    pairs: Pairs | None
    activity: Activity | None
    accounts: Accounts
    learning: LearningData | None = None

    @property
    def edges_h(self) -> FloatArray:
        """(T + 1,) edges of the periods [h]."""
        dt = float(self.manifest["period_hours"])
        first = int(self.period[0]) if len(self.period) else 0
        return np.asarray(np.arange(first, first + len(self.period) + 1) * dt, dtype=np.float64)

    @property
    def currency(self) -> str:
        """Name of the money unit."""
        return str(self.manifest["currency"])

    @property
    def reconstructed(self) -> bool:
        """Whether the scenario rests on reconstructed data."""
        return any("reconstructed" in note.lower() for note in self.manifest["notes"])


def load_run(run: RunReader) -> RunData:
    """Read what a report needs.

    Parameters
    ----------
    run : RunReader
        A run; an unfinished one gives what it has.

    Raises
    ------
    InputError
        If it has not even a network, or a file was changed.
    """
    prices, period = _prices(run)
    supply, use, storage, period = _schedule(run, period)
    lines = _lines(run, period)
    bus = np.unique(np.concatenate([lines.from_bus, lines.to_bus, _known_buses(run, prices)]))
    slack = int(np.searchsorted(bus, run.manifest["slack_bus"]))
    who, home = _homes(run)
    at = np.searchsorted(bus, home[who != GRID_ID])
    at_bus = np.bincount(at, minlength=len(bus)).astype(np.int64)
    given = _given_positions(run, bus)
    return RunData(
        manifest=run.manifest,
        summary=run.summary or {"clearing": None, "central": None, "seconds": {}},
        period=period,
        convergence=_columns(run, "convergence"),
        supply_kw=supply,
        use_kw=use,
        storage=storage,
        lines=lines,
        bus=bus,
        slack=slack,
        bus_xy=_structural(bus, lines, slack) if given is None else given,
        schematic=given is None,
        prosumers_at_bus=at_bus,
        prosumer_id=who,
        prosumer_bus=home,
        prices=prices,
        tariffs=_columns(run, "tariffs"),
        pairs=_pairs(run),
        activity=load_activity(run, period),
        accounts=load_accounts(run),
        learning=load_learning(run, period),
    )


def _columns(run: RunReader, name: str) -> dict[str, FloatArray] | None:
    if not run.has(f"{name}.parquet"):
        return None
    table = run.read_table(name)
    return {column: table[column].to_numpy() for column in table.column_names}


def _pivot(columns: dict[str, FloatArray], row: str, value: str) -> tuple[Any, Any, FloatArray]:
    """Rows, periods and the (rows, periods) matrix of one column."""
    at, when = columns[row], columns["period"]
    n_periods = int((at == at[0]).sum()) if len(at) else 1
    if len(at) and len(at) % n_periods == 0:
        # Tables are written in this order; sorting millions of rows would take seconds.
        by_row, by_period = at.reshape(-1, n_periods), when.reshape(-1, n_periods)
        whole = (by_row[:, :1] == by_row).all() and (by_period[:1] == by_period).all()
        if whole and (np.diff(by_row[:, 0]) > 0).all() and (np.diff(by_period[0]) > 0).all():
            return by_row[:, 0], by_period[0], columns[value].reshape(-1, n_periods)
    rows, r = np.unique(columns[row], return_inverse=True)
    periods, t = np.unique(columns["period"], return_inverse=True)
    out = np.zeros((len(rows), len(periods)))
    out[r, t] = columns[value]
    return rows, periods, out


def _prices(run: RunReader) -> tuple[Prices | None, IntArray]:
    columns = _columns(run, "prices")
    if columns is None:
        return None, np.zeros(0, dtype=np.int64)
    bus, period, lmp = _pivot(columns, "bus", "lmp_per_kwh")
    first = columns["bus"] == bus[0]
    settlement = np.zeros(len(period))
    settlement[np.searchsorted(period, columns["period"][first])] = columns[
        "settlement_price_per_kwh"
    ][first]
    return Prices(bus, lmp, settlement), period


def _schedule(
    run: RunReader, period: IntArray
) -> tuple[dict[str, FloatArray] | None, dict[str, FloatArray] | None, Storage | None, IntArray]:
    """Sums by period over all prosumers, part by part; and every battery."""
    if not run.has("schedule.parquet"):
        return None, None, None, period
    if not len(period):
        found = [
            np.unique(part["period"].to_numpy()) for part in run.iter_table("schedule", ["period"])
        ]
        period = np.unique(np.concatenate(found))
    supply = {name: np.zeros(len(period)) for name in SUPPLY}
    use = {name: np.zeros(len(period)) for name in USE}
    shown = _shown_batteries(run)
    kept, owners = [], []
    for part in run.iter_table("schedule"):
        c = {name: part[name].to_numpy() for name in part.column_names}
        t = np.searchsorted(period, c["period"])
        grid = c["prosumer_id"] == GRID_ID
        fixed = (
            c["generation_kw"] - c["demand_kw"] + c["discharge_kw"] - c["charge_kw"]
            - c["ev_kw"] - c["shifted_kw"] - c["p_kw"]
        )  # fmt: skip
        for into, name, values in (
            (supply, "generation", np.where(grid, 0.0, c["generation_kw"])),
            (supply, "import", np.where(grid, c["generation_kw"], 0.0)),
            (supply, "discharge", c["discharge_kw"]),
            (use, "elastic demand", np.where(grid, 0.0, c["demand_kw"])),
            (use, "export", np.where(grid, c["demand_kw"], 0.0)),
            (use, "fixed load", fixed),
            (use, "charge", c["charge_kw"]),
            (use, "EV", c["ev_kw"]),
            (use, "shifted load", c["shifted_kw"]),
        ):
            into[name] += np.bincount(t, weights=values, minlength=len(period))
        moving = (c["soc_kwh"] > 0) | (c["charge_kw"] > 0) | (c["discharge_kw"] > 0)
        owners.append(np.unique(c["prosumer_id"][moving]))
        own = np.isin(c["prosumer_id"], np.intersect1d(owners[-1], shown))
        kept.append(part.select(["prosumer_id", "period", "soc_kwh"]).filter(pa.array(own)))
    storage = _storage(run, np.unique(np.concatenate(owners)), pa.concat_tables(kept), supply, use)
    return supply, use, storage, period


def _shown_batteries(run: RunReader) -> IntArray:
    """Ids of the batteries to show: all, or an even sample of many."""
    if not run.has("prosumers.parquet"):
        return np.zeros(0, dtype=np.int64)
    who = run.read_table("prosumers", ["prosumer_id", "soc_max_kwh"])
    ids = np.sort(who["prosumer_id"].to_numpy()[who["soc_max_kwh"].to_numpy() > 0])
    return np.asarray(ids[:: -(-len(ids) // SHOWN_BATTERIES) or 1])


def _storage(
    run: RunReader,
    owners: IntArray,
    rows: pa.Table,
    supply_kw: dict[str, FloatArray],
    use_kw: dict[str, FloatArray],
) -> Storage | None:
    if not rows.num_rows:
        return None
    c = {name: rows[name].to_numpy() for name in rows.column_names}
    shown, _, soc = _pivot(c, "prosumer_id", "soc_kwh")
    who = run.read_table("prosumers", ["prosumer_id", "soc_max_kwh", "soc_initial_kwh"])
    ids, capacity = who["prosumer_id"].to_numpy(), who["soc_max_kwh"].to_numpy()
    order = np.argsort(ids)
    at, everyone = (order[np.searchsorted(ids[order], some)] for some in (shown, owners))
    return Storage(
        count=len(owners),
        total_kwh=float(capacity[everyone].sum()),
        charge_kw=use_kw["charge"],
        discharge_kw=supply_kw["discharge"],
        prosumer_id=shown,
        capacity_kwh=capacity[at],
        initial_kwh=who["soc_initial_kwh"].to_numpy()[at],
        soc_kwh=soc,
    )


def _lines(run: RunReader, period: IntArray) -> Lines:
    net = run.read_table("network")
    line = net["line"].to_numpy()
    limit = net["limit_kw"].to_numpy()
    flow = use = None
    if run.has("flows.parquet") and len(line):
        columns = _columns(run, "flows") or {}
        known, _, by_line = _pivot(columns, "line", "flow_kw")
        flow = by_line[np.searchsorted(known, line)]
        use = line_utilisation(flow, limit[:, None])
    market = net["market_limit_kw"].to_numpy() if "market_limit_kw" in net.column_names else None
    begin, end = net["from_bus"].to_numpy(), net["to_bus"].to_numpy()
    return Lines(line, begin, end, limit, use, flow, market)


def _known_buses(run: RunReader, prices: Prices | None) -> IntArray:
    """Buses that no line names: all there is of a one-bus network."""
    slack = np.array([run.manifest["slack_bus"]], dtype=np.int64)
    return slack if prices is None else np.union1d(slack, prices.bus)


def _homes(run: RunReader) -> tuple[IntArray, IntArray]:
    """Ids in ascending order, and their buses."""
    if not run.has("prosumers.parquet"):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    table = run.read_table("prosumers", ["prosumer_id", "bus"]).sort_by("prosumer_id")
    return table["prosumer_id"].to_numpy(), table["bus"].to_numpy()


def _given_positions(run: RunReader, bus: IntArray) -> FloatArray | None:
    """Positions from the scenario, if it has one for every bus."""
    if not run.has("buses.parquet"):
        return None
    table = run.read_table("buses")
    order = np.argsort(table["bus"].to_numpy())
    xy = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])[order]
    if not np.array_equal(table["bus"].to_numpy()[order], bus) or not np.isfinite(xy).all():
        return None
    # Screens count downwards, maps upwards.
    return np.asarray(xy * [1.0, -1.0])


def _structural(bus: IntArray, lines: Lines, slack: int) -> FloatArray:
    ends = np.searchsorted(bus, lines.from_bus), np.searchsorted(bus, lines.to_bus)
    return bus_positions(len(bus), *ends, slack)


def _pairs(run: RunReader) -> Pairs | None:
    if not run.has("trades.parquet"):
        return None
    keys = ["seller_id", "buyer_id"]
    # Who trades with whom is no picture any more where trades fill more than one part.
    few = (run.path / "trades.parquet").is_file()
    columns = pa.schema([(key, pa.int64()) for key in (*keys, "energy_wh_sum")])
    sums = [columns.empty_table()]
    n_trades = 0
    value = 0
    for part in run.iter_table("trades", [*keys, "energy_wh", "value_micro"]):
        n_trades += part.num_rows
        value += int(part["value_micro"].to_numpy().sum())
        if few:
            sums.append(part.group_by(keys).aggregate([("energy_wh", "sum")]).cast(columns))
    merged = pa.concat_tables(sums).group_by(keys).aggregate([("energy_wh_sum", "sum")])
    return Pairs(
        merged["seller_id"].to_numpy(),
        merged["buyer_id"].to_numpy(),
        merged["energy_wh_sum_sum"].to_numpy() / 1000.0,
        n_trades,
        value / 1e6,
    )
