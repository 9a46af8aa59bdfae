"""Clearing over tree rows: the market of dense rows, within every limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygrid.grid.limits import line_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.grid.tree_rows import TreeRows
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.case import Case
from tests.cases import battery_behind_a_line, small_case


def radial(seed: int, limit_kw: float, as_tree: bool) -> Case:
    """`small_case` with the ring opened behind its fourth bus."""
    case = small_case(seed=seed, limit_kw=limit_kw)
    network = case.network
    tree = replace(
        network,
        **{
            name: getattr(network, name)[[0, 1, 2, 4, 5]]
            for name in (
                "line_id", "from_bus", "to_bus", "r_pu", "x_pu", "limit_kw", "flow_offset_kw"
            )
        },
    )  # fmt: skip
    rows = line_rows(tree, PtdfFactor(tree), case.n_periods, as_tree=as_tree)
    return replace(case, network=tree, rows=rows)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_market_is_that_of_dense_rows(seed: int) -> None:
    options = ClearingOptions()
    tree, dense = radial(seed, 6.0, True), radial(seed, 6.0, False)
    assert isinstance(tree.rows, TreeRows)
    one = clear(tree, options, local_exchange(tree, options))
    other = clear(dense, options, local_exchange(dense, options))
    assert one.status is other.status is ClearingStatus.CONVERGED
    assert one.iterations == other.iterations
    np.testing.assert_allclose(one.lmp_per_kwh, other.lmp_per_kwh, rtol=0, atol=1e-7)
    assert one.welfare == pytest.approx(other.welfare, rel=1e-4)
    assert one.bound == pytest.approx(other.bound, rel=1e-6)
    assert one.bound is not None
    assert one.welfare <= one.bound
    assert np.abs(one.flow_kw).max() > 6.0 * (1 - 1e-6)
    assert (np.abs(one.flow_kw) <= 6.0 * (1 + 1e-6)).all()
    np.testing.assert_allclose(one.p_bus_kw.sum(axis=0), 0.0, rtol=0, atol=1e-7)


@pytest.mark.parametrize("load_kw", [2.0, 3.0])
def test_batteries_move_or_limits_are_named_as_over_dense_rows(load_kw: float) -> None:
    case = battery_behind_a_line(fixed_load_kw=load_kw)
    rows = line_rows(case.network, PtdfFactor(case.network), case.n_periods, as_tree=True)
    options = ClearingOptions(max_iterations=60)
    tree = replace(case, rows=rows)
    one = clear(tree, options, local_exchange(tree, options))
    other = clear(case, options, local_exchange(case, options))
    assert one.status is other.status
    assert one.reason == other.reason
    if one.status is ClearingStatus.CONVERGED:
        assert one.welfare == pytest.approx(other.welfare, rel=1e-6)
