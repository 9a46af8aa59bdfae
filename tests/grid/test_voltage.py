"""LinDistFlow and the Jacobian against hand-worked values and AC load flow."""

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.grid import voltage as voltage_module
from raygrid.grid.limits import voltage_rows
from raygrid.grid.powerflow import ac_check, jacobian_sensitivities
from raygrid.grid.voltage import lindistflow


def base_loads(net, converted):
    """Loads and generation of a net as bus injections [kW], [kvar]."""
    n_buses = converted.network.n_buses
    p, q = np.zeros(n_buses), np.zeros(n_buses)
    for table, sign in (("load", -1e3), ("sgen", 1e3)):
        rows = net[table]
        places = [converted.position_of_bus[bus] for bus in rows.bus]
        np.add.at(p, places, sign * rows.p_mw.to_numpy())
        np.add.at(q, places, sign * rows.q_mvar.to_numpy())
    np.add.at(p, [converted.position_of_bus[b] for b in net.gen.bus], 1e3 * net.gen.p_mw)
    return p, q


def test_lindistflow_by_hand(build):
    # 0 - 1 - 2 and 1 - 3: the path shared by buses 2 and 3 is line 0-1.
    network = build(4, [(0, 1), (2, 1), (1, 3)], [0.2, 0.4, 0.8], r_pu=[0.1, 0.3, 0.5])
    model = lindistflow(network)
    r = [[0, 0, 0, 0], [0, 0.1, 0.1, 0.1], [0, 0.1, 0.4, 0.1], [0, 0.1, 0.1, 0.6]]
    x = [[0, 0, 0, 0], [0, 0.2, 0.2, 0.2], [0, 0.2, 0.6, 0.2], [0, 0.2, 0.2, 1.0]]
    np.testing.assert_allclose(model.dv_dp_pu_per_kw * 1000, r, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(model.dv_dq_pu_per_kvar * 1000, x, rtol=1e-12, atol=1e-15)
    p, q = np.zeros((4, 1)), np.zeros((4, 1))
    p[2], q[3] = -100.0, 50.0
    squared = 1 + 2 * (np.array(r) @ p + np.array(x) @ q) / 1000
    np.testing.assert_allclose(model.voltages(p, q), np.sqrt(squared), rtol=1e-12)


def test_lindistflow_matches_ac_for_small_injections(case):
    _, converted = case("case33bw")
    network = converted.network
    rng = np.random.default_rng(3)
    p, q = rng.uniform(-5, 5, (2, 33, 3))
    model = lindistflow(network, 1.02)
    ac = ac_check(network, p, q, v_slack_pu=1.02)
    moved = np.abs(ac.voltage_pu - 1.02).max()
    np.testing.assert_allclose(model.voltages(p, q), ac.voltage_pu, rtol=0, atol=1e-3 * moved)


def test_lindistflow_at_the_published_load(case):
    net, converted = case("case33bw")
    p, q = base_loads(net, converted)
    voltage = lindistflow(converted.network).voltages(p[:, None], q[:, None])[:, 0]
    ac = ac_check(converted.network, p[:, None], q[:, None]).voltage_pu[:, 0]
    assert (voltage >= ac - 1e-9).all(), "without losses voltages fall less"
    np.testing.assert_allclose(voltage, ac, rtol=0, atol=0.006)


def test_squared_form_has_the_plain_slope_at_the_slack_voltage(build):
    network = build(2, [(0, 1)], [0.2], r_pu=[0.1])
    model = lindistflow(network, 1.05)
    step, none = np.array([[0.0], [1e-3]]), np.zeros((2, 1))
    slope = (model.voltages(step, none) - model.voltages(none, none))[1, 0] / 1e-3
    assert slope == pytest.approx(model.dv_dp_pu_per_kw[1, 1], rel=1e-6)


@pytest.mark.parametrize("name", ["case14", "case33bw", "case118"])
def test_jacobian_matches_small_ac_perturbations(case, name):
    net, converted = case(name)
    network = converted.network
    p, q = base_loads(net, converted)
    model = jacobian_sensitivities(network, p, q, net=net)
    rng = np.random.default_rng(5)
    n_steps = 4
    size = 1e-4 * np.abs(p).max()
    dp, dq = rng.uniform(-size, size, (2, network.n_buses, n_steps))
    here = ac_check(network, p[:, None], q[:, None], net=net).voltage_pu
    there = ac_check(network, p[:, None] + dp, q[:, None] + dq, net=net).voltage_pu
    expected = there - here
    got = model.voltages(p[:, None] + dp, q[:, None] + dq) - here
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_jacobian_matches_lindistflow_without_load(case):
    _, converted = case("case33bw")
    network = converted.network
    none = np.zeros(33)
    jacobian, tree = jacobian_sensitivities(network, none, none), lindistflow(network)
    for name in ("dv_dp_pu_per_kw", "dv_dq_pu_per_kvar"):
        expected = getattr(tree, name)
        np.testing.assert_allclose(
            getattr(jacobian, name), expected, rtol=1e-6, atol=1e-9 * expected.max()
        )


def test_voltage_controlled_buses_do_not_move(case):
    net, converted = case("case14")
    p, q = base_loads(net, converted)
    model = jacobian_sensitivities(converted.network, p, q, net=net)
    held = [converted.position_of_bus[bus] for bus in [*net.gen.bus, *net.ext_grid.bus]]
    np.testing.assert_array_equal(model.dv_dp_pu_per_kw[held], 0.0)
    assert (model.dv_dq_pu_per_kvar[:, held] == 0.0).all()


def test_no_operating_point_no_sensitivities(case):
    _, converted = case("case33bw")
    huge = np.full(33, -1e7)
    with pytest.raises(InputError, match="does not converge"):
        jacobian_sensitivities(converted.network, huge, huge)


def test_bad_input_to_lindistflow(build):
    network = build(2, [(0, 1)], [0.2])
    with pytest.raises(InputError, match="slack voltage is 0"):
        lindistflow(network, 0.0)
    with pytest.raises(InputError, match="2 lines on 2 buses are not a tree"):
        lindistflow(build(2, [(0, 1), (0, 1)], [0.2, 0.2]))


def test_voltage_rows_of_a_meshed_network(case):
    net, converted = case("case14")
    p, q = base_loads(net, converted)
    model = jacobian_sensitivities(converted.network, p, q, net=net)
    rng = np.random.default_rng(2)
    p_bus = p[:, None] * rng.uniform(0.5, 1.5, (14, 3))
    q_bus = q[:, None] * rng.uniform(0.5, 1.5, (14, 3))
    rows = voltage_rows(converted.network, 1.0, 1.1, q_bus, model=model)
    assert rows.n_rows == 14 - len(net.gen) - 1
    voltage = model.voltages(p_bus, q_bus)[rows.index]
    value = rows.matrix @ p_bus
    np.testing.assert_allclose(value - rows.lower, voltage - 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows.upper - value, 1.1 - voltage, rtol=0, atol=1e-9)


def test_matrices_that_are_too_large_are_refused(case, monkeypatch):
    network = case("case33bw")[1].network
    load = np.zeros(33)
    monkeypatch.setattr(voltage_module, "MAX_DENSE_ENTRIES", 33**2)
    lindistflow(network)
    monkeypatch.setattr(voltage_module, "MAX_DENSE_ENTRIES", 33**2 - 1)
    for model in (
        lambda: lindistflow(network),
        lambda: jacobian_sensitivities(network, load, load),
    ):
        with pytest.raises(InputError, match=r"voltage limits of 33 buses, .* at most 32 by 32"):
            model()
