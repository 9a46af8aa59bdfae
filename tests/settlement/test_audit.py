"""The audit finds nothing in a settled run that is in order, and every tampering else."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raygrid.market.trades import energy_wh, locational_trades, sparse_trades
from raygrid.scenario.metering import Metering
from raygrid.settlement.audit import RunRecords, audit
from raygrid.settlement.contract import NETWORK_ACCOUNT, encode_batch
from raygrid.settlement.meter_audit import audit_meters
from raygrid.settlement.metering import MeterPark, with_grid
from raygrid.settlement.participants import simulated_participants
from raygrid.settlement.rules import BatchInput
from raygrid.settlement.statements import buyer_price_micro, statements_table
from raygrid.settlement.verification import Verification, meters_table, net_traded_wh
from tests.settlement.model import ModelChain

N, T, FUNDED = 8, 6, 3_000_000
ATTACKS = [
    {"kind": "scaling", "prosumers": [2], "factor": 1.5, "from_period": 2, "to_period": 4},
    {"kind": "forged_identity", "prosumers": [5]},
]
POOR = 7


class Settled:
    """A small run, settled on the model chain: tables, records and chain."""

    def __init__(self, poor=True):
        rng = np.random.default_rng(4)
        p = rng.normal(0, 2, (N, T))
        self.ids = ids = np.arange(N + 1, dtype=np.int64)
        p_kw = with_grid(p, -p.sum(axis=0))
        bus = rng.integers(0, 3, N + 1)
        matching = sparse_trades(ids, bus, energy_wh(ids, p_kw, 1.0), rng.random((3, 3)))
        # Prices that differ between buses, and are below zero in one period.
        lmp = np.outer([0.1, 0.2, 0.3], [1, 1, -1, 2, 1, 0.5])
        trades = locational_trades(matching, lmp, ids, bus).table()
        park = MeterPark(Metering(attacks=ATTACKS, drop_rate=0.1), "test", 1, ids)
        self.day = park.day(p_kw, 1.0)
        self.community = park.community
        funded = np.full(N + 1, FUNDED)
        funded[POOR] = 10 if poor else FUNDED
        keys = list(park.public_keys.values())
        self.people = simulated_participants(1, ids, np.zeros_like(ids), funded, keys)
        self.chain = ModelChain(park.tolerance.wh, park.tolerance.ppm, {0: 0})
        for k, micro in enumerate(funded.tolist()):
            self.chain.transfer(k, micro)
        self.chain.transfer(NETWORK_ACCOUNT, 2_000_000)
        c = {name: trades[name].to_numpy(zero_copy_only=False) for name in trades.column_names}
        at_buyer = buyer_price_micro(
            *(c[k] for k in ("energy_wh", "price_micro_per_kwh", "value_micro", "network_micro"))
        )
        accepted = self.day.accepted
        status, reason = np.full(len(trades), "settled", dtype="U9"), np.zeros(len(trades), int)
        for period in range(T):
            rows = np.flatnonzero(c["period"] == period)
            batch = BatchInput(
                0, period, 0, c["seller_id"][rows], c["buyer_id"][rows], c["energy_wh"][rows],
                c["price_micro_per_kwh"][rows], at_buyer[rows], accepted.reading_wh[:, period],
                accepted.valid[:, period],
            )  # fmt: skip
            reason[rows] = self.chain.settle(encode_batch(batch))
            if period == 3:
                self.chain.transfer(1, -5_000)
                self.people.funded_micro[1] -= 5_000
        status[reason > 0] = "rejected"
        self.reason = reason
        self.trades = put(put(trades, "status", pa.array(status.tolist())), "sequence", c["period"])
        net = net_traded_wh(c["seller_id"], c["buyer_id"], c["period"], c["energy_wh"], ids, 0, T)
        self.verification = Verification(accepted, net, park.tolerance)
        self.tolerance = park.tolerance

    def records(self, **changes):
        tables = {
            "participants": self.people.table(),
            "trades": self.trades,
            "readings": self.verification.readings_table(),
            "tolerance": self.tolerance,
            "statements": statements_table(self.people, self.trades),
        }
        return RunRecords.from_tables(**(tables | changes))

    def audit(self, prove=(), **changes):
        return audit(self.records(**changes), self.chain, prove)


def put(table, name, column):
    field, at = table.schema.field(name), table.column_names.index(name)
    return table.set_column(at, field, pa.array(column).cast(field.type))


def changed(table, name, row, cell):
    cells = table[name].to_pylist()
    cells[row] = cell
    return put(table, name, pa.array(cells, table.schema.field(name).type))


@pytest.fixture
def run():
    return Settled()


def test_the_run_has_something_to_find(run):
    """Trades settle and are void for every reason that can be, at prices of either sign."""
    assert set((run.reason & 0x7F).tolist()) == {0, 1, 2, 4}
    assert run.verification.accepted.estimated.any()
    assert (run.trades["value_micro"].to_numpy() < 0).any()
    assert (run.trades["network_micro"].to_numpy() != 0).any()


def test_a_run_in_order_passes_with_every_trade_proven(run):
    every = run.trades["trade_id"].to_pylist()
    report = run.audit(prove=every)
    assert [str(found) for found in report.differences] == []
    assert report.ok
    assert (report.batches, report.trades, report.balances) == (T, len(every), N + 2)
    assert report.settled == (run.reason == 0).sum()
    assert report.rejected == (run.reason > 0).sum()
    assert sorted(report.proven) == every


def told(report):
    assert not report.ok
    return "\n".join(str(found) for found in report.differences)


def settled_row(run):
    return int(np.flatnonzero(run.reason == 0)[3])


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("energy_wh", lambda v: v + 1),
        ("price_micro_per_kwh", lambda v: v + 1000),
        ("value_micro", lambda v: v + 1),
        ("network_micro", lambda v: v - 1),
        ("seller_id", lambda v: (v + 1) % (N + 1)),
        ("buyer_id", lambda v: (v + 3) % (N + 1)),
        ("buyer_id", lambda v: 77),
        ("energy_wh", lambda v: -v),
        ("status", lambda v: "rejected"),
        ("status", lambda v: "cleared"),
        ("sequence", lambda v: (v + 1) % T),
        ("sequence", lambda v: None),
        ("period", lambda v: (v + 1) % T),
        ("period", lambda v: 99),
    ],
)
def test_a_changed_trade_is_found(run, column, change):
    row = settled_row(run)
    cell = run.trades[column].to_pylist()[row]
    trades = changed(run.trades, column, row, change(cell))
    report = run.audit(trades=trades, statements=statements_table_or_none(run, trades))
    assert not report.ok


def statements_table_or_none(run, trades):
    known = set(run.ids.tolist())
    parties = {*trades["seller_id"].to_pylist(), *trades["buyer_id"].to_pylist()}
    return statements_table(run.people, trades) if parties <= known else None


def test_a_trade_left_out_or_added_is_found(run):
    row = settled_row(run)
    keep = np.arange(len(run.trades)) != row
    assert "bytes is" in told(run.audit(trades=run.trades.filter(pa.array(keep))))
    twice = pa.concat_tables([run.trades, run.trades.slice(row, 1)])
    assert not run.audit(trades=twice).ok


def test_a_changed_reading_is_found(run):
    readings = run.verification.readings_table()
    row = readings["accepted_wh"].to_pylist().index(run.verification.accepted.reading_wh[1, 0])
    for cell in (None, readings["accepted_wh"][row].as_py() + 1):
        report = run.audit(readings=changed(readings, "accepted_wh", row, cell))
        assert "record is" in told(report)


def test_a_changed_net_energy_is_found(run):
    readings = run.verification.readings_table()
    value = readings["traded_wh"][T].as_py()
    text = told(run.audit(readings=changed(readings, "traded_wh", T, value + 1)))
    assert text == f"participant 1, period 0: traded_wh is {value + 1}, should be {value}"


def test_another_tolerance_is_found(run):
    loose = replace(run.tolerance, wh=10**6)
    assert "status is rejected, should be settled" in told(run.audit(tolerance=loose))


def test_a_changed_balance_is_found(run):
    run.chain.balance[4] += 1
    run.chain.balance[NETWORK_ACCOUNT] -= 1
    text = told(run.audit())
    assert "participant 4: balance on the chain" in text
    assert "network account: balance" in text
    assert len(text.splitlines()) == 2


def test_a_lie_about_the_funds_is_found(run):
    people = replace(run.people, funded_micro=run.people.funded_micro + (run.ids == 3))
    text = told(run.audit(participants=people.table()))
    assert f"participant 3: funded_micro is {FUNDED + 1}, should be {FUNDED}" in text


def test_funds_decide_in_the_order_of_time():
    """Money that comes after a batch does not bring back what was void for lack of it."""
    run = Settled()
    run.chain.transfer(POOR, FUNDED)
    assert run.audit().ok
    run.chain.moves[-1] = replace(run.chain.moves[-1], before_sequence=0)
    assert not run.audit().ok


def test_strangers_on_the_chain_are_found(run):
    run.chain.transfer(N + 30, 5)
    assert f"account {N + 30}" in told(run.audit())


@pytest.mark.parametrize("part", ["payload", "voids", "sequence", "gone"])
def test_a_changed_history_is_found(run, part):
    batch = run.chain.history[2]
    if part == "gone":
        run.chain.batch = lambda sequence: None
    else:
        other = {"payload": batch.payload + b"\0", "voids": b"\0\0\0\1", "sequence": None}[part]
        if part == "sequence":
            run.chain.history.append(run.chain.history[0])
        else:
            run.chain.history[2] = replace(batch, **{part: other})
    assert not run.audit().ok


def test_a_lost_record_is_found(run):
    run.chain.records.pop((0, 1))
    assert "batch 1: record is missing" in told(run.audit())


def test_unsettled_trades_are_in_order_as_long_as_the_chain_agrees(run):
    last = run.trades["period"].to_numpy() == T - 1
    status = np.where(last, "unsettled", run.trades["status"].to_pylist()).tolist()
    trades = put(run.trades, "status", pa.array(status))
    sequence = pa.array(run.trades["period"].to_numpy(), mask=last)
    trades = put(trades, "sequence", sequence)
    text = told(run.audit(trades=trades, statements=statements_table(run.people, trades)))
    assert f"group 0, period {T - 1}: batch on the chain is there" in text
    assert f"chain: number of batches is {T}, should be {T - 1}" in text
    before = Settled()
    undo = before.chain.history.pop()
    before.chain.records.pop((0, T - 1))
    before.chain.balance = dict(before.chain.balance)
    replayed = ModelChain(before.tolerance.wh, before.tolerance.ppm, {0: 0})
    for move in before.chain.moves:
        while len(replayed.history) < move.before_sequence:
            replayed.settle(before.chain.history[len(replayed.history)].payload)
        replayed.transfer(move.participant, move.micro)
    for batch in before.chain.history[len(replayed.history) :]:
        replayed.settle(batch.payload)
    before.chain = replayed
    assert undo.period == T - 1
    report = before.audit(trades=trades, statements=statements_table(before.people, trades))
    assert [str(found) for found in report.differences] == []


def test_a_proof_that_the_chain_refuses_is_found(run):
    run.chain.prove = lambda batch, index: None
    text = told(run.audit(prove=[5]))
    assert "trade 5: proof is missing, should be there" in text


def test_trades_that_nobody_knows_cannot_be_proven(run):
    assert "trade 999999: proof is missing" in told(run.audit(prove=[999999]))


def test_a_changed_statement_is_found(run):
    statements = statements_table(run.people, run.trades)
    paid = statements["paid_micro"][2].as_py()
    text = told(run.audit(statements=changed(statements, "paid_micro", 2, paid - 1)))
    assert f"statement of 2: paid_micro is {paid - 1}, should be {paid}" in text
    assert not run.audit(statements=statements.slice(1)).ok


def test_readings_of_everybody_are_needed(run):
    readings = run.verification.readings_table()
    with pytest.raises(ValueError, match="not of every participant"):
        run.records(readings=readings.slice(1))


def test_a_run_without_trades(run):
    chain = ModelChain(5, 0, {0: 0})
    people = replace(run.people, funded_micro=np.zeros(N + 1, dtype=np.int64))
    readings = run.verification.readings_table()
    records = run.records(
        trades=run.trades.slice(0, 0),
        participants=people.table(),
        readings=put(readings, "traded_wh", np.zeros(len(readings), dtype=np.int64)),
        statements=None,
    )
    assert audit(records, chain).ok


# --- the meters' side ------------------------------------------------------------------------


def meter_differences(run, readings=None, meters=None, **changes):
    readings = run.verification.readings_table() if readings is None else readings
    meters = meters_table(run.day.accepted, run.day.attacks) if meters is None else meters
    arguments = {"participants": run.people, "community": run.community, "n_periods": T} | changes
    found = audit_meters(meters=meters, readings=readings, **arguments)
    return [str(difference) for difference in found]


def test_stored_reports_are_what_the_meters_signed(run):
    assert meter_differences(run) == []


@pytest.mark.parametrize("column", ["reported_wh", "register_wh"])
def test_a_changed_report_has_no_valid_signature(run, column):
    readings = run.verification.readings_table()
    value = readings[column][T].as_py()
    text = meter_differences(run, readings=changed(readings, column, T, value + 1))
    assert text[0] == (
        "meter 1, day 0: fault of its report is none, should be not the committed report"
    )


def test_an_accepted_reading_that_the_report_does_not_have_is_found(run):
    readings = run.verification.readings_table()
    value = readings["accepted_wh"][T].as_py()
    (text,) = meter_differences(run, readings=changed(readings, "accepted_wh", T, value + 9))
    assert text == f"meter 1, period 0: accepted reading is {value + 9}, should be {value}"


def test_readings_of_a_refused_report_cannot_be_slipped_in(run):
    readings = run.verification.readings_table()
    row = 5 * T + 2
    (text,) = meter_differences(run, readings=changed(readings, "accepted_wh", row, 70))
    assert text == "meter 5, period 2: accepted reading is 70, should be none"
    meters = meters_table(run.day.accepted, run.day.attacks)
    text = meter_differences(run, meters=changed(meters, "fault", 5, ""))
    assert "not signed by the registered meter" in text[0]


def test_another_registered_key_is_found(run):
    keys = list(run.people.meter_key)
    keys[3] = keys[4]
    text = meter_differences(run, participants=replace(run.people, meter_key=keys))
    assert text[0].startswith("meter 3, day 0: fault of its report")


def test_another_rule_of_estimation_is_found(run):
    assert any("accepted reading" in text for text in meter_differences(run, estimation="none"))


def test_missing_rows_are_found(run):
    readings = run.verification.readings_table()
    assert meter_differences(run, readings=readings.slice(1))
    meters = meters_table(run.day.accepted, run.day.attacks)
    assert meter_differences(run, meters=meters.filter(pc.not_equal(meters["prosumer_id"], 1)))
