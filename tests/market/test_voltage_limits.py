"""Days cleared within voltage limits, held against the AC load flow and the central benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.grid.limits import voltage_rows
from raygrid.grid.powerflow import AcCheck, ac_check, jacobian_sensitivities
from raygrid.grid.voltage import VoltageForm, lindistflow
from raygrid.market.central import solve_central
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.limits import bus_sums
from raygrid.scenario.build import load_case
from raygrid.scenario.case import Case

WIDE_LINES = "network.limits={fixed_load_margin: 6.0, floor_kw_per_prosumer: 0.3}"
"""Lines that leave it to the voltages to bind."""
COMMON = [
    "horizon={periods: 8, period_hours: 3}",
    "tariffs={import_price_per_kwh: 0.3, export_price_per_kwh: 0.08, export_limit_kw: null}",
]


def people(pv_share: float, battery_share: float, flexible_share: float) -> str:
    return (
        f"population={{source: community, agents: 30, power_factor: 0.95, pv_share: {pv_share}, "
        f"battery_share: {battery_share}, flexible_share: {flexible_share}}}"
    )


SUNNY = people(0.8, 0.2, 0.5)
MIXED = people(0.3, 0.2, 0.5)
DARK = people(0.0, 0.3, 0.6)
FEEDER = [*COMMON, SUNNY, WIDE_LINES]
MESH_LOW = [*COMMON, DARK, WIDE_LINES, "network.reference_prosumers=200000"]
MESH_HIGH = [*COMMON, MIXED, WIDE_LINES, "network.reference_prosumers=150000"]


def cleared(case: Case) -> tuple[ClearingResult, AcCheck]:
    options = ClearingOptions()
    result = clear(case, options, local_exchange(case, options))
    assert result.status is ClearingStatus.CONVERGED
    return result, ac_check(case.network, result.p_bus_kw, -case.reactive_load_kvar)


def limits(low: float, high: float, model: str = "auto") -> str:
    return f"voltage={{v_min_pu: {low}, v_max_pu: {high}, model: {model}}}"


# How far the AC voltages may leave the limits: what the linear model is off where they bind.
# LinDistFlow leaves out losses, which lower voltages; the Jacobian at the fixed loads leaves out
# that reactances take more voltage at any larger flow. Both errors are on the safe side at upper
# limits and on the other at lower ones.
@pytest.mark.parametrize(
    ("name", "settings", "low", "high", "error"),
    [
        ("community", FEEDER, 0.95, 1.02, 0.0),
        ("ieee14", MESH_HIGH, 0.95, 1.01, 0.0),
        ("ieee14", MESH_LOW, 0.97, 1.05, 1.5e-3),
    ],
    ids=["radial-high", "meshed-high", "meshed-low"],
)
def test_limits_hold_in_the_ac_load_flow(
    name: str, settings: list[str], low: float, high: float, error: float
) -> None:
    free, free_ac = cleared(load_case(name, settings=settings))
    case = load_case(name, settings=[*settings, limits(low, high)])
    result, ac = cleared(case)
    central = solve_central(case, network_constrained=True)

    broken = max(low - free_ac.lowest_voltage_pu, free_ac.highest_voltage_pu - high)
    assert broken > max(5e-3, 4 * error)
    assert ac.n_not_converged == 0
    assert ac.lowest_voltage_pu >= low - error - 1e-6
    assert ac.highest_voltage_pu <= high + 1e-6

    voltage = case.rows.matrix @ result.p_bus_kw
    at = case.rows.kind == "voltage"
    assert at.any()
    slack = np.minimum(case.rows.upper - voltage, voltage - case.rows.lower)[at]
    assert slack.min() >= -1e-6
    assert slack.min() <= 1e-4
    assert result.welfare < free.welfare
    assert result.welfare == pytest.approx(central.welfare, rel=1e-4, abs=0)
    assert result.welfare <= central.welfare * (1 + np.sign(central.welfare) * 1e-7)
    assert result.bound is not None
    assert result.bound >= central.welfare * (1 - np.sign(central.welfare) * 1e-7)


def test_auto_takes_the_model_that_the_network_allows() -> None:
    radial, meshed = limits(0.95, 1.02), limits(0.97, 1.05)
    for name, settings, text, model in (
        ("community", FEEDER, radial, "lindistflow"),
        ("ieee14", MESH_LOW, meshed, "jacobian"),
    ):
        chosen = load_case(name, settings=[*settings, text]).rows
        named = load_case(name, settings=[*settings, text.replace("auto", model)]).rows
        np.testing.assert_array_equal(chosen.matrix, named.matrix)
        np.testing.assert_array_equal(chosen.upper, named.upper)
    with pytest.raises(InputError, match="not a tree"):
        load_case("ieee14", settings=[*MESH_LOW, limits(0.97, 1.05, "lindistflow")])


def test_jacobian_rows_stand_at_the_fixed_loads() -> None:
    """The rows are those of the AC Jacobian at the mean fixed loads, exact at that point."""
    case = load_case("ieee14", settings=[*MESH_LOW, limits(0.97, 1.05)])
    load = bus_sums(case.population, case.population.fixed_load_kw, case.network.n_buses)
    mean, reactive = -load.mean(axis=1), -case.reactive_load_kvar
    model = jacobian_sensitivities(case.network, mean, reactive.mean(axis=1), v_slack_pu=1.0)
    assert model.form is VoltageForm.PLAIN
    rows = voltage_rows(case.network, 0.97, 1.05, reactive, model=model)
    at = np.flatnonzero(case.rows.kind == "voltage")
    kept = np.flatnonzero(np.isin(rows.index, case.rows.index[at]))
    np.testing.assert_allclose(case.rows.matrix[at], rows.matrix[kept], rtol=1e-9, atol=0)
    np.testing.assert_allclose(case.rows.lower[at], rows.lower[kept], rtol=1e-9, atol=1e-12)
    exact = ac_check(case.network, mean[:, None], reactive.mean(axis=1)[:, None]).voltage_pu
    linear = model.voltages(mean[:, None], reactive.mean(axis=1)[:, None])
    np.testing.assert_allclose(linear, exact, rtol=0, atol=1e-9)


def test_both_models_agree_on_a_feeder_near_its_loads() -> None:
    case = load_case("community", settings=FEEDER)
    reactive = -case.reactive_load_kvar[:, :1]
    load = bus_sums(case.population, case.population.fixed_load_kw, case.network.n_buses)
    jacobian = jacobian_sensitivities(case.network, -load.mean(axis=1), reactive[:, 0])
    tree = lindistflow(case.network)
    point = -load.mean(axis=1)[:, None]
    np.testing.assert_allclose(
        jacobian.voltages(point, reactive), tree.voltages(point, reactive), rtol=0, atol=1e-3
    )


def test_a_point_that_no_load_flow_reaches_is_refused() -> None:
    with pytest.raises(InputError, match="operating point does not converge"):
        load_case(
            "ieee14",
            settings=[*COMMON, DARK, "network.reference_prosumers=1e8", limits(0.9, 1.1)],
        )


def test_phase_shifters_are_refused(tmp_path: Path) -> None:
    """The tables hold their flow but not their angle, which an AC load flow needs."""
    lines = "line,from_bus,to_bus,r_pu,x_pu,limit_kw,flow_offset_kw\n"
    lines += "1,1,2,0.01,0.1,50,0\n2,2,3,0.01,0.1,50,4\n3,1,3,0.01,0.1,50,-4\n"
    (tmp_path / "lines.csv").write_text(lines)
    network = f"network={{source: tables, lines: '{tmp_path / 'lines.csv'}', slack_bus: 1}}"
    with pytest.raises(InputError, match="carries phase-shift flow"):
        load_case("ieee14", settings=[*COMMON, DARK, network, limits(0.9, 1.1)])
