"""Patterns of experiments: `*` stands for anything, all else for itself, brackets of IPv6 addresses too."""

from __future__ import annotations

import re
from collections.abc import Sequence


def fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def first_fit(pattern: str, texts: Sequence[str], start: int = 0) -> int | None:
    """The index of the first text from `start` on that fits."""
    return next((place for place in range(start, len(texts)) if fits(pattern, texts[place])), None)


def first_unfound(patterns: Sequence[str], texts: Sequence[str]) -> str | None:
    """The first of the patterns that is not there in its turn; other texts may be between."""
    place = 0
    for pattern in patterns:
        found = first_fit(pattern, texts, place)
        if found is None:
            return pattern
        place = found + 1
    return None
