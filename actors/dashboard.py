"""The dashboard of a Ray cluster: its address, and whether it is there at all."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from actors.cluster import PROBE_TIMEOUT_S
from raygrid.errors import InputError


def check_address(address: str) -> str:
    """The address of a dashboard, without what follows its port.

    Raises
    ------
    InputError
        It has another form.
    """
    parts = urlsplit(address)
    try:
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/") or parts.query:
        raise InputError(
            f"{address!r} is not the address of a Ray dashboard",
            "--address",
            "give http://HEAD:8265, the head node and the port of its dashboard",
        )
    return f"{parts.scheme}://{parts.netloc}"


def probe_dashboard(address: str, timeout_s: float = PROBE_TIMEOUT_S) -> str | None:
    """Refuse an address where no dashboard of Ray is, before Ray's client waits for it.

    Parameters
    ----------
    address : str
        As `check_address` gives it.
    timeout_s : float
        Longest wait [s].

    Returns
    -------
    str or None
        Version of Ray there; None where it is told to those with a token only.

    Raises
    ------
    InputError
        Nothing answers, or something else does.
    """
    cure = (
        "check that the cluster's head node runs, that its dashboard listens on the network "
        "('ray start --head --dashboard-host=0.0.0.0') and that its port (8265) is open"
    )
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=timeout_s) as answer:
            told = json.loads(answer.read(65_536))
        return str(told["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return None
        what = f"what listens there is not Ray's dashboard (HTTP {error.code})"
    except (ValueError, KeyError, TypeError):
        what = "what listens there is not Ray's dashboard"
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        timed_out = isinstance(reason, TimeoutError)
        what = f"no Ray cluster answers ({'timed out' if timed_out else reason})"
    except Exception as error:
        # http.client has errors of its own for servers that do not speak HTTP.
        what = f"what listens there is not Ray's dashboard ({type(error).__name__})"
    raise InputError(what, address, cure)


def wrong_token(address: str) -> InputError:
    """The error of a cluster that does not take our token."""
    return InputError(
        "the cluster asks for another token",
        address,
        "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its token "
        "(cluster/README.md)",
    )


@contextmanager
def only_address(address: str) -> Iterator[None]:
    """Keep variables of the environment from winning over the address, as Ray lets them."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ.get(name) for name in names}
    try:
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
