"""The committed thesis cases: every printed value is in them, and they give the page's figures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from raygrid.scenario.build import load_case
from raygrid.scenario.case import Case
from raygrid.scenario.load import load_scenario
from scripts.thesis_fit.community import CYCLE_COST, HIGH, LOW, SCALARS, demand_shape
from scripts.thesis_fit.confirm import LABELS, case_of, confirm
from scripts.thesis_fit.printed import BUYER_ROWS, SELLER_ROWS, SETUPS, network_of
from scripts.thesis_fit.write import load_fits, parse_fit

PAGE = Path(__file__).parents[2] / "docs" / "thesis-data.md"
NAMES = tuple(SETUPS)


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    return load_case(request.param)


def of_agent(case: Case, agent: int) -> int:
    return int(np.flatnonzero(case.population.prosumer_id == agent)[0])


def test_lines_are_those_of_tables_3_2_and_3_3(case: Case) -> None:
    printed = network_of(SETUPS[case.name])
    for name in ("line_id", "from_bus", "to_bus", "r_pu", "x_pu", "limit_kw"):
        np.testing.assert_array_equal(getattr(case.network, name), getattr(printed, name))
    assert case.network.bus_id[case.network.slack] == 1
    assert case.network.n_lines == {"ieee14": 20, "ieee33": 32}[case.name]


@pytest.mark.parametrize(
    ("name", "line", "row"),
    [
        ("ieee14", 8, (4, 7, 0.0, 0.20912, 1.2)),
        ("ieee14", 9, (4, 9, 0.0, 0.55618, 0.76)),
        ("ieee33", 25, (6, 26, 0.012666, 0.006451, 1.8)),
        ("ieee33", 32, (32, 33, 0.021276, 0.033081, 1.8)),
    ],
)
def test_single_lines(name: str, line: int, row: tuple[float, ...]) -> None:
    network = load_case(name).network
    k = int(np.flatnonzero(network.line_id == line)[0])
    ends = network.bus_id[network.from_bus[k]], network.bus_id[network.to_bus[k]]
    assert (*ends, network.r_pu[k], network.x_pu[k], network.limit_kw[k]) == row


def test_seller_rows_of_table_6_1(case: Case) -> None:
    population = case.population
    for agent, bus, p_max, energy, charge, discharge, eta_c, eta_d in SELLER_ROWS:
        k = of_agent(case, agent)
        assert case.network.bus_id[population.bus[k]] == bus
        # The limit follows a bell around noon that reaches p_max within a thousandth.
        assert 0.97 * p_max < population.generation_limit_kw[k].max() <= p_max
        assert bool(population.has_battery[k]) == (energy > 0)
        if case.name == "ieee14":
            assert population.soc_max_kwh[k] == energy
            assert population.charge_max_kw[k] == charge
            assert population.discharge_max_kw[k] == discharge
            assert (population.eta_charge[k], population.eta_discharge[k]) == (eta_c, eta_d)


def test_buyer_rows_of_table_6_2(case: Case) -> None:
    population = case.population
    for agent, bus, demand, omega, delta in BUYER_ROWS:
        k = of_agent(case, agent)
        placed = case.network.bus_id[population.bus[k]]
        if agent in SETUPS[case.name].fixed_buses:
            assert placed == bus
        else:
            assert bus > case.network.n_buses
        assert population.omega[k] == omega
        np.testing.assert_allclose(population.delta[k], delta / 10, rtol=1e-12, atol=0)
        limit = population.demand_limit_kw[k]
        np.testing.assert_allclose(limit.mean(), demand, rtol=1e-5, atol=0)
        assert np.ptp(limit) > 0


def test_counts_and_ranges_of_table_6_3(case: Case) -> None:
    population = case.population
    buses, agents, sellers, buyers, stores, capacity, power, round_trip = {
        "ieee14": (14, 25, 12, 13, 5, (6.0, 9.0), (1.5, 2.0), 0.90),
        "ieee33": (33, 45, 20, 25, 6, (3.13, 4.77), (0.82, 1.70), 0.95),
    }[case.name]
    has = population.has_battery
    assert case.network.n_buses == buses
    assert (len(population), case.n_periods, case.period_hours) == (agents, 24, 1.0)
    assert population.has_generator.sum() == sellers
    assert population.has_elastic_demand.sum() == buyers
    assert not (population.has_generator & population.has_elastic_demand).any()
    assert has.sum() == stores
    assert not (has & population.has_elastic_demand).any()
    assert not population.fixed_load_kw.any()
    np.testing.assert_array_equal(
        (population.soc_max_kwh[has].min(), population.soc_max_kwh[has].max()), capacity
    )
    np.testing.assert_array_equal(
        (population.charge_max_kw[has].min(), population.charge_max_kw[has].max()), power
    )
    np.testing.assert_allclose(
        (population.eta_charge * population.eta_discharge)[has], round_trip, rtol=0, atol=0.003
    )


def test_what_is_fitted_stays_within_its_bounds(case: Case) -> None:
    scalars, _ = parse_fit(load_fits(case.name)[0])
    assert len(SCALARS) <= 10
    assert np.all((scalars >= LOW) & (scalars <= HIGH))
    population = case.population
    buyers = population.has_elastic_demand
    assert population.omega[buyers].min() >= 0.215
    assert population.omega[buyers].max() <= 0.24
    assert population.delta[buyers].min() >= 0.050
    assert population.delta[buyers].max() <= 0.060
    average = population.demand_limit_kw[buyers].mean(axis=1)
    assert average.min() >= 1.18 - 1e-5
    assert average.max() <= 1.36 + 1e-5
    has = population.has_battery
    np.testing.assert_array_equal(population.cycle_cost_per_kwh[has], CYCLE_COST)


def test_tables_are_those_of_the_first_fit(case: Case) -> None:
    fitted = case_of(SETUPS[case.name], load_fits(case.name)[0]).population
    for name in ("alpha", "beta", "gamma", "omega", "delta", "generation_limit_kw"):
        np.testing.assert_allclose(
            getattr(case.population, name), getattr(fitted, name), rtol=1e-5, atol=1e-9
        )
    np.testing.assert_array_equal(case.population.bus, fitted.bus)
    np.testing.assert_allclose(
        case.population.demand_limit_kw, fitted.demand_limit_kw, rtol=1e-5, atol=1e-9
    )


def test_settings_that_the_thesis_fixes(case: Case) -> None:
    scenario, _ = load_scenario(case.name)
    assert scenario.market.settlement_price == "average_marginal_cost"
    assert scenario.market.trade_matching == "proportional"
    assert scenario.market.rho == 0.1
    assert "reconstructed data" in case.notes
    assert case.grid is not None
    assert case.grid.import_is_penalty


def page_figures(name: str) -> dict[str, str]:
    """Column 'ours' of the page's table of a scenario, by label."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.split(f"## Figures of {name}")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| .*? \| (.+?) \|", section, flags=re.MULTILINE)
    return dict(rows)


def test_central_benchmark_gives_the_figures_of_the_page(case: Case) -> None:
    found, shown = confirm(case), page_figures(case.name)
    targets = SETUPS[case.name].targets
    for name, (label, digits) in LABELS.items():
        # Storage sellers that see one price can share the work in any way.
        shared = name in ("utilisation_free", "battery_kwh_limited") or "seller_hours" in name
        near = pytest.approx(found[name], rel=0.02 if shared else 1e-3, abs=0.51 * 10**-digits)
        assert float(shown[label]) == near, name
    for name, printed in targets.items():
        assert found[name] == pytest.approx(printed, rel=0.01), name
        if isinstance(printed, int):
            assert found[name] == printed
    assert found["utilisation_limited"] <= 1 + 1e-6
    assert found["grid_kwh"] < 1e-3
    assert found["battery_kwh_limited"] > 1.0
    if case.name == "ieee14":
        assert found["line_of_highest_use"] == 8


def test_demand_shapes_have_mean_one_and_an_evening_peak() -> None:
    shape = demand_shape(0.5, 0.2, 1.0)
    np.testing.assert_allclose(shape.mean(), 1.0, rtol=1e-12, atol=0)
    assert shape.argmax() in (19, 20)
