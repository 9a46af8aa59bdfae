"""Errors that the command line turns into one line and an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `raygrid` command."""

    DONE = 0
    ENDED_SHORT = 1
    BAD_INPUT = 2
    BUG = 3
    INTERRUPTED = 130


class RaygridError(Exception):
    """Base of all errors that raygrid raises on purpose."""

    exit_code = ExitCode.ENDED_SHORT


class InputError(RaygridError):
    """Something from outside is wrong: says what, where, and what would mend it.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str
        The file, key, row or address.
    cure : str
        What would mend it.
    """

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, what: str, where: str, cure: str) -> None:
        self.what = what
        self.where = where
        self.cure = cure
        super().__init__(what, where, cure)

    def __str__(self) -> str:
        # What came from outside may hold line breaks; the message stays one line.
        return " ".join(f"{self.where}: {self.what}; {self.cure}".splitlines())


class EndedShortError(RaygridError):
    """A run that could not be carried to its end, with the reason in one line."""

    exit_code = ExitCode.ENDED_SHORT


class FullDiskError(EndedShortError):
    """A disk or a quota is full: says what was not written, where, and how much room it takes."""
