"""The rounds of a clearing on disk, from which another driver goes on after this one died."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from struct import Struct

import numpy as np

from actors.log import LOG_BYTES
from actors.wire import WireError, decode_outcome, encode_outcome
from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.market.messages import PriceMessage, RoundOutcome
from raygrid.results.files import CHECKPOINT, SCENARIO, room_for
from raygrid.results.reader import RunReader

_MAGIC = b"raygrid rounds 1"
_SIZE = Struct("<q")


class CheckpointWriter:
    """Appends what opens each round; what is in the file when the driver is killed stays there.

    Local problems are deterministic, so the operator's messages are all that is needed. A file
    that would grow too large is left as it is: a resumed clearing then does the last rounds anew.

    Parameters
    ----------
    path : Path
        New file.
    digest : bytes
        SHA-256 of the scenario that the rounds belong to.
    limit_bytes : int
        Greatest length of the file [B].
    """

    def __init__(self, path: Path, digest: bytes, limit_bytes: int = LOG_BYTES) -> None:
        self._path = path
        self._stream = path.open("xb", buffering=0)
        self._room = limit_bytes
        self._write(_MAGIC + digest)

    def add(self, outcome: RoundOutcome, host_buses: Sequence[IntArray], n_buses: int) -> None:
        """Note what opens the next round.

        Parameters
        ----------
        outcome : RoundOutcome
            With a message per host.
        host_buses : sequence of (nb,) int64
            Positions of the buses of each host.
        n_buses : int
            B.
        """
        first = outcome.messages[0]
        pi: FloatArray = np.zeros((n_buses, first.pi_kw.shape[1]))
        for buses, message in zip(host_buses, outcome.messages, strict=True):
            pi[buses] = message.pi_kw
        # One message for all buses serves any placement.
        self.put(replace(outcome, messages=(replace(first, pi_kw=pi),)))

    def put(self, outcome: RoundOutcome) -> None:
        """Note a round of an earlier checkpoint, which has one message for all buses."""
        data = encode_outcome(outcome)
        self._write(_SIZE.pack(len(data)) + data)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def discard(self) -> None:
        """Close and remove the file: the clearing has come to its end."""
        self.close()
        self._path.unlink()

    def _write(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            with room_for(self._path, len(data)):
                self._stream.write(data)


def read_checkpoint(path: Path, digest: bytes) -> list[RoundOutcome]:
    """The rounds of a checkpoint, each with one message for all buses.

    Parameters
    ----------
    path : Path
        File of a `CheckpointWriter`; a last round that was only half written is left out.
    digest : bytes
        SHA-256 of the scenario to go on with.

    Returns
    -------
    list of RoundOutcome
        In order, none missing.

    Raises
    ------
    InputError
        There is no such file, it is no checkpoint, or that of another scenario.
    """
    cure = "resume the run's own folder, or run the scenario anew with raygrid simulate"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"no checkpoint ({error.strerror})", str(path), cure) from error
    at = len(_MAGIC) + len(digest)
    if not data.startswith(_MAGIC):
        raise InputError("this is no checkpoint of a clearing", str(path), cure)
    if data[len(_MAGIC) : at] != digest:
        raise InputError("the checkpoint belongs to another scenario", str(path), cure)
    outcomes: list[RoundOutcome] = []
    while len(data) >= at + _SIZE.size:
        (size,) = _SIZE.unpack_from(data, at)
        if size < 0 or len(data) < at + _SIZE.size + size:
            break
        try:
            outcomes.append(decode_outcome(data[at + _SIZE.size : at + _SIZE.size + size]))
        except WireError as error:
            raise InputError(f"the checkpoint is damaged: {error}", str(path), cure) from error
        at += _SIZE.size + size
    return outcomes


def for_hosts(outcome: RoundOutcome, host_buses: Sequence[IntArray]) -> RoundOutcome:
    """An outcome of a checkpoint with a message for each host of a placement.

    Parameters
    ----------
    outcome : RoundOutcome
        With one message for all buses.
    host_buses : sequence of (nb,) int64
        Positions of the buses of each host.
    """
    whole: PriceMessage = outcome.messages[0]
    parts = tuple(replace(whole, pi_kw=whole.pi_kw[buses]) for buses in host_buses)
    return replace(outcome, messages=parts)


def scenario_digest(run: Path) -> bytes:
    """What a checkpoint knows its scenario by."""
    return sha256((run / SCENARIO).read_bytes()).digest()


def interrupted_run(run: Path) -> tuple[Path, list[RoundOutcome]]:
    """Scenario and rounds of a run that is to be resumed.

    Raises
    ------
    InputError
        It has come to its end, or its checkpoint is none.
    """
    reader = RunReader(run, allow_unfinished=True)
    if reader.status.finished:
        raise InputError(
            "the run has come to its end",
            str(reader.path),
            "nothing is left to resume; 'raygrid settle' repeats its settlement",
        )
    rounds = read_checkpoint(reader.path / CHECKPOINT, scenario_digest(reader.path))
    return reader.path / SCENARIO, rounds
