"""A run folder as a third party reads it: pyarrow and numpy only, nothing of raygrid.

Everything that the tables claim is computed again from the tables alone.
"""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
GRID = 0

COLUMNS = {
    "convergence": ["iteration", "day", "primal_residual", "dual_residual", "primal_tolerance",
                    "dual_tolerance", "rho", "seconds"],
    "schedule": ["prosumer_id", "bus", "period", "p_kw", "generation_kw", "demand_kw", "charge_kw",
                 "discharge_kw", "soc_kwh", "ev_kw", "shifted_kw"],
    "prosumers": ["prosumer_id", "bus", "role", "alpha", "beta", "gamma", "omega", "delta",
                  "soc_min_kwh", "soc_max_kwh", "soc_initial_kwh", "soc_final_min_kwh",
                  "charge_max_kw", "discharge_max_kw", "eta_charge", "eta_discharge",
                  "cycle_cost_per_kwh"],
    "profiles": ["prosumer_id", "period", "generation_min_kw", "generation_limit_kw",
                 "demand_min_kw", "demand_limit_kw", "fixed_load_kw"],
    "tariffs": ["period", "import_price_per_kwh", "export_price_per_kwh", "import_limit_kw",
                "export_limit_kw"],
    "network": ["line", "from_bus", "to_bus", "x_pu", "limit_kw", "flow_offset_kw"],
    "flows": ["line", "period", "flow_kw", "limit_kw"],
    "prices": ["bus", "period", "lmp_per_kwh", "settlement_price_per_kwh"],
    "trades": ["trade_id", "seller_id", "buyer_id", "period", "energy_wh", "price_micro_per_kwh",
               "value_micro", "network_micro", "status", "reason", "batch_id", "sequence",
               "tx_hash", "block"],
}  # fmt: skip
EXTRA = {"prosumers": ["size_weight"], "network": ["r_pu"]}
"""Columns that only the same bits again or an AC load flow need."""
SETTLEMENT = ["batch_id", "sequence", "tx_hash", "block"]
SUMMARY = ["schema_version", "scenario", "run_id", "status", "prosumers", "actors", "periods",
           "buses", "lines", "clearing", "central", "settlement", "forecast", "intraday",
           "powerflow", "memory", "communication", "days", "seconds"]  # fmt: skip
CLEARING = ["status", "iterations", "primal_residual", "dual_residual", "primal_tolerance",
            "dual_tolerance", "welfare", "energy_traded_kwh", "grid_import_kwh",
            "max_line_utilisation", "network_constrained", "line_violations",
            "max_balance_error_kw", "settlement_price_surplus",
            "settlement_price_tariff_difference", "locational_price_surplus",
            "locational_price_tariff_difference", "seconds"]  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass
class Run:
    path: Path
    manifest: dict
    summary: dict
    tables: dict

    @property
    def hours(self):
        return self.manifest["period_hours"]

    def grid_of(self, table, row, value):
        """(rows, periods) matrix of a column, rows and periods in ascending order."""
        c = self.tables[table]
        rows, r = np.unique(c[row], return_inverse=True)
        out = np.full((len(rows), self.summary["periods"]), np.nan)
        out[r, c["period"]] = c[value]
        assert not np.isnan(out).any()
        return rows, out

    def of_prosumer(self, column):
        """A column of the prosumers table for every row of the schedule."""
        ids = self.tables["prosumers"]["prosumer_id"]
        order = np.argsort(ids)
        rows = order[np.searchsorted(ids[order], self.tables["schedule"]["prosumer_id"])]
        return self.tables["prosumers"][column][rows]

    def of_profile(self, column):
        """A column of the profiles table for every row of the schedule; 0 for the grid."""
        c, s, n = self.tables["profiles"], self.tables["schedule"], self.summary["periods"]
        key, wanted = c["prosumer_id"] * n + c["period"], s["prosumer_id"] * n + s["period"]
        order = np.argsort(key)
        at = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        grid = s["prosumer_id"] == GRID
        assert (key[order][at] == wanted)[~grid].all()
        return np.where(grid, 0.0, c[column][order][at])


def simulate(scenario, out):
    done = subprocess.run(
        [sys.executable, "-m", "raygrid", "simulate", str(scenario), "--actors", "2", "--quiet",
         "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def read(path):
    tables = {}
    for name in COLUMNS:
        if (path / f"{name}.parquet").exists():
            table = pq.read_table(path / f"{name}.parquet")
            tables[name] = {c: table[c].to_numpy(zero_copy_only=False) for c in table.column_names}
    manifest = json.loads((path / "manifest.json").read_text())
    return Run(path, manifest, json.loads((path / "summary.json").read_text()), tables)


@pytest.fixture(scope="module", params=["tiny", "ieee14"])
def run(request, tmp_path_factory):
    return read(simulate(request.param, tmp_path_factory.mktemp("runs")))


def test_files_and_columns(run):
    assert {"report.html", "ptdf.npz", "scenario.resolved.yaml"} <= {
        p.name for p in run.path.iterdir()
    }
    for name, columns in COLUMNS.items():
        schema = pq.read_schema(run.path / f"{name}.parquet")
        extra = EXTRA.get(name, [])
        assert schema.names == columns + extra
        may_be_null = {*extra, *(SETTLEMENT if name == "trades" else [])}
        assert {field.name for field in schema if field.nullable} == may_be_null
    for column in ("energy_wh", "price_micro_per_kwh", "value_micro", "network_micro"):
        assert pq.read_schema(run.path / "trades.parquet").field(column).type == pa.int64()
    assert set(run.summary) == set(SUMMARY)
    assert set(run.summary["clearing"]) == set(CLEARING)
    assert run.summary["status"] == run.manifest["status"] == "ok"
    assert run.summary["forecast"] is run.summary["intraday"] is None
    hashed = run.manifest["files"]
    for file, expected in hashed.items():
        assert hashlib.sha256((run.path / file).read_bytes()).hexdigest() == expected
    there = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    unhashed = {name for name in there - set(hashed) if not name.startswith("chain/")}
    assert unhashed == {"manifest.json", "report.html"}
    assert {"chain/chain.json", "chain/journal", "chain/chain_state.bin"} <= there


def test_every_trade_is_settled_on_the_embedded_chain(run):
    trades = pq.read_table(run.path / "trades.parquet")
    figures = run.summary["settlement"]
    assert figures["chain"] == "embedded"
    assert figures["settled"] == figures["verified"] == figures["trades"] == len(trades) > 0
    assert set(trades["status"].to_pylist()) == {"settled"}
    for column in ("batch_id", "sequence", "tx_hash", "block"):
        assert trades[column].null_count == 0


def test_injection_is_the_sum_of_the_devices(run):
    s = run.tables["schedule"]
    sum_kw = (
        s["generation_kw"] - s["demand_kw"] - run.of_profile("fixed_load_kw")
        + s["discharge_kw"] - s["charge_kw"] - s["ev_kw"] - s["shifted_kw"]
    )  # fmt: skip
    np.testing.assert_allclose(s["p_kw"], sum_kw, rtol=0, atol=1e-12)


def test_device_limits_hold_exactly(run):
    s = run.tables["schedule"]
    grid = s["prosumer_id"] == GRID
    order = np.argsort(run.tables["tariffs"]["period"])
    tariff = {k: v[order][s["period"]] for k, v in run.tables["tariffs"].items()}
    for power, low, high, grid_high in (
        ("generation_kw", "generation_min_kw", "generation_limit_kw", "import_limit_kw"),
        ("demand_kw", "demand_min_kw", "demand_limit_kw", "export_limit_kw"),
    ):
        assert (s[power] >= run.of_profile(low)).all()
        assert (s[power] <= np.where(grid, tariff[grid_high], run.of_profile(high))).all()
    for power, high in (("charge_kw", "charge_max_kw"), ("discharge_kw", "discharge_max_kw")):
        assert (s[power] >= 0).all()
        assert (s[power] <= run.of_prosumer(high)).all()
    assert not (s["charge_kw"] * s["discharge_kw"]).any()


def test_state_of_charge(run):
    who, soc = run.grid_of("schedule", "prosumer_id", "soc_kwh")
    charge = run.grid_of("schedule", "prosumer_id", "charge_kw")[1]
    discharge = run.grid_of("schedule", "prosumer_id", "discharge_kw")[1]
    p = run.tables["prosumers"]
    at = np.argsort(p["prosumer_id"])
    np.testing.assert_array_equal(p["prosumer_id"][at], who)
    has = (p["charge_max_kw"][at] > 0) | (p["discharge_max_kw"][at] > 0)
    assert has.any()
    at = at[has]
    soc, charge, discharge = soc[has], charge[has], discharge[has]
    before = np.column_stack([p["soc_initial_kwh"][at], soc[:, :-1]])
    gained = run.hours * (
        charge * p["eta_charge"][at, None] - discharge / p["eta_discharge"][at, None]
    )
    np.testing.assert_allclose(soc, before + gained, rtol=1e-12, atol=1e-9)
    assert (soc >= p["soc_min_kwh"][at, None] - 1e-9).all()
    assert (soc <= p["soc_max_kwh"][at, None] + 1e-9).all()
    assert (soc[:, -1] >= p["soc_final_min_kwh"][at] - 1e-9).all()


def test_balance_and_lines(run):
    s = run.tables["schedule"]
    n = run.summary["periods"]
    total = np.bincount(s["period"], weights=s["p_kw"], minlength=n)
    scale = np.bincount(s["period"], weights=np.abs(s["p_kw"]), minlength=n)
    assert (np.abs(total) <= 1e-6 * scale).all()
    stored = np.load(run.path / "ptdf.npz")
    matrix = next(stored[k] for k in stored.files if stored[k].ndim == 2)
    buses, lines = run.grid_of("prices", "bus", "lmp_per_kwh")[0], run.tables["network"]["line"]
    assert matrix.shape == (len(lines), len(buses))
    p_bus = np.zeros((len(buses), n))
    np.add.at(p_bus, (np.searchsorted(buses, s["bus"]), s["period"]), s["p_kw"])
    known, flow = run.grid_of("flows", "line", "flow_kw")
    limit = run.grid_of("flows", "line", "limit_kw")[1]
    order = np.argsort(lines)
    np.testing.assert_array_equal(known, lines[order])
    offset = run.tables["network"]["flow_offset_kw"][order, None]
    np.testing.assert_allclose(flow, (matrix @ p_bus)[order] + offset, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(
        limit, np.broadcast_to(run.tables["network"]["limit_kw"][order, None], limit.shape)
    )
    assert (np.abs(flow) <= limit * (1 + 1e-6)).all()
    assert np.abs(flow / limit).max() == pytest.approx(
        run.summary["clearing"]["max_line_utilisation"], rel=1e-9
    )
    assert run.summary["clearing"]["line_violations"] == 0


def test_trades_are_the_net_injections(run):
    t, s, n = run.tables["trades"], run.tables["schedule"], run.summary["periods"]
    np.testing.assert_array_equal(t["trade_id"], np.unique(t["trade_id"]))
    assert (t["energy_wh"] > 0).all()
    assert (t["seller_id"] != t["buyer_id"]).all()
    # Half a unit up, as invoices round.
    value = (t["energy_wh"] * t["price_micro_per_kwh"] + 500) // 1000
    np.testing.assert_array_equal(t["value_micro"], value)
    top = int(s["prosumer_id"].max()) + 1
    net = np.zeros((top, n), dtype=np.int64)
    np.add.at(net, (t["seller_id"], t["period"]), t["energy_wh"])
    np.add.at(net, (t["buyer_id"], t["period"]), -t["energy_wh"])
    scheduled = np.zeros((top, n))
    scheduled[s["prosumer_id"], s["period"]] = s["p_kw"] * run.hours * 1e3
    # Nobody both sells and buys in a period.
    sold, bought = np.zeros((top, n), dtype=bool), np.zeros((top, n), dtype=bool)
    sold[t["seller_id"], t["period"]] = True
    bought[t["buyer_id"], t["period"]] = True
    assert not (sold & bought).any()
    # What is not traded is rounding to whole Wh, or said to be below the minimum size.
    dropped = sum(
        int(note.split()[0]) for note in run.manifest["notes"] if "below the minimum trade" in note
    )
    assert np.abs(net - scheduled).max() <= 1.0 + dropped
    assert np.abs(net - scheduled).sum() <= 1.0 * net.size + 2 * dropped
    kwh = t["energy_wh"].sum() / 1e3
    assert run.summary["clearing"]["energy_traded_kwh"] == pytest.approx(kwh, rel=1e-12)
    settlement = run.grid_of("prices", "bus", "settlement_price_per_kwh")[1][0]
    np.testing.assert_allclose(
        t["price_micro_per_kwh"], settlement[t["period"]] * 1e6, rtol=0, atol=0.5 + 1e-6
    )


def test_welfare_and_grid_import(run):
    s, at = run.tables["schedule"], run.of_prosumer
    grid = s["prosumer_id"] == GRID
    x, y = np.where(grid, 0.0, s["generation_kw"]), np.where(grid, 0.0, s["demand_kw"])
    generators = s["prosumer_id"][run.of_profile("generation_limit_kw") > 0]
    fixed_cost = np.where(np.isin(s["prosumer_id"], generators), at("gamma"), 0.0)
    cost = at("alpha") * x**2 + at("beta") * x + fixed_cost
    cost += at("delta") * y - at("omega") * np.log(1 + y)
    cost += at("cycle_cost_per_kwh") * (s["charge_kw"] + s["discharge_kw"])
    tariff = run.tables["tariffs"]
    order = np.argsort(tariff["period"])
    period = s["period"][grid]
    imported, exported = s["generation_kw"][grid], s["demand_kw"][grid]
    trade = (
        tariff["import_price_per_kwh"][order][period] * imported
        - tariff["export_price_per_kwh"][order][period] * exported
    )
    welfare = -run.hours * (cost.sum() + trade.sum())
    assert run.summary["clearing"]["welfare"] == pytest.approx(welfare, rel=1e-8, abs=1e-7)
    assert run.summary["clearing"]["grid_import_kwh"] == pytest.approx(
        run.hours * imported.sum(), rel=1e-6, abs=1e-6
    )
    central = run.summary["central"]
    assert central["gap"] == pytest.approx(
        abs(run.summary["clearing"]["welfare"] - central["welfare"]) / abs(central["welfare"])
    )
    assert central["gap"] < 1e-4


def test_money_that_prices_leave_over(run):
    clearing, s = run.summary["clearing"], run.tables["schedule"]
    bus, lmp = run.grid_of("prices", "bus", "lmp_per_kwh")
    uniform = run.grid_of("prices", "bus", "settlement_price_per_kwh")[1]
    at = np.searchsorted(bus, s["bus"])
    for price, name in ((uniform, "settlement_price"), (lmp, "locational_price")):
        paid = -run.hours * np.sum(price[at, s["period"]] * s["p_kw"])
        assert clearing[f"{name}_surplus"] == pytest.approx(paid, rel=1e-6, abs=1e-7)
    assert abs(clearing["settlement_price_surplus"]) < 1e-6
    # Its line binds at noon, so that buyers behind it pay more than sellers before it get.
    assert clearing["locational_price_surplus"] > 0.001
    grid = s["prosumer_id"] == GRID
    tariff, period, kw = run.tables["tariffs"], s["period"][grid], s["p_kw"][grid]
    order = np.argsort(tariff["period"])
    imported, exported = (
        tariff[f"{kind}_price_per_kwh"][order][period] for kind in ("import", "export")
    )
    owed = np.where(kw > 0, imported, exported)
    for price, name in ((uniform, "settlement_price"), (lmp, "locational_price")):
        got = clearing[f"{name}_tariff_difference"]
        if run.summary["scenario"] == "tiny":
            expected = run.hours * np.sum((price[at[grid], period] - owed) * kw)
            assert got == pytest.approx(expected, rel=1e-6, abs=1e-7)
        else:
            assert got is None  # its import price is a penalty


def test_convergence(run):
    c, clearing = run.tables["convergence"], run.summary["clearing"]
    np.testing.assert_array_equal(c["iteration"], np.arange(1, clearing["iterations"] + 1))
    for kind in ("primal", "dual"):
        met = c[f"{kind}_residual"] <= c[f"{kind}_tolerance"]
        assert met[-1]
        assert clearing[f"{kind}_residual"] == c[f"{kind}_residual"][-1]


def test_resolved_scenario_gives_the_same_bits(run, tmp_path):
    if run.summary["scenario"] != "tiny":
        pytest.skip("one scenario is enough")
    again = read(simulate(run.path / "scenario.resolved.yaml", tmp_path))
    assert again.summary["clearing"]["welfare"] == run.summary["clearing"]["welfare"]
    assert again.summary["clearing"]["iterations"] == run.summary["clearing"]["iterations"]
    for name in ("schedule", "prices", "flows", "trades"):
        assert (again.path / f"{name}.parquet").read_bytes() == (
            run.path / f"{name}.parquet"
        ).read_bytes()
