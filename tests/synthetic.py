"""A seeded community of made-up days for tests of the intraday market and of learning.

The same arrays as a data set of a scenario gives, with shapes that are plain enough to reason
about: evening peaks, a bell of PV under daily clouds, EVs away in the daytime, one window each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from raygrid.grid.network import Network
from raygrid.market.feeder_limits import FeederLimits, feeder_limits
from raygrid.market.units import N_SLOTS, Feed, Slot, Units, make_feed


@dataclass(frozen=True)
class Community:
    """Prosumers, their days and their feeder."""

    units: Units
    feed: Feed
    limits: FeederLimits
    network: Network


def radial_network(n_buses: int = 11, limit_kw: float = 60.0) -> Network:
    """Two branches from the slack bus, their first lines twice as strong."""
    to = np.arange(1, n_buses)
    half = (n_buses - 1) // 2
    return Network(
        name="radial",
        bus_id=np.arange(1, n_buses + 1),
        slack=0,
        line_id=to,
        from_bus=np.where((to == 1) | (to == half + 1), 0, to - 1),
        to_bus=to,
        r_pu=np.full(n_buses - 1, 0.03),
        x_pu=np.full(n_buses - 1, 0.02),
        limit_kw=np.where(np.isin(to, [1, half + 1]), 2 * limit_kw, limit_kw),
        flow_offset_kw=np.zeros(n_buses - 1),
    )


@cache
def community(
    n: int = 20,
    days: int = 4,
    seed: int = 1,
    limit_kw: float = 60.0,
    day_periods: int = 96,
) -> Community:
    """N prosumers over some days of 15 minutes, as AI-TEM's Table II mixes them."""
    rng = np.random.default_rng(seed)
    hours = 24 / day_periods
    n_periods = days * day_periods
    hour = (np.arange(n_periods) % day_periods + 0.5) * hours
    network = radial_network(limit_kw=limit_kw)
    bus = 1 + np.arange(n) % 10

    evening = np.exp(-(((hour - 19) / 2.5) ** 2)) + 0.5 * np.exp(-(((hour - 7.5) / 1.5) ** 2))
    load = rng.uniform(0.5, 1.5, (n, 1)) * (0.25 + evening) * rng.gamma(8, 1 / 8, (n, n_periods))
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0.0)
    cloud = np.repeat(rng.uniform(0.3, 1.0, days), day_periods)
    pv_peak = np.where(np.arange(n) % 5 < 3, rng.uniform(3, 8, n), 0.0)
    pv = pv_peak[:, None] * sun * cloud * rng.uniform(0.7, 1.0, (1, n_periods))

    units, charge, discharge, needed, used = _stores(n, n_periods, day_periods, bus, rng)
    day = np.arange(n_periods) % day_periods * hours
    buy = np.where((day >= 17) & (day < 22), 0.36, np.where((day >= 6) & (day < 17), 0.30, 0.24))
    feed = make_feed(
        units,
        period_hours=hours,
        day_periods=day_periods,
        load_kw=load,
        pv_kw=pv,
        import_price_per_kwh=buy,
        export_price_per_kwh=np.full(n_periods, 0.08),
        charge_max_kw=charge,
        discharge_max_kw=discharge,
        needed_kwh=needed,
        used_kwh=used,
    )
    limits = feeder_limits(
        network, bus, v_min_pu=0.95, v_max_pu=1.05, reactive_share=0.33,
        import_limit_kw=6.0 * n, export_limit_kw=6.0 * n,
    )  # fmt: skip
    return Community(units, feed, limits, network)


def _stores(
    n: int, n_periods: int, day_periods: int, bus: np.ndarray, rng: np.random.Generator
) -> tuple[Units, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Batteries for two in five, EVs for one in five, and a window for everybody."""
    hours = 24 / day_periods
    at = np.arange(n_periods)
    of_day = at % day_periods
    shape = (n_periods, n, N_SLOTS)
    charge, discharge, needed, used = (np.zeros(shape) for _ in range(4))
    most, least = np.zeros((n, N_SLOTS)), np.zeros((n, N_SLOTS))
    eta_c, eta_d, cycle = np.ones((n, N_SLOTS)), np.ones((n, N_SLOTS)), np.zeros((n, N_SLOTS))

    battery = np.flatnonzero(np.arange(n) % 5 < 2)
    size = rng.uniform(5, 13.5, len(battery))
    most[battery, Slot.BATTERY], least[battery, Slot.BATTERY] = 0.9 * size, 0.2 * size
    charge[:, battery, Slot.BATTERY] = discharge[:, battery, Slot.BATTERY] = size / 2.7
    eta_c[:, Slot.BATTERY] = eta_d[:, Slot.BATTERY] = 0.95
    cycle[:, Slot.BATTERY] = 0.02

    ev = np.flatnonzero(np.arange(n) % 5 == 0)
    leave, back = round(7.5 / hours), round(17.5 / hours)
    home = (of_day < leave) | (of_day >= back)
    most[ev, Slot.EV] = 40.0
    charge[np.ix_(home, ev, [Slot.EV])] = 7.0
    discharge[np.ix_(home, ev[::2], [Slot.EV])] = 5.0
    needed[np.ix_(of_day == leave - 1, ev, [Slot.EV])] = 30.0
    used[np.ix_(of_day == back, ev, [Slot.EV])] = 12.0
    eta_c[:, Slot.EV] = eta_d[:, Slot.EV] = 0.93
    cycle[:, Slot.EV] = 0.03

    energy = rng.uniform(1.0, 3.0, n)
    begin = np.round(rng.uniform(8, 12, n) / hours)
    length = round(6 / hours)
    most[:, Slot.SHIFTABLE] = energy
    within = (of_day[:, None] >= begin) & (of_day[:, None] < begin + length)
    charge[..., Slot.SHIFTABLE] = np.where(within, 2.0, 0.0)
    needed[..., Slot.SHIFTABLE] = np.where(of_day[:, None] == begin + length - 1, energy, 0.0)
    used[..., Slot.SHIFTABLE] = np.where(of_day[:, None] == begin, energy, 0.0)

    initial = (least + most) / 2
    initial[:, Slot.EV] = np.where(most[:, Slot.EV] > 0, 25.0, 0.0)
    initial[:, Slot.SHIFTABLE] = energy
    units = Units(
        np.arange(1, n + 1), bus, (bus - 1) // 2, least, most, initial, eta_c, eta_d, cycle
    )
    return units, charge, discharge, needed, used
