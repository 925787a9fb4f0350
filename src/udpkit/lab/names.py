"""What to say of a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean one or other?`; empty where none is like it."""
    close = difflib.get_close_matches(name, sorted(known), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def near_or_all(name: str, known: Iterable[str]) -> str:
    """The near ones, or all that there are."""
    there = sorted(known)
    return near(name, there) or f"there is: {', '.join(there) or 'none'}"
