"""Operators of feeders and one above them: the bits of a single operator, however they divide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest

from raygrid.arrays import IntArray
from raygrid.grid.limits import line_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.grid.tree_rows import TreeRows
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.division import Division, divide
from raygrid.market.hierarchy import FeederOperator, TopOperator
from raygrid.market.messages import RoundDecision, RoundOutcome
from raygrid.market.session import LocalExchange, clear, local_exchange
from raygrid.scenario.build import load_case
from raygrid.scenario.case import Case


class LocalHierarchy(LocalExchange):
    """The rounds led by feeder operators and one above them, in this process."""

    def divide(self, n_feeders: int) -> Division:
        rows = self.operator.rows
        assert isinstance(rows, TreeRows)
        hosts = [block.summary() for block in self.blocks]
        division = divide(rows, [host.buses for host in hosts], n_feeders)
        self.feeders = [
            FeederOperator(f, rows, division, [hosts[k] for k in own])
            for f, own in enumerate(division.hosts)
        ]
        self.top = TopOperator(self.operator, division, hosts)
        self.own = division.hosts
        return division

    def round(self, outcome: RoundOutcome) -> RoundOutcome:
        sums = []
        rho = self.operator.rho
        for feeder, own in zip(self.feeders, self.own, strict=True):
            messages = [outcome.messages[k] for k in own]
            aggregates = [self.blocks[k].step(m) for k, m in zip(own, messages, strict=True)]
            sums.append(feeder.gather(aggregates, rho))
        prices = self.top.project(sums)
        if prices is None:
            return self.top.give_up()
        settled = [f.settle(price) for f, price in zip(self.feeders, prices, strict=True)]
        following, opening = self.top.decide(settled)
        messages = [m for feeder in self.feeders for m in feeder.messages(opening)]
        if following.decision is not RoundDecision.CONTINUE:
            self.top.hand_back([feeder.state() for feeder in self.feeders])
        return replace(following, messages=tuple(messages))


def town(grids: int) -> Case:
    """A town with its limits as tree rows, however few."""
    case = load_case("town", settings=[f"network.grids={grids}", "network.grids_per_feeder=3"])
    rows = line_rows(case.network, PtdfFactor(case.network), case.n_periods, as_tree=True)
    keep = np.flatnonzero(np.isin(case.network.line_id % 1000, [127, 999, 79]))
    some = np.isin(rows.index, keep)
    assert isinstance(rows, TreeRows)
    cut = {f.name: getattr(rows, f.name)[some] for f in fields(rows) if f.name != "tree"}
    return replace(case, rows=TreeRows(tree=rows.tree, **cut))


def split(case: Case, n_hosts: int) -> list[IntArray]:
    people = case.population
    order = np.lexsort((people.prosumer_id, people.bus))
    return [part.astype(np.int64) for part in np.array_split(order, n_hosts)]


def assert_same(one: ClearingResult, other: ClearingResult) -> None:
    for f in fields(ClearingResult):
        if f.name not in ("records", "seconds"):
            np.testing.assert_array_equal(getattr(one, f.name), getattr(other, f.name), f.name)
    for mine, its in zip(one.records, other.records, strict=True):
        assert replace(mine, seconds=0.0) == replace(its, seconds=0.0)


@pytest.fixture(scope="module")
def case() -> Case:
    return town(7)


@pytest.fixture(scope="module")
def alone(case: Case) -> ClearingResult:
    options = ClearingOptions(residual_balancing=True)
    return clear(case, options, local_exchange(case, options))


@pytest.mark.parametrize(("n_hosts", "n_feeders"), [(1, 1), (2, 2), (5, 2), (5, 3), (9, 9)])
def test_any_division_gives_the_bits_of_one_operator(
    case: Case, alone: ClearingResult, n_hosts: int, n_feeders: int
) -> None:
    options = ClearingOptions(residual_balancing=True)
    local = local_exchange(case, options, split(case, n_hosts))
    exchange = LocalHierarchy(local.blocks, local.operator, local.period_hours)
    division = exchange.divide(n_feeders)
    assert division.n_feeders == n_feeders
    assert_same(clear(case, options, exchange), alone)


def test_a_division_has_every_bus_once(case: Case) -> None:
    rows = case.rows
    assert isinstance(rows, TreeRows)
    buses = [np.unique(case.population.bus[part]) for part in split(case, 4)]
    division = divide(rows, buses, 3)
    below = np.concatenate([rows.tree.below(int(top)) for tops in division.tops for top in tops])
    assert len(np.unique(below)) == len(below)
    assert division.hosts == ((0, 1), (2,), (3,))
    for feeder, own in enumerate(division.hosts):
        mine = np.unique(np.concatenate([buses[k] for k in own]))
        others = np.concatenate([buses[k] for k in range(4) if k not in own])
        inside = np.concatenate([rows.tree.below(int(t)) for t in division.tops[feeder]])
        assert not np.isin(inside, others).any()
        assert not np.isin(division.shared[feeder], inside).any()
        assert set(mine) <= set(inside) | set(division.shared[feeder])
        # Of a grid that two feeder operators' hosts share, the station is above both.
        assert np.isin(division.shared[feeder], others).sum() <= 2


def test_limits_that_contradict_each_other_end_the_rounds(case: Case) -> None:
    options = ClearingOptions()
    lower = case.rows.lower.copy()
    lower[0, 3] = 1e6
    upper = case.rows.upper.copy()
    upper[0, 3] = 2e6
    broken = replace(case, rows=case.rows.with_bounds(lower, upper))
    ends: list[Sequence[RoundOutcome]] = []
    for divided in (False, True):
        exchange = local_exchange(broken, options, split(case, 2))
        if divided:
            hierarchy = LocalHierarchy(exchange.blocks, exchange.operator, 1.0)
            hierarchy.divide(2)
            exchange = hierarchy
        outcomes = [exchange.open()]
        while outcomes[-1].decision is RoundDecision.CONTINUE:
            outcomes.append(exchange.round(outcomes[-1]))
        ends.append(outcomes)
    assert len(ends[0]) == len(ends[1])
    assert ends[0][-1].decision is ends[1][-1].decision
