"""Exit codes, the same for every verb."""

from __future__ import annotations

OK = 0
FINDINGS = 1
CLOSED = 1
USAGE = 2
SILENT = 3
UNREACHABLE = 4
MISSING = 5
INTERRUPTED = 130


class Failure(Exception):
    """Ends the verb with one line on stderr, where it is escaped, and an exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
