"""The multi-period final schedule: batteries that must move, against CVXPY, limits exact."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from raygrid.arrays import FloatArray
from raygrid.grid.network import NetworkRows
from raygrid.market import battery_schedule as module
from raygrid.market.battery_schedule import (
    Batteries,
    BatterySchedule,
    apply_batteries,
    battery_schedule,
)
from raygrid.market.final_schedule import FinalStatus
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import Population

HOURS = 0.5
WEIGHT = np.array([9.0, 2.0, 2.0])


def population(n_periods: int) -> Population:
    """Two batteries behind the line to buses 1 and 2, and one plain load."""
    return replace(
        Population.empty(3, n_periods),
        prosumer_id=np.array([7, 4, 9]),
        bus=np.array([1, 2, 2]),
        soc_max_kwh=np.array([4.0, 6.0, 0.0]),
        soc_initial_kwh=np.array([2.0, 3.0, 0.0]),
        soc_final_min_kwh=np.array([2.0, 1.0, 0.0]),
        charge_max_kw=np.array([2.0, 2.0, 0.0]),
        discharge_max_kw=np.array([2.0, 3.0, 0.0]),
        eta_charge=np.array([0.95, 0.9, 1.0]),
        eta_discharge=np.array([0.9, 0.95, 1.0]),
        fixed_load_kw=np.tile([[0.3], [0.4], [0.5]], (1, n_periods)),
    )


def make_case(
    seed: int, n_periods: int = 6
) -> tuple[Population, Dispatch, FloatArray, NetworkRows, FloatArray]:
    """A feasible schedule, then batteries and loads pushed off it so that a line is over."""
    rng = np.random.default_rng(seed)
    people = population(n_periods)
    charge = np.zeros((3, n_periods))
    discharge = np.zeros((3, n_periods))
    turn = rng.permutation(n_periods) < n_periods // 2
    charge[:2] = np.where(turn, rng.uniform(0.1, 0.5, (2, n_periods)), 0.0)
    discharge[:2] = np.where(turn, 0.0, rng.uniform(0.02, 0.2, (2, n_periods)))
    zeros = np.zeros_like(charge)
    p = -people.fixed_load_kw + discharge - charge
    feasible = np.zeros((3, n_periods))
    np.add.at(feasible, people.bus, p)
    matrix = np.array([[0.0, -1.0, -1.0], [0.0, 0.0, -1.0]])
    limit = np.abs(matrix @ feasible) + 0.01
    discharge = np.maximum(discharge - 0.05, 0.0)
    charge[:2] = np.where(charge[:2] > 0, charge[:2] + 0.03, 0.0)
    p = -people.fixed_load_kw + discharge - charge
    p_bus = np.zeros((3, n_periods))
    np.add.at(p_bus, people.bus, p)
    p_bus[0] = -p_bus.sum(axis=0) + 0.01
    gain = people.eta_charge[:, None] * charge - discharge / people.eta_discharge[:, None]
    soc = people.soc_initial_kwh[:, None] + HOURS * np.cumsum(gain, axis=1)
    dispatch = Dispatch(p, zeros, zeros, charge, discharge, soc, zeros)
    rows = NetworkRows(matrix, -limit, limit, np.full(2, "line"), np.arange(2))
    room = np.zeros((3, n_periods))
    room[0] = 20.0
    return people, dispatch, p_bus, rows, room


def solve(seed: int) -> tuple[BatterySchedule, Batteries, FloatArray, NetworkRows, FloatArray]:
    people, dispatch, p_bus, rows, room = make_case(seed)
    batteries = Batteries.of(people, dispatch)
    result = battery_schedule(p_bus, room, room, WEIGHT, rows, batteries, HOURS)
    return result, batteries, p_bus, rows, room


def oracle(batteries: Batteries, p_bus: FloatArray, rows: NetworkRows, room: FloatArray) -> float:
    """Least cost by CVXPY with the same sides."""
    import cvxpy as cp

    n_periods = p_bus.shape[1]
    delta = cp.Variable(p_bus.shape)
    c, d = cp.Variable((2, n_periods)), cp.Variable((2, n_periods))
    before = batteries.discharge_kw - batteries.charge_kw
    cost = cp.sum(cp.multiply(delta**2, 1 / WEIGHT[:, None])) + cp.sum_squares(d - c - before)
    discharging = batteries.discharge_kw > 0
    idle = (batteries.discharge_kw == 0) & (batteries.charge_kw == 0)
    spread = np.zeros((3, 2))
    spread[batteries.bus, [0, 1]] = 1.0
    injection = p_bus + delta + spread @ (d - c - before)
    gain = HOURS * (
        cp.multiply(batteries.eta_charge[:, None], c)
        - cp.multiply(1 / batteries.eta_discharge[:, None], d)
    )
    soc = batteries.soc_initial_kwh[:, None] + cp.cumsum(gain, axis=1)
    constraints = [
        delta <= room, delta >= -room, cp.sum(injection, axis=0) == 0,
        rows.matrix @ injection <= rows.upper, rows.matrix @ injection >= rows.lower,
        c >= 0, c <= np.where(discharging | idle, 0.0, batteries.charge_max_kw[:, None]),
        d >= 0, d <= np.where(discharging | idle, batteries.discharge_max_kw[:, None], 0.0),
        soc >= batteries.soc_min_kwh[:, None], soc <= batteries.soc_max_kwh[:, None],
        soc[:, -1] >= batteries.soc_final_min_kwh,
    ]  # fmt: skip
    problem = cp.Problem(cp.Minimize(cost), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.solve(solver="CLARABEL")
    assert problem.status == "optimal"
    return float(problem.value)


@pytest.mark.parametrize("seed", range(12))
def test_least_move_by_cvxpy_and_exact_limits(seed: int) -> None:
    result, batteries, p_bus, rows, room = solve(seed)
    assert result.final.status is FinalStatus.OK
    moved = result.batteries
    final = p_bus + result.battery_delta_kw + result.final.delta_kw
    np.testing.assert_allclose(final.sum(axis=0), 0.0, atol=1e-9)
    assert (np.abs(rows.matrix @ final) <= rows.upper * (1 + 1e-6)).all()
    for power, most in (
        (moved.charge_kw, moved.charge_max_kw),
        (moved.discharge_kw, moved.discharge_max_kw),
    ):
        assert (power >= 0).all()
        assert (power <= most[:, None]).all()
    assert (result.soc_kwh >= moved.soc_min_kwh[:, None]).all()
    assert (result.soc_kwh <= moved.soc_max_kwh[:, None]).all()
    assert (result.soc_kwh[:, -1] >= moved.soc_final_min_kwh).all()
    gain = moved.eta_charge[:, None] * moved.charge_kw
    gain = gain - moved.discharge_kw / moved.eta_discharge[:, None]
    soc = moved.soc_initial_kwh[:, None] + HOURS * np.cumsum(gain, axis=1)
    np.testing.assert_allclose(soc, result.soc_kwh, rtol=0, atol=1e-9)
    assert (moved.charge_kw * moved.discharge_kw == 0).all()
    change = moved.discharge_kw - moved.charge_kw
    change = change - (batteries.discharge_kw - batteries.charge_kw)
    cost = float(np.sum(change**2) + np.sum(result.final.delta_kw**2 / WEIGHT[:, None]))
    np.testing.assert_allclose(cost, oracle(batteries, p_bus, rows, room), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [-1e6, 1e6])
def test_limits_that_join_late_count_like_those_from_the_start(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = solve(2)[0].batteries
    monkeypatch.setattr(module, "_NEAR", share)  # none, or all, from the start
    other = solve(2)[0].batteries
    np.testing.assert_allclose(other.charge_kw, usual.charge_kw, atol=1e-3)
    np.testing.assert_allclose(other.discharge_kw, usual.discharge_kw, atol=1e-3)


def test_batteries_rest_where_headroom_is_enough() -> None:
    people, dispatch, p_bus, rows, _ = make_case(0)
    batteries = Batteries.of(people, dispatch)
    room = np.full_like(p_bus, 20.0)
    result = battery_schedule(p_bus, room, room, WEIGHT, rows, batteries, HOURS)
    assert result.final.status is FinalStatus.OK
    assert (result.battery_delta_kw == 0).all()


def test_what_batteries_cannot_mend_stays_infeasible() -> None:
    people, dispatch, p_bus, rows, room = make_case(0)
    tight = replace(rows, lower=rows.lower * 1e-3, upper=rows.upper * 1e-3)
    batteries = Batteries.of(people, dispatch)
    result = battery_schedule(p_bus, room, room, WEIGHT, tight, batteries, HOURS)
    assert result.final.status is FinalStatus.INFEASIBLE
    assert result.final.faults[0].rows
    assert np.array_equal(result.batteries.charge_kw, batteries.charge_kw)


def test_applied_to_the_hosts_own_prosumers() -> None:
    people, dispatch, *_ = make_case(3)
    result, *_ = solve(3)
    whole = apply_batteries(people, dispatch, result.batteries, result.soc_kwh)
    change = np.zeros_like(result.battery_delta_kw)
    np.add.at(change, people.bus, whole.p_kw - dispatch.p_kw)
    np.testing.assert_allclose(change, result.battery_delta_kw, rtol=0, atol=1e-12)
    part = slice(1, 3)
    share = dispatch.take(part)
    alone = apply_batteries(people.take(part), share, result.batteries, result.soc_kwh)
    assert np.array_equal(alone.p_kw, whole.p_kw[part])
    assert np.array_equal(alone.soc_kwh, whole.soc_kwh[part])


def test_gathering_does_not_depend_on_hosts() -> None:
    people, dispatch, *_ = make_case(1)
    whole = Batteries.of(people, dispatch)
    parts = [
        Batteries.of(
            people.take(part),
            dispatch.take(part),
        )
        for part in (slice(2, 3), slice(1, 2), slice(0, 1))
    ]
    for count in (1, 2, 9):
        assert np.array_equal(
            Batteries.gather(parts, count).prosumer_id,
            Batteries.gather([whole], count).prosumer_id,
        )
    assert Batteries.gather(parts, 1).prosumer_id.tolist() == [4]
