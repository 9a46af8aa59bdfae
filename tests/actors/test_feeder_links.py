"""Feeder operators over links without Ray: the actors' classes in threads of this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from actors.feeder import FeederData, FeederOperatorActor
from actors.link import DRIVER, Link
from actors.operator import NetworkOperatorActor, OperatorData
from actors.prosumer import HostData, ProsumerActor
from actors.wire import decode_outcome
from raygrid.grid.limits import empty_rows
from raygrid.grid.tree_rows import TreeRows
from raygrid.market.clearing import ClearingOptions
from raygrid.market.division import divide
from raygrid.market.messages import RoundDecision, RoundOutcome
from raygrid.market.session import initial_pi, local_exchange
from raygrid.scenario.build import load_case

KEY = b"k" * 32


def test_rounds_over_links_are_those_of_one_operator() -> None:
    evening = "horizon={periods: 3, period_hours: 1, start: 2016-06-09T21:00:00}"
    case = load_case("town", settings=["network.grids=9", evening])
    options, network = ClearingOptions(), case.network
    assert isinstance(case.rows, TreeRows)
    alone = local_exchange(case, options)
    expected = [alone.open()]
    while expected[-1].decision is RoundDecision.CONTINUE:
        expected.append(alone.round(expected[-1]))

    n, n_hosts = len(case.community), 3
    edges = np.linspace(0, n, n_hosts + 1).astype(int).tolist()
    hosts = [ProsumerActor() for _ in range(n_hosts)]
    for k, host in enumerate(hosts):
        part = case.community.recipe(edges[k], edges[k + 1])
        grid = case.grid if k == 0 else None
        host.load(HostData(k, part, case.price_level, grid, network.slack, case.period_hours))
    pi_kw = initial_pi(case, options)
    summaries = [host.start(options.relaxation, pi_kw) for host in hosts]
    operator = NetworkOperatorActor()
    nothing = empty_rows(network, case.n_periods)
    operator.load(OperatorData(case.rows, nothing, network.n_buses, case.n_periods))
    opening = operator.start(summaries, options, pi_kw)
    division = divide(case.rows, [summary.buses for summary in summaries], 2)
    operator.divide(division, summaries)
    feeders = [FeederOperatorActor() for _ in range(2)]
    for f, feeder in enumerate(feeders):
        feeder.load(FeederData(case.rows))
        feeder.start(f, division, [summaries[k] for k in division.hosts[f]], masked=False)

    heard: list[RoundOutcome] = []
    with ThreadPoolExecutor(6) as pool:
        above = operator.open_door(loopback=True)
        doors = [feeder.open_door(loopback=True) for feeder in feeders]
        calls = [pool.submit(operator.lead_feeders, 2, KEY)]
        for feeder, door, own in zip(feeders, doors, division.hosts, strict=True):
            messages = [opening.messages[k] for k in own]
            calls.append(pool.submit(feeder.lead, above, KEY, messages))
            calls += [pool.submit(hosts[k].follow, door, KEY) for k in own]
        driver = Link.call(above, KEY, DRIVER)
        while not heard or heard[-1].decision is RoundDecision.CONTINUE:
            heard.append(decode_outcome(driver.recv_bytes()))
            if heard[-1].decision is RoundDecision.CONTINUE:
                driver.send_bytes(b"")
        for call in calls:
            call.result(timeout=60)
        driver.close()
    assert len(heard) == len(expected) - 1
    for mine, its in zip(heard, expected[1:], strict=True):
        assert mine.messages == ()
        assert mine.record is not None
        assert its.record is not None
        assert mine.record.primal_residual == its.record.primal_residual
        assert mine.record.dual_residual == its.record.dual_residual
        assert mine.mean_price_per_kwh == its.mean_price_per_kwh

    operator.take_over(*(feeder.state() for feeder in feeders))
    np.testing.assert_array_equal(operator.operator.pi_kw, alone.operator.pi_kw)
    rooms = [host.headroom() for host in hosts]
    final = operator.finish(*rooms)
    reference, _ = alone.finish()
    assert not final.faults
    for name in ("lmp_per_kwh", "balance_price_per_kwh", "row_price"):
        np.testing.assert_array_equal(getattr(final, name), getattr(reference, name), name)
    # What opened the last two rounds stays with hosts and feeder operators.
    last = max(hosts[0].openings())
    assert set(hosts[0].openings()) == {last - 1, last}
    for feeder in feeders:
        for host, sent in feeder.openings().items():
            known = hosts[host].openings()
            np.testing.assert_array_equal(sent[last].pi_kw, known[last].pi_kw)
