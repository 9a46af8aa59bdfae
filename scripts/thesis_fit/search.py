"""The search behind a fit: annealing of scalars and placement, then least squares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from raygrid.arrays import FloatArray, IntArray
from raygrid.grid.network import Network
from raygrid.grid.ptdf import ptdf
from scripts.thesis_fit.community import (
    CYCLE_COST,
    HIGH,
    LOW,
    N_PERIODS,
    Placement,
    build_population,
    printed_buyers,
)
from scripts.thesis_fit.figures import ACTIVE_KWH, Market, market_of, solve_both
from scripts.thesis_fit.printed import BUYER_ROWS, SELLER_ROWS, Setup, network_of
from scripts.thesis_fit.surrogate import clear_quickly

MEAN_PRICE = 0.06
"""Printed mean settlement price [$/kWh]; on the 14-bus network 16.56 / 276.05."""
LINE_8 = 7
"""Position of the line that section 6.7 names as the congested one."""
PRICE_RATIO = 1.2
"""Least ratio of evening to midday price before batteries act, so that storage has work."""
CLEAR = 0.015
"""By how much line utilisations keep away from the 80 % mark."""
ALIVE_KWH, MARGINAL_KWH = 0.3, 7.5
"""Least energy of an active seller, and most of the one that falls idle with limits."""
RELATIVE, HINGE = 100.0, 10.0
"""Residual of a relative error of 1 and of a unit by which a bound is missed."""
FAILED = 1e3

Batteries = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Task:
    """A setup with its network at hand."""

    setup: Setup
    network: Network
    ptdf: FloatArray
    seller: IntArray
    rows: FloatArray

    @classmethod
    def of(cls, setup: Setup) -> Task:
        """The task of a setup."""
        network = network_of(setup)
        return cls(setup, network, ptdf(network), np.array(setup.seller_ids) - 1, printed_buyers())

    def quick(
        self, scalars: FloatArray, placement: Placement, batteries: Batteries
    ) -> FloatArray | None:
        """Residuals by quick clearings; None where they fail."""
        found = clear_quickly(
            scalars,
            placement.cost_rank,
            self.rows,
            self.ptdf[:, placement.seller_bus - 1],
            self.ptdf[:, placement.buyer_bus - 1],
            self.network.limit_kw,
            batteries,
            CYCLE_COST,
        )
        return None if found is None else residuals(self.setup, *found)

    def exact(
        self, scalars: FloatArray, placement: Placement
    ) -> tuple[FloatArray, Batteries] | None:
        """Residuals by full solves and the batteries' schedules; None where they fail."""
        population = build_population(self.setup, scalars, placement)
        outcome = solve_both(population, self.network, self.ptdf)
        if outcome is None:
            return None
        solutions = (outcome.free, outcome.limited)
        uses = (outcome.utilisation_free, outcome.utilisation_limited)
        free, limited = (
            market_of(population, s, use) for s, use in zip(solutions, uses, strict=True)
        )
        first, second = ((s.p_kw - s.generation_kw + s.demand_kw)[self.seller] for s in solutions)
        quick = clear_quickly(
            scalars,
            placement.cost_rank,
            self.rows,
            self.ptdf[:, placement.seller_bus - 1],
            self.ptdf[:, placement.buyer_bus - 1],
            self.network.limit_kw,
            (first, second),
            CYCLE_COST,
        )
        ratio = PRICE_RATIO if quick is None else quick[0]
        return residuals(self.setup, ratio, free, limited), (first, second)


def _count_hinges(use: FloatArray, wanted: int) -> list[float]:
    """Zero where exactly `wanted` lines are clearly above 80 %."""
    order = np.sort(use)[::-1]
    return [
        max(0.0, 0.8 + CLEAR - float(order[wanted - 1])),
        max(0.0, float(order[wanted]) - 0.8 + CLEAR),
    ]


def residuals(setup: Setup, ratio: float, free: Market, limited: Market) -> FloatArray:
    """Distance of both markets from the printed figures.

    Parameters
    ----------
    setup : Setup
        Its targets decide what counts.
    ratio : float
        Evening over midday price with batteries at rest.
    free, limited : Market
        The markets without and with limits.
    """
    t = setup.targets
    out = [
        RELATIVE * (free.welfare / t["welfare_free"] - 1),
        # The loss by congestion matters more than its hundredfold, the welfare.
        3 * RELATIVE * (limited.welfare / t["welfare_limited"] - 1),
        RELATIVE * (float(free.use.max()) / t["utilisation_free"] - 1),
        HINGE * max(0.0, PRICE_RATIO - ratio),
        10 * HINGE * float(np.maximum(limited.use - 1.01, 0.0).sum()),
    ]
    if "energy_free_kwh" in t:
        price = free.value / t["energy_free_kwh"]
        out += [
            RELATIVE * (free.energy_kwh / t["energy_free_kwh"] - 1),
            RELATIVE * (limited.energy_kwh / t["energy_limited_kwh"] - 1),
            RELATIVE * (limited.value / t["value_limited"] - 1),
            RELATIVE / 3 * (price / MEAN_PRICE - 1),
        ]
    if "lines_above_80_free" in t:
        others = float(np.delete(free.use, LINE_8).max())
        out.append(HINGE * max(0.0, others - float(free.use[LINE_8]) + CLEAR))
        for market, name in ((free, "lines_above_80_free"), (limited, "lines_above_80_limited")):
            out += [HINGE * h for h in _count_hinges(market.use, int(t[name]))]
    if "pairs_limited" in t:
        idle = setup.sellers - int(t["pairs_limited"]) // setup.buyers
        least, sold = float(free.sold_kwh.min()), np.sort(limited.sold_kwh)
        out += [
            HINGE * max(0.0, ALIVE_KWH - least) + 2 * max(0.0, least - MARGINAL_KWH),
            float(np.log1p(sold[:idle].sum() / ACTIVE_KWH)),
            HINGE * max(0.0, ALIVE_KWH - float(sold[idle])),
        ]
    return np.array(out)


def cost_of(values: FloatArray) -> float:
    """Half the sum of squares, as `least_squares` has it."""
    return 0.5 * float(values @ values)


def random_placement(setup: Setup, rng: np.random.Generator) -> Placement:
    """Printed buses where they hold; anything else at random."""
    n_buses = network_of(setup).n_buses
    printed = {row[0]: row[1] for row in (*SELLER_ROWS, *BUYER_ROWS)}

    def buses(ids: list[int]) -> IntArray:
        drawn = rng.integers(1, n_buses + 1, len(ids))
        fixed = [printed[i] if i in setup.fixed_buses else None for i in ids]
        return np.array([d if b is None else b for b, d in zip(fixed, drawn, strict=True)])

    return Placement(
        buses(setup.seller_ids), buses(setup.buyer_ids), rng.permutation(setup.sellers)
    )


def neighbour(task: Task, placement: Placement, rng: np.random.Generator) -> Placement:
    """One agent moved to another bus, or two sellers swapped in cost."""
    setup = task.setup
    kind = rng.random()
    if kind < 0.3:
        rank = placement.cost_rank.copy()
        a, b = rng.choice(setup.sellers, 2, replace=False)
        rank[[a, b]] = rank[[b, a]]
        return replace(placement, cost_rank=rank)
    name, ids = ("seller_bus", setup.seller_ids) if kind < 0.6 else ("buyer_bus", setup.buyer_ids)
    free = [k for k, i in enumerate(ids) if i not in setup.fixed_buses]
    bus = getattr(placement, name).copy()
    bus[rng.choice(free)] = rng.integers(1, task.network.n_buses + 1)
    return replace(placement, **{name: bus})


def anneal(
    task: Task,
    scalars: FloatArray,
    placement: Placement,
    rng: np.random.Generator,
    steps: int,
    heat: float = 30.0,
    refreshes: int = 8,
) -> tuple[FloatArray, Placement]:
    """Anneal scalars and placement together, with the batteries' schedules held between solves.

    Parameters
    ----------
    task : Task
        What to fit.
    scalars, placement
        Where to start.
    rng : Generator
        Random numbers.
    steps : int
        Number of moves, each a pair of quick clearings.
    heat : float
        First temperature, in units of the cost.
    refreshes : int
        How often both markets are solved in full for new battery schedules.

    Returns
    -------
    scalars, placement
        The best that was seen after the last refresh.
    """
    span = HIGH - LOW
    u = best_u = np.clip((scalars - LOW) / span, 0.0, 1.0)
    best = placement
    rest = np.zeros((task.setup.sellers, N_PERIODS))
    batteries = (rest, rest)

    def judge(at: FloatArray, where: Placement) -> float:
        values = task.quick(LOW + at * span, where, batteries)
        return np.inf if values is None else cost_of(values)

    for refresh in range(refreshes):
        u, placement = best_u, best
        solved = task.exact(LOW + u * span, placement) if refresh or heat < 1 else None
        if solved is not None:
            batteries = solved[1]
        best_cost = cost = judge(u, placement)
        for step in range(steps // refreshes):
            done = (refresh + step * refreshes / steps) / refreshes
            now = heat * (1 - done) ** 3 + 1e-3
            other_u, other = u, placement
            if rng.random() < 0.5:
                which = rng.random(len(u)) < 0.3
                size = min(0.3, 0.02 + heat / 100) * (1 - done) ** 2 + 0.005
                other_u = np.clip(u + which * size * rng.normal(size=len(u)), 0.0, 1.0)
            else:
                other = neighbour(task, placement, rng)
            new = judge(other_u, other)
            if new < cost - now * np.log(rng.random()):
                u, placement, cost = other_u, other, new
                if cost < best_cost:
                    best_u, best, best_cost = u, placement, cost
    return np.asarray(LOW + best_u * span), best


def polish(
    task: Task, scalars: FloatArray, placement: Placement, rounds: int = 6
) -> tuple[FloatArray, float]:
    """Scalars at a fixed placement: least squares on quick clearings, corrected by full solves.

    Each round solves both markets in full, takes their batteries' schedules and the difference
    to the quick clearings as given, and moves the scalars within a trust region.
    """
    span = HIGH - LOW
    start = best = np.clip((scalars - LOW) / span, 0.0, 1.0)
    best_cost, radius = np.inf, 0.2
    batteries: Batteries | None = None
    offset = np.zeros(0)
    for _ in range(rounds):
        solved = task.exact(LOW + start * span, placement)
        cost = np.inf if solved is None else cost_of(solved[0])
        if solved is not None and cost < best_cost:
            here = task.quick(LOW + start * span, placement, solved[1])
            if here is None:
                break
            best, best_cost, batteries, offset = start, cost, solved[1], solved[0] - here
        else:
            radius *= 0.3
        if batteries is None:
            break

        def distance(
            u: FloatArray,
            centre: FloatArray = best,
            held: Batteries = batteries,
            shift: FloatArray = offset,
        ) -> FloatArray:
            values = task.quick(LOW + u * span, placement, held)
            if values is None:
                return np.full(len(shift) + len(u), FAILED)
            return np.concatenate([values + shift, 0.01 * (u - centre)])

        box = (np.maximum(best - radius, -1e-9), np.minimum(best + radius, 1 + 1e-9))
        found = least_squares(distance, best, bounds=box, diff_step=1e-3, max_nfev=30)
        start = np.clip(found.x, 0.0, 1.0)
    return np.asarray(LOW + best * span), best_cost


def search(
    task: Task, rng: np.random.Generator, steps: int, good: float = 0.005, tries: int = 12
) -> tuple[FloatArray, Placement, float]:
    """A fit from a random start: anneal, polish, again near by until it is good.

    Parameters
    ----------
    task : Task
        What to fit.
    rng : Generator
        The only source of chance.
    steps : int
        Moves of the first annealing; later ones take half.
    good : float
        Cost at which to stop: at 0.005 the relative errors are 0.1 % in all (root of the sum of
        squares) and every count is right.
    tries : int
        Most rounds of annealing and polishing.

    Returns
    -------
    scalars, placement, cost
        The best fit.
    """
    placement = random_placement(task.setup, rng)
    scalars = LOW + rng.uniform(0.15, 0.85, len(LOW)) * (HIGH - LOW)
    scalars, placement = anneal(task, scalars, placement, rng, steps)
    scalars, cost = polish(task, scalars, placement)
    for again in range(tries - 1):
        if cost < good:
            break
        heat = (1.0, 0.3, 0.1, 3.0)[again % 4]
        near = anneal(task, scalars, placement, rng, steps // 2, heat)
        polished, other = polish(task, *near)
        if other < cost:
            scalars, placement, cost = polished, near[1], other
    return scalars, placement, cost
