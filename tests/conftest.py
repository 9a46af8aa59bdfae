"""How tests share out over two processes (`make test`)."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests that start Ray go to one process: two Rays would crowd each other out.

    The others stay together file by file, for what their modules prepare.
    """
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
