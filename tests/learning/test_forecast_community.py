"""Prosumers forecast their day: what hosts build, from the past alone, the same in any split."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raygrid.errors import InputError
from raygrid.files import data_root
from raygrid.learning.dataset import build_dataset
from raygrid.learning.features import fit_scaling
from raygrid.learning.forecast_community import ForecastCommunity, forecast_community
from raygrid.learning.forecasting import Naive, day_ahead_predictions
from raygrid.learning.inference import Forecaster
from raygrid.learning.lines import load_inputs, pv_inputs
from raygrid.learning.network import (
    DIRECT_W,
    LEVELS,
    NetworkSpec,
    initial_weights,
)
from raygrid.learning.renewal import training_end
from raygrid.prosumer.carried import CarriedCommunity, Charge
from raygrid.prosumer.community import Community
from raygrid.scenario.build import draft_case
from raygrid.scenario.config import Scenario
from raygrid.scenario.load import load_scenario


def forecaster_of(
    scenario: Scenario, base_dir: Path, embedding: int, task: str = "day"
) -> Forecaster:
    """Weights that are far from where training starts, fitted to the scenario's history."""
    data = build_dataset(scenario, base_dir)
    apart = task == "day" and not embedding
    spec = NetworkSpec(task=task, width=8, heads=2, embedding=embedding, apart=apart)
    random = np.random.default_rng(4)
    weights = {
        k: v + 0.2 * random.standard_normal(v.shape).astype("f4")
        for k, v in initial_weights(spec, 1, len(data.prosumer_id), 3).items()
    }
    if apart:
        weights[DIRECT_W] *= np.stack([load_inputs(spec), pv_inputs(spec)], axis=1)
    facts: dict[str, Any] = {"scenario": data.name, "data": data.digest(), "levels": list(LEVELS)}
    facts |= training_end(data)
    return Forecaster(spec, weights, fit_scaling(data), data.prosumer_id, facts)


def community_of(scenario: Scenario, base_dir: Path, by: Any, day: int = 0) -> Community:
    measured = draft_case(scenario, base_dir=base_dir, day=day).community
    return forecast_community(scenario, base_dir, measured, by, day=day)


def profiles(community: Community) -> tuple[np.ndarray, ...]:
    return community.everyone().profiles(0, len(community))


@pytest.fixture(scope="module")
def ai_tem() -> tuple[Scenario, Path]:
    return load_scenario("ai_tem", agents=12)


@pytest.fixture(scope="module")
def drawn() -> tuple[Scenario, Path]:
    return load_scenario("community", agents=60)


@pytest.mark.parametrize("by", ["network", Naive.PERSISTENCE, Naive.SEASONAL])
def test_hosts_forecast_what_is_forecast_over_the_history(
    ai_tem: tuple[Scenario, Path], by: str
) -> None:
    scenario, base_dir = ai_tem
    rule = forecaster_of(*ai_tem, 2) if by == "network" else Naive(by)
    data = build_dataset(scenario, base_dir)
    day = (scenario.horizon.start - data.clock.start).days
    found = day_ahead_predictions(data, rule, np.array([day]))
    _, pv, _, elastic, fixed = profiles(community_of(scenario, base_dir, rule))
    source: Any = scenario.population
    np.testing.assert_allclose(fixed + elastic / source.elastic_headroom, found.load_kw, rtol=1e-4)
    np.testing.assert_allclose(elastic / source.elastic_headroom, 0.2 * found.load_kw, rtol=1e-4)
    np.testing.assert_allclose(pv, found.pv_kw, rtol=1e-4, atol=1e-5)


def test_perfect_forecasts_are_the_community_itself(ai_tem: tuple[Scenario, Path]) -> None:
    measured = draft_case(ai_tem[0], base_dir=ai_tem[1]).community
    assert forecast_community(*ai_tem, measured, Naive.PERFECT) is measured


@pytest.mark.parametrize("embedding", [0, 2])
def test_a_split_makes_no_difference(
    ai_tem: tuple[Scenario, Path], drawn: tuple[Scenario, Path], embedding: int
) -> None:
    scenario, base_dir = ai_tem if embedding else drawn
    community = community_of(scenario, base_dir, forecaster_of(scenario, base_dir, embedding))
    n = len(community)
    whole = community.recipe(0, n).build().rows(0, n)
    for size in (1, 7):
        for start in range(0, n, size):
            stop = min(start + size, n)
            part = community.recipe(start, stop).build().rows(0, stop - start)
            for ours, theirs in zip(
                part.profiles(0, stop - start), whole.profiles(start, stop), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)


def test_a_host_is_told_nothing_of_the_day(tmp_path: Path) -> None:
    settings = [
        "population.load_shapes=loads.parquet",
        "population.pv_shapes=pv.parquet",
        "population.max_week_shift=0",
        "population.max_quarter_hour_shift=0",
        "network.lines=raygrid:community/network.csv",
        "network.buses=raygrid:community/buses.csv",
    ]
    by = forecaster_of(*load_scenario("community", agents=20), 0)
    midnight = datetime(2016, 3, 16)
    found = []
    for factor in (1.0, 3.0):
        for name, source in (("loads", "simbench_profiles"), ("pv", "pv_shapes")):
            table = pq.read_table(data_root("scenarios") / "data" / f"{source}.parquet")
            start = datetime.fromisoformat(table.schema.metadata[b"start"].decode())
            first = (midnight - start) // timedelta(minutes=15)
            columns = []
            for column in table.columns:
                values = column.to_numpy().astype(float)
                values[first:] *= factor
                columns.append(pa.array(values))
            changed = pa.table(columns, names=table.column_names)
            pq.write_table(changed.replace_schema_metadata(table.schema.metadata),
                           tmp_path / f"{name}.parquet")  # fmt: skip
        scenario, _ = load_scenario("community", agents=20, settings=settings)
        found.append(profiles(community_of(scenario, tmp_path, by)))
        measured = profiles(draft_case(scenario, base_dir=tmp_path).community)
        assert (found[-1][4] != measured[4]).any()
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_without_embeddings_serve_any_number_of_households_by_the_hour(
    drawn: tuple[Scenario, Path],
) -> None:
    by = forecaster_of(*drawn, 0)
    many, base_dir = load_scenario("community", agents=150)
    more, fewer = (community_of(s, d, by) for s, d in ((many, base_dir), drawn))
    for ours, theirs in zip(profiles(fewer), profiles(more), strict=True):
        assert ours.shape == (60, 24)
        np.testing.assert_array_equal(ours, theirs[:60])
    # Quarter hours average to the hours.
    quarters, _ = load_scenario("community", agents=60, periods=96)
    fine = profiles(community_of(quarters, base_dir, by))
    for ours, theirs in zip(profiles(fewer), fine, strict=True):
        np.testing.assert_allclose(ours, theirs.reshape(60, 24, 4).mean(axis=2), rtol=1e-9)
    # The same by day two, from another midnight; charge is carried over.
    later = community_of(*drawn, by, day=1)
    assert (profiles(later)[4] != profiles(fewer)[4]).any()
    charge = Charge(np.linspace(1, 2, 60), np.zeros(0, dtype=np.int64), np.zeros(0))
    carried = CarriedCommunity(later, charge)
    np.testing.assert_array_equal(profiles(carried)[4], profiles(later)[4])


def test_hosts_need_no_torch() -> None:
    code = (
        "import sys, raygrid.learning.forecast_community, raygrid.learning.forecasting\n"
        "assert not {'torch', 'sklearn', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_forecast_is_refused_in_one_line(
    ai_tem: tuple[Scenario, Path], drawn: tuple[Scenario, Path]
) -> None:
    known = forecaster_of(*ai_tem, 2)
    with pytest.raises(InputError, match="knows 12 prosumers, not these 60"):
        community_of(*drawn, known)
    with pytest.raises(InputError, match="a forecaster of single steps"):
        community_of(*drawn, forecaster_of(*drawn, 0, task="step"))
    with pytest.raises(InputError, match="tiny:population: no past to forecast from"):
        community_of(*load_scenario("tiny"), Naive.SEASONAL)
    first = load_scenario("ai_tem", agents=12, settings=["horizon.start=2016-03-20"])
    with pytest.raises(InputError, match="2016-03-20 has no 7 days of past"):
        community_of(*first, Naive.SEASONAL)
    unknown = load_scenario("community", agents=12, settings=["horizon.start=2016-01-05"])
    with pytest.raises(InputError, match="2016-01-05 has no 7 days of past"):
        community_of(*unknown, Naive.SEASONAL)
    late = load_scenario("community", agents=12, settings=["horizon.start=2016-03-20T06:00"])
    with pytest.raises(InputError, match="forecasts reach to midnight"):
        community_of(*late, Naive.SEASONAL)
    assert isinstance(community_of(*drawn, Naive.SEASONAL), ForecastCommunity)


def test_a_short_past_will_do(drawn: tuple[Scenario, Path]) -> None:
    early = load_scenario("community", agents=12, settings=["horizon.start=2016-01-12"])
    found = profiles(community_of(*early, forecaster_of(*drawn, 0)))
    assert all(np.isfinite(values).all() for values in found)
