"""Checks on EVs and shiftable loads, before anything is solved."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import BoolArray, FloatArray
from raygrid.errors import InputError
from raygrid.prosumer.population import Prosumers
from raygrid.prosumer.stores import STAY_FIELDS, STORE_FIELDS, StoreKind

SLACK_KWH = 1e-9
"""Rounding allowed in energies, relative to the store's size where above 1 kWh."""
LARGEST_VALUE = 1e8
"""As for prosumers: sums in int64 must hold all values."""


def check_stores(prosumers: Prosumers, period_hours: float, where: str) -> None:
    """Refuse EVs and shiftable loads that no schedule could serve.

    Parameters
    ----------
    prosumers : Prosumers
        The prosumers and their stores.
    period_hours : float
        dt [h].
    where : str
        Where the data come from, for the message.

    Raises
    ------
    InputError
        Naming the first store at fault by its prosumer, and the cure.
    """
    s = prosumers.stores
    if not len(s):
        return
    ids = prosumers.prosumer_id

    def refuse(wrong: BoolArray, column: str, what: str, cure: str) -> None:
        if wrong.any():
            at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            kind = "EV" if s.kind[at[0]] == StoreKind.EV else "shiftable load"
            place = f"{where}, prosumer {ids[s.owner[at[0]]]}, {kind}, column {column}"
            value = getattr(s, column)[at]
            raise InputError(f"{column} {what.format(format(value, '.4g'))}", place, cure)

    for name in (*STORE_FIELDS, *STAY_FIELDS):
        values = getattr(s, name)
        refuse(~np.isfinite(values), name, "is {}", "give a finite number")
        refuse(np.abs(values) > LARGEST_VALUE, name, "is {}", "check its unit (kW, kWh, periods)")
        refuse(values < 0, name, "is {}, negative", "give 0 or more")
    for name in ("eta_charge", "eta_discharge"):
        eta = getattr(s, name)
        refuse((eta <= 0) | (eta > 1), name, "is {}, not in (0, 1]", "give a share, 0.9 for 90 %")
    n_periods = prosumers.n_periods
    refuse(
        s.departure < s.arrival, "departure", "is before its arrival", "depart after the arrival"
    )
    refuse(
        s.departure > n_periods, "departure", f"is {{}}, after period {n_periods}",
        "end the stay with the horizon",
    )  # fmt: skip
    first, stop = np.floor(s.arrival), np.ceil(s.departure)
    overlap = np.zeros(s.arrival.shape, dtype=np.bool_)
    overlap[:, 1:] = s.is_stay[:, 1:] & (first[:, 1:] < np.where(s.is_stay, stop, 0.0)[:, :-1])
    refuse(
        overlap, "arrival", "is in the period of the departure before it, or earlier",
        "leave out the trip or take shorter periods",
    )  # fmt: skip
    for low in ("min_kwh", "final_min_kwh", "needed_kwh"):
        most = s.max_kwh[:, None] if low == "needed_kwh" else s.max_kwh
        refuse(getattr(s, low) > most, low, "of {} is above max_kwh", "lower it to that")
    slack = SLACK_KWH * np.maximum(s.max_kwh, 1.0)
    refuse(
        (s.initial_kwh < s.min_kwh - slack) | (s.initial_kwh > s.max_kwh + slack),
        "initial_kwh", "of {} is outside min_kwh to max_kwh", "start between them",
    )  # fmt: skip
    limits = s.limits(n_periods)
    reach = s.initial_kwh
    for t in range(n_periods):
        left = reach - limits.used_kwh[:, t]
        reach = left + period_hours * s.eta_charge * limits.charge_kw[:, t]
        reach = np.minimum(reach, s.max_kwh)
        short = limits.floor_kwh[:, t] - reach
        if (short > slack).any():
            _refuse_unreachable(prosumers, int(np.argmax(short > slack)), t, reach, where)


def _refuse_unreachable(
    prosumers: Prosumers, at: int, period: int, reach: FloatArray, where: str
) -> None:
    """Say what cannot be charged in time."""
    s = prosumers.stores
    needed = s.limits(prosumers.n_periods).floor_kwh[at, period]
    owner = prosumers.prosumer_id[s.owner[at]]
    is_ev = s.kind[at] == StoreKind.EV
    what = "the EV cannot be charged in its stay" if is_ev else "the window is too short"
    raise InputError(
        f"{what}: {needed:.4g} kWh are needed at the end of period {period}, "
        f"{max(reach[at], 0.0):.4g} kWh are within reach",
        f"{where}, prosumer {owner}",
        "ask for less, or allow more power or time",
    )
