"""Each bad network is refused with a line that names the place and the cure."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.grid.checks import check_network, named


@pytest.fixture
def good(build):
    return build(4, [(0, 1), (1, 2), (1, 3)], [0.1, 0.2, 0.3], r_pu=[0.1] * 3)


def changed(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


def test_a_good_network_is_handed_back(good):
    assert check_network(good, "lines.csv") is good


@pytest.mark.parametrize(
    ("field", "place", "value", "message"),
    [
        ("x_pu", 1, 0.0, "lines.csv: line 2 has zero reactance, .*; give its reactance"),
        ("x_pu", 1, -0.2, r"line 2 has a negative x_pu \(-0.2\); give x_pu as a positive"),
        ("r_pu", 0, -1.0, r"line 1 has a negative r_pu \(-1\)"),
        ("x_pu", 2, np.nan, "line 3 has a x_pu that is not a finite number"),
        ("flow_offset_kw", 2, np.inf, "line 3 has a flow_offset_kw that is not a finite"),
        ("limit_kw", 0, np.nan, "line 1 has a limit_kw that is not a number"),
        ("limit_kw", 0, -5.0, r"line 1 has a negative limit_kw \(-5 kW\)"),
        ("bus_id", 2, 1, "bus 1 occurs more than once"),
        ("line_id", 2, 1, "line 1 occurs more than once"),
        ("to_bus", 2, 4, "line 3 ends at a bus that is not in the network"),
        ("from_bus", 0, -1, "line 1 ends at a bus that is not in the network"),
        ("to_bus", 0, 0, "line 1 joins a bus to itself"),
        ("to_bus", 1, 3, "bus 3 not connected to the slack bus 1"),
    ],
)
def test_one_wrong_value(good, field, place, value, message):
    bad = replace(good, **{field: changed(getattr(good, field), place, value)})
    with pytest.raises(InputError, match=message):
        check_network(bad, "lines.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slack": 4}, "there is no slack bus"),
        ({"slack": -1}, "there is no slack bus"),
        ({"base_kva": 0.0}, "base_kva is 0"),
        ({"base_kva": np.nan}, "base_kva is nan"),
        ({"x_pu": np.ones(2)}, "x_pu has 2 entries for 3 lines"),
        ({"bus_xy": np.zeros((1, 2))}, "bus_xy has 1 rows for 4 buses"),
        ({"bus_id": np.zeros(0, dtype=np.int64)}, "the network has no bus"),
    ],
)
def test_one_wrong_field(good, changes, message):
    with pytest.raises(InputError, match=message):
        check_network(replace(good, **changes), "lines.csv")


def test_long_lists_are_cut():
    assert named(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert named([7]) == "7"
