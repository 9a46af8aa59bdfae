"""Conversion against pandapower's own DC load flow, element by element."""

import warnings

import numpy as np
import pandapower as pp
import pytest

from raygrid.errors import InputError
from raygrid.grid.pandapower_net import convert_pandapower, network_from_pandapower
from raygrid.grid.ptdf import PtdfFactor


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def ring(n_buses: int = 4, vn_kv: float = 20.0):
    """A ring of lines with one load at each bus but the first."""
    net = pp.create_empty_network(name="ring")
    buses = [pp.create_bus(net, vn_kv) for _ in range(n_buses)]
    pp.create_ext_grid(net, buses[0])
    for i in range(n_buses):
        pp.create_line(
            net, buses[i], buses[(i + 1) % n_buses], 1.0 + i, "NA2XS2Y 1x240 RM/25 12/20 kV"
        )
        if i:
            pp.create_load(net, buses[i], 0.3 * i)
    return net


def assert_flows_match(net, oracle, **options):
    converted = convert_pandapower(net, **options)
    dc = oracle(net, converted)
    flow = PtdfFactor(converted.network).flows(dc.p_bus_kw[:, None])[:, 0]
    np.testing.assert_allclose(
        flow, dc.flow_kw, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(dc.flow_kw).max())
    )
    return converted, dc


@pytest.mark.parametrize(
    ("name", "n_buses", "n_lines"),
    [
        ("case14", 14, 20),
        ("case33bw", 33, 32),
        ("case118", 118, 186),
        ("case1354pegase", 1354, 1991),
        ("create_cigre_network_mv", 15, 14),
    ],
)
def test_flows_match_pandapower_dc(case, oracle, name, n_buses, n_lines):
    net, converted = case(name)
    dc = oracle(net, converted)
    network = converted.network
    assert (network.n_buses, network.n_lines) == (n_buses, n_lines)
    flow = PtdfFactor(network).flows(dc.p_bus_kw[:, None])[:, 0]
    np.testing.assert_allclose(flow, dc.flow_kw, rtol=1e-9, atol=1e-9 * np.abs(flow).max())


def test_pegase_case_has_phase_shifters(case):
    _, converted = case("case1354pegase")
    assert np.abs(converted.network.flow_offset_kw).max() > 1000


def test_open_tie_lines_are_left_out(case):
    net, converted = case("case33bw")
    assert set(converted.network.line_id) == set(net.line.index[net.line.in_service])


def test_multivoltage_example_with_switches_and_three_windings(multivoltage, oracle):
    net, converted = multivoltage()
    dc = oracle(net, converted)
    flow = PtdfFactor(converted.network).flows(dc.p_bus_kw[:, None])[:, 0]
    np.testing.assert_allclose(flow, dc.flow_kw, rtol=1e-9, atol=1e-6)
    assert {"line", "trafo", "trafo3w", "impedance"} == set(converted.element)
    assert converted.network.n_buses < len(net.bus)


def test_parallel_lines_and_parallel_systems(oracle):
    net = ring()
    pp.create_line(net, 1, 2, 2.0, "NA2XS2Y 1x240 RM/25 12/20 kV", parallel=2)
    pp.create_line(net, 1, 2, 2.0, "NA2XS2Y 1x240 RM/25 12/20 kV")
    converted, dc = assert_flows_match(net, oracle)
    assert dc.flow_kw[4] == pytest.approx(2 * dc.flow_kw[5])
    assert converted.network.limit_kw[4] == pytest.approx(2 * converted.network.limit_kw[5])


def test_transformer_taps(oracle):
    net = ring(3, vn_kv=110.0)
    low = pp.create_bus(net, 20.0)
    for tap in (-5, 0):
        trafo = pp.create_transformer(net, 1, low, "25 MVA 110/20 kV")
        net.trafo.loc[trafo, "tap_pos"] = tap
    pp.create_load(net, low, 10.0)
    converted, dc = assert_flows_match(net, oracle)
    tapped, nominal = dc.flow_kw[converted.element == "trafo"]
    assert tapped != pytest.approx(nominal, rel=1e-3)
    np.testing.assert_allclose(
        converted.network.limit_kw[converted.element == "trafo"], 25e3, rtol=1e-12
    )


def test_phase_shifter_in_a_mesh(oracle):
    net = ring(3, vn_kv=110.0)
    far = pp.create_bus(net, 110.0)
    pp.create_line(net, 0, far, 5.0, "149-AL1/24-ST1A 110.0")
    for shift in (0.0, 3.0):
        pp.create_transformer_from_parameters(
            net, far, 2, sn_mva=50, vn_hv_kv=110, vn_lv_kv=110, vkr_percent=0.3, vk_percent=10,
            pfe_kw=0, i0_percent=0, shift_degree=shift,
        )  # fmt: skip
    converted, _ = assert_flows_match(net, oracle)
    assert np.abs(converted.network.flow_offset_kw).max() > 1000


def test_vector_group_of_a_radial_transformer_drives_no_flow(case):
    net = ring()
    low = pp.create_bus(net, 0.4)
    pp.create_transformer(net, 1, low, "0.4 MVA 20/0.4 kV")
    assert net.trafo.shift_degree.iloc[0] == 150
    np.testing.assert_array_equal(network_from_pandapower(net).flow_offset_kw, 0.0)


def test_three_winding_transformer_has_a_star_bus(oracle):
    net = ring(3, vn_kv=110.0)
    mv, lv = pp.create_bus(net, 20.0), pp.create_bus(net, 10.0)
    pp.create_transformer3w(net, 1, mv, lv, "63/25/38 MVA 110/20/10 kV")
    pp.create_load(net, mv, 4.0)
    pp.create_load(net, lv, 6.0)
    converted, dc = assert_flows_match(net, oracle)
    network = converted.network
    assert network.bus_id.tolist() == [0, 1, 2, 3, 4, 5]
    windings = converted.element == "trafo3w"
    assert converted.element_side[windings].tolist() == ["hv", "mv", "lv"]
    np.testing.assert_allclose(dc.flow_kw[windings], [10e3, 4e3, 6e3], rtol=1e-9)
    np.testing.assert_allclose(network.limit_kw[windings], [63e3, 25e3, 38e3], rtol=1e-12)
    assert network.line_id[windings].tolist() == [3, 4, 5]


def test_impedance_elements(oracle):
    net = ring()
    pp.create_impedance(net, 1, 3, rft_pu=0.01, xft_pu=0.02, sn_mva=10.0)
    converted, _ = assert_flows_match(net, oracle)
    assert converted.network.limit_kw[-1] == np.inf


def test_bus_bus_switches_fuse_or_bridge(oracle):
    net = ring()
    twin, bridged = pp.create_bus(net, 20.0), pp.create_bus(net, 20.0)
    pp.create_switch(net, 2, twin, et="b", closed=True)
    pp.create_switch(net, twin, bridged, et="b", closed=True, z_ohm=0.5)
    pp.create_load(net, twin, 0.1)
    pp.create_load(net, bridged, 0.2)
    converted, dc = assert_flows_match(net, oracle)
    assert converted.position_of_bus[twin] == converted.position_of_bus[2]
    assert converted.network.bus_id.tolist() == [0, 1, 2, 3, bridged]
    assert abs(dc.flow_kw[converted.element == "switch"][0]) == pytest.approx(200)


@pytest.mark.parametrize("bus", [1, 2])
def test_line_open_at_one_end_is_left_out(oracle, bus):
    net = ring()
    pp.create_switch(net, bus, 1, et="l", closed=False)
    converted, _ = assert_flows_match(net, oracle)
    assert converted.network.line_id.tolist() == [0, 2, 3]


def test_line_to_a_bus_out_of_service_is_left_out(oracle):
    net = ring()
    net.bus.loc[2, "in_service"] = False
    net.load["in_service"] = net.load.bus != 2
    converted, _ = assert_flows_match(net, oracle)
    assert converted.network.line_id.tolist() == [0, 3]
    assert 2 not in converted.position_of_bus


def test_the_net_is_not_changed():
    net = ring()
    before = {key: repr(value) for key, value in net.items()}
    network_from_pandapower(net)
    assert {key: repr(value) for key, value in net.items()} == before


def test_line_limits_from_ratings():
    net = ring()
    net.line.loc[0, ["max_i_ka", "df", "max_loading_percent"]] = [0.2, 0.9, 80.0]
    net.line.loc[1, "max_i_ka"] = 99999.0
    net.line.loc[2, "max_i_ka"] = np.nan
    limit = network_from_pandapower(net).limit_kw
    assert limit[0] == pytest.approx(0.2 * 20 * np.sqrt(3) * 0.9 * 0.8 * 1e3)
    assert np.isinf(limit[1:3]).all()


def test_limits_can_be_overridden():
    net = ring()
    rated = network_from_pandapower(net).limit_kw
    np.testing.assert_array_equal(network_from_pandapower(net, limits_kw=7.0).limit_kw, 7.0)
    np.testing.assert_array_equal(
        network_from_pandapower(net, limits_kw=np.arange(1.0, 5)).limit_kw, [1, 2, 3, 4]
    )
    one = network_from_pandapower(net, limits_kw={2: 5.0}).limit_kw
    np.testing.assert_array_equal(one, [rated[0], rated[1], 5.0, rated[3]])
    with pytest.raises(InputError, match="limits_kw names line 9"):
        network_from_pandapower(net, limits_kw={9: 5.0})
    with pytest.raises(InputError, match="limits_kw has shape"):
        network_from_pandapower(net, limits_kw=np.ones(3))
    with pytest.raises(InputError, match="line 1 has a negative limit_kw"):
        network_from_pandapower(net, limits_kw={1: -5.0})


def test_islands_are_refused_with_their_buses_named():
    net = ring()
    net.line.loc[[1, 3], "in_service"] = False
    with pytest.raises(InputError, match=r"bus 2, 3 in service but not connected to .* bus 0"):
        network_from_pandapower(net)


def test_an_island_with_its_own_external_grid_is_refused():
    net = ring()
    net.line.loc[[1, 3], "in_service"] = False
    pp.create_ext_grid(net, 2)
    with pytest.raises(InputError, match="external grids at buses 0, 2"):
        network_from_pandapower(net)
    with pytest.raises(InputError, match="bus 0, 1 in service but not connected"):
        network_from_pandapower(net, slack_bus=3)


def test_slack_generator_or_chosen_bus():
    net = ring()
    net.ext_grid["in_service"] = False
    with pytest.raises(InputError, match="has no slack"):
        network_from_pandapower(net)
    assert network_from_pandapower(net, slack_bus=2).slack == 2
    pp.create_gen(net, 3, p_mw=0.1, slack=True)
    assert network_from_pandapower(net).slack == 3
    with pytest.raises(InputError, match="slack bus 77"):
        network_from_pandapower(net, slack_bus=77)


def test_zero_reactance_is_refused():
    net = ring()
    net.line.loc[2, "x_ohm_per_km"] = 0.0
    with pytest.raises(InputError, match="line 2 has zero reactance"):
        network_from_pandapower(net)


def test_dc_lines_are_refused():
    net = ring()
    pp.create_dcline(net, 1, 3, p_mw=0.1, loss_percent=1, loss_mw=0, vm_from_pu=1, vm_to_pu=1)
    with pytest.raises(InputError, match="1 dcline in service"):
        network_from_pandapower(net)


def test_positions_for_drawing(case):
    net, converted = case("case33bw")
    assert converted.network.bus_xy.shape == (33, 2)
    first = net.bus.geo.iloc[0]
    assert str(converted.network.bus_xy[0, 0])[:6] in first
    assert network_from_pandapower(ring()).bus_xy.shape == (0, 2)
