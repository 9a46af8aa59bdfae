"""Named attacks on meters, as a scenario asks for them.

Those on readings happen inside the meter, which signs what it is made to believe: its registers
agree with its readings and its signature is true. Those on reports happen on the way, by somebody
without the meter's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raygrid.arrays import BoolArray, IntArray
from raygrid.prosumer.population import GRID_ID
from raygrid.scenario.draws import uniform
from raygrid.scenario.metering import MeterAttack
from raygrid.settlement.meters import Measurement, simulated_secrets
from raygrid.settlement.reports import MeterReport, sign_reports

ON_REPORTS = ("replay", "forged_identity")


def attacked(attack: MeterAttack, seed: int, participant: IntArray) -> BoolArray:
    """(M,) bool: whose meters an attack takes; a share is drawn among prosumers only.

    Parameters
    ----------
    attack : MeterAttack
        The attack.
    seed : int
        The scenario's seed.
    participant : (M,) int64
        Ids.
    """
    if attack.prosumers:
        return np.asarray(np.isin(participant, attack.prosumers))
    draw = uniform(seed, f"meter/attack/{attack.kind}", participant)
    return np.asarray((draw < attack.share) & (participant != GRID_ID))


def _window(attack: MeterAttack, first_period: int, n_periods: int) -> BoolArray:
    """(T,) bool: the periods that an attack takes."""
    period = first_period + np.arange(n_periods)
    end = np.inf if attack.to_period is None else attack.to_period
    return np.asarray((period >= attack.from_period) & (period < end))


def tamper(measurement: Measurement, attacks: Sequence[MeterAttack], seed: int) -> Measurement:
    """Readings after the attacks inside the meters, one after the other.

    `scaling` multiplies, `sign_flip` turns bought into sold, `stuck` stops the counter, and
    `shifting` shows what was `shift_periods` earlier, at the beginning of a day what its end had.

    Parameters
    ----------
    measurement : Measurement
        What the meters counted.
    attacks : sequence of MeterAttack
        Attacks; those on reports are left to `intercept`.
    seed : int
        The scenario's seed.
    """
    reading = measurement.reading_wh
    for attack in attacks:
        if attack.kind in ON_REPORTS:
            continue
        if attack.kind == "scaling":
            false = np.rint(reading * attack.factor).astype(np.int64)
        elif attack.kind == "shifting":
            false = np.roll(reading, attack.shift_periods, axis=1)
        elif attack.kind == "stuck":
            false = np.zeros_like(reading)
        else:
            false = -reading
        taken = attacked(attack, seed, measurement.participant)
        window = _window(attack, measurement.first_period, reading.shape[1])
        reading = np.where(taken[:, None] & window, false, reading)
    return replace(measurement, reading_wh=reading)


def intercept(
    reports: Sequence[MeterReport],
    measurement: Measurement,
    community: bytes,
    attacks: Sequence[MeterAttack],
    seed: int,
) -> list[MeterReport]:
    """Reports after the attacks on their way.

    `replay` puts a true report of the day before in the place of the day's (before the first day
    the meter reported the same readings, for a test), `forged_identity` one that somebody signed
    with a key of his own.

    Parameters
    ----------
    reports : sequence of MeterReport
        True reports, in the order of the measurement.
    measurement : Measurement
        What they report.
    community : bytes
        `community_id`.
    attacks : sequence of MeterAttack
        Attacks; those on readings are left to `tamper`.
    seed : int
        The scenario's seed.
    """
    out = list(reports)
    n_periods = measurement.reading_wh.shape[1]
    for attack in attacks:
        if (
            attack.kind not in ON_REPORTS
            or not _window(attack, measurement.first_period, n_periods).any()
        ):
            continue
        rows = np.flatnonzero(attacked(attack, seed, measurement.participant))
        part = replace(
            measurement,
            participant=measurement.participant[rows],
            reading_wh=measurement.reading_wh[rows],
            recorded=measurement.recorded[rows],
            opening_wh=measurement.opening_wh[rows],
        )
        if attack.kind == "replay":
            part = replace(part, first_period=measurement.first_period - n_periods)
        role = "meter" if attack.kind == "replay" else "forger"
        secrets = simulated_secrets(seed, role, part.participant)
        for row, report in zip(rows.tolist(), sign_reports(part, community, secrets), strict=True):
            out[row] = report
    return out


def attack_names(
    attacks: Sequence[MeterAttack],
    seed: int,
    participant: IntArray,
    first_period: int,
    n_periods: int,
) -> list[str]:
    """Which attacks take each meter on a day, for the run's tables; empty where none does."""
    names: list[list[str]] = [[] for _ in participant]
    for attack in attacks:
        if _window(attack, first_period, n_periods).any():
            for row in np.flatnonzero(attacked(attack, seed, participant)).tolist():
                names[row].append(attack.kind)
    return [", ".join(found) for found in names]
