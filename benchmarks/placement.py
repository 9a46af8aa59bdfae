"""The same market for every placement: one actor per prosumer, two actors, one.

Run as ``python -m benchmarks.placement``. The digest covers residuals, prices, injections,
flows, the schedule and the trades in whole watt-hours and millionths of the currency, bit for
bit. Times per iteration are those of rounds after the first two, on warm actors.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from actors.cluster import ClusterOptions
from actors.driver import RayMarket
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from benchmarks.common import OUT, Clock, Report, Spread, Target
from raygrid.market.clearing import ClearingResult
from raygrid.market.marketplace import match_trades
from raygrid.market.session import clear, local_exchange
from raygrid.market.trades import Trades
from raygrid.prosumer.dispatch import Dispatch
from raygrid.scenario.build import build_case
from raygrid.scenario.load import load_scenario


def market_digest(result: ClearingResult) -> str:
    """Digest of everything a clearing gives but wall times."""
    digest = hashlib.sha256()
    for record in result.records:
        digest.update(np.array(astuple(replace(record, seconds=0.0)), dtype=np.float64).tobytes())
    for name in ("lmp_per_kwh", "settlement_price_per_kwh", "p_bus_kw", "flow_kw", "grid_kw"):
        digest.update(np.ascontiguousarray(getattr(result, name)).tobytes())
    digest.update(repr((result.status, result.welfare, result.bound)).encode())
    return digest.hexdigest()


def columns_digest(columns: Trades | Dispatch) -> str:
    """Digest of the arrays of a dataclass."""
    digest = hashlib.sha256()
    for f in fields(columns):
        digest.update(np.ascontiguousarray(getattr(columns, f.name)).tobytes())
    return digest.hexdigest()


def measure(market: RayMarket, scenario: Any, options: Any, n: int) -> dict[str, Any]:
    """Clear several times and digest the last; all must agree."""
    markets, rounds, seconds = set(), [], []
    market.clear(options)
    for _ in range(n):
        clock = Clock()
        result = market.clear(options, clock)
        markets.add(market_digest(result))
        rounds += clock.rounds_ms
        seconds.append(result.seconds)
    dispatch = market.dispatch()
    matched = match_trades(market.case, result, dispatch.p_kw, scenario.market)
    return {
        "actors": market.placement.n_hosts,
        "status": str(result.status),
        "iterations": result.iterations,
        "trades": len(matched.trades),
        "energy_wh": int(matched.trades.energy_wh.sum()),
        "value_micro": int(matched.trades.value_micro.sum()),
        "start_s": market.start_s,
        "clearing_s": Spread.of(seconds),
        "iteration_ms": Spread.of(rounds),
        "market_sha256": " ".join(sorted(markets)),
        "schedule_sha256": columns_digest(dispatch),
        "trades_sha256": columns_digest(matched.trades),
    }


@click.command()
@click.option("--scenario", "name", default="ieee14", show_default=True)
@click.option(
    "--actors", "placements", multiple=True, default=("each", "2", "1"), show_default=True
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@OUT
def main(name: str, placements: tuple[str, ...], repeats: int, out: Path) -> None:
    """Compare placements of one market bit by bit, and their times."""
    report = Report("placement", __doc__ or "")
    scenario, base_dir = load_scenario(name)
    case, options = build_case(scenario, base_dir=base_dir), clearing_options(scenario)
    rows = []
    with Session(ClusterOptions()) as session:
        for placement in placements:
            with session.market(case, PlacementPolicy.parse(placement)) as market:
                rows.append(measure(market, scenario, options, repeats))
    local = market_digest(clear(case, options, local_exchange(case, options)))
    report.table(f"{name} by number of prosumer actors", rows)
    digests = ("market_sha256", "schedule_sha256", "trades_sha256")
    targets = [
        Target(
            f"different values of {key.removesuffix('_sha256')} among the placements",
            len({row[key] for row in rows}),
            at_most=1,
        )
        for key in ("iterations", *digests)
    ]
    targets.append(
        Target(
            "markets that differ from the one cleared without Ray",
            sum(row["market_sha256"] != local for row in rows),
            at_most=0,
        )
    )
    report.targets(targets)
    report.write(out)


if __name__ == "__main__":
    main()
