"""Days in a row: each day's case is that of its date; what does not change is made once."""

from dataclasses import fields

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS
from raygrid.scenario.build import build_case, draft_another_day, draft_case
from raygrid.scenario.load import load_scenario

SCENARIOS = {
    "community": {"agents": 30},
    "village": {},
    "tiny": {"settings": ["population.repeat=true"]},
}


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_another_day_is_that_of_its_date(name):
    scenario, base_dir = load_scenario(name, days=3, **SCENARIOS[name])
    first = draft_case(scenario, base_dir=base_dir)
    network = first.surveyed().network
    for day in (1, 2):
        ours = draft_another_day(first, network, base_dir=base_dir, day=day).surveyed()
        alone = build_case(scenario, base_dir=base_dir, day=day)
        for field in (*UNIT_FIELDS, *PROFILE_FIELDS):
            np.testing.assert_array_equal(
                getattr(ours.population, field), getattr(alone.population, field)
            )
        for field in fields(alone.grid):
            np.testing.assert_array_equal(
                getattr(ours.grid, field.name), getattr(alone.grid, field.name)
            )
        np.testing.assert_allclose(ours.network.limit_kw, alone.network.limit_kw, rtol=1e-12)
        assert ours.rows.n_rows == alone.rows.n_rows
        assert ours.price_level == alone.price_level


def test_loads_differ_by_date_and_tariffs_repeat_by_hour():
    scenario, base_dir = load_scenario("community", agents=30, days=3)
    days = [build_case(scenario, base_dir=base_dir, day=day) for day in range(3)]
    assert scenario.horizon.start.isoweekday() == 3  # Wednesday to Friday
    loads = [day.population.fixed_load_kw for day in days]
    assert not np.allclose(loads[0], loads[1])
    assert not np.allclose(loads[1], loads[2])
    for day in days[1:]:
        np.testing.assert_allclose(
            day.grid.import_price_per_kwh, days[0].grid.import_price_per_kwh, rtol=1e-12
        )


def test_a_table_that_ends_before_the_last_day_is_refused():
    scenario, base_dir = load_scenario("tiny", days=2)
    with pytest.raises(InputError, match="24 periods of 1 h end before the horizon of 48 h") as e:
        draft_case(scenario, base_dir=base_dir)
    assert "population.repeat" in str(e.value)
