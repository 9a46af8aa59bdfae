"""The same market for every placement: one actor per prosumer, two actors, one.

The digest covers residuals, prices, injections,
flows, the schedule and the trades in whole watt-hours and millionths of the currency, bit for
bit. Times per iteration are those of rounds after the first two, on warm actors.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, fields, replace
from typing import Any

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import Clock, SuiteSettings
from actors.cluster import ClusterOptions
from actors.driver import RayMarket
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.marketplace import match_trades
from raygrid.market.session import clear, local_exchange
from raygrid.results.benchmark import Report, Spread, Target
from raygrid.scenario.build import build_case
from raygrid.scenario.config import Scenario
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


def columns_digest(columns: Any) -> str:
    """Digest of the arrays of a dataclass."""
    digest = hashlib.sha256()
    for f in fields(columns):
        values = getattr(columns, f.name)
        if isinstance(values, np.ndarray):
            digest.update(np.ascontiguousarray(values).tobytes())
        elif values is not None:
            digest.update(columns_digest(values).encode())
    return digest.hexdigest()


def measure(
    market: RayMarket, scenario: Scenario, options: ClearingOptions, n: int
) -> dict[str, Any]:
    """Clear several times and digest the last; all must agree."""
    markets: set[str] = set()
    rounds: list[float] = []
    seconds: list[float] = []
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


class Settings(SuiteSettings):
    """What can be set."""

    scenario: str = "ieee14"
    actors: tuple[str, ...] = ("each", "2", "1")
    repeats: PositiveInt = 5


QUICK = Settings(scenario="tiny", actors=("2", "1"), repeats=1)


def run(report: Report, settings: Settings) -> None:
    """Compare placements of one market bit by bit, and their times."""
    scenario, base_dir = load_scenario(settings.scenario)
    case, options = build_case(scenario, base_dir=base_dir), clearing_options(scenario)
    title = f"{settings.scenario} by number of prosumer actors"
    table = report.table(title, ("actors",))
    with Session(ClusterOptions()) as session:
        for placement in settings.actors:
            with session.market(case, PlacementPolicy.parse(placement)) as market:
                table.add(measure(market, scenario, options, settings.repeats))
    local = market_digest(clear(case, options, local_exchange(case, options)))
    digests = ("market_sha256", "schedule_sha256", "trades_sha256")
    targets = [
        Target(
            f"different values of {key.removesuffix('_sha256')} among the placements",
            len(set(table.column(key))),
            at_most=1,
        )
        for key in ("iterations", *digests)
    ]
    targets.append(
        Target(
            "markets that differ from the one cleared without Ray",
            sum(digest != local for digest in table.column("market_sha256")),
            at_most=0,
        )
    )
    report.targets(targets)
