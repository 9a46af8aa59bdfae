"""Named attacks: what they do, and that settlement finds every one."""

import numpy as np
import pytest

from raygrid.market.trades import energy_wh
from raygrid.scenario.metering import MeterAttack, Metering
from raygrid.settlement.attacks import attacked, tamper
from raygrid.settlement.metering import MeterPark, with_grid
from raygrid.settlement.meters import Measurement
from raygrid.settlement.verification import ReportFault, Verification

N, T = 30, 24
IDS = np.arange(N + 1, dtype=np.int64)


def community(seed=1):
    rng = np.random.default_rng(seed)
    sun = np.clip(np.sin((np.arange(T) - 6) / 12 * np.pi), 0, None)
    p = rng.uniform(1, 5, (N, 1)) * sun - rng.uniform(0.2, 2, (N, T))
    return with_grid(p, -p.sum(axis=0))


P_KW = community()


def verified(first_period=0, **section):
    park = MeterPark(Metering(**section), "test", 1, IDS)
    day = park.day(P_KW, 1.0, first_period)
    return Verification(day.accepted, energy_wh(IDS, P_KW, 1.0), park.tolerance), day


def reading(values):
    values = np.array(values)
    ones = np.ones(values.shape, dtype=bool)
    return Measurement(np.arange(len(values)), 0, values, ones, np.zeros(len(values), int))


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        ({"kind": "scaling", "factor": 1.5}, [150, -75, 30]),
        ({"kind": "shifting", "shift_periods": 1}, [20, 100, -50]),
        ({"kind": "stuck"}, [0, 0, 0]),
        ({"kind": "sign_flip"}, [-100, 50, -20]),
        ({"kind": "sign_flip", "from_period": 1, "to_period": 2}, [100, 50, 20]),
        ({"kind": "replay"}, [100, -50, 20]),
    ],
)
def test_readings_by_hand(attack, expected):
    true = reading([[100, -50, 20], [100, -50, 20]])
    got = tamper(true, [MeterAttack(**attack, prosumers=(1,))], 1)
    assert got.reading_wh.tolist() == [[100, -50, 20], expected]
    # Its registers agree with what it says.
    assert got.closing_wh.tolist() == [70, sum(expected)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hours", [1.0, 0.25])
def test_an_honest_community_is_verified_whole(seed, hours):
    p = community(seed)
    park = MeterPark(Metering(), "test", seed, IDS)
    day = park.day(p, hours)
    got = Verification(day.accepted, energy_wh(IDS, p, hours), park.tolerance)
    assert not got.void.any()
    assert np.abs(got.deviation_wh).max() > 1  # meters are not exact


@pytest.mark.parametrize(
    "attack",
    [
        {"kind": "scaling", "factor": 1.2},
        {"kind": "scaling", "factor": 0.8},
        {"kind": "shifting"},
        {"kind": "stuck"},
        {"kind": "sign_flip"},
    ],
)
def test_attacks_inside_the_meter_are_found_by_the_energies(attack):
    got, day = verified(attacks=[attack | {"prosumers": [5], "from_period": 8, "to_period": 16}])
    assert day.accepted.fault == [ReportFault.NONE] * (N + 1)
    void = got.void
    # The grid's own meter and everybody else's agree with their trades.
    assert np.flatnonzero(void.any(axis=1)).tolist() == [5]
    assert not void[:, :8].any()
    assert not void[:, 16:].any()
    big = np.abs(got.traded_wh[5, 8:16]) > 100
    if attack["kind"] == "shifting":
        change = np.abs(np.diff(got.traded_wh[5, 7:16]))
        big &= change > 50 + 0.05 * np.abs(got.traded_wh[5, 8:16])
    assert big.any()
    assert void[5, 8:16][big].all()
    assert day.attacks[5] == attack["kind"]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("replay", ReportFault.DAY), ("forged_identity", ReportFault.SIGNATURE)],
)
@pytest.mark.parametrize("first_period", [0, 2 * T])
def test_attacks_on_the_way_are_found_by_the_report(kind, fault, first_period):
    got, day = verified(first_period, attacks=[{"kind": kind, "prosumers": [0, 7]}])
    assert [k for k, found in enumerate(day.accepted.fault) if found] == [0, 7]
    assert day.accepted.fault[7] == fault
    assert got.void[[0, 7]].all()
    assert got.void.sum() == 2 * T


def test_attacks_end():
    _, day = verified(T, attacks=[{"kind": "replay", "prosumers": [7], "to_period": T}])
    assert day.accepted.fault == [ReportFault.NONE] * (N + 1)
    assert day.attacks == [""] * (N + 1)


def test_a_share_is_drawn_among_prosumers():
    attack = MeterAttack(kind="stuck", share=0.25)
    ids = np.arange(0, 4001)
    got = attacked(attack, 1, ids)
    assert not got[0]
    np.testing.assert_allclose(got.mean(), 0.25, rtol=0, atol=0.03)
    np.testing.assert_array_equal(attacked(attack, 1, ids[10:20]), got[10:20])


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kind": "stuck"}, "one of them"),
        ({"kind": "stuck", "prosumers": [1], "share": 0.5}, "one of them"),
        ({"kind": "stuck", "prosumers": [1], "from_period": 3, "to_period": 3}, "not after"),
    ],
)
def test_attacks_that_make_no_sense_are_refused(section, words):
    with pytest.raises(ValueError, match=words):
        MeterAttack(**section)


def test_lost_readings_alone_do_not_void_a_trade():
    got, day = verified(drop_rate=0.05)
    assert day.accepted.estimated.sum() > 10
    assert not got.void[day.accepted.estimated].any()
    both = ~day.accepted.valid
    np.testing.assert_array_equal(got.void, both)


def test_days_in_a_row_keep_their_registers():
    park = MeterPark(Metering(), "test", 1, IDS)
    first = park.day(P_KW, 1.0)
    second = park.day(P_KW, 1.0, T, first.closing_wh)
    np.testing.assert_array_equal(
        second.accepted.decoded.opening_wh, first.accepted.decoded.closing_wh
    )
    assert second.accepted.fault == [ReportFault.NONE] * (N + 1)
