"""A thesis community from ten scalars and a placement, around the printed rows."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.prosumer.population import Population
from scripts.thesis_fit.printed import BUYER_ROWS, DELTA_SCALE, SELLER_ROWS, Setup

N_PERIODS = 24
CYCLE_COST = 0.001
"""lambda_cd of (3-15) [$/kWh]: small, not printed."""
SOC_MIN_SHARE, SOC_START_SHARE = 0.1, 0.5
"""Least and first state of charge as a share of capacity; the day ends no lower than it began."""
P_MAX = SELLER_ROWS[0][2]
"""All printed sellers have the same p_max [kW], and so has everyone."""
TIMING_H = 1.0
"""Buyers' peaks differ by up to this many hours, in a fixed pattern."""


@dataclass(frozen=True)
class Scalar:
    """A fitted scalar: its name, bounds, start and meaning."""

    name: str
    low: float
    high: float
    start: float
    meaning: str


SCALARS = (
    Scalar("alpha", 0.0005, 0.03, 0.010, "mean quadratic cost [$/kW2/h]"),
    Scalar("beta", 0.0, 0.06, 0.040, "mean linear cost [$/kWh]"),
    Scalar("cost_spread", 0.0, 0.6, 0.30, "cheapest and dearest seller: mean x (1 -+ spread)"),
    Scalar("gamma", 0.0, 0.03, 0.005, "constant cost of a seller [$/h]"),
    Scalar("utility", 0.0, 1.0, 0.5, "where unprinted omega, delta lie in the printed range"),
    Scalar("demand_kw", 1.18, 1.36, 1.29, "average demand limit of unprinted buyers [kW]"),
    Scalar("night_share", 0.05, 0.8, 0.30, "generation limit at night / p_max"),
    Scalar("solar_width_h", 2.0, 4.5, 3.0, "width (standard deviation) of the midday bell [h]"),
    Scalar("evening_swing", 0.0, 0.8, 0.30, "height of the evening peak of demand / mean"),
    Scalar("morning_swing", 0.0, 0.6, 0.10, "height of the morning peak of demand / mean"),
)
START = np.array([scalar.start for scalar in SCALARS])
LOW = np.array([scalar.low for scalar in SCALARS])
HIGH = np.array([scalar.high for scalar in SCALARS])


@dataclass(frozen=True)
class Placement:
    """The discrete part of a fit.

    Attributes
    ----------
    seller_bus, buyer_bus : (S,), (J,) int64
        Bus numbers, in the order of the setup's ids.
    cost_rank : (S,) int64
        Rank of each seller's cost, 0 the cheapest; a permutation.
    """

    seller_bus: IntArray
    buyer_bus: IntArray
    cost_rank: IntArray


@nb.njit(cache=True)
def generation_shape(night_share: float, solar_width_h: float) -> FloatArray:
    """Generation limit over p_max, (T,): a base and a bell around noon."""
    hour = np.arange(N_PERIODS) + 0.5
    bell = np.exp(-0.5 * ((hour - 12.5) / solar_width_h) ** 2)
    return night_share + (1.0 - night_share) * bell


@nb.njit(cache=True)
def demand_shape(evening_swing: float, morning_swing: float, shift_h: float) -> FloatArray:
    """Demand limit over its average, (T,): a morning and an evening peak, mean 1."""
    hour = np.arange(N_PERIODS) + 0.5 - shift_h
    # Around the clock, so that a shifted evening goes on after midnight.
    evening = (hour - 19.0 + 12.0) % 24.0 - 12.0
    morning = (hour - 8.0 + 12.0) % 24.0 - 12.0
    shape = 1.0 + evening_swing * np.exp(-0.5 * (evening / 3.0) ** 2)
    shape += morning_swing * np.exp(-0.5 * (morning / 2.0) ** 2)
    return shape / shape.mean()


@nb.njit(cache=True)
def unit_values(
    scalars: FloatArray, cost_rank: IntArray, rows: FloatArray, n_buyers: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Sellers' alpha, beta (S,) and buyers' omega, delta (J,) and demand limits (J, T).

    Parameters
    ----------
    scalars : (10,) float64
        Values of `SCALARS`.
    cost_rank : (S,) int64
        Rank of each seller's cost.
    rows : (5, 3) float64
        Average demand, omega and delta of the printed buyers, who come first.
    n_buyers : int
        Number of buyers J.
    """
    n_sellers = len(cost_rank)
    factor = 1.0 + scalars[2] * (2.0 * cost_rank / (n_sellers - 1) - 1.0)
    omega, delta, average = np.empty(n_buyers), np.empty(n_buyers), np.empty(n_buyers)
    low_omega, high_omega = rows[:, 1].min(), rows[:, 1].max()
    low_delta, high_delta = rows[:, 2].min(), rows[:, 2].max()
    n_rows = len(rows)
    for j in range(n_buyers):
        if j < n_rows:
            average[j], omega[j], delta[j] = rows[j]
        else:
            spread = (j - n_rows) / (n_buyers - n_rows - 1) - 0.5
            where = min(max(scalars[4] + spread, 0.0), 1.0)
            average[j] = scalars[5]
            omega[j] = low_omega + where * (high_omega - low_omega)
            delta[j] = low_delta + where * (high_delta - low_delta)
    limit = np.empty((n_buyers, N_PERIODS))
    for k in range(3):
        shape = demand_shape(scalars[8], scalars[9], (k - 1.0) * TIMING_H)
        for j in range(k, n_buyers, 3):
            limit[j] = average[j] * shape
    return scalars[0] * factor, scalars[1] * factor, omega, delta, limit


def printed_buyers() -> FloatArray:
    """(5, 3) average demand, omega and delta of the printed rows, delta a tenth of the print."""
    return np.array([[row[2], row[3], row[4] * DELTA_SCALE] for row in BUYER_ROWS])


def storage_sellers(setup: Setup) -> list[int]:
    """Positions of the sellers with batteries: the printed 1 and 2, then the first unprinted."""
    return [0, 1, *range(5, 3 + len(setup.batteries))]


def build_population(setup: Setup, scalars: FloatArray, placement: Placement) -> Population:
    """The population of a fit: printed rows as they are, the rest from scalars and placement.

    Parameters
    ----------
    setup : Setup
        The printed side.
    scalars : (10,) float64
        Values of `SCALARS`.
    placement : Placement
        Buses and cost ranks.

    Returns
    -------
    Population
        Sorted by prosumer id; buses are positions (number - 1).
    """
    n_s, n_b = setup.sellers, setup.buyers
    population = Population.empty(n_s + n_b, N_PERIODS)
    seller = np.array(setup.seller_ids) - 1
    buyer = np.array(setup.buyer_ids) - 1
    alpha, beta, omega, delta, limit = unit_values(
        scalars, placement.cost_rank, printed_buyers(), n_b
    )

    population.bus[seller] = placement.seller_bus - 1
    population.alpha[seller], population.beta[seller] = alpha, beta
    population.gamma[seller] = scalars[3]
    population.generation_limit_kw[seller] = P_MAX * generation_shape(scalars[6], scalars[7])

    owner = seller[storage_sellers(setup)]
    energy, power = np.array(setup.batteries).T
    population.soc_max_kwh[owner] = energy
    population.soc_min_kwh[owner] = SOC_MIN_SHARE * energy
    population.soc_initial_kwh[owner] = SOC_START_SHARE * energy
    population.soc_final_min_kwh[owner] = SOC_START_SHARE * energy
    population.charge_max_kw[owner] = power
    population.discharge_max_kw[owner] = power
    population.eta_charge[owner] = setup.eta
    population.eta_discharge[owner] = setup.eta
    population.cycle_cost_per_kwh[owner] = CYCLE_COST

    population.bus[buyer] = placement.buyer_bus - 1
    population.omega[buyer], population.delta[buyer] = omega, delta
    population.demand_limit_kw[buyer] = limit
    return population
