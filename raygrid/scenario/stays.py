"""From daily hours to the stays and windows of a horizon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.prosumer.stores import StoreKind, Stores

HOURS_PER_DAY = 24.0


@dataclass(frozen=True)
class Clock:
    """The hours that a horizon covers.

    Attributes
    ----------
    start_hour : float
        Hour of the day at which it begins [h].
    n_periods : int
        Number of periods T.
    period_hours : float
        dt [h].
    """

    start_hour: float
    n_periods: int
    period_hours: float

    @classmethod
    def of(cls, start: datetime, first_hour: float, n_periods: int, period_hours: float) -> Clock:
        """The clock of a horizon that begins some hours after a moment."""
        hour = start.hour + start.minute / 60 + start.second / 3600 + first_hour
        return cls(hour % HOURS_PER_DAY, n_periods, period_hours)

    @property
    def hours(self) -> float:
        """Length of the horizon [h]."""
        return self.n_periods * self.period_hours

    def stays(self, from_hour: FloatArray, to_hour: FloatArray) -> Occurrences:
        """When something happens that begins and ends at these hours (n,) of every day.

        It ends on the day after it began where `to_hour` is not after `from_hour`.
        """
        length = (to_hour - from_hour) % HOURS_PER_DAY
        length = np.where(length == 0, HOURS_PER_DAY, length)
        days = np.arange(-1, int(np.ceil(self.hours / HOURS_PER_DAY)) + 1)
        begin = from_hour[:, None] + HOURS_PER_DAY * days[None, :] - self.start_hour
        # One day's end is the next one's start, and both must see the same arrival there.
        for edge in (0.0, self.hours):
            begin = np.where(np.abs(begin - edge) < 1e-9, edge, begin)
        end = begin + length[:, None]
        return Occurrences(begin, end, (end > 0) & (begin < self.hours), self)


@dataclass(frozen=True)
class Occurrences:
    """Begin and end (n, D) of what happens every day [h from the horizon's start].

    Attributes
    ----------
    begin, end : (n, D) float64
        Not cut off at the horizon.
    within : (n, D) bool
        Which of them the horizon sees anything of.
    clock : Clock
        The horizon.
    """

    begin: FloatArray
    end: FloatArray
    within: BoolArray
    clock: Clock

    @property
    def whole(self) -> BoolArray:
        """(n, D): which of them lie within the horizon as a whole."""
        return (self.begin >= -1e-9) & (self.end <= self.clock.hours + 1e-9)

    def in_periods(self, which: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Begin and end in periods, within the horizon, of these; others are no stays."""
        dt, last = self.clock.period_hours, float(self.clock.n_periods)
        begin, end = (np.clip(hours / dt, 0.0, last) for hours in (self.begin, self.end))
        # A sum of hours may miss the edge of a period by rounding.
        begin, end = (np.where(np.abs(x - np.rint(x)) < 1e-9, np.rint(x), x) for x in (begin, end))
        return np.where(which, begin, 0.0), np.where(which, end, 0.0)


def vehicles(
    owner: IntArray,
    clock: Clock,
    *,
    arrival_hour: FloatArray,
    departure_hour: FloatArray,
    min_kwh: FloatArray,
    max_kwh: FloatArray,
    needed_kwh: FloatArray,
    trip_kwh: FloatArray,
    charge_kw: FloatArray,
    discharge_kw: FloatArray,
    efficiency: FloatArray,
    cycle_cost_per_kwh: FloatArray,
) -> Stores:
    """EVs that come and go at the same hours every day.

    At the horizon's start each is as far as if it charged evenly from its arrival on; it must be
    so again, at least, at its end. Who arrives at the start comes back within the horizon. All
    arrays are (M,).

    Parameters
    ----------
    owner : (M,) int64
        Rows of the prosumers, ascending.
    clock : Clock
        The horizon.
    arrival_hour, departure_hour : float64
        When an EV comes and goes [h of the day].
    min_kwh, max_kwh, needed_kwh, trip_kwh : float64
        Bounds of its energy, what it needs at departure and uses until its arrival [kWh].
    charge_kw, discharge_kw, efficiency, cycle_cost_per_kwh : float64
        Power limits, efficiency each way, and cost of either [currency/kWh].
    """
    stays = clock.stays(arrival_hour, departure_hour)
    arrival, departure = stays.in_periods(stays.within)
    none = np.zeros(arrival.shape)
    length = stays.end - stays.begin

    def energy_at(hour: float) -> FloatArray:
        here = (stays.begin < hour) & (hour < stays.end)
        left = np.where(here, (stays.end - hour) / length, 0.0).sum(axis=1)
        return np.asarray(needed_kwh - left * trip_kwh)

    return Stores(
        owner=owner,
        kind=np.full(len(owner), StoreKind.EV, dtype=np.int64),
        size_weight=np.zeros(len(owner)),
        initial_kwh=energy_at(0.0),
        min_kwh=min_kwh,
        max_kwh=max_kwh,
        final_min_kwh=energy_at(clock.hours),
        charge_max_kw=charge_kw,
        discharge_max_kw=discharge_kw,
        eta_charge=efficiency,
        eta_discharge=efficiency,
        cycle_cost_per_kwh=cycle_cost_per_kwh,
        arrival=arrival,
        departure=departure,
        needed_kwh=np.where(stays.within & (stays.end <= clock.hours), needed_kwh[:, None], none),
        used_kwh=np.where(stays.within & (stays.begin >= 0), trip_kwh[:, None], none),
    )


def shiftable_loads(
    owner: IntArray,
    clock: Clock,
    *,
    earliest_hour: FloatArray,
    latest_hour: FloatArray,
    energy_kwh: FloatArray,
    power_kw: FloatArray,
) -> Stores:
    """Loads that draw a given energy in every window that lies within the horizon as a whole.

    Parameters
    ----------
    owner : (M,) int64
        Rows of the prosumers, ascending.
    clock : Clock
        The horizon.
    earliest_hour, latest_hour : (M,) float64
        The window [h of the day].
    energy_kwh, power_kw : (M,) float64
        Energy of each day and greatest power [kWh, kW].
    """
    windows = clock.stays(earliest_hour, latest_hour)
    whole = windows.within & windows.whole
    begin, end = windows.in_periods(whole)
    # Each day's energy is filled in from nothing: that of the day before is gone.
    again = whole & (np.cumsum(whole, axis=1) > 1)
    none, ones = np.zeros(len(owner)), np.ones(len(owner))
    return Stores(
        owner=owner,
        kind=np.full(len(owner), StoreKind.SHIFTABLE, dtype=np.int64),
        size_weight=none,
        initial_kwh=none,
        min_kwh=none,
        max_kwh=energy_kwh,
        final_min_kwh=none,
        charge_max_kw=power_kw,
        discharge_max_kw=none,
        eta_charge=ones,
        eta_discharge=ones,
        cycle_cost_per_kwh=none,
        arrival=begin,
        departure=end,
        needed_kwh=np.where(whole, energy_kwh[:, None], 0.0),
        used_kwh=np.where(again, energy_kwh[:, None], 0.0),
    )
