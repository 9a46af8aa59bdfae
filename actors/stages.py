"""How long each stage of a round takes, noted inside the actors on request."""

from __future__ import annotations

from enum import StrEnum
from time import perf_counter


class Stage(StrEnum):
    """What an actor does during a round over links."""

    WAIT = "wait"
    TRANSFER = "transfer"
    """Packing, unpacking and handing messages to the kernel or taking them from it."""
    SOLVE = "solve"
    PROJECT = "project"
    REPORT = "report"
    """Telling the driver of the round."""


class StageClock:
    """Adds up the stages of each round; off until somebody asks, and then one look at the clock."""

    def __init__(self) -> None:
        self._on = False
        self._last = 0.0
        self._round: dict[Stage, float] = {}
        self._rounds: list[dict[Stage, float]] = []

    def turn(self, on: bool) -> None:
        """Begin anew to note rounds, or stop."""
        self._on, self._rounds = on, []
        self.start()

    def start(self) -> None:
        """Count from here; an unfinished round is forgotten."""
        self._last, self._round = perf_counter(), {}

    def lap(self, stage: Stage) -> None:
        """What passed since the last lap was this stage."""
        if self._on:
            now = perf_counter()
            self._round[stage] = self._round.get(stage, 0.0) + now - self._last
            self._last = now

    def end_round(self) -> None:
        """The laps since the last round's end are a round."""
        if self._on:
            self._rounds.append(self._round)
            self._round = {}

    @property
    def rounds(self) -> tuple[dict[Stage, float], ...]:
        """Seconds by stage of every round since the clock was turned on [s]."""
        return tuple(self._rounds)
