"""Networks and the pandapower oracle that the grid tests share."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from raygrid.grid.network import Network
from raygrid.grid.pandapower_files import builtin_net
from raygrid.grid.pandapower_net import (
    PandapowerNetwork,
    branch_rows,
    convert_pandapower,
    pandapower_quietly,
)


@dataclass(frozen=True)
class DcOracle:
    """pandapower's DC flow of a net's own loads, in raygrid's order."""

    p_bus_kw: np.ndarray
    flow_kw: np.ndarray


def dc_oracle(net: Any, converted: PandapowerNetwork) -> DcOracle:
    """Run pandapower's DC load flow and read injections and flows out of its matrices."""
    import pandapower as pp

    with pandapower_quietly():
        pp.rundcpp(net, numba=False)
    bus, gen = net._ppc["bus"].real, net._ppc["gen"].real
    injected = -bus[:, 2] - bus[:, 4]
    np.add.at(injected, gen[:, 0].astype(int), np.where(gen[:, 7] > 0, gen[:, 1], 0.0))
    p_bus = np.zeros(converted.network.n_buses)
    lookup = net._pd2ppc_lookups["bus"]
    for number, position in converted.position_of_bus.items():
        p_bus[position] = injected[lookup[number]] * 1e3
    flow = net._ppc["branch"][branch_rows(net, converted), 13].real * 1e3
    return DcOracle(p_bus, flow)


def make_network(
    n_buses: int,
    ends: list[tuple[int, int]],
    x_pu: np.ndarray | list[float],
    *,
    slack: int = 0,
    r_pu: np.ndarray | list[float] | None = None,
    limit_kw: np.ndarray | list[float] | None = None,
) -> Network:
    """A network from a list of line ends."""
    n_lines = len(ends)
    pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
    x = np.asarray(x_pu, dtype=float)
    return Network(
        name="test",
        bus_id=np.arange(1, n_buses + 1),
        slack=slack,
        line_id=np.arange(1, n_lines + 1),
        from_bus=pairs[:, 0],
        to_bus=pairs[:, 1],
        r_pu=np.zeros(n_lines) if r_pu is None else np.asarray(r_pu, dtype=float),
        x_pu=x,
        limit_kw=np.full(n_lines, np.inf) if limit_kw is None else np.asarray(limit_kw, float),
        flow_offset_kw=np.zeros(n_lines),
    )


def random_network(seed: int, n_buses: int, n_extra: int) -> Network:
    """A random tree with n_extra further lines, parallel ones possible."""
    rng = np.random.default_rng(seed)
    ends = [(int(rng.integers(bus)), bus) for bus in range(1, n_buses)]
    for _ in range(n_extra):
        a, b = rng.choice(n_buses, size=2, replace=False)
        ends.append((int(a), int(b)))
    return make_network(
        n_buses,
        ends,
        rng.uniform(0.01, 1.0, len(ends)),
        slack=int(rng.integers(n_buses)),
        r_pu=rng.uniform(0.0, 1.0, len(ends)),
    )


@pytest.fixture(scope="session")
def oracle():
    """The function `dc_oracle`."""
    return dc_oracle


@pytest.fixture(scope="session")
def case() -> Any:
    """A function that gives (net, conversion) of a pandapower case; the net is a fresh copy."""
    cache: dict[str, Any] = {}

    def get(name: str) -> tuple[Any, PandapowerNetwork]:
        if name not in cache:
            net = builtin_net(name)
            cache[name] = (net, convert_pandapower(net))
        net, converted = cache[name]
        return copy.deepcopy(net), converted

    return get


@pytest.fixture(scope="session")
def multivoltage() -> Any:
    """A function that gives (net, conversion) of pandapower's example with every element."""
    import pandapower.networks

    with pandapower_quietly():
        net = pandapower.networks.example_multivoltage()
    converted = convert_pandapower(net)
    return lambda: (copy.deepcopy(net), converted)


@pytest.fixture(scope="session")
def build():
    """The function `make_network`."""
    return make_network


@pytest.fixture(scope="session")
def build_random():
    """The function `random_network`."""
    return random_network
