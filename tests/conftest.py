"""How tests share out over two processes (`make test`), and that they can be interrupted."""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    """Heed SIGINT, which whoever is started in a shell's background ignores, children included:
    tests of interrupts send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests that start Ray go to one process: two Rays would crowd each other out.

    The others stay together file by file, for what their modules prepare.
    """
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
