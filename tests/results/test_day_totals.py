"""Days together: sums, largest values, the worst status, and nothing made up."""

from dataclasses import replace

import pytest

from raygrid.results.day_totals import (
    DaySummary,
    total_central,
    total_clearing,
    total_communication,
    total_powerflow,
)
from raygrid.results.summary import CentralSummary, ClearingSummary

ONE = ClearingSummary(
    status="converged", iterations=30, primal_residual=0.5, dual_residual=0.1,
    primal_tolerance=1.0, dual_tolerance=0.2, welfare=4.0, energy_traded_kwh=10.0,
    grid_import_kwh=3.0, max_line_utilisation=0.7, network_constrained=True, line_violations=1,
    max_balance_error_kw=1e-9, settlement_price_surplus=0.0,
    settlement_price_tariff_difference=None, locational_price_surplus=0.3,
    locational_price_tariff_difference=None, seconds=0.4,
)  # fmt: skip
TWO = replace(
    ONE, iterations=50, primal_residual=0.9, dual_residual=0.05, welfare=-1.0,
    max_line_utilisation=1.0, line_violations=0,
)  # fmt: skip


def days(*clearings, **more):
    return [DaySummary(k, f"2016-03-{k + 1:02d}", one, **more) for k, one in enumerate(clearings)]


def test_sums_largest_values_and_the_worst_residuals():
    total = total_clearing(days(ONE, TWO))
    assert (total.status, total.iterations, total.welfare) == ("converged", 80, 3.0)
    assert (total.energy_traded_kwh, total.grid_import_kwh, total.seconds) == (20.0, 6.0, 0.8)
    assert (total.max_line_utilisation, total.line_violations) == (1.0, 1)
    assert (total.primal_residual, total.dual_residual) == (0.9, 0.05)
    assert total.locational_price_surplus == pytest.approx(0.6)
    assert total.settlement_price_tariff_difference is None


def test_one_day_is_itself():
    assert total_clearing(days(TWO)) is TWO


def test_a_day_that_failed_is_the_run_s_status_and_leaves_no_sum():
    failed = replace(
        ONE, status="infeasible", energy_traded_kwh=None, primal_residual=None, welfare=float("nan")
    )
    total = total_clearing(days(ONE, failed))
    assert total.status == "infeasible"
    assert total.energy_traded_kwh is None
    assert total.welfare != total.welfare
    assert total.primal_residual == 0.5


def test_the_gap_is_that_of_the_sums_and_only_of_all_days():
    known = days(ONE, TWO, central=CentralSummary(4.5, 0.1, 2.0))
    central = total_central(known)
    assert (central.welfare, central.seconds) == (9.0, 4.0)
    assert central.gap == pytest.approx(abs(3.0 - 9.0) / 9.0)
    assert total_central([known[0], replace(known[1], central=None)]) is None


def test_load_flows_keep_the_extremes_and_add_the_counts():
    check = {"not_converged": 0, "min_voltage_pu": 0.97, "max_voltage_pu": 1.01,
             "voltage_violations": 1, "voltage_limits_pu": [0.95, 1.05], "max_loading": 0.8,
             "overloads": 2, "losses_kwh": 3.0}  # fmt: skip
    none = check | {"not_converged": 24, "min_voltage_pu": None, "max_voltage_pu": None,
                    "max_loading": None}  # fmt: skip
    both = [replace(day, powerflow=one) for day, one in zip(days(ONE, TWO), (check, none),
                                                            strict=True)]  # fmt: skip
    total = total_powerflow(both)
    assert (total["not_converged"], total["voltage_violations"], total["overloads"]) == (24, 2, 4)
    assert (total["min_voltage_pu"], total["max_voltage_pu"], total["losses_kwh"]) == (
        0.97,
        1.01,
        6.0,
    )
    assert total["voltage_limits_pu"] == [0.95, 1.05]
    assert total_powerflow([both[0], days(ONE, TWO)[1]]) is None


def test_links_are_as_they_are_and_their_traffic_adds_up():
    sent = {"rate_bits_per_s": 1e6, "utilisation": None, "messages": 7, "cost": None, "bits": 2.0}
    total = total_communication(days(ONE, TWO, communication=sent))
    assert total == sent | {"messages": 14, "bits": 4.0}
    assert total_communication(days(ONE, TWO)) is None
