"""Whole clearings at two lengths of period, and with a phase shifter in a ring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.arrays import FloatArray
from raygrid.grid.limits import line_rows
from raygrid.grid.network import Network
from raygrid.grid.ptdf import PtdfFactor
from raygrid.market.central import solve_central
from raygrid.market.clearing import ClearingOptions, ClearingResult, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.population import PROFILE_FIELDS, GridConnection
from raygrid.scenario.case import Case
from tests.cases import small_case

TIGHT = ClearingOptions(absolute_tolerance=1e-6, relative_tolerance=1e-6, max_iterations=4000)


def in_quarter_hours(case: Case) -> Case:
    """The same day with every hour as four quarter hours of the same data."""

    def four(values: FloatArray) -> FloatArray:
        return np.repeat(values, 4, axis=-1)

    people, grid = case.population, case.grid
    assert grid is not None
    return replace(
        case,
        rows=replace(case.rows, lower=four(case.rows.lower), upper=four(case.rows.upper)),
        community=GivenCommunity(
            replace(people, **{n: four(getattr(people, n)) for n in PROFILE_FIELDS})
        ),
        grid=GridConnection(
            four(grid.import_price_per_kwh),
            four(grid.export_price_per_kwh),
            four(grid.import_limit_kw),
            four(grid.export_limit_kw),
            grid.size_weight,
        ),
        period_hours=case.period_hours / 4,
        reactive_load_kvar=four(case.reactive_load_kvar),
    )


def cleared(case: Case, options: ClearingOptions = TIGHT) -> ClearingResult:
    result = clear(case, options, local_exchange(case, options))
    assert result.status is ClearingStatus.CONVERGED
    return result


@pytest.fixture(scope="module")
def hourly() -> Case:
    """A day of batteries and a ring whose lines bind; gamma shows that constants count dt too."""
    case = small_case(n=15, n_periods=24, limit_kw=3.0)
    people = case.population
    paying = replace(people, gamma=np.where(people.alpha > 0, 0.02, 0.0))
    return replace(case, community=GivenCommunity(paying))


def test_length_of_period_does_not_matter(hourly: Case) -> None:
    """Prices and money of 96 quarter hours are those of 24 hours with the same data.

    Averaging a schedule over each hour keeps every limit and costs no more, so both have the same
    optimum; only the state of charge and the money depend on dt.
    """
    fine = in_quarter_hours(hourly)
    assert fine.n_periods == 96
    assert hourly.population.has_battery.any()
    optimum, fine_optimum = (solve_central(c, network_constrained=True) for c in (hourly, fine))
    assert fine_optimum.welfare == pytest.approx(optimum.welfare, rel=1e-7, abs=0)

    result, fine_result = cleared(hourly), cleared(fine)
    binding = np.abs(result.flow_kw) > 0.999 * hourly.network.limit_kw[:, None]
    assert binding.any()
    assert fine_result.welfare == pytest.approx(result.welfare, rel=1e-7, abs=0)
    for name, tolerance in (("lmp_per_kwh", 2e-5), ("p_bus_kw", 2e-3), ("flow_kw", 2e-3)):
        of_hours = np.repeat(getattr(result, name), 4, axis=1)
        np.testing.assert_allclose(getattr(fine_result, name), of_hours, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        fine_result.settlement_price_per_kwh,
        np.repeat(result.settlement_price_per_kwh, 4),
        rtol=1e-4,
        atol=1e-6,
    )
    for clearing, central in ((result, optimum), (fine_result, fine_optimum)):
        assert clearing.welfare == pytest.approx(central.welfare, rel=1e-5, abs=0)
        assert clearing.welfare <= central.welfare * (1 + 1e-8)
        assert clearing.bound is not None
        assert clearing.bound >= central.welfare * (1 - 1e-8)
        np.testing.assert_allclose(clearing.lmp_per_kwh, central.lmp_per_kwh, rtol=0, atol=2e-3)


def angle_flows(network: Network, shift: FloatArray, p_bus_kw: FloatArray) -> FloatArray:
    """DC flows from voltage angles, with a phase shift on each line [rad]."""
    lines = np.arange(network.n_lines)
    incidence = np.zeros((network.n_lines, network.n_buses))
    incidence[lines, network.from_bus], incidence[lines, network.to_bus] = 1.0, -1.0
    susceptance = network.base_kva / network.x_pu
    laplacian = incidence.T @ (susceptance[:, None] * incidence)
    injected = p_bus_kw + (incidence.T @ (susceptance * shift))[:, None]
    angles = np.linalg.lstsq(laplacian, injected, rcond=None)[0]
    return np.asarray(susceptance[:, None] * (incidence @ angles - shift[:, None]))


def with_shifter(case: Case, angle: float) -> tuple[Case, FloatArray]:
    """The case with a phase shifter on its third line, and the shifts of all lines."""
    network, shift = case.network, np.zeros(case.network.n_lines)
    shift[2] = angle
    at_rest = angle_flows(network, shift, np.zeros((network.n_buses, 1)))[:, 0]
    shifted = replace(network, flow_offset_kw=at_rest)
    rows = line_rows(shifted, PtdfFactor(shifted), case.n_periods)
    return replace(case, network=shifted, rows=rows), shift


@pytest.mark.parametrize("angle", [-2e-4, 2e-4])
def test_phase_shifter(hourly: Case, angle: float) -> None:
    case, shift = with_shifter(hourly, angle)
    assert np.abs(case.network.flow_offset_kw).min() > 1.0
    result, central = cleared(case), solve_central(case, network_constrained=True)
    np.testing.assert_allclose(
        result.flow_kw, angle_flows(case.network, shift, result.p_bus_kw), rtol=0, atol=1e-8
    )
    limit = case.network.limit_kw[:, None]
    assert (np.abs(result.flow_kw) <= limit * (1 + 1e-6)).all()
    assert (np.abs(result.flow_kw) > limit * (1 - 1e-6)).any()
    assert result.welfare == pytest.approx(central.welfare, rel=1e-5, abs=0)
    assert result.bound is not None
    assert result.bound >= central.welfare * (1 - 1e-8)
    np.testing.assert_allclose(result.lmp_per_kwh, central.lmp_per_kwh, rtol=0, atol=2e-3)
    without = solve_central(hourly, network_constrained=True).welfare
    assert abs(central.welfare - without) > 1e-4 * without
