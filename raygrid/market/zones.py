"""Feeder zones: groups of buses that are electrically near each other (AI-TEM V.A has five)."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import IntArray
from raygrid.grid.distance import electrical_distance
from raygrid.grid.network import Network


def feeder_zones(network: Network, n_zones: int) -> IntArray:
    """Zone of every bus, around buses that are far from the slack bus and from each other.

    The first centre is the bus farthest from the slack bus, each next one the bus farthest from
    all before; every bus belongs to the centre nearest to it. On a radial feeder these are its
    ends, so that zones are its laterals.

    Parameters
    ----------
    network : Network
        The network.
    n_zones : int
        Number of zones; with more than buses, every bus is one.

    Returns
    -------
    (B,) int64
        Zones from 0, numbered by their first bus.
    """
    distance = electrical_distance(network)
    centres = [int(np.argmax(distance[network.slack]))]
    while len(centres) < min(n_zones, network.n_buses):
        centres.append(int(np.argmax(distance[centres].min(axis=0))))
    nearest = np.argmin(distance[centres], axis=0)
    first = {zone: k for k, zone in enumerate(dict.fromkeys(nearest.tolist()))}
    return np.array([first[zone] for zone in nearest.tolist()], dtype=np.int64)
