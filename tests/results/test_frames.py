"""Tables from the arrays of a clearing."""

import numpy as np

from raygrid import schemas
from raygrid.prosumer.population import GRID_ID
from raygrid.results import frames


def test_schedule_rows_name_prosumer_bus_and_period(case_and_dispatch):
    case, dispatch = case_and_dispatch
    table = frames.schedule_table(case.population, case.network.bus_id, dispatch, first_period=24)
    assert table.schema == schemas.SCHEDULE
    assert table.num_rows == 6 * 4
    row = table.slice(4 * 4 + 2, 1).to_pylist()[0]
    assert row["prosumer_id"] == case.population.prosumer_id[4]
    assert row["bus"] == case.network.bus_id[case.population.bus[4]]
    assert row["period"] == 26
    for name in ("p_kw", "generation_kw", "demand_kw", "charge_kw", "discharge_kw", "soc_kwh"):
        assert row[name] == getattr(dispatch, name)[4, 2], name


def test_schedule_keeps_the_balance_of_the_design(case_and_dispatch):
    case, dispatch = case_and_dispatch
    table = frames.schedule_table(case.population, case.network.bus_id, dispatch)
    column = {name: table[name].to_numpy() for name in table.column_names}
    p = (
        column["generation_kw"] - column["demand_kw"] - case.population.fixed_load_kw.ravel()
        + column["discharge_kw"] - column["charge_kw"] - column["ev_kw"] - column["shifted_kw"]
    )  # fmt: skip
    np.testing.assert_allclose(column["p_kw"], p, rtol=0, atol=1e-12)


def test_the_grid_generates_imports_and_demands_exports():
    table = frames.grid_schedule_table(np.array([2.0, -3.0]), slack_bus=7)
    assert table.schema == schemas.SCHEDULE
    assert table.select(
        ["prosumer_id", "bus", "p_kw", "generation_kw", "demand_kw"]
    ).to_pylist() == [
        {"prosumer_id": GRID_ID, "bus": 7, "p_kw": 2.0, "generation_kw": 2.0, "demand_kw": 0.0},
        {"prosumer_id": GRID_ID, "bus": 7, "p_kw": -3.0, "generation_kw": 0.0, "demand_kw": 3.0},
    ]


def test_flows_prices_and_convergence_use_outside_numbers(case_and_dispatch, result_of):
    case, dispatch = case_and_dispatch
    result = result_of(case, dispatch)
    flows = frames.flows_table(case.network, result)
    assert flows.schema == schemas.FLOWS
    row = flows.slice(4 * 1 + 3, 1).to_pylist()[0]
    assert row == {
        "line": case.network.line_id[1],
        "period": 3,
        "flow_kw": result.flow_kw[1, 3],
        "limit_kw": case.network.limit_kw[1],
    }
    prices = frames.prices_table(case.network, result)
    assert prices.schema == schemas.PRICES
    row = prices.slice(4 * 2 + 1, 1).to_pylist()[0]
    assert row == {
        "bus": case.network.bus_id[2],
        "period": 1,
        "lmp_per_kwh": result.lmp_per_kwh[2, 1],
        "settlement_price_per_kwh": result.settlement_price_per_kwh[1],
    }
    convergence = frames.convergence_table(result.records)
    assert convergence.schema == schemas.CONVERGENCE
    assert convergence.num_rows == result.iterations


def test_no_iterations_make_an_empty_table():
    assert frames.convergence_table([]).num_rows == 0
