"""Signed reports: layout, commitment and signature."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from raygrid.settlement.meters import Measurement, public_keys, simulated_secrets
from raygrid.settlement.reports import (
    MeterReport,
    community_id,
    decode_messages,
    encode_messages,
    message_type,
    sign_reports,
    signer,
)

COMMUNITY = community_id("tiny", 1)


def measurement(n=3, n_periods=2, first_period=24):
    rng = np.random.default_rng(n)
    return Measurement(
        participant=np.arange(n, dtype=np.int64),
        first_period=first_period,
        reading_wh=rng.integers(-5000, 5000, (n, n_periods)),
        recorded=rng.random((n, n_periods)) < 0.7,
        opening_wh=rng.integers(0, 10_000, n),
    )


def test_message_by_hand():
    day = Measurement(
        np.array([7]), 48, np.array([[5, -3]]), np.array([[True, False]]), np.array([100])
    )
    (message,) = encode_messages(day, COMMUNITY, [bytes(range(16))])
    expected = b"rgmeter1" + COMMUNITY + struct.pack("<IIq", 7, 2, 48) + bytes(range(16))
    expected += struct.pack("<qqBBqqqq", 100, 102, 1, 0, 5, 0, 105, 0)
    assert message == expected
    report = MeterReport(7, message, b"")
    assert report.commitment == hashlib.new("sha3_256", expected).digest()


def test_decoding_gives_back_what_was_encoded():
    day = measurement(5, 4)
    decoded = decode_messages(encode_messages(day, COMMUNITY, [bytes(16)] * 5), 4)
    assert decoded.well_formed.all()
    assert decoded.community == [COMMUNITY] * 5
    np.testing.assert_array_equal(decoded.participant, day.participant)
    np.testing.assert_array_equal(decoded.first_period, 24)
    np.testing.assert_array_equal(decoded.recorded, day.recorded)
    np.testing.assert_array_equal(decoded.reading_wh, np.where(day.recorded, day.reading_wh, 0))
    np.testing.assert_array_equal(decoded.register_wh, np.where(day.recorded, day.register_wh, 0))
    np.testing.assert_array_equal(decoded.closing_wh, day.closing_wh)


def test_nobody_can_be_made_to_read_beyond_a_message():
    (message,) = encode_messages(measurement(1, 4), COMMUNITY, [bytes(16)])
    wrong = np.frombuffer(message, dtype=message_type(4)).copy()
    wrong["n_periods"] = 2**32 - 1
    flags = np.frombuffer(message, dtype=message_type(4)).copy()
    flags["recorded"][0, 0] = 2
    bad = [b"", message[:-1], message + b"\0", b"x" * len(message), wrong.tobytes()]
    decoded = decode_messages([*bad, flags.tobytes(), message], 4)
    assert decoded.well_formed.tolist() == [False] * 6 + [True]


def test_each_report_is_signed_with_its_own_key():
    day = measurement()
    secrets = simulated_secrets(1, "meter", day.participant)
    reports = sign_reports(day, COMMUNITY, secrets)
    assert [signer(report) for report in reports] == public_keys(secrets)
    assert len({report.commitment for report in reports}) == 3
    assert reports == sign_reports(day, COMMUNITY, secrets)


def test_a_changed_bit_changes_the_signer():
    day = measurement(1)
    secrets = simulated_secrets(1, "meter", day.participant)
    (report,) = sign_reports(day, COMMUNITY, secrets)
    for at in (0, 60, len(report.message) - 1):
        changed = bytearray(report.message)
        changed[at] ^= 1
        assert signer(replace(report, message=bytes(changed))) != public_keys(secrets)[0]


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(65), b"\xff" * 65])
def test_what_is_no_signature_has_no_signer(signature):
    (report,) = sign_reports(measurement(1), COMMUNITY, [b"\1" * 32])
    assert signer(replace(report, signature=signature)) is None


def test_equal_readings_do_not_show_in_commitments():
    """Days differ by nonce too: a reading cannot be found by trying all of them."""
    secrets = simulated_secrets(1, "meter", np.array([0]))
    (one,) = sign_reports(measurement(1), COMMUNITY, secrets)
    (other,) = sign_reports(measurement(1, first_period=48), COMMUNITY, secrets)
    nonces = decode_messages([one.message, other.message], 2).nonce
    assert nonces[0] != nonces[1]
    assert secrets[0][:16] not in nonces
