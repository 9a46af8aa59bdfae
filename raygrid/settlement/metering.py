"""The metering stage of a market day: measured, tampered with, signed, sent and verified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.scenario.metering import Metering
from raygrid.settlement.attacks import attack_names, intercept, tamper
from raygrid.settlement.meters import (
    MeterFleet,
    measure,
    meter_fleet,
    public_keys,
    simulated_secrets,
)
from raygrid.settlement.reports import community_id, sign_reports
from raygrid.settlement.rules import Tolerance
from raygrid.settlement.verification import AcceptedReadings, verify_reports


@dataclass(frozen=True)
class MeteredDay:
    """What metering makes of a day.

    Attributes
    ----------
    accepted : AcceptedReadings
        Readings that the meter authority stands for, and why it refused others.
    closing_wh : (M,) int64
        True registers when the day ends, the next day's opening ones [Wh].
    attacks : list of str
        Which attacks took each meter, known to the simulation alone.
    """

    accepted: AcceptedReadings
    closing_wh: IntArray
    attacks: list[str]


class MeterPark:
    """All meters of a community, with simulated keys that stay in memory.

    Parameters
    ----------
    metering : Metering
        The scenario's section.
    scenario : str
        The scenario's name.
    seed : int
        The scenario's seed.
    participant : (M,) int64
        Ids in ascending order, with 0 where there is a grid connection.

    Attributes
    ----------
    fleet : MeterFleet
        The meters.
    community : bytes
        `raygrid.settlement.reports.community_id`.
    public_keys : dict of int to bytes
        Compressed public key of each participant's meter, to be registered.
    tolerance : Tolerance
        Epsilon of (5-7) in force.

    Raises
    ------
    InputError
        If an attack names somebody who does not take part.
    """

    def __init__(self, metering: Metering, scenario: str, seed: int, participant: IntArray) -> None:
        self._metering = metering
        self._secrets = simulated_secrets(seed, "meter", participant)
        self.fleet: MeterFleet = meter_fleet(metering, seed, participant)
        self.community = community_id(scenario, seed)
        keys = public_keys(self._secrets)
        self.public_keys = dict(zip(participant.tolist(), keys, strict=True))
        self.tolerance = Tolerance(metering.tolerance_wh, metering.tolerance_ppm_in_force)

    def day(
        self,
        p_kw: FloatArray,
        period_hours: float,
        first_period: int = 0,
        opening_wh: IntArray | None = None,
    ) -> MeteredDay:
        """Meter a delivered day and verify the reports.

        Parameters
        ----------
        p_kw : (M, T) float64
            Delivered net power, in the order of the participants [kW].
        period_hours : float
            Length of a period [h].
        first_period : int
            Global index of the day's first period.
        opening_wh : (M,) int64 or None
            Registers when the day begins; None means 0 [Wh].
        """
        attacks, seed, who = self._metering.attacks, self.fleet.seed, self.fleet.participant
        measured = measure(self.fleet, p_kw, period_hours, first_period, opening_wh)
        reported = tamper(measured, attacks, seed)
        reports = sign_reports(reported, self.community, self._secrets)
        arrived = intercept(reports, reported, self.community, attacks, seed)
        # An attacker who holds the line also replaces what the meter commits to.
        commitments = {report.sender: report.commitment for report in arrived}
        n_periods = p_kw.shape[1]
        accepted = verify_reports(
            arrived,
            commitments,
            self.public_keys,
            self.community,
            first_period,
            n_periods,
            self._metering.estimation,
        )
        names = attack_names(attacks, seed, who, first_period, n_periods)
        return MeteredDay(accepted, measured.closing_wh, names)


def with_grid(p_kw: FloatArray, grid_kw: FloatArray | None) -> FloatArray:
    """Powers of all participants by id: the grid connection's, if there is one, goes first.

    Parameters
    ----------
    p_kw : (N, T) float64
        Net injections of the prosumers by ascending id [kW].
    grid_kw : (T,) float64 or None
        Import minus export of the grid connection [kW].
    """
    return p_kw if grid_kw is None else np.vstack([grid_kw, p_kw])
