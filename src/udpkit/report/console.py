"""Standard output as rich sees it: a terminal, or a pipe."""

from __future__ import annotations

import io
import re
import sys

from rich.console import Console

PIPE_WIDTH = 110
"""Columns where there is no terminal that has a width."""


class Output(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end with exit code 1, which is ours for findings


def console() -> Console:
    """Standard output. Colour only on a terminal, and not with NO_COLOR (rich sees to both)."""
    stdout = Output(highlight=False)
    return stdout if stdout.is_terminal else Output(file=_Pipe(), highlight=False, width=PIPE_WIDTH)


class _Pipe(io.StringIO):
    """Standard output without the blanks with which rich fills lines up."""

    def write(self, text: str) -> int:
        return sys.stdout.write(re.sub(" +$", "", text, flags=re.MULTILINE))

    def flush(self) -> None:
        sys.stdout.flush()
