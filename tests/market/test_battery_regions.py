"""Batteries of a large radial network are moved below the lines at fault alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.grid.network import Network
from raygrid.grid.tree_rows import TreeRows, tree_line_rows
from raygrid.market import battery_regions
from raygrid.market.battery_regions import buses_at_fault, lines_at_fault
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.market.projection import RowFault
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.community import GivenCommunity
from raygrid.scenario.case import Case
from tests.cases import battery_behind_a_line


def three_feeders(limits_kw: tuple[float, ...] = (1.5, 1.5, 9.0)) -> Case:
    """`battery_behind_a_line` three times below one slack bus, each with limits of its own.

    Below the limited line of each feeder (buses 1, 3, 5) one more line leads on to the load and
    the battery (buses 2, 4, 6).
    """
    alone = battery_behind_a_line()
    people = alone.population
    many = people.take(np.tile(np.arange(2), 3))
    many = replace(many, prosumer_id=np.arange(6), bus=np.repeat([2, 4, 6], 2))
    network = Network(
        name="three",
        bus_id=np.arange(7),
        slack=0,
        line_id=np.arange(6),
        from_bus=np.array([0, 1, 0, 3, 0, 5]),
        to_bus=np.arange(1, 7),
        r_pu=np.full(6, 0.01),
        x_pu=np.full(6, 0.1),
        limit_kw=np.array([limits_kw[0], 9.0, limits_kw[1], 9.0, limits_kw[2], 9.0]),
        flow_offset_kw=np.zeros(6),
    )
    limit = np.repeat(network.limit_kw[:, None], 4, axis=1)
    assert alone.grid is not None
    return replace(
        alone,
        network=network,
        rows=tree_line_rows(network, -limit, limit, np.arange(6)),
        community=GivenCommunity(many),
        grid=replace(alone.grid, size_weight=3.0),
        reactive_load_kvar=np.zeros((7, 4)),
    )


def test_the_uppermost_of_the_lines_at_fault() -> None:
    rows = three_feeders().rows
    assert isinstance(rows, TreeRows)
    faults = [RowFault(0, (0, 1)), RowFault(2, (3,))]
    assert lines_at_fault(rows, faults).tolist() == [1, 4]
    assert buses_at_fault(rows, faults) is None


def test_only_the_feeders_at_fault_move(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loose enough that the rounds end a little above the limits.
    case, options = three_feeders(), ClearingOptions(relative_tolerance=0.02)
    whole = clear(case, options, local_exchange(case, options))
    monkeypatch.setattr(battery_regions, "MAX_CELLS", 12)
    asked: list[list[int]] = []
    solve = battery_regions.battery_schedule

    def noted(p_bus_kw, *arguments):  # type: ignore[no-untyped-def]
        asked.append([len(p_bus_kw), len(arguments[4])])
        return solve(p_bus_kw, *arguments)

    monkeypatch.setattr(battery_regions, "battery_schedule", noted)
    exchange = local_exchange(case, options)
    result = clear(case, options, exchange)
    assert whole.status is result.status is ClearingStatus.CONVERGED
    # The rest, the line's two buses, and the one battery below it; not the third feeder.
    assert asked == [[3, 1], [3, 1]]
    assert whole.welfare <= result.welfare <= whole.welfare + 0.02
    assert (np.abs(result.flow_kw) <= case.network.limit_kw[:, None] * (1 + 1e-6)).all()
    np.testing.assert_allclose(result.p_bus_kw.sum(axis=0), 0.0, rtol=0, atol=1e-7)
    assert result.bound is not None
    assert result.welfare <= result.bound + 1e-9


def test_what_batteries_cannot_mend_stays_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(battery_regions, "MAX_CELLS", 12)
    case = three_feeders((0.2, 1.5, 9.0))
    options = ClearingOptions(max_iterations=40)
    result = clear(case, options, local_exchange(case, options))
    assert result.status is ClearingStatus.INFEASIBLE
