"""Rounds and gap over slow and lossy links by a seeded model, and what their bandwidth costs.

Every prosumer of the 14-bus case has a link of its
own, the community's prosumers share twenty. The same channels are drawn for every row of a seed.
Gaps are to the central solve of the same case, made in the same run. Time is that of the model;
computing counts as instantaneous, so the figures do not depend on this machine. The last table has
links by TES (6) to (8): what their bandwidth does to the rate, to the time of a clearing and to
what they cost meanwhile. Its powers, bandwidths and costs are made up, the paper prints none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings, load
from raygrid.market.central import solve_central
from raygrid.market.channel import Channel, NoisyLink, Staleness
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.market.staleness import Traffic
from raygrid.results.benchmark import Report, Spread
from raygrid.scenario.case import Case

LOSSES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4)
JITTERS_S = (0.0, 0.01, 0.03, 0.1)
LATENCY_S = 0.02
PATIENCE_S = 0.1
RATE_BITS_PER_S = 1e6
BANDWIDTHS_HZ = (6.25e3, 1.25e4, 2.5e4, 5e4, 1e5, 2e5)
BANDWIDTH_LINK = NoisyLink(
    bandwidth_hz=2e5, power_w=1.0, bit_rate_coefficient=2e5, bandwidth_max_hz=2e5, power_max_w=2.0,
    power_share=0.5, cost_per_hour=0.1, penalty_per_hour=0.1,
)  # fmt: skip
"""With all of its bandwidth, 0.2 Mbit/s: as narrow as links of meters are."""
BANDWIDTH_PATIENCE_S = 1.0
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Row:
    """Some links, over several seeds.

    Attributes
    ----------
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

    converged: int
    rounds: Spread
    gap_percent: Spread
    lost: Spread
    late: Spread
    model_s: Spread


@dataclass(frozen=True)
class Study:
    """A case whose prosumers share some links.

    Attributes
    ----------
    name : str
        Case and number of links.
    case : Case
        The market.
    options : ClearingOptions
        Solver settings.
    central : float
        Welfare of the central optimum [currency].
    links : int
        Number of links.
    seeds : int
        Number of seeds of each channel.
    """

    name: str
    case: Case
    options: ClearingOptions
    central: float
    links: int
    seeds: int

    def clear(self, links: Staleness) -> tuple[Row, list[Traffic]]:
        """Clear over these links with several seeds."""
        order = np.argsort(self.case.population.bus, kind="stable")
        hosts = [np.sort(part) for part in np.array_split(order, self.links)]
        results, traffic = [], []
        for seed in range(1, self.seeds + 1):
            staleness = replace(links, channel=replace(links.channel, seed=seed))
            options = replace(self.options, staleness=staleness, max_iterations=MAX_ITERATIONS)
            exchange = local_exchange(self.case, options, hosts)
            results.append(clear(self.case, options, exchange))
            assert exchange.lossy is not None
            traffic.append(exchange.lossy.traffic)
        row = Row(
            converged=sum(result.status is ClearingStatus.CONVERGED for result in results),
            rounds=Spread.of(result.iterations for result in results),
            gap_percent=Spread.of(
                100 * abs(r.welfare - self.central) / abs(self.central) for r in results
            ),
            lost=Spread.of(one.lost for one in traffic),
            late=Spread.of(one.late for one in traffic),
            model_s=Spread.of(one.seconds for one in traffic),
        )
        return row, traffic

    def over_channel(self, channel: Channel) -> dict[str, Any]:
        """One row of a table by loss or delay."""
        row, _ = self.clear(Staleness(channel, PATIENCE_S))
        return {"case": self.name, "loss": channel.loss, "jitter_s": channel.jitter_s} | vars(row)

    def over_bandwidth(self, bandwidth_hz: float) -> dict[str, Any]:
        """One row of the table of links by TES (6) to (8)."""
        link = replace(BANDWIDTH_LINK, bandwidth_hz=bandwidth_hz)
        channel = Channel(LATENCY_S, 0.01, rate_bits_per_s=link.rate_bits_per_s)
        row, traffic = self.clear(Staleness(channel, BANDWIDTH_PATIENCE_S, link=link))
        return {
            "case": self.name,
            "bandwidth_khz": bandwidth_hz / 1e3,
            "rate_kbit_per_s": link.rate_bits_per_s / 1e3,
            "utilisation": link.use,
            **vars(row),
            "cost_millionths": Spread.of(1e6 * (one.cost or 0.0) for one in traffic),
        }


class Settings(SuiteSettings):
    """What can be set."""

    seeds: PositiveInt = 5
    agents: PositiveInt = 100


QUICK = Settings(seeds=1, agents=20)


def run(report: Report, settings: Settings) -> None:
    """Study iterations and gap against loss, delay and bandwidth."""
    links = f"latency {LATENCY_S} s, 1 Mbit/s a link, patience {PATIENCE_S} s"
    keys = ("case", "loss", "jitter_s")
    losses = report.table(f"Against loss ({links}, jitter 0.01 s)", keys)
    delays = report.table(f"Against delay ({links}, loss 0.01)", keys)
    widths = report.table(
        f"Against bandwidth, TES (6) to (8) (latency {LATENCY_S} s, jitter 0.01 s, "
        f"patience {BANDWIDTH_PATIENCE_S:g} s)",
        ("case", "bandwidth_khz"),
    )
    for name, count, n_links in (
        ("ieee14", None, 25),
        ("community", settings.agents, min(20, settings.agents)),
    ):
        case, options = load(name, count)
        central = solve_central(case, network_constrained=options.network_constrained).welfare
        what = f"{name}, {n_links} links"
        study = Study(what, case, options, central, n_links, settings.seeds)
        for loss in LOSSES:
            losses.add(study.over_channel(Channel(LATENCY_S, 0.01, loss, RATE_BITS_PER_S)))
        for jitter_s in JITTERS_S:
            delays.add(study.over_channel(Channel(LATENCY_S, jitter_s, 0.01, RATE_BITS_PER_S)))
        for bandwidth_hz in BANDWIDTHS_HZ:
            widths.add(study.over_bandwidth(bandwidth_hz))
