"""A run of several days on Ray: each day as if alone, from the charge that the last one left."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from actors.session import clearing_options
from raygrid.market.session import clear, local_exchange
from raygrid.prosumer.carried import CarriedCommunity, Charge
from raygrid.prosumer.stores import StoreKind
from raygrid.scenario.build import draft_another_day, draft_case
from raygrid.scenario.load import load_scenario

ROOT = Path(__file__).resolve().parent.parent
DAYS, T = 3, 24
SETTINGS = ("population.evs.share=0.4", "population.evs.v2g_share=0.5",
            "population.shiftable.share=0.4", "stages.forecast=perfect",
            "stages.intraday=none")  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def raygrid(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "raygrid", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def simulate(out, *arguments):
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    done = raygrid(
        "simulate", "community", "--agents", 20, "--days", DAYS, *settings, "--quiet",
        "--out", out, *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("one"), "--actors", "3", "--chain", "embedded")


@pytest.fixture(scope="module")
def summary(run):
    return json.loads((run / "summary.json").read_text())


def table(run, name):
    return pq.read_table(run / f"{name}.parquet")


def by_prosumer(rows, column):
    """(N + grid, D T) values of a column of the schedule, by id."""
    rows = rows.sort_by([("prosumer_id", "ascending"), ("period", "ascending")])
    return rows[column].to_numpy().reshape(-1, DAYS * T)


def test_tables_have_the_periods_of_all_days(run, summary):
    for name in ("schedule", "profiles", "tariffs", "flows", "prices", "trades"):
        assert set(table(run, name)["period"].to_pylist()) == set(range(DAYS * T)), name
    rounds = table(run, "convergence")
    counts = [pc.sum(pc.equal(rounds["day"], day)).as_py() for day in range(DAYS)]
    assert counts == [day["clearing"]["iterations"] for day in summary["days"]]
    ids = table(run, "trades")["trade_id"].to_numpy()
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    assert (np.diff(table(run, "trades")["period"].to_numpy()) >= 0).all()
    stores = table(run, "stores")
    keys = ["prosumer_id", "store", "stay"]
    assert stores.group_by(keys).aggregate([]).num_rows == stores.num_rows
    assert stores["arrival_period"].to_numpy().max() > (DAYS - 1) * T


def test_energy_is_kept_over_midnight(run):
    """Batteries by (3-11) from period to period, whatever day a period is of; EVs likewise."""
    schedule, who = table(run, "schedule"), table(run, "prosumers").sort_by("prosumer_id")
    eta_c, eta_d = (np.where((e := who[f"eta_{n}"].to_numpy()) > 0, e, 1.0)[:, None]
                    for n in ("charge", "discharge"))  # fmt: skip
    soc = by_prosumer(schedule, "soc_kwh")
    charge, discharge = (by_prosumer(schedule, f"{n}_kw") for n in ("charge", "discharge"))
    before = np.column_stack([who["soc_initial_kwh"].to_numpy(), soc[:, :-1]])
    np.testing.assert_allclose(soc, before + eta_c * charge - discharge / eta_d, atol=1e-9)
    assert (soc.reshape(-1, DAYS, T)[:, :, -1] >= who["soc_final_min_kwh"].to_numpy()[:, None]
            - 1e-9).all()  # fmt: skip
    assert np.abs(soc[:, T - 1] - who["soc_initial_kwh"].to_numpy()).max() > 0
    stores = table(run, "stores").filter(pc.equal(table(run, "stores")["kind"], "ev"))
    energy, net = by_prosumer(schedule, "ev_soc_kwh"), by_prosumer(schedule, "ev_kw")
    for row, prosumer in enumerate(who["prosumer_id"].to_pylist()):
        stays = stores.filter(pc.equal(stores["prosumer_id"], prosumer))
        if not stays.num_rows:
            continue
        used = np.zeros(DAYS * T)
        np.add.at(used, np.floor(stays["arrival_period"].to_numpy()).astype(int),
                  stays["used_kwh"].to_numpy())  # fmt: skip
        eta = stays["eta_charge"][0].as_py()
        into = np.where(net[row] > 0, net[row] * eta, net[row] / eta)
        first = stays["initial_kwh"].to_numpy()[np.argmin(stays["stay"].to_numpy())]
        before = np.append(first, energy[row, :-1])
        np.testing.assert_allclose(energy[row], before + into - used, atol=1e-6)


def test_every_day_is_that_day_alone_from_the_charge_it_began_with(run, summary):
    scenario, base_dir = load_scenario("community", agents=20, days=DAYS, settings=SETTINGS)
    draft = draft_case(scenario, base_dir=base_dir)
    first = draft.surveyed()
    soc = by_prosumer(table(run, "schedule"), "soc_kwh")[1:]
    ev = by_prosumer(table(run, "schedule"), "ev_soc_kwh")[1:]
    prices = table(run, "prices").sort_by([("bus", "ascending"), ("period", "ascending")])
    prices = prices["lmp_per_kwh"].to_numpy().reshape(-1, DAYS, T)
    for day in range(DAYS):
        case = first
        if day:
            case = draft_another_day(draft, first.network, base_dir=base_dir, day=day).surveyed()
            people = case.community.recipe(0, 20).build()
            row, stores = people.prosumer_id - 1, people.stores
            is_ev = stores.kind == StoreKind.EV
            energy = np.where(is_ev, ev[row[stores.owner], day * T - 1], 0.0)
            charge = Charge(soc[row, day * T - 1], stores.owner, energy)
            case = replace(case, community=CarriedCommunity(case.community, charge))
        options = clearing_options(scenario)
        alone = clear(case, options, local_exchange(case, options))
        assert alone.welfare == summary["days"][day]["clearing"]["welfare"]
        np.testing.assert_array_equal(alone.lmp_per_kwh, prices[:, day])


def test_the_summary_adds_the_days_up(run, summary):
    days = summary["days"]
    assert (summary["periods"], len(days)) == (DAYS * T, DAYS)
    assert [day["date"][:10] for day in days] == ["2016-03-16", "2016-03-17", "2016-03-18"]
    for key in ("welfare", "energy_traded_kwh", "grid_import_kwh", "iterations"):
        assert summary["clearing"][key] == sum(day["clearing"][key] for day in days)
    assert summary["clearing"]["max_line_utilisation"] == max(
        day["clearing"]["max_line_utilisation"] for day in days
    )
    assert all(0 <= day["central"]["gap"] < 1e-3 for day in days)
    assert summary["central"]["welfare"] == sum(day["central"]["welfare"] for day in days)
    assert summary["powerflow"]["min_voltage_pu"] == min(
        day["powerflow"]["min_voltage_pu"] for day in days
    )
    assert summary["settlement"]["trades"] == sum(day["trades"] for day in days)
    schedule = table(run, "schedule")
    ends = pc.is_in(schedule["period"], pa.array([(d + 1) * T - 1 for d in range(DAYS)]))
    last = schedule.filter(ends)
    stored = last["soc_kwh"].to_numpy() + last["ev_soc_kwh"].to_numpy()
    for day, at_end in zip(days, (stored[last["period"].to_numpy() // T == d].sum()
                                  for d in range(DAYS)), strict=True):  # fmt: skip
        assert day["stored_kwh"] == pytest.approx(at_end)
    page = (run / "report.html").read_text()
    assert "Day by day" in page


def test_all_days_are_settled_and_audited(run, summary):
    trades, meters = table(run, "trades"), table(run, "meters")
    assert set(trades["status"].to_pylist()) == {"settled"}
    assert summary["settlement"]["settled"] == trades.num_rows
    assert set(meters["day"].to_pylist()) == set(range(DAYS))
    closing = meters.sort_by([("prosumer_id", "ascending"), ("day", "ascending")])
    registers = closing["closing_wh"].to_numpy().reshape(-1, DAYS)
    opening = closing["opening_wh"].to_numpy().reshape(-1, DAYS)
    np.testing.assert_array_equal(opening[:, 1:], registers[:, :-1])
    audited = raygrid("audit", run)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_every_placement_gives_the_same_bits_and_settles_later(run, tmp_path):
    other = simulate(tmp_path, "--actors", "1", "--chain", "none", "--no-central")
    names = ["schedule", "prosumers", "profiles", "stores", "tariffs", "flows", "prices"]
    for name in names:
        assert table(run, name).equals(table(other, name)), name
    apart = ["status", "batch_id", "sequence", "tx_hash", "block"]
    assert table(run, "trades").drop(apart).equals(table(other, "trades").drop(apart))
    settled = raygrid("settle", other, "--chain", "embedded")
    assert settled.returncode == 0, settled.stderr
    # Escrows are funded for what settles together, and blocks hold what was sent together.
    apart = {"trades": ["tx_hash", "block"], "statements": ["opening_micro", "closing_micro"]}
    for one in (run, other):
        account = table(one, "statements")
        assert min(account["closing_micro"].to_pylist()) >= 0
    for name in ("trades", "readings", "statements"):
        drop = apart.get(name, [])
        assert table(run, name).drop(drop).equals(table(other, name).drop(drop)), name
    assert raygrid("audit", other).returncode == 0
