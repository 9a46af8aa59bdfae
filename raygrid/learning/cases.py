"""The compared cases of AI-TEM V.D and its ablations: what each runs, and its days in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.case_settlement import CaseChain
from raygrid.learning.dataset import Dataset
from raygrid.learning.forecasting import Naive, day_ahead_predictions, step_predictions
from raygrid.learning.inference import Forecaster
from raygrid.learning.market_day_result import (
    DayCase,
    ForecastRule,
    MarketDayResult,
    MarketDays,
    StoreRule,
)
from raygrid.learning.market_days import LearningScenario, Predictions
from raygrid.learning.policy import Policy
from raygrid.learning.reserve import Reserve
from raygrid.market.trades import MICRO, WH_PER_KWH
from raygrid.market.units import Slot
from raygrid.results.ai_tem import NAMES
from raygrid.results.ai_tem_printed import CaseName
from raygrid.results.case_days import CaseDay

_ALONE = {
    "peers": False, "day_ahead": False, "forecast": ForecastRule.PERFECT, "penalty": False,
    "limits": False, "chain": False,
}  # fmt: skip
_FULL = DayCase(CaseName.FULL.value, stores=StoreRule.POLICY)
_PLANNED = DayCase(
    CaseName.OPTIMISATION.value, forecast=ForecastRule.PERSISTENCE, penalty=False, chain=False
)

CASES: dict[CaseName, DayCase] = {
    CaseName(case.name): case
    for case in (
        DayCase(CaseName.GRID_ONLY.value, stores=StoreRule.IDLE, **_ALONE),  # type: ignore[arg-type]
        DayCase(CaseName.SELF_CONSUMPTION.value, stores=StoreRule.SELF_CONSUMPTION, **_ALONE),  # type: ignore[arg-type]
        replace(
            _PLANNED, name=CaseName.RULE.value, day_ahead=False, stores=StoreRule.RULE, limits=False
        ),
        _PLANNED,
        replace(_PLANNED, name=CaseName.BLOCKCHAIN.value, limits=False, chain=True),
        _FULL,
        replace(_FULL, name=CaseName.NO_FORECAST.value, forecast=ForecastRule.PERSISTENCE),
        replace(_FULL, name=CaseName.NO_RL.value, stores=StoreRule.SHARE),
        replace(_FULL, name=CaseName.PLAN_ALONE.value, stores=StoreRule.PLAN),
        replace(_FULL, name=CaseName.NO_GRID.value, penalty=False, limits=False),
        replace(_FULL, name=CaseName.NO_CHAIN.value, chain=False),
        DayCase(CaseName.PERFECT.value, forecast=ForecastRule.PERFECT, stores=StoreRule.SHARE),
    )
}
"""The five cases of V.D, grid-only with its batteries in use, the ablations of Table VI, and what
the plan comes to where forecasts do not err."""

_STORES = {
    StoreRule.IDLE: "rest; EVs charge on arrival",
    StoreRule.SELF_CONSUMPTION: "own surplus in, own deficit out; EVs charge on arrival",
    StoreRule.RULE: "threshold rule",
    StoreRule.PLAN: "the plan, corrected where that is cheaper than the tariff",
    StoreRule.SHARE: "the plan, corrected likewise, for others too",
    StoreRule.POLICY: "DQN on top of the plan",
}
_FORECASTS = {
    ForecastRule.PERSISTENCE: "the day before, the period before",
    ForecastRule.SEASONAL: "the week before, the day before",
    ForecastRule.LEARNED: "hybrid CNN-Transformer",
    ForecastRule.PERFECT: "what is measured",
}


def case_of(name: CaseName, rule: bool = False) -> DayCase:
    """A case; with `rule` the rule acts where bidders should have learned."""
    case = CASES[name]
    learns = case.stores is StoreRule.POLICY
    return replace(case, stores=StoreRule.SHARE) if rule and learns else case


def stages_table(rule: bool = False) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What each case runs, for people: columns and rows; `rule` as in `case_of`."""

    def yes(flag: bool) -> str:
        return "yes" if flag else "–"

    columns = (
        "Case", "Forecasts", "Day-ahead market", "Stores", "Intraday auction", "Congestion fee",
        "Limits", "Chain", "Who pays for imbalance",
    )  # fmt: skip
    return columns, [
        (
            NAMES[name],
            _FORECASTS[case.forecast] if case.peers else "–",
            yes(case.day_ahead),
            _STORES[case.stores],
            yes(case.peers),
            yes(case.penalty),
            yes(case.limits),
            yes(case.chain),
            _imbalance(case),
        )
        for name, case in ((name, case_of(name, rule)) for name in CASES)
    ]


def _imbalance(case: DayCase) -> str:
    if not case.peers:
        return "nobody owes any: each pays tariff for what is metered"
    if case.day_ahead:
        return "who deviates from its day-ahead trades: to peers in the auction, then at tariff"
    return "who deviates from its orders: its trades are cut, the rest is at tariff"


@dataclass(frozen=True)
class Learned:
    """What was trained.

    Attributes
    ----------
    day, step : Forecaster or None
        A day ahead, and a period ahead.
    policy : Policy or None
        Of the bidders.
    missing : dict of str to str
        Why there is none of them.
    digests : dict of str to str
        Of the weights' files.
    """

    day: Forecaster | None = None
    step: Forecaster | None = None
    policy: Policy | None = None
    missing: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def what_is_learned(case: DayCase) -> list[str]:
    """Which weights of `Learned` a case uses."""
    used = ["day", "step"] if case.forecast is ForecastRule.LEARNED else []
    return [*used, "policy"] if case.stores is StoreRule.POLICY else used


class Community:
    """The scenario that all cases run in.

    Parameters
    ----------
    found : LearningScenario
        Market over all days.
    data : Dataset
        What forecasters read.
    days : (D,) int64
        Days in a row that are compared.
    learned : Learned
        What was trained for it, as far as it was.
    """

    def __init__(
        self, found: LearningScenario, data: Dataset, days: IntArray, learned: Learned
    ) -> None:
        self.found, self.data, self.days, self.learned = found, data, days, learned
        self.reserve, self._within = Reserve(), Reserve().within(found)
        self._forecasts: dict[ForecastRule, tuple[Predictions, Predictions, float]] = {}

    def check(self, case: DayCase) -> None:
        """Refuse a case whose weights are missing.

        Raises
        ------
        InputError
            Before anything has run.
        """
        for name in what_is_learned(case):
            if getattr(self.learned, name) is not None:
                continue
            raise InputError(
                f"needs weights that are missing: {self.learned.missing.get(name, name)}",
                f"case {case.name!r}",
                "train them, or leave the case out by --cases",
            )

    def forecasts(self, rule: ForecastRule) -> tuple[Predictions, Predictions, float]:
        """Forecasts a day and a step ahead by a rule, and what they take of a period [s].

        Their periods are those of the whole history; those of other days are zero, since nobody
        looks at them.
        """
        if rule not in self._forecasts:
            feed = self.found.days.market.feed
            by: tuple[Forecaster | Naive, Forecaster | Naive]
            if rule is ForecastRule.LEARNED:
                assert self.learned.day is not None  # checked before
                assert self.learned.step is not None
                by = self.learned.day, self.learned.step
            else:
                by = Naive(rule.value), Naive(rule.value)
            started = perf_counter()
            hours = feed.period_hours
            day = day_ahead_predictions(self.data, by[0], self.days, period_hours=hours)
            step = step_predictions(self.data, by[1], self.days, period_hours=hours)
            seconds = (perf_counter() - started) / step.load_kw.shape[1]
            self._forecasts[rule] = self._whole(day), self._whole(step), seconds
        return self._forecasts[rule]

    def _whole(self, some: Predictions) -> Predictions:
        feed = self.found.days.market.feed
        columns = (self.days[:, None] * feed.day_periods + np.arange(feed.day_periods)).ravel()
        load, pv = np.zeros((2, len(some.prosumer_id), feed.n_periods))
        load[:, columns], pv[:, columns] = some.load_kw, some.pv_kw
        return Predictions(some.prosumer_id, load, pv)

    def play(
        self, case: DayCase, days: IntArray, energy_kwh: FloatArray | None
    ) -> Iterator[tuple[CaseDay, FloatArray]]:
        """Run days of a case in a row.

        Parameters
        ----------
        case : DayCase
            What runs.
        days : (d,) int64
            Days in a row, of those that are compared.
        energy_kwh : (N, 3) float64, optional
            Energy in the stores when the first begins; their initial energy by default [kWh].

        Yields
        ------
        CaseDay, (N, 3) float64
            What each day came to, and what it leaves in the stores [kWh].
        """
        day_ahead, step, thinking = self.forecasts(case.forecast)
        policy = self.learned.policy if case.stores is StoreRule.POLICY else None
        found = self._within if case.limits else self.found
        market = MarketDays(found, case, day_ahead=day_ahead, step=step, policy=policy)
        chain = CaseChain(self.found) if case.chain else None
        try:
            for done in market.run(days.tolist(), energy_kwh):
                if case.limits:
                    done = replace(done, ac=self.reserve.judged(done.ac, self.found))
                row = case_day(done, thinking)
                if chain is not None:
                    row = replace(row, **chain.settle(done.plan, done.intraday))
                yield row, done.energy_kwh
        finally:
            if chain is not None:
                chain.close()


def case_day(done: MarketDayResult, thinking_s: float = 0.0) -> CaseDay:
    """The figures of a day that tables take.

    Parameters
    ----------
    done : MarketDayResult
        The day.
    thinking_s : float
        What its forecasts took of a period [s].
    """
    periods = len(done.intraday.seconds)
    notes = []
    if done.plan is not None and done.plan.reason:
        notes.append(f"day ahead: {done.plan.reason}")
    if done.fallbacks and done.case.stores is StoreRule.POLICY:
        notes.append(f"{done.fallbacks} decisions by the rule")
    if done.ac.n_not_converged:
        notes.append(f"{done.ac.n_not_converged} load flows did not converge")
    traded = (done.day_ahead_wh + done.intraday_wh) / WH_PER_KWH
    return CaseDay(
        case=done.case.name,
        day=done.day,
        cost=done.community_cost,
        wear=done.wear,
        fees=done.network_micro / MICRO,
        load_kwh=done.load_kwh,
        pv_kwh=done.pv_kwh,
        curtailed_kwh=done.curtailed_kwh,
        import_kwh=done.billed_import_kwh,
        export_kwh=done.billed_export_kwh,
        peak_kw=done.peak_kw,
        cleared_kwh=traded + done.failed_wh / WH_PER_KWH,
        delivered_kwh=traded,
        unmet_kwh=done.unmet_kwh,
        stored_kwh=float(done.energy_kwh[:, Slot.BATTERY].sum()),
        clearing_s=(done.seconds["day_ahead"] + done.seconds["intraday"]) / periods + thinking_s,
        trades=done.day_ahead_trades + done.intraday_trades,
        lowest_voltage_pu=done.ac.lowest_voltage_pu,
        highest_voltage_pu=done.ac.highest_voltage_pu,
        highest_loading=done.ac.highest_loading,
        voltage_violations=done.ac.n_voltage_violations,
        current_violations=done.ac.n_overloads,
        note="; ".join(notes),
    )
