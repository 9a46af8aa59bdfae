"""A drawn community is the same, bit for bit, however it is split."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from itertools import pairwise

import numpy as np
import pytest

from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS, Population
from raygrid.prosumer.survey import joined
from raygrid.scenario import seeded
from raygrid.scenario.build import CaseDraft, draft_case
from raygrid.scenario.load import load_scenario


def draft(name: str, **options: int) -> CaseDraft:
    scenario, base_dir = load_scenario(name, **options)
    return draft_case(scenario, base_dir=base_dir)


def assert_same(one: object, other: object) -> None:
    for f in fields(one):  # type: ignore[arg-type]
        if is_dataclass(getattr(one, f.name)):
            assert_same(getattr(one, f.name), getattr(other, f.name))
            continue
        np.testing.assert_array_equal(getattr(one, f.name), getattr(other, f.name), err_msg=f.name)


@pytest.mark.parametrize("name", ["community", "ieee118", "tiny", "town", "village"])
def test_the_case_does_not_depend_on_the_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded, "IDS_AT_A_TIME", 50)
    sizes = {"community": 230, "ieee118": 230}
    whole = draft(name, **({"agents": sizes[name]} if name in sizes else {}))
    n = len(whole.community)
    case = whole.surveyed()
    edges = [0, n // 5, n // 5 + 1, n]
    recipes = [whole.recipe(a, b) for a, b in pairwise(edges)]
    surveys = [recipe.survey(recipe.prosumers.build()) for recipe in recipes]
    split = whole.case(joined(surveys))
    for part in ("network", "rows"):
        assert_same(getattr(split, part), getattr(case, part))
    assert split.grid is not None
    assert_same(split.grid, case.grid)
    assert split.price_level == case.price_level
    people = case.population
    order = np.lexsort((people.prosumer_id, people.bus))
    parts = [split.part(a, b) for a, b in pairwise(edges)]
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        together = [getattr(part.rows(0, len(part)), name) for part in parts]
        np.testing.assert_array_equal(np.concatenate(together), getattr(people, name)[order])


def test_a_recipe_does_not_grow_with_the_community() -> None:
    import pickle

    few, many = (
        len(pickle.dumps(draft("community", agents=n).recipe(0, n))) for n in (100, 1_000_000)
    )
    assert abs(many - few) < 100


def test_given_prosumers_are_taken_by_bus_and_id() -> None:
    people = Population.empty(5, 2)
    people.prosumer_id[:], people.bus[:] = [5, 1, 4, 2, 3], [1, 1, 0, 0, 1]
    given = GivenCommunity(people)
    assert given.recipe(1, 4).build().prosumer_id.tolist() == [4, 1, 3]
    assert given.everyone() is people
