"""Errors of actors that the driver mends; here, so that a small actor need not load a large one."""

from __future__ import annotations


class LostStateError(RuntimeError):
    """An actor was restarted and knows nothing of what is going on; the driver can mend that."""
