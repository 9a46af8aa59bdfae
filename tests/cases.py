"""Small cases that several tests share."""

from __future__ import annotations

import numpy as np

from raygrid.grid.limits import line_rows
from raygrid.grid.network import Network
from raygrid.grid.ptdf import PtdfFactor
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.population import GridConnection, Population
from raygrid.scenario.case import Case


def two_buses(limit_kw: float, n_periods: int = 4) -> tuple[Network, PtdfFactor]:
    """Bus 1 (slack) and bus 2 with one line between."""
    network = Network(
        name="two",
        bus_id=np.array([1, 2]),
        slack=0,
        line_id=np.array([1]),
        from_bus=np.array([0]),
        to_bus=np.array([1]),
        r_pu=np.array([0.01]),
        x_pu=np.array([0.1]),
        limit_kw=np.array([limit_kw]),
        flow_offset_kw=np.zeros(1),
    )
    return network, PtdfFactor(network)


def battery_behind_a_line(fixed_load_kw: float = 2.0, limit_kw: float = 1.5) -> Case:
    """A fixed load above the line's limit, which only the battery beside it can serve."""
    n_periods = 4
    network, factor = two_buses(limit_kw)
    people = Population.empty(2, n_periods)
    people.bus[:] = 1
    people.fixed_load_kw[0] = [0.5, fixed_load_kw, 0.5, fixed_load_kw]
    people.charge_max_kw[1] = people.discharge_max_kw[1] = 1.0
    people.soc_max_kwh[1], people.soc_initial_kwh[1] = 4.0, 1.0
    people.eta_charge[1] = people.eta_discharge[1] = 0.95
    people.cycle_cost_per_kwh[1] = 0.01
    price = np.full(n_periods, 0.3)
    wide = np.full(n_periods, 10.0)
    grid = GridConnection(price, price / 3, wide, wide, 1.0)
    return Case(
        name="battery-behind-a-line",
        network=network,
        rows=line_rows(network, factor, n_periods),
        community=GivenCommunity(people),
        grid=grid,
        period_hours=1.0,
        currency="EUR",
        reactive_load_kvar=np.zeros((2, n_periods)),
    )


def ring_network(limit_kw: float) -> Network:
    """Six buses on a ring, so that flows split by impedance; slack at the first bus."""
    return Network(
        name="ring",
        bus_id=np.arange(1, 7),
        slack=0,
        line_id=np.arange(1, 7),
        from_bus=np.array([0, 1, 2, 3, 4, 0]),
        to_bus=np.array([1, 2, 3, 4, 5, 5]),
        r_pu=np.full(6, 0.01),
        x_pu=np.array([0.02, 0.03, 0.02, 0.04, 0.03, 0.02]),
        limit_kw=np.full(6, limit_kw),
        flow_offset_kw=np.zeros(6),
    )


def small_case(n: int = 25, n_periods: int = 12, seed: int = 1, limit_kw: float = 6.0) -> Case:
    """A community on a ring: PV, elastic and fixed demand, batteries, a grid with tariff.

    Parameters
    ----------
    n : int
        Number of prosumers N.
    n_periods : int
        Number of periods T.
    seed : int
        Seed of the draw.
    limit_kw : float
        Limit of every line; 6 kW binds for 25 prosumers [kW].
    """
    rng = np.random.default_rng(seed)
    people = Population.empty(n, n_periods)
    people.bus[:] = rng.integers(1, 6, n)
    sun = np.maximum(np.sin(np.linspace(0.0, np.pi, n_periods)), 0.0)
    sells, stores = np.arange(n) % 2 == 0, np.arange(n) % 5 == 0
    n_sell, n_buy = int(sells.sum()), int((~sells).sum())
    people.alpha[sells] = rng.uniform(0.005, 0.02, n_sell)
    people.beta[sells] = rng.uniform(0.02, 0.06, n_sell)
    people.generation_limit_kw[sells] = rng.uniform(2.0, 5.0, (n_sell, 1)) * (0.2 + 0.8 * sun)
    people.omega[~sells] = rng.uniform(0.2, 0.6, n_buy)
    people.delta[~sells] = rng.uniform(0.01, 0.03, n_buy)
    people.demand_limit_kw[~sells] = rng.uniform(2.0, 5.0, (n_buy, 1))
    people.fixed_load_kw[~sells] = rng.uniform(0.0, 0.4, (n_buy, n_periods))
    capacity = rng.uniform(4.0, 10.0, int(stores.sum()))
    people.soc_max_kwh[stores], people.soc_min_kwh[stores] = capacity, 0.1 * capacity
    people.soc_initial_kwh[stores] = people.soc_final_min_kwh[stores] = 0.5 * capacity
    people.charge_max_kw[stores] = people.discharge_max_kw[stores] = 0.3 * capacity
    people.eta_charge[stores] = people.eta_discharge[stores] = 0.95
    people.cycle_cost_per_kwh[stores] = 0.005
    network = ring_network(limit_kw)
    wide = np.full(n_periods, 200.0)
    return Case(
        name="small",
        network=network,
        rows=line_rows(network, PtdfFactor(network), n_periods),
        community=GivenCommunity(people),
        grid=GridConnection(
            np.where(sun > 0.5, 0.12, 0.20), np.full(n_periods, 0.03), wide, wide, 3.0 * n
        ),
        period_hours=1.0,
        currency="EUR",
        reactive_load_kvar=np.zeros((6, n_periods)),
    )
