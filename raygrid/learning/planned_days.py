"""Day-ahead plans of a whole history, for bidders to learn on top of.

The days are run in a row once, everybody following its plan, each plan made at midnight from what
was forecast a day ahead and from what the stores then hold. What bidders do later moves the stores
a little away from that; plans of that very day are made anew only when the market is run for good.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.market_day import clear_day_ahead, forecast_case
from raygrid.learning.market_day_intraday import PlanFollower, run_intraday
from raygrid.market.intraday import IntradayMarket
from raygrid.market.trades import MICRO
from raygrid.market.units import Correction, Feed
from raygrid.results.files import write_atomically

if TYPE_CHECKING:
    from raygrid.learning.market_days import LearningScenario, Predictions


@dataclass(frozen=True)
class PlannedDays:
    """Plans of D days in a row, T periods each.

    Attributes
    ----------
    first_day : int
        The first of the days.
    position_kw, planned_kw, pv_max_kw : (D * T, N) float64
        Net injections sold a day ahead, what was planned to be left for the grid, and the PV that
        the plan lets in [kW].
    stored_value_per_kwh : (D * T, N) float64
        What the plan takes a kWh in the battery to be worth [currency/kWh].
    plan_kw : (D * T, N, 3) float64
        Powers of the stores, discharge positive [kW].
    takes, gives : (D * T, N) bool
        When batteries make up for forecast errors, as `raygrid.market.units.Correction`.
    start_kwh : (D, N, 3) float64
        Energy in the stores when each day begins [kWh].
    money : (D,) float64
        What all trades of the day ahead earned less what they paid: what the network account
        took, negative [currency].
    """

    first_day: int
    position_kw: FloatArray
    planned_kw: FloatArray
    pv_max_kw: FloatArray
    stored_value_per_kwh: FloatArray
    plan_kw: FloatArray
    takes: BoolArray
    gives: BoolArray
    start_kwh: FloatArray
    money: FloatArray

    def over(self, market: IntradayMarket) -> IntradayMarket:
        """The market on top of these plans; other days stay without one."""
        planned = market.over(self._feed(market.feed))
        planned.reset(np.zeros(1, dtype=np.int64))
        return planned

    def _feed(self, feed: Feed) -> Feed:
        shape = feed.position_kw.shape
        rows = slice(
            self.first_day * feed.day_periods,
            self.first_day * feed.day_periods + len(self.position_kw),
        )
        position, plan = np.array(feed.position_kw), np.array(feed.plan_kw)
        planned, takes, gives = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
        pv_max = np.full(shape, np.inf)
        pv_max[rows] = self.pv_max_kw
        stored_value = np.zeros(shape)
        stored_value[rows] = self.stored_value_per_kwh
        position[rows], plan[rows], planned[rows] = self.position_kw, self.plan_kw, self.planned_kw
        takes[rows], gives[rows] = self.takes, self.gives
        return replace(
            feed,
            position_kw=position,
            plan_kw=plan,
            correction=Correction(planned, takes, gives, pv_max, stored_value),
        )

    def starts(self, n_days: int) -> FloatArray:
        """(n_days, N, 3) energy when any day begins; NaN where there is no plan [kWh]."""
        starts = np.full((n_days, *self.start_kwh.shape[1:]), np.nan)
        starts[self.first_day : self.first_day + len(self.start_kwh)] = self.start_kwh
        return starts

    def save(self, path: Path) -> None:
        """Write them, for trainings that go on or share them."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        write_atomically(path, lambda stream: np.savez_compressed(stream, **arrays))

    @classmethod
    def load(cls, path: Path) -> PlannedDays:
        """The inverse of `save`.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                values: dict[str, Any] = {f.name: stored[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                "the plans are missing or damaged", str(path), "train anew, without --resume"
            ) from error
        return cls(**{**values, "first_day": int(values["first_day"])})


def plan_days(
    found: LearningScenario,
    days: IntArray,
    ahead: Predictions | None,
    tell: Callable[[str], None] = lambda _: None,
) -> PlannedDays:
    """Plan and run days in a row.

    Parameters
    ----------
    found : LearningScenario
        The community over all of its days.
    days : (D,) int64
        Days that follow each other.
    ahead : Predictions, optional
        Forecasts a day ahead, of all periods; what will be measured without them.
    tell : callable
        Is given lines of progress.
    """
    market = found.days.market
    feed, units = market.feed, market.units
    market = market.over(feed)
    follower = PlanFollower(market)
    energy: FloatArray | None = None
    parts: list[dict[str, NDArray[Any]]] = []
    for n_done, day in enumerate(np.asarray(days).tolist()):
        plan = clear_day_ahead(forecast_case(found, day, ahead, energy), day * feed.day_periods)
        market.reset(np.array([day * feed.day_periods]), None if energy is None else energy[None])
        start = market.energy_kwh[0] + feed.used_kwh[day * feed.day_periods]
        rule = plan.correction(units, feed)
        columns = {
            "position_kw": plan.position_kw,
            "planned_kw": rule.planned_kw,
            "pv_max_kw": rule.pv_max_kw,
            "stored_value_per_kwh": rule.stored_value_per_kwh,
            "plan_kw": plan.plan_kw,
            "takes": rule.takes,
            "gives": rule.gives,
            "start_kwh": start[None],
            "money": np.array([-plan.network_micro / MICRO]),
        }
        parts.append(columns)
        energy = run_intraday(market, follower, plan, day=day, energy_kwh=energy).energy_kwh
        if n_done % 10 == 9 or n_done + 1 == len(days):
            tell(f"planned {n_done + 1} of {len(days)} days")
    whole: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    return PlannedDays(first_day=int(days[0]), **whole)
