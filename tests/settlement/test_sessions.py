"""Both sessions of a day and the balance at tariff, settled apart on the embedded chain."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygrid.market.sessions import (
    SESSIONS,
    balance_trades,
    n_sessions,
    session_table,
    slots,
    whole_wh,
)
from raygrid.market.trades import Trades, micro_value
from raygrid.settlement.audit import RunRecords, audit
from raygrid.settlement.delivery import delivery_of
from raygrid.settlement.desk import SettlementDesk
from raygrid.settlement.history import History
from raygrid.settlement.plan import Registry
from raygrid.settlement.rules import Tolerance
from tests.settlement.market import PERIOD_HOURS, order

N, T = 8, 4
IDS = np.arange(1, N + 1)
REGISTRY = Registry.of(range(N + 1))
TURNS = 1
"""Sells what it bought the day ahead, and more."""
LIAR = 5


def peers(rng, sellers, buyers):
    """Trades of every period between those who sell and those who buy."""
    rows = [
        (s, b, t, int(rng.integers(20, 900)), int(rng.integers(50_000, 250_000)))
        for t in range(T)
        for s in sellers
        for b in buyers
    ]
    seller, buyer, period, energy, price = np.array(rows, dtype=np.int64).T.copy()
    value, fee = micro_value(energy, price), rng.integers(0, 500, len(rows))
    return Trades(np.arange(len(rows)), seller, buyer, period, energy, price, value, fee)


class Day:
    """A day with four sessions: who buys a day ahead sells intraday, and the grid does both."""

    def __init__(self, seed=1, first_period=0):
        rng = np.random.default_rng(seed)
        ahead = peers(rng, sellers=(2, 3), buyers=(TURNS, 4, LIAR))
        today = peers(rng, sellers=(TURNS, 6), buyers=(2, 7))
        imports, exports = np.zeros((2, T, N))
        imports[:, [3, 6]], exports[:, [0, 7]] = rng.uniform(0.1, 2, (2, T, 2))
        tariffs = np.full(T, 0.3), np.full(T, 0.05)
        balance = balance_trades(imports, exports, IDS, *tariffs)
        self.trades = session_table((ahead, today, *balance), 1000 * first_period, first_period)
        self.first = first_period

    @property
    def net_wh(self):
        """What everybody but the grid has to deliver (N, T)."""
        net = np.zeros((N + 1, T), dtype=np.int64)
        at = self.trades["period"].to_numpy() - self.first
        np.add.at(net, (self.trades["seller_id"], at), self.trades["energy_wh"])
        np.subtract.at(net, (self.trades["buyer_id"], at), self.trades["energy_wh"])
        return net[1:]

    def delivery(self, factor=1.0, who=LIAR):
        p_kw = self.net_wh / 1e3 / PERIOD_HOURS
        p_kw[who - 1] *= factor
        rows = {
            "prosumer_id": np.repeat(IDS, T),
            "period": np.tile(self.first + np.arange(T), N),
            "p_kw": p_kw.ravel(),
        }
        return delivery_of(pa.table(rows), self.trades, REGISTRY)


def settle(run: Path, *days, factor=1.0, who=LIAR):
    with SettlementDesk(order(run, REGISTRY)) as desk:
        desk.prepare()
        desk.settle([day.delivery(factor, who) for day in days])
        done = desk.finish(pa.concat_tables([day.trades for day in days]))
        return done, audited(desk, done.tables)


def audited(desk, tables):
    deployment = desk.deployment
    view = History(deployment.chain, deployment.ledger.address, deployment.first_block())
    names = ("participants", "trades", "readings", "statements")
    records = RunRecords.from_tables(*(tables[n] for n in names[:3]), Tolerance(5, 15_000),
                                     tables["statements"])  # fmt: skip
    return audit(records, view, (0, 7, 11))


def of_session(trades, name):
    return trades.filter(pc.equal(trades["session"], name))


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    days = Day(1), Day(2, first_period=T)
    return settle(tmp_path_factory.mktemp("sessions"), *days)


def test_every_session_settles_and_the_audit_passes(settled):
    done, report = settled
    trades = done.tables["trades"]
    assert set(trades["status"].to_pylist()) == {"settled"}
    assert report.differences == ()
    assert len(report.proven) == 3
    batches = done.tables["batches"]
    assert batches.num_rows == 2 * T * len(SESSIONS)
    assert batches["sequence"].to_pylist() == list(range(batches.num_rows))
    assert batches["session"].to_pylist()[: len(SESSIONS)] == list(SESSIONS)
    assert set(batches["period"].to_pylist()) == set(range(2 * T))


def test_who_buys_a_day_ahead_and_sells_intraday_is_paid_for_both(settled):
    trades = settled[0].tables["trades"]
    ahead, today = (of_session(trades, name) for name in SESSIONS[:2])
    bought = ahead.filter(pc.equal(ahead["buyer_id"], TURNS))
    sold = today.filter(pc.equal(today["seller_id"], TURNS))
    (own,) = settled[0].tables["statements"].slice(TURNS, 1).to_pylist()
    paid = pc.sum(bought["value_micro"]).as_py() + pc.sum(bought["network_micro"]).as_py()
    assert own["paid_micro"] == paid > 0
    exported = of_session(trades, "export").filter(
        pc.equal(of_session(trades, "export")["seller_id"], TURNS)
    )
    earned = pc.sum(sold["value_micro"]).as_py() + pc.sum(exported["value_micro"]).as_py()
    assert own["earned_micro"] == earned > 0


def test_money_and_energy_are_kept_in_every_session_and_in_all(settled):
    done, _ = settled
    trades, batches = done.tables["trades"], done.tables["batches"]
    for name in SESSIONS:
        of_it, in_it = of_session(trades, name), of_session(batches, name)
        for column in ("energy_wh", "value_micro", "network_micro"):
            assert pc.sum(of_it[column]).as_py() == pc.sum(in_it[column]).as_py()
    statement = done.tables["statements"]
    total = {name: pc.sum(statement[name]).as_py() for name in statement.column_names
             if name.endswith(("_wh", "_micro"))}  # fmt: skip
    assert total["sold_wh"] == total["bought_wh"] == pc.sum(trades["energy_wh"]).as_py()
    assert total["paid_micro"] == total["earned_micro"] + total["network_micro"]
    # What is left over of each period's trades is what the meters show.
    readings = done.tables["readings"]
    assert pc.sum(readings["traded_wh"]).as_py() == 0


def test_a_meter_that_lies_voids_what_its_owner_traded_in_any_session(tmp_path):
    done, report = settle(tmp_path, Day(3), factor=0.5)
    trades = done.tables["trades"]
    own = np.isin(trades["seller_id"], LIAR) | np.isin(trades["buyer_id"], LIAR)
    rejected = np.array(trades["status"].to_pylist()) == "rejected"
    grid = np.isin(trades["seller_id"], 0) | np.isin(trades["buyer_id"], 0)
    np.testing.assert_array_equal(rejected & ~grid, own & ~grid)
    assert own.any()
    assert report.differences == ()


def test_both_sessions_of_a_liar_are_void(tmp_path):
    done, report = settle(tmp_path, Day(4), factor=-0.5, who=TURNS)
    trades = done.tables["trades"]
    assert report.ok
    own = trades.filter(
        pc.or_(pc.equal(trades["seller_id"], TURNS), pc.equal(trades["buyer_id"], TURNS))
    )
    for name in ("day_ahead", "intraday"):
        assert "rejected" in of_session(own, name)["status"].to_pylist()


def test_again_changes_nothing(tmp_path):
    day = Day(5)
    first, _ = settle(tmp_path, day)
    again, report = settle(tmp_path, day)
    assert all(again.tables[name].equals(table) for name, table in first.tables.items())
    assert again.summary.transactions == first.summary.transactions
    assert report.ok


@pytest.mark.parametrize("session", SESSIONS)
def test_the_audit_finds_a_trade_of_any_session_that_was_changed(tmp_path, session):
    day = Day(6)
    with SettlementDesk(order(tmp_path, REGISTRY)) as desk:
        desk.prepare()
        desk.settle([day.delivery()])
        tables = dict(desk.finish(day.trades).tables)
        trades = tables["trades"]
        row = trades["session"].to_pylist().index(session)
        energy = trades["energy_wh"].to_pylist()
        energy[row] += 1
        at = trades.column_names.index("energy_wh")
        tables["trades"] = trades.set_column(at, "energy_wh", pa.array(energy))
        found = audited(desk, tables).differences
    sequence = trades["sequence"][row].as_py()
    assert any(f"batch {sequence}" in str(difference) for difference in found)


def test_a_trade_that_was_moved_to_another_session_is_found(tmp_path):
    day = Day(7)
    with SettlementDesk(order(tmp_path, REGISTRY)) as desk:
        desk.prepare()
        desk.settle([day.delivery()])
        tables = dict(desk.finish(day.trades).tables)
        trades = tables["trades"]
        names = trades["session"].to_pylist()
        row = names.index("intraday")
        names[row] = "day_ahead"
        at = trades.column_names.index("session")
        tables["trades"] = trades.set_column(at, "session", pa.array(names))
        assert not audited(desk, tables).ok


def test_slots_number_periods_and_sessions():
    trades = Day(1, first_period=3).trades
    assert n_sessions(trades) == len(SESSIONS)
    period, session = np.divmod(slots(trades), len(SESSIONS))
    np.testing.assert_array_equal(period, trades["period"])
    assert [SESSIONS[k] for k in session] == trades["session"].to_pylist()
    plain = trades.drop_columns(["session"])
    np.testing.assert_array_equal(slots(plain), plain["period"])
    assert n_sessions(plain) == 1


def test_the_balance_at_tariff_is_whole_watt_hours():
    imports, exports = np.array([[0.0004, 1.2346], [0.0, 2.0]]), np.zeros((2, 2))
    bought, sold = balance_trades(
        imports, exports, np.array([4, 9]), np.array([0.3, 0.4]), np.array([0.1, 0.1]), 96
    )
    assert len(sold) == 0
    assert bought.seller_id.tolist() == [0, 0]
    assert bought.buyer_id.tolist() == [9, 9]
    assert bought.energy_wh.tolist() == [1235, 2000]
    assert bought.period.tolist() == [96, 97]
    assert bought.value_micro.tolist() == [370_500, 800_000]


@given(st.lists(st.lists(st.floats(0.0, 50.0), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_grid_is_billed_what_its_meter_shows(energies: list[list[float]]) -> None:
    """Each is less than 1 Wh off, and all together less than one."""
    kwh = np.array(energies)
    found = whole_wh(kwh)
    assert (np.abs(found - kwh * 1e3) < 1.0 + 1e-9).all()
    np.testing.assert_array_equal(found.sum(axis=1), np.rint((kwh * 1e3).sum(axis=1)))


def test_dust_of_many_does_not_add_up() -> None:
    """Six take 0.7 Wh: 4 in all, where 1 Wh each would be 6."""
    assert whole_wh(np.full((1, 6), 0.7e-3)).sum() == 4
    assert whole_wh(np.full((2, 50), 0.1e-3)).sum(axis=1).tolist() == [5, 5]
