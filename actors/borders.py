"""What a run keeps at each border between two days, from which another driver goes on.

All of it lies in the folder `CHECKPOINT` of the run: of each day that is done a record, which adds
to those before it; of the last one the energy that it left; of the day under way the rounds of its
clearing. Everything else of days that are done is in the run's tables already.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.checkpoint import (
    CURE,
    CheckpointWriter,
    PastRounds,
    read_checkpoint,
    scenario_digest,
)
from raygrid.errors import InputError
from raygrid.results.day_totals import DaySummary
from raygrid.results.files import CHECKPOINT, SCENARIO, write_atomically
from raygrid.results.reader import RunReader
from raygrid.results.store import PartRecord
from raygrid.results.summary import CentralSummary, ClearingSummary


@dataclass(frozen=True)
class DoneDay:
    """A market day that is done, and what it adds to its run.

    Attributes
    ----------
    summary : DaySummary
        The day in figures.
    bound : float or None
        Upper bound on its optimal welfare [currency].
    price_per_kwh : float or None
        Its mean settlement price; None without a schedule [currency/kWh].
    reason : str
        Why it ended short; empty where it did not.
    notes : tuple of str
        What a reader must know, beside what the days before it say.
    trades, traded_wh, dropped_wh : int
        Of this day and all before it: trades, their energy, and that of matches too small to be
        one [Wh].
    files : mapping of str to str
        SHA-256 of the run's files that it has written, by name.
    parts : mapping of str to sequence of PartRecord
        Its rows of the tables that all days add to.
    spreads : mapping of str to list
        How wide learned intervals are from now on; see `DayStages.spreads`.
    charge_sha256 : str
        Of the file of the energy that it leaves; empty of a last day.
    """

    summary: DaySummary
    bound: float | None
    price_per_kwh: float | None
    reason: str
    notes: tuple[str, ...]
    trades: int
    traded_wh: int
    dropped_wh: int
    files: Mapping[str, str]
    parts: Mapping[str, Sequence[PartRecord]]
    spreads: Mapping[str, Sequence[Sequence[float]]]
    charge_sha256: str = ""

    @property
    def day(self) -> int:
        """Which of the days in a row, from 0."""
        return self.summary.day

    def text(self) -> str:
        """It as JSON, in which every number comes back as it was."""
        return json.dumps(asdict(self), default=lambda value: value.item())

    @classmethod
    def of(cls, text: str) -> DoneDay:
        """That of `text`.

        Raises
        ------
        ValueError, TypeError, KeyError
            It is not.
        """
        found: dict[str, Any] = json.loads(text)
        summary, parts = found["summary"], found["parts"]
        central = summary["central"]
        summary["clearing"] = ClearingSummary(**summary["clearing"])
        summary["central"] = None if central is None else CentralSummary(**central)
        return cls(
            **found
            | {
                "summary": DaySummary(**summary),
                "notes": tuple(found["notes"]),
                "parts": {name: [PartRecord(**part) for part in parts[name]] for name in parts},
            }
        )


class Borders:
    """Where a run keeps what another driver needs to go on with it.

    Parameters
    ----------
    run : Path
        The run's folder, its scenario written.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / CHECKPOINT
        self._digest = scenario_digest(run)

    def begin(self) -> None:
        """Make the folder, which feeder operators look for."""
        self._folder.mkdir()

    def charge_file(self, day: int) -> Path:
        """File of the energy that a day leaves, see `raygrid.results.charge_file`."""
        return self._folder / f"day-{day:05d}.parquet"

    def new_rounds(self, day: int) -> CheckpointWriter:
        """A new file of the rounds of a day's clearing."""
        return CheckpointWriter(self._rounds_file(day), self._digest)

    def add(self, done: DoneDay) -> None:
        """Keep a day that is done, once the charge that it leaves is there."""
        text = f"{self._digest.hex()}\n{done.text()}\n"
        path = self._record_file(done.day)
        write_atomically(path, lambda stream: stream.write(text.encode()), len(text))
        if done.day:
            self.charge_file(done.day - 1).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove everything: the run's results are written."""
        shutil.rmtree(self._folder)

    def read(self) -> tuple[tuple[DoneDay, ...], PastRounds]:
        """The days that are done, and the rounds of the day after them.

        Raises
        ------
        InputError
            There is nothing to go on from, or it is of another scenario or damaged.
        """
        days: list[DoneDay] = []
        while (path := self._record_file(len(days))).exists():
            days.append(self._read(path))
        path = self._rounds_file(len(days))
        if days and not path.exists():
            return tuple(days), PastRounds()
        return tuple(days), read_checkpoint(path, self._digest)

    def _read(self, path: Path) -> DoneDay:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        if digest != self._digest.hex():
            raise InputError("the checkpoint belongs to another scenario", str(path), CURE)
        try:
            return DoneDay.of(text)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"the checkpoint is damaged: {error}", str(path), CURE) from error

    def _record_file(self, day: int) -> Path:
        return self._folder / f"day-{day:05d}.json"

    def _rounds_file(self, day: int) -> Path:
        return self._folder / f"day-{day:05d}.bin"


@dataclass(frozen=True)
class EarlierRun:
    """A run that did not come to its end, as far as another one goes on with it.

    Attributes
    ----------
    path : Path
        Its folder.
    days : tuple of DoneDay
        What is done.
    rounds : PastRounds
        Of the clearing of the day after those.
    """

    path: Path
    days: tuple[DoneDay, ...]
    rounds: PastRounds

    @property
    def scenario(self) -> Path:
        """Its scenario, every value in force."""
        return self.path / SCENARIO

    @property
    def charge(self) -> Path:
        """File of what its last day that is done has left."""
        return Borders(self.path).charge_file(len(self.days) - 1)


def interrupted_run(run: Path) -> EarlierRun:
    """A run that is to be resumed.

    Parameters
    ----------
    run : Path
        Its folder, or that of a scenario's runs, which means the newest.

    Raises
    ------
    InputError
        It has come to its end, or its checkpoint is none of its scenario.
    """
    reader = RunReader(run, allow_unfinished=True)
    if reader.status.finished:
        raise InputError(
            "the run has come to its end",
            str(reader.path),
            "nothing is left to resume; 'raygrid settle' repeats its settlement",
        )
    return EarlierRun(reader.path, *Borders(reader.path).read())
