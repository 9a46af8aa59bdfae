"""Settlement: gas and time per trade on Anvil, Hardhat and the embedded chain, and growth.

Every measurement has a fresh chain; each chain's two
sides are measured in one run. The time of a settlement is that of encoding, signing, journaling
to disk, sending, all confirmations and reading every batch back; deploying, registering and
funding come before it. Gas counts the readings and their commitments. 'cpu' is that of this
process, which on Anvil and Hardhat is the sending side alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from actors.benchmarks.common import SuiteSettings
from raygrid.errors import EndedShortError
from raygrid.market.clearing import ClearingOptions
from raygrid.market.marketplace import match_trades
from raygrid.market.session import clear, local_exchange
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.build import load_case
from raygrid.scenario.load import load_scenario
from raygrid.settlement import contract
from raygrid.settlement.artifacts import encode_word, load_artifact
from raygrid.settlement.chain.keys import Role
from raygrid.settlement.delivery import Delivery
from raygrid.settlement.deployment import Deployment, DeploymentSettings
from raygrid.settlement.desk import SettlementDesk, SettlementOrder
from raygrid.settlement.engine import BatchOutcome, Needs, SettlementEngine
from raygrid.settlement.flights import FlightStatus
from raygrid.settlement.metering import with_grid
from raygrid.settlement.participants import Participants
from raygrid.settlement.plan import (
    ClearedTrades,
    PlannedBatch,
    Registry,
    plan_batches,
    purchases_micro,
)
from raygrid.settlement.rules import Tolerance
from raygrid.settlement.sender import Job

TOLERANCE = Tolerance(5, 15_000)
GAS_PRICES_GWEI = (0.01, 0.1, 1.0, 10.0, 30.0)
PUBLIC_GAS = 36_000_000
"""Gas limit of a block of Ethereum's main chain; a batch has to fit into one."""


def random_trades(n_participants: int, n_periods: int, per_period: int) -> ClearedTrades:
    """So many trades a period, half of the participants selling to the other half, at one price
    a period."""
    rng = np.random.default_rng(1)
    half = n_participants // 2
    n = n_periods * per_period
    seller = np.tile(np.arange(per_period) % half, n_periods)
    buyer = half + rng.integers(0, half, n)
    price = np.repeat(rng.integers(50_000, 300_000, n_periods), per_period)
    return ClearedTrades(
        trade_id=np.arange(n),
        seller_id=seller,
        buyer_id=buyer,
        slot=np.repeat(np.arange(n_periods), per_period),
        energy_wh=rng.integers(1, 5_000, n),
        price_micro_per_kwh=price,
        network_micro=np.zeros(n, dtype=np.int64),
        buyer_price_micro_per_kwh=price,
    )


def exact_plan(trades: ClearedTrades, registry: Registry, n_periods: int) -> list[PlannedBatch]:
    """Batches with readings that are just what was traded."""
    net = np.zeros((len(registry), n_periods), dtype=np.int64)
    np.add.at(net, (trades.seller_id, trades.slot), trades.energy_wh)
    np.subtract.at(net, (trades.buyer_id, trades.slot), trades.energy_wh)
    valid = np.ones(net.shape, dtype=np.bool_)
    return plan_batches(trades, registry, np.arange(n_periods), net, valid)


def strangers(registry: Registry) -> Participants:
    """Participants with addresses that nobody has a key of."""
    n = len(registry)
    address = [(k + 1).to_bytes(20, "big") for k in range(n)]
    zeros = np.zeros(n, dtype=np.int64)
    return Participants(registry.prosumer_id, zeros, zeros, address, address, [b"\2" * 33] * n)


@contextmanager
def deployed(chain: str, registry: Registry) -> Iterator[Deployment]:
    """A fresh chain with the contract, everybody registered."""
    with tempfile.TemporaryDirectory() as folder:
        settings = DeploymentSettings(Path(folder), chain, TOLERANCE)
        with Deployment(settings) as deployment:
            deployment.prepare(strangers(registry))
            yield deployment


def one_settlement(
    chain: str, n_participants: int, n_periods: int, per_period: int, alone: bool = False
) -> dict[str, Any]:
    """Settle random trades once; gas and times. `alone` gives each batch its own transaction."""
    registry = Registry.of(range(n_participants))
    trades = random_trades(n_participants, n_periods, per_period)
    with deployed(chain, registry) as deployment:
        if alone:
            deployment.limits = replace(deployment.limits, bytes=1)
        engine = SettlementEngine(deployment)
        engine.fund(Needs(purchases_micro(trades, registry)))
        journal = deployment.journal
        syncs, sync_s = journal.syncs, journal.sync_s
        planned = exact_plan(trades, registry, n_periods)
        started, cpu = perf_counter(), process_time()
        outcomes = engine.settle(planned)
        seconds, cpu = perf_counter() - started, process_time() - cpu
        check(outcomes)
        transactions, gas = deployment.spent(("commit:", "settle:"))
        settled = deployment.spent(("settle:",))[1]
        return {
            "seconds": seconds,
            "cpu_s": cpu,
            "gas": gas,
            "settle_gas": settled,
            "transactions": transactions,
            "floor": sum(calldata_floor(o.batch.payload) for o in outcomes),
            "payload_bytes": len(outcomes[0].batch.payload),
            "syncs": journal.syncs - syncs,
            "sync_s": journal.sync_s - sync_s,
        }


def check(outcomes: Sequence[BatchOutcome]) -> None:
    """No figure of a settlement that did not settle."""
    if not all(o.is_settled and not o.void_reason.any() for o in outcomes):
        raise EndedShortError(f"not settled: {outcomes[0].trouble}")


def calldata_floor(data: bytes) -> int:
    """The least gas of calldata: 10 for a zero byte, 40 for any other (EIP-7623)."""
    zeros = data.count(0)
    return 10 * zeros + 40 * (len(data) - zeros)


def stored_structs(chain: str, n_batches: int, per_period: int) -> dict[str, Any]:
    """The plain way: every trade a stored struct; no meters, no token, no roles."""
    trades = random_trades(100, n_batches, per_period)
    registry = Registry.of(range(4))
    artifact = load_artifact("StoredTrades")
    signature = "settle((uint32,uint32,uint32,uint64,int64,int256)[])"
    with deployed(chain, registry) as deployment:
        sender = deployment.sender
        flight = sender.run([Job("plain", Role.OPERATOR, None, artifact.bytecode, 3_000_000)])[0]
        assert flight.receipt is not None
        assert flight.receipt.contract_address is not None
        to = flight.receipt.contract_address

        def jobs() -> Iterator[Job]:
            for period in range(n_batches):
                rows = np.flatnonzero(trades.slot == period)
                words = [encode_word(32), encode_word(len(rows))]
                for k in rows.tolist():
                    words += map(
                        encode_word,
                        (
                            int(trades.seller_id[k]),
                            int(trades.buyer_id[k]),
                            period,
                            int(trades.energy_wh[k]),
                            int(trades.price_micro_per_kwh[k]),
                            0,
                        ),
                    )
                data = b"".join([artifact.functions[signature], *words])
                yield Job(f"plain:{period}", Role.OPERATOR, to, data, 100_000_000)

        started, cpu = perf_counter(), process_time()
        flights = sender.run(jobs())
        seconds, cpu = perf_counter() - started, process_time() - cpu
        if any(flight.status is not FlightStatus.FINAL for flight in flights):
            raise EndedShortError("the plain contract did not take it")
        gas = sum(flight.receipt.gas_used for flight in flights if flight.receipt is not None)
        return {"seconds": seconds, "cpu_s": cpu, "gas": gas}


def thesis_day(chain: str) -> dict[str, Any]:
    """The day of the 14-bus case, metered by simulated meters, settled, and replayed."""
    scenario = load_scenario("ieee14")[0]
    case = load_case("ieee14")
    exchange = local_exchange(case, ClearingOptions())
    result = clear(case, ClearingOptions(), exchange)
    block = exchange.blocks[0]
    ((_, _, dispatch),) = block.final_chunks(exchange.finish()[0].messages[0])
    by_id = np.argsort(block.population.prosumer_id)
    dispatch = dispatch.take(by_id)
    matched = match_trades(case, result, dispatch.p_kw, scenario.market)
    grid = None if case.grid is None else result.grid_kw
    ids = case.population.prosumer_id.tolist()
    registry = Registry.of(ids if grid is None else [0, *ids])
    table = matched.trades.table()
    day = Delivery(ClearedTrades.from_table(table), 0, with_grid(dispatch.p_kw, grid))
    with tempfile.TemporaryDirectory() as folder:
        order = SettlementOrder(Path(folder), chain, scenario, registry, case.period_hours)
        with SettlementDesk(order) as desk:
            desk.prepare()
            cpu = process_time()
            desk.settle([day])
            cpu = process_time() - cpu
            done = desk.finish(table)
            refused, tried = replays(desk)
    figures = done.summary
    return {
        "trades": figures.trades,
        "verified": figures.verified,
        "settled": figures.settled,
        "replays_refused": f"{refused} of {tried}",
        "seconds": figures.seconds,
        "cpu_s": cpu,
        "trades_per_s": figures.trades_per_second,
        "gas_per_trade": figures.gas_per_trade,
        "all_settled": figures.settled == figures.verified and refused == tried,
    }


def replays(desk: SettlementDesk) -> tuple[int, int]:
    """Send every batch again: the same bytes, with its old number, and with the next number."""
    deployment = desk.deployment
    batches = [outcome.batch for outcome in desk.outcomes()]
    raw = [e.raw for e in deployment.journal.entries if e.step.startswith("settle:")]
    before = deployment.chain.block_number()
    deployment.chain.send_raw(raw)
    refused = len(raw) * (deployment.chain.block_number() == before)
    for number in (0, len(batches)):
        for batch in batches:
            data = contract.settle_call([batch.payload], number)
            job = Job("replay", Role.OPERATOR, deployment.ledger.address, data, 5_000_000)
            status = deployment.sender.run([job])[0].status
            refused += status is FlightStatus.REVERTED
    return refused, len(raw) + 2 * len(batches)


def growth(sizes: Sequence[int], largest: int) -> list[dict[str, Any]]:
    """Gas of a participant-day at more and more participants, one trade each and period; past
    what was measured, gas per participant and trade as at the largest size."""
    rows: list[dict[str, Any]] = []
    for n in sizes:
        periods = 24
        one = one_settlement("embedded", n, periods, n)
        per_batch = one["gas"] / periods
        rows.append(
            {
                "participants": n,
                "how": f"measured, {periods} periods",
                "batch_bytes": one["payload_bytes"],
                "gas_per_batch": per_batch,
                "gas_per_trade": per_batch / n,
                "gas_per_participant_day": 24 * per_batch / n,
                "seconds_per_period": one["seconds"] / periods,
                "public_blocks_per_period": one["settle_gas"] / periods / PUBLIC_GAS,
            }
        )
    last = rows[-1]
    scale = largest / last["participants"]
    rows.append(
        {
            "participants": largest,
            "how": "worked out",
            "batch_bytes": int(last["batch_bytes"] * scale),
            "gas_per_batch": last["gas_per_batch"] * scale,
            "gas_per_trade": last["gas_per_trade"],
            "gas_per_participant_day": last["gas_per_participant_day"],
            "seconds_per_period": last["seconds_per_period"] * scale,
            "public_blocks_per_period": last["public_blocks_per_period"] * scale,
        }
    )
    return rows


def cost_rows(gas_per_trade: float, gas_per_day: float, coin_price: float) -> list[dict[str, Any]]:
    """What gas means in money."""
    rows = []
    for gwei in GAS_PRICES_GWEI:
        per_gas = gwei * 1e-9 * coin_price
        rows.append(
            {
                "gas_price_gwei": gwei,
                "cost_per_trade": gas_per_trade * per_gas,
                "cost_per_participant_day": gas_per_day * per_gas,
                "cost_per_participant_year": 365 * gas_per_day * per_gas,
            }
        )
    return rows


class Settings(SuiteSettings):
    """What can be set; the coin's price is in the currency of the market."""

    repeats: PositiveInt = 3
    batches: PositiveInt = 120
    coin_price: PositiveFloat = 3000.0
    chains: tuple[str, ...] = ("anvil", "hardhat", "embedded")
    participants: tuple[PositiveInt, ...] = (100, 1_000, 10_000)


QUICK = Settings(repeats=1, batches=4, chains=("embedded",), participants=(10, 100))


def run(report: Report, settings: Settings) -> None:
    """Measure settlement; chains that are not installed are refused in one line."""
    repeats, batches, coin_price = settings.repeats, settings.batches, settings.coin_price
    names = settings.chains
    targets: list[Target] = []

    table = report.table("Day of the 14-bus case", ("chain", "run"))
    for chain in names:
        for k in range(repeats):
            table.add({"chain": chain, "run": k + 1, **thesis_day(chain)})
    days = table.rows
    for chain in names:
        its = [day for day in days if day["chain"] == chain]
        done = float(all(day["all_settled"] for day in its))
        what = f"{chain}: every verified trade settled, every replay refused"
        targets.append(Target(what, done, at_least=1))
        if chain == "anvil":
            wall = Spread.of(day["seconds"] for day in its).median
            targets.append(Target("anvil: the day [s]", wall, at_most=1.0))

    node = "anvil" if "anvil" in names else "embedded"
    layouts = []
    one_settlement(node, 100, 2, 500)
    ours = [one_settlement(node, 100, batches, 500) for _ in range(repeats)]
    singly = [one_settlement(node, 100, batches, 500, alone=True) for _ in range(repeats)]
    plain = [stored_structs(node, 4, 500) for _ in range(repeats)]
    for name, runs, trades in (
        ("packed batches, metered", ours, 500 * batches),
        ("the same, one batch a transaction", singly, 500 * batches),
        ("stored structs, no meters", plain, 2_000),
    ):
        layouts.append(
            {
                "layout": f"{name}, {trades} trades",
                "trades_per_s": Spread.of(trades / run["seconds"] for run in runs),
                "trades_per_cpu_s": Spread.of(trades / run["cpu_s"] for run in runs),
                "gas_per_trade": runs[0]["gas"] / trades,
            }
        )
    layouts.append(
        {
            "layout": "calldata floor of the packed batches (EIP-7623)",
            "trades_per_s": None,
            "trades_per_cpu_s": None,
            "gas_per_trade": ours[0]["floor"] / (500 * batches),
        }
    )
    title = f"Batches of 500 trades of one period among 100 participants, {node}"
    report.table(title, ("layout",), layouts)
    report.table(
        "The journal in those runs",
        ("run",),
        [
            {
                "run": k + 1,
                "syncs": run["syncs"],
                "seconds_waiting_for_the_disk": run["sync_s"],
                "share_of_the_time": run["sync_s"] / run["seconds"],
            }
            for k, run in enumerate(ours)
        ],
    )
    if node == "anvil":
        rate = Spread.of(500 * batches / run["seconds"] for run in ours).median
        targets.append(Target("anvil: trades/s, batches of 500", rate, at_least=60_000))
    gas = singly[0]["gas"] / (500 * batches)
    targets.append(Target("gas per trade, batches of 500, one a transaction", gas, at_most=1500))

    embedded = [one_settlement("embedded", 1000, 24, 1000) for _ in range(repeats)]
    rates = Spread.of(24_000 / run["seconds"] for run in embedded)
    report.table(
        "Embedded, 1,000 participants, 24 periods of 1,000 trades",
        ("chain",),
        [
            {
                "chain": "embedded",
                "trades_per_s": rates,
                "trades_per_cpu_s": Spread.of(24_000 / run["cpu_s"] for run in embedded),
                "gas_per_trade": embedded[0]["gas"] / 24_000,
            }
        ],
    )
    targets.append(Target("embedded: trades/s", rates.median, at_least=2000))

    grown = growth(settings.participants, 10 * settings.participants[-1])
    report.table("Growth: one trade a participant and period", ("participants", "how"), grown)
    at = grown[1]
    report.table(
        f"Cost at {at['participants']} participants, coin at {coin_price:g} of the currency",
        ("gas_price_gwei",),
        cost_rows(at["gas_per_trade"], at["gas_per_participant_day"], coin_price),
    )
    report.targets(targets)
