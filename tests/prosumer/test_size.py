"""Size weights follow the power that a prosumer can choose."""

from __future__ import annotations

import numpy as np

from raygrid.prosumer.population import GridConnection, Population
from raygrid.prosumer.size import LEAST_RANGE_KW, SLOPE, flexibility_weight, price_level
from raygrid.prosumer.survey import Survey, survey


def surveyed(people: Population) -> Survey:
    return survey(people, 1, "test", 1.0)


def test_hand_worked_weights() -> None:
    people = Population.empty(4, 2)
    people.generation_limit_kw[0] = [2.0, 6.0]  # mean range 4 kW
    people.demand_min_kw[1], people.demand_limit_kw[1] = 1.0, 2.0
    people.charge_max_kw[2], people.discharge_max_kw[2] = 3.0, 5.0
    people.fixed_load_kw[3] = 9.0
    np.testing.assert_allclose(
        flexibility_weight(people, 0.3),
        np.array([4.0, 1.0, 4.0, LEAST_RANGE_KW]) * SLOPE / 0.3,
        rtol=1e-15,
        atol=0,
    )


def test_weights_scale_with_the_currency() -> None:
    """All of them, those that can hardly move too, so that rho_i follows the prices."""
    people = Population.empty(3, 2)
    people.demand_limit_kw[:2] = [[0.01], [2.0]]
    np.testing.assert_allclose(
        160 * flexibility_weight(people, 160 * 0.3), flexibility_weight(people, 0.3), rtol=1e-15
    )


def test_a_weight_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    people = Population.empty(7, 24)
    people.generation_limit_kw[:] = rng.uniform(0, 5, (7, 24))
    people.demand_limit_kw[:] = rng.uniform(0, 5, (7, 24))
    alone = [flexibility_weight(people.take(slice(i, i + 1)), 0.3)[0] for i in range(7)]
    assert alone == flexibility_weight(people, 0.3).tolist()


def test_price_level_from_tariff_willingness_or_cost() -> None:
    people, price = Population.empty(2, 2), np.array([0.2, 0.4])
    tariff = GridConnection(price, price / 2, price, price, 1.0)
    np.testing.assert_allclose(price_level(surveyed(people), tariff), 0.3, rtol=1e-15, atol=0)
    penalty = GridConnection(price, price / 2, price, price, 1.0, import_is_penalty=True)
    people.generation_limit_kw[0] = 2.0
    people.alpha[0], people.beta[0] = 0.01, 0.05
    np.testing.assert_allclose(price_level(surveyed(people), penalty), 0.09, rtol=1e-15, atol=0)
    people.demand_limit_kw[1], people.omega[1], people.delta[1] = 1.0, 0.22, 0.05
    np.testing.assert_allclose(price_level(surveyed(people), None), 0.17, rtol=1e-15, atol=0)
    assert price_level(surveyed(Population.empty(1, 2)), None) == 1.0
