"""Simulated smart meters: what they count of the delivered energy, and their keys.

Energies are net, sold positive, as everywhere. All randomness depends on (seed, meter, period)
alone, so that a larger community holds the meters of the smaller one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.prosumer.population import GRID_ID
from raygrid.scenario.draws import uniform
from raygrid.scenario.metering import Metering
from raygrid.settlement.chain.keys import CURVE_ORDER

STEADY_PART = 0.8
"""Part of a meter's error that never changes; the rest is new in every period."""

_ROUNDING_WH = 1e-6
"""Sums of floats this close below a whole watt-hour count as it."""


@dataclass(frozen=True)
class MeterFleet:
    """The meters of M participants and their faults.

    Attributes
    ----------
    participant : (M,) int64
        Ids in ascending order; 0 is the grid connection.
    accuracy_class : (M,) float64
        Largest relative error, as a fraction.
    clock_offset_s : (M,) float64
        How late a clock is: positive ones begin and end every period late [s].
    drop_rate : float
        Share of the readings that are lost.
    seed : int
        Of all draws and simulated keys.
    """

    participant: IntArray
    accuracy_class: FloatArray
    clock_offset_s: FloatArray
    drop_rate: float
    seed: int

    def __len__(self) -> int:
        return len(self.participant)


@dataclass(frozen=True)
class Measurement:
    """What M meters hold at the end of a day of T periods.

    Attributes
    ----------
    participant : (M,) int64
        Ids in ascending order.
    first_period : int
        Global index of the day's first period (day times T).
    reading_wh : (M, T) int64
        Energy of each period [Wh].
    recorded : (M, T) bool
        Whether the reading, and the register at the period's end, were recorded.
    opening_wh : (M,) int64
        Net register when the day begins [Wh].
    """

    participant: IntArray
    first_period: int
    reading_wh: IntArray
    recorded: BoolArray
    opening_wh: IntArray

    @property
    def register_wh(self) -> IntArray:
        """(M, T) net register at the end of each period [Wh]."""
        return np.asarray(self.opening_wh[:, None] + np.cumsum(self.reading_wh, axis=1))

    @property
    def closing_wh(self) -> IntArray:
        """(M,) net register when the day ends, the next day's `opening_wh` [Wh]."""
        return np.asarray(self.opening_wh + self.reading_wh.sum(axis=1))


def meter_fleet(metering: Metering, seed: int, participant: IntArray) -> MeterFleet:
    """Meters as the scenario wants them.

    Parameters
    ----------
    metering : Metering
        The scenario's section.
    seed : int
        The scenario's seed.
    participant : (M,) int64
        Ids in ascending order, with 0 where there is a grid connection; its clock is set.

    Raises
    ------
    InputError
        If an attack names somebody who does not take part.
    """
    for k, attack in enumerate(metering.attacks):
        unknown = sorted(set(attack.prosumers) - set(participant.tolist()))
        if unknown:
            raise InputError(
                f"no participant {unknown[0]}",
                f"scenario:metering.attacks[{k}].prosumers",
                f"name ids from {participant[0]} to {participant[-1]}",
            )
    grid = participant == GRID_ID
    percent = np.where(grid, metering.grid_accuracy_class_percent, metering.accuracy_class_percent)
    offset = metering.max_clock_offset_s * (2 * uniform(seed, "meter/clock", participant) - 1)
    return MeterFleet(
        participant=participant,
        accuracy_class=percent / 100,
        clock_offset_s=np.where(grid, 0.0, offset),
        drop_rate=metering.drop_rate,
        seed=seed,
    )


def relative_error(fleet: MeterFleet, first_period: int, n_periods: int) -> FloatArray:
    """(M, T) relative errors of the readings, never above the accuracy class."""
    steady = 2 * uniform(fleet.seed, "meter/error", fleet.participant) - 1
    columns = [
        2 * uniform(fleet.seed, f"meter/error/{first_period + t}", fleet.participant) - 1
        for t in range(n_periods)
    ]
    fresh = np.stack(columns, axis=1)
    share = STEADY_PART * steady[:, None] + (1 - STEADY_PART) * fresh
    return np.asarray(fleet.accuracy_class[:, None] * share)


def measure(
    fleet: MeterFleet,
    p_kw: FloatArray,
    period_hours: float,
    first_period: int = 0,
    opening_wh: IntArray | None = None,
) -> Measurement:
    """What the meters count of a delivered schedule (5-6).

    A late clock counts the beginning of the next period with the last one; at either end of the
    day power is taken as steady. Registers show whole watt-hours, rounded down, and readings are
    their differences, so that none is lost: a reading of an exact meter is less than one
    watt-hour off.

    Parameters
    ----------
    fleet : MeterFleet
        The meters.
    p_kw : (M, T) float64
        Delivered net power, in the order of the fleet's ids [kW].
    period_hours : float
        Length of a period [h].
    first_period : int
        Global index of the first period.
    opening_wh : (M,) int64 or None
        Registers when the day begins; None means 0 [Wh].

    Raises
    ------
    InputError
        If clocks are off by a whole period or more.

    References
    ----------
    Emeruom 2026 (the thesis), section 5.3.
    """
    n_periods = p_kw.shape[1]
    late = fleet.clock_offset_s / (3600 * period_hours)
    if np.abs(late).max(initial=0.0) >= 1:
        raise InputError(
            f"clocks may be off by a period of {period_hours:g} h or more",
            "scenario:metering.max_clock_offset_s",
            "let it be less than a period",
        )
    exact = p_kw * (1000 * period_hours)
    after = np.concatenate([exact[:, 1:], exact[:, -1:]], axis=1)
    before = np.concatenate([exact[:, :1], exact[:, :-1]], axis=1)
    late = late[:, None]
    counted = exact + np.maximum(late, 0) * (after - exact) - np.minimum(late, 0) * (before - exact)
    counted = counted * (1 + relative_error(fleet, first_period, n_periods))
    register = np.floor(np.cumsum(counted, axis=1) + _ROUNDING_WH).astype(np.int64)
    recorded = np.ones(p_kw.shape, dtype=np.bool_)
    if fleet.drop_rate:
        for t in range(n_periods):
            draw = uniform(fleet.seed, f"meter/drop/{first_period + t}", fleet.participant)
            recorded[:, t] = draw >= fleet.drop_rate
    return Measurement(
        participant=fleet.participant,
        first_period=first_period,
        reading_wh=np.diff(register, axis=1, prepend=0),
        recorded=recorded,
        opening_wh=np.zeros(len(fleet), dtype=np.int64) if opening_wh is None else opening_wh,
    )


def simulated_secrets(seed: int, role: str, ids: IntArray) -> list[bytes]:
    """Secret keys of simulated devices and people, derived and never stored.

    They guard nothing: whoever has the scenario has them. A real deployment registers the public
    keys of real meters and wallets.

    Parameters
    ----------
    seed : int
        The scenario's seed.
    role : str
        Whose keys: `meter` or `owner`.
    ids : (M,) int64
        Ids of the participants.

    Returns
    -------
    list of bytes
        32-byte secp256k1 secrets.
    """
    head = f"raygrid simulated key/{role}/{seed}/".encode()
    secrets = []
    for who in ids.tolist():
        digest = hashlib.sha3_256(head + str(who).encode()).digest()
        number = int.from_bytes(digest, "big") % (CURVE_ORDER - 1) + 1
        secrets.append(number.to_bytes(32, "big"))
    return secrets


def public_keys(secrets: Sequence[bytes]) -> list[bytes]:
    """Compressed public keys (33 bytes) of secrets."""
    from coincurve import PrivateKey

    return [PrivateKey(secret).public_key.format() for secret in secrets]
