"""Stores as arrays: who owns which, what bounds them, and what is refused of them."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.prosumer.limits import check_population, injection_range
from raygrid.prosumer.population import Population
from raygrid.prosumer.size import store_power, with_weights
from raygrid.prosumer.storage import all_storage
from raygrid.prosumer.stores import NO_STORES, StoreKind, Stores
from tests.prosumer.store_cases import random_stores


def people_with_stores(n=6, n_periods=8, seed=1):
    """Prosumers of which the third has none and the others one or two."""
    people = Population.empty(n, n_periods)
    people.prosumer_id[:] = np.arange(11, 11 + n)
    stores = random_stores(np.random.default_rng(seed), 60, n_periods, 1.0).take(slice(0, 2 * n))
    owner = np.sort(np.r_[np.arange(n), np.arange(n)])[: len(stores)]
    return replace(people, stores=replace(stores, owner=owner).take(owner != 2))


def same(one, other):
    for name in Stores.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_stores_go_with_their_owners():
    people = people_with_stores()
    stores = people.stores
    assert sorted(set(stores.owner.tolist())) == [0, 1, 3, 4, 5]
    part = people.rows(1, 4).stores
    same(part, replace(stores.take((stores.owner >= 1) & (stores.owner < 4)), owner=part.owner))
    assert part.owner.tolist() == [0, 0, 2, 2]
    same(people.take(slice(1, 4)).stores, part)
    back = people.take(np.array([5, 2, 0]))
    assert back.stores.owner.tolist() == [0, 0, 2, 2]
    np.testing.assert_array_equal(back.stores.arrival[:2], stores.arrival[stores.owner == 5])
    assert len(people.take(np.array([2])).stores) == 0
    twice = stores.of(np.array([3, 3]))
    assert twice.owner.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(twice.max_kwh[:2], twice.max_kwh[2:])
    assert len(NO_STORES.of(np.arange(3))) == 0


def test_joined_stores_stand_by_owner_and_keep_their_stays():
    one, other = Stores.empty(2, 1), Stores.empty(1, 3)
    one.owner[:], other.owner[:] = [0, 2], 1
    one.departure[:] = 4
    other.departure[:] = [[1, 2, 3]]
    both = Stores.joined([one, other])
    assert both.owner.tolist() == [0, 1, 2]
    assert both.departure.tolist() == [[4, 0, 0], [1, 2, 3], [4, 0, 0]]


def test_a_period_counts_as_far_as_the_stay_covers_it():
    ev = Stores.empty(1, 2)
    ev.charge_max_kw[:], ev.discharge_max_kw[:], ev.min_kwh[:] = 4, 2, 1
    ev.arrival[:], ev.departure[:] = [[0.25, 3]], [[1.5, 4]]
    ev.needed_kwh[:], ev.used_kwh[:], ev.final_min_kwh[:] = [[6, 0]], [[0, 3]], 5
    limits = ev.limits(5)
    np.testing.assert_allclose(limits.charge_kw, [[3, 2, 0, 4, 0]])
    np.testing.assert_allclose(limits.discharge_kw, [[1.5, 1, 0, 2, 0]])
    np.testing.assert_allclose(limits.floor_kwh, [[1, 6, 1, 1, 5]])
    np.testing.assert_allclose(limits.used_kwh, [[0, 0, 0, 3, 0]])


def test_ranges_and_weights_count_stores():
    people = people_with_stores()
    low, high = injection_range(people)
    limits = people.stores.limits(8)
    for i in range(6):
        own = people.stores.owner == i
        np.testing.assert_allclose(low[i], -limits.charge_kw[own].sum(axis=0), atol=1e-15)
        np.testing.assert_allclose(high[i], limits.discharge_kw[own].sum(axis=0), atol=1e-15)
    weighted = with_weights(people, 0.2)
    np.testing.assert_allclose(weighted.stores.size_weight, store_power(people.stores, 8))
    given = replace(people.stores, size_weight=np.full(len(people.stores), 3.0))
    assert with_weights(replace(people, stores=given), 0.2).stores.size_weight.tolist() == [
        3.0
    ] * len(given)


def test_all_storage_knows_what_is_given():
    """A load not yet in its window is empty and after it full: no room, no variable."""
    people = Population.empty(1, 4)
    load = Stores.empty(1)
    load.kind[:], load.max_kwh[:], load.charge_max_kw[:] = StoreKind.SHIFTABLE, 2, 2
    load.arrival[:], load.departure[:], load.needed_kwh[:] = 1, 3, 2
    storage = all_storage(replace(people, stores=load), 1.0)
    assert storage.n_batteries == 0
    np.testing.assert_allclose(storage.floor_kwh, [[0, 0, 2, 2]])
    np.testing.assert_allclose(storage.ceiling_kwh, [[0, 2, 2, 2]])


GOOD = {
    "initial_kwh": 10.0, "min_kwh": 4.0, "max_kwh": 18.0, "final_min_kwh": 5.0,
    "charge_max_kw": 4.0, "cycle_cost_per_kwh": 0.03,
    "arrival": [[0.0, 6.0]], "departure": [[2.0, 8.0]],
    "needed_kwh": [[15.0, 0.0]], "used_kwh": [[0.0, 6.0]],
}  # fmt: skip


def with_ev(**changes):
    ev = Stores.empty(1, 2)
    for name, value in (GOOD | changes).items():
        getattr(ev, name)[...] = value
    people = Population.empty(1, 8)
    people.prosumer_id[:] = 7
    return replace(people, stores=ev)


def test_a_good_ev_passes():
    check_population(with_ev(), 1, "units", 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needed_kwh": [[18.0, 0.0]], "charge_max_kw": 3.0},
         r"cannot be charged in its stay: 18 kWh are needed at the end of period 1, 16 kWh"),
        ({"kind": 1, "charge_max_kw": 1.0}, "the window is too short: 15 kWh"),
        ({"final_min_kwh": 18.0, "used_kwh": [[0, 14]]},
         "18 kWh are needed at the end of period 7, 12 kWh"),
        ({"used_kwh": [[0, 15]], "charge_max_kw": 3.0, "needed_kwh": [[0, 0]],
          "final_min_kwh": 0.0, "departure": [[2.0, 6.5]]},
         "4 kWh are needed at the end of period 6, 2.5 kWh"),
        ({"departure": [[2.0, 5.0]]}, "departure is before its arrival"),
        ({"departure": [[2.0, 9.0]]}, r"departure is 9, after period 8"),
        ({"departure": [[6.5, 8.0]]}, "arrival is in the period of the departure before it"),
        ({"charge_max_kw": -1.0}, "charge_max_kw is -1, negative"),
        ({"eta_charge": 0.0}, r"eta_charge is 0, not in \(0, 1\]"),
        ({"max_kwh": np.nan}, "max_kwh is nan"),
        ({"needed_kwh": [[20.0, 0]]}, "needed_kwh of 20 is above max_kwh"),
        ({"initial_kwh": 3.0}, "initial_kwh of 3 is outside"),
    ],
)  # fmt: skip
def test_what_no_schedule_serves_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message) as error:
        check_population(with_ev(**changes), 1, "units", 1.0)
    assert "prosumer 7" in str(error.value)
    assert "\n" not in str(error.value)
