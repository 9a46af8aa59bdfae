"""What the stages of a run's market days are made of: forecasters and policies, or rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raygrid.errors import InputError
from raygrid.files import data_path, data_root
from raygrid.learning.adapting import adjusted, adjustment_rows
from raygrid.learning.dataset import PERIOD_HOURS, begin_of_day
from raygrid.learning.features import PAST_DAYS, SCALE_DAYS
from raygrid.learning.forecast_community import (
    days_learnt_from,
    days_of_past,
    forecast_community,
    leaning_today,
)
from raygrid.learning.forecasting import WEIGHTS_FOLDER, Naive
from raygrid.learning.inference import Forecaster, load_forecaster
from raygrid.learning.policy import Policy, load_policy
from raygrid.learning.recent import Interval, RecentDays, intervals, recent_days, serves
from raygrid.learning.renewal import with_days_since
from raygrid.scenario.config import Scenario

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.grid.network import Network
    from raygrid.scenario.build import CaseDraft
    from raygrid.scenario.case import Case

FORECASTER, STEP_FORECASTER, POLICY = "forecaster-day", "forecaster-step", "bidders"
"""Folders of shipped weights, beside a scenario in its folder `weights`."""


@dataclass(frozen=True)
class Outlook:
    """A forecaster as it stood on a day, and what it forecast.

    Attributes
    ----------
    by : Forecaster
        The forecaster; weights for anybody with the scales of that day.
    found : Interval
        Its forecasts.
    """

    by: Forecaster
    found: Interval


@dataclass(frozen=True)
class DayOutlook:
    """What learned forecasters say of a day, beside what its hosts clear on.

    Attributes
    ----------
    recent : RecentDays
        The day and those before it, as measured.
    ahead, step : Outlook or None
        Of the midnight before, and of each period when its orders are due.
    """

    recent: RecentDays
    ahead: Outlook | None
    step: Outlook | None


@dataclass(frozen=True)
class DayStages:
    """Who forecasts and who bids in a run, with what was found for it.

    Attributes
    ----------
    scenario : Scenario
        With its section `stages`, and the voltage band within the reserve.
    base_dir : Path
        Folder that its data paths are relative to.
    by : Forecaster or Naive
        Who forecasts the day ahead.
    step : Forecaster or None
        Who forecasts a period when its orders are due; without it `stages.step` says how.
    bidders : str
        'none', 'plan', 'rule' or 'policy': who acts in the intraday auction.
    policy : Policy or None
        Learned bidders.
    notes : tuple of str
        What was asked for and is not there.
    """

    scenario: Scenario
    base_dir: Path
    by: Forecaster | Naive
    step: Forecaster | None
    bidders: str
    policy: Policy | None
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, scenario: Scenario, base_dir: Path, n_prosumers: int) -> DayStages:
        """Find what a scenario's stages need.

        Parameters
        ----------
        scenario : Scenario
            With its section `stages`.
        base_dir : Path
            Folder that its data paths are relative to.
        n_prosumers : int
            Size of the community.

        Raises
        ------
        InputError
            If weights that the scenario names are missing or do not fit.
        """
        stages, notes = scenario.stages, []
        by: Forecaster | Naive
        step = None
        if stages.forecast == "learned":
            found, step, missing = _forecasters(scenario, base_dir, n_prosumers)
            by = found or Naive.PERSISTENCE
            notes += missing
        else:
            by = Naive(stages.forecast)
        bidders, policy = stages.intraday, None
        if bidders == "policy":
            policy = _policy(scenario, base_dir, n_prosumers)
            if policy is None:
                notes.append(
                    f"no weights {WEIGHTS_FOLDER}/{POLICY} that fit this scenario: bidders keep to "
                    "the day-ahead plan and lend their batteries (the stated rule)"
                )
                bidders = "rule"
        free = stages.reserve
        if free.line_share or free.voltage_pu:
            kept = [
                (free.line_share, f"{100 * free.line_share:g} % of each line's limit"),
                (free.voltage_pu, f"{free.voltage_pu:g} p.u. of voltage"),
            ]
            of_what = " and ".join(words for share, words in kept if share)
            notes.append(f"markets keep {of_what} free; the AC check uses the whole limits")
        return cls(within_reserve(scenario), base_dir, by, step, bidders, policy, tuple(notes))

    @property
    def has_intraday(self) -> bool:
        """Whether there is an intraday auction."""
        return self.bidders != "none"

    @property
    def forecast(self) -> str:
        """What the day ahead is forecast by."""
        return "learned" if isinstance(self.by, Forecaster) else str(self.by)

    def within(self, network: Network) -> Network:
        """A network whose lines keep the reserve free."""
        share = self.scenario.stages.reserve.line_share
        return replace(network, limit_kw=network.limit_kw * (1.0 - share)) if share else network

    def outlook(self, day: int) -> DayOutlook | None:
        """What learned forecasters say of a day in quarter hours; None without them.

        Parameters
        ----------
        day : int
            Which of the days in a row, from 0.
        """
        ahead = self.by if isinstance(self.by, Forecaster) else None
        both = [by for by in (ahead, self.step) if by is not None]
        if self.scenario.horizon.dt != PERIOD_HOURS or not both:
            return None
        scenario, base_dir = self.scenario, self.base_dir
        midnight = begin_of_day(scenario.horizon.begin(day))
        n_past = max(days_of_past(scenario, base_dir, midnight, by) for by in both)
        past = recent_days(scenario, base_dir, day, n_past)

        def made(by: Forecaster | None) -> Outlook | None:
            if by is None:
                return None
            today, n_days = self._today(by, past), days_learnt_from(scenario, by, midnight)
            return Outlook(today, intervals(today, past.shortened(n_days)))

        return DayOutlook(past.shortened(0), made(ahead), made(self.step))

    def _today(self, by: Forecaster, recent: RecentDays) -> Forecaster:
        """A forecaster as hosts forecast with it on a market day."""
        if not by.fits_anybody:
            learns = self.scenario.stages.update == "typical"
            # Of the last days the series itself is learnt from, each day knowing those before it.
            return with_days_since(by, recent.data, recent.day - PAST_DAYS) if learns else by
        if by.spec.apart:
            by = leaning_today(self.scenario, self.base_dir, by, recent.midnight)
        return by.of(recent.data.until(recent.day, SCALE_DAYS))

    def learned_from(self, outlook: DayOutlook, day: int) -> tuple[DayStages, pa.Table]:
        """The stages after a day was measured, and rows of `calibration.parquet`.

        Parameters
        ----------
        outlook : DayOutlook
            Of that day.
        day : int
            Which of the days in a row, from 0.
        """
        by, step, made = self.by, self.step, []
        if isinstance(by, Forecaster) and outlook.ahead is not None:
            moved, ahead_made = adjusted(outlook.ahead.by, outlook.recent, outlook.ahead.found)
            by = replace(by, spread=moved.spread)
            made.append(("day_ahead", ahead_made))
        if step is not None and outlook.step is not None:
            moved, step_made = adjusted(outlook.step.by, outlook.recent, outlook.step.found)
            step = replace(step, spread=moved.spread)
            made.append(("step", step_made))
        return replace(self, by=by, step=step), adjustment_rows(day, made)

    @property
    def spreads(self) -> dict[str, list[list[float]]]:
        """Factors of the widths of learned intervals by horizon, as `learned_from` left them."""
        by = {"day_ahead": self.by, "step": self.step}
        return {n: b.spread.tolist() for n, b in by.items() if isinstance(b, Forecaster)}

    def with_spreads(self, spreads: Mapping[str, Sequence[Sequence[float]]]) -> DayStages:
        """The stages as another run of the same scenario left them.

        Parameters
        ----------
        spreads : mapping of str to (3, 5) values
            Its `spreads`.
        """
        by, step = self.by, self.step
        if isinstance(by, Forecaster):
            by = replace(by, spread=np.array(spreads["day_ahead"], dtype=by.spread.dtype))
        if step is not None:
            step = replace(step, spread=np.array(spreads["step"], dtype=step.spread.dtype))
        return replace(self, by=by, step=step)

    def forecast_draft(self, draft: CaseDraft, measured: Case, day: int) -> CaseDraft:
        """The draft of a day as it is forecast, in the measured day's network.

        Parameters
        ----------
        draft : CaseDraft
            Of the measured day.
        measured : Case
            Its case.
        day : int
            Which of the days in a row, from 0.

        Raises
        ------
        InputError
            If the community has no past to forecast from, or the weights do not fit it.
        """
        community = forecast_community(
            self.scenario, self.base_dir, draft.community, self.by, day=day
        )
        return replace(
            draft,
            scenario=self.scenario,
            network=self.within(measured.network),
            community=community,
            other_days=(),
            limits_known=True,
        )


def within_reserve(scenario: Scenario) -> Scenario:
    """The scenario as its markets take it: with the voltage band that the reserve leaves."""
    free, voltage = scenario.stages.reserve.voltage_pu, scenario.voltage
    if voltage is None or not free:
        return scenario
    narrow = {"v_min_pu": voltage.v_min_pu + free, "v_max_pu": voltage.v_max_pu - free}
    return scenario.model_copy(update={"voltage": voltage.model_copy(update=narrow)})


def _shipped(scenario: Scenario, base_dir: Path, name: str) -> Path | None:
    for folder in (base_dir, data_root("scenarios") / scenario.name):
        if (folder / WEIGHTS_FOLDER / name).is_dir():
            return folder / WEIGHTS_FOLDER / name
    return None


def _forecasters(
    scenario: Scenario, base_dir: Path, n_prosumers: int
) -> tuple[Forecaster | None, Forecaster | None, list[str]]:
    """Forecasters of the day ahead and of a period; shipped ones where they fit, and why not."""
    stages, quarters = scenario.stages, scenario.horizon.dt == PERIOD_HOURS
    recent: RecentDays | None = None
    found: list[Forecaster | None] = []
    notes = []
    step = {"corrected": "the day ahead's forecast, corrected", "persistence": "the period before"}
    for given, name, instead in (
        (stages.forecaster, FORECASTER, "the day before is its forecast"),
        (stages.step_forecaster, STEP_FORECASTER, f"orders go by {step[stages.step]}"),
    ):
        folder = None if given is None else data_path(given, base_dir)
        folder = folder or _shipped(scenario, base_dir, name)
        by = None if folder is None else load_forecaster(folder)
        why = "" if by is not None else f"no weights {WEIGHTS_FOLDER}/{name} for this scenario"
        if by is not None and quarters:
            recent = recent or recent_days(scenario, base_dir)
            why = serves(by, recent)
        elif by is not None and name == STEP_FORECASTER:
            why = "its weights are for quarter hours"
        elif by is not None and not by.fits_anybody and len(by.prosumer_id) < n_prosumers:
            why = f"its weights know {len(by.prosumer_id)} prosumers, not these {n_prosumers}"
        if why and given is not None:
            raise InputError(why, f"weights {folder}", "train weights for this scenario")
        if why and (folder is not None or name == FORECASTER):
            notes.append(f"{why}: {instead}")
        found.append(None if why else by)
    return found[0], found[1], notes


def _policy(scenario: Scenario, base_dir: Path, n_prosumers: int) -> Policy | None:
    """The bidders that were asked for; shipped ones only where they fit."""
    given = scenario.stages.policy
    if given is not None:
        return load_policy(data_path(given, base_dir), n_prosumers)
    found = _shipped(scenario, base_dir, POLICY)
    if found is None:
        return None
    try:
        return load_policy(found, n_prosumers)
    except InputError:
        return None
