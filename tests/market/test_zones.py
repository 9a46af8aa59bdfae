"""Feeder zones hold buses that are near each other."""

from __future__ import annotations

import numpy as np

from raygrid.grid.distance import electrical_distance
from raygrid.market.zones import feeder_zones
from tests.cases import ring_network
from tests.synthetic import radial_network


def test_two_branches_are_two_zones() -> None:
    """Buses 1 to 5 and 6 to 10 hang on the slack bus, which joins the first centre's zone."""
    zone = feeder_zones(radial_network(), 2)
    assert len(set(zone[1:6].tolist())) == 1
    assert len(set(zone[6:].tolist())) == 1
    assert zone[1] != zone[6]
    assert zone[0] == 0


def test_every_bus_belongs_to_its_nearest_centre_and_numbers_are_dense() -> None:
    network = ring_network(1.0)
    assert feeder_zones(network, 1).tolist() == [0] * 6
    assert sorted(feeder_zones(network, 99).tolist()) == list(range(6))
    zone = feeder_zones(network, 3)
    assert set(zone.tolist()) == {0, 1, 2}
    distance = electrical_distance(network)
    within = np.max(distance[zone[:, None] == zone])
    assert within < distance.max()
