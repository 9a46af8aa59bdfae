"""Rounds and gap over slow and lossy links, by a seeded model of them.

Every prosumer of the 14-bus case has a link of its
own, the community's prosumers share twenty. The same channels are drawn for every row of a seed.
Gaps are to the central solve of the same case, made in the same run. Time is that of the model;
computing counts as instantaneous, so the figures do not depend on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings, load
from raygrid.market.central import solve_central
from raygrid.market.channel import Channel, Staleness
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.results.benchmark import Report, Spread
from raygrid.scenario.case import Case

LOSSES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4)
JITTERS_S = (0.0, 0.01, 0.03, 0.1)
LATENCY_S = 0.02
PATIENCE_S = 0.1
RATE_BITS_PER_S = 1e6
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Row:
    """One channel, over several seeds.

    Attributes
    ----------
    case : str
        Case and number of links.
    loss : float
        Probability that a message is lost.
    jitter_s : float
        Mean random delay of a message beyond the latency [s].
    converged : int
        Seeds whose clearing converged.
    rounds : Spread
        Iterations.
    gap_percent : Spread
        To the central optimum [%].
    lost, late : Spread
        Messages lost, and answers that came too late.
    model_s : Spread
        Time on the way [s].
    """

    case: str
    loss: float
    jitter_s: float
    converged: int
    rounds: Spread
    gap_percent: Spread
    lost: Spread
    late: Spread
    model_s: Spread


def measure(
    name: str, case: Case, options: ClearingOptions, central: float, links: int,
    channel: Channel, seeds: int,
) -> Row:  # fmt: skip
    """Clear a case over a channel with several seeds."""
    order = np.argsort(case.population.bus, kind="stable")
    hosts = [np.sort(part) for part in np.array_split(order, links)]
    results, traffic = [], []
    for seed in range(1, seeds + 1):
        staleness = Staleness(replace(channel, seed=seed), PATIENCE_S)
        settings = replace(options, staleness=staleness, max_iterations=MAX_ITERATIONS)
        exchange = local_exchange(case, settings, hosts)
        results.append(clear(case, settings, exchange))
        if exchange.lossy is not None:
            traffic.append(exchange.lossy.traffic)
    return Row(
        case=f"{name}, {links} links",
        loss=channel.loss,
        jitter_s=channel.jitter_s,
        converged=sum(result.status is ClearingStatus.CONVERGED for result in results),
        rounds=Spread.of(result.iterations for result in results),
        gap_percent=Spread.of(100 * abs(r.welfare - central) / abs(central) for r in results),
        lost=Spread.of(one.lost for one in traffic),
        late=Spread.of(one.late for one in traffic),
        model_s=Spread.of(one.seconds for one in traffic),
    )


class Settings(SuiteSettings):
    """What can be set."""

    seeds: PositiveInt = 5
    agents: PositiveInt = 100


QUICK = Settings(seeds=1, agents=20)


def run(report: Report, settings: Settings) -> None:
    """Study iterations and gap against loss and delay."""
    links = f"latency {LATENCY_S} s, 1 Mbit/s a link, patience {PATIENCE_S} s"
    keys = ("case", "loss", "jitter_s")
    losses = report.table(f"Against loss ({links}, jitter 0.01 s)", keys)
    delays = report.table(f"Against delay ({links}, loss 0.01)", keys)
    for name, count, n_links in (
        ("ieee14", None, 25),
        ("community", settings.agents, min(20, settings.agents)),
    ):
        case, options = load(name, count)
        central = solve_central(case, network_constrained=options.network_constrained).welfare
        for table, channels in (
            (losses, [Channel(LATENCY_S, 0.01, loss, RATE_BITS_PER_S) for loss in LOSSES]),
            (delays, [Channel(LATENCY_S, j, 0.01, RATE_BITS_PER_S) for j in JITTERS_S]),
        ):
            for channel in channels:
                table.add(measure(name, case, options, central, n_links, channel, settings.seeds))
