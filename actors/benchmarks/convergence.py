"""Rounds on a set of hard cases, against plain ADMM at the best fixed penalty.

Ours are the scenarios' settings as shipped
(over-relaxed), and the same with residual balancing. Plain ADMM is the same method, size weights
included, without over-relaxation, at the best of seven fixed penalties for each case; a user would
have to find that one first. Gaps are to the duality bound of the same clearing, which is an upper
bound of the true gap. All is counted, not timed: the figures do not depend on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from statistics import median

from pydantic import PositiveInt

from actors.benchmarks.common import SuiteSettings, gap_percent, load
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.results.benchmark import Report, Target
from raygrid.scenario.case import Case

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
"""Scenario and settings of each case; those with a free number of prosumers get `agents`."""
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


class Settings(SuiteSettings):
    """What can be set."""

    agents: PositiveInt = 300
    large: PositiveInt = 100_000


QUICK = Settings(agents=30, large=1000)


def run(report: Report, settings: Settings) -> None:
    """Count rounds on hard cases."""
    table = report.table("Rounds", ("case", "prosumers"))
    asked = [
        (what, name, changes, settings.agents if name in SIZED else None, True)
        for what, (name, changes) in CASES.items()
    ]
    asked.append(("a large community", "community", (), settings.large, False))
    for what, name, changes, agents, plain in asked:
        case, options = load(name, agents, changes)
        table.add(measure(what, case, replace(options, max_iterations=MAX_ITERATIONS), plain))
    ours, balanced = table.column("rounds"), table.column("balanced_rounds")
    best = [rounds for rounds in table.column("plain_rounds") if rounds is not None]
    report.table(
        "Over all cases",
        ("method",),
        [
            {"method": method, "median": median(rounds), "worst": max(rounds)}
            for method, rounds in (
                ("as shipped", ours),
                ("balanced", balanced),
                ("plain, best penalty", best),
            )
        ],
    )
    report.targets(
        Target(f"{name}: cases that did not converge", rounds.count(inf), at_most=0)
        for name, rounds in (("as shipped", ours), ("balanced", balanced))
    )
