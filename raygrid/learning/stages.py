"""What the stages of a run's market days are made of: forecasters and policies, or rules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from raygrid.errors import InputError
from raygrid.files import data_path, data_root
from raygrid.learning.forecast_community import forecast_community
from raygrid.learning.forecasting import WEIGHTS_FOLDER, Naive
from raygrid.learning.inference import Forecaster, load_forecaster
from raygrid.learning.policy import Policy, load_policy
from raygrid.scenario.config import Scenario

if TYPE_CHECKING:
    from raygrid.scenario.build import CaseDraft
    from raygrid.scenario.case import Case

FORECASTER, POLICY = "forecaster-day", "bidders"
"""Folders of shipped weights, beside a scenario in its folder `weights`."""


@dataclass(frozen=True)
class DayStages:
    """Who forecasts and who bids in a run, with what was found for it.

    Attributes
    ----------
    scenario : Scenario
        With its section `stages`.
    base_dir : Path
        Folder that its data paths are relative to.
    by : Forecaster or Naive
        Who forecasts the day ahead.
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
        if stages.forecast == "learned":
            found = _forecaster(scenario, base_dir)
            if found is None:
                notes.append(
                    f"no weights {WEIGHTS_FOLDER}/{FORECASTER} for this scenario: the day before "
                    "is its forecast"
                )
            by = found or Naive.PERSISTENCE
        else:
            by = Naive(stages.forecast)
        bidders, policy = stages.intraday, None
        if bidders == "policy":
            policy = _policy(scenario, base_dir, n_prosumers)
            if policy is None:
                notes.append(
                    f"no weights {WEIGHTS_FOLDER}/{POLICY} that fit this scenario: bidders follow "
                    "the day-ahead plan"
                )
                bidders = "plan"
        return cls(scenario, base_dir, by, bidders, policy, tuple(notes))

    @property
    def has_intraday(self) -> bool:
        """Whether there is an intraday auction."""
        return self.bidders != "none"

    @property
    def forecast(self) -> str:
        """What the day ahead is forecast by."""
        return "learned" if isinstance(self.by, Forecaster) else str(self.by)

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
            network=measured.network,
            community=community,
            other_days=(),
            limits_known=True,
        )


def _shipped(scenario: Scenario, base_dir: Path, name: str) -> Path | None:
    for folder in (base_dir, data_root("scenarios") / scenario.name):
        if (folder / WEIGHTS_FOLDER / name).is_dir():
            return folder / WEIGHTS_FOLDER / name
    return None


def _forecaster(scenario: Scenario, base_dir: Path) -> Forecaster | None:
    given = scenario.stages.forecaster
    if given is not None:
        return load_forecaster(data_path(given, base_dir))
    found = _shipped(scenario, base_dir, FORECASTER)
    return None if found is None else load_forecaster(found)


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
