"""The raygrid command, killed at a moment: `python -m tests.dying MOMENT DAY ARGUMENTS...`.

Moments are `rounds` (the sixth round of a clearing), `intraday` (its trades are matched), `border`
(the day is done and its charge written) and `settlement` (all days are handed over).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

ROUND = 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, method: str, act: Callable[..., None]) -> None:
    """Do something before each call of a method."""
    old = getattr(owner, method)

    def instead(self: Any, *arguments: Any, **named: Any) -> Any:
        act(self, *arguments)
        return old(self, *arguments, **named)

    setattr(owner, method, instead)


def arrange(moment: str, day: int) -> None:
    """Have this process die at a moment."""
    from actors.borders import Borders
    from actors.checkpoint import CheckpointWriter
    from actors.market_day import MarketDay
    from actors.settling import SettledDays

    today = [0]
    before(MarketDay, "clear", lambda it, *_: today.__setitem__(0, it.day))

    def on_round(_: Any, outcome: Any, *__: Any) -> None:
        # What opens round 6 is not kept; rounds of an earlier run come without being added.
        if today[0] == day and outcome.record and outcome.record.iteration > ROUND:
            die()

    match moment:
        case "rounds":
            before(CheckpointWriter, "add", on_round)
        case "intraday":
            before(MarketDay, "_deliver", lambda it, *_: it.day == day and die())
        case "border":
            before(Borders, "add", lambda _, done: done.day == day and die())
        case "settlement":
            before(SettledDays, "finish", lambda *_: die())
        case _:
            raise ValueError(moment)


if __name__ == "__main__":
    moment, day, *arguments = sys.argv[1:]
    sys.argv = ["raygrid", *arguments]
    arrange(moment, int(day))
    from raygrid.cli import main

    main()
