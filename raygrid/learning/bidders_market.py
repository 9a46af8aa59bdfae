"""The market that bidders are trained in: a scenario with its forecasts and day-ahead plans."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raygrid.learning.code import PLANNING, code_digest
from raygrid.learning.dqn import DqnOptions
from raygrid.learning.dqn_training import TrainingDays
from raygrid.learning.environment import RewardWeights
from raygrid.learning.market_days import learning_scenario
from raygrid.learning.weights import arrays_digest
from raygrid.scenario.config import Scenario
from raygrid.scenario.intraday import Bidders, Intraday, Reward
from raygrid.scenario.load import dump_resolved, load_scenario


@dataclass(frozen=True)
class TrainBiddersOptions:
    """What the command is asked for.

    Attributes
    ----------
    scenario : str
        Name or path.
    out : Path
        Folder of all trainings.
    command : str
        The command line, for the manifest.
    settings : tuple of str
        Changed values of the scenario.
    agents, episodes, seed : int or None
        In place of the scenario's.
    margin : float or None
        As `DqnOptions.margin`, in place of the scenario's.
    shared : bool
        Whether one network serves all prosumers.
    planned : bool
        Whether they learn on top of day-ahead plans.
    device : str
        'auto', 'cpu' or 'cuda'.
    resume : bool
        Whether to go on with the training that the folder holds.
    measure_every : int
        Episodes from one look at the validation days to the next.
    """

    scenario: str
    out: Path
    command: str
    settings: tuple[str, ...] = ()
    agents: int | None = None
    episodes: int | None = None
    seed: int | None = None
    margin: float | None = None
    shared: bool = False
    planned: bool = True
    device: str = "auto"
    resume: bool = False
    measure_every: int = 100


@dataclass(frozen=True)
class BiddersMarket:
    """What trainings of a scenario share, whatever their seed.

    Attributes
    ----------
    name, currency : str
        Of the scenario.
    days : TrainingDays
        The market and its split.
    settings : DqnOptions
        As the scenario has them.
    reward : RewardWeights
        As the scenario has them.
    forecasts : tuple of str
        What was forecast by what.
    """

    name: str
    currency: str
    days: TrainingDays
    settings: DqnOptions
    reward: RewardWeights
    forecasts: tuple[str, ...]

    def options(self, asked: TrainBiddersOptions) -> DqnOptions:
        """Settings of one training."""
        given = {
            name: value
            for name in ("episodes", "seed", "margin")
            if (value := getattr(asked, name)) is not None
        }
        return replace(self.settings, shared=asked.shared, device=asked.device, **given)


def plans_name(scenario: Scenario, base_dir: Path, forecasts: Sequence[str]) -> str:
    """Name of the file of a scenario's plans: the same only where the plans would be.

    Parameters
    ----------
    scenario : Scenario
        How bidders learn, and what from, is no part of it: plans are made without them.
    base_dir : Path
        Folder that its data paths are relative to.
    forecasts : sequence of str
        Digests of the forecasters' weights, or names of naive ones.
    """
    intraday = (scenario.intraday or Intraday()).model_copy(
        update={"bidders": Bidders(), "reward": Reward()}
    )
    resolved = dump_resolved(scenario.model_copy(update={"intraday": intraday}), base_dir)
    parts = "\0".join([resolved, *forecasts, code_digest(PLANNING)])
    return f"plans-{hashlib.sha256(parts.encode()).hexdigest()[:16]}.npz"


def bidders_market(
    options: TrainBiddersOptions, tell: Callable[[str], None] = lambda _: None
) -> BiddersMarket:
    """Build the market of a scenario: learned forecasts where it ships them, plans where wanted.

    Plans are kept beside the trainings, for those that go on or follow; their name says what they
    are of (`plans_name`).

    Raises
    ------
    InputError
        If the scenario has nothing to learn from.
    """
    from raygrid.learning.dataset import build_dataset
    from raygrid.learning.forecasting import (
        Naive,
        day_ahead_predictions,
        find_forecaster,
        step_predictions,
    )
    from raygrid.learning.planned_days import PlannedDays, plan_days

    given = {"settings": options.settings, "agents": options.agents}
    scenario, base_dir = load_scenario(options.scenario, **given)  # type: ignore[arg-type]
    if scenario.history is None:
        learning_scenario(options.scenario, **given)  # type: ignore[arg-type]
    data = build_dataset(scenario, base_dir)
    hours = scenario.horizon.dt
    forecasts, by, digests = [], {}, []
    for task in ("step", "day"):
        learned, note = find_forecaster(scenario.name, base_dir, task, data)
        by[task] = learned or Naive.PERSISTENCE
        if learned:
            digests.append(arrays_digest(learned.weights | learned.scaling.arrays()))
        else:
            digests.append(str(Naive.PERSISTENCE))
        forecasts.append(f"{task}: {'learned' if learned else f'persistence ({note})'}")
        tell(forecasts[-1])
    step = step_predictions(data, by["step"], period_hours=hours)
    found = learning_scenario(options.scenario, **given, predictions=step)  # type: ignore[arg-type]
    days = found.days
    if options.planned:
        path = options.out / scenario.name / plans_name(scenario, base_dir, digests)
        if path.exists():
            planned = PlannedDays.load(path)
        else:
            ahead = day_ahead_predictions(data, by["day"], period_hours=hours)
            every = np.arange(days.train[0], days.test[-1] + 1)
            planned = plan_days(found, every, ahead, tell)
            path.parent.mkdir(parents=True, exist_ok=True)
            planned.save(path)
        market = planned.over(days.market)
        days = replace(days, market=market, start_kwh=planned.starts(market.feed.n_days))
    return BiddersMarket(
        scenario.name, scenario.currency, days, found.options, found.reward, tuple(forecasts)
    )
