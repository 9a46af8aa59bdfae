"""What a session does beside Ray's start and end, with a stand-in for Ray."""

from __future__ import annotations

import sys
from threading import Event, current_thread, enumerate, main_thread
from types import SimpleNamespace

import pytest

from actors import session as sessions
from actors.cluster import Cluster, ClusterOptions, ClusterOrigin, ClusterResources
from raygrid.scenario.load import load_scenario

NODELESS = ClusterResources(ClusterOrigin.STARTED, "0", ())


def join_others() -> None:
    for thread in enumerate():
        if thread not in (main_thread(), current_thread()) and not thread.daemon:
            thread.join()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads that ended Ray."""
    names: list[str] = []
    monkeypatch.setattr(sessions, "connect", lambda _: Cluster(ClusterOrigin.STARTED))
    monkeypatch.setattr(Cluster, "resources", lambda _: NODELESS)
    monkeypatch.setattr(
        sessions, "WarmUp", lambda: SimpleNamespace(wait=lambda: None, close=lambda: None)
    )
    stand_in = SimpleNamespace(shutdown=lambda: names.append(current_thread().name))
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    return names


def test_ray_ends_with_the_session(ends: list[str]) -> None:
    with sessions.Session(ClusterOptions(address="local")):
        assert not ends
    assert ends == [main_thread().name]


def test_a_released_ray_ends_beside_and_once(ends: list[str]) -> None:
    with sessions.Session(ClusterOptions(address="local")) as session:
        session.release()
        join_others()
        assert ends == ["ray-shutdown"]
        session.release()
    assert ends == ["ray-shutdown"]


def test_what_cannot_be_loaded_ahead_is_left_to_its_user(
    ends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    matching = Event()
    monkeypatch.setattr(sessions, "load_matching", matching.set)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with sessions.Session(ClusterOptions(address="local"), ("no_such_library", "colorsys")):
        join_others()
    assert "colorsys" in sys.modules
    assert matching.is_set()
    assert len(ends) == 1


def test_nothing_is_loaded_where_nothing_is_asked(
    ends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    matching = Event()
    monkeypatch.setattr(sessions, "load_matching", matching.set)
    with sessions.Session(ClusterOptions(address="local")):
        join_others()
    assert not matching.is_set()


def test_the_sections_of_a_scenario_lay_tes_links_on_any_market() -> None:
    """TES (6) to (8): the rate is the link's, and its cost counts where a cloudlet has one."""
    noisy = [
        "communication.patience_s=0.1",
        "communication.noisy={bandwidth_hz: 1.0e+6, power_w: 2.0, bit_rate_coefficient: 5.0e+5}",
    ]
    priced = [
        *noisy,
        "communication.noisy.cloudlet={power_max_w: 4.0, bandwidth_max_hz: 2.0e+6, "
        "power_share: 0.25, cost_per_hour: 0.02, penalty_per_hour: 0.08}",
    ]
    for name in ("tiny", "community", "town"):
        links = sessions.clearing_options(load_scenario(name, settings=noisy)[0]).staleness
        assert links is not None
        assert links.channel.rate_bits_per_s == pytest.approx(1e6, rel=1e-12)
        assert links.link is None
        links = sessions.clearing_options(load_scenario(name, settings=priced)[0]).staleness
        assert links is not None
        assert links.link is not None
        assert links.link.use == pytest.approx(0.5, rel=1e-12)
        assert links.link.cost(3600.0) == pytest.approx(0.02 * 0.5 + 0.08 * 0.25, rel=1e-12)
