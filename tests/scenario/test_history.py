"""Shifted households stay in their part of the split, and no two are alike."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.errors import InputError
from raygrid.scenario.build import draft_case, load_case
from raygrid.scenario.history import History, split_index
from raygrid.scenario.load import load_scenario

DAY = 96


def history(train: int, validation: int, test: int) -> History:
    return History(
        start=datetime(2016, 3, 16), train_days=train, validation_days=validation, test_days=test
    )


@given(
    days=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    weeks=st.integers(-8, 8),
    quarters=st.integers(-16, 16),
)
def test_no_step_leaves_its_part(days: tuple[int, int, int], weeks: int, quarters: int) -> None:
    rule = history(*days)
    steps = np.arange(rule.days * DAY)
    taken = split_index(rule, steps, DAY, 7 * weeks, quarters)
    edges = np.array(rule.first_days) * DAY
    part = np.searchsorted(edges, steps, side="right")
    np.testing.assert_array_equal(np.searchsorted(edges, taken, side="right"), part)


@given(weeks=st.integers(-8, 8), quarters=st.integers(-16, 16))
def test_weekday_and_time_of_day_are_kept(weeks: int, quarters: int) -> None:
    rule = history(120, 30, 30)
    steps = np.arange(rule.days * DAY)
    taken = split_index(rule, steps, DAY, 7 * weeks, quarters)
    assert ((taken - steps - quarters) % (7 * DAY) == 0).all()


def test_a_shift_that_stays_inside_is_plain() -> None:
    taken = split_index(history(120, 30, 30), np.array([10 * DAY, 125 * DAY]), DAY, 7, 2)
    np.testing.assert_array_equal(taken, [17 * DAY + 2, 132 * DAY + 2])


def test_no_two_households_are_scaled_copies() -> None:
    people = load_case("ai_tem").population
    assert len(people) == 50
    load = people.fixed_load_kw / people.fixed_load_kw.max(axis=1, keepdims=True)
    pv = people.generation_limit_kw[people.generation_limit_kw.any(axis=1)]
    assert len(pv) == 30
    assert (people.soc_max_kwh > 0).sum() == 20
    for shapes in (load, pv / pv.max(axis=1, keepdims=True)):
        apart = np.abs(shapes[:, None] - shapes[None]).max(axis=2)
        assert apart[~np.eye(len(shapes), dtype=bool)].min() > 0.02


def test_days_follow_each_other() -> None:
    """Two days at once are the two days, one by one: no seam where a market day begins."""
    scenario, base_dir = load_scenario("ai_tem", agents=7)
    pair = scenario.model_copy(
        update={"horizon": scenario.horizon.model_copy(update={"periods": 192})}
    )
    pair = pair.model_copy(
        update={"horizon": pair.horizon.model_copy(update={"period_hours": 0.25})}
    )
    both = draft_case(pair, base_dir=base_dir).community.recipe(0, 7).build().rows(0, 7)
    for day in range(2):
        one = draft_case(scenario, base_dir=base_dir, day=day).community.recipe(0, 7)
        np.testing.assert_array_equal(
            one.build().rows(0, 7).fixed_load_kw, both.fixed_load_kw[:, DAY * day : DAY * (day + 1)]
        )


@pytest.mark.parametrize("start", ["2016-03-15", "2016-09-12"])
def test_days_outside_the_history_are_refused(start: str) -> None:
    with pytest.raises(InputError, match="outside the history"):
        load_case("ai_tem", settings=[f"horizon.start={start}"])


def test_a_history_that_does_not_begin_at_midnight_is_refused() -> None:
    with pytest.raises(InputError, match="no midnight"):
        load_case("ai_tem", settings=["history.start=2016-03-16T06:00:00"])


def test_a_history_longer_than_its_shapes_is_refused() -> None:
    with pytest.raises(InputError, match="ends before the history"):
        load_case("ai_tem", settings=["history.train_days=200"])
