"""Whose report is accepted, and who delivered what was traded."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygrid.settlement.meters import Measurement, public_keys, simulated_secrets
from raygrid.settlement.reports import (
    MeterReport,
    community_id,
    message_type,
    sign_reports,
)
from raygrid.settlement.rules import MAX_READING_WH, Tolerance
from raygrid.settlement.verification import (
    ReportFault,
    Verification,
    meters_table,
    net_traded_wh,
    verify_reports,
)

COMMUNITY = community_id("tiny", 1)
IDS = np.arange(4, dtype=np.int64)
SECRETS = simulated_secrets(1, "meter", IDS)
KEYS = dict(zip(IDS.tolist(), public_keys(SECRETS), strict=True))
READING = np.array([[100, -50, 0], [2000, 10, 5], [-2100, 40, -5], [0, 0, 0]])
T = 3


def signed(reading=READING, recorded=None, first_period=6, ids=IDS, secrets=SECRETS):
    recorded = np.ones(reading.shape, dtype=bool) if recorded is None else recorded
    day = Measurement(ids, first_period, reading, recorded, np.full(len(ids), 500))
    return sign_reports(day, COMMUNITY, secrets)


def committed(reports):
    return {report.sender: report.commitment for report in reports}


def verify(reports, commitments=None, estimation="register", first_period=6):
    found = committed(reports) if commitments is None else commitments
    return verify_reports(reports, found, KEYS, COMMUNITY, first_period, T, estimation)


def altered(report, secret=None, **fields):
    """The report with changed fields, signed again if a secret is given."""
    row = np.frombuffer(report.message, dtype=message_type(T)).copy()
    for name, value in fields.items():
        row[name] = value
    message = row.tobytes()
    changed = replace(report, message=message)
    if secret is not None:
        from coincurve import PrivateKey

        signature = PrivateKey(secret).sign_recoverable(changed.commitment, hasher=None)
        changed = replace(changed, signature=signature)
    return changed


def test_honest_reports_are_accepted_in_any_order():
    got = verify(signed()[::-1])
    assert got.fault == [ReportFault.NONE] * 4
    assert got.valid.all()
    assert not got.estimated.any()
    np.testing.assert_array_equal(got.reading_wh, READING)


def refused(bad, fault, commitments=None):
    """One report is bad: it alone is refused, and its readings are gone."""
    reports = signed()
    got = verify([bad, reports[0], reports[2], reports[3]], commitments)
    assert got.fault == [ReportFault.NONE, fault, ReportFault.NONE, ReportFault.NONE]
    assert not got.valid[1].any()
    assert not got.reading_wh[1].any()
    assert got.valid[[0, 2, 3]].all()


def test_tampering_on_the_way_is_caught_by_the_commitment():
    true = signed()
    bad = altered(true[1], reading_wh=READING[2])
    refused(bad, ReportFault.COMMITMENT, committed(true))


def test_tampering_with_the_commitment_too_is_caught_by_the_signature():
    refused(altered(signed()[1], reading_wh=READING[2]), ReportFault.SIGNATURE)


def test_forged_identity_is_caught_by_the_signature():
    refused(altered(signed()[1], SECRETS[2]), ReportFault.SIGNATURE)


@pytest.mark.parametrize("first_period", [3, 9, -3])
def test_replays_of_another_day_are_caught_by_the_signed_day(first_period):
    old = signed(first_period=first_period)[1]
    refused(old, ReportFault.DAY)
    refused(old, ReportFault.COMMITMENT, committed(signed()))


def test_another_meters_report_does_not_stand_in():
    borrowed = signed()[2]
    refused(replace(borrowed, sender=1), ReportFault.SIGNATURE)
    # Even if the two share a key.
    refused(altered(borrowed, SECRETS[1]).__class__(1, *_parts(borrowed)), ReportFault.METER)


def _parts(report):
    changed = altered(report, SECRETS[1])
    return changed.message, changed.signature


def test_another_communitys_report_is_refused():
    other = np.void(community_id("tiny", 2))
    refused(altered(signed()[1], SECRETS[1], community=other), ReportFault.COMMUNITY)


def test_registers_must_agree_with_readings():
    refused(altered(signed()[1], SECRETS[1], closing_wh=99), ReportFault.REGISTERS)
    register = np.array([[2500, 2510, 2516]])
    refused(altered(signed()[1], SECRETS[1], register_wh=register), ReportFault.REGISTERS)


@pytest.mark.parametrize("value", [MAX_READING_WH + 1, -MAX_READING_WH - 1, -(2**63)])
def test_readings_that_40_bits_do_not_hold_are_refused(value):
    row = READING.copy()
    row[1, 1] = value
    with np.errstate(over="ignore"):
        report = signed(row)[1]
    refused(report, ReportFault.RANGE)


def test_registers_that_would_wrap_are_refused():
    """With the first and last readings lost, registers alone would give 2^63 Wh and more."""
    reading = np.array([[0, 0, 0]])
    report = signed(reading, np.array([[False, False, False]]), ids=IDS[1:2], secrets=SECRETS[1:2])
    bad = altered(report[0], SECRETS[1], opening_wh=-(2**63), closing_wh=2**63 - 1)
    refused(bad, ReportFault.RANGE)


def test_no_report_and_half_a_report():
    got = verify(signed()[:3])
    assert got.fault[3] == ReportFault.NO_REPORT
    refused(replace(signed()[1], message=signed()[1].message[:-8]), ReportFault.MALFORMED)


def test_a_meter_that_reports_twice_counts_with_what_it_committed_to():
    true, other = signed(), signed(READING * 2)
    for reports in ([*other, *true], [*true, *other], [*true, *true]):
        got = verify(reports, committed(true))
        assert got.fault == [ReportFault.NONE] * 4
        np.testing.assert_array_equal(got.reading_wh, READING)


def test_strangers_are_not_looked_at():
    stranger = MeterReport(77, b"junk", b"")
    assert verify([*signed(), stranger]).participant.tolist() == [0, 1, 2, 3]


def test_lost_readings_alone_are_estimated_and_others_void():
    recorded = np.ones((4, 3), dtype=bool)
    recorded[1, 1] = recorded[2, 0] = recorded[2, 1] = False
    got = verify(signed(recorded=recorded))
    assert got.fault == [ReportFault.NONE] * 4
    assert np.argwhere(got.estimated).tolist() == [[1, 1]]
    assert np.argwhere(~got.valid).tolist() == [[2, 0], [2, 1]]
    np.testing.assert_array_equal(got.reading_wh, np.where(got.valid, READING, 0))
    without = verify(signed(recorded=recorded), estimation="none")
    np.testing.assert_array_equal(without.valid, recorded)


@given(st.binary(max_size=300), st.binary(max_size=70))
@settings(max_examples=30)
def test_junk_is_refused_and_never_fails(message, signature):
    got = verify([MeterReport(1, message, signature)])
    assert got.fault[1] in (ReportFault.MALFORMED, ReportFault.SIGNATURE)


def test_net_energy_by_hand():
    seller, buyer = np.array([1, 1, 0]), np.array([2, 0, 2])
    got = net_traded_wh(seller, buyer, np.array([6, 6, 8]), np.array([70, 30, 5]), IDS, 6, T)
    np.testing.assert_array_equal(got, [[-30, 0, 5], [100, 0, 0], [-70, 0, -5], [0, 0, 0]])


def verification(traded, **changes):
    accepted = verify(signed(**changes))
    return Verification(accepted, traded, Tolerance(5, 15_000))


def test_who_when_how_much_and_why():
    traded = READING.copy()
    traded[1, 0] -= 35  # 2000 Wh metered forgive 35
    traded[2, 0] += 37  # 2100 Wh forgive 36
    traded[3] = 8, 8, 0  # whoever does not trade has nothing to void
    recorded = np.ones((4, 3), dtype=bool)
    recorded[3, 1:] = False
    got = verification(traded, recorded=recorded)
    assert np.argwhere(got.void).tolist() == [[2, 0], [3, 0], [3, 1]]
    assert got.deviation_wh[1, 0] == 35
    assert got.deviation_wh[2, 0] == -37
    rows = got.readings_table().to_pylist()
    found = [
        (row["prosumer_id"], row["period"], row["accepted_wh"], row["traded_wh"], row["reason"])
        for row in rows
        if row["reason"]
    ]
    assert found == [
        (2, 6, -2100, -2063, "reading differs from trades"),
        (3, 6, 0, 8, "reading differs from trades"),
        (3, 7, None, 8, "no reading"),
    ]


def test_a_trade_needs_both_parties():
    traded = READING.copy()
    traded[2, 0] += 37
    seller, buyer = np.array([0, 2, 1, 1]), np.array([1, 0, 2, 2])
    got = verification(traded).verified_trades(seller, buyer, np.array([6, 6, 6, 7]))
    assert got.tolist() == [True, False, False, True]


def test_tables_have_their_schema_and_name_the_fault():
    reports = signed()
    forged = altered(reports[1], SECRETS[2])
    accepted = verify([reports[0], forged, reports[2]])
    traded = READING.copy()
    traded[3] = -4
    rows = Verification(accepted, traded, Tolerance(5, 15_000)).readings_table().to_pylist()
    assert {r["reason"] for r in rows if r["prosumer_id"] == 1} == {str(ReportFault.SIGNATURE)}
    assert {r["reason"] for r in rows if r["prosumer_id"] == 3} == {str(ReportFault.NO_REPORT)}
    assert [r["reported_wh"] for r in rows[3:6]] == READING[1].tolist()
    assert [r["reported_wh"] for r in rows[9:]] == [None] * 3
    meters = meters_table(accepted, ["", "forged_identity", "", ""]).to_pylist()
    assert [row["fault"] for row in meters] == ["", str(ReportFault.SIGNATURE), "", "no report"]
    assert meters[0]["commitment"] == reports[0].commitment.hex()
    assert {row["day"] for row in meters} == {2}
