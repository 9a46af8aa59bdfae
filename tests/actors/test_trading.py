"""Trades matched and written by hosts on Ray: those of one process, also after a death."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from pyarrow import Table, concat_tables
from pyarrow.parquet import read_table

from actors.cluster import ClusterResources
from actors.driver import RayMarket, place
from actors.placement import PlacementPolicy
from raygrid.market.clearing import ClearingOptions
from raygrid.market.marketplace import match_trades
from raygrid.scenario.case import Case
from raygrid.scenario.config import Market

pytestmark = pytest.mark.ray

LOCATIONAL = Market(settlement_price="locational", minimum_trade_wh=30)
KEYS = [("period", "ascending"), ("seller_id", "ascending"), ("buyer_id", "ascending")]


def written(market: RayMarket, options: ClearingOptions, section: Market, folder: Path) -> Table:
    result = market.clear(options)
    expected = match_trades(market.case, result, market.dispatch().p_kw, section)
    records, totals = market.write_trades(folder, result, section)
    assert totals == expected.totals
    rows = concat_tables([read_table(folder / record.file) for record in records])
    assert sorted(rows["trade_id"].to_pylist()) == list(range(len(rows)))
    one, other = (table.sort_by(KEYS) for table in (rows, expected.trades.table()))
    assert one.drop(["trade_id"]).equals(other.drop(["trade_id"]))
    assert len(rows) > 0
    return rows.sort_by("trade_id")


def test_every_placement_writes_the_trades_of_one_process(
    case: Case, resources: ClusterResources, options: ClearingOptions, tmp_path: Path
) -> None:
    rows = []
    for name in ("1", "2", "each"):
        placement = place(case, PlacementPolicy.parse(name), resources)
        with RayMarket(case, placement, resources) as market:
            rows.append(written(market, options, Market(), tmp_path / name))
            dropped = written(market, options, LOCATIONAL, tmp_path / f"{name}-locational")
    assert np.any(dropped["network_micro"].to_numpy())
    assert rows[0].equals(rows[1])
    assert rows[0].equals(rows[2])


def test_a_death_meanwhile_changes_no_trade(
    case: Case, resources: ClusterResources, options: ClearingOptions, tmp_path: Path
) -> None:
    placement = place(case, PlacementPolicy.parse("2"), resources)
    with RayMarket(case, placement, resources) as market:
        result = market.clear(options)
        _, expected = market.write_trades(tmp_path / "a", result, Market())
        os.kill(market.pulses[1].pid, signal.SIGKILL)
        _, totals = market.write_trades(tmp_path / "b", result, Market())
        assert market.failures != ()
    assert totals == expected
    a, b = (read_table(tmp_path / name).sort_by("trade_id") for name in "ab")
    assert a.equals(b)


def test_the_plan_counts_what_matching_takes(case: Case, resources: ClusterResources) -> None:
    policy = PlacementPolicy.parse("1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.driver.MAX_MATCHED_PROSUMERS", 3)
        more = place(case, policy, resources, match_up_to=10)
        none = place(case, policy, resources, match_up_to=5)
    assert more.memory_bytes - none.memory_bytes == 6 * 8 * 100
