"""summary.json: the figures of a run, with exactly the keys that others rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raygrid.grid.powerflow import AcCheck
from raygrid.market.channel import Staleness
from raygrid.market.clearing import ClearingResult
from raygrid.market.prices import money_surplus, tariff_difference
from raygrid.market.staleness import Traffic
from raygrid.scenario.case import Case
from raygrid.schemas import SCHEMA_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

LIMIT_TOLERANCE = 1e-6
"""Relative excess up to which a line counts as within its limit."""


@dataclass(frozen=True)
class ClearingSummary:
    """How the market cleared; energies [kWh], money [currency], utilisation as a fraction.

    `settlement_price_surplus` and `locational_price_surplus` are what buyers pay beyond what
    sellers get at either price, and the tariff differences what the grid connection gets from the
    market beyond what it owes by its tariff; all are negative where money is lacking. What only a
    final schedule tells is None (welfare: NaN) where there is none; the energy traded also where no
    trades were matched, and the tariff differences where there is no grid connection, or its price
    is only a penalty.
    """

    status: str
    iterations: int
    primal_residual: float | None
    dual_residual: float | None
    primal_tolerance: float | None
    dual_tolerance: float | None
    welfare: float
    energy_traded_kwh: float | None
    grid_import_kwh: float | None
    max_line_utilisation: float | None
    network_constrained: bool
    line_violations: int | None
    max_balance_error_kw: float | None
    settlement_price_surplus: float | None
    settlement_price_tariff_difference: float | None
    locational_price_surplus: float | None
    locational_price_tariff_difference: float | None
    seconds: float


@dataclass(frozen=True)
class CentralSummary:
    """The central benchmark: welfare [currency], gap as a fraction, wall time [s]."""

    welfare: float
    gap: float | None
    seconds: float


@dataclass(frozen=True)
class SettlementSummary:
    """How the trades were settled; energy [kWh] and money [currency] are those of settled ones.

    `verified` counts trades that no meter (5-7) and no empty escrow voided, `failed` those of
    them that are not settled; `network_value` is what the network account ends with, below zero
    where it paid. `gas_total` is that of all transactions, registration and funding left out.
    """

    chain: str
    trades: int
    verified: int
    rejected: int
    settled: int
    failed: int
    energy_kwh: float
    value: float
    network_value: float
    batches: int
    transactions: int
    gas_total: int
    gas_per_trade: float | None
    trades_per_second: float | None
    seconds: float


@dataclass(frozen=True)
class Seconds:
    """Wall times of a run's steps [s]."""

    ray_start: float
    build: float
    clear: float
    total: float


@dataclass(frozen=True)
class Summary:
    """A run in figures; a stage that did not run is None.

    `days` has the figures of each market day (`raygrid.results.day_totals.DaySummary`), the other
    keys those of all days together.
    """

    scenario: str
    run_id: str
    status: str
    prosumers: int
    actors: int
    periods: int
    buses: int
    lines: int
    clearing: ClearingSummary | None
    central: CentralSummary | None
    seconds: Seconds
    settlement: SettlementSummary | None = None
    forecast: Mapping[str, Any] | None = None
    intraday: Mapping[str, Any] | None = None
    powerflow: Mapping[str, Any] | None = None
    memory: Mapping[str, Any] | None = None
    communication: Mapping[str, Any] | None = None
    days: Sequence[Mapping[str, Any]] = ()
    schema_version: int = SCHEMA_VERSION


def powerflow_summary(check: AcCheck, period_hours: float) -> dict[str, Any]:
    """The AC check in figures; voltages [p.u.], losses [kWh], loading as a fraction.

    Parameters
    ----------
    check : AcCheck
        Load flow of every period.
    period_hours : float
        Length of a period [h].
    """
    losses = check.losses_kw[check.converged]
    some = bool(check.converged.any())
    return {
        "not_converged": check.n_not_converged,
        "min_voltage_pu": check.lowest_voltage_pu if some else None,
        "max_voltage_pu": check.highest_voltage_pu if some else None,
        "voltage_violations": check.n_voltage_violations,
        "voltage_limits_pu": [check.v_min_pu, check.v_max_pu],
        "max_loading": check.highest_loading if some else None,
        "overloads": check.n_overloads,
        "losses_kwh": float(losses.sum() * period_hours),
    }


def settlement_summary(
    chain: str, trades: pa.Table, batches: int, transactions: int, gas_total: int, seconds: float
) -> SettlementSummary:
    """The figures of a settlement, Table 6.8 of the thesis among them.

    Parameters
    ----------
    chain : str
        Where: `embedded`, `anvil`, `hardhat`, or a node's address without credentials.
    trades : pyarrow.Table
        Rows of `trades.parquet` with their last status.
    batches, transactions, gas_total : int
        Batches on chain, and the transactions that carried them and their readings.
    seconds : float
        Wall time from the first trade to the last confirmation [s].
    """
    import pyarrow.compute as pc

    settled = trades.filter(pc.equal(trades["status"], "settled"))
    n_rejected = int(pc.sum(pc.equal(trades["status"], "rejected")).as_py() or 0)
    verified = trades.num_rows - n_rejected

    def total(name: str) -> int:
        return int(settled[name].to_numpy().sum())

    return SettlementSummary(
        chain=chain,
        trades=trades.num_rows,
        verified=verified,
        rejected=n_rejected,
        settled=settled.num_rows,
        failed=verified - settled.num_rows,
        energy_kwh=total("energy_wh") / 1e3,
        value=total("value_micro") / 1e6,
        network_value=total("network_micro") / 1e6,
        batches=batches,
        transactions=transactions,
        gas_total=gas_total,
        gas_per_trade=gas_total / settled.num_rows if settled.num_rows else None,
        trades_per_second=settled.num_rows / seconds if seconds > 0 else None,
        seconds=seconds,
    )


def memory_summary(driver_bytes: int, actors_bytes: int) -> dict[str, int]:
    """The most memory that the run's processes had, shared pages counted in each [B].

    Parameters
    ----------
    driver_bytes : int
        Of the process that led the run.
    actors_bytes : int
        Of all actors together.
    """
    return {"driver_peak_bytes": driver_bytes, "actors_peak_bytes": actors_bytes}


def communication_summary(traffic: Traffic, staleness: Staleness) -> dict[str, Any]:
    """What went over modelled links; time is that of the model.

    Parameters
    ----------
    traffic : Traffic
        Messages, time on the way [s], and what the links cost [currency].
    staleness : Staleness
        The links; `utilisation` and `cost` are None where they have no price, TES (6) and (7),
        and their rate is None where it has no limit.
    """
    rate, link = staleness.channel.rate_bits_per_s, staleness.link
    return {
        "rate_bits_per_s": rate if np.isfinite(rate) else None,
        "utilisation": None if link is None else link.use,
        **asdict(traffic),
    }


def central_summary(welfare: float, central_welfare: float, seconds: float) -> CentralSummary:
    """The benchmark and the gap |welfare - central| / |central|; none where central is 0.

    Parameters
    ----------
    welfare, central_welfare : float
        Welfare of the final schedule and of the central benchmark [currency].
    seconds : float
        Wall time of the central solve [s].
    """
    gap = abs(welfare - central_welfare) / abs(central_welfare) if central_welfare else None
    return CentralSummary(central_welfare, gap, seconds)


def line_utilisation(
    flow_kw: np.ndarray[Any, np.dtype[np.float64]], limit_kw: np.ndarray[Any, np.dtype[np.float64]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """|flow| / limit; 0 where a line has no limit, or a limit of 0 and no flow.

    Parameters
    ----------
    flow_kw, limit_kw : arrays of one shape, or such that broadcast
        Flows and limits [kW].
    """
    flow = np.abs(flow_kw)
    limit = np.broadcast_to(np.asarray(limit_kw, dtype=np.float64), flow.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flow / limit
    return np.where(flow == 0, 0.0, ratio)


def clearing_summary(
    case: Case, result: ClearingResult, network_constrained: bool, energy_traded_kwh: float | None
) -> ClearingSummary:
    """The figures of a clearing.

    Parameters
    ----------
    case : Case
        What was cleared.
    result : ClearingResult
        How it ended.
    network_constrained : bool
        Whether limits were enforced; flows are checked against them either way.
    energy_traded_kwh : float or None
        Energy of all trades [kWh]; None where none were matched.
    """
    last = result.records[-1] if result.records else None
    use = line_utilisation(result.flow_kw, case.network.limit_kw[:, None])
    balance = result.p_bus_kw.sum(axis=0)
    scheduled = not np.isnan(result.welfare)
    return ClearingSummary(
        status=str(result.status),
        iterations=result.iterations,
        primal_residual=last.primal_residual if last else None,
        dual_residual=last.dual_residual if last else None,
        primal_tolerance=last.primal_tolerance if last else None,
        dual_tolerance=last.dual_tolerance if last else None,
        welfare=float(result.welfare),
        energy_traded_kwh=energy_traded_kwh if scheduled else None,
        grid_import_kwh=(
            float(np.maximum(result.grid_kw, 0.0).sum() * case.period_hours) if scheduled else None
        ),
        max_line_utilisation=float(use.max(initial=0.0)) if scheduled else None,
        network_constrained=network_constrained,
        line_violations=int((use > 1 + LIMIT_TOLERANCE).sum()) if scheduled else None,
        max_balance_error_kw=float(np.abs(balance).max(initial=0.0)) if scheduled else None,
        **_money(case, result, scheduled),
        seconds=float(result.seconds),
    )


def _money(case: Case, result: ClearingResult, scheduled: bool) -> dict[str, float | None]:
    """Surplus and tariff difference over the horizon of both ways to price [currency]."""
    grid, slack, dt = case.grid, case.network.slack, case.period_hours
    has_tariff = grid is not None and not grid.import_is_penalty
    money: dict[str, float | None] = {}
    for name, price in (
        (
            "settlement_price",
            np.broadcast_to(result.settlement_price_per_kwh, result.p_bus_kw.shape),
        ),
        ("locational_price", result.lmp_per_kwh),
    ):
        surplus = difference = None
        if scheduled:
            surplus = float(money_surplus(price, result.p_bus_kw, dt).sum())
            if grid is not None and has_tariff:
                of_periods = tariff_difference(price[slack], grid, result.grid_kw, dt)
                difference = float(of_periods.sum())
        money |= {f"{name}_surplus": surplus, f"{name}_tariff_difference": difference}
    return money
