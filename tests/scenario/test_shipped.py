"""Shipped scenarios: they build, at any period length, from a seed alone, on the right grids."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

import raygrid
from raygrid.errors import InputError
from raygrid.files import data_path, list_scenarios
from raygrid.grid.ptdf import PtdfFactor
from raygrid.prosumer.limits import bus_sums
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS
from raygrid.scenario.build import build_case, draft_case, load_case, pandapower_network
from raygrid.scenario.drawn import DrawnCommunity
from raygrid.scenario.load import dump_resolved, load_scenario, parse_yaml, validate
from raygrid.scenario.tables import read_network

SIZES = {"community": 60, "ieee118": 200}
SHAPED = ["community", "ieee118", "town", "village"]


def assert_same_fields(left, right):
    for field in fields(left) if left is not None else ():
        one, other = getattr(left, field.name), getattr(right, field.name)
        if is_dataclass(one):
            assert_same_fields(one, other)
        else:
            np.testing.assert_array_equal(one, other, err_msg=field.name)


def assert_same(a, b):
    for part in ("population", "network", "grid", "rows"):
        assert_same_fields(getattr(a, part), getattr(b, part))
    np.testing.assert_array_equal(a.reactive_load_kvar, b.reactive_load_kvar)
    assert (a.name, a.period_hours, a.currency, a.notes) == (
        b.name,
        b.period_hours,
        b.currency,
        b.notes,
    )


def test_what_ships():
    assert {"tiny", "community", "village", "ieee118"} <= set(list_scenarios())
    for name in list_scenarios():
        assert load_scenario(name)[0].name == name
        assert load_scenario(name)[0].description


@pytest.mark.parametrize("name", list_scenarios())
def test_hourly_and_quarter_hourly_hold_the_same_energy(name):
    agents = SIZES.get(name)
    hourly = load_case(name, agents=agents, settings=["horizon={periods: 24, period_hours: 1}"])
    fine = load_case(name, agents=agents, settings=["horizon={periods: 96, period_hours: 0.25}"])
    assert fine.period_hours == 0.25
    assert fine.rows.upper.shape[1] == 96
    assert fine.reactive_load_kvar.shape == (fine.network.n_buses, 96)
    for field in ("fixed_load_kw", "generation_limit_kw", "demand_limit_kw"):
        means = getattr(fine.population, field).reshape(-1, 24, 4).mean(axis=2)
        np.testing.assert_allclose(
            means, getattr(hourly.population, field), rtol=1e-9, atol=1e-9, err_msg=field
        )
    if hourly.grid is not None:
        np.testing.assert_allclose(
            fine.grid.import_price_per_kwh.reshape(24, 4).mean(axis=1),
            hourly.grid.import_price_per_kwh,
            rtol=1e-9,
            atol=1e-12,
        )


@pytest.mark.parametrize("name", list_scenarios())
def test_resolved_form_gives_the_same_case(name, tmp_path):
    scenario, base = load_scenario(name, agents=SIZES.get(name))
    again = validate(parse_yaml(dump_resolved(scenario, base), "x"), "x")
    assert_same(build_case(scenario, base_dir=base), build_case(again, base_dir=tmp_path))


@pytest.mark.parametrize("name", SHAPED)
def test_the_seed_decides(name):
    agents = SIZES.get(name)
    case = load_case(name, agents=agents, seed=3)
    assert_same(case, load_case(name, agents=agents, seed=3))
    other = load_case(name, agents=agents, seed=4)
    assert (case.population.fixed_load_kw != other.population.fixed_load_kw).any()
    profiles = case.population.fixed_load_kw
    assert len(np.unique(profiles, axis=0)) == len(profiles)


@pytest.mark.parametrize("name", ["community", "ieee118"])
@pytest.mark.parametrize("agents", [1, 7, 150])
@pytest.mark.parametrize("seed", [0, 11])
def test_fixed_loads_never_overload_a_line(name, agents, seed):
    case = load_case(name, agents=agents, seed=seed)
    assert np.isfinite(case.network.limit_kw).all()
    fixed = bus_sums(case.population, case.population.fixed_load_kw, case.network.n_buses)
    flow = PtdfFactor(case.network).flows(-fixed)
    assert (1.05 * np.abs(flow) <= case.network.limit_kw[:, None] * (1 + 1e-12)).all()


def test_shares_of_table_2_of_ai_tem():
    population = load_case("community", agents=50).population
    assert population.has_generator.sum() == 30
    assert population.has_battery.sum() == 20
    assert not (population.has_battery & ~population.has_generator).any()
    battery = population.has_battery
    capacity = population.charge_max_kw[battery] * 2.7
    assert capacity.min() >= 5.0 - 1e-9
    assert capacity.max() <= 13.5 + 1e-9
    np.testing.assert_allclose(population.soc_min_kwh[battery], 0.2 * capacity, rtol=1e-12)
    np.testing.assert_allclose(population.soc_max_kwh[battery], 0.9 * capacity, rtol=1e-12)
    assert population.has_elastic_demand.all()
    assert (population.omega > population.delta).all()


def test_a_prosumer_does_not_depend_on_who_draws_it():
    scenario, base = load_scenario("community", agents=40, seed=5)
    community = draft_case(scenario, base_dir=base).community
    assert isinstance(community, DrawnCommunity)
    whole = community.everyone()
    part = community.build(np.array([33, 2, 17])).rows(0, 3)
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[[32, 1, 16]])
    more = load_case("community", agents=80, seed=5).population
    np.testing.assert_array_equal(more.fixed_load_kw[:40], whole.fixed_load_kw)


def test_impedances_scale_with_the_number_of_prosumers():
    few, many = (load_case("community", agents=n).network for n in (50, 500))
    np.testing.assert_allclose(few.x_pu, 10 * many.x_pu, rtol=1e-12)
    np.testing.assert_allclose(few.r_pu, 10 * many.r_pu, rtol=1e-12)


def test_days_follow_each_other():
    scenario, base = load_scenario("community", agents=20)
    two = build_case(
        scenario.model_copy(
            update={
                "horizon": scenario.horizon.model_copy(update={"periods": 48, "period_hours": 1.0})
            }
        ),
        base_dir=base,
    )
    for day in (0, 1):
        one = build_case(scenario, base_dir=base, day=day)
        part = slice(24 * day, 24 * day + 24)
        np.testing.assert_allclose(
            one.population.fixed_load_kw, two.population.fixed_load_kw[:, part], rtol=1e-12
        )
        np.testing.assert_allclose(
            one.population.generation_limit_kw,
            two.population.generation_limit_kw[:, part],
            rtol=1e-9,
            atol=1e-12,
        )
        np.testing.assert_allclose(
            one.grid.import_price_per_kwh, two.grid.import_price_per_kwh[part], rtol=1e-12
        )


def test_lines_are_the_same_every_day():
    scenario, base = load_scenario("community", agents=20, days=3)
    cases = [build_case(scenario, base_dir=base, day=day) for day in range(3)]
    for case in cases:
        np.testing.assert_array_equal(case.network.limit_kw, cases[0].network.limit_kw)
        fixed = bus_sums(case.population, case.population.fixed_load_kw, case.network.n_buses)
        flow = np.abs(PtdfFactor(case.network).flows(-fixed)).max(axis=1)
        assert (1.05 * flow <= case.network.limit_kw * (1 + 1e-12)).all()


def test_time_of_use_prices_follow_the_clock():
    prices = load_case("community", agents=1).grid.import_price_per_kwh
    np.testing.assert_allclose(prices, [0.24] * 6 + [0.30] * 11 + [0.36] * 5 + [0.24] * 2)
    later = load_case("community", agents=1, settings=["horizon.start=2016-06-09T17:30:00"])
    assert later.grid.import_price_per_kwh[0] == pytest.approx(0.36)
    assert later.grid.import_price_per_kwh[4] == pytest.approx(0.30)  # half at 0.36, half at 0.24


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("community", "horizon.start=2017-06-01", "outside the profiles; give a time of 2016"),
        ("community", "population.agents=0", "agents: 0 is refused"),
        ("community", "population.household_shapes=[H0-Z]", "no shape 'H0-Z'; known are"),
        ("community", "population.pv_shapes=nothing.parquet", "no such Parquet file"),
        ("community", "population.soc_initial_share=0.95", "outside soc_min_share"),
        ("community", "population.pv_share=1.2", "pv_share: 1.2 is refused"),
        ("community", "population.pv_peak_kw={low: 3, high: 2}", "low 3 is above high 2"),
        ("village", "population.agents=500", "500 agents are asked for, 118 are there"),
        ("community", "network={source: builtin, name: case34}", "there is no network 'case34'"),
        ("community", "network={source: pandapower, path: net.json}", "there is no such file"),
    ],
)
def test_wrong_values_are_refused(name, setting, message):
    with pytest.raises(InputError, match=message):
        load_case(name, settings=[setting])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("household", "househlod", "'househlod' is no kind; one of household, load, pv, battery"),
        ("1,105,113,", "1,0,113,", "id 0; prosumers count from 1"),
        ("1,105,113,", "1,105,112,", "stands at two buses|is not in the network"),
        ("1,105,113,", "2,105,113,", "a second row for unit 2"),
        (",0.95\n", ",0\n", r"0 is outside \(0, 1\]"),
    ],
)
def test_wrong_units_are_refused(tmp_path, old, new, message):
    source = data_path("raygrid:village/units.csv")
    text = source.read_text() + "999,105,113,load,H0-A,1,0,0\n"
    assert old in text
    (tmp_path / "units.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_case("village", settings=[f"population.units={tmp_path / 'units.csv'}"])


def test_building_needs_no_pandapower():
    code = (
        "import sys; from raygrid.scenario.build import load_case;"
        "[load_case(n) for n in ('tiny', 'village')]; load_case('community', agents=10);"
        "assert 'pandapower' not in sys.modules"
    )
    root = Path(raygrid.__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def shipped_network(name):
    scenario, base = load_scenario(name)
    source = scenario.network
    return read_network(
        data_path(source.lines, base),
        name=name,
        slack_bus=source.slack_bus,
        base_kva=source.base_kva,
        buses=data_path(source.buses, base),
    )


def assert_network_is(name, net):
    ours, weight = shipped_network(name)
    theirs, their_weight = pandapower_network(net, name)
    for field in fields(ours):
        np.testing.assert_array_equal(
            getattr(ours, field.name), getattr(theirs, field.name), err_msg=field.name
        )
    np.testing.assert_allclose(weight, their_weight, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(("name", "builtin"), [("community", "case33bw"), ("ieee118", "case118")])
def test_network_tables_equal_pandapower(name, builtin):
    from raygrid.grid.pandapower_files import builtin_net

    assert_network_is(name, builtin_net(builtin))


@pytest.mark.optional
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_village_tables_equal_simbench():
    simbench = pytest.importorskip("simbench")
    net = simbench.get_simbench_net("1-LV-rural3--2-no_sw")
    assert_network_is("village", net)
    case = load_case(
        "village", settings=["population.max_week_shift=0", "population.max_quarter_hour_shift=0"]
    )
    # Without shifts, loads and PV add up to those of SimBench at that day's hours.
    values = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    hours = (31 + 29 + 31 + 30 + 31 + 8) * 96 + np.arange(96)
    load = 1e3 * values["load", "p_mw"].to_numpy()[hours].sum(axis=1).reshape(24, 4).mean(axis=1)
    pv = 1e3 * values["sgen", "p_mw"].to_numpy()[hours].sum(axis=1).reshape(24, 4).mean(axis=1)
    population = case.population
    # 20 % of the household part is elastic: its limit is twice that.
    ours = population.fixed_load_kw + population.demand_limit_kw / 2
    np.testing.assert_allclose(ours.sum(axis=0), load, rtol=1e-3)
    np.testing.assert_allclose(population.generation_limit_kw.sum(axis=0), pv, rtol=1e-3, atol=0.02)
    assert population.soc_max_kwh.sum() == pytest.approx(1e3 * net.storage.max_e_mwh.sum())


def test_builtin_and_file_networks(tmp_path):
    import pandapower

    from raygrid.grid.pandapower_files import builtin_net

    net = builtin_net("case14")
    pandapower.to_json(net, str(tmp_path / "net.json"))
    own = [
        "network={source: builtin, name: case14}",
        f"network={{source: pandapower, path: {tmp_path / 'net.json'}}}",
    ]
    cases = [load_case("community", agents=30, settings=[setting]) for setting in own]
    assert cases[0].network.n_buses == 14
    np.testing.assert_allclose(cases[0].network.x_pu, cases[1].network.x_pu, rtol=1e-12)
    # Prosumers stand where the net has loads.
    loaded = set(net.load.bus)
    assert {int(b) for b in cases[0].network.bus_id[cases[0].population.bus]} <= loaded


def test_voltage_limits_become_rows():
    settings = ["voltage={v_min_pu: 0.97, v_max_pu: 1.03}"]
    case = load_case("community", agents=60, settings=settings)
    assert set(case.rows.kind) == {"line", "voltage"}
