"""AC check against pandapower run on its own, and a two-bus line worked by hand."""

from dataclasses import replace

import numpy as np
import pandapower as pp
import pytest

from raygrid.errors import InputError
from raygrid.grid.pandapower_net import convert_pandapower, pandapower_quietly
from raygrid.grid.powerflow import ac_check, to_pandapower


def test_two_buses_by_hand(build):
    # v1^4 + v1^2 (2 (r p + x q) - v0^2) + (r^2 + x^2)(p^2 + q^2) = 0 for a load p + jq.
    r, x, p, q = 0.02, 0.05, 0.8, 0.3
    network = build(2, [(0, 1)], [x], r_pu=[r], limit_kw=[1000.0])
    b = 2 * (r * p + x * q) - 1
    c = (r**2 + x**2) * (p**2 + q**2)
    v = np.sqrt((-b + np.sqrt(b**2 - 4 * c)) / 2)
    injection = np.array([[1000 * p], [-1000 * p]])
    ac = ac_check(network, injection, np.array([[0.0], [-1000 * q]]), vn_kv=0.4)
    current = np.hypot(p, q) / v
    assert ac.converged.tolist() == [True]
    np.testing.assert_allclose(ac.voltage_pu[:, 0], [1.0, v], rtol=1e-8)
    np.testing.assert_allclose(ac.losses_kw, [1000 * r * current**2], rtol=1e-6)
    np.testing.assert_allclose(ac.slack_kw, ac.losses_kw, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(ac.loading, [[current]], rtol=1e-7)
    np.testing.assert_allclose(ac.current_a, [[current * 1000 / (np.sqrt(3) * 0.4)]], rtol=1e-7)
    np.testing.assert_allclose(ac.flow_kw[:, 0], 1000 * p + ac.losses_kw, rtol=1e-7)


def schedule_of(net, converted, factors):
    """Bus injections of all loads and generators, scaled per period [kW], [kvar]."""
    p, q = np.zeros(converted.network.n_buses), np.zeros(converted.network.n_buses)
    for table, sign in (("load", -1e3), ("sgen", 1e3), ("gen", 1e3)):
        rows = net[table][net[table].in_service.astype(bool)]
        places = [converted.position_of_bus[bus] for bus in rows.bus]
        np.add.at(p, places, sign * rows.p_mw.to_numpy())
        if table != "gen":
            np.add.at(q, places, sign * rows.q_mvar.to_numpy())
    return np.outer(p, factors), np.outer(q, factors)


def test_published_result_of_the_33_bus_case(case):
    net, converted = case("case33bw")
    p, q = schedule_of(net, converted, [1.0])
    for given in (net, None):
        ac = ac_check(converted.network, p, q, net=given, vn_kv=12.66)
        # Baran and Wu 1989: 202.7 kW of losses, lowest voltage 0.9131.
        assert ac.losses_kw[0] == pytest.approx(202.68, abs=0.01)
        assert ac.lowest_voltage_pu == pytest.approx(0.9131, abs=5e-5)
        assert ac.highest_voltage_pu == pytest.approx(1.0, abs=1e-12)
        assert ac.slack_kw[0] == pytest.approx(3715 + 202.68, abs=0.01)


@pytest.mark.parametrize(
    ("name", "factors"),
    [("case14", [0.3, 1.0, 0.9]), ("case118", [0.8, 1.0]), ("case1354pegase", [1.0])],
)
def test_matches_pandapower_on_meshed_cases(case, name, factors):
    net, converted = case(name)
    p, q = schedule_of(net, converted, factors)
    ac = ac_check(converted.network, p, q, net=net)
    assert ac.converged.all()
    for t, factor in enumerate(factors):
        for table in ("load", "sgen", "gen"):
            net[table]["scaling"] = factor
        with pandapower_quietly():
            pp.runpp(net, numba=False)
        np.testing.assert_allclose(ac.voltage_pu[:, t], net.res_bus.vm_pu, rtol=0, atol=1e-7)
        for table in ("line", "trafo"):
            of_table = converted.element == table
            index = converted.element_index[of_table]
            result = net[f"res_{table}"].loc[index]
            start = "p_from_mw" if table == "line" else "p_hv_mw"
            np.testing.assert_allclose(
                ac.flow_kw[of_table, t], 1e3 * result[start], rtol=1e-5, atol=0.1
            )
            if table == "line":
                rated = np.isfinite(converted.network.limit_kw[of_table])
                np.testing.assert_allclose(
                    ac.loading[of_table, t][rated],
                    result.loading_percent[rated] / 100,
                    rtol=1e-5,
                    atol=1e-8,
                )
                np.testing.assert_allclose(
                    ac.current_a[of_table, t], 1e3 * result.i_ka, rtol=1e-5, atol=1e-3
                )
        losses = net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum()
        assert ac.losses_kw[t] == pytest.approx(1e3 * losses, rel=1e-6)


def test_fused_buses_and_star_points(multivoltage):
    net, converted = multivoltage()
    for table in ("ward", "xward"):
        net[table]["in_service"] = False
    p, q = schedule_of(net, converted, [0.2])
    for table in ("load", "sgen", "gen"):
        net[table]["scaling"] = 0.2
    ac = ac_check(converted.network, p, q, net=net)
    with pandapower_quietly():
        pp.runpp(net, numba=False)
    for bus, position in converted.position_of_bus.items():
        assert ac.voltage_pu[position, 0] == pytest.approx(net.res_bus.vm_pu.at[bus], abs=1e-7)
    high = np.flatnonzero((converted.element == "trafo3w") & (converted.element_side == "hv"))
    assert ac.flow_kw[high[0], 0] == pytest.approx(1e3 * net.res_trafo3w.p_hv_mw.iloc[0], rel=1e-5)
    star = converted.network.to_bus[high[0]]
    p[star] = 1.0
    with pytest.raises(InputError, match="star point"):
        ac_check(converted.network, p, q, net=net)


def test_a_period_that_does_not_converge_is_reported_and_the_next_goes_on(case):
    net, converted = case("case33bw")
    p, q = schedule_of(net, converted, [1.0, 50.0, 1.0])
    ac = ac_check(converted.network, p, q)
    assert ac.converged.tolist() == [True, False, True]
    assert ac.n_not_converged == 1
    for values in (ac.voltage_pu, ac.loading, ac.current_a, ac.flow_kw):
        assert np.isnan(values[:, 1]).all()
        np.testing.assert_allclose(values[:, 0], values[:, 2], rtol=1e-6, atol=1e-6)
    assert np.isnan(ac.losses_kw[1])
    assert ac.lowest_voltage_pu == pytest.approx(0.9131, abs=5e-5)


def test_nothing_converged_has_no_extremes(build):
    network = build(2, [(0, 1)], [0.5], r_pu=[0.5], limit_kw=[1.0])
    ac = ac_check(network, np.array([[0.0], [-1e6]]), np.zeros((2, 1)))
    assert ac.n_not_converged == 1
    assert np.isnan([ac.lowest_voltage_pu, ac.highest_voltage_pu, ac.highest_loading]).all()
    assert (ac.n_voltage_violations, ac.n_overloads) == (0, 0)


def test_violations_are_counted(build):
    network = build(3, [(0, 1), (1, 2)], [0.05, 0.05], r_pu=[0.05] * 2, limit_kw=[np.inf, 500.0])
    p = np.array([[600.0, 100.0], [0.0, 0.0], [-600.0, -100.0]])
    ac = ac_check(network, p, np.zeros((3, 2)), v_min_pu=0.96, v_max_pu=1.05)
    assert ac.n_overloads == 1
    assert ac.n_voltage_violations == 1
    assert ac.highest_loading == ac.loading[1, 0] > 1.2
    np.testing.assert_array_equal(ac.loading[0], 0.0)


def test_balanced_schedules_leave_losses_to_the_slack(case):
    net, converted = case("case33bw")
    p, q = schedule_of(net, converted, [0.5, 1.0])
    p[converted.network.slack] -= p.sum(axis=0)
    ac = ac_check(converted.network, p, q, net=net)
    np.testing.assert_allclose(ac.slack_kw, ac.losses_kw, rtol=1e-5, atol=1e-3)


def test_per_unit_results_do_not_depend_on_the_voltage_level(case):
    net, converted = case("case33bw")
    p, q = schedule_of(net, converted, [1.0])
    low, high = (ac_check(converted.network, p, q, vn_kv=v) for v in (0.4, 110.0))
    np.testing.assert_allclose(low.voltage_pu, high.voltage_pu, rtol=1e-9)
    np.testing.assert_allclose(low.current_a, high.current_a * 110 / 0.4, rtol=1e-6)


def test_a_built_net_converts_back(build_random):
    network = build_random(6, 9, 4)
    again = convert_pandapower(to_pandapower(network, vn_kv=20.0)).network
    np.testing.assert_array_equal(again.from_bus, network.from_bus)
    np.testing.assert_array_equal(again.to_bus, network.to_bus)
    np.testing.assert_allclose(again.x_pu, network.x_pu, rtol=1e-12)
    np.testing.assert_allclose(again.r_pu, network.r_pu, rtol=1e-12, atol=1e-15)
    assert again.slack == network.slack


def test_bad_input(case, build):
    _, converted = case("case1354pegase")
    with pytest.raises(InputError, match="carries phase-shift flow"):
        to_pandapower(converted.network)
    network = build(2, [(0, 1)], [0.1])
    with pytest.raises(InputError, match=r"p_bus_kw has shape \(3, 1\)"):
        ac_check(network, np.zeros((3, 1)), np.zeros((2, 1)))
    with pytest.raises(InputError, match="q_bus_kvar has values that are not finite"):
        ac_check(network, np.zeros((2, 1)), np.full((2, 1), np.nan))
    net, other = case("case14")
    net.line.loc[3, "in_service"] = False
    with pytest.raises(InputError, match="other buses or lines than the network"):
        ac_check(other.network, np.zeros((14, 1)), np.zeros((14, 1)), net=net)
    net, other = case("case14")
    scaled = replace(other.network, x_pu=other.network.x_pu / 2)
    with pytest.raises(InputError, match="network's x_pu are not those of the pandapower net"):
        ac_check(scaled, np.zeros((14, 1)), np.zeros((14, 1)), net=net)
