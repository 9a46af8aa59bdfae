"""The town: its grid, its limits, and its households, which are the same however they are split."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from actors.session import clearing_options
from raygrid.errors import InputError
from raygrid.grid.checks import check_network
from raygrid.grid.limits import line_rows
from raygrid.grid.ptdf import PtdfFactor
from raygrid.market.clearing import ClearingOptions, ClearingStatus
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.population import PROFILE_FIELDS, UNIT_FIELDS
from raygrid.scenario.build import CaseDraft, build_case, draft_case, load_case
from raygrid.scenario.load import load_scenario
from raygrid.scenario.town import SPUR, TRUNK
from raygrid.scenario.variants import BATTERY_SIZED


def draft(grids: int, *settings: str) -> CaseDraft:
    scenario, base_dir = load_scenario("town", settings=[f"network.grids={grids}", *settings])
    return draft_case(scenario, base_dir=base_dir)


def test_prosumers_and_buses_grow_together() -> None:
    for grids in (1, 3, 25):
        town = draft(grids)
        assert len(town.community) == 118 * grids
        assert town.network.n_buses == 129 * grids + 1
        assert town.network.is_radial
        check_network(town.network, "town")


def test_each_grid_is_the_villages() -> None:
    town, village = draft(12).network, load_case("village").network
    own = (town.line_id // 1000 == 12) & (town.line_id != 12999)
    for name in ("r_pu", "x_pu", "limit_kw"):
        np.testing.assert_array_equal(getattr(town, name)[own], getattr(village, name))
    for end in ("from_bus", "to_bus"):
        bus = town.bus_id[getattr(town, end)[own]] - 12000
        np.testing.assert_array_equal(bus, village.bus_id[getattr(village, end)])


def test_feeders_have_a_trunk_and_spurs() -> None:
    town = draft(23).network
    cables = np.flatnonzero(town.line_id % 1000 == 999)
    above = dict(
        zip(
            (town.bus_id[town.to_bus[cables]] // 1000).tolist(),
            (town.bus_id[town.from_bus[cables]] // 1000).tolist(),
            strict=True,
        )
    )
    feeder = [0, 1, 2, 2, 4, 5, 5, 7, 8, 8]
    assert [above[k] for k in range(1, 11)] == feeder
    assert [above[10 + k] for k in range(1, 11)] == [10 + a if a else 0 for a in feeder]
    assert [above[k] for k in (21, 22, 23)] == [0, 21, 22]
    spur = np.isin(town.line_id[cables], [3999, 6999, 9999, 13999, 16999, 19999, 23999])
    np.testing.assert_array_equal(
        town.limit_kw[cables], np.where(spur, SPUR.limit_kw, TRUNK.limit_kw)
    )
    # 400 ohm is the base of 20 kV and 1 MVA.
    ohm = 400.0 * town.r_pu[cables] / np.where(spur, 0.313, 0.122)
    assert ((ohm > 0.4) & (ohm < 3.0)).all()
    assert TRUNK.limit_kw == pytest.approx(14_584, rel=1e-4)


def test_a_larger_town_holds_the_smaller_one() -> None:
    small, large = draft(7), draft(31)
    for name in ("bus_id", "line_id", "from_bus", "to_bus", "r_pu", "x_pu"):
        one, other = getattr(small.network, name), getattr(large.network, name)
        np.testing.assert_array_equal(one, other[: len(one)])
    ids = np.arange(1, len(small.community) + 1)
    one, other = (c.community.build(ids).rows(0, len(ids)) for c in (small, large))  # type: ignore[attr-defined]
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_variants_are_the_originals_at_sizes_of_their_own() -> None:
    one = [
        "horizon.periods=24",
        "population.max_week_shift=0",
        "population.max_quarter_hour_shift=0",
    ]
    same = [
        f"population.{k}_size={{low: 1.0, high: 1.0}}" for k in ("grid", "load", "pv", "battery")
    ]
    village = load_case("village", settings=one).population
    copies = draft(2, *one, *same).community.everyone()
    row = np.arange(2 * 118) % 118
    for name in ("fixed_load_kw", "demand_limit_kw", "generation_limit_kw", *BATTERY_SIZED):
        np.testing.assert_allclose(
            getattr(copies, name), getattr(village, name)[row], rtol=1e-12, err_msg=name
        )
    people = draft(2).community.everyone()
    sized = people.soc_max_kwh[people.has_battery] / copies.soc_max_kwh[people.has_battery]
    assert ((sized > 0.55) & (sized < 1.57)).all()
    assert len(np.unique(sized)) == len(sized) == 32


def test_households_do_not_depend_on_the_split() -> None:
    town = draft(3)
    everyone = town.community.everyone()
    order = np.lexsort((everyone.prosumer_id, everyone.bus))
    parts = [
        town.community.recipe(a, b).build().rows(0, b - a) for a, b in pairwise([0, 100, 119, 354])
    ]
    for name in (*UNIT_FIELDS, *PROFILE_FIELDS):
        together = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(together, getattr(everyone, name)[order], err_msg=name)


def test_limits_follow_the_fixed_loads_and_bind() -> None:
    case = load_case("town", settings=["network.grids=5"])
    network = case.network
    load = np.zeros((network.n_buses, case.n_periods))
    np.add.at(load, case.population.bus, case.population.fixed_load_kw)
    greatest = np.abs(PtdfFactor(network).flows(-load)).max(axis=1)
    number = network.line_id % 1000
    trunk = np.isin(network.line_id, [1999, 2999, 4999, 5999])
    np.testing.assert_allclose(network.limit_kw[number == 127], 1.3 * greatest[number == 127])
    np.testing.assert_allclose(network.limit_kw[trunk], 1.15 * greatest[trunk])
    assert network.limit_kw[network.line_id == 3999] == SPUR.limit_kw
    result = clear(case, ClearingOptions(), local_exchange(case, ClearingOptions()))
    assert result.status is ClearingStatus.CONVERGED
    use = np.abs(result.flow_kw).max(axis=1) / network.limit_kw
    assert use[trunk].max() == pytest.approx(1.0, rel=1e-6)
    assert (use <= 1 + 1e-6).all()


@pytest.mark.parametrize("grids", [2, 5])
def test_trees_clear_as_matrices_do(grids: int) -> None:
    case = load_case("town", settings=[f"network.grids={grids}"])
    factor, kept, results = PtdfFactor(case.network), case.rows.index, []
    for as_tree in (True, False):
        rows = line_rows(
            replace(case.network, limit_kw=np.where(
                np.isin(np.arange(case.network.n_lines), kept), case.network.limit_kw, np.inf
            )),
            factor, case.n_periods, as_tree=as_tree,
        )  # fmt: skip
        assert rows.n_rows == len(kept) > 0
        same = replace(case, rows=rows)
        options = ClearingOptions()
        results.append(clear(same, options, local_exchange(same, options)))
    tree, matrix = results
    assert tree.iterations == matrix.iterations
    assert tree.welfare == pytest.approx(matrix.welfare, rel=1e-4)
    np.testing.assert_allclose(tree.lmp_per_kwh, matrix.lmp_per_kwh, rtol=0, atol=1e-6)


def test_without_margins_ratings_stand() -> None:
    case = load_case(
        "town",
        settings=[
            "network.grids=1",
            "network.transformer_margin=null",
            "network.trunk_margin=null",
            "network.limits={lines: [{line: 1127, limit_kw: 90.0}]}",
        ],
    )
    number = case.network.line_id
    assert case.network.limit_kw[number == 1999] == TRUNK.limit_kw
    assert case.network.limit_kw[number == 1127] == 90.0


@pytest.mark.parametrize(
    ("settings", "agents", "message"),
    [
        ((), 500, r"500 agents .* set the number of grids .*network\.grids"),
        (("network.grids=0",), None, r"network\.grids"),
        (("network.slack_bus=4000",), None, "slack_bus 4000 is at no line"),
        (("network.trunk_margin=0.9",), None, r"network\.trunk_margin"),
        (("population.pv_size={low: 2.0, high: 1.0}",), None, "low 2 is above high 1"),
        (
            ("network={source: builtin, name: case33bw}",),
            None,
            "population.source 'town' needs network.source 'town'",
        ),
        (("network.lines=raygrid:ieee118/network.csv", "network.buses=null"), None, "not a tree"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: tuple[str, ...], agents: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_case("town", settings=settings, agents=agents)


def test_as_shipped_the_market_ends_within_a_hundredth_of_a_percent_of_the_bound() -> None:
    scenario, base_dir = load_scenario("town", settings=["network.grids=3"])
    case, options = build_case(scenario, base_dir=base_dir), clearing_options(scenario)
    result = clear(case, options, local_exchange(case, options))
    assert result.status is ClearingStatus.CONVERGED
    assert result.bound is not None
    assert 0 <= result.bound - result.welfare <= 1e-4 * abs(result.bound)


def test_voltage_limits_of_a_large_town_are_refused_before_anything_is_built() -> None:
    limits = ["voltage.v_min_pu=0.9", "voltage.v_max_pu=1.1"]
    assert draft(38, *limits).network.n_buses == 4903
    with pytest.raises(InputError, match=r"voltage limits of 5032 buses, .* at most 5000"):
        draft(39, *limits)
