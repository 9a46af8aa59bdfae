"""The rounds of a clearing on disk, from which another driver goes on after this one died.

The driver writes what the operator tells it. Where feeder operators keep the prices, each of them
appends those of its hosts to a part of its own beside the driver's file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import BinaryIO, overload

import numpy as np

from actors.wire import WireError, decode_outcome, decode_prices, encode_outcome, encode_prices
from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.market.clearing import IterationRecord
from raygrid.market.messages import PriceMessage, RoundDecision, RoundOutcome
from raygrid.results.files import SCENARIO, room_for

FILE_BYTES = 2 * 1024**3
"""Greatest length of a file."""
_MAGIC = b"raygrid rounds 2"
_PART_MAGIC = b"raygrid part 1"
_PART = Struct("<qqq")
_SIZE = Struct("<q")
CURE = "resume the run's own folder, or run the scenario anew with raygrid simulate"


@dataclass(frozen=True)
class CheckpointPlace:
    """Where feeder operators put their parts.

    Attributes
    ----------
    path : Path
        The driver's file, beside which they lie.
    digest : bytes
        SHA-256 of the scenario that the rounds belong to.
    """

    path: Path
    digest: bytes

    def part(self, feeder: int) -> Path:
        """File of a feeder operator."""
        return self.path.with_name(f"{self.path.stem}-{feeder:05d}{self.path.suffix}")


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

    def __init__(self, path: Path, digest: bytes, limit_bytes: int = FILE_BYTES) -> None:
        self.place = CheckpointPlace(path, digest)
        self._path = path
        self._stream = path.open("xb", buffering=0)
        self._room = limit_bytes
        self._write(_MAGIC + digest)

    def add(self, outcome: RoundOutcome, host_buses: Sequence[IntArray], n_buses: int) -> None:
        """Note what opens the next round.

        Parameters
        ----------
        outcome : RoundOutcome
            With a message per host, or with none where feeder operators keep them.
        host_buses : sequence of (nb,) int64
            Positions of the buses of each host.
        n_buses : int
            B.
        """
        if not outcome.messages:
            self.put(outcome)
            return
        first = outcome.messages[0]
        pi: FloatArray = np.zeros((n_buses, first.pi_kw.shape[1]))
        for buses, message in zip(host_buses, outcome.messages, strict=True):
            pi[buses] = message.pi_kw
        # One message for all buses serves any placement.
        self.put(replace(outcome, messages=(replace(first, pi_kw=pi),)))

    def put(self, outcome: RoundOutcome) -> None:
        """Note a round of an earlier checkpoint, with one message for all buses."""
        data = encode_outcome(outcome)
        self._write(_SIZE.pack(len(data)) + data)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def discard(self) -> None:
        """Close and remove the files: the clearing has come to its end."""
        self.close()
        for path in (*_part_files(self._path), self._path):
            path.unlink()

    def _write(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            with room_for(self._path, len(data)):
                self._stream.write(data)


class PartWriter:
    """Appends what opens each round of some hosts; goes on after the file of a predecessor.

    Parameters
    ----------
    place : CheckpointPlace
        Whose part it is; its folder must be there, so that everybody sees the same one.
    feeder, n_feeders : int
        Number of the part, and of all parts.
    host_buses : sequence of (nb,) int64
        Positions of the buses of each host.
    limit_bytes : int
        Greatest length of the file [B]; beyond, it is left as it is.

    Raises
    ------
    FileNotFoundError
        This machine does not see the folder.
    """

    def __init__(
        self,
        place: CheckpointPlace,
        feeder: int,
        n_feeders: int,
        host_buses: Sequence[IntArray],
        limit_bytes: int = FILE_BYTES,
    ) -> None:
        buses = np.unique(np.concatenate(host_buses))
        self._at = [np.searchsorted(buses, own) for own in host_buses]
        self._n_buses = len(buses)
        self._path = place.part(feeder)
        self._stream = self._path.open("a+b", buffering=0)
        head = _PART_MAGIC + place.digest + _PART.pack(feeder, n_feeders, len(buses))
        head += buses.astype("<i8").tobytes()
        self._room = limit_bytes
        if self._path.stat().st_size < len(head):
            self._stream.truncate(0)
            self._write(head)
        end = max((at + size for at, size in _records(self._stream, len(head))), default=len(head))
        self._stream.truncate(end)
        self._room = limit_bytes - end

    def add(self, messages: Sequence[PriceMessage]) -> None:
        """Note what opens the next round, one message per host."""
        first = messages[0]
        pi: FloatArray = np.empty((self._n_buses, first.pi_kw.shape[1]))
        for at, message in zip(self._at, messages, strict=True):
            pi[at] = message.pi_kw
        data = encode_prices(replace(first, pi_kw=pi))
        self._write(_SIZE.pack(len(data)) + data)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            with room_for(self._path, len(data)):
                self._stream.write(data)


class _Part:
    """A part of a checkpoint: where each round's prices stand in it."""

    def __init__(self, path: Path, digest: bytes) -> None:
        self._path = path
        with path.open("rb") as stream:
            head = len(_PART_MAGIC) + len(digest)
            if stream.read(head) != _PART_MAGIC + digest:
                raise InputError("a part of the checkpoint belongs to another one", str(path), CURE)
            _, self.n_parts, n_buses = _PART.unpack(stream.read(_PART.size))
            self.buses: IntArray = np.frombuffer(stream.read(8 * n_buses), dtype=np.int64)
            self._rounds: dict[int, tuple[int, int]] = {}
            for at, size in _records(stream, stream.tell()):
                stream.seek(at)
                # A round that was done again stands there again.
                (iteration,) = _SIZE.unpack(stream.read(_SIZE.size))
                self._rounds[iteration] = at, size

    def __contains__(self, iteration: int) -> bool:
        return iteration in self._rounds

    def message(self, iteration: int) -> PriceMessage:
        """What opened a round, for its own buses."""
        at, size = self._rounds[iteration]
        with self._path.open("rb") as stream:
            stream.seek(at)
            return decode_prices(stream.read(size))


class PastRounds(Sequence[RoundOutcome]):
    """The rounds of a checkpoint in order, none missing, each with one message for all buses.

    What feeder operators have written is read when it is asked for: of large networks it is more
    than fits a driver.

    Parameters
    ----------
    outcomes : sequence of RoundOutcome
        As the driver has written them, the one before the first round foremost.
    parts : sequence of _Part
        What feeder operators have written.
    """

    def __init__(self, outcomes: Sequence[RoundOutcome] = (), parts: Sequence[_Part] = ()) -> None:
        whole = len(parts) > 0 and len(parts) == parts[0].n_parts
        n = 0
        while n < len(outcomes) and (
            outcomes[n].messages or (whole and all(n in part for part in parts))
        ):
            n += 1
        self._outcomes, self._parts = tuple(outcomes[:n]), tuple(parts)

    @property
    def records(self) -> list[IterationRecord]:
        """Residuals of the rounds."""
        return [outcome.record for outcome in self._outcomes if outcome.record is not None]

    @property
    def tightenings(self) -> int:
        """How often the rounds had come to an end, and were gone on with."""
        return sum(outcome.decision is RoundDecision.CONVERGED for outcome in self._outcomes[:-1])

    def __len__(self) -> int:
        return len(self._outcomes)

    @overload
    def __getitem__(self, index: int) -> RoundOutcome: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RoundOutcome]: ...
    def __getitem__(self, index: int | slice) -> RoundOutcome | Sequence[RoundOutcome]:
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        k = range(len(self))[index]
        outcome = self._outcomes[k]
        if outcome.messages:
            return outcome
        pi: FloatArray = np.zeros_like(self._outcomes[0].messages[0].pi_kw)
        for part in self._parts:
            message = part.message(k)
            pi[part.buses] = message.pi_kw
        return replace(outcome, messages=(replace(message, pi_kw=pi),))


def read_checkpoint(path: Path, digest: bytes) -> PastRounds:
    """The rounds of a checkpoint.

    Parameters
    ----------
    path : Path
        File of a `CheckpointWriter`; a last round that was only half written is left out.
    digest : bytes
        SHA-256 of the scenario to go on with.

    Returns
    -------
    PastRounds
        Up to the last of which everything is there.

    Raises
    ------
    InputError
        There is no such file, it is no checkpoint, or that of another scenario.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"no checkpoint ({error.strerror})", str(path), CURE) from error
    outcomes: list[RoundOutcome] = []
    with stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise InputError("this is no checkpoint of a clearing", str(path), CURE)
        if stream.read(len(digest)) != digest:
            raise InputError("the checkpoint belongs to another scenario", str(path), CURE)
        try:
            for at, size in _records(stream, stream.tell()):
                stream.seek(at)
                outcomes.append(decode_outcome(stream.read(size)))
            parts = [_Part(part, digest) for part in _part_files(path)]
        except (WireError, StructError) as error:
            raise InputError(f"the checkpoint is damaged: {error}", str(path), CURE) from error
    return PastRounds(outcomes, parts)


def _part_files(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))


def _records(stream: BinaryIO, start: int) -> Iterator[tuple[int, int]]:
    """Where each whole record of a file begins, and its length; the last may be half written."""
    end = stream.seek(0, 2)
    while start + _SIZE.size <= end:
        stream.seek(start)
        (size,) = _SIZE.unpack(stream.read(_SIZE.size))
        start += _SIZE.size
        if size < 0 or start + size > end:
            return
        yield start, size
        start += size


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
