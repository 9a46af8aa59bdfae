"""The opportunity price of stored energy against closed forms and finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.learning.opportunity import opportunity_price
from raygrid.market.units import N_SLOTS, Feed, Slot, Units, make_feed
from tests.synthetic import community


def one_home(load_kw: list[float], pv_kw: list[float], **stores: float) -> tuple[Units, Feed]:
    """A home with a battery of 2 kWh without wear, hourly days, 0.30 in and 0.10 out."""
    most = np.array([[2.0, 0.0, 0.0]])
    one, none = np.ones((1, N_SLOTS)), np.zeros((1, N_SLOTS))
    eta = one.copy()
    eta[0, Slot.BATTERY] = stores.get("eta", 1.0)
    wear = none.copy()
    wear[0, Slot.BATTERY] = stores.get("wear", 0.0)
    at = np.zeros(1, dtype=np.int64)
    units = Units(at + 1, at, at, none, most, none, eta, eta, wear)
    n = len(load_kw)
    power = np.zeros((n, 1, N_SLOTS))
    power[..., Slot.BATTERY] = 10.0
    feed = make_feed(
        units, period_hours=1.0, day_periods=n, load_kw=np.array([load_kw]),
        pv_kw=np.array([pv_kw]), import_price_per_kwh=np.full(n, 0.30),
        export_price_per_kwh=np.full(n, 0.10), charge_max_kw=power, discharge_max_kw=power,
    )  # fmt: skip
    return units, feed


def test_noon_is_worth_what_it_exports_and_evening_what_it_saves() -> None:
    """Sun for 10 kWh, later a load of 10 kWh, 2 kWh of room: the room is what is scarce."""
    units, feed = one_home([0.0, 0.0, 5.0, 5.0], [5.0, 5.0, 0.0, 0.0], eta=0.9, wear=0.01)
    price = opportunity_price(units, feed, np.array([0]))
    noon, evening = (0.10 + 0.01) / 0.9, (0.30 - 0.01) * 0.9
    np.testing.assert_allclose(price[[0, 1], 0, 0], noon, rtol=1e-6)
    np.testing.assert_allclose(price[[2, 3], 0, 0], evening, rtol=1e-6)
    assert (price[:, 0, 1:] == 0).all(), "stores that it lacks"


def test_where_sun_is_scarce_it_is_worth_evening_all_day() -> None:
    units, feed = one_home([0.0, 0.0, 5.0, 5.0], [0.5, 0.5, 0.0, 0.0])
    price = opportunity_price(units, feed, np.array([0]))
    np.testing.assert_allclose(price[:, 0, 0], 0.30, rtol=1e-6)


def test_it_is_the_mean_over_days_and_one_more_kwh_saves_it() -> None:
    """Against a finite difference: the pools' least cost with a little less load."""
    people = community(10, 4, day_periods=24)
    price = opportunity_price(people.units, people.feed, np.arange(4))
    assert price.shape == (24, 10, N_SLOTS)
    assert (price >= -1e-9).all()
    assert price.max() < 0.6
    room = people.units.max_kwh - people.units.min_kwh
    assert (price[:, room == 0] == 0).all()
    alone = opportunity_price(people.units, people.feed, np.array([2]))
    assert not np.allclose(alone, price)
    # Energy that costs nothing is worth nothing.
    free = replace(
        people.feed,
        import_price_per_kwh=np.zeros(96),
        export_price_per_kwh=np.zeros(96),
    )
    nothing = opportunity_price(replace_wear(people.units), free, np.arange(4))
    assert nothing == pytest.approx(np.zeros_like(nothing), abs=1e-7)


def replace_wear(units: Units) -> Units:
    return replace(units, cycle_cost_per_kwh=np.zeros_like(units.cycle_cost_per_kwh))
