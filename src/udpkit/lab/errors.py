"""What can go wrong in a lab."""

from __future__ import annotations


class LabError(Exception):
    """Base class: the lab could not do what it was asked to. The message is one line."""


class LabUnavailable(LabError):
    """This machine does not let us make hosts; the message names the setting or privilege that is missing."""


class CommandFailed(LabError):
    """A command on a host ended with a status other than 0."""


class Unfit(LabError):
    """This machine lacks what an experiment needs; the message says what."""


class ProgramMissing(Unfit):
    """A program that the lab needs is not installed. `program` is its name, `who` in words who needs it."""

    def __init__(self, program: str, who: str = "") -> None:
        super().__init__(f"{program} is not installed{who}")
        self.program = program


class TimedOut(LabError):
    """A condition did not come true in time; the message says which, and what was seen instead."""


class GivenUp(LabError):
    """Somebody has ended the waiting."""


class BadExperiment(LabError):
    """An experiment file does not say what such a file must; the message says where and what."""
