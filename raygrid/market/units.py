"""What an intraday market knows of its prosumers: their stores, and their days as arrays.

Battery, EV and shiftable load are stores alike (AI-TEM 3 to 5): a shiftable load fills within its
window and is never drawn from, an EV is away at times and comes back with less. All arrays have
time first, so that a period's rows lie together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError

N_SLOTS = 3

FLOOR_TOLERANCE_KWH = 1e-9


class Slot(IntEnum):
    """The stores of a prosumer, the last axis of their arrays."""

    BATTERY = 0
    EV = 1
    SHIFTABLE = 2


@dataclass(frozen=True)
class Units:
    """N prosumers; a store that one lacks has no room and no power.

    Attributes
    ----------
    prosumer_id : (N,) int64
        Ids.
    bus, zone : (N,) int64
        Position of the bus, and the feeder zone's number.
    min_kwh, max_kwh, initial_kwh : (N, 3) float64
        Bounds and start of the stores' energy, by `Slot` [kWh].
    eta_charge, eta_discharge : (N, 3) float64
        Efficiencies in (0, 1].
    cycle_cost_per_kwh : (N, 3) float64
        Cost of charge and discharge alike (C^deg of AI-TEM 2) [currency/kWh].
    """

    prosumer_id: IntArray
    bus: IntArray
    zone: IntArray
    min_kwh: FloatArray
    max_kwh: FloatArray
    initial_kwh: FloatArray
    eta_charge: FloatArray
    eta_discharge: FloatArray
    cycle_cost_per_kwh: FloatArray

    def __len__(self) -> int:
        return len(self.prosumer_id)


@dataclass(frozen=True)
class Correction:
    """What a day-ahead plan says beside positions and powers.

    Attributes
    ----------
    planned_kw : (K, N) float64
        What was planned to be left for the grid, b of `raygrid.market.actions` [kW].
    takes, gives : (K, N) bool
        Whether the battery makes up for forecast errors: charges what is left beyond that, and
        discharges what lacks.
    pv_max_kw : (K, N) float64
        PV that may be fed in where the plan curtails it, else infinite [kW].
    stored_value_per_kwh : (K, N) float64
        What the plan takes a kWh in the battery to be worth [currency/kWh].
    """

    planned_kw: FloatArray
    takes: BoolArray
    gives: BoolArray
    pv_max_kw: FloatArray
    stored_value_per_kwh: FloatArray


@dataclass(frozen=True)
class Feed:
    """Days of N prosumers as K periods in a row.

    Attributes
    ----------
    period_hours : float
        Length of a period [h].
    day_periods : int
        Periods of a day.
    load_kw, pv_kw : (K, N) float64
        What is measured [kW].
    predicted_load_kw, predicted_pv_kw : (K, N) float64
        What was forecast for the period when its orders were due [kW].
    import_price_per_kwh, export_price_per_kwh : (K,) float64
        Tariffs [currency/kWh].
    charge_max_kw, discharge_max_kw : (K, N, 3) float64
        Power limits of the stores, 0 while they are away [kW].
    floor_kwh : (K, N, 3) float64
        Least energy at each period's end from which all later needs can still be met [kWh].
    used_kwh : (K, N, 3) float64
        Energy that is gone when the period begins: driven, or a new window's to fill [kWh].
    position_kw : (K, N) float64
        Net injection sold a day ahead; orders are for what differs from it [kW].
    plan_kw : (K, N, 3) float64
        What the stores do unless an action says otherwise, discharge positive [kW].
    correction : Correction or None
        How batteries correct that plan where forecasts were wrong; None: not at all.
    """

    period_hours: float
    day_periods: int
    load_kw: FloatArray
    pv_kw: FloatArray
    predicted_load_kw: FloatArray
    predicted_pv_kw: FloatArray
    import_price_per_kwh: FloatArray
    export_price_per_kwh: FloatArray
    charge_max_kw: FloatArray
    discharge_max_kw: FloatArray
    floor_kwh: FloatArray
    used_kwh: FloatArray
    position_kw: FloatArray
    plan_kw: FloatArray
    correction: Correction | None = None

    def __post_init__(self) -> None:
        if (self.export_price_per_kwh > self.import_price_per_kwh).any():
            k = int(np.argmax(self.export_price_per_kwh > self.import_price_per_kwh))
            raise InputError(
                f"the export price of period {k} is above the import price",
                "tariffs",
                "give an export price that is at most the import price",
            )
        for name, values in (("load", self.load_kw), ("PV", self.pv_kw)):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                k, i = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
                raise InputError(
                    f"{name} of prosumer row {i} in period {k} is {values[k, i]}",
                    "profiles",
                    "fill gaps and give powers of 0 or more",
                )

    @property
    def n_periods(self) -> int:
        """Number of periods K."""
        return len(self.load_kw)

    @property
    def n_days(self) -> int:
        """Number of whole days."""
        return self.n_periods // self.day_periods


def make_feed(
    units: Units,
    *,
    period_hours: float,
    day_periods: int,
    load_kw: FloatArray,
    pv_kw: FloatArray,
    import_price_per_kwh: FloatArray,
    export_price_per_kwh: FloatArray,
    charge_max_kw: FloatArray,
    discharge_max_kw: FloatArray,
    predicted_load_kw: FloatArray | None = None,
    predicted_pv_kw: FloatArray | None = None,
    needed_kwh: FloatArray | None = None,
    used_kwh: FloatArray | None = None,
    position_kw: FloatArray | None = None,
    plan_kw: FloatArray | None = None,
) -> Feed:
    """Make a feed and check that every EV and shiftable load can be served in its stays.

    Parameters
    ----------
    units : Units
        The prosumers.
    period_hours, day_periods
        As in `Feed`.
    load_kw, pv_kw : (N, K) float64
        What is measured, prosumers first as a data set has it [kW].
    import_price_per_kwh, export_price_per_kwh : (K,) float64
        Tariffs [currency/kWh].
    charge_max_kw, discharge_max_kw : (K, N, 3) float64, or such that broadcast
        Power limits [kW].
    predicted_load_kw, predicted_pv_kw : (N, K) float64, optional
        Forecasts; without them persistence, the value of the period before [kW].
    needed_kwh, used_kwh : (K, N, 3) float64, optional
        Least energy at each period's end, such as an EV's at its departure, and what is gone
        when a period begins [kWh]; none by default.
    position_kw, plan_kw : optional
        As in `Feed`; zeros by default.

    Raises
    ------
    InputError
        If a store cannot be filled in time, or a profile has gaps.
    """
    n_periods, n = load_kw.shape[1], len(units)
    shape = (n_periods, n, N_SLOTS)

    def filled(values: FloatArray | None, to: tuple[int, ...]) -> FloatArray:
        return np.broadcast_to(np.asarray(0.0 if values is None else values, np.float64), to)

    def rows(values: FloatArray) -> FloatArray:
        return np.ascontiguousarray(values.T, dtype=np.float64)

    def predicted(given: FloatArray | None, measured: FloatArray) -> FloatArray:
        if given is not None:
            return rows(given)
        before = rows(measured)
        return np.vstack([before[:1], before[:-1]])

    charge, used = filled(charge_max_kw, shape), filled(used_kwh, shape)
    needed = np.maximum(filled(needed_kwh, shape), units.min_kwh)
    return Feed(
        period_hours,
        day_periods,
        rows(load_kw),
        rows(pv_kw),
        predicted(predicted_load_kw, load_kw),
        predicted(predicted_pv_kw, pv_kw),
        np.asarray(import_price_per_kwh, np.float64),
        np.asarray(export_price_per_kwh, np.float64),
        charge,
        filled(discharge_max_kw, shape),
        reachable_floor(units, needed, used, charge, period_hours),
        used,
        filled(position_kw, (n_periods, n)),
        filled(plan_kw, shape),
    )


def reachable_floor(
    units: Units,
    needed_kwh: FloatArray,
    used_kwh: FloatArray,
    charge_max_kw: FloatArray,
    period_hours: float,
) -> FloatArray:
    """Least energy at each period's end from which full charging still meets all later needs.

    Backwards: ``floor(k) = max(needed(k), floor(k+1) + used(k+1) - eta dt charge_max(k+1))``.

    Parameters
    ----------
    units : Units
        The prosumers.
    needed_kwh, used_kwh, charge_max_kw : (K, N, 3) float64
        As in `make_feed`.
    period_hours : float
        Length of a period [h].

    Raises
    ------
    InputError
        If a store would have to hold more than it can, or than it has at the start.
    """
    gain = units.eta_charge * charge_max_kw * period_hours
    floor = np.array(needed_kwh, dtype=np.float64)
    for k in range(len(floor) - 2, -1, -1):
        floor[k] = np.maximum(floor[k], floor[k + 1] + used_kwh[k + 1] - gain[k + 1])
    start = floor[:1] + used_kwh[:1] - gain[:1] - units.initial_kwh
    for over in (floor - units.max_kwh, start):
        if len(over) and over.max(initial=0.0) > FLOOR_TOLERANCE_KWH:
            period, i, slot = (int(at) for at in np.unravel_index(over.argmax(), over.shape))
            raise InputError(
                f"the {Slot(slot).name.lower()} of prosumer {units.prosumer_id[i]} lacks "
                f"{over.max():.3g} kWh for what is needed after period {period}",
                "stores",
                "give it a longer stay, more power, or a smaller need",
            )
    return floor
