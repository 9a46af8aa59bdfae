"""The perfect-foresight optimum against CVXPY, by duality, and against all who know less."""

from __future__ import annotations

import numpy as np
import pytest

from raygrid.errors import EndedShortError
from raygrid.learning.evaluate import Idle, evaluate, unmanaged
from raygrid.learning.market_days import LearningScenario, learning_scenario
from raygrid.learning.policy import Bidder
from raygrid.market import foresight
from raygrid.market.feeder_limits import no_limits
from raygrid.market.foresight import perfect_foresight
from raygrid.market.intraday import IntradayMarket
from raygrid.market.units import Units, make_feed

SETTINGS = (
    "history.train_days=2",
    "history.validation_days=1",
    "history.test_days=1",
    "population.evs={share: 0.4, v2g_share: 0.5}",
    "population.shiftable={share: 1.0}",
)


@pytest.fixture(scope="module")
def found() -> LearningScenario:
    return learning_scenario("ai_tem", settings=SETTINGS, agents=8)


def by_cvxpy(market: IntradayMarket, first: int, n_periods: int) -> float:
    """The same problem stated store by store, solved by another solver."""
    import cvxpy as cp

    units, feed, hours = market.units, market.feed, market.feed.period_hours
    market.reset(np.array([first]))
    energy_at_start = market.energy_kwh[0]
    k = np.arange(first, first + n_periods)
    net = (feed.load_kw[k] - feed.pv_kw[k]).sum(axis=1)
    wear, constraints = 0.0, []
    for i in range(len(units)):
        for slot in range(3):
            most = feed.charge_max_kw[k, i, slot], feed.discharge_max_kw[k, i, slot]
            charge, discharge = cp.Variable(n_periods), cp.Variable(n_periods)
            used = feed.used_kwh[k, i, slot].copy()
            used[0] = 0.0  # taken off by the reset
            gain = units.eta_charge[i, slot] * charge - discharge / units.eta_discharge[i, slot]
            energy = energy_at_start[i, slot] + cp.cumsum(hours * gain - used)
            floor = np.maximum(feed.floor_kwh[k, i, slot], units.min_kwh[i, slot])
            constraints += [
                charge >= 0, discharge >= 0, charge <= most[0], discharge <= most[1],
                energy >= floor, energy <= units.max_kwh[i, slot],
            ]  # fmt: skip
            net = net + charge - discharge
            wear = wear + units.cycle_cost_per_kwh[i, slot] * hours * cp.sum(charge + discharge)
    buy, sell = feed.import_price_per_kwh[k], feed.export_price_per_kwh[k]
    bill = hours * ((buy - sell) @ cp.pos(net) + sell @ net)
    problem = cp.Problem(cp.Minimize(bill + wear), constraints)
    return float(problem.solve(solver="CLARABEL"))


def test_a_day_has_the_optimum_of_cvxpy(found: LearningScenario) -> None:
    market = found.days.market
    theirs, ours = by_cvxpy(market, 96, 96), perfect_foresight(market, 96, 96)
    assert ours.value == pytest.approx(theirs, rel=1e-6)
    assert ours.bound == pytest.approx(theirs, rel=1e-6)
    assert ours.bound <= ours.value + 1e-9
    assert ours.cost.sum() == pytest.approx(ours.value, rel=1e-9)
    assert 0 < ours.wear.sum() < ours.value


def test_any_multipliers_give_a_bound(found: LearningScenario) -> None:
    """Weak duality: random prices never reach beyond the optimum."""
    market = found.days.market
    program = foresight._program(market, 0, 96)
    best = perfect_foresight(market, 0, 96).value
    random = np.random.default_rng(5)
    for scale in (0.0, 0.05, 0.3, 2.0):
        multiplier = scale * random.normal(size=len(program.right))
        assert foresight.dual_bound(program, multiplier) <= best + 1e-9


def test_nobody_beats_it(found: LearningScenario) -> None:
    market, days = found.days.market, np.arange(4)
    worth = found.days.worth
    best = perfect_foresight(market, 0, 4 * 96)
    alone = unmanaged(market)
    for figures in (
        evaluate(market, Bidder(market), days, worth),
        evaluate(alone, Idle(alone), days, worth),
    ):
        assert (figures.cost + figures.stored).sum() > best.bound


def one_battery(needed_kwh: float = 0.0) -> IntradayMarket:
    """One home with a lossless battery of 4 kWh, two periods: 2 kW of PV, then 2 kW of load."""

    def only(value: float) -> np.ndarray:
        return np.array([[value, 0.0, 0.0]])

    units = Units(
        np.array([1]), np.array([1]), np.array([0]), only(0.0), only(4.0), only(0.0),
        np.ones((1, 3)), np.ones((1, 3)), only(0.01),
    )  # fmt: skip
    power = np.array([1.5, 0.0, 0.0])
    feed = make_feed(
        units, period_hours=1.0, day_periods=2, load_kw=np.array([[0.0, 2.0]]),
        pv_kw=np.array([[2.0, 0.0]]), import_price_per_kwh=np.array([0.3, 0.3]),
        export_price_per_kwh=np.array([0.1, 0.1]), charge_max_kw=power, discharge_max_kw=power,
        needed_kwh=np.array([0.0, needed_kwh])[:, None, None] * np.array([1.0, 0.0, 0.0]),
    )  # fmt: skip
    return IntradayMarket(units, feed, no_limits(1))


def test_a_battery_by_hand() -> None:
    """1.5 kWh wait for the evening: 0.5 kWh are sold, 0.5 bought, and 3 kWh wear by 0.01."""
    found = perfect_foresight(one_battery(), 0, 2)
    assert found.value == pytest.approx(0.5 * 0.3 - 0.5 * 0.1 + 3 * 0.01)
    np.testing.assert_allclose(found.import_kwh, [0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.export_kwh, [0.5, 0.0], atol=1e-6)


def test_what_is_needed_later_stays_stored() -> None:
    """3 kWh at the end: both periods charge in full, the second from the grid."""
    found = perfect_foresight(one_battery(3.0), 0, 2)
    np.testing.assert_allclose(found.import_kwh, [0.0, 3.5], atol=1e-6)


def test_a_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import scipy.optimize

    failed = SimpleNamespace(x=None, message="no luck")
    monkeypatch.setattr(scipy.optimize, "linprog", lambda *_, **__: failed)
    with pytest.raises(EndedShortError, match="not found: no luck"):
        perfect_foresight(one_battery(), 0, 2)
