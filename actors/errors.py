"""Errors of actors that the driver mends; here, so that a small actor need not load a large one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raygrid.errors import RaygridError


class LostStateError(RuntimeError):
    """An actor was restarted and knows nothing of what is going on; the driver can mend that."""


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise what an actor raised on purpose as itself, not as an error of Ray."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, RaygridError):
            raise error.cause from error
        raise
