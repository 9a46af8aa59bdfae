"""Communities from tables: strict reading, exact round trip."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from raygrid.errors import InputError
from raygrid.files import scenario_path
from raygrid.prosumer.population import Population
from raygrid.scenario import tables
from raygrid.scenario.build import load_case

TINY = scenario_path("tiny").parent


@pytest.fixture
def folder(tmp_path):
    for file in TINY.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def edit(folder, name, old, new, count=1):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def assert_same(a, b):
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_array_equal(left, right, err_msg=field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, field.name


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_round_trip_is_exact(folder, suffix):
    case = load_case(folder, settings=["network.limits={scale: 0.3333}"])
    for name, table in tables.population_tables(case).items():
        path = folder / f"out_{name}.{suffix}"
        if suffix == "csv":
            csv.write_csv(table, path)
        else:
            pq.write_table(table, path)
    again = load_case(
        folder,
        settings=[
            f"network={{source: tables, lines: out_network.{suffix}, slack_bus: 1, base_kva: 100,"
            f" buses: out_buses.{suffix}}}",
            f"population={{source: tables, prosumers: out_prosumers.{suffix},"
            f" profiles: out_profiles.{suffix}, power_factor: 0.95}}",
            f"tariffs={{table: out_tariffs.{suffix}}}",
        ],
    )
    assert_same(case.population, again.population)
    assert_same(case.network, again.network)
    assert_same(case.grid, again.grid)
    assert_same(case.rows, again.rows)
    np.testing.assert_array_equal(case.reactive_load_kvar, again.reactive_load_kvar)


def test_tiny_as_written():
    population = load_case("tiny").population
    assert isinstance(population, Population)
    assert population.prosumer_id.tolist() == [1, 2, 3, 4, 5, 6]
    assert population.has_battery.tolist() == [False, True, False, False, False, True]
    np.testing.assert_allclose(population.eta_charge, [1, 0.95, 1, 1, 1, 0.95], rtol=1e-15)
    np.testing.assert_allclose(population.generation_limit_kw[0, 12], 5.952, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("prosumers.csv", "alpha", "alpa", "unknown column 'alpa'; did you mean 'alpha'"),
        ("prosumers.csv", ",alpha,", ",beta,", "column 'beta' stands twice"),
        ("prosumers.csv", "1,3,prosumer", "1,9,prosumer", "row 2, column bus: bus 9 is not in"),
        ("prosumers.csv", "1,3,prosumer", "0,3,prosumer", "id 0 with role 'prosumer'"),
        ("prosumers.csv", "1,3,prosumer", "-1,3,prosumer", "id -1 is negative"),
        ("prosumers.csv", "1,3,prosumer", "2,3,prosumer", "row 3, .*a second row"),
        ("prosumers.csv", "1,3,prosumer", "1,3,seller", "'seller' is no role"),
        ("prosumers.csv", "1,3,prosumer", "0,3,grid", "not at the slack bus; put it at bus 1"),
        ("prosumers.csv", "1,3,prosumer", "x,3,prosumer", "'x' is not a whole number"),
        ("prosumers.csv", "1,3,prosumer", "1.5,3,prosumer", "'1.5' is not a whole number"),
        ("prosumers.csv", "1,3,prosumer,0.001", "1,3,prosumer,-1", "column alpha: -1 is negative"),
        ("prosumers.csv", "1,3,prosumer,0.001", "1,3,prosumer,nan", "alpha: nan is not a number"),
        ("prosumers.csv", "1,3,prosumer,0.001", "1,3,prosumer,inf", "alpha: inf is not a number"),
        ("prosumers.csv", "0.95,0.95", "0.95,1.5", "eta_discharge: an efficiency outside"),
        ("profiles.csv", "1,3,0,0", "1,3,0,", "row 5, column generation_limit_kw: empty"),
        ("profiles.csv", "1,3,0,0", "1,4,0,0", "a second row for prosumer_id 1, period 4"),
        ("profiles.csv", "1,3,0,0", "1,-3,0,0", "period -3 is negative"),
        ("profiles.csv", "1,3,0,0", "7,3,0,0", "prosumer 7 is not in prosumers.csv"),
        ("profiles.csv", "1,3,0,0", "1,3,5,0", "column generation_min_kw: 5 is above generation_l"),
        ("prosumers.csv", "2,9,5,5", "2,9,9.5,5", "outside soc_min_kwh to soc_max_kwh; start betw"),
        ("prosumers.csv", "2,9,5,5", "2,9,5,9.5", "above soc_max_kwh"),
        ("prosumers.csv", "2,9,5,5,4,4", "2,9,5,8,0.1,4", "cannot be reached from 5 kWh"),
        ("network.csv", "1,1,2", "1,2,2", "the line ends where it begins"),
        ("network.csv", "0.0008,20", "0,20", "a line without reactance"),
        ("network.csv", "0.0008,20", "0.0008,-20", "row 2, column limit_kw: -20 is negative"),
        ("network.csv", "2,2,3", "1,2,3", "a second row for line 1"),
        ("buses.csv", "5,1,-1", "6,1,-1", "bus 6 is not in the network"),
        ("buses.csv", "5,1,-1\n", "", "bus 5 is missing"),
    ],
)
def test_wrong_cells_are_refused(folder, name, old, new, message):
    edit(folder, name, old, new)
    with pytest.raises(InputError, match=message) as caught:
        load_case(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gaps_are_refused(folder):
    lines = (folder / "profiles.csv").read_text().splitlines(keepends=True)
    gap = [x for x in lines if not x.startswith("3,17,")]
    (folder / "profiles.csv").write_text("".join(gap))
    with pytest.raises(InputError, match="period 17 of prosumer 3 is missing"):
        load_case(folder)
    (folder / "profiles.csv").write_text("".join(x for x in lines if not x.startswith("3,")))
    with pytest.raises(InputError, match="prosumer 3 has no rows"):
        load_case(folder)
    (folder / "profiles.csv").write_text(lines[0])
    with pytest.raises(InputError, match=r"profiles\.csv: no rows"):
        load_case(folder)
    (folder / "profiles.csv").write_text("")
    with pytest.raises(InputError, match="cannot be read"):
        load_case(folder)
    (folder / "profiles.csv").write_text(lines[0] + "1,2\n")
    with pytest.raises(InputError, match="cannot be read"):
        load_case(folder)


def test_row_order_and_comments_do_not_matter(folder):
    case = load_case(folder)
    for name in ("prosumers.csv", "profiles.csv"):
        head, *rows = (folder / name).read_text().splitlines()
        text = "\n".join(["# source: here", "# licence: that", head, *reversed(rows)])
        (folder / name).write_text(text)
    assert_same(case.population, load_case(folder).population)
    edit(folder, "prosumers.csv", "6,3,prosumer,0", "6,3,prosumer,-1")
    with pytest.raises(InputError, match="row 4, column alpha"):
        load_case(folder)


def test_touching_bounds_stay_in_order_when_averaged(folder):
    text = (folder / "profiles.csv").read_text().splitlines()
    rows = [row.split(",") for row in text[1:]]
    for row in rows:
        row[2] = row[3] if int(row[1]) % 2 else "0"
    (folder / "profiles.csv").write_text("\n".join([text[0], *(",".join(row) for row in rows)]))
    for periods in (96, 36, 7):
        population = load_case(folder, periods=periods).population
        assert (population.generation_min_kw <= population.generation_limit_kw).all()


def test_a_grid_row_needs_tariffs(folder):
    zeros = ",0" * 14
    with (folder / "prosumers.csv").open("a") as file:
        file.write(f"0,1,grid{zeros}\n")
    case = load_case(folder)
    assert case.grid.size_weight == pytest.approx(case.population.size_weight.sum())
    with pytest.raises(InputError, match="a row of role 'grid', but no `tariffs`"):
        load_case(folder, settings=["tariffs=null"])


def test_split_network_is_refused(folder):
    with (folder / "network.csv").open("a") as file:
        file.write("5,7,8,0.1,0.1,5,0\n")
    with pytest.raises(InputError, match="not connected to the slack bus 1"):
        load_case(folder, settings=["network.buses=null"])


def test_missing_limit_means_none(folder):
    edit(folder, "network.csv", "0.0008,20", "0.0008,")
    case = load_case(folder)
    assert case.network.limit_kw[0] == np.inf
    assert 0 not in case.rows.index


def test_parquet_of_other_types(folder):
    table = csv.read_csv(folder / "network.csv")
    assert table.schema.field("limit_kw").type == pa.int64()
    pq.write_table(table, folder / "network.parquet")
    assert_same(
        load_case(folder).network,
        load_case(folder, settings=["network.lines=network.parquet"]).network,
    )
    bad = table.set_column(0, "line", pa.array([[1], [2], [3], [4]]))
    pq.write_table(bad, folder / "network.parquet")
    with pytest.raises(InputError, match="column line: cells of type list"):
        load_case(folder, settings=["network.lines=network.parquet"])
