"""A made-up but plausible finished run, as big as asked for."""

import numpy as np
import pyarrow as pa
import pytest

from raygrid.grid.network import Network, NetworkRows
from raygrid.market.clearing import ClearingResult, ClearingStatus, IterationRecord
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import GRID_ID, GridConnection, Population
from raygrid.results import frames
from raygrid.results.files import RunStatus
from raygrid.results.store import RunInfo, RunWriter
from raygrid.results.summary import (
    Seconds,
    Summary,
    central_summary,
    clearing_summary,
    settlement_summary,
)
from raygrid.scenario.case import Case
from raygrid.scenario.metering import Metering
from raygrid.scenario.tables import population_tables
from raygrid.settlement.metering import MeterPark, with_grid
from raygrid.settlement.participants import simulated_participants
from raygrid.settlement.rules import Tolerance
from raygrid.settlement.statements import statements_table
from raygrid.settlement.verification import (
    Verification,
    meters_table,
    net_traded_wh,
)


def example_network(n_buses: int, meshed: bool) -> Network:
    """Feeder with side branches; `meshed` closes some rings."""
    rng = np.random.default_rng(n_buses)
    to_bus = np.arange(1, n_buses)
    from_bus = np.where(rng.random(n_buses - 1) < 0.75, to_bus - 1, rng.integers(0, to_bus))
    if meshed and n_buses > 4:
        ends = np.sort(rng.choice(n_buses, size=(n_buses // 2, 2)), axis=1)
        ends = ends[np.abs(ends[:, 0] - ends[:, 1]) > 1]
        from_bus, to_bus = np.append(from_bus, ends[:, 0]), np.append(to_bus, ends[:, 1])
    n_lines = len(from_bus)
    return Network(
        name="example",
        bus_id=np.arange(1, n_buses + 1, dtype=np.int64),
        slack=0,
        line_id=np.arange(1, n_lines + 1, dtype=np.int64),
        from_bus=from_bus.astype(np.int64),
        to_bus=to_bus.astype(np.int64),
        r_pu=np.full(n_lines, 0.01),
        x_pu=rng.uniform(0.02, 0.08, n_lines),
        limit_kw=np.full(n_lines, np.inf),
        flow_offset_kw=np.zeros(n_lines),
    )


def ptdf(network: Network) -> np.ndarray:
    """Dense PTDF of a small network."""
    lines = np.arange(network.n_lines)
    incidence = np.zeros((network.n_lines, network.n_buses))
    incidence[lines, network.from_bus] = 1.0
    incidence[lines, network.to_bus] = -1.0
    weighted = incidence / network.x_pu[:, None]
    laplacian = incidence.T @ weighted
    keep = np.arange(network.n_buses) != network.slack
    out = np.zeros_like(incidence)
    out[:, keep] = weighted[:, keep] @ np.linalg.inv(laplacian[np.ix_(keep, keep)])
    return out


def example_case(n: int, n_buses: int, meshed: bool, n_periods: int) -> tuple[Case, Dispatch]:
    """A community with PV, elastic and fixed load and some batteries, and a day of it."""
    rng = np.random.default_rng(n)
    network = example_network(n_buses, meshed)
    hours = (np.arange(n_periods) + 0.5) * 24 / n_periods
    sun = np.clip(np.sin((hours - 6) / 12 * np.pi), 0, None) ** 1.3
    evening = np.exp(-0.5 * ((hours - 19) / 2.2) ** 2) + 0.5 * np.exp(-0.5 * ((hours - 8) / 2) ** 2)
    population = Population.empty(n, n_periods)
    population.bus[:] = rng.integers(1, n_buses, n) if n_buses > 1 else 0
    seller = rng.random(n) < 0.5
    battery = seller & (rng.random(n) < 0.4)
    population.alpha[seller] = 0.004
    population.beta[seller] = 0.03
    population.omega[~seller] = 0.22
    population.delta[~seller] = 0.05
    population.soc_max_kwh[battery] = 8.0
    population.soc_initial_kwh[battery] = 4.0
    population.charge_max_kw[battery] = population.discharge_max_kw[battery] = 2.0
    scale = rng.uniform(0.6, 1.4, (n, 1))
    population.generation_limit_kw[:] = np.where(seller[:, None], 4 * scale * sun, 0)
    population.demand_limit_kw[:] = np.where(seller[:, None], 0, scale * (0.5 + evening))
    population.fixed_load_kw[:] = 0.2 * scale
    price = 0.08 - 0.05 * sun + 0.03 * evening
    push = np.clip((price - price.mean()) / 0.03, -1, 1)
    charge = np.where(battery[:, None], np.clip(-push, 0, None) * 0.9, 0.0) * np.ones((n, 1))
    discharge = np.where(battery[:, None], np.clip(push, 0, None) * 0.9, 0.0) * np.ones((n, 1))
    soc = np.where(battery[:, None], np.clip(4 + np.cumsum(charge - discharge, 1), 0, 8), 0.0)
    generation = population.generation_limit_kw * 0.95
    demand = population.demand_limit_kw * 0.8
    p = generation - demand - population.fixed_load_kw + discharge - charge
    zeros = np.zeros((n, n_periods))
    dispatch = Dispatch(p, generation, demand, charge, discharge, soc, zeros)
    tariff = np.where((hours > 17) & (hours < 21), 0.14, 0.1)
    big = np.full(n_periods, 10.0 * n)
    grid = GridConnection(tariff, tariff * 0.4, big, big, 3.0 * n)
    p_bus, _ = injections(network, population, dispatch)
    flow = np.abs(ptdf(network) @ p_bus).max(axis=1, initial=0.0)
    # The busiest line is at 100 %, the others below it by chance.
    limit = np.maximum(flow, flow.max(initial=0.0) * 0.3) * rng.uniform(1, 2.2, network.n_lines)
    if network.n_lines:
        limit[np.argmax(flow)] = flow.max()
    network = Network(**{**vars(network), "limit_kw": limit})
    matrix = ptdf(network)
    bound = np.repeat(limit[:, None], n_periods, axis=1)
    kind = np.full(network.n_lines, "line")
    rows = NetworkRows(matrix, -bound, bound, kind, np.arange(network.n_lines))
    reactive = np.zeros((n_buses, n_periods))
    dt = 24 / n_periods
    return Case(
        "example", network, rows, GivenCommunity(population), grid, dt, "$", reactive
    ), dispatch


def injections(network, population, dispatch):
    """Injection per bus with the grid connection, and its import [kW]."""
    p_bus = np.zeros((network.n_buses, dispatch.p_kw.shape[1]))
    np.add.at(p_bus, population.bus, dispatch.p_kw)
    grid_kw = -p_bus.sum(axis=0)
    p_bus[network.slack] += grid_kw
    return p_bus, grid_kw


def example_result(case: Case, dispatch: Dispatch) -> ClearingResult:
    """A clearing that ends at this dispatch."""
    p_bus, grid_kw = injections(case.network, case.population, dispatch)
    steps = np.arange(1, 19)
    records = tuple(
        IterationRecord(int(k), 40 * 0.62**k, 25 * 0.65**k, 0.02, 0.012, 0.1, 0.004) for k in steps
    )
    flow = case.rows.matrix @ p_bus
    use = np.abs(flow) / np.maximum(case.network.limit_kw[:, None], 1e-9)
    congestion = 0.03 * (use > 0.95).any(axis=0)
    order = np.linspace(-1, 1, case.network.n_buses)
    base = 0.6 * case.grid.import_price_per_kwh
    lmp = base + congestion * order[:, None]
    return ClearingResult(
        ClearingStatus.CONVERGED, "", records, lmp, base * 1.02, p_bus, flow, grid_kw,
        12.3456 * len(case.population), None, 0.08,
    )  # fmt: skip


def example_trades(case: Case, dispatch: Dispatch, price, matches: int = 3) -> pa.Table:
    """Every buyer buys from the next few sellers."""
    rng = np.random.default_rng(1)
    rows = []
    for period in range(case.n_periods):
        sellers = np.flatnonzero(dispatch.p_kw[:, period] > 0.01)
        buyers = np.flatnonzero(dispatch.p_kw[:, period] < -0.01)
        if not len(sellers):
            sellers = np.array([-1])
        for buyer in buyers:
            energy = int(-dispatch.p_kw[buyer, period] * case.period_hours * 1000)
            for seller in rng.choice(sellers, min(matches, len(sellers)), replace=False):
                rows.append((seller, buyer, period, energy // matches))
    seller, buyer, period, energy = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    ids = np.append(case.population.prosumer_id, GRID_ID)
    micro = np.rint(np.asarray(price)[period] * 1e6).astype(np.int64)
    n = len(energy)
    return pa.table(
        {
            "trade_id": np.arange(n),
            "seller_id": ids[seller],
            "buyer_id": ids[buyer],
            "period": period,
            "energy_wh": energy,
            "price_micro_per_kwh": micro,
            "value_micro": energy * micro // 1000,
            "network_micro": np.zeros(n, dtype=np.int64),
            "status": pa.array(["cleared"] * n, pa.string()),
            "reason": pa.array([""] * n, pa.string()),
            "batch_id": pa.nulls(n, pa.int64()),
            "sequence": pa.nulls(n, pa.int64()),
            "tx_hash": pa.nulls(n, pa.string()),
            "block": pa.nulls(n, pa.int64()),
        }
    )


def settle_example(writer, case, dispatch, grid_kw, trades):
    """Meter and settle by hand: who deviates is void, all else settles in a batch a period."""
    n_periods = case.n_periods
    ids = np.append(GRID_ID, case.population.prosumer_id)
    park = MeterPark(SETTLEMENT, "toy", 7, ids)
    p_kw = with_grid(dispatch.p_kw, grid_kw)
    day = park.day(p_kw, case.period_hours)
    c = {name: trades[name].to_numpy(zero_copy_only=False) for name in trades.column_names}
    who = c["seller_id"], c["buyer_id"], c["period"]
    # The example's trades do not add up to its schedule: most of its meters would deviate.
    net = net_traded_wh(*who, c["energy_wh"], ids, 0, n_periods)
    honest = Verification(day.accepted, net, Tolerance(10**9, 0))
    good = honest.verified_trades(*who)
    status = np.where(good, "settled", "rejected")
    reason = np.where(good, "", "meter")
    n = len(good)
    on_chain = {
        "status": pa.array(status.tolist(), pa.string()),
        "reason": pa.array(reason.tolist(), pa.string()),
        "batch_id": pa.array(c["period"]),
        "sequence": pa.array(c["period"]),
        "tx_hash": pa.array(["0x" + "ab" * 32] * n, pa.string()),
        "block": pa.array(np.full(n, 5)),
    }
    for name, column in on_chain.items():
        trades = trades.set_column(trades.column_names.index(name), name, column)
    zeros = np.zeros(len(ids), dtype=np.int64)
    keys = list(park.public_keys.values())
    people = simulated_participants(7, ids, zeros, zeros + 10**9, keys)
    writer.write_table("participants", people.table())
    writer.write_table("meters", meters_table(day.accepted, day.attacks))
    writer.write_table("readings", honest.readings_table())
    writer.write_table("statements", statements_table(people, trades))
    count = np.bincount(c["period"], minlength=n_periods)
    kept = np.bincount(c["period"], weights=good, minlength=n_periods).astype(np.int64)
    empty = np.zeros(n_periods, dtype=np.int64)
    batches = {
        "sequence": np.arange(n_periods), "group": empty, "period": np.arange(n_periods),
        "trades": count, "settled": kept, "rejected": count - kept, "energy_wh": empty + 7,
        "value_micro": empty + 9, "network_micro": empty, "payload_bytes": 13 * count,
        "status": ["settled"] * n_periods, "readings_hash": ["00"] * n_periods,
        "payload_hash": ["00"] * n_periods, "tx_hash": ["0xab"] * n_periods,
        "block": empty + 5, "gas": empty + 50_000,
    }  # fmt: skip
    writer.write_table("batches", pa.table(batches))
    return trades, settlement_summary("embedded", trades, n_periods, 4, 50_000 * n_periods, 0.5)


SETTLEMENT = Metering(
    drop_rate=0.02,
    attacks=[{"kind": "replay", "prosumers": [3]}, {"kind": "forged_identity", "prosumers": [5]}],
)


def write_example(
    out, n=25, n_buses=14, meshed=True, n_periods=24, trades=True, stages=True, notes=(),
    name="toy", settled=False,
):  # fmt: skip
    """Write the example as a run of raygrid would be; returns its folder."""
    case, dispatch = example_case(n, n_buses, meshed, n_periods)
    result = example_result(case, dispatch)
    net = case.network
    info = RunInfo(
        command=f"raygrid simulate {name}",
        period_hours=case.period_hours,
        slack_bus=int(net.bus_id[net.slack]),
        network_constrained=True,
        currency=case.currency,
        seeds={"scenario": 7},
        cluster={"nodes": 1, "CPU": 2.0},
        notes=tuple(notes),
    )
    with RunWriter(out, name, info) as writer:
        for table, rows in population_tables(case).items():
            writer.write_table(table, rows)
        writer.write_ptdf(case.rows.matrix, net.bus_id, net.line_id)
        writer.write_scenario(f"name: {name}\n")
        table = example_trades(case, dispatch, result.settlement_price_per_kwh)
        table = table if trades else table.slice(0, 0)
        clearing = settlement = None
        if settled:
            table, settlement = settle_example(writer, case, dispatch, result.grid_kw, table)
        if stages:
            writer.write_table("convergence", frames.convergence_table(result.records))
            grid_rows = frames.grid_schedule_table(result.grid_kw, info.slack_bus)
            rows = frames.schedule_table(case.population, net.bus_id, dispatch)
            writer.write_table("schedule", pa.concat_tables([grid_rows, rows]))
            writer.write_table("flows", frames.flows_table(net, result))
            writer.write_table("prices", frames.prices_table(net, result))
            writer.write_table("trades", table)
            energy = sum(table["energy_wh"].to_pylist()) / 1000
            clearing = clearing_summary(case, result, True, energy)
        welfare = result.welfare
        central = central_summary(welfare, welfare * 1.00004, 1.23) if stages else None
        seconds = Seconds(1.9, 0.4, 0.08, 3.2)
        summary = Summary(
            name, writer.run_id, "ok", n, 2, n_periods, net.n_buses, net.n_lines, clearing,
            central, seconds, settlement,
        )  # fmt: skip
        writer.write_summary(summary)
        writer.finish(RunStatus.OK, {"total": 3.2})
    return writer.path


@pytest.fixture
def make_run(tmp_path):
    """Function that writes an example run under a fresh folder."""

    def make(**options):
        return write_example(tmp_path / "runs", **options)

    return make


@pytest.fixture
def case_and_dispatch():
    """A small case with its dispatch."""
    return example_case(6, 5, True, 4)


@pytest.fixture
def result_of():
    """Function that makes a clearing's result of a case and its dispatch."""
    return example_result
