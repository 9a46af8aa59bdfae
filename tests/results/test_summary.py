"""Figures of a clearing."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.market.channel import Channel, NoisyLink, Staleness
from raygrid.market.staleness import Traffic
from raygrid.results.summary import (
    central_summary,
    clearing_summary,
    communication_summary,
    line_utilisation,
)


def test_figures_of_a_clearing(case_and_dispatch, result_of):
    case, dispatch = case_and_dispatch
    result = result_of(case, dispatch)
    got = clearing_summary(case, result, True, 5.5)
    assert (got.status, got.iterations, got.energy_traded_kwh) == ("converged", 18, 5.5)
    np.testing.assert_allclose(got.max_line_utilisation, 1.0, rtol=1e-9)
    assert got.line_violations == 0
    assert got.max_balance_error_kw < 1e-9
    imported = np.maximum(result.grid_kw, 0).sum() * case.period_hours
    np.testing.assert_allclose(got.grid_import_kwh, imported, rtol=1e-12, atol=0)
    assert got.primal_residual == result.records[-1].primal_residual


def test_overloads_are_counted_by_line_and_period(case_and_dispatch, result_of):
    case, dispatch = case_and_dispatch
    result = result_of(case, dispatch)
    flow = np.zeros_like(result.flow_kw)
    flow[0, :2] = -1.5 * case.network.limit_kw[0]
    got = clearing_summary(case, replace(result, flow_kw=flow), False, 0.0)
    np.testing.assert_allclose(got.max_line_utilisation, 1.5, rtol=1e-12)
    assert got.line_violations == 2


def test_no_round_has_no_residuals(case_and_dispatch, result_of):
    case, dispatch = case_and_dispatch
    got = clearing_summary(case, replace(result_of(case, dispatch), records=()), True, 0.0)
    assert got.iterations == 0
    assert got.primal_residual is None


def test_money_of_both_prices_by_hand(case_and_dispatch, result_of):
    case, dispatch = case_and_dispatch
    result = result_of(case, dispatch)
    p = np.zeros_like(result.p_bus_kw)
    p[0, 0], p[1, 0] = 2.0, -2.0
    p[0, 1], p[2, 1] = -3.0, 3.0
    lmp = np.zeros_like(result.lmp_per_kwh)
    lmp[0, :2], lmp[1, 0], lmp[2, 1] = [0.2, 0.3], 0.5, 0.1
    tariff = np.full(case.n_periods, 0.4)
    grid = replace(case.grid, import_price_per_kwh=tariff, export_price_per_kwh=tariff / 4)
    case = replace(case, grid=grid)
    result = replace(
        result, p_bus_kw=p, grid_kw=p[0], lmp_per_kwh=lmp,
        settlement_price_per_kwh=np.full(case.n_periods, 0.25),
    )  # fmt: skip
    got, dt = clearing_summary(case, result, True, 0.0), case.period_hours
    # Buyers at 0.5 and 0.3, sellers at 0.2 and 0.1; 2 kW imported at 0.4, 3 kW exported at 0.1.
    expected = {
        "settlement_price_surplus": 0.0,
        "settlement_price_tariff_difference": dt * ((0.25 - 0.4) * 2 - (0.25 - 0.1) * 3),
        "locational_price_surplus": dt * ((0.5 - 0.2) * 2 + (0.3 - 0.1) * 3),
        "locational_price_tariff_difference": dt * ((0.2 - 0.4) * 2 - (0.3 - 0.1) * 3),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(got, name), value, rtol=1e-12, atol=1e-12)


def test_no_tariff_no_difference(case_and_dispatch, result_of):
    case, dispatch = case_and_dispatch
    result = result_of(case, dispatch)
    for grid in (None, replace(case.grid, import_is_penalty=True)):
        got = clearing_summary(replace(case, grid=grid), result, True, 0.0)
        assert got.settlement_price_tariff_difference is None
        assert got.locational_price_tariff_difference is None
        assert got.locational_price_surplus is not None
    got = clearing_summary(case, replace(result, welfare=float("nan")), True, 0.0)
    assert got.settlement_price_surplus is None
    assert got.locational_price_tariff_difference is None


def test_utilisation_without_a_limit_and_with_a_limit_of_zero():
    got = line_utilisation(np.array([5.0, 0.0, 1.0, -2.0]), np.array([np.inf, 0.0, 0.0, 4.0]))
    np.testing.assert_array_equal(got, [0.0, 0.0, np.inf, 0.5])


@pytest.mark.parametrize(
    ("ours", "central", "gap"), [(9.9, 10, 0.01), (-11, -10, 0.1), (1, 0, None)]
)
def test_gap_is_relative_to_the_central_welfare(ours, central, gap):
    got = central_summary(ours, central, 0.5).gap
    assert got == (gap if gap is None else pytest.approx(gap, rel=1e-9))


def test_modelled_links_in_figures():
    link = NoisyLink(1e6, 2.0, 5e5, 4e6, 4.0, 0.5, 1.0)
    traffic = Traffic(messages=10, lost=1, late=2, bits=800.0, seconds=3.0, cost=0.5)
    channel = Channel(rate_bits_per_s=link.rate_bits_per_s)
    got = communication_summary(traffic, Staleness(channel, 1.0, link=link))
    assert list(got) == [
        "rate_bits_per_s", "utilisation", "messages", "lost", "late", "bits", "seconds",
        "waited_rounds", "cost",
    ]  # fmt: skip
    assert got["rate_bits_per_s"] == pytest.approx(1e6, rel=1e-12)
    assert got["utilisation"] == pytest.approx(0.375, rel=1e-12)
    assert (got["messages"], got["seconds"], got["cost"]) == (10, 3.0, 0.5)
    plain = communication_summary(Traffic(), Staleness(Channel(), 1.0))
    assert (plain["rate_bits_per_s"], plain["utilisation"], plain["cost"]) == (None, None, None)
