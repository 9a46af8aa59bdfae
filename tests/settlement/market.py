"""A small cleared market, its delivery and what is needed to settle it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from raygrid.market.trades import micro_value
from raygrid.scenario.load import load_scenario
from raygrid.settlement.delivery import Delivery
from raygrid.settlement.desk import SettlementOrder
from raygrid.settlement.plan import ClearedTrades, Registry

PERIOD_HOURS = 0.5


def trades_table(
    registry: Registry,
    n_periods: int,
    seed: int = 0,
    locational: bool = False,
    first_period: int = 0,
) -> pa.Table:
    """Random trades: in each period every participant sells, buys, or rests."""
    rng = np.random.default_rng(seed)
    rows = []
    for period in range(first_period, first_period + n_periods):
        side = rng.integers(0, 3, len(registry))
        side[:2] = 0, 1
        sellers, buyers = (registry.prosumer_id[side == k] for k in range(2))
        for seller in sellers:
            for buyer in buyers:
                price = int(rng.integers(-50_000, 300_000))
                rest = int(rng.integers(-40_000, 40_000)) if locational else 0
                rows.append((seller, buyer, period, rng.integers(1, 5_000), price, rest))
    seller, buyer, period, energy, price, rest = (
        np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)
    )
    value = micro_value(energy, price)
    n = len(rows)
    return pa.table(
        {
            "trade_id": np.arange(n) + 1000 * first_period,
            "seller_id": seller,
            "buyer_id": buyer,
            "period": period,
            "energy_wh": energy,
            "price_micro_per_kwh": price,
            "value_micro": value,
            "network_micro": micro_value(energy, price + rest) - value,
            "status": pa.repeat("cleared", n),
            "reason": pa.repeat("", n),
            "batch_id": pa.nulls(n, pa.int64()),
            "sequence": pa.nulls(n, pa.int64()),
            "tx_hash": pa.nulls(n, pa.string()),
            "block": pa.nulls(n, pa.int64()),
        }
    )


def delivery(
    registry: Registry, trades: pa.Table, n_periods: int, first_period: int = 0
) -> Delivery:
    """Everybody delivers exactly what it traded."""
    cleared = ClearedTrades.from_table(trades)
    net = np.zeros((len(registry), n_periods))
    at = cleared.slot - first_period
    np.add.at(net, (registry.chain_id(cleared.seller_id), at), cleared.energy_wh)
    np.subtract.at(net, (registry.chain_id(cleared.buyer_id), at), cleared.energy_wh)
    return Delivery(cleared, first_period, net / 1000 / PERIOD_HOURS)


def order(
    run: Path, registry: Registry, *settings: str, chain: str = "embedded"
) -> SettlementOrder:
    """What a desk needs for this market."""
    scenario = load_scenario("tiny", settings=settings)[0]
    return SettlementOrder(run, chain, scenario, registry, PERIOD_HOURS)
