"""Rounds on a set of hard cases, against plain ADMM at the best fixed penalty.

Run as ``python -m benchmarks.convergence``. Ours are the scenarios' settings as shipped
(over-relaxed), and the same with residual balancing. Plain ADMM is the same method, size weights
included, without over-relaxation, at the best of seven fixed penalties for each case; a user would
have to find that one first. Gaps are to the duality bound of the same clearing, which is an upper
bound of the true gap. All is counted, not timed: the figures do not depend on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import median

import click

from actors.session import clearing_options
from benchmarks.common import OUT, Report, Target
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.build import build_case
from raygrid.scenario.case import Case
from raygrid.scenario.load import load_scenario

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Fixed penalties that plain ADMM is tried with, in times of the scenario's."""
MAX_ITERATIONS = 1000

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "14 buses (reconstructed data)": ("ieee14", ()),
    "33 buses (reconstructed data)": ("ieee33", ()),
    "118 buses, meshed": ("ieee118", ()),
    "low-voltage village": ("village", ()),
    "the default community": ("community", ()),
    "many binding lines": ("community", ("network.limits.fixed_load_margin=1.05",)),
    "tight batteries: nine in ten have one": ("community", ("population.battery_share=0.9",)),
    "little sun": ("community", ("population.pv_clearness=0.3",)),
    "free sun": (
        "community",
        (
            "population.pv_cost_per_kwh={low: 0.0, high: 0.0}",
            "population.pv_cost_per_kw2h={low: 0.0, high: 0.0}",
        ),
    ),
    "prices at zero": (
        "community",
        ("tariffs.import_price_per_kwh=0.0", "tariffs.export_price_per_kwh=0.0"),
    ),
    "exports for nothing": ("community", ("tariffs.export_price_per_kwh=0.0",)),
    "one price all day": ("community", ("tariffs.import_price_per_kwh=0.3",)),
    "loads from 0.05 to 50 kW": (
        "community",
        ("population.household_peak_kw={low: 0.05, high: 50.0}",),
    ),
    "PV from 0.1 to 100 kW": ("community", ("population.pv_peak_kw={low: 0.1, high: 100.0}",)),
    "96 periods of 15 min": ("community", ("horizon.periods=96", "horizon.period_hours=0.25")),
}  # fmt: skip
"""Scenario and settings of each case; those with a free number of prosumers get `--agents`."""
SIZED = frozenset({"community", "ieee118"})


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes
    ----------
    case : str
        What is hard about it.
    prosumers : int
        Number of prosumers.
    rounds : float
        Iterations, inf where it did not converge, with the scenario's settings.
    gap_percent : float
        Of that clearing, to its duality bound [%].
    balanced_rounds : float
        Iterations with residual balancing.
    balanced_gap_percent : float
        Of that clearing [%].
    plain_rounds : int or None
        Iterations of plain ADMM at the best fixed penalty; None where none converged.
    plain_penalty : float or None
        That penalty, in times of the scenario's.
    plain_gap_percent : float or None
        Of that clearing [%].
    plain_failed : int or None
        Penalties, of seven, with which plain ADMM did not converge in 1,000 rounds.
    """

    case: str
    prosumers: int
    rounds: float
    gap_percent: float
    balanced_rounds: float
    balanced_gap_percent: float
    plain_rounds: int | None
    plain_penalty: float | None
    plain_gap_percent: float | None
    plain_failed: int | None


def gap_percent(result: ClearingResult) -> float:
    """Gap to the duality bound [%]; nan where there is none."""
    if result.bound is None:
        return float("nan")
    return 100 * (result.bound - result.welfare) / abs(result.bound)


def load(name: str, settings: tuple[str, ...], agents: int | None) -> tuple[Case, ClearingOptions]:
    """A case and its settings, with room for many rounds."""
    scenario, base_dir = load_scenario(name, settings=settings, agents=agents)
    options = replace(clearing_options(scenario), max_iterations=MAX_ITERATIONS)
    return build_case(scenario, base_dir=base_dir), options


def measure(what: str, case: Case, options: ClearingOptions, plain: bool = True) -> Row:
    """Ours, balanced, and plain ADMM with all penalties."""

    def run(settings: ClearingOptions) -> ClearingResult:
        return clear(case, settings, local_exchange(case, settings))

    ours, balanced = run(options), run(replace(options, residual_balancing=True))
    tried = {
        factor: run(replace(options, relaxation=1.0, rho=factor * options.rho))
        for factor in (PENALTIES if plain else ())
    }
    converged = {k: r for k, r in tried.items() if r.status is ClearingStatus.CONVERGED}
    best = min(converged, key=lambda k: converged[k].iterations, default=None)
    return Row(
        case=what,
        prosumers=len(case.population),
        rounds=_rounds(ours),
        gap_percent=gap_percent(ours),
        balanced_rounds=_rounds(balanced),
        balanced_gap_percent=gap_percent(balanced),
        plain_rounds=None if best is None else converged[best].iterations,
        plain_penalty=best,
        plain_gap_percent=None if best is None else gap_percent(converged[best]),
        plain_failed=len(tried) - len(converged) if plain else None,
    )


def _rounds(result: ClearingResult) -> float:
    return result.iterations if result.status is ClearingStatus.CONVERGED else inf


@click.command()
@click.option("--agents", type=click.IntRange(1), default=300, show_default=True)
@click.option("--large", type=click.IntRange(1), default=100_000, show_default=True)
@OUT
def main(agents: int, large: int, out: Path) -> None:
    """Count rounds on hard cases."""
    report = Report("convergence", __doc__ or "")
    rows = [
        measure(what, *load(name, settings, agents if name in SIZED else None))
        for what, (name, settings) in CASES.items()
    ]
    rows.append(measure("a large community", *load("community", (), large), plain=False))
    report.table("Rounds", rows)
    ours, balanced = ([getattr(r, n) for r in rows] for n in ("rounds", "balanced_rounds"))
    plain = [r.plain_rounds for r in rows if r.plain_rounds is not None]
    report.table(
        "Over all cases",
        [
            {"method": "as shipped", "median": median(ours), "worst": max(ours)},
            {"method": "balanced", "median": median(balanced), "worst": max(balanced)},
            {"method": "plain, best penalty", "median": median(plain), "worst": max(plain)},
        ],
    )
    report.targets(
        Target(f"{name}: cases that did not converge", rounds.count(inf), at_most=0)
        for name, rounds in (("as shipped", ours), ("balanced", balanced))
    )
    report.write(out)


if __name__ == "__main__":
    main()
