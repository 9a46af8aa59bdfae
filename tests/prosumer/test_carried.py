"""What a day leaves to the next: charge in batteries and EVs, by prosumer wherever it sits."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.prosumer.carried import CarriedCommunity, Charge
from raygrid.prosumer.dispatch import Dispatch, StoreDispatch
from raygrid.prosumer.stores import StoreKind
from raygrid.scenario.build import build_case
from raygrid.scenario.load import load_scenario

EVS = ("population.evs.share=0.5", "population.shiftable.share=0.5")


@pytest.fixture(scope="module")
def community():
    scenario, base_dir = load_scenario("community", agents=30, settings=EVS)
    return build_case(scenario, base_dir=base_dir).community


def charge_of(prosumers, share):
    """Everything filled to a share of its room."""
    stores = prosumers.stores
    return Charge(
        prosumers.soc_min_kwh + share * (prosumers.soc_max_kwh - prosumers.soc_min_kwh),
        stores.owner,
        stores.min_kwh + share * (stores.max_kwh - stores.min_kwh),
    )


def test_batteries_and_evs_start_with_what_the_day_before_left(community):
    whole = community.recipe(0, 30).build()
    charge = charge_of(whole, 0.25)
    carried = CarriedCommunity(community, charge)
    assert len(carried) == 30
    assert (carried.n_periods, carried.bytes_each) == (24, community.bytes_each)
    everyone = carried.everyone()
    wanted = charge_of(everyone, 0.25)
    np.testing.assert_array_equal(everyone.soc_initial_kwh, wanted.soc_kwh)
    is_ev = everyone.stores.kind == StoreKind.EV
    assert 0 < is_ev.sum() < len(is_ev)
    np.testing.assert_array_equal(everyone.stores.initial_kwh[is_ev], wanted.store_kwh[is_ev])
    part = carried.recipe(7, 19).build()
    np.testing.assert_array_equal(part.prosumer_id, whole.prosumer_id[7:19])
    np.testing.assert_array_equal(part.soc_initial_kwh, charge.soc_kwh[7:19])
    own = whole.stores.between(7, 19)
    is_ev = part.stores.kind == StoreKind.EV
    np.testing.assert_array_equal(part.stores.initial_kwh[is_ev], charge.store_kwh[own][is_ev])


def test_shiftable_loads_begin_every_day_from_nothing(community):
    whole = community.recipe(0, 30).build()
    begun = charge_of(whole, 1.0).put_into(whole)
    loads = whole.stores.kind == StoreKind.SHIFTABLE
    assert (begun.stores.initial_kwh[loads] == 0.0).all()


def test_charge_is_taken_within_the_bounds_and_for_batteries_alone(community):
    whole = community.recipe(0, 30).build()
    charge = charge_of(whole, 0.0)
    full = replace(charge, soc_kwh=np.full(30, 100.0), store_kwh=charge.store_kwh + 1e3)
    begun = full.put_into(whole)
    np.testing.assert_array_equal(begun.soc_initial_kwh, whole.soc_max_kwh)
    assert (begun.soc_initial_kwh[~whole.has_battery] == 0.0).all()
    is_ev = whole.stores.kind == StoreKind.EV
    np.testing.assert_array_equal(begun.stores.initial_kwh[is_ev], whole.stores.max_kwh[is_ev])
    below = replace(charge, soc_kwh=whole.soc_min_kwh - 1e-12)
    np.testing.assert_array_equal(below.put_into(whole).soc_initial_kwh, whole.soc_min_kwh)


def test_parts_join_to_the_whole(community):
    whole = charge_of(community.recipe(0, 30).build(), 0.6)
    parts = [whole.rows(a, b) for a, b in ((0, 4), (4, 5), (5, 30))]
    again = Charge.joined(parts)
    for name in ("soc_kwh", "owner", "store_kwh"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_the_end_of_a_schedule_is_its_last_period():
    powers = dict.fromkeys(
        ("p_kw", "generation_kw", "demand_kw", "charge_kw", "discharge_kw",
         "stored_value_per_kwh"), np.zeros((2, 3)),
    )  # fmt: skip
    soc = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.5]])
    none = Charge.at_end(Dispatch(**powers, soc_kwh=soc))
    assert none.soc_kwh.tolist() == [3.0, 0.5]
    assert len(none.owner) == len(none.store_kwh) == 0
    energy = np.array([[4.0, 5.0, 6.0]])
    zero = np.zeros((1, 3))
    store = StoreDispatch(np.array([1]), np.array([0]), zero, zero, energy, zero)
    some = Charge.at_end(Dispatch(**powers, soc_kwh=soc, stores=store))
    assert (some.owner.tolist(), some.store_kwh.tolist()) == ([1], [6.0])


def test_a_charge_of_other_stores_is_a_mistake(community):
    whole = community.recipe(0, 30).build()
    wrong = charge_of(whole, 0.5)
    wrong = replace(wrong, owner=wrong.owner[1:], store_kwh=wrong.store_kwh[1:])
    with pytest.raises(ValueError, match="other stores"):
        wrong.put_into(whole)


def test_what_the_hosts_alone_have_is_not_made_up_here(community):
    with pytest.raises(RuntimeError, match="hosts alone"):
        CarriedCommunity(community, None).everyone()
