"""EVs and shiftable loads from hours of the day, drawn, from units and from tables."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.prosumer.limits import check_population
from raygrid.prosumer.population import Population
from raygrid.prosumer.stores import StoreKind, Stores
from raygrid.scenario.build import load_case
from raygrid.scenario.load import load_scenario
from raygrid.scenario.stays import Clock, shiftable_loads, vehicles
from raygrid.scenario.store_tables import read_stores, store_rows

ONE = np.ones(1)


def vehicle(clock, arrival=18.0, departure=7.5, trip=6.0):
    return vehicles(
        np.zeros(1, np.int64), clock, arrival_hour=arrival * ONE, departure_hour=departure * ONE,
        min_kwh=8 * ONE, max_kwh=36 * ONE, needed_kwh=32 * ONE, trip_kwh=trip * ONE,
        charge_kw=4 * ONE, discharge_kw=0 * ONE, efficiency=0.95 * ONE,
        cycle_cost_per_kwh=0.04 * ONE,
    )  # fmt: skip


def of_stays(stores, name):
    return getattr(stores, name)[stores.is_stay].tolist()


def test_an_overnight_stay_goes_around_midnight():
    """At midnight 6 of its 13.5 hours are over: 7.5 of them are left to charge 6 kWh in."""
    ev = vehicle(Clock(0.0, 24, 1.0))
    assert of_stays(ev, "arrival") == [0, 18]
    assert of_stays(ev, "departure") == [7.5, 24]
    assert of_stays(ev, "needed_kwh") == [32, 0]
    assert of_stays(ev, "used_kwh") == [0, 6]
    np.testing.assert_allclose(ev.initial_kwh, 32 - 6 * 7.5 / 13.5)
    np.testing.assert_allclose(ev.final_min_kwh, ev.initial_kwh)
    fine = vehicle(Clock(0.0, 96, 0.25))
    assert of_stays(fine, "departure") == [30, 96]


def test_a_horizon_may_begin_while_the_ev_is_away():
    ev = vehicle(Clock(12.0, 24, 1.0))
    assert of_stays(ev, "arrival") == [6]
    assert of_stays(ev, "departure") == [19.5]
    assert of_stays(ev, "used_kwh") == [6]
    assert ev.initial_kwh.tolist() == ev.final_min_kwh.tolist() == [32]


def test_a_stay_that_the_end_cuts_off_asks_for_what_it_had_by_then():
    ev = vehicle(Clock(18.0, 6, 1.0))
    assert of_stays(ev, "departure") == [6]
    assert of_stays(ev, "needed_kwh") == [0]
    assert of_stays(ev, "used_kwh") == [6]
    assert ev.initial_kwh.tolist() == [32]
    np.testing.assert_allclose(ev.final_min_kwh, 26 + 6 * 6 / 13.5)


@pytest.mark.parametrize("start", [0.1 + 0.2, 18.0, 7.3])
def test_an_arrival_at_midnight_is_seen_by_one_day(start):
    days = [vehicle(Clock(start, 24, 1.0), arrival=start % 24.0) for _ in range(2)]
    for ev in days:
        assert of_stays(ev, "used_kwh") == [6]
        assert ev.initial_kwh.tolist() == ev.final_min_kwh.tolist() == [32]


def load(clock, earliest=9.0, latest=14.0):
    return shiftable_loads(
        np.zeros(1, np.int64), clock, earliest_hour=earliest * ONE, latest_hour=latest * ONE,
        energy_kwh=2 * ONE, power_kw=1.5 * ONE,
    )  # fmt: skip


def test_a_load_runs_in_every_whole_window():
    assert of_stays(load(Clock(0.0, 24, 1.0)), "arrival") == [9]
    two_days = load(Clock(0.0, 48, 1.0))
    assert of_stays(two_days, "arrival") == [9, 33]
    assert of_stays(two_days, "needed_kwh") == [2, 2]
    assert of_stays(two_days, "used_kwh") == [0, 2]
    assert not load(Clock(10.0, 12, 1.0)).is_stay.any()
    assert of_stays(load(Clock(12.0, 24, 1.0), 22.0, 5.0), "departure") == [17]


def test_the_clock_follows_the_scenario_s_start():
    clock = Clock.of(datetime(2016, 3, 16, 6, 30), 24.0, 4, 0.5)
    assert clock == Clock(6.5, 4, 0.5)


EVS = ("population.evs.share=0.3", "population.evs.v2g_share=0.5", "population.shiftable.share=0.7")


def test_drawn_stores_have_their_shares_and_ranges():
    case = load_case("community", agents=100, settings=(*EVS, "population.shiftable.loads=2"))
    stores = case.population.stores
    evs = stores.take(stores.kind == StoreKind.EV)
    loads = stores.take(stores.kind == StoreKind.SHIFTABLE)
    assert case.stores == len(stores)
    assert len(evs) == 30
    assert len(np.unique(evs.owner)) == 30
    assert len(loads) == 140
    assert len(np.unique(loads.owner)) == 70
    assert 5 <= np.count_nonzero(evs.discharge_max_kw) <= 25
    capacity = evs.max_kwh / 0.9
    assert capacity.min() >= 40
    assert capacity.max() <= 60
    assert np.all((loads.max_kwh >= 0.8) & (loads.max_kwh <= 2.5))
    trip = evs.used_kwh.max(axis=1)
    assert np.all((trip >= 4) & (trip <= 12))


def test_the_default_community_has_none():
    case = load_case("community", agents=10)
    assert case.stores == 0
    assert len(case.population.stores) == 0


def test_drawn_stores_do_not_depend_on_who_draws_them():
    whole = load_case("community", agents=40, settings=EVS).population.stores
    part = load_case("community", agents=20, settings=EVS).population.stores
    own = whole.take(whole.owner < 20)
    for name in Stores.__dataclass_fields__:
        if name != "size_weight":  # follows the price level
            np.testing.assert_array_equal(getattr(part, name), getattr(own, name))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("population.evs={charge_kw: {low: 0.5, high: 0.6}}", "cannot be charged in its stay"),
        ("population.evs={trip_kwh: {low: 4, high: 50}}", "above the 24 kWh"),
        ("population.evs={needed_share: 0.95}", "needed_share 0.95 is outside"),
        ("population.evs={arrival_hour: {low: 18, high: 25}}", "arrival_hour is not below 24"),
        ("population.shiftable={window_hours: {low: 0.5, high: 1}}", "the window is too short"),
        ("population.shiftable={window_hours: {low: 4, high: 30}}", "not between 0 and 24"),
    ],
)
def test_rules_that_cannot_be_met_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        load_scenario("community", settings=[setting])


def test_a_table_of_stores_comes_back(tmp_path):
    import pyarrow.parquet as pq

    people = load_case("community", agents=20, settings=EVS).population
    path = tmp_path / "stores.parquet"
    pq.write_table(store_rows(people), path)
    again = read_stores(path, people.prosumer_id, period_hours=1.0, table_hours=1.0)
    stores = people.stores
    np.testing.assert_array_equal(again.owner, stores.owner)
    np.testing.assert_array_equal(again.size_weight, stores.size_weight)
    for one, other in zip(again.limits(24).__dict__.values(), stores.limits(24).__dict__.values(),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    finer = read_stores(path, people.prosumer_id, period_hours=0.5, table_hours=1.0)
    np.testing.assert_array_equal(finer.departure, 2 * again.departure)
    few = read_stores(path, people.prosumer_id[5:9], period_hours=1.0, table_hours=1.0)
    np.testing.assert_array_equal(few.max_kwh, people.take(slice(5, 9)).stores.max_kwh)


HEADER = (
    "prosumer_id,store,stay,kind,arrival_period,departure_period,needed_kwh,used_kwh,initial_kwh,"
    "min_kwh,max_kwh,final_min_kwh,charge_max_kw,discharge_max_kw,eta_charge,eta_discharge,"
    "cycle_cost_per_kwh"
)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,1,1,ev,5,3,20,0,15,5,30,10,4,0,0.95,0.95,0.03"],
         "row 2, column departure_period: the departure 3 is before the arrival 5"),
        (["1,1,1,car,0,3,20,0,15,5,30,10,4,0,0.95,0.95,0.03"], "'car' is no kind"),
        (["1,1,1,ev,0,3,20,0,15,5,30,10,4,0,0.95,0.95,0.03",
          "1,1,2,ev,5,8,0,5,15,5,31,10,4,0,0.95,0.95,0.03"],
         "row 3, column max_kwh: max_kwh is not that of the same store's first stay"),
        (["1,1,1,ev,0,3,20,0,15,5,30,10,4,0,0.95,0.95,0.03"] * 2, "a second row"),
        (["1,1,1,ev,0,3,x,0,15,5,30,10,4,0,0.95,0.95,0.03"], "'x' is not a number"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_by_cell(tmp_path, rows, message):
    path = tmp_path / "stores.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    with pytest.raises(InputError, match=message):
        read_stores(path, np.array([1, 2]), period_hours=1.0, table_hours=1.0)


def test_tiny_takes_a_table_of_stores(tmp_path):
    path = tmp_path / "stores.csv"
    path.write_text(HEADER + "\n3,1,1,ev,0,7.5,20,0,15,5,30,10,4,0,0.95,0.95,0.03\n")
    case = load_case("tiny", settings=[f"population.stores={path}"])
    assert case.stores == 1
    assert case.population.prosumer_id[case.population.stores.owner].tolist() == [3]
    path.write_text(HEADER + "\n3,1,1,ev,0,1,20,0,15,5,30,10,4,0,0.95,0.95,0.03\n")
    with pytest.raises(InputError, match="cannot be charged in its stay"):
        load_case("tiny", settings=[f"population.stores={path}"])


UNITS = "unit,prosumer_id,bus,kind,shape,power_kw,capacity_kwh,efficiency,from_hour,to_hour,energy_kwh,trip_kwh,discharge_kw,constant_kw"  # noqa: E501


def households(tmp_path, *rows):
    path = tmp_path / "units.csv"
    plain = "1,1,13,household,H0-A,3,0,0,0,0,0,0,0,0"
    path.write_text("\n".join([UNITS, plain, *rows]) + "\n")
    return load_case("village", settings=[f"population.units={path}"])


def test_units_may_be_evs_and_shiftable_loads(tmp_path):
    case = households(
        tmp_path,
        "2,1,13,ev,,4,40,0.95,18,7,32,6,4,0",
        "3,1,13,shiftable,,2,0,0,9,15,3,0,0,0.25",
        "4,1,13,shiftable,,1,0,0,9,15,2,0,0,0",
    )
    stores = case.population.stores
    assert stores.kind.tolist() == [0, 1, 1]
    assert stores.discharge_max_kw.tolist() == [4, 0, 0]
    assert stores.max_kwh.tolist() == [40, 1.5, 2]
    assert stores.charge_max_kw.tolist() == [4, 1.75, 1]
    plain = households(tmp_path).population
    constant = case.population.fixed_load_kw - plain.fixed_load_kw
    np.testing.assert_allclose(constant[0], 0.25 * ((np.arange(24) >= 9) & (np.arange(24) < 15)),
                               atol=1e-12)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,1,13,ev,,4,40,0.95,18,18,32,6,0,0", "the stay ends where it begins"),
        ("2,1,13,ev,,4,40,0.95,18,7,42,6,0,0", "42 is above capacity_kwh"),
        ("2,1,13,ev,,4,40,0.95,18,7,5,6,0,0", "uses more than it departs with"),
        ("2,1,13,ev,,4,40,0,18,7,32,6,0,0", r"0 is outside \(0, 1\]"),
        ("2,1,13,ev,,0.2,40,1,18,7,32,6,0,0", "cannot be charged in its stay"),
        ("2,1,13,ev,,4,40,0.95,25,7,32,6,0,0", "25 is no hour of the day"),
        ("2,1,13,shiftable,,1,0,0,9,11,3,0,0,0", "the window is too short"),
        ("2,1,13,shiftable,,1,0,0,22,5,3,0,0,0", "within the horizon on no day"),
        ("2,1,13,shiftable,,1,0,0,9,11,1,0,0,0.7", "2 h at constant power are more"),
        ("2,1,13,shiftable,,1,0,0,9,11,0,0,0,0", "no energy is needed"),
    ],
)
def test_units_that_cannot_be_served_are_refused(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        households(tmp_path, row)


def test_hour_stays_pass_the_checks():
    people = Population.empty(1, 96)
    check_population(replace(people, stores=vehicle(Clock(0.0, 96, 0.25))), 1, "test", 0.25)
