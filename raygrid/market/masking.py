"""Pairwise masks on what hosts send, so that the network operator learns sums alone.

Every two hosts agree on a secret. One adds and the other subtracts the same stream of random
integers, modulo 2^64, in the rows of the buses that both have prosumers at: each message alone is
uniformly random there, their sum is exact (Bonawitz et al. 2017, section 4.0.1, without its
recovery of dropped users: here a round waits for everybody). A stream is used for one set of
numbers only: secrets are made anew for every clearing and after every restart of a host, and each
kind of message and each round has a stream of its own.

The operator is assumed to be curious but to pass on keys as they are; what hosts alone have at a
bus it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256, shake_256
from typing import TypeVar

import numpy as np

from raygrid.arrays import QUANTUM, IntArray, check_range
from raygrid.market.messages import Aggregate, HostHeadroom, HostSummary

M = TypeVar("M", Aggregate, HostHeadroom, HostSummary)

_EVERYWHERE = frozenset({"norm_quanta"})
"""Sums over all of a host's agents; the other quanta are (nb, ...) sums per bus."""


@dataclass(frozen=True)
class HostIdentity:
    """What the other hosts must know of one.

    Attributes
    ----------
    host : int
        Its number.
    buses : (nb,) int64
        Positions of its buses, ascending.
    public_key : bytes
        Of the secret that it made for this clearing; empty where nothing is masked.
    """

    host: int
    buses: IntArray
    public_key: bytes


@dataclass(frozen=True)
class _Peer:
    """Another host, seen from one: rows of the shared buses, common secret, who adds."""

    rows: IntArray
    secret: bytes
    adds: bool


class Masks:
    """One host's masks of one clearing.

    Parameters
    ----------
    host : int
        Its number.
    buses : (nb,) int64
        Positions of its buses, ascending.
    """

    def __init__(self, host: int, buses: IntArray) -> None:
        from coincurve import PrivateKey

        self._key = PrivateKey()
        self.identity = HostIdentity(host, buses, self._key.public_key.format())
        self._peers: list[_Peer] = []

    def meet(self, everybody: Sequence[HostIdentity]) -> None:
        """Agree on a secret with every other host.

        Parameters
        ----------
        everybody : sequence of HostIdentity
            All hosts, this one included, in host order.

        Raises
        ------
        ValueError
            This host is not among them with its own key.
        """
        own = self.identity
        if all(other.public_key != own.public_key for other in everybody):
            raise ValueError(f"host {own.host} is not among those that mask")
        epoch = sha256(b"".join(other.public_key for other in everybody)).digest()
        self._peers = [
            _Peer(
                np.flatnonzero(np.isin(own.buses, other.buses, assume_unique=True)),
                sha256(epoch + self._key.ecdh(other.public_key)).digest(),
                own.host < other.host,
            )
            for other in everybody
            if other.host != own.host
        ]

    def hide(self, message: M, iteration: int) -> M:
        """The message with all of its sums masked.

        Parameters
        ----------
        message : Aggregate, HostHeadroom or HostSummary
            True sums.
        iteration : int
            Round that it belongs to; the same round must always bring the same sums.

        Returns
        -------
        Aggregate, HostHeadroom or HostSummary
            Adds up with those of all other hosts, modulo 2^64, to the true sums.

        Raises
        ------
        EndedShortError
            If the total over all hosts could wrap around.
        """
        sums = {
            field.name: getattr(message, field.name).copy()
            for field in fields(message)
            if field.name.endswith("_quanta")
        }
        # The operator cannot see a total that has wrapped around.
        largest = max(float(np.abs(total).max(initial=0)) for total in sums.values())
        check_range(largest * QUANTUM * (len(self._peers) + 1))
        label = f"{type(message).__name__} {iteration}".encode()
        for peer in self._peers:
            rows = {name: slice(None) if name in _EVERYWHERE else peer.rows for name in sums}
            counts = [sums[name][rows[name]].size for name in sums]
            stream = np.frombuffer(
                shake_256(peer.secret + label).digest(8 * sum(counts)), dtype="<i8"
            )
            for (name, total), mask in zip(
                sums.items(), np.split(stream, np.cumsum(counts)[:-1]), strict=True
            ):
                shape = total[rows[name]].shape
                # Integer arrays wrap around, which is the arithmetic modulo 2^64 that we want.
                total[rows[name]] += mask.reshape(shape) if peer.adds else -mask.reshape(shape)
        return replace(message, **sums)
