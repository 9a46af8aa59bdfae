"""Whether a case can be cleared at all, and if not, which periods and limits stand against it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy.sparse as sp

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import RaygridError
from raygrid.grid.tree_rows import LimitRows
from raygrid.market.final_schedule import FinalStatus, final_schedule
from raygrid.market.headroom import UNLIMITED_KW
from raygrid.prosumer.limits import bus_ranges
from raygrid.prosumer.storage import Storage, all_storage
from raygrid.scenario.case import Case

MAX_BATTERY_PERIODS = 100_000
"""Batteries times periods up to which their states of charge enter the check."""

_RELATIVE = 1e-6
"""Shortfalls below this part of the limit, or of the period's power, are none."""
_BALANCE_WEIGHT = 100.0
"""A kW off balance against a kW over a line: limits give way first, so that balance is blamed
only where no flow would mend it."""


class FeasibilityStatus(StrEnum):
    """What the check found."""

    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    NOT_EXCLUDED = "not_excluded"
    """No period stands against it alone; states of charge were not looked at, for size."""


@dataclass(frozen=True)
class Shortfall:
    """One limit of one period that cannot be kept.

    Attributes
    ----------
    period : int
        Position of the period.
    row : int or None
        Position in `Case.rows`; None for the balance.
    excess : float
        By how much it is missed at best, in the row's unit or kW; for the balance positive where
        loads cannot be supplied, negative where generation cannot be placed.
    text : str
        The same for people.
    """

    period: int
    row: int | None
    excess: float
    text: str


@dataclass(frozen=True)
class Feasibility:
    """Result of `check_feasible`.

    Attributes
    ----------
    status : FeasibilityStatus
        What was found.
    shortfalls : tuple of Shortfall
        In order of period; empty unless infeasible.
    """

    status: FeasibilityStatus
    shortfalls: tuple[Shortfall, ...] = ()

    def reason(self, most: int = 3) -> str:
        """The worst-numbered first shortfalls in one line; empty where there is none."""
        texts = [shortfall.text for shortfall in self.shortfalls]
        rest = len(texts) - most
        return "; ".join(texts[:most]) + (f"; and {rest} more" if rest > 0 else "")


def check_feasible(case: Case, *, network_constrained: bool = True) -> Feasibility:
    """Find the least violation of balance and limits that any schedule needs.

    Most cases are feasible with idle batteries, which the final schedule's projection shows at
    once. For the others, a linear program over bus injections and batteries in which balance and
    limits may be violated at a price: they are feasible if and only if the least price is zero.
    Without storage each period stands alone; with more than `MAX_BATTERY_PERIODS` of it all
    is taken at full power in every period, which is necessary but not sufficient.

    Parameters
    ----------
    case : Case
        The market.
    network_constrained : bool
        Whether `case.rows` count.

    Returns
    -------
    Feasibility
        Status and shortfalls.

    Raises
    ------
    RaygridError
        If batteries cannot keep their own bounds, or the solver fails.
    """
    people = case.population
    storage = all_storage(people, case.period_hours)
    if _feasible_with_idle_batteries(case, network_constrained):
        return Feasibility(FeasibilityStatus.FEASIBLE)
    exact = len(storage) * case.n_periods <= MAX_BATTERY_PERIODS
    network = case.network
    low, high = bus_ranges(people, case.grid, network.n_buses, network.slack, idle_batteries=exact)
    moving = storage if exact and len(storage) else None
    periods = np.arange(case.n_periods)
    # Only storage ties periods together.
    groups = [periods] if moving is not None else [periods[t : t + 1] for t in periods]
    shortfalls: list[Shortfall] = []
    for group in groups:
        shortfalls += _shortfalls(case, group, low, high, moving, network_constrained)
    if shortfalls:
        return Feasibility(FeasibilityStatus.INFEASIBLE, tuple(shortfalls))
    return Feasibility(FeasibilityStatus.FEASIBLE if exact else FeasibilityStatus.NOT_EXCLUDED)


def _feasible_with_idle_batteries(case: Case, network_constrained: bool) -> bool:
    """Whether every period can be met with batteries that do nothing; sufficient only."""
    people = case.population
    if len(people.stores) or (people.soc_initial_kwh < people.soc_final_min_kwh).any():
        return False
    n_buses, slack = case.network.n_buses, case.network.slack
    low, high = (
        np.clip(a, -UNLIMITED_KW, UNLIMITED_KW)
        for a in bus_ranges(people, case.grid, n_buses, slack, idle_batteries=True)
    )
    start = np.clip(0.0, low, high)
    rows = case.rows
    if not network_constrained:
        rows = rows.with_bounds(np.full_like(rows.lower, -np.inf), np.full_like(rows.upper, np.inf))
    result = final_schedule(start, high - start, start - low, np.ones(len(low)), rows)
    return result.status is FinalStatus.OK


def _shortfalls(
    case: Case,
    periods: IntArray,
    low: FloatArray,
    high: FloatArray,
    storage: Storage | None,
    network_constrained: bool,
) -> list[Shortfall]:
    """The least violations of some periods, by HiGHS."""
    from scipy.optimize import linprog

    rows = case.rows
    n_buses, n = len(low), len(periods)
    n_rows = rows.n_rows if network_constrained else 0
    k = 0 if storage is None else len(storage)
    eye = sp.eye_array(n, format="csr")
    unit = rows.sizes()[:n_rows]
    unit = np.where(unit > 0, unit, 1.0)

    # Columns, periods innermost: bus injections, charge, discharge, state of charge, missing
    # supply, missing demand, violation of each row.
    widths = np.array([n_buses, k, k, k, 1, 1, n_rows]) * n
    inject, charge, discharge, soc, lack, spill, over = (
        slice(stop - width, stop)
        for stop, width in zip(np.cumsum(widths).tolist(), widths.tolist(), strict=True)
    )
    total = int(widths.sum())
    columns = sp.eye_array(total, format="csr")
    bus = np.zeros(0, np.int64) if storage is None else case.population.bus[storage.owner]
    at_bus = sp.csr_array((np.ones(k), (bus, np.arange(k))), shape=(n_buses, k))
    net = columns[discharge] - columns[charge]
    injection = columns[inject] + sp.kron(at_bus, eye, format="csr") @ net
    balance = sp.kron(np.ones((1, n_buses)), eye, format="csr") @ injection
    equal = [balance + columns[lack] - columns[spill]]
    equal_to = [np.zeros(n)]
    least, most = np.zeros(total), np.full(total, np.inf)
    if storage is not None:
        before = sp.kron(sp.eye_array(k), sp.eye_array(n, k=-1), format="csr") @ columns[soc]
        gain = sp.diags_array(np.repeat(case.period_hours * storage.eta_charge, n))
        drain = sp.diags_array(np.repeat(case.period_hours / storage.eta_discharge, n))
        equal.append(
            columns[soc] - before - gain @ columns[charge] + drain @ columns[discharge]  # (3-11)
        )
        start = -storage.used_kwh
        start[:, 0] += storage.initial_kwh
        equal_to.append(start.ravel())
        most[charge] = storage.charge_max_kw.ravel()
        most[discharge] = storage.discharge_max_kw.ravel()
        least[soc], most[soc] = storage.floor_kwh.ravel(), storage.ceiling_kwh.ravel()
    flow = sp.kron(rows.sparse()[:n_rows], eye, format="csr") @ injection
    upper, lower = rows.upper[:n_rows, periods].ravel(), rows.lower[:n_rows, periods].ravel()
    has_upper, has_lower = np.isfinite(upper), np.isfinite(lower)
    limit = sp.vstack(
        [(flow - columns[over])[has_upper], (-flow - columns[over])[has_lower]], format="csr"
    )
    limit_at = np.concatenate([upper[has_upper], -lower[has_lower]])

    least[inject], most[inject] = low[:, periods].ravel(), high[:, periods].ravel()
    price = np.zeros(total)
    price[lack] = price[spill] = _BALANCE_WEIGHT
    price[over] = np.repeat(1.0 / unit, n)
    solution = linprog(
        price,
        A_ub=limit if limit.shape[0] else None,
        b_ub=limit_at if limit.shape[0] else None,
        A_eq=sp.vstack(equal, format="csr"),
        b_eq=np.concatenate(equal_to),
        bounds=np.column_stack([least, most]),
        method="highs",
    )
    if solution.status == 2:
        raise RaygridError("batteries cannot keep their bounds; check their charges and powers")
    if solution.status != 0:
        raise RaygridError(f"the feasibility check failed: {solution.message}")
    x = solution.x
    missing = x[lack] - x[spill]
    violation = x[over].reshape(n_rows, n)
    return _described(case, periods, missing, violation, unit, low, high)


def _described(
    case: Case,
    periods: IntArray,
    missing: FloatArray,
    violation: FloatArray,
    unit: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> list[Shortfall]:
    """Violations above rounding, in words."""
    found: list[Shortfall] = []
    for k, period in enumerate(periods.tolist()):
        ends = np.concatenate([low[:, period], high[:, period]])
        power = float(np.abs(ends[np.isfinite(ends)]).sum())
        if abs(missing[k]) > _RELATIVE * max(power, 1e-3):
            text = _balance_text(case, period, float(missing[k]))
            found.append(Shortfall(period, None, float(missing[k]), text))
        for row in range(len(violation)):
            excess = float(violation[row, k])
            bounds = np.array([case.rows.lower[row, period], case.rows.upper[row, period]])
            size = np.abs(bounds[np.isfinite(bounds)]).max(initial=0.0)
            if excess > _RELATIVE * max(size, power * float(unit[row]), 1e-9):
                text = f"period {period}: {_row_text(case, row, excess)}"
                found.append(Shortfall(period, row, excess, text))
    return found


def _balance_text(case: Case, period: int, missing: float) -> str:
    has_grid = case.grid is not None
    has_battery = bool(case.population.has_battery.any())
    if missing > 0:
        sources = ["generation", *(["batteries"] * has_battery), *(["import limit"] * has_grid)]
        what = f"fixed loads exceed {_listed(sources)} by {missing:.4g} kW"
    else:
        sinks = ["loads", *(["batteries"] * has_battery), *(["export limit"] * has_grid)]
        what = f"least generation exceeds {_listed(sinks)} by {-missing:.4g} kW"
    return f"period {period}: {what}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _row_text(case: Case, row: int, excess: float) -> str:
    return f"{describe_row(case, row)} misses its limit by {excess:.4g} {_unit(case.rows, row)}"


def _unit(rows: LimitRows, row: int) -> str:
    return "kW at best" if rows.kind[row] == "line" else "p.u. at best"


def describe_row(case: Case, row: int) -> str:
    """A limit's name for messages, with the numbers of the outside world.

    Parameters
    ----------
    case : Case
        The market.
    row : int
        Position in `case.rows`.

    Returns
    -------
    str
        'line 8 (4-7)' or 'voltage at bus 12'.
    """
    network, index = case.network, int(case.rows.index[row])
    if case.rows.kind[row] != "line":
        return f"voltage at bus {network.bus_id[index]}"
    ends = network.bus_id[network.from_bus[index]], network.bus_id[network.to_bus[index]]
    return f"line {network.line_id[index]} ({ends[0]}-{ends[1]})"
