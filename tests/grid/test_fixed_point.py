"""The load flow of all periods at once against Newton's method in pandapower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.grid.fixed_point import fast_ac_check
from raygrid.grid.network import Network
from raygrid.grid.powerflow import AcCheck, ac_check
from tests.cases import ring_network
from tests.synthetic import radial_network


def schedule(network: Network, periods: int, scale_kw: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    p = rng.normal(0, scale_kw, (network.n_buses, periods))
    return p, 0.3 * p + rng.normal(0, scale_kw / 10, p.shape)


def assert_same(ours: AcCheck, theirs: AcCheck) -> None:
    assert (ours.converged == theirs.converged).all()
    np.testing.assert_allclose(ours.voltage_pu, theirs.voltage_pu, rtol=0, atol=1e-7)
    for name, least in (("loading", 1e-6), ("current_a", 1e-4), ("flow_kw", 1e-3)):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=least
        )
    np.testing.assert_allclose(ours.losses_kw, theirs.losses_kw, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.slack_kw, theirs.slack_kw, rtol=1e-4, atol=1e-3)
    assert ours.n_voltage_violations == theirs.n_voltage_violations
    assert ours.n_overloads == theirs.n_overloads


@pytest.mark.parametrize("network", [radial_network(), ring_network(40.0)], ids=["tree", "ring"])
def test_matches_pandapower(network: Network) -> None:
    p, q = schedule(network, 12, 60.0)
    limits = {"v_slack_pu": 1.02, "v_min_pu": 0.95, "v_max_pu": 1.05}
    ours = fast_ac_check(network, p, q, **limits)
    assert ours.converged.all()
    assert_same(ours, ac_check(network, p, q, **limits))


def test_two_buses_by_hand() -> None:
    """As `test_powerflow`: v from the quadratic of a load p + jq behind r + jx."""
    r, x, p, q = 0.02, 0.05, 0.8, 0.3
    one = np.array([0])
    network = Network(
        name="two", bus_id=np.array([1, 2]), slack=0, line_id=np.array([1]), from_bus=one,
        to_bus=one + 1, r_pu=np.array([r]), x_pu=np.array([x]), limit_kw=np.array([1000.0]),
        flow_offset_kw=np.zeros(1),
    )  # fmt: skip
    b, c = 2 * (r * p + x * q) - 1, (r**2 + x**2) * (p**2 + q**2)
    v = np.sqrt((-b + np.sqrt(b**2 - 4 * c)) / 2)
    ac = fast_ac_check(network, np.array([[0.0], [-1000 * p]]), np.array([[0.0], [-1000 * q]]))
    np.testing.assert_allclose(ac.voltage_pu[:, 0], [1.0, v], rtol=1e-9)
    np.testing.assert_allclose(ac.loading, [[np.hypot(p, q) / v]], rtol=1e-9)
    np.testing.assert_allclose(ac.losses_kw, [1000 * r * (p**2 + q**2) / v**2], rtol=1e-8)


def test_what_it_cannot_do_is_left_to_pandapower() -> None:
    """A period beyond collapse does not converge; the others do."""
    network = radial_network()
    p, q = schedule(network, 3, 30.0)
    p[1:, 1] = -2_000.0
    ours = fast_ac_check(network, p, q)
    assert ours.converged.tolist() == [True, False, True]
    assert np.isnan(ours.voltage_pu[:, 1]).all()
    shorted = replace(network, r_pu=np.where(network.line_id == 3, 0.0, network.r_pu))
    assert fast_ac_check(shorted, p, q).converged.tolist() == [True, False, True]


def test_bad_input() -> None:
    network = radial_network()
    with pytest.raises(InputError, match="p_bus_kw"):
        fast_ac_check(network, np.zeros((3, 2)), np.zeros((11, 2)))
